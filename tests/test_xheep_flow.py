# SPDX-License-Identifier: Apache-2.0
"""X-HEEP's own flow with a project, without X-HEEP: core files, make, boards, its configuration."""

import os
import re
import subprocess

import pytest

from tests import xheep_project as shared
from tests.xheep_checkouts import checkout, checkout_of, configured, software_side
from xheep_integration.generation import AUGUST_2026, GENERATIONS, NOVEMBER_2025

CONFIG = shared.CONFIG
heep = shared.heep
newer_heep = shared.newer_heep
app = shared.app
project = shared.project
TARGETS = [
    "heepstor-gen",
    "mcu-gen",
    "verilator-sim",
    "run-verilator",
    "vivado-fpga",
    "app",
    "run-fpga",
    "run-fpga-com",
    "picocom",
    "openocd",
    "flash-prog",
    "gdb",
    "run-virtual",
    "profile",
]


def test_fusesoc_parses_the_core_files(project):
    from fusesoc.capi2 import coreparser

    parser = coreparser.Core2Parser()
    for path in (project / "heepstor_soc.core", project / "hw" / "accelerator" / "heepstor.core"):
        core = parser.read(str(path))
        for fileset in core["filesets"].values():
            for name in fileset.get("files", ()):
                name = next(iter(name)) if isinstance(name, dict) else name
                generated_later = "x_heep_system.sv" in name or "pad_ring" in name or "tb_util" in name
                assert generated_later or (path.parent / name).is_file(), name
    targets = parser.read(str(project / "heepstor_soc.core"))["targets"]
    assert {"sim", "lint", "zcu104", "zcu102", "pynq-z2", "nexys-a7-100t"} <= set(targets)


def test_make_knows_the_targets_and_variables_of_heepstor(project):
    printed = subprocess.run(["make", "-C", project, "help"], capture_output=True, text=True, check=True).stdout
    for target in TARGETS:
        assert re.search(rf"^ +{target} ", printed, re.M), target
    text = (project / "Makefile").read_text()
    for variable in (
        "CPU",
        "FPGA_BOARD",
        "MEMORY_BANKS",
        "MEMORY_BANKS_IL",
        "BUS",
        "ENABLE_DEBUG_HEEPSTOR_ASSERTIONS",
        "USE_SOFTWARE_DNN_LAYER_OPERATORS",
    ):
        assert re.search(rf"^{variable} +\?= ", text, re.M), variable


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["mcu-gen", "HEEP_DIR=/nowhere"], "HEEP_DIR = /nowhere holds no X-HEEP"),
        (["mcu-gen", "PYTHON=/nowhere/python"], "PYTHON = /nowhere/python has no hjson; run pip install -r"),
        (["app", "PROJECT=none", "RISCV_XHEEP=/"], "does not exist; set RISCV_XHEEP"),
        (["run-fpga", "LOADER=usb"], "LOADER = usb: must be flash or openocd"),
        (["flash-prog"], "no program in "),
        (["gdb", "GDB=no-such-gdb"], "no-such-gdb is not on PATH; name one by GDB="),
        (["run-verilator"], "run make verilator-sim first"),
        (["run-virtual", "HEEPGEN=true", "HEEP_DIR=/nowhere"], "no program in /nowhere/sw/build; run make app"),
        (["vivado-fpga", "FPGA_BOARD=zx81"], "FPGA_BOARD = zx81: must be one of zcu104"),
        (["heepstor-gen", "HEEPGEN=no-such-heepgen"], "no-such-heepgen is not on PATH; install heepgen"),
    ],
)
def test_make_says_in_one_line_what_is_missing(project, arguments, complaint):
    done = subprocess.run(["make", "-s", "-C", project, *arguments], capture_output=True, text=True)
    assert done.returncode
    errors = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(errors) == 1, done.stderr
    assert complaint in errors[0]


def dry_run(project, tmp_path, *arguments):
    """What make would do, X-HEEP's own make too; a compiler that is a file is enough."""
    compiler = tmp_path / "riscv" / "bin" / "riscv32-unknown-elf-g++"
    compiler.parent.mkdir(parents=True, exist_ok=True)
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    build = checkout_of(project) / "sw" / "build"
    build.mkdir(exist_ok=True)
    (build / "main.hex").write_text("")
    done = subprocess.run(
        ["make", "-n", "-C", project, *arguments, f"RISCV_XHEEP={tmp_path / 'riscv'}"],
        capture_output=True,
        text=True,
        check=True,
    )
    (build / "main.hex").unlink()
    return [
        line.strip() for line in done.stdout.splitlines() if " app " in line or re.search("gdb|flash|picocom|ocd", line)
    ]


def steps(printed, *patterns):
    """Whether lines that fit the patterns come in this order."""
    lines = iter(printed)
    return all(any(re.search(pattern, line) for line in lines) for pattern in patterns)


def test_a_board_is_programmed_as_heepstor_does_it(project, tmp_path):
    """Commands and defaults are those of HEEPstor's Makefile; there is no board here."""
    app = r"make -C \S+x-heep\S* .*app PROJECT=small_net TARGET=zcu104 LINKER="
    port = "/dev/serial/by-id/usb-FTDI_Quad_RS232-HS-if02-port0"
    picocom = f"picocom -b 9600 -r -l --imap lfcrlf {port}"
    assert steps(dry_run(project, tmp_path, "run-fpga"), f"{app}flash_load", r"make -C \S+x-heep\S* .*flash-prog")
    assert steps(dry_run(project, tmp_path, "run-fpga-com"), f"{app}flash_load", "flash-prog", picocom)
    gdb = r"riscv32-unknown-elf-gdb .*main.elf .*target extended-remote localhost:3333.*load"
    assert steps(dry_run(project, tmp_path, "gdb"), f"{app}on_chip", gdb)
    assert steps(dry_run(project, tmp_path, "run-fpga", "LOADER=openocd"), f"{app}on_chip", f"{gdb}.*monitor resume")
    assert steps(dry_run(project, tmp_path, "openocd"), r"openocd -f \S+/tb/core-v-mini-mcu-esl-programmer.cfg")
    assert not any("flash" in line for line in dry_run(project, tmp_path, "gdb"))


@pytest.mark.parametrize("kind", ["xheep-venv", "active"])
def test_mcu_gen_finds_the_python_of_xheep(tmp_path, kind):
    """Without conda, X-HEEP's Makefile looks for .venv where make was started: it is told where Python is."""
    heep = checkout(tmp_path / "x-heep", AUGUST_2026)
    software_side(tmp_path / "p", heep, CONFIG)
    binaries = heep / ".venv" / "bin" if kind == "xheep-venv" else tmp_path / "active" / "bin"
    binaries.mkdir(parents=True)
    for name in ("python", "fusesoc"):
        (binaries / name).write_text("#!/bin/sh\n")
        (binaries / name).chmod(0o755)
    path = os.environ["PATH"] if kind == "xheep-venv" else f"{binaries}:{os.environ['PATH']}"
    environment = {n: v for n, v in os.environ.items() if not n.startswith(("CONDA", "VIRTUAL_ENV"))} | {"PATH": path}
    done = subprocess.run(
        ["make", "-C", tmp_path / "p", "mcu-gen"], env=environment, capture_output=True, text=True, check=True
    )
    told = next(line for line in done.stdout.splitlines() if line.startswith("mcu-gen "))
    assert f"PYTHON={binaries}/python" in told and f"FUSESOC={binaries}/fusesoc" in told
    assert f"PYTHON_X_HEEP_CFG={tmp_path}/p/xheep_cfg.py" in told


def test_the_simulator_is_translated_again_each_time(project, heep, tmp_path):
    """Edalize's makefile takes a translation that is there for the newest."""
    if project.name == "plic":
        pytest.skip("the Makefile does not depend on the interrupt")
    for tool in ("verilator", "fusesoc"):
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    old = project / "build" / "fast" / "sim-verilator" / "Vtestharness.mk"
    old.parent.mkdir(parents=True)
    old.write_text("")
    subprocess.run(
        ["make", "-s", "-C", project, "verilator-sim"],
        check=True,
        capture_output=True,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert not old.exists()


def test_the_loader_of_x_heep_reads_the_file_itself(project, tmp_path):
    """A task with an array for output, called by an exported one, is C++ that does not compile."""
    (tmp_path / "tb").mkdir()
    (tmp_path / "tb" / "tb_util.svh").write_text(
        "task tb_readHEX;\n  $readmemh(file, stimuli);\nendtask\ntask tb_loadHEX;\n  tb_readHEX(file, stimuli);\n"
        "  x_heep_system_i.ram[0] = stimuli[0];\nendtask\ntask load_flash_hex;\n  flash[0] = 0;\nendtask\n"
    )
    made = project / "tb" / "tb_util.svh"
    subprocess.run(["make", "-s", "-C", project, "-B", "tb/tb_util.svh", f"HEEP_DIR={tmp_path}"], check=True)
    text = made.read_text()
    made.unlink()
    assert text.splitlines() == [
        *("task tb_readHEX;", "  $readmemh(file, stimuli);", "endtask"),
        *("task tb_loadHEX;", "  $readmemh(file, stimuli);", "  soc_i.x_heep_system_i.ram[0] = stimuli[0];", "endtask"),
    ]


@pytest.mark.parametrize("generation", GENERATIONS, ids=lambda g: g.variable + "-" + g.configuration[:-6])
def test_xheeps_configuration_is_the_configured_memory(generation, tmp_path):
    project = software_side(tmp_path / "project", checkout(tmp_path / "x-heep", generation), CONFIG)
    calls = configured(project, generation, HEEPSTOR_BANKS="5")
    cpu = ["CPU", ["cv32e40p"], {}] if generation is NOVEMBER_2025 else ["cv32e40p", [], {"fpu": True}]
    assert cpu in calls
    assert ["BusType", ["NtoM"], {}] in calls
    assert ["add_ram_banks", [[32] * 5], {}] in calls
    assert [a for n, a, _ in calls if n == "add_ram_banks_il"] == [[8, 32], [4, 32]]
    sections = [a for n, a, _ in calls if n == "LinkerSection"]
    assert sections[-1][:3] == ["data_interleaved", 5 * 32768, 17 * 32768]
    # X-HEEP of November puts input sections called .xheep_NAME there; later ones those that they are told.
    inputs = [a for n, a, _ in calls if n == "LinkerSubsection"]
    assert inputs == ([] if generation is NOVEMBER_2025 else [["xheep_data_interleaved"]])
    assert sections[0][0] == "code" and sections[0][2] == sections[1][1] and sections[1][2] == 5 * 32768
    general = [a for n, a, _ in calls if n == "XHeep"]
    assert general == ([["BusType"]] if generation is NOVEMBER_2025 else [["general"]])
    extension = next(a for n, a, _ in calls if n == "add_extension")
    assert extension == ["heepgen", {"masters": CONFIG.ports, "registers": CONFIG.slave_base, "interrupt": "fast"}]


def test_another_cpu_without_an_fpu_is_configured(newer_heep, tmp_path):
    software_side(tmp_path / "p", newer_heep, CONFIG)
    assert ["cv32e20", [], {}] in configured(tmp_path / "p", AUGUST_2026, HEEPSTOR_CPU="cv32e20")

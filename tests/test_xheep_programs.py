# SPDX-License-Identifier: Apache-2.0
"""Programs of an X-HEEP project without X-HEEP: compiled as its flow does, linked, and run on the virtual SoC."""

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch
from torch import nn

from gen.flows.measure.run import run, run_program
from gen.flows.network.several import generate_several
from gen.flows.network.sw import generate_sw
from gen.flows.soc.xheep import generate_xheep
from hls.config import Config
from hls.errors import HeepgenError
from hls.streaming.config import StreamingConfig
from sim.run import run_soc
from sim.toolchain import lint
from tests import xheep_project as shared
from tests.json_forms import form_errors
from tests.xheep_checkouts import sources

CONFIG = shared.CONFIG
heep = shared.heep
newer_heep = shared.newer_heep
app = shared.app
project = shared.project
refused = shared.refused


def data_in_one_section(project):
    application = project / "sw" / "applications" / "small_net"
    text = "".join(path.read_text() for path in application.glob("*.cpp"))
    return text.count('".xheep_data_interleaved"') >= 2 and ".heepgen_" not in text


def test_applications_compile_as_xheeps_flow_compiles_them(project, heep, tmp_path):
    assert data_in_one_section(project)
    compiled_by_xheep(project, heep, tmp_path, lambda name: project.name == "fast" or name == "soc.cpp")


def compiled_by_xheep(project, heep, tmp_path, wanted=lambda name: True, flags=()):
    """C++14, which X-HEEP's CMake files ask for, against headers of our own in place of X-HEEP's."""
    from sim.toolchain import run_tool, zig

    application, runtime = project / "sw" / "applications" / "small_net", project / "sw" / "external" / "heepstor"
    command = [
        *zig(),
        "c++",
        "-target",
        "riscv32-linux-musl",
        "-mcpu=generic_rv32+m+f+c",
        "-std=c++14",
        "-Wall",
        "-Wextra",
        "-Werror",
        *flags,
        "-fno-exceptions",
        "-fno-rtti",
        "-O2",
        f"-I{runtime}",
        f"-I{application}",
        f"-I{heep}/sw/device/lib/runtime",
        f"-I{heep}/sw/device/target/sim",
        "-c",
    ]
    for path in filter(lambda p: wanted(p.name), sorted([*application.glob("*.cpp"), *runtime.glob("*.cpp")])):
        run_tool([*command, path, "-o", tmp_path / "object.o"], path.name)


@pytest.mark.external("riscv64-unknown-elf-g++")
def test_applications_link_without_a_c_library(project, heep, tmp_path):
    from sim.elf import symbols

    binaries = tmp_path / "riscv" / "bin"
    binaries.mkdir(parents=True)
    for tool in ("g++", "objcopy"):
        (binaries / f"riscv32-unknown-elf-{tool}").symlink_to(shutil.which(f"riscv64-unknown-elf-{tool}"))
    subprocess.run(
        [
            "make",
            "-s",
            "-C",
            project,
            "app-freestanding",
            "PROJECT=small_net",
            f"HEEP_DIR={heep}",
            f"RISCV_XHEEP={tmp_path / 'riscv'}",
        ],
        check=True,
        capture_output=True,
    )
    where = symbols(heep / "sw" / "build" / "main.elf")
    arena = next(address for name, address in where.items() if name.startswith("heepgen_arena"))
    assert arena >= CONFIG.memory_banks * 32 * 1024
    assert (heep / "sw" / "build" / "main.hex").stat().st_size > 1000


def freestanding(project, heep, name, out, *flags):
    """What `make app-freestanding` does, by the compiler in a wheel."""
    from sim.firmware import zig_toolchain
    from sim.toolchain import run_tool

    tools, software = zig_toolchain(), project / "sw"
    out.mkdir()
    objects = []
    for path in sorted(
        p
        for part in ("freestanding", "external/heepstor", f"applications/{name}")
        for p in (software / part).rglob("*")
        if p.suffix in (".S", ".cpp")
    ):
        language = [] if path.suffix == ".S" else ["-std=c++17", "-fno-exceptions", "-fno-rtti"]
        objects.append(out / f"{len(objects)}-{path.name}.o")
        run_tool(
            [
                *tools.cxx,
                *language,
                *flags,
                "-O2",
                "-ffp-contract=off",
                "-ffunction-sections",
                f"-I{software / 'applications' / name}",
                f"-I{software / 'external' / 'heepstor'}",
                f"-I{heep}/sw/device/lib/runtime",
                f"-I{heep}/sw/device/target/sim",
                "-c",
                path,
                "-o",
                objects[-1],
            ],
            path.name,
        )
    run_tool(
        [
            *tools.link,
            "-static",
            "-T",
            software / "freestanding" / "link.ld",
            "-Wl,--gc-sections",
            *objects,
            "-o",
            out / "main.elf",
        ],
        "linking",
    )
    return out / "main.elf"


def test_the_projects_program_runs_on_the_virtual_soc(project, heep, app, tmp_path):
    """The very program for X-HEEP, with its start-up code, its driver of the UART and of the interrupt controller."""
    elf = freestanding(project, heep, "small_net", tmp_path / "build", "-DPRINT_LAYER_CYCLES=1")
    report = run(app, CONFIG, elf=elf)
    assert report.bit_exact
    ends = {m[2]: int(m[1]) for m in re.finditer(r"^HG layer (\d+) (.*)$", report.uart, re.M)}
    assert list(ends) == [layer.name for layer in report.layers if layer.cycles]
    assert list(ends.values()) == sorted(ends.values())
    assert min(ends.values()) > 0 and max(ends.values()) <= report.total_cycles
    last = [layer.cycles for layer in report.layers if layer.cycles][-1]
    assert list(ends.values())[-1] - list(ends.values())[-2] == last


def test_several_networks_in_one_program_run_as_xheep_builds_them(heep, app, tmp_path):
    torch.manual_seed(5)
    torch.export.save(torch.export.export(nn.Linear(11, 5).eval(), (torch.zeros(1, 11),)), tmp_path / "other.pt2")
    generate_several([app, tmp_path / "other.pt2"], CONFIG, tmp_path / "both")
    generate_xheep(heep, tmp_path / "project", CONFIG, apps=[tmp_path / "both"])
    elf = freestanding(tmp_path / "project", heep, "small_net_other", tmp_path / "build")
    report = run_program(tmp_path / "both", CONFIG, elf=elf)
    assert report.bit_exact and [network.network for network in report.networks] == ["small net", "other"]


@pytest.mark.slow
def test_an_accelerator_without_masters_has_the_same_project(heep, app, tmp_path):
    """The small architecture, whose driver comes with it: linted, compiled by X-HEEP's flow, and run."""
    config = StreamingConfig(rows=4, cols=4)
    generate_sw(app.parent / "small net.pt2", config, tmp_path / "small_net", append_final_softmax=True)
    project = tmp_path / "project"
    generate_xheep(heep, project, config, apps=[tmp_path / "small_net"])
    lint(sources(project), "heepstor_soc")
    compiled_by_xheep(project, heep, tmp_path, flags=["-Wno-c++17-extensions"])  # if constexpr
    elf = freestanding(project, heep, "small_net", tmp_path / "build")
    report = run(tmp_path / "small_net", config, elf=elf)
    assert report.bit_exact and report.total_cycles


def test_a_program_that_never_sees_its_interrupt_does_not_end(heep, app, tmp_path):
    """So the line, and what clears it, are what makes the tests above pass."""
    out = tmp_path / "project"
    report = generate_xheep(heep, out, CONFIG, apps=[app], interrupt="plic")
    assert not form_errors(report.to_dict())
    driver = out / "sw" / "external" / "heepstor" / "soc.cpp"
    driver.write_text(driver.read_text().replace("SOC_PLIC_PRIORITY + 4 * EXT_INTR_0) = 1", "SOC_PLIC_PRIORITY) = 1"))
    elf = freestanding(out, heep, "small_net", tmp_path / "build")
    result = run_soc(elf, out / "hw" / "accelerator", CONFIG, max_cycles=200_000)
    assert result.ended == "max_cycles"
    assert "asleep" in result.message


SPILLING = Config(rows=4, cols=4, ports=1, memory_banks=4, memory_banks_interleaved=(2,))


@pytest.fixture(scope="module")
def spilling(tmp_path_factory):
    """A network of 78 KiB of weights where interleaved banks have 64."""
    folder = tmp_path_factory.mktemp("spilling")
    torch.manual_seed(4)
    network = nn.Sequential(nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 5)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 200),)), folder / "wide.pt2")
    generate_sw(folder / "wide.pt2", SPILLING, folder / "app")
    return folder / "app"


def test_constants_that_do_not_fit_in_interleaved_banks_lie_beside_the_program(heep, app, spilling, tmp_path):
    from sim.elf import symbols

    border = SPILLING.memory_banks * 32 * 1024
    generate_xheep(heep, tmp_path / "project", SPILLING, apps=[spilling])
    elf = freestanding(tmp_path / "project", heep, "wide", tmp_path / "build")
    where = symbols(elf)
    assert where["heepgen_weightslow_wide"] < border <= where["heepgen_weights_wide"]
    assert run(spilling, SPILLING, elf=elf).bit_exact
    assert run(spilling, SPILLING).bit_exact
    with pytest.raises(HeepgenError, match="main.elf has no symbol .*: it was not built from small net"):
        run(app, CONFIG, elf=elf)
    with pytest.raises(HeepgenError, match="--elf runs a program as it is"):
        run(spilling, SPILLING, elf=elf, taps=("0",))


def test_refusals_of_memory_name_the_banks_that_are_enough(heep, spilling, tmp_path):

    # 2 banks are 65,536 bytes, of which the program keeps 49,152, and 20 for the bits of its five outputs.
    refused(
        tmp_path,
        r"beside the program, memory.banks = 2 leaves 16,364; 3 banks are enough",
        heep,
        config=replace(SPILLING, memory_banks=2),
        apps=[spilling],
    )
    refused(
        tmp_path,
        r"in interleaved banks, memory.banks_interleaved = \[\] gives 0; 2 interleaved banks are enough",
        heep,
        config=replace(SPILLING, memory_banks_interleaved=()),
        apps=[spilling],
    )

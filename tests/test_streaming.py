# SPDX-License-Identifier: Apache-2.0
"""The streaming accelerator against its NumPy model, as MyHDL and as Verilog."""

from pathlib import Path

import numpy as np
import pytest
from array_stimulus import vectors, weights
from cycle_bench import flag, simulate
from myhdl import Signal
from streaming_calls import READ, RESET, WRITE, random_calls

from examples.raw_multiply.run import multiply_on_soc
from firmware_gen.architectures.registry import architecture_of
from firmware_gen.targets.calls.product import multiply
from firmware_gen.targets.calls.target import product_of
from hls.bus.obi import Slave
from hls.lib.convert import convert
from hls.streaming.config import StreamingConfig
from hls.streaming.top import streaming
from sim.rtl import simulate_module
from sim.toolchain import lint

TESTBENCH = Path(__file__).with_name("streaming.cpp").read_text()


def run_myhdl(config, accesses, vcd=None):
    """Words read, and whether each access was granted and answered as OBI says, cycle by cycle."""
    clk, rst_n, s, idle = flag(), flag(), Slave(), flag()
    todo, words = list(accesses), []
    pause, reset, due = 0, 2, None

    def drive(cycle):
        nonlocal pause, reset
        s.req.next = False
        s.be.next = 15
        rst_n.next = not reset
        if reset:
            reset -= 1
        elif todo and pause < todo[0].pause:
            pause += 1
        elif todo and todo[0].kind == RESET:
            reset, pause = todo.pop(0).data, 0
        elif todo:
            s.req.next = True
            s.we.next = todo[0].kind == WRITE
            s.addr.next = 0xF0000000 | todo[0].address
            s.wdata.next = todo[0].data or 0

    def observe(cycle):
        nonlocal pause, due
        assert cycle == 0 or bool(s.rvalid) == (due is not None)
        if due == READ:
            words.append(int(s.rdata))
        due = None
        if s.req and s.gnt:
            due, pause = todo.pop(0).kind, 0
        return not todo and due is None and not reset and bool(idle)

    simulate(streaming(clk, rst_n, s, idle, config=config), clk, drive, observe, 100_000, vcd)
    return words


def verilog(config, folder):
    return convert(
        lambda: streaming(Signal(False), Signal(False), Slave(), Signal(False), config=config),
        folder,
        config.root,
        config.prefix,
    )


def run_verilog(files, accesses, tmp_path):
    rows = [(a.address, a.kind, a.data or 0, a.pause) for a in accesses]
    tmp_path.mkdir(exist_ok=True)
    np.array(rows, np.uint32).tofile(tmp_path / "accesses")
    arguments = [tmp_path / "accesses", tmp_path / "words", len(rows)]
    simulate_module(files, StreamingConfig().root, TESTBENCH, arguments)
    return np.fromfile(tmp_path / "words", np.uint32)


def check(words, accesses):
    expected = [a.data for a in accesses if a.kind == READ]
    assert len(words) == len(expected)
    wrong = [(i, e, int(w)) for i, (e, w) in enumerate(zip(expected, words, strict=True)) if e not in (None, w)]
    assert not wrong, f"{len(wrong)} of {len(expected)} reads; (number, expected, read): {wrong[:3]}"


MYHDL = [
    (4, 4, "aligned", 4),
    (2, 9, "aligned", 2),
    (3, 5, "aligned", 0),
    (2, 3, "fma", 2),
    (1, 1, "fma", 0),
    (1, 1, "aligned", 2),
]


@pytest.mark.parametrize("rows, cols, arithmetic, sums", MYHDL)
def test_myhdl_computes_what_the_model_does(rows, cols, arithmetic, sums, with_waves):
    config = StreamingConfig(rows=rows, cols=cols, arithmetic=arithmetic, sums=sums)
    accesses = random_calls(config, 14, seed=rows + cols, pauses=0.03, resets=0.2)
    check(with_waves(lambda vcd: run_myhdl(config, accesses, vcd)), accesses)


def random_config(rng):
    return StreamingConfig(
        rows=int(rng.integers(1, 33)) if rng.random() < 0.7 else int(rng.choice([1, 2, 31, 32])),
        cols=int(rng.integers(1, 33)) if rng.random() < 0.7 else int(rng.choice([1, 2, 31, 32])),
        arithmetic=str(rng.choice(["aligned", "fma"], p=[0.7, 0.3])),
        sums=int(rng.choice([0, 2, 16, 512], p=[0.3, 0.2, 0.3, 0.2])),
    )


def check_verilog(config, tiles, seed, tmp_path):
    print(config)
    files = verilog(config, tmp_path / "rtl")
    lint(files, config.root)
    for number, (pauses, resets) in enumerate([(0, 0), (0.1, 0), (0.05, 0.2)]):
        accesses = random_calls(config, tiles, seed + number, pauses, resets)
        check(run_verilog(files, accesses, tmp_path), accesses)


@pytest.mark.parametrize(
    "rows, cols, arithmetic, sums", [(8, 8, "aligned", 16), (5, 3, "aligned", 0), (3, 9, "fma", 2)]
)
def test_verilog_computes_what_the_model_does(rows, cols, arithmetic, sums, tmp_path):
    check_verilog(StreamingConfig(rows=rows, cols=cols, arithmetic=arithmetic, sums=sums), 300, 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_verilog_of_random_geometries_computes_what_the_model_does(seed, tmp_path):
    check_verilog(random_config(np.random.default_rng(seed)), 100, seed, tmp_path)


@pytest.mark.parametrize(
    "rows, cols, arithmetic, sums, shape",
    [
        (8, 8, "aligned", 64, (70, 21, 18)),
        (3, 5, "aligned", 2, (5, 10, 7)),
        pytest.param(11, 13, "aligned", 16, (40, 33, 29), marks=pytest.mark.slow),
        pytest.param(4, 2, "fma", 0, (6, 9, 5), marks=pytest.mark.slow),
        pytest.param(32, 32, "aligned", 64, (70, 70, 70), marks=pytest.mark.slow),
    ],
)
def test_driver_multiplies_as_the_model_does(rows, cols, arithmetic, sums, shape):
    config = StreamingConfig(rows=rows, cols=cols, arithmetic=arithmetic, sums=sums)
    rng = np.random.default_rng(rows)
    m, k, n = shape
    a, b = vectors(rng, m, k).view(np.float32), weights(rng, k, n)
    expected = multiply(product_of(architecture_of(config).software, config), a, b)
    product, _ = multiply_on_soc(config, a, b, stalls=0.1)
    assert np.array_equal(product.view(np.uint32), expected.view(np.uint32))

# SPDX-License-Identifier: Apache-2.0
"""Parameter reader: the stream once per strip, in order, with random stalls."""

import numpy as np
import pytest
from myhdl import Signal, block, delay, instance
from obi import BeatMemory

from hls.config import Config
from hls.descriptor.interface.job import job_signals
from hls.descriptor.memory.arbiter import Request
from hls.descriptor.memory.params import PARAM_JOB, param_reader
from hls.lib.fifo import Stream


def strips(out_px, first_px, strip_px):
    """Number of strips, counted pixel by pixel."""
    count, left = 1, out_px - first_px
    while left > 0:
        count, left = count + 1, left - strip_px
    return count


def simulate(ports, cols, layers, ready=1.0, answer=1.0, take=1.0, seed=0, cycles=4000):
    """Read the layers, each started as soon as the one before is idle; returns the cycles and the words read."""
    rng = np.random.default_rng(seed)
    memory = BeatMemory(rng.integers(0, 1 << 32, 2048, dtype=np.uint64).astype(np.uint32), ports, rng, ready, answer)
    clk, rst, start, idle = (Signal(bool(0)) for _ in range(4))
    out = Stream(32 * ports)
    job, req = job_signals(PARAM_JOB), Request(ports)
    expected = []
    for f in layers:
        first = f["param_addr"] // 4
        times = 0 if f["uniform"] else strips(f["out_px"], f["first_px"], f["strip_px"])
        expected += [int(x) for x in memory.words[first : first + f["param_words"]]] * times
    took = []

    @block
    def bench():
        dut = param_reader(
            clk,
            rst,
            start,
            job,
            req,
            memory.rsp_valid,
            memory.rsp_data,
            out,
            idle,
            config=Config(ports=ports, cols=cols),
        )

        @instance
        def drive():
            rst.next = 1
            for _ in range(2):
                yield delay(1)
                clk.next = 1
                yield delay(1)
                clk.next = 0
            rst.next = 0
            waiting, got, ended = list(layers), [], True
            for cycle in range(cycles):
                start.next = bool(waiting) and ended
                if waiting and ended:
                    for name, value in waiting.pop(0).items():
                        getattr(job, name).next = value
                out.take.next = rng.random() < take
                yield delay(1)
                ended = bool(idle and not start)
                if ended and not waiting and len(got) >= len(expected):
                    assert not out.valid
                    took.append(cycle)
                    break
                if out.valid and out.take:
                    got += [int(out.data[32 * i + 32 : 32 * i]) for i in range(ports)]
                clk.next = 1
                yield delay(1)
                clk.next = 0
            assert got == expected

        return dut, memory.bench(clk, req), drive

    test = bench()
    test.run_sim(quiet=1)
    test.quit_sim()
    assert took
    return took[0], ports * len(memory.log)


def layer(words, out_px, first_px, strip_px, uniform=0):
    return {
        "param_addr": 0x80,
        "param_addr_region": 2,
        "param_words": words,
        "uniform": uniform,
        "out_px": out_px,
        "first_px": first_px,
        "strip_px": strip_px,
    }


@pytest.mark.parametrize("ports, cols", [(1, 1), (2, 8), (3, 5), (4, 3), (1, 8), (4, 32)])
def test_once_per_strip(ports, cols):
    layers = [
        layer(ports * 6, 10, 3, 4),
        layer(ports * 2, 1, 1, 1),
        layer(ports * 4, 7, 3, 4, uniform=1),
        layer(ports * 4, 11, 3, 4),
        layer(ports * 8, 5, 9, 9),
    ]
    simulate(ports, cols, layers, ready=0.6, answer=0.6, take=0.7, seed=ports)


@pytest.mark.parametrize("ports, cols", [(1, 1), (2, 8), (3, 5), (4, 3)])
def test_parameters_that_fit_cross_the_bus_once(ports, cols):
    room = 4 * -(-cols // ports)  # beats, at least
    small, large = ports * room // 2, ports * 40
    layers = [
        layer(small, 10, 3, 4),
        layer(ports * room, 4, 2, 1),
        layer(large, 5, 3, 1),
        layer(small, 2, 1, 1),
        layer(small, 9, 3, 2, uniform=1),
        layer(ports * room, 9, 9, 9),
        layer(small, 9, 3, 2),
    ]
    _, words = simulate(ports, cols, layers, ready=0.8, answer=0.7, take=0.7, seed=cols)
    assert words == 3 * small + 2 * ports * room + 3 * large


def test_rate():
    cycles, _ = simulate(2, 32, [layer(400, 2, 1, 1)])
    print(f"400 beats in {cycles} cycles")
    assert cycles < 430

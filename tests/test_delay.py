# SPDX-License-Identifier: Apache-2.0
"""Delay lines that hold: what comes with a flag is as late as promised, and nothing moves without one."""

import numpy as np
import pytest
from myhdl import Signal, block, delay, instance, intbv

from hls.lib.delay import delay_line, lane_skew, skew

CYCLES = 300


def simulate(unit, ports, drive, watch, **params):
    """`watch` before every edge of CYCLES, each of whose inputs `drive` sets; (CYCLES, signals)."""
    seen = []

    @block
    def bench():
        clk = Signal(False)
        dut = unit(clk, **ports, **params)

        @instance
        def run():
            for t in range(CYCLES):
                drive(t)
                yield delay(1)
                seen.append([int(signal) for signal in watch])
                clk.next = True
                yield delay(1)
                clk.next = False

        return dut, run

    bench().run_sim(quiet=1)
    return np.array(seen, object)


def lanes_of(words, lanes, width):
    return np.array([[int(word) >> width * i & (1 << width) - 1 for i in range(lanes)] for word in words])


def check(lane, came, late):
    """A lane is what `came` (None: nothing) was `late` cycles ago; without, it is what it was a cycle ago."""
    for t in range(late + 1, CYCLES):
        expected = lane[t - 1] if came[t - late] is None else came[t - late]
        assert lane[t] == expected, t


@pytest.mark.parametrize("density", [0.1, 0.5, 1])
@pytest.mark.parametrize("seed", range(3))
def test_lines_hold(density, seed):
    rng = np.random.default_rng(seed)
    width, cycles = int(rng.integers(2, 40)), int(rng.integers(1, 6))
    there, words = rng.random(CYCLES) < density, rng.integers(0, 1 << width, CYCLES)
    ports = {"d": Signal(intbv(0)[width:]), "q": Signal(intbv(0)[width:]), "moves": Signal(False)}

    def drive(t):
        ports["d"].next, ports["moves"].next = int(words[t]), bool(there[t])

    seen = simulate(delay_line, ports, drive, [ports["q"]], width=width, cycles=cycles)
    check(seen[:, 0], [int(word) if flag else None for word, flag in zip(words, there, strict=True)], cycles)


@pytest.mark.parametrize("density", [0.1, 0.5, 1])
@pytest.mark.parametrize("first, step, apart", [(3, 1, 0), (1, 0, 1), (0, 1, 1), (2, 2, 0), (0, 3, 1)])
def test_skews_hold(first, step, apart, density):
    rng = np.random.default_rng(first)
    lanes, width = int(rng.integers(2, 6)), int(rng.integers(2, 12))
    came, words = rng.random(CYCLES) < density, rng.integers(0, 1 << width, (CYCLES, lanes))
    earliest = 0 if first else apart
    flags = max(apart * i + first + step * i for i in range(lanes)) - earliest
    ports = {name: Signal(intbv(0)[lanes * width :]) for name in ("d", "q")} | {"moves": Signal(intbv(0)[flags:])}

    def drive(t):
        late = [words[max(t - apart * i, 0), i] for i in range(lanes)]
        ports["d"].next = sum(int(word) << width * i for i, word in enumerate(late))
        ports["moves"].next = sum(int(t >= b + earliest and came[t - b - earliest]) << b for b in range(flags))

    seen = simulate(skew, ports, drive, [ports["q"]], lanes=lanes, width=width, first=first, step=step, apart=apart)
    out = lanes_of(seen[:, 0], lanes, width)
    for i in range(lanes):
        if first + step * i:
            given = [int(words[t, i]) if came[t] else None for t in range(CYCLES)]
            check(out[:, i], given, first + (step + apart) * i)


@pytest.mark.parametrize("density", [0.1, 0.5, 1])
@pytest.mark.parametrize("lanes, step", [(2, 1), (5, 1), (3, 2)])
def test_lanes_hold_one_by_one(lanes, step, density):
    rng = np.random.default_rng(lanes)
    width = int(rng.integers(2, 30))
    there, words = rng.random((CYCLES, lanes)) < density, rng.integers(0, 1 << width, (CYCLES, lanes))
    ports = {name: Signal(intbv(0)[lanes * width :]) for name in ("d", "q")}
    ports |= {name: Signal(intbv(0)[lanes:]) for name in ("moves", "late")}

    def drive(t):
        ports["d"].next = sum(int(word) << width * i for i, word in enumerate(words[t]))
        ports["moves"].next = sum(int(flag) << i for i, flag in enumerate(there[t]))

    watch = [ports["q"], ports["late"]]
    seen = simulate(lane_skew, ports, drive, watch, lanes=lanes, width=width, step=step)
    out = lanes_of(seen[:, 0], lanes, width)
    for i in range(1, lanes):
        late = step * i
        assert all(int(seen[t, 1]) >> i & 1 == there[t - late, i] for t in range(late, CYCLES))
        check(out[:, i], [int(words[t, i]) if there[t, i] else None for t in range(CYCLES)], late)

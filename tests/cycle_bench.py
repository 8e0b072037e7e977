# SPDX-License-Identifier: Apache-2.0
"""Drive a unit cycle by cycle, and replay what was seen on its Verilog."""

import random

import numpy as np
from fp32_reference import verilate_and_run
from myhdl import Signal, Simulation, StopSimulation, delay, instance, intbv

from hls.verilog import myhdl_internals


def flag():
    return Signal(bool(0))


def bus(width):
    return Signal(intbv(0)[width:])


def preset(job, values):
    """Give the signals of a job their values before the simulation starts."""
    for name, value in values.items():
        myhdl_internals.preset(getattr(job, name), value)


def simulate(unit, clk, drive, observe, cycles, vcd=None):
    """Run ``unit`` until ``observe`` returns True; fails after ``cycles`` cycles.

    Each cycle: ``drive(cycle)`` sets inputs, the logic settles, ``observe(cycle)`` looks at the outputs (and may still
    change inputs that no output depends on), then comes the rising edge. Returns all port values, without clk, per
    cycle.
    """
    seen, finished = [], []
    signals = {name: s for name, s in unit.call.signals().items() if s is not clk}

    @instance
    def run():
        for cycle in range(cycles):
            drive(cycle)
            yield delay(1)
            end = observe(cycle)
            yield delay(1)
            seen.append([int(s) for s in signals.values()])
            if end:
                finished.append(cycle)
                break
            clk.next = True
            yield delay(1)
            clk.next = False
            yield delay(1)
        raise StopSimulation

    if vcd:
        unit.config_sim(trace=True, directory=str(vcd.parent), filename=vcd.stem, timescale="1ns", tracebackup=False)
    simulation = Simulation(unit, run)
    try:
        simulation.run(quiet=1)
    finally:
        simulation.quit()
    assert finished, f"not finished after {cycles} cycles"
    return seen


def replay(unit, seen, tmp_path):
    """The same cycles on the linted Verilog: every output must be the same in every cycle."""
    signals = {name: s for name, s in unit.call.signals().items() if name != "clk"}
    outputs = unit.call.outputs()
    sides = [{n: len(s) if len(s) else 1 for n, s in signals.items() if (n in outputs) == out} for out in (False, True)]
    table = dict(zip(signals, zip(*seen, strict=True), strict=True))

    def words(names):
        columns = []
        for name, width in names.items():
            for low in range(0, width, 32):
                mask = (1 << min(32, width - low)) - 1
                columns.append(np.array([value >> low & mask for value in table[name]], np.uint32))
        return np.stack(columns, axis=1)

    inputs, expected = (words(side) for side in sides)
    got = verilate_and_run(unit, *sides, inputs, tmp_path)
    different = np.argwhere(got != expected)
    assert not len(different), f"cycle {different[0][0]}: output word {different[0][1]} of {list(sides[1])} differs"


def chance(rng, probability):
    return rng.random() < probability


def seeded(*key):
    return random.Random(repr(key))

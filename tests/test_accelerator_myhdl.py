# SPDX-License-Identifier: Apache-2.0
"""Whole accelerator simulated in MyHDL: random geometry, buffer depths, layers and bus stalls, against its model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from myhdl import Signal, StopSimulation, always, block, delay, instance

from hls.bus.obi import Masters, Slave
from hls.config import Config
from hls.descriptor.interface.registers import REGIONS, REGISTER
from hls.descriptor.top import heepstor
from tests.layers import random_program
from tests.obi import ObiMemory

configs = st.builds(
    Config,
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
    ports=st.integers(1, 4),
    arithmetic=st.sampled_from(["aligned", "fma"]),
    activation_words=st.sampled_from([256, 512]),
    weight_bytes=st.sampled_from([256, 512]),
    accumulator_entries=st.sampled_from([16, 32]),
)
stalls = st.fixed_dictionaries(
    {"grant": st.sampled_from([1.0, 0.6]), "answer": st.sampled_from([1.0, 0.5]), "single": st.booleans()}
)


def simulate(config, program, seed, stall, limit=20000, vcd=None):
    """Memory after the program, STATUS, and the cycles it took, in MyHDL."""
    memory = ObiMemory(program.memory.copy().view(np.uint32), config.ports, np.random.default_rng(seed), **stall)
    clk, rst_n, irq, idle = (Signal(bool(0)) for _ in range(4))
    slave, masters = Slave(), Masters(config.ports)
    masters.__dict__.update({name: getattr(memory, name) for name in vars(masters)})
    outcome = {}

    @block
    def bench():
        dut = heepstor(clk, rst_n, slave, masters, irq, idle, config=config)
        bus = memory.bench(clk)

        @instance
        def clock():
            while True:
                yield delay(5)
                clk.next = not clk

        due = [False]

        @always(clk.posedge)
        def slave_rules():
            assert not slave.rvalid or due[0] or not rst_n, "slave port: an answer without a request"
            due[0] = bool(slave.req and slave.gnt)

        @instance
        def cpu():
            yield clk.posedge
            yield clk.posedge
            rst_n.next = True
            writes = [
                (f"{kind}{i}", values[i])
                for i in range(REGIONS)
                for kind, values in (("BASE", program.bases), ("LIMIT", program.limits))
            ]
            writes += [("IRQ_ENABLE", 3), ("DOORBELL", program.doorbell)]
            for name, value in writes:
                slave.req.next, slave.we.next, slave.be.next = True, True, 0xF
                slave.addr.next, slave.wdata.next = REGISTER[name].offset, value
                yield clk.posedge
            slave.req.next = False
            cycles = 0
            while not irq and cycles < limit:
                yield clk.posedge
                cycles += 1
            slave.req.next, slave.we.next, slave.addr.next = True, False, REGISTER["STATUS"].offset
            yield clk.posedge
            slave.req.next = False
            yield clk.negedge
            yield clk.posedge
            outcome.update(status=int(slave.rdata), cycles=cycles)
            raise StopSimulation

        return dut, bus, clock, slave_rules, cpu

    test = bench()
    if vcd:
        vcd.with_suffix(".vcd").unlink(missing_ok=True)
        test.config_sim(
            trace=True, directory=str(vcd.parent), filename=vcd.stem, timescale="1ns", tracebackup=False, name=vcd.stem
        )
    try:
        test.run_sim(quiet=1)
    finally:
        test.quit_sim()
    return memory.words, outcome["status"], outcome["cycles"]


@pytest.mark.parametrize("examples", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_any_geometry_layer_and_stall(examples, with_waves):
    """The first example is the simplest one, the others are drawn."""

    @settings(max_examples=examples)
    @given(config=configs, stall=stalls, seed=st.integers(0, 2**32 - 1))
    def agree(config, stall, seed):
        program = random_program(np.random.default_rng(seed), config, layers=1)
        expected, _ = program.expect(config)

        def run(vcd=None):
            words, status, _ = simulate(config, program, seed, stall, vcd=vcd)
            assert status & 7 == 2, f"STATUS {status:#x}"
            different = np.flatnonzero(words != expected.view(np.uint32))
            assert different.size == 0, f"{different.size} words differ, the first at {4 * different[0]:#x}"

        with_waves(run)

    agree()

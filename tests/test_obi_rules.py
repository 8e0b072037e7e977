# SPDX-License-Identifier: Apache-2.0
"""The benches themselves: a master or slave that breaks an OBI rule ends the simulation, a correct one does not."""

from pathlib import Path

import numpy as np
import pytest
from myhdl import Signal, StopSimulation, always, block, delay, instance

from sim.descriptors import run_script
from sim.rtl import SimulationError
from tests.obi import ObiMemory

STANDIN = Path(__file__).parent / "sim_data" / "heepstor.v"
WORDS = 12
COPY = [f"w 0 {0:x}", f"w 4 {0x100:x}", f"w 8 {WORDS:x}", "w 14 3", "w c 0", "irq 1000", "r 18"]


def bench(folder, broken, **options):
    """Copy words with the small accelerator of the SoC's tests; ``broken`` chooses how it breaks the rules."""
    text = STANDIN.read_text().replace("parameter BROKEN = 0", f"parameter BROKEN = {broken}")
    (folder / "heepstor.v").write_text(text)
    memory = np.arange(0x200, dtype=np.uint32).view(np.uint8).copy()
    return run_script(folder, memory, COPY, **options)


@pytest.mark.parametrize("outstanding, stall", [(1, 0.0), (1, 0.7), (3, 0.3)])
def test_a_correct_accelerator_passes(tmp_path, outstanding, stall):
    run = bench(tmp_path, 0, stall_probability=stall, outstanding=outstanding, seed=5)
    words = run.memory.view(np.uint32)
    assert run.values[0] > 2 * WORDS
    assert np.array_equal(words[0x40 : 0x40 + WORDS], np.arange(WORDS))


@pytest.mark.parametrize(
    "broken, complaint",
    [
        (1, "master port 0, .*request withdrawn before its grant"),
        (2, "master port 0, .*request changed before its grant"),
        (3, "master port 0, .*depends on its grant"),
        (4, "slave port, .*responds without a request"),
        (5, "master port 0, .*unaligned"),
        (6, "master port 0, .*no byte enable"),
        (7, "master port 0, .*requests during reset"),
    ],
)
def test_every_broken_rule_is_named(tmp_path, broken, complaint):
    with pytest.raises(SimulationError, match=complaint):
        bench(tmp_path, broken, stall_probability=0.5, seed=1)


def drive(requests, grant=0.3):
    """Show ObiMemory one (req, we, be, addr, wdata) per cycle, the last one until it ends; returns the memory."""
    memory = ObiMemory(np.zeros(16, np.uint32), 1, np.random.default_rng(3), grant=grant)
    clk = Signal(bool(0))

    @block
    def simulation():
        parts = memory.bench(clk)

        @always(delay(5))
        def clock():
            clk.next = not clk

        @instance
        def master():
            for request in requests:
                names = ("req", "we", "be", "addr", "wdata")
                for name, value in zip(names, request, strict=True):
                    getattr(memory, name).next = value
                yield clk.posedge
            raise StopSimulation

        return parts, clock, master

    simulation().run_sim(quiet=1)
    return memory


GOOD = (1, 1, 0xF, 8, 77)


def test_the_memory_of_the_myhdl_benches_accepts_a_patient_master():
    assert drive([GOOD] * 30).words[2] == 77


@pytest.mark.parametrize(
    "second, complaint",
    [
        ((0, 1, 0xF, 8, 77), "changed before its grant"),
        ((1, 0, 0xF, 8, 77), "changed before its grant"),
        ((1, 1, 0xF, 12, 77), "changed before its grant"),
        ((1, 1, 0xF, 8, 78), "changed before its grant"),
    ],
)
def test_a_request_is_held_until_its_grant(second, complaint):
    with pytest.raises(AssertionError, match=complaint):
        drive([GOOD, second, second], grant=0.0)


@pytest.mark.parametrize(
    "request_, complaint",
    [
        ((1, 0, 0xF, 6, 0), "not a multiple of 4"),
        ((1, 0, 0xF, 64, 0), "outside the memory"),
        ((1, 1, 0x3, 8, 0), "not a whole word"),
    ],
)
def test_words_are_whole_aligned_and_inside(request_, complaint):
    with pytest.raises(AssertionError, match=complaint):
        drive([request_] * 5, grant=1.0)

# SPDX-License-Identifier: Apache-2.0
"""Memory ports against a queue of commands: random beats, random grants and answers, cancel, give_up, watchdog."""

from collections import deque

import numpy as np
import pytest
from myhdl import Signal, block, delay, instance, intbv
from obi import ObiMemory

from hls.config import Config
from hls.descriptor.interface.timing import OUTSTANDING
from hls.descriptor.memory.ports import Answer, Command, memory_ports
from hls.verilog.myhdl_internals import force

STREAMS = 7
WORDS = 256


class Bench:
    """The ports, a memory, and signals for the command side; ``step`` runs once per cycle with settled signals
    and returns True to stop."""

    def __init__(self, ports, **memory):
        self.ports = ports
        self.rng = np.random.default_rng(ports)
        words = self.rng.integers(0, 1 << 32, WORDS, dtype=np.uint64).astype(np.uint32)
        self.memory = ObiMemory(words, ports, self.rng, **memory)
        self.clk, self.rst, self.cancel, self.give_up = (Signal(bool(0)) for _ in range(4))
        self.cmd, self.rsp = Command(ports), Answer(ports, STREAMS)
        self.busy, self.timeout = (Signal(bool(0)) for _ in range(2))
        self.running, self.progress, self.stalled, self.late = (Signal(bool(0)) for _ in range(4))
        self.watchdog, self.timeout_addr = (Signal(intbv(0)[32:]) for _ in range(2))
        self.words = Signal(intbv(0)[3:])

    def command(self, write, addresses, data, tag):
        self.cmd.valid.next = True
        self.cmd.write.next = write
        self.cmd.count.next = len(addresses)
        self.cmd.tag.next = tag
        self.cmd.addr.next = sum(a << 32 * i for i, a in enumerate(addresses))
        self.cmd.wdata.next = sum(d << 32 * i for i, d in enumerate(data))

    def answered(self):
        """(tag, words) of this cycle's beat, or None."""
        if not self.rsp.valid:
            return None
        bits = int(self.rsp.valid)
        assert bits & (bits - 1) == 0
        return bits.bit_length() - 1, [int(self.rsp.data[32 * i + 32 : 32 * i]) for i in range(int(self.rsp.count))]

    def run(self, step, cycles, vcd=None):
        dut = {name: getattr(self, name) for name in memory_ports.port_names if not name.startswith("m_")}

        @block
        def bench():
            units = (
                memory_ports(**dut, **self.memory.masters(), config=Config(ports=self.ports)),
                self.memory.bench(self.clk),
            )

            @instance
            def drive():
                for cycle in range(-2, cycles):
                    self.rst.next = cycle < 0
                    yield delay(1)
                    if cycle >= 0:
                        if step(cycle):
                            break
                        yield delay(1)
                    self.clk.next = 1
                    yield delay(1)
                    self.clk.next = 0

            return units, drive

        test = bench()
        if vcd:
            test.config_sim(
                trace=True,
                directory=str(vcd.parent),
                filename=vcd.stem,
                timescale="1ns",
                tracebackup=False,
                name=vcd.stem,
            )
        test.run_sim(quiet=1)
        test.quit_sim()


@pytest.mark.parametrize(
    "ports, grant, answer, single",
    [(1, 0.9, 0.2, False), (2, 0.6, 0.5, False), (3, 1, 1, False), (4, 0.5, 0.8, True), (4, 0.6, 0.6, False)],
)
def test_beats_return_in_order(ports, grant, answer, single):
    b = Bench(ports, grant=grant, answer=answer, single=single)
    rng, expected = b.rng, deque()
    words = [int(x) for x in b.memory.words]  # what a memory that executes commands in order would hold
    total = {"granted": 0, "commanded": 0}

    def step(cycle):
        total["granted"] += int(b.words)
        answer = b.answered()
        if answer:
            tag, count, data = expected.popleft()
            assert (answer[0], len(answer[1])) == (tag, count)
            assert data is None or answer[1] == data
        b.cmd.valid.next = False
        if cycle < 150 and rng.random() < 0.8:
            write, count, tag = bool(rng.integers(0, 2)), int(rng.integers(1, ports + 1)), int(rng.integers(0, STREAMS))
            # ports slip against each other, so each word is used by one port only
            index = [int(i) * ports + p for p, i in enumerate(rng.integers(0, WORDS // ports, count))]
            data = [int(x) for x in rng.integers(0, 1 << 32, count)]
            b.command(write, [4 * i for i in index], data, tag)
            if b.cmd.ready:  # a function of registers, so it holds for this cycle
                total["commanded"] += count
                expected.append((tag, count, None if write else [words[i] for i in index]))
                for i, value in zip(index, data):
                    words[i] = value if write else words[i]
        return cycle > 150 and not expected

    b.run(step, 2500)
    assert not expected
    assert total["granted"] == total["commanded"] == b.memory.reads + b.memory.writes > 40
    assert [int(x) for x in b.memory.words] == words


@pytest.mark.parametrize("ports, single", [(1, False), (2, True), (4, False)])
def test_full_rate_without_wait_states(ports, single):
    b = Bench(ports, single=single)
    beats = [0]

    def step(cycle):
        b.command(False, [4 * (cycle % WORDS)] * ports, [0] * ports, 0)
        beats[0] += b.answered() is not None

    b.run(step, 120)
    print(f"P={ports}: {beats[0]} beats of {ports} words in 120 cycles")
    assert beats[0] >= 112


@pytest.mark.parametrize("seed", range(4))
def test_cancel_drops_commands_and_discards_answers(seed):
    b = Bench(1 + seed % 4, grant=0.5, answer=0.3)
    b.rng = b.memory.rng = np.random.default_rng(seed)
    tags = []
    at, state = 30 + seed, {"phase": "old"}

    def step(cycle):
        if b.answered():
            tags.append((state["phase"], b.answered()[0]))
        if cycle < at:
            b.command(False, [4 * (cycle % WORDS)] * b.ports, [0] * b.ports, 1)
        elif state["phase"] == "old":
            state["phase"] = "cancel"
            b.cancel.next = True
            b.command(False, [4 * (cycle % WORDS)] * b.ports, [0] * b.ports, 3)
            granted.append(len(b.memory.log))
        elif state["phase"] == "cancel":
            if not b.busy:
                b.cancel.next = False
                b.cmd.valid.next = False
                state["phase"] = "new"
                assert len(b.memory.log) - granted[0] <= b.ports + 1  # only what was on the bus
        elif state["phase"] == "new":
            b.command(False, [4 * (cycle % WORDS)] * b.ports, [0] * b.ports, 2)

    granted = []
    b.run(step, 150)
    assert state["phase"] == "new"
    late = [tag for phase, tag in tags if phase == "cancel"]
    assert len(late) <= 1  # the answer registered when cancel rose
    new = [tag for phase, tag in tags if phase == "new"]
    assert len(new) > 10 and set(new) == {2}


@pytest.mark.parametrize("fault", ["dead", "mute"])
@pytest.mark.parametrize("port", [0, 1])
def test_watchdog_then_give_up(fault, port):
    b = Bench(2, strict=False, **{fault: {port}})
    b.watchdog.next = intbv(20)[32:]
    force(b.watchdog, intbv(20)[32:])
    fired, after = [], []

    def step(cycle):
        b.give_up.next = False
        if b.timeout and not fired:
            fired.append(cycle)
            assert b.timeout_addr == (0x40 if port == 0 else 0x80)
            assert b.busy
            getattr(b.memory, fault).clear()
            b.give_up.next = True
        elif fired and b.answered():
            after.append(b.answered())
        b.cmd.valid.next = False
        if cycle == 0:
            b.command(False, [0x40, 0x80], [0, 0], 3)
        if fired and cycle == fired[0] + 5:
            assert not b.busy
            b.command(False, [0x44, 0x48], [0, 0], 4)

    b.run(step, 80)
    assert fired and 20 < fired[0] <= 26
    assert after[-1] == (4, [int(b.memory.words[0x11]), int(b.memory.words[0x12])])


def test_watchdog_is_silent_while_words_flow_or_when_off():
    for watchdog in (0, 12):
        b = Bench(2, grant=0.5, answer=0.5)
        force(b.watchdog, intbv(watchdog)[32:])
        b.watchdog.next = watchdog

        def step(cycle, b=b):
            assert not b.timeout
            b.command(False, [4 * (cycle % WORDS)] * 2, [0, 0], 0)

        b.run(step, 200)


def test_never_more_outstanding_than_room_for_answers():
    b = Bench(2, mute={1})

    def step(cycle):
        b.command(False, [0, 4], [0, 0], 0)

    b.run(step, 60)
    assert len(b.memory.log) == 2 * OUTSTANDING

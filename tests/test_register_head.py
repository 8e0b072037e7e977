# SPDX-License-Identifier: Apache-2.0
"""The common register head: what it answers, and that the slave behind it sees every access once, in order, in time."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from cycle_bench import flag, replay, simulate

from hls.bus.head import HEAD, name_words
from hls.bus.obi import Slave
from hls.bus.register_head import register_head
from hls.config import INTERFACE_VERSION, System, integer, option

FIELDS = ("we", "be", "addr", "wdata")


@dataclass(frozen=True)
class Small(System):
    architecture: ClassVar[str] = "a_small_one"
    lanes: int = option(4, *integer(1, 16), "lanes", in_hash=True)


def constants(config):
    return {
        0x00: 0x4850474E,
        0x04: INTERFACE_VERSION,
        0x0C: config.hash,
        0x80: int.from_bytes(b"a_sm", "little"),
        0x84: int.from_bytes(b"all_", "little"),
        0x88: int.from_bytes(b"one", "little"),
    }


class Run:
    """A master with random accesses in front of the head, a slave with random delays behind it, and OBI's rules
    watched on both sides. ``accesses``: (cycle of grant, cycle of answer, address, answer) as the master sees them."""

    def __init__(self, rng, busy, grant, answer, own_share, cycles=3000):
        self.rng, self.busy, self.grant, self.answer, self.own_share = rng, busy, grant, answer, own_share
        self.config = Small(lanes=int(rng.integers(1, 17)))
        self.clk, self.rst_n, self.s, self.own = flag(), flag(), Slave(), Slave()
        self.accesses, self.pending, self.behind, self.held = [], [], [], {"s": None, "own": None}
        self.issued, self.arrived, self.latched = [], [], 0
        self.last = cycles - 1
        unit = register_head(self.clk, self.rst_n, self.s, self.own, config=self.config)
        self.unit, self.seen = unit, simulate(unit, self.clk, self.drive, self.observe, cycles)

    def drive(self, cycle):
        rng, s, own = self.rng, self.s, self.own
        self.rst_n.next = cycle > 0
        if self.held["s"] is None:
            s.req.next = cycle > 1 and rng.random() < self.busy
            s.we.next, s.be.next = rng.random() < 0.4, int(rng.integers(0, 16))
            part = int(rng.integers(0x40, 0x400)) if rng.random() < self.own_share else int(rng.integers(0, 0x40))
            known = part < 0x40 and rng.random() < 0.8
            s.addr.next = 0xF0001000 | (int(rng.choice([r.offset for r in HEAD])) if known else 4 * part)
            s.wdata.next = int(rng.integers(0, 1 << 32))
        own.gnt.next = rng.random() < self.grant
        answered = bool(self.behind) and rng.random() < self.answer
        own.rvalid.next = answered
        self.given = self.behind.pop(0) if answered else int(rng.integers(0, 1 << 32))
        own.rdata.next = self.given

    def observe(self, cycle):
        if cycle < 2:
            return False
        s, own = self.s, self.own
        for name, port in (("s", s), ("own", own)):
            request = tuple(int(getattr(port, field)) for field in FIELDS)
            if self.held[name] is not None:
                assert port.req and request == self.held[name], f"{name}: changed before its grant"
            self.held[name] = request if port.req and not port.gnt else None
        if s.rvalid:
            assert self.pending, "an answer nobody waits for"
            begun, address, we, expected = self.pending.pop(0)
            assert begun < cycle
            value = self.given if expected is None else expected
            assert we or s.rdata == value, f"{address:#x}"
            self.accesses.append((begun, cycle, address))
        assert not own.req or own.addr & 0xF00, "the head's registers are not the slave's"
        if own.req and own.gnt:
            assert not self.behind or own.rvalid, "two accesses under way"
            self.arrived.append(tuple(int(getattr(own, field)) for field in FIELDS))
            self.behind.append(int(self.rng.integers(0, 1 << 32)))
        if s.req and s.gnt:
            offset, expected = int(s.addr) & 0xFFF, None
            if offset >= 0x100:
                self.issued.append(tuple(int(getattr(s, field)) for field in FIELDS))
            else:
                expected = constants(self.config).get(offset, 0)
                if offset == 0x50:
                    expected = cycle - 1
                    self.latched = 0
                if offset == 0x54:
                    expected = self.latched
            self.pending.append((cycle, offset, bool(s.we), expected))
        assert len(self.pending) <= 2
        return cycle == self.last


@pytest.mark.parametrize("seed", range(4))
def test_every_access_is_answered_once_and_in_order(seed):
    rng = np.random.default_rng(seed)
    run = Run(rng, rng.uniform(0.3, 1), rng.uniform(0.1, 1), rng.uniform(0.1, 1), rng.uniform(0.2, 0.8))
    assert run.issued == run.arrived and len(run.issued) > 100
    assert len({address for *_, address in run.accesses if address < 0x100}) > 20
    assert [begun for begun, *_ in run.accesses] == sorted(begun for begun, *_ in run.accesses)


def test_a_slave_that_is_ready_loses_no_cycle(tmp_path):
    run = Run(np.random.default_rng(5), 1.0, 1.0, 1.0, 0.5, cycles=400)
    assert [begun for begun, *_ in run.accesses] == list(range(2, 2 + len(run.accesses)))
    assert all(answered == begun + 1 for begun, answered, _ in run.accesses) and len(run.accesses) > 390
    replay(run.unit, run.seen, tmp_path)


def test_the_high_word_of_the_cycles_is_that_of_the_low_word_read_before():
    clk, rst_n, s, own, words = flag(), flag(), Slave(), Slave(), []
    unit = register_head(clk, rst_n, s, own, config=Small())

    def drive(cycle):
        rst_n.next = cycle > 0
        s.req.next = cycle >= 3
        s.addr.next = 0xF0000054 if cycle == 4 else 0xF0000050
        if cycle == 3:
            unit.sigdict["cycles"].next = 0x7_FFFF_FFFF

    def observe(cycle):
        if s.rvalid:
            words.append(int(s.rdata))
        return cycle == 6

    simulate(unit, clk, drive, observe, 7)
    assert words == [0xFFFFFFFF, 7, 1]


def test_names_fill_the_registers_from_the_low_byte():
    assert name_words("cpu") == (0x00757063, 0, 0, 0)
    assert b"".join(word.to_bytes(4, "little") for word in name_words("sixteen_letters_")) == b"sixteen_letters_"
    with pytest.raises(ValueError, match="more than 16"):
        name_words("seventeen_letters")

# SPDX-License-Identifier: Apache-2.0
"""Arbiter against its rules: priority, addresses, windows, order and rate."""

import numpy as np
import pytest
from myhdl import Signal, block, delay, instance, intbv

from hls.config import Config
from hls.descriptor.control.slave import Regions
from hls.descriptor.memory.arbiter import STREAMS, Request, arbiter
from hls.descriptor.memory.ports import Command
from hls.verilog.myhdl_internals import force

ORDER = ("fetch", "params", "weights!", "aux", "store", "profile", "load", "weights")
MASK = (1 << 32) - 1


class Bench:
    """The arbiter with its seven streams; ``step`` runs once per cycle and `settled` when
    the outputs follow; ``run`` returns fault and fault_addr of the last cycle."""

    def __init__(self, ports, seed):
        self.ports, self.rng = ports, np.random.default_rng(seed)
        self.clk, self.rst, self.store_issued, self.fault = (Signal(bool(0)) for _ in range(4))
        self.cmd = Command(ports)
        self.fault_addr = Signal(intbv(0)[32:])
        self.windows, self.last = Regions(), None
        self.streams = {
            name: Request(ports, data=name in ("store", "profile"), urgent=name == "weights", mark=name == "store")
            for name in STREAMS
        }

    def region(self, index, base, limit):
        for kind, value in (("base", base), ("limit", limit)):
            signal = getattr(self.windows, f"{kind}{index}")
            force(signal, intbv(value)[32:])
            signal.next = value

    def offer(self, name, addr, stride, count, region, data=0):
        req = self.streams[name]
        req.valid.next, req.addr.next, req.stride.next = True, addr, stride
        req.count.next, req.region.next = count, region
        if hasattr(req, "data"):
            req.data.next = data

    def command(self):
        """(stream, addresses, data) of this cycle's command."""
        addresses = [int(self.cmd.addr[32 * i + 32 : 32 * i]) for i in range(int(self.cmd.count))]
        name = STREAMS[int(self.cmd.tag)]
        assert self.cmd.write == (name in ("store", "profile"))
        return name, addresses, int(self.cmd.wdata) if self.cmd.write else None

    def run(self, step, cycles):
        @block
        def bench():
            dut = arbiter(
                self.clk,
                self.rst,
                self.windows,
                *(self.streams[name] for name in ("fetch", "params", "weights", "aux", "store", "profile", "load")),
                self.cmd,
                self.store_issued,
                self.fault,
                self.fault_addr,
                config=Config(ports=self.ports),
            )

            @instance
            def drive():
                for cycle in range(-2, cycles):
                    self.rst.next = cycle < 0
                    yield delay(1)
                    if cycle >= 0:
                        step(cycle)
                        yield delay(1)
                        self.settled()
                        self.last = bool(self.fault), int(self.fault_addr)
                    self.clk.next = 1
                    yield delay(1)
                    self.clk.next = 0

            return dut, drive

        test = bench()
        test.run_sim(quiet=1)
        test.quit_sim()
        return self.last


@pytest.mark.parametrize("ports", [1, 2, 3, 4])
def test_priority_addresses_and_order(ports):
    b = Bench(ports, ports)
    rng = b.rng
    b.region(2, 0x1000, 0xFFFFF000)
    taken, issued = [], []
    offered = {}

    def step(cycle):
        b.cmd.ready.next = rng.random() < 0.7
        for name, req in b.streams.items():
            if name not in offered and rng.random() < 0.3 and cycle < 400:
                count = int(rng.integers(1, ports + 1))
                data = int.from_bytes(rng.bytes(4 * ports), "little")
                stride = int(rng.integers(-1000, 1000))
                addr = int(rng.integers(1 << 20, 1 << 28)) * 4
                offered[name] = (
                    [(addr + 4 * i * stride) & MASK for i in range(count)],
                    data if hasattr(req, "data") else None,
                )
                b.offer(name, addr, stride, count, 2, data)
            elif name not in offered:
                req.valid.next = False
        b.streams["weights"].urgent.next = rng.random() < 0.5

    def settled():
        ready = [name for name, req in b.streams.items() if req.ready]
        assert len(ready) <= 1
        urgent = b.streams["weights"].urgent
        for name in ready:
            assert b.streams[name].valid
            waiting = [w for w in ORDER if b.streams[w.strip("!")].valid and (w != "weights!" or urgent)]
            assert waiting[0].strip("!") == name
            taken.append((name, *offered.pop(name)))
        assert b.store_issued == bool(set(ready) & {"store", "profile"})
        if b.cmd.valid and b.cmd.ready:
            issued.append(b.command())
        assert not b.fault

    b.settled = settled
    b.run(step, 500)
    assert len(issued) > 150 and issued == taken
    assert {name for name, *_ in issued} == set(STREAMS)


@pytest.mark.parametrize("ports", [1, 2, 4])
def test_one_beat_per_cycle(ports):
    b = Bench(ports, 0)
    b.region(0, 0, 0x1000)
    force(b.cmd.ready, True)
    b.cmd.ready.next = True
    count = [0]

    def settled():
        count[0] += int(b.cmd.valid)

    b.settled = settled
    b.run(lambda cycle: b.offer("load", 0x100, 1, ports, 0), 100)
    assert count[0] == 98


@pytest.mark.parametrize(
    "ports, addr, stride, count, bad",
    [
        (1, 0x100, 0, 1, None),
        (1, 0xFC, 0, 1, 0xFC),
        (1, 0x1FC, 0, 1, None),
        (1, 0x200, 0, 1, 0x200),
        (4, 0x1F0, 1, 4, None),
        (4, 0x1F4, 1, 4, 0x200),
        (4, 0x1F4, 1, 3, None),
        (4, 0x108, -1, 4, 0xFC),
        (4, 0x108, -1, 3, None),
        (3, 0x1F8, 1, 3, 0x200),
        (2, 0x100, 1 << 30, 2, None),
        (2, 0x100, -0x41, 2, 0xFFFFFFFC),
        (4, 0x140, 0x40, 4, 0x240),
    ],
)
def test_every_word_is_checked(ports, addr, stride, count, bad):
    """Window 0x100..0x200; the highest stride wraps round to the same word, which is what would be accessed."""
    b = Bench(ports, 1)
    b.region(1, 0x100, 0x200)
    b.region(0, 0, MASK)
    seen = []

    def step(cycle):
        b.cmd.ready.next = True
        if cycle == 0:
            b.offer("aux", addr, stride, count, 1)
        elif cycle == 1:
            b.streams["aux"].valid.next = False
            b.offer("load", 0x10, 1, 1, 0)

    def settled():
        if b.cmd.valid:
            seen.append(b.command()[0])

    b.settled = settled
    fault, fault_addr = b.run(step, 12)
    assert fault == (bad is not None)
    if bad is None:
        assert seen[:2] == ["aux", "load"]
    else:
        assert seen == [] and fault_addr == bad


def test_limit_is_rounded_down_to_whole_words():
    for limit, fault in ((0x107, True), (0x108, False)):
        b = Bench(1, 0)
        b.region(3, 0x100, limit)
        b.settled = lambda: None
        assert b.run(lambda cycle, b=b: b.offer("store", 0x104, 0, 1, 3), 6)[0] == fault


def test_reset_ends_a_fault():
    b = Bench(1, 0)
    b.region(0, 0x100, 0x200)
    seen = []

    def step(cycle):
        b.rst.next = cycle == 6
        b.cmd.ready.next = True
        b.offer("load", 0 if cycle < 6 else 0x100, 0, 1, 0)

    def settled():
        seen.append((bool(b.fault), bool(b.cmd.valid)))

    b.settled = settled
    b.run(step, 14)
    assert seen[5] == (True, False) and seen[7] == (False, False) and seen[-1] == (False, True)

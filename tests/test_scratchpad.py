# SPDX-License-Identifier: Apache-2.0
"""Scratchpad against a plain array: any ports, rings, streams on chip and off, all at once."""

import numpy as np
import pytest
from myhdl import Signal, block, delay, instance, intbv

from hls.config import Config
from hls.descriptor.interface.table import SCRATCHPAD
from hls.descriptor.interface.timing import SCRATCHPAD_LATENCY
from hls.descriptor.memory.arbiter import Request
from hls.descriptor.memory.scratchpad import RingStart, scratchpad

WORDS = 256


class Stream:
    """What a side of the test offers: a beat at a time, held until it is taken."""

    def __init__(self, request, place):
        self.request, self.place = request, place
        self.home = self.ring = self.first = self.count = self.stride = 0
        self.data = []

    def offer(self, rng, config, ring, region, idle):
        """A random beat somewhere in the ring that begins at a random aligned home."""
        ports = config.ports
        size = 1 << ring
        self.ring, self.home = size, int(rng.integers(0, WORDS // size)) * size
        self.first = self.home + int(rng.integers(0, size))
        self.count = int(rng.integers(1, ports + 1))
        self.data = [int(x) for x in rng.integers(0, 1 << 32, ports, dtype=np.uint64)]
        upper = int(rng.integers(0, 4)) * WORDS
        self.request.valid.next = not idle
        # the address may have left the ring; the stream's start says where home is
        self.request.addr.next = 4 * (upper + self.home + (self.first - self.home) + size * int(rng.integers(0, 3)))
        self.stride = 1
        if config.banded and rng.random() < 0.6:
            self.stride += config.scratchpad_banks * int(rng.choice([1, -1, 2, rng.integers(-(1 << 29), 1 << 29)]))
        if self.count == 1:
            self.stride = int(rng.integers(-(1 << 31), 1 << 31))
        self.request.stride.next = self.stride
        self.request.count.next = self.count
        self.request.region.next = region
        self.place.addr.next = 4 * (upper + self.home)
        self.place.ring.next = ring
        if hasattr(self.request, "data"):
            self.request.data.next = sum(x << (32 * i) for i, x in enumerate(self.data))
            self.request.mark.next = bool(rng.random() < 0.3)

    def words(self):
        return [self.home + (self.first - self.home + i * self.stride) % self.ring for i in range(self.count)]


@pytest.mark.parametrize(
    "ports, banded",
    [
        (1, True),
        pytest.param(2, True, marks=pytest.mark.slow),
        pytest.param(3, True, marks=pytest.mark.slow),
        (4, True),
        (2, False),
    ],
)
def test_beats_at_any_word_of_any_ring(ports, banded):
    """Of neighbours, or, banded, of words in neighbouring banks."""
    config = Config(ports=ports, scratchpad_words=WORDS, banded=banded)
    rng = np.random.default_rng(ports)
    clk, rst, read_load, read_aux, marked = (Signal(bool(0)) for _ in range(5))
    rsp_count, rsp_data = Signal(intbv(0)[3:]), Signal(intbv(0)[32 * ports :])
    store_request = Request(ports, data=True, mark=True)
    streams = {
        name: Stream(
            store_request if name == "store" else Request(ports), RingStart(Signal(intbv(0)[32:]), Signal(intbv(0)[5:]))
        )
        for name in ("load", "aux", "store")
    }
    load, aux, store = streams.values()
    bus = [Request(ports), Request(ports), Request(ports, data=True, mark=True)]
    answers = []  # (cycle, stream, words)
    counts = dict.fromkeys(("load", "aux", "store", "bus", "mark", "both"), 0)

    @block
    def bench():
        dut = scratchpad(
            clk,
            rst,
            load.request,
            aux.request,
            store.request,
            load.place,
            aux.place,
            store.place,
            *bus,
            read_load,
            read_aux,
            rsp_count,
            rsp_data,
            marked,
            config=config,
        )

        @instance
        def drive():
            memory, due_mark = np.zeros(WORDS, np.uint64), False
            least = (ports - 1).bit_length()
            for cycle in range(3000):
                for stream in streams.values():
                    ring = int(rng.integers(max(least, 2), WORDS.bit_length()))
                    region = SCRATCHPAD if rng.random() < 0.8 else int(rng.integers(0, 3))
                    stream.offer(rng, config, ring, region, rng.random() < 0.3)
                for request in bus:
                    request.ready.next = False
                yield delay(1)
                assert bool(marked) == due_mark
                for request, (name, stream) in zip(bus, streams.items(), strict=True):
                    own = stream.request
                    outside = bool(own.valid) and own.region != SCRATCHPAD
                    assert bool(request.valid) == outside, name
                    if outside:
                        counts["bus"] += 1
                        assert not own.ready
                        for name in ("addr", "stride", "count", "region"):
                            assert getattr(request, name) == getattr(own, name)
                inside = {name: bool(s.request.valid) and s.request.region == SCRATCHPAD for name, s in streams.items()}
                assert bool(aux.request.ready) == inside["aux"]
                assert bool(load.request.ready) == (inside["load"] and not inside["aux"])
                assert bool(store.request.ready) == inside["store"]
                counts["both"] += inside["load"] and inside["aux"]
                if inside["aux"] or inside["load"]:
                    name = "aux" if inside["aux"] else "load"
                    counts[name] += 1
                    answers.append((cycle + SCRATCHPAD_LATENCY, name, [int(memory[w]) for w in streams[name].words()]))
                if inside["store"]:
                    counts["store"] += 1
                    for word, value in zip(store.words(), store.data, strict=False):
                        memory[word] = value
                due_mark = inside["store"] and bool(store.request.mark)
                counts["mark"] += due_mark
                clk.next = 1
                yield delay(1)
                due = [a for a in answers if a[0] == cycle + 1]
                assert (bool(read_load), bool(read_aux)) == (
                    any(a[1] == "load" for a in due),
                    any(a[1] == "aux" for a in due),
                )
                for _, _, words in due:
                    assert int(rsp_count) == len(words)
                    assert [int(rsp_data) >> (32 * i) & 0xFFFFFFFF for i in range(len(words))] == words
                clk.next = 0
                yield delay(1)

        return dut, drive

    test = bench()
    test.run_sim(quiet=1)
    test.quit_sim()
    assert all(n > 100 for n in counts.values()), counts

# SPDX-License-Identifier: Apache-2.0
"""Memories with random stalls for MyHDL simulations; the OBI one checks the masters' side of the protocol.

Rules checked at every clock edge: a request without grant is repeated unchanged; be is 0xF; the address is a
multiple of 4 and inside the memory.
"""

from dataclasses import dataclass, field

import numpy as np
from myhdl import Signal, always, always_comb, block, instances, intbv


@dataclass
class ObiMemory:
    """``words`` (uint32) from byte address ``base``, behind ``ports`` ports.

    A port grants with probability ``grant`` in each cycle, answers in order, each answer at least one cycle after
    its grant and with probability ``answer`` in each cycle from then on. With ``single`` (X-HEEP's crossbar) the
    next grant comes at the earliest together with the answer. ``dead`` ports never grant; ``mute`` ones never answer.
    Without ``strict`` a request may be withdrawn.
    Counters: ``reads`` and ``writes`` in words; ``log`` holds (port, we, address) of each grant.
    """

    words: np.ndarray
    ports: int
    rng: np.random.Generator
    base: int = 0
    grant: float = 1.0
    answer: float = 1.0
    single: bool = False
    strict: bool = True
    dead: set = field(default_factory=set)
    mute: set = field(default_factory=set)
    reads: int = 0
    writes: int = 0
    log: list = field(default_factory=list)

    def __post_init__(self):
        ports = self.ports
        self.req, self.we, self.gnt, self.rvalid = (Signal(intbv(0)[ports:]) for _ in range(4))
        self.be = Signal(intbv(0)[4 * ports :])
        self.addr, self.wdata, self.rdata = (Signal(intbv(0)[32 * ports :]) for _ in range(3))

    def masters(self):
        """The signals by the names of `memory.ports.memory_ports`."""
        return {
            f"m_{name}": getattr(self, name) for name in ("req", "we", "be", "addr", "wdata", "gnt", "rvalid", "rdata")
        }

    def access(self, port, we, address, data):
        """Read or write one word; returns the answer."""
        assert address % 4 == 0, f"port {port}: address {address:#x} is not a multiple of 4"
        index = (address - self.base) // 4
        assert 0 <= index < len(self.words), f"port {port}: address {address:#x} is outside the memory"
        self.log.append((port, we, address))
        if we:
            self.words[index] = data
            self.writes += 1
            return int(self.rng.integers(0, 1 << 32))
        self.reads += 1
        return int(self.words[index])

    @block
    def bench(self, clk):
        """The memory as a MyHDL block."""
        may_grant = Signal(intbv(0)[self.ports :])
        pending = [[] for _ in range(self.ports)]  # answers due: [first cycle, data]
        held = [None] * self.ports
        now = [0]

        @always_comb
        def grant():
            self.gnt.next = self.req & may_grant

        @always(clk.posedge)
        def step():
            now[0] += 1
            grants, valid, data = 0, 0, 0
            for port in range(self.ports):
                payload = (bool(self.we[port]), self._word(self.addr, port), self._word(self.wdata, port))
                if held[port] is not None and self.strict:
                    assert self.req[port] and payload == held[port], f"port {port}: request changed before its grant"
                held[port] = None
                if self.req[port]:
                    assert self.be[4 * port + 4 : 4 * port] == 0xF, f"port {port}: not a whole word"
                    if self.gnt[port]:
                        pending[port].append([now[0], self.access(port, *payload)])
                    else:
                        held[port] = payload
                answered = pending[port] and port not in self.mute and self.rng.random() < self.answer
                if answered:
                    valid |= 1 << port
                    data |= pending[port].pop(0)[1] << 32 * port
                else:
                    data |= int(self.rng.integers(0, 1 << 32)) << 32 * port
                free = not self.single or not pending[port]
                if free and port not in self.dead and self.rng.random() < self.grant:
                    grants |= 1 << port
            self.rvalid.next = valid
            self.rdata.next = data
            may_grant.next = grants

        return instances()

    @staticmethod
    def _word(bus, port):
        return int(bus[32 * port + 32 : 32 * port])


@dataclass
class BeatMemory:
    """Arbiter, ports and memory as one request stream sees them: beats answered in order after random delays.

    ``ready`` and ``answer`` are probabilities per cycle; an answer comes at least ``latency`` cycles after its request.
    ``words`` (uint32) start at byte address 0. ``log`` holds the word indices of each beat.
    """

    words: np.ndarray
    ports: int
    rng: np.random.Generator
    ready: float = 1.0
    answer: float = 1.0
    latency: int = 6
    log: list = field(default_factory=list)

    def __post_init__(self):
        self.rsp_valid = Signal(bool(0))
        self.rsp_count = Signal(intbv(0)[3:])
        self.rsp_data = Signal(intbv(0)[32 * self.ports :])

    @block
    def bench(self, clk, req):
        """The memory as a MyHDL block on request stream ``req``."""
        may_accept = Signal(bool(0))
        pending = []
        now = [0]

        @always_comb
        def accept():
            req.ready.next = req.valid and may_accept

        @always(clk.posedge)
        def step():
            now[0] += 1
            if req.valid and req.ready:
                index = [int(req.addr) // 4 + i * int(req.stride) for i in range(int(req.count))]
                assert 1 <= len(index) <= self.ports and req.addr % 4 == 0
                assert min(index) >= 0 and max(index) < len(self.words), index
                self.log.append(index)
                pending.append((now[0] + self.latency - 1, [int(self.words[i]) for i in index]))
            self.rsp_valid.next = False
            self.rsp_data.next = int.from_bytes(self.rng.bytes(4 * self.ports), "little")
            if pending and pending[0][0] <= now[0] and self.rng.random() < self.answer:
                data = pending.pop(0)[1]
                self.rsp_valid.next = True
                self.rsp_count.next = len(data)
                self.rsp_data.next = sum(x << 32 * i for i, x in enumerate(data))
            may_accept.next = self.rng.random() < self.ready

        return accept, step

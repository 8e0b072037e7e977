# SPDX-License-Identifier: Apache-2.0
"""The common registers in front of an architecture's own slave."""

from myhdl import Signal, always, always_comb, intbv, modbv

from hls.bus.head import HEAD, SIZE, head_constants
from hls.lib.mux import choose
from hls.lib.unit import unit
from hls.lib.wiring import constant

WINDOW = 0x1000
"""Bytes of the slave's window."""

_LOW, _HIGH = SIZE.bit_length() - 1, WINDOW.bit_length() - 1  # of an address: which part of the window it is in
_INDEX_BITS = _LOW - 2


@unit(out="s.gnt s.rvalid s.rdata own.req own.we own.be own.addr own.wdata")
def register_head(clk, rst_n, s, own, *, config):
    """The head answers what is below 0x100 of the slave's window ``s``; the rest goes to the architecture's slave.

    One access is under way at a time, the next one may begin in the cycle of its answer. So an access that ``own``
    grants at once and answers in the next cycle takes no longer than without the head.
    """
    mine, free, granted, waiting, answers, read_low = (Signal(bool(0)) for _ in range(6))
    index = Signal(intbv(0)[_INDEX_BITS:])
    value, answer, low, high = (Signal(intbv(0)[32:]) for _ in range(4))
    cycles = Signal(modbv(0)[64:])
    constants = head_constants(config.architecture, config.hash)
    words, parts = [None] * (1 << _INDEX_BITS), []
    for register in HEAD:
        if register.name in constants:
            words[register.index] = Signal(intbv(0)[32:])
            parts.append(constant(clk, constants[register.name], words[register.index]))
        else:
            words[register.index] = {"CYCLE_LO": low, "CYCLE_HI": high}[register.name]
    cycle_lo = next(register.index for register in HEAD if register.name == "CYCLE_LO")

    @always_comb
    def decode():
        mine.next = s.addr[_HIGH:_LOW] == 0
        index.next = s.addr[_LOW:2]
        free.next = not waiting or own.rvalid
        low.next = cycles[32:]

    @always_comb
    def forward():
        own.req.next = s.req and free and not mine
        own.we.next = s.we
        own.be.next = s.be
        own.addr.next = s.addr
        own.wdata.next = s.wdata

    @always_comb
    def grant():
        granted.next = free and (mine or own.gnt)

    @always_comb
    def reply():
        s.gnt.next = granted
        s.rvalid.next = answers or own.rvalid
        s.rdata.next = answer if answers else own.rdata

    @always_comb
    def latch():
        read_low.next = s.req and mine and index == cycle_lo and not s.we

    @always(clk.posedge)
    def follow():
        cycles.next = cycles + 1
        answers.next = s.req and granted and mine
        waiting.next = (s.req and granted and not mine) or (waiting and not own.rvalid)
        answer.next = value
        if read_low:
            high.next = cycles[64:32]
        if not rst_n:
            cycles.next = 0
            answers.next = False
            waiting.next = False
            high.next = 0

    return parts, choose(words, index, value), decode, forward, grant, reply, latch, follow

# SPDX-License-Identifier: Apache-2.0
"""First-word-fall-through FIFO in registers or distributed RAM, for small depths."""

from myhdl import Signal, always, always_comb, intbv, modbv

from hls.lib.unit import unit


class Stream:
    """First word falls through: ``data`` is the next one while ``valid``, ``take`` removes it."""

    def __init__(self, width: int) -> None:
        self.valid = Signal(bool(0))
        self.data = Signal(intbv(0)[width:])
        self.take = Signal(bool(0))


@unit(out="in_ready out_valid out_data")
def fifo(clk, rst, in_valid, in_ready, in_data, out_valid, out_ready, out_data, *, width, depth):
    """``depth`` (a power of two, at least 2) words of ``width`` bits.

    A word enters in a cycle with in_valid and in_ready, leaves in one with out_valid and out_ready, and can
    leave from the cycle after it entered. in_ready and out_valid are registers.
    """
    if depth < 2 or depth & (depth - 1):
        raise ValueError(f"fifo: depth {depth} is not a power of two")
    bits = (depth - 1).bit_length()
    words = [Signal(intbv(0)[width:]) for _ in range(depth)]
    head, tail = (Signal(modbv(0)[bits:]) for _ in range(2))
    level = Signal(intbv(0)[bits + 1 :])
    push, pop, filled = (Signal(bool(0)) for _ in range(3))
    room = Signal(bool(1))

    @always_comb
    def status():
        in_ready.next = room
        out_valid.next = filled
        push.next = in_valid and room
        pop.next = out_ready and filled

    @always_comb
    def read():
        out_data.next = words[head]

    @always(clk.posedge)
    def write():
        if push:
            words[tail].next = in_data

    @always(clk.posedge)
    def move():
        if push:
            tail.next = tail + 1
        if pop:
            head.next = head + 1
        if push and not pop:
            level.next = level + 1
            filled.next = True
            room.next = level != depth - 1
        elif pop and not push:
            level.next = level - 1
            filled.next = level != 1
            room.next = True
        if rst:
            head.next = 0
            tail.next = 0
            level.next = 0
            filled.next = False
            room.next = True

    return status, read, write, move

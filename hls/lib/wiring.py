# SPDX-License-Identifier: Apache-2.0
"""Elaboration helpers that cut, glue and set buses; they add no logic."""

from myhdl import ConcatSignal, Signal, always, always_comb, block, concat, intbv


@block
def split(bus, parts):
    """Drive ``parts`` (equal widths) from ``bus``; part 0 is the least significant."""
    width = len(parts[0])
    return [_slice(bus, part, i * width, width) for i, part in enumerate(parts)]


@block
def _slice(bus, part, low, width):
    if isinstance(bus.val, bool):

        @always_comb
        def same():
            part.next = bus

        return same
    if width == 1:

        @always_comb
        def bit():
            part.next = bus[low]

        return bit

    @always_comb
    def cut():
        part.next = bus[low + width : low]

    return cut


@block
def join(parts, bus):
    """Drive ``bus`` from ``parts``; part 0 is the least significant."""
    if len(parts) == 1:
        only = parts[0]

        @always_comb
        def same():
            bus.next = only

        return same
    glued = ConcatSignal(*reversed(parts))

    @always_comb
    def glue():
        bus.next = glued

    return glue


@block
def resize(source, target):
    """Zero-extend ``source`` to the width of ``target``."""
    extra = len(target) - len(source)
    if extra == 0:

        @always_comb
        def same():
            target.next = source

        return same

    @always_comb
    def extend():
        target.next = concat(intbv(0)[extra:], source)

    return extend


@block
def ignore(bus, low, high):
    """Say that bits low..high-1 of ``bus`` are left unread on purpose."""
    if low >= high:
        return []
    unused_bits = Signal(intbv(0)[high - low :])

    @always_comb
    def take():
        unused_bits.next = bus[high:low]

    return take


@block
def constant(clk, number, word):
    """Drive ``word`` with ``number``, from the first edge of ``clk`` on."""

    @always(clk.posedge)
    def hold():
        word.next = number

    return hold

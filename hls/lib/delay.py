# SPDX-License-Identifier: Apache-2.0
"""Delay lines: no reset and no taps inside, so that they map to shift-register LUTs."""

from collections.abc import Sequence

from myhdl import ConcatSignal, Signal, SignalType, always, always_comb, block, concat, intbv

from hls.lib.unit import unit


@block
def shift(clk, d, q, width, cycles):
    """q is d, `cycles` (0 or more) clock cycles later; both are `width` bits."""
    if cycles == 0:

        @always_comb
        def wire():
            q.next = d

        return wire

    if cycles == 1:

        @always(clk.posedge)
        def register():
            q.next = d

        return register

    line = Signal(intbv(0)[cycles * width :])
    kept, total = (cycles - 1) * width, cycles * width

    @always(clk.posedge)
    def advance():
        line.next = concat(line[kept:], d)

    if width == 1:

        @always_comb
        def oldest_bit():
            q.next = line[kept]

        return advance, oldest_bit

    @always_comb
    def oldest():
        q.next = line[total:kept]

    return advance, oldest


@block
def shift_enabled(clk, en, d, q, width, cycles):
    """q is d, `cycles` (1 or more) cycles with ``en`` later; both are `width` bits, 2 or more."""
    line = Signal(intbv(0)[cycles * width :])
    kept, total = (cycles - 1) * width, cycles * width

    if cycles == 1:

        @always(clk.posedge)
        def load():
            if en:
                line.next = d

    else:

        @always(clk.posedge)
        def load():
            if en:
                line.next = concat(line[kept:], d)

    @always_comb
    def oldest():
        q.next = line[total:kept]

    return load, oldest


@block
def shift_occupied(clk, occupied, d, q, width):
    """q is d, one clock cycle later for each of the flags ``occupied``: a stage moves where its flag is set."""
    stages = [d, *(Signal(intbv(0)[width:]) for _ in occupied[1:]), q]
    return [shift_enabled(clk, moves, stages[k], stages[k + 1], width, 1) for k, moves in enumerate(occupied)]


def glue(signals: Sequence[SignalType]) -> SignalType:
    """One bus made of a list of signals, the first one at its low end."""
    return signals[0] if len(signals) == 1 else ConcatSignal(*reversed(signals))


@unit(out="q")
def delay_line(clk, d, q, *, width, cycles):
    """q is d, `cycles` (1 or more) clock cycles later; both are `width` bits."""
    return shift(clk, d, q, width, cycles)


@unit(out="occupied")
def occupancy(clk, valid, occupied):
    """Bit k of ``occupied`` is ``valid``, k + 1 clock cycles later: whether a value is there in a pipeline."""
    bits = len(occupied)
    line = Signal(intbv(0)[bits:])

    @always(clk.posedge)
    def advance():
        line.next = concat(line[bits - 1 :], valid)

    @always_comb
    def output():
        occupied.next = line

    return advance, output


@unit(out="q")
def skew(clk, d, q, *, lanes, width, first, step):
    """Lane i ([width i +: width]) of q is that of d, `first + step * i` clock cycles later; not 0 for all."""
    lane = [Signal(intbv(0)[width:]) for _ in range(lanes)]
    glued = glue(lane)
    lines = [shift(clk, d(width * i + width, width * i), lane[i], width, first + step * i) for i in range(lanes)]

    @always_comb
    def join():
        q.next = glued

    return lines, join

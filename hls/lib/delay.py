# SPDX-License-Identifier: Apache-2.0
"""Delay lines. Those that run freely map to shift-register LUTs; others hold what nothing comes behind."""

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


@block
def shift_held(clk, moves, d, late, q, width, cycles):
    """`shift` of ``d``, of which a stage stays as it is where the flag ``moves`` did not come with it; ``late``: the
    flag, when ``q`` is there, unless it is None."""
    last = max(cycles - 1, 0) if late is None else cycles
    flags = [moves, *(Signal(False) for _ in range(last))]
    arrived = flags[last]
    follow = [shift(clk, flags[k], flags[k + 1], 1, 1) for k in range(last)]
    move = shift_occupied(clk, flags[:cycles], d, q, width) if cycles else shift(clk, d, q, width, 0)
    if late is None:
        return follow, move

    @always_comb
    def arrive():
        late.next = arrived

    return follow, move, arrive


@unit(out="q")
def delay_line(clk, d, q, moves=None, *, width, cycles):
    """q is d, `cycles` (1 or more) clock cycles later; both are `width` bits.

    With `moves`, a stage stays as it is where that did not come with it.
    """
    return shift(clk, d, q, width, cycles) if moves is None else shift_held(clk, moves, d, None, q, width, cycles)


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
def skew(clk, d, q, moves=None, *, lanes, width, first, step, apart=0):
    """Lane i ([width i +: width]) of q is that of d, `first + step * i` clock cycles later; not 0 for all.

    With `moves`, a lane's stage stays as it is unless something comes to it. Then d's lane i is itself `apart * i`
    cycles late, and a bit of moves belongs to each cycle in which any stage takes something, the earliest first.
    """
    lane = [Signal(intbv(0)[width:]) for _ in range(lanes)]
    glued = glue(lane)
    lines, earliest = [], 0 if first else apart
    for i in range(lanes):
        cycles, source = first + step * i, d(width * i + width, width * i)
        if moves is None or cycles == 0:
            lines.append(shift(clk, source, lane[i], width, cycles))
        else:
            flags = [moves(apart * i + k - earliest) for k in range(cycles)]
            lines.append(shift_occupied(clk, flags, source, lane[i], width))

    @always_comb
    def join():
        q.next = glued

    return lines, join


@unit(out="late q")
def lane_skew(clk, moves, d, late, q, *, lanes, width, step):
    """`skew` from 0 cycles on of lanes that stay as they are without their flag in `moves`; `late`: their flags."""
    lane, flag = ([Signal(intbv(0)[width:]) for _ in range(lanes)], [Signal(False) for _ in range(lanes)])
    glued, flags = glue(lane), glue(flag)
    lines = [
        shift_held(clk, moves(i), d(width * i + width, width * i), flag[i], lane[i], width, step * i)
        for i in range(lanes)
    ]

    @always_comb
    def join():
        q.next = glued
        late.next = flags

    return lines, join

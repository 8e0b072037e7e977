# SPDX-License-Identifier: Apache-2.0
"""`aligned` arithmetic: block-aligned integer sums, one rounding per column.

Dense mode. A vector of R FP32 lanes shares one exponent. With e = max(exponent field, 1) and the 24-bit
significand m of each lane (0.fraction for subnormals), E is the largest e of the vector. A lane becomes the
signed 27-bit integer s = +-(4 m >> (E - e)), its magnitude rounded to nearest, ties away from zero. A
processing element adds s * w, w being an INT8 weight, to the column's partial sum, exactly. The sum stands
for psum * 2**(E - 152); the normaliser turns it into FP32, rounding to nearest even once, subnormals kept,
overflow to an infinity. A zero sum is +0. A NaN or an infinity in any lane makes every column of the vector
NaN.

Diagonal mode. Column c takes lane c only, with that lane's own exponent, so that the result is the correctly
rounded product, NaN and infinities as in IEEE-754. A zero result is +0, except that with `max_mode` a lane of
-0 stays -0. Columns without a lane give +0.

Every NaN produced is 0x7FC00000.
"""

import numpy as np
from myhdl import ConcatSignal, Signal, always, always_comb, block, concat, intbv, modbv

from hls.arithmetic.aligned_model import align_model
from hls.arithmetic.fp32 import NAN
from hls.lib.delay import delay_line, glue, occupancy, shift, shift_held, shift_occupied
from hls.lib.select import both
from hls.lib.unit import unit
from hls.lib.zeros import leading_zeros

LANE_BITS = 27
META_BITS = 9  # of a column: exponent [7:0] and flag; see `aligned_edge`
COARSE_SHIFT = 10  # beyond 2 guard bits and 8 bits of the significand

ALIGN_STAGES = 3
NORMALISE_LATENCY = 4


def psum_bits(rows: int) -> int:
    """Bits of a signed sum of `rows` products of a 27-bit lane (|s| < 2**26) and an INT8."""
    return 34 + (rows - 1).bit_length()


def max_stages(rows: int) -> int:
    """Pipeline stages of the exponent maximum: two levels of comparisons in each."""
    return max(1, ((rows - 1).bit_length() + 1) // 2)


def edge_latency(rows: int) -> int:
    """Cycles from a vector to its aligned lanes."""
    return max_stages(rows) + ALIGN_STAGES


# NumPy models


def precision_loss(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(lost, coarse) lanes per dense vector: aligned to zero, and aligned by more than 10 places.

    Ten places are the two guard bits and 8 bits of the significand. Zero lanes are not counted, nor are
    vectors with a NaN or an infinity; lost lanes that moved by more than 10 places count in both.
    """
    vectors = np.ascontiguousarray(vectors, np.uint32)
    lanes, exponent = align_model(vectors)
    counted = (vectors << np.uint32(1) != 0) & (exponent != 255)[:, None]
    places = exponent[:, None] - np.maximum(vectors >> 23 & 255, 1)
    return (counted & (lanes == 0)).sum(axis=1), (counted & (places > COARSE_SHIFT)).sum(axis=1)


# Edge: alignment of a vector


@block
def larger(a, b, y):
    @always_comb
    def choose():
        if a > b:
            y.next = a
        else:
            y.next = b

    return choose


@unit(out="maximum")
def exponent_max(clk, fields, maximum, *, lanes):
    """Largest exponent field of `lanes` FP32 words, at least 1, max_stages(lanes) cycles later."""
    level = [Signal(intbv(0)[8:]) for _ in range(lanes)]
    parts = [true_exponent(fields(8 * i + 8, 8 * i), level[i]) for i in range(lanes)]
    nodes = []
    for _ in range(max_stages(lanes)):
        for _level in range(2):
            pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
            level = [Signal(intbv(0)[8:]) if len(pair) == 2 else pair[0] for pair in pairs]
            parts += [larger(*pair, y) for pair, y in zip(pairs, level) if len(pair) == 2]
            nodes += level
        stored = [Signal(intbv(0)[8:]) for _ in level]
        parts += [store(clk, d, q) for d, q in zip(level, stored)]
        nodes += stored
        level = stored
    last = level[0]

    @always_comb
    def output():
        maximum.next = last

    return parts, output


@block
def true_exponent(field, exponent):
    """Subnormals have the exponent of the least normal number."""

    @always_comb
    def decode():
        exponent.next = field
        if field == 0:
            exponent.next = 1

    return decode


@block
def store(clk, d, q):
    @always(clk.posedge)
    def copy():
        q.next = d

    return copy


@unit(out="some late_some late")
def waiting_lane(clk, valid, x, some, late_some, late, *, cycles):
    """A lane `x` of a `valid` vector, `cycles` (1 or more) later; `some`: it is not 0.

    Of one that is 0, the sign alone is `late`.
    """
    sign, magnitude = Signal(False), Signal(intbv(0)[31:])

    @always_comb
    def look():
        some.next = valid and x[31:] != 0

    @always_comb
    def join():
        late.next = concat(sign, magnitude)

    signs = shift(clk, x(31), sign, 1, cycles)
    return look, join, signs, shift_held(clk, some, x(31, 0), late_some, magnitude, 31, cycles)


@unit(out="some_out aligned lost coarse")
def align_lane(clk, some, x, exponent_max, diag, some_out, aligned, lost, coarse):
    """One lane that is not 0 (`some`): FP32 x to a signed 27-bit integer, ALIGN_STAGES cycles later; `diag`: without a
    shift. For others nothing moves.

    `lost`: it was not zero and is now. `coarse`: it was not zero and moved by more than 10 places.
    """
    exponent = Signal(intbv(0)[8:])
    places = Signal(modbv(0)[8:])  # wraps only before the first vector
    sign1, sign2, some1, some2, coarse1, coarse2 = (Signal(False) for _ in range(6))
    significand1 = Signal(intbv(0)[24:])
    shift1 = Signal(intbv(0)[5:])
    shifted2 = Signal(intbv(0)[27:])  # the last bit is the one that rounds
    magnitude = Signal(intbv(0)[26:])

    decode = true_exponent(x(31, 23), exponent)

    @always_comb
    def distance():
        places.next = exponent_max - exponent

    @always(clk.posedge)
    def subtract():
        some1.next = some
        coarse1.next = some and places > COARSE_SHIFT and not diag
        if some:
            sign1.next = x[31]
            significand1.next = concat(x[31:23] != 0, x[23:])
            if diag:
                shift1.next = 0
            elif places[8:5] != 0:
                shift1.next = 31
            else:
                shift1.next = places[5:]

    @always(clk.posedge)
    def shift():
        some2.next = some1
        coarse2.next = coarse1
        if some1:
            sign2.next = sign1
            shifted2.next = concat(significand1, intbv(0)[3:]) >> shift1

    @always_comb
    def invert():
        magnitude.next = shifted2[27:1]
        if sign2:
            magnitude.next = ~shifted2[27:1]

    @always(clk.posedge)
    def round_and_negate():
        total = modbv(0)[LANE_BITS:]
        total[:] = concat(sign2, magnitude) + concat(intbv(0)[26:], sign2 != shifted2[0])
        some_out.next = some2
        lost.next = some2 and shifted2 == 0
        coarse.next = coarse2
        if some2:
            aligned.next = total

    return decode, distance, subtract, shift, invert, round_and_negate


@unit(out="meta")
def column_meta(clk, valid, some, x, max_mode, meta):
    """What the normaliser of a column must know of a `valid` vector of a diagonal tile: exponent, and a flag in bit 8.
    Without `some` the lane is 0, and x has its sign alone.

    Exponent 255: the lane is an infinity (flag) or the result is NaN. Otherwise: a zero sum is -0 (flag).
    """
    exponent = Signal(intbv(0)[8:])
    decode = true_exponent(x(31, 23), exponent)

    @always(clk.posedge)
    def choose():
        if valid:
            if not some:
                meta.next = concat(max_mode and x[31], intbv(1)[8:])
            else:
                meta.next = concat(exponent == 255 and x[23:] == 0, exponent)

    return decode, choose


@unit(out="total")
def count_ones(flags, total, *, bits):
    """Number of ones among the `bits` flags."""
    if bits == 1:

        @always_comb
        def same():
            total.next = flags

        return same

    if bits <= 4:
        width = len(total)

        @always_comb
        def count():
            n = intbv(0)[width:]
            n[:] = 0
            for i in range(bits):
                if flags[i]:
                    n[:] = n + 1
            total.next = n

        return count

    half = bits // 2
    low, high = Signal(intbv(0)[half.bit_length() :]), Signal(intbv(0)[(bits - half).bit_length() :])
    pad_low, pad_high = len(total) - len(low), len(total) - len(high)
    halves = (count_ones(flags(half, 0), low, bits=half), count_ones(flags(bits, half), high, bits=bits - half))

    if pad_high == 0:

        @always_comb
        def add():
            total.next = concat(intbv(0)[pad_low:], low) + high
    else:

        @always_comb
        def add():
            total.next = concat(intbv(0)[pad_low:], low) + concat(intbv(0)[pad_high:], high)

    return halves, add


@unit(out="entering some aligned judged diagonal exponent meta lost_lanes coarse_lanes")
def aligned_edge(
    clk,
    valid,
    vec,
    diag,
    max_mode,
    entering,
    some,
    aligned,
    judged,
    diagonal,
    exponent,
    meta,
    lost_lanes,
    coarse_lanes,
    *,
    rows,
    cols,
):
    """Align a vector of `rows` FP32 lanes.

    aligned, `entering` with it: lane r at [27 r +: 27], edge_latency(rows) cycles later; `some` in bit r: it is not 0,
    else the lane is the one before. `judged`, max_stages(rows) + 1 cycles later, and with it exponent, or of `diagonal`
    tiles meta, column c at [9 c +: 9]. Counts of lanes that lost precision: edge_latency(rows) + 1 cycles later.
    """
    stages = max_stages(rows)
    x = [Signal(intbv(0)[32:]) for _ in range(rows)]
    here, some_s, moved = ([Signal(False) for _ in range(rows)] for _ in range(3))
    largest = Signal(intbv(0)[8:])
    control, control_s = ConcatSignal(diag, max_mode), Signal(intbv(0)[2:])
    diag_s, max_s = control_s(1), control_s(0)
    occupied = Signal(intbv(0)[edge_latency(rows) :])
    counted_s, counted, own_s = (Signal(False) for _ in range(3))
    lane = [Signal(intbv(0)[LANE_BITS:]) for _ in range(rows)]
    column = [Signal(intbv(0)[META_BITS:]) for _ in range(cols)]
    lost, coarse = ([Signal(False) for _ in range(rows)] for _ in range(2))
    all_lost, all_coarse = (glue(flags) for flags in (lost, coarse))
    lost_count, coarse_count = (Signal(intbv(0)[len(lost_lanes) :]) for _ in range(2))

    field = [vec(32 * r + 31, 32 * r + 23) for r in range(rows)]
    fields = glue(field)

    look = exponent_max(clk, fields, largest, lanes=rows)
    inside = occupancy(clk, valid, occupied)
    valid_s = occupied(stages - 1)
    wait = [
        waiting_lane(clk, valid, vec(32 * r + 32, 32 * r), here[r], some_s[r], x[r], cycles=stages) for r in range(rows)
    ]
    lanes_in, no_lane = list(zip(some_s, x)), (False, intbv(0)[32:])
    wait_control = delay_line(clk, control, control_s, width=2, cycles=stages)
    lanes = [
        align_lane(
            clk=clk,
            some=some_s[r],
            x=x[r],
            exponent_max=largest,
            diag=diag_s,
            some_out=moved[r],
            aligned=lane[r],
            lost=lost[r],
            coarse=coarse[r],
        )
        for r in range(rows)
    ]
    columns = [column_meta(clk, own_s, *(lanes_in[c] if c < rows else no_lane), max_s, column[c]) for c in range(cols)]
    counts = (count_ones(all_lost, lost_count, bits=rows), count_ones(all_coarse, coarse_count, bits=rows))
    wait_counted = delay_line(clk, counted_s, counted, width=1, cycles=ALIGN_STAGES)
    last = edge_latency(rows) - 1
    all_lanes = glue(lane)
    all_columns = glue(column)
    all_moved = glue(moved)

    @always_comb
    def finite():
        counted_s.next = valid_s and largest != 255
        own_s.next = valid_s and diag_s

    @always(clk.posedge)
    def judge():
        judged.next = valid_s
        if valid_s:
            diagonal.next = diag_s
            exponent.next = largest

    @always(clk.posedge)
    def count():
        lost_lanes.next = 0
        coarse_lanes.next = 0
        if counted:
            lost_lanes.next = lost_count
            coarse_lanes.next = coarse_count

    @always_comb
    def output():
        entering.next = occupied[last]
        some.next = all_moved
        aligned.next = all_lanes
        meta.next = all_columns

    return look, inside, wait, wait_control, lanes, columns, counts, wait_counted, finite, judge, count, output


@unit(out="late")
def meta_skew(clk, valid, diag, exponent, meta, late, *, cols, first):
    """What the normalisers must know, column c's `first + c` (2 or more) cycles late.

    Of dense vectors that is `exponent`, which they share, of those of diagonal tiles (`diag`) what is in `meta`.
    """
    last = first + cols - 1
    valids, diags = ([flag, *(Signal(False) for _ in range(last - 1))] for flag in (valid, diag))
    exponents = [exponent, *(Signal(intbv(0)[8:]) for _ in range(last - 1))]
    moves = [Signal(False) for _ in range(last - 1)]
    columns, arrived = ([Signal(intbv(0)[META_BITS:]) for _ in range(cols)] for _ in range(2))
    all_arrived = glue(arrived)
    parts = []
    for k in range(last - 1):
        parts += [shift(clk, valids[k], valids[k + 1], 1, 1), shift(clk, diags[k], diags[k + 1], 1, 1)]
        parts += [
            shift_occupied(clk, [valids[k]], exponents[k], exponents[k + 1], 8),
            both(valids[k], diags[k], moves[k]),
        ]
    for c in range(cols):
        cycles = first + c - 1
        own = meta(META_BITS * (c + 1), META_BITS * c)
        parts.append(shift_occupied(clk, moves[:cycles], own, columns[c], META_BITS))
        parts.append(_arrive(clk, valids[cycles], diags[cycles], exponents[cycles], columns[c], arrived[c]))

    @always_comb
    def join():
        late.next = all_arrived

    return parts, join


@block
def _arrive(clk, valid, diag, exponent, column, meta):
    @always(clk.posedge)
    def choose():
        if valid:
            meta.next = column if diag else concat(False, exponent)

    return choose


# Normaliser: column sum to FP32


@unit(out="y")
def normaliser(clk, occupied, psum, meta, y, *, rows):
    """psum * 2**(exponent - 152) as FP32, NORMALISE_LATENCY cycles later; `meta` as in `column_meta`.

    Stage k moves where bit k of `occupied` is set.
    """
    bits = psum_bits(rows) - 1  # of the magnitude
    low = bits - 24  # below the significand: one bit that rounds, the others sticky
    sign1, sign2, sign3, negative = (Signal(False) for _ in range(4))
    zero2, zero3 = Signal(False), Signal(False)
    inverted, magnitude1, magnitude2, magnitude3 = (Signal(intbv(0)[bits:]) for _ in range(4))
    limit, limit1 = (Signal(intbv(0)[27:]) for _ in range(2))
    meta1, meta2, meta3 = (Signal(intbv(0)[META_BITS:]) for _ in range(3))
    marked = Signal(intbv(0)[64:])
    zeros, zeros2 = (Signal(intbv(0)[6:]) for _ in range(2))
    exponent3 = Signal(modbv(0)[9:])  # of no meaning for a zero sum

    @always_comb
    def read():
        negative.next = psum < 0
        inverted.next = psum[bits:]
        if psum < 0:
            inverted.next = ~psum[bits:]
        # Marks the place where a subnormal's leading zeros end
        limit.next = concat(True, intbv(0)[26:]) >> meta[8:]

    @always(clk.posedge)
    def absolute():
        if occupied[0]:
            magnitude1.next = inverted + concat(intbv(0)[bits - 1 :], negative)
            sign1.next = negative
            meta1.next = meta
            limit1.next = limit

    @always_comb
    def mark():
        marked.next = concat(magnitude1 | concat(intbv(0)[bits - 27 :], limit1), intbv(0)[64 - bits :])

    @always(clk.posedge)
    def count_zeros():
        if occupied[1]:
            zeros2.next = zeros
            magnitude2.next = magnitude1
            zero2.next = magnitude1 == 0
            sign2.next = sign1
            meta2.next = meta1

    @always(clk.posedge)
    def shift():
        if occupied[2]:
            magnitude3.next = magnitude2 << zeros2
            exponent3.next = concat(False, meta2[8:]) + (bits - 26) - concat(intbv(0)[3:], zeros2)
            zero3.next = zero2
            sign3.next = sign2
            meta3.next = meta2

    @always(clk.posedge)
    def round_and_pack():
        field = intbv(0)[9:]
        rounded = intbv(0)[32:]
        up = magnitude3[low - 1] and (magnitude3[low] or magnitude3[low - 1 :] != 0)
        field[:] = 0
        if magnitude3[bits - 1]:
            field[:] = exponent3
        rounded[:] = concat(field, magnitude3[bits - 1 : low]) + concat(intbv(0)[31:], up)
        if occupied[3]:
            if meta3[8:] == 255 and (zero3 or not meta3[8]):
                y.next = NAN
            elif meta3[8:] == 255 or rounded[32:23] >= 255:
                y.next = concat(sign3, intbv(0xFF)[8:], intbv(0)[23:])
            elif zero3:
                y.next = concat(meta3[8], intbv(0)[31:])
            else:
                y.next = concat(sign3, rounded[31:])

    return read, absolute, mark, leading_zeros(marked, zeros), count_zeros, shift, round_and_pack

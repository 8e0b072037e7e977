# SPDX-License-Identifier: Apache-2.0
"""Function unit: y = f(x) on FP32 for any f that a table of quadratic segments describes.

A table is at most TABLE_WORDS words, in pairs. Its first DIRECTORY_WORDS hold 64 entries of 16 bits, the low half
first; the entry of x is sign * 32 + the biased exponent, less the table's lowest and clamped to 0..31. It says where
the segments of that octave begin (pair number, 8 bits) and how many there are (2**k, k in the 3 bits above); the first
entry has in the 5 bits above that by how much the lowest exponent is more than LEAST_EXPONENT. Of the significand's
fraction, inverted where x is negative so that it grows with x, the top k bits choose a segment, the 17 bits below are
t, from 0 to 1, and

    p = c0 + t * (c1 + t * c2),    y = p * 2**(exponent - 127)

with c0 from -2 to 2, c1 from -1 to 1 and c2 from -1/4 to 1/4. A segment is a pair of words, from the high bits down:

    c0 22 bits, unit 2**-20 | kind 2 bits | exponent 8 bits
    c1 18 bits, unit 2**-17 | c2 14 bits, unit 2**-15

Kinds: ABSOLUTE as above; NAN_AT_INFINITY likewise, but NaN where x is infinite; RELATIVE: y is multiplied by x's power
of two besides, 0 where that is 0 or subnormal and infinite where x is; IDENTITY: y is x, bit for bit. Products are
truncated, p is a sum of 20 fraction bits and therefore exact in FP32; results below the normal numbers are zeros with
the sign of p, those above are infinite. NaN gives NaN.
"""

import numpy as np
from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.arithmetic.fp32 import NAN, POS_INF
from hls.lib.delay import shift_enabled
from hls.lib.unit import unit
from hls.lib.wiring import ignore
from hls.lib.zeros import leading_zeros

FUNCTION_LATENCY = 10

TABLE_SLOTS = 2
TABLE_WORDS = 512
ROW_WORDS = 8
DIRECTORY_WORDS = 32
LEAST_EXPONENT = 96
EXPONENT_BITS = 5
OCTAVES = 32
MAX_K = 7

C0_BITS, C1_BITS, C2_BITS = 22, 18, 14
C0_FRACTION, C1_FRACTION, C2_FRACTION = 20, 17, 15
T_BITS = 17

ABSOLUTE, NAN_AT_INFINITY, RELATIVE, IDENTITY = range(4)


def function_model(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    """f(x) on uint32 bit patterns, element-wise, with a table of uint32 words; raises IndexError beyond its end."""
    x, table = np.asarray(x, np.uint32), np.asarray(table, np.uint32)
    sign, exponent = x >> 31, (x >> 23 & 255).astype(np.int64)
    fraction = (np.where(sign == 1, ~x, x) & 0x7FFFFF).astype(np.int64)
    entry = sign * OCTAVES + np.clip(exponent - lowest_exponent(table), 0, OCTAVES - 1)
    place = table[entry // 2].astype(np.int64) >> (entry % 2 * 16)
    k = place >> 8 & MAX_K
    pair = ((place & 255) + (fraction >> 23 - k)) % (TABLE_WORDS // 2)
    t = (fraction << k & 0x7FFFFF) >> 23 - T_BITS
    high, low = table[2 * pair].astype(np.int64), table[2 * pair + 1].astype(np.int64)
    c0, c1, c2 = _signed(high >> 10, C0_BITS), _signed(low >> 14, C1_BITS), _signed(low, C2_BITS)
    kind, scale = high >> 8 & 3, high & 255

    slope = _signed(c1 + (c2 * t >> T_BITS + C2_FRACTION - C1_FRACTION), C1_BITS)
    p = c0 + (slope * t >> T_BITS + C1_FRACTION - C0_FRACTION)
    bits = np.abs(p).astype(np.float32).view(np.uint32).astype(np.int64)
    shift = scale - 127 - C0_FRACTION + np.where(kind == RELATIVE, exponent - 127, 0)
    packed = bits + (shift << 23)
    power, ends = packed >> 23, kind == RELATIVE
    zero = (p == 0) | (power <= 0) | (ends & (exponent == 0))
    infinite = (power >= 255) | (ends & (exponent == 255))
    size = np.where(zero, 0, np.where(infinite, POS_INF, packed))
    y = np.where(kind == IDENTITY, x, size | np.where(p < 0, 1 << 31, 0))
    nan = (exponent == 255) & ((x & 0x7FFFFF != 0) | (kind == NAN_AT_INFINITY))
    return np.where(nan, NAN, y).astype(np.uint32)


def lowest_exponent(table: np.ndarray) -> int:
    """Biased exponent of a table's first octave, which also holds for all below."""
    return LEAST_EXPONENT + (int(table[0]) >> 11 & (1 << EXPONENT_BITS) - 1)


def reach(table: np.ndarray) -> int:
    """Words of a table as far as its directory says."""
    entries = table[:DIRECTORY_WORDS].view(np.uint16).astype(int)
    return max(DIRECTORY_WORDS, 2 * int(((entries & 255) + (1 << (entries >> 8 & MAX_K))).max()))


def _signed(value: np.ndarray, bits: int) -> np.ndarray:
    """The low bits of a value as a two's complement number."""
    half = 1 << bits - 1
    return (value + half & 2 * half - 1) - half


class TableWrite:
    """A pair of a table's words: ``data``, the first one low, is the ``pair``-th while ``valid``."""

    def __init__(self) -> None:
        self.valid = Signal(bool(0))
        self.pair = Signal(modbv(0)[8:])
        self.data = Signal(intbv(0)[64:])


@unit(out="y")
def function_lane(clk, en, x, slot, table, y):
    """`function_model` on one value per cycle, FUNCTION_LATENCY cycles with ``en`` later; the others change nothing.

    ``slot`` is the table of the values, and of the pairs of words that ``table`` (`TableWrite`) brings; it may change
    only while no value is inside.
    """
    segment, t = Signal(intbv(0)[64:]), Signal(intbv(0)[T_BITS:])
    x_found = Signal(intbv(0)[32:])
    power_start, power = (Signal(modbv(0)[10:]) for _ in range(2))
    verbatim_start, verbatim = (Signal(intbv(0)[33:]) for _ in range(2))
    p = Signal(modbv(0)[23:])
    return (
        _find(clk, en, x, slot, table, segment, t),
        shift_enabled(clk, en, x, x_found, 32, 3),
        _evaluate(clk, en, segment, t, p),
        _interpret(clk, en, segment, x_found, power_start, verbatim_start),
        shift_enabled(clk, en, power_start, power, 10, 4),
        shift_enabled(clk, en, verbatim_start, verbatim, 33, 5),
        _pack(clk, en, p, power, verbatim, y),
    )


@block
def _find(clk, en, x, slot, table, segment, t):
    """The segment of x and its place in there, 3 cycles later."""
    segments = [Signal(intbv(0)[64:]) for _ in range(TABLE_SLOTS * TABLE_WORDS // 2)]
    directory = [Signal(intbv(0)[44:]) for _ in range(TABLE_SLOTS * DIRECTORY_WORDS // 2)]
    lowest = [Signal(intbv(0)[EXPONENT_BITS:]) for _ in range(TABLE_SLOTS)]
    octave = Signal(intbv(0)[5:])
    pair_written, pair_read = (Signal(intbv(0)[9:]) for _ in range(2))
    row_written, row_read = (Signal(intbv(0)[5:]) for _ in range(2))
    entries, pair_word = Signal(intbv(0)[44:]), Signal(intbv(0)[64:])
    column1, fraction1 = Signal(intbv(0)[2:]), Signal(intbv(0)[23:])
    place, t1, t2 = (Signal(intbv(0)[T_BITS:]) for _ in range(3))

    @always_comb
    def look():
        above = modbv(0)[9:]
        above[:] = concat(False, x[31:23]) - concat(intbv(LEAST_EXPONENT >> EXPONENT_BITS)[4:], lowest[slot])
        if above[8]:
            octave.next = 0
        elif above[8:5] != 0:
            octave.next = OCTAVES - 1
        else:
            octave.next = above[5:]

    @always_comb
    def address():
        pair_written.next = concat(slot, table.pair)
        row_written.next = concat(slot, table.pair[4:])
        row_read.next = concat(slot, x[31], octave[5:2])

    @always(clk.posedge)
    def read_directory():
        if table.valid and table.pair[8:4] == 0:
            directory[row_written].next = concat(
                table.data[59:48], table.data[43:32], table.data[27:16], table.data[11:]
            )
            if table.pair[4:] == 0:
                lowest[slot].next = table.data[16:11]
        if en:
            entries.next = directory[row_read]

    @always(clk.posedge)
    def keep():
        if en:
            column1.next = octave[2:]
            fraction1.next = ~x[23:] if x[31] else x[23:]
            t2.next = t1
            t.next = t2
            segment.next = pair_word

    @always_comb
    def choose():
        entry = intbv(0)[11:]
        m = intbv(0)[30:]
        base = modbv(0)[8:]
        if column1 == 0:
            entry[:] = entries[11:]
        elif column1 == 1:
            entry[:] = entries[22:11]
        elif column1 == 2:
            entry[:] = entries[33:22]
        else:
            entry[:] = entries[44:33]
        m[:] = concat(intbv(0)[7:], fraction1)
        if entry[10]:
            m[:] = concat(m[26:], intbv(0)[4:])
        if entry[9]:
            m[:] = concat(m[28:], intbv(0)[2:])
        if entry[8]:
            m[:] = concat(m[29:], False)
        base[:] = entry[8:]
        base[:] = base + concat(False, m[30:23])
        pair_read.next = concat(slot, base)
        t1.next = m[23:6]

    @always(clk.posedge)
    def read_segment():
        if table.valid:
            segments[pair_written].next = table.data
        if en:
            pair_word.next = segments[pair_read]

    return look, address, read_directory, keep, choose, read_segment


@block
def _evaluate(clk, en, segment, t, p):
    """p of a segment at t, in its units, 4 cycles later."""
    c0_start, c0 = (Signal(intbv(0)[C0_BITS:]) for _ in range(2))
    c1, slope = (Signal(modbv(0)[C1_BITS:]) for _ in range(2))
    t4, t5 = (Signal(intbv(0)[T_BITS:]) for _ in range(2))
    curve = Signal(intbv(0, min=-(1 << 31), max=1 << 31))
    rise = Signal(intbv(0, min=-(1 << 35), max=1 << 35))

    @always_comb
    def split():
        c0_start.next = segment[32:10]

    @always(clk.posedge)
    def evaluate():
        if en:
            curve.next = segment[46:32].signed() * concat(False, t).signed()
            c1.next = segment[64:46]
            t4.next = t
            slope.next = c1 + concat(curve[31], curve[32:15])
            t5.next = t4
            rise.next = slope.signed() * concat(False, t5).signed()
            p.next = concat(c0[C0_BITS - 1], c0) + concat(rise[35], rise[36:14])

    c0_delay = shift_enabled(clk, en, c0_start, c0, C0_BITS, 3)
    return split, c0_delay, evaluate, ignore(curve, 0, 15), ignore(rise, 0, 14)


@block
def _interpret(clk, en, segment, x, power, verbatim):
    """What a segment's kind makes of x, a cycle later.

    power: that of a p whose highest bit is set, biased; such that the result's is 0 or less where it is 0, 255 or more
    where it is infinite. verbatim: [32] whether the result is that of the bits below instead.
    """

    @always(clk.posedge)
    def interpret():
        kind = intbv(0)[2:]
        if en:
            kind[:] = segment[10:8]
            power.next = concat(intbv(0)[2:], segment[8:]) + 1
            if kind == RELATIVE:
                if x[31:23] == 0:
                    power.next = 0
                elif x[31:23] == 255:
                    power.next = 255 + 22
                else:
                    power.next = concat(intbv(0)[2:], segment[8:]) + concat(intbv(0)[2:], x[31:23]) - 126
            verbatim.next = concat(kind == IDENTITY, x)
            if x[31:23] == 255 and (x[23:] != 0 or kind == NAN_AT_INFINITY):
                verbatim.next = concat(True, intbv(NAN)[32:])

    return interpret


@block
def _pack(clk, en, p, power, verbatim, y):
    """p as FP32, unless its place is taken, 3 cycles later."""
    negative8, negative9 = (Signal(bool(0)) for _ in range(2))
    size8, size9 = (Signal(modbv(0)[22:]) for _ in range(2))
    power9 = Signal(modbv(0)[10:])
    word, left = Signal(intbv(0)[32:]), Signal(intbv(0)[5:])

    @always_comb
    def mark():
        word.next = concat(size8, intbv(0x3FF)[10:])

    @always(clk.posedge)
    def pack():
        m = intbv(0)[22:]
        if en:
            negative8.next = p[22]
            size8.next = -p[22:] if p[22] else p[22:]
            m[:] = size8
            if left[4]:
                m[:] = concat(m[6:], intbv(0)[16:])
            if left[3]:
                m[:] = concat(m[14:], intbv(0)[8:])
            if left[2]:
                m[:] = concat(m[18:], intbv(0)[4:])
            if left[1]:
                m[:] = concat(m[20:], intbv(0)[2:])
            if left[0]:
                m[:] = concat(m[21:], False)
            size9.next = m
            power9.next = power - concat(intbv(0)[5:], left)
            negative9.next = negative8
            if verbatim[32]:
                y.next = verbatim[32:]
            elif not size9[21]:
                y.next = 0
            elif power9[9] or power9 == 0:
                y.next = concat(negative9, intbv(0)[31:])
            elif power9[8] or power9[8:] == 255:
                y.next = concat(negative9, intbv(0xFF)[8:], intbv(0)[23:])
            else:
                y.next = concat(negative9, power9[8:], size9[21:], intbv(0)[2:])

    return mark, leading_zeros(word, left), pack

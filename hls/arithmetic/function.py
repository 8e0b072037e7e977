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

from hls.arithmetic.fp32 import NAN, POS_INF

TABLE_WORDS = 512
ROW_WORDS = 8
DIRECTORY_WORDS = 32
LEAST_EXPONENT = 96
EXPONENT_BITS = 5
OCTAVES = 32
MAX_SEGMENTS = (TABLE_WORDS - DIRECTORY_WORDS) // 2
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


def _signed(value: np.ndarray, bits: int) -> np.ndarray:
    """The low bits of a value as a two's complement number."""
    half = 1 << bits - 1
    return (value + half & 2 * half - 1) - half

# SPDX-License-Identifier: Apache-2.0
"""FP32 x INT8 fused multiply-add: the processing element of the `fma` arithmetic."""

import numpy as np
from myhdl import Signal, always, always_comb, concat, intbv, modbv
from numpy.typing import ArrayLike

from hls.arithmetic.fp32 import FINITE, INFINITE, INVALID, VERBATIM, canonical, round_pack
from hls.lib.unit import unit

FMA_LATENCY = 4


def fma_model(a: np.ndarray, w: np.ndarray, acc: np.ndarray) -> np.ndarray:
    """RNE(a * w + acc), element-wise: a, acc uint32 bit patterns, w int8; returns uint32.

    The product is exact in float64; its sum with acc is rounded to odd there (TwoSum tells whether it was
    inexact), which makes the second rounding, to float32, the only one that counts.
    """
    a, acc = np.asarray(a, np.uint32), np.asarray(acc, np.uint32)
    with np.errstate(all="ignore"):
        product = a.view(np.float32).astype(np.float64) * np.asarray(w, np.int8)
    return _rounded_sum(product, acc.view(np.float32).astype(np.float64))


def _rounded_sum(p: np.ndarray, c: np.ndarray) -> np.ndarray:
    """p + c of float64 that are exact, rounded once to float32, as uint32."""
    with np.errstate(all="ignore"):
        total = np.asarray(p + c)
        virtual = total - p
        error = (p - (total - virtual)) + (c - virtual)
        bits = total.view(np.int64)
        inexact = (error != 0) & np.isfinite(total) & (bits & 1 == 0)
        towards_zero = (error < 0) != (total < 0)
        bits = np.where(inexact, np.where(towards_zero, bits - 1, bits | 1), bits)
        return canonical(bits.view(np.float64).astype(np.float32).view(np.uint32))


def fma_float_model(a: ArrayLike, b: ArrayLike, acc: ArrayLike) -> np.ndarray:
    """RNE(a * b + acc), element-wise, of float32: `fma_model` with a factor that is no integer; the product of two
    numbers of float32 is exact in float64, too."""
    with np.errstate(all="ignore"):
        product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    return _rounded_sum(product, np.asarray(acc, np.float64)).view(np.float32)


@unit(out="y")
def fp32_int8_fma(clk, a, w, gate, acc, y):
    """y = a * w + acc, rounded once to nearest even, FMA_LATENCY cycles later.

    All inputs are sampled in the same cycle; w[8] is two's complement, w = 0 is +0. With gate high y = acc,
    bit for bit. Free running, one operation per cycle.
    """
    product1 = Signal(intbv(0)[31:])
    addend1 = Signal(intbv(0)[24:])
    exp1, shift1, exp2, exp3, exp4 = (Signal(intbv(0)[9:]) for _ in range(5))
    acc_larger1, sign_p1, sign_c1, sub2, sign2, sign3 = (Signal(False) for _ in range(6))
    left3, below3 = Signal(intbv(0)[3:]), Signal(False)
    special1, special2, special3 = (Signal(intbv(0)[2:]) for _ in range(3))
    sum2, sum3 = (Signal(intbv(0)[35:]) for _ in range(2))
    sig4 = Signal(intbv(0)[26:])

    @always(clk.posedge)
    def multiply():
        # The product stays un-normalised: 31 bits against acc * 2**7, with exponent a + 7 against acc's.
        magnitude = intbv(0)[8:]
        exp_a = intbv(0)[8:]
        exp_c = intbv(0)[9:]
        exp_p = intbv(0)[9:]
        inf_a = a[31:23] == 255  # or NaN
        inf_c = acc[31:23] == 255
        nan = (inf_c and acc[23:] != 0) or (inf_a and a[23:] != 0)
        magnitude[:] = w
        if w[7]:
            magnitude[:] = ~w + 1
        exp_a[:] = a[31:23]
        if exp_a == 0:
            exp_a[0] = True
        exp_c[:] = concat(False, acc[31:23])
        if exp_c == 0:
            exp_c[0] = True
        if gate or inf_c or w == 0 or a[31:] == 0:  # no product: acc goes through
            magnitude[:] = 0
            exp_p[:] = 0
        else:
            exp_p[:] = concat(False, exp_a) + 7
        product1.next = concat(intbv(0)[7:], a[31:23] != 0, a[23:]) * concat(intbv(0)[23:], magnitude)
        addend1.next = concat(acc[31:23] != 0, acc[23:])
        sign_c1.next = acc[31]
        sign_p1.next = acc[31] if gate else a[31] != w[7]
        acc_larger1.next = exp_c >= exp_p
        if exp_c >= exp_p:
            exp1.next = exp_c
            shift1.next = exp_c - exp_p
        else:
            exp1.next = exp_p
            shift1.next = exp_p - exp_c
        if gate:
            special1.next = VERBATIM
        elif nan or (inf_a and (w == 0 or (inf_c and (a[31] != w[7]) != acc[31]))):
            special1.next = INVALID
        elif inf_c or inf_a:
            special1.next = INFINITE
        else:
            special1.next = FINITE

    @always(clk.posedge)
    def align_and_add():
        # Three bits below the product's last are enough: an operand shifted past them is too small for the sum
        # to lose more than one place of the other, whose leading bit is at 23 or above.
        larger = intbv(0)[31:]
        m = intbv(0)[34:]
        total = modbv(0)[35:]
        if acc_larger1:
            larger[:] = concat(addend1, intbv(0)[7:])
            m[:] = concat(product1, intbv(0)[3:])
        else:
            larger[:] = product1
            m[:] = concat(addend1, intbv(0)[10:])
        if shift1[5]:
            m[:] = concat(intbv(0)[32:], m[34:33], m[33:] != 0)
        if shift1[4]:
            m[:] = concat(intbv(0)[16:], m[34:17], m[17:] != 0)
        if shift1[3]:
            m[:] = concat(intbv(0)[8:], m[34:9], m[9:] != 0)
        if shift1[2]:
            m[:] = concat(intbv(0)[4:], m[34:5], m[5:] != 0)
        if shift1[1]:
            m[:] = concat(intbv(0)[2:], m[34:3], m[3:] != 0)
        if shift1[0]:
            m[:] = concat(False, m[34:2], m[2:] != 0)
        if shift1[9:6] != 0:
            m[:] = concat(intbv(0)[33:], m != 0)
        if sign_p1 != sign_c1:
            total[:] = concat(False, larger, intbv(0)[3:]) - concat(False, m)
        else:
            total[:] = concat(False, larger, intbv(0)[3:]) + concat(False, m)
        sum2.next = total
        sub2.next = sign_p1 != sign_c1
        sign2.next = sign_c1 if acc_larger1 else sign_p1
        exp2.next = exp1
        special2.next = special1

    @always(clk.posedge)
    def complement():
        # Normalise as in `fp32_add`, the long shifts here and the short ones in the next stage.
        m = modbv(0)[35:]
        left = intbv(0)[3:]
        below = exp2[9:6] != 0
        m[:] = sum2
        left[:] = 0
        if sub2 and sum2[34]:
            m[:] = -sum2
        if m[35:3] == 0 and (below or exp2[5]):
            m[:] = concat(m[3:], intbv(0)[32:])
            left[2] = True
        elif exp2[5]:
            below = True
        if m[35:19] == 0 and (below or exp2[4]):
            m[:] = concat(m[19:], intbv(0)[16:])
            left[1] = True
        elif exp2[4]:
            below = True
        if m[35:27] == 0 and (below or exp2[3]):
            m[:] = concat(m[27:], intbv(0)[8:])
            left[0] = True
        elif exp2[3]:
            below = True
        sum3.next = m
        left3.next = left
        below3.next = below
        exp3.next = exp2
        sign3.next = (sign2 != sum2[34]) and sum2 != 0 if sub2 else sign2
        special3.next = special2

    @always_comb
    def normalise():
        m = intbv(0)[35:]
        left = intbv(0)[3:]
        below = bool(below3)
        m[:] = sum3
        left[:] = 0
        if m[35:31] == 0 and (below or exp3[2]):
            m[:] = concat(m[31:], intbv(0)[4:])
            left[2] = True
        elif exp3[2]:
            below = True
        if m[35:33] == 0 and (below or exp3[1]):
            m[:] = concat(m[33:], intbv(0)[2:])
            left[1] = True
        elif exp3[1]:
            below = True
        if (not m[34]) and (below or exp3[0]):
            m[:] = concat(m[34:], False)
            left[0] = True
        sig4.next = concat(m[35:10], m[10:] != 0)
        exp4.next = exp3 - concat(intbv(0)[3:], left3, left)

    pack = round_pack(clk, True, special3, sign3, exp4, sig4, y)
    return multiply, align_and_add, complement, normalise, pack

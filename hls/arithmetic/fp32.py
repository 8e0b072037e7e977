# SPDX-License-Identifier: Apache-2.0
"""Pipelined IEEE-754 binary32 adder and multiplier, and the rounding stage every FP32 block shares.

Round to nearest even, subnormals kept, signed zeros as in IEEE-754; any NaN result is `NAN`. Each unit
decodes its operands, computes an exact raw result (sign, exponent, significand with sticky bit), then rounds
and packs it in `round_pack`. Pipelines accept one operation per cycle; what their `en` lets not move is frozen.
"""

import numpy as np
from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.lib.unit import unit
from hls.lib.zeros import leading_zeros

NAN = 0x7FC00000
POS_INF = 0x7F800000
NEG_ZERO = 0x80000000
ONE = 0x3F800000

FP32_ADD_LATENCY = 4
FP32_MUL_LATENCY = 3

# What `round_pack` does instead of packing a rounded finite result.
FINITE, INFINITE, INVALID, VERBATIM = range(4)


def canonical(bits: np.ndarray) -> np.ndarray:
    """Replace every NaN in uint32 `bits` by `NAN`."""
    bits = np.asarray(bits, np.uint32)
    return np.where((bits & 0x7FFFFFFF) > POS_INF, np.uint32(NAN), bits)


def canonical_float(x: np.ndarray) -> np.ndarray:
    """float32 with one NaN, as RISC-V's arithmetic gives; the host's may give others."""
    return canonical(np.asarray(x, np.float32).view(np.uint32)).view(np.float32)


def add_model(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b on uint32 bit patterns, element-wise."""
    a, b = np.asarray(a, np.uint32), np.asarray(b, np.uint32)
    with np.errstate(all="ignore"):
        return canonical((a.view(np.float32) + b.view(np.float32)).view(np.uint32))


def mul_model(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a * b on uint32 bit patterns, element-wise."""
    a, b = np.asarray(a, np.uint32), np.asarray(b, np.uint32)
    with np.errstate(all="ignore"):
        return canonical((a.view(np.float32) * b.view(np.float32)).view(np.uint32))


@block
def round_pack(clk, en, special, sign, exp, sig, y):
    """Round a raw result to nearest even and register it as FP32.

    sig[26] = 24-bit significand, round bit, sticky bit; its value is sig[26:2] * 2**(exp - 149), so a
    subnormal comes with exp = 0 and sig[25] = 0; without sig[25] exp is ignored. special[2]: FINITE,
    INFINITE, INVALID (NaN), or VERBATIM: packed like a finite result, but exponent 255 is not an overflow.
    """

    @always(clk.posedge)
    def pack():
        field = intbv(0)[8:]
        rounded = modbv(0)[31:]
        if en:
            up = sig[1] and (sig[0] or sig[2])
            if sig[25]:
                field[:] = exp[8:]
            rounded[:] = concat(field, intbv(0)[22:], up) + concat(intbv(0)[7:], sig[26:2])
            if special == INVALID:
                y.next = NAN
            elif special == INFINITE or (special == FINITE and sig[25] and exp >= 254):  # 253 carries into infinity
                y.next = concat(sign, intbv(0xFF)[8:], intbv(0)[23:])
            else:
                y.next = concat(sign, rounded)

    return pack


@unit(out="y")
def fp32_add(clk, en, a, b, y):
    """y = a + b, FP32_ADD_LATENCY cycles later; bit k of ``en`` lets stage k move."""
    sign1, sub1, sign2, sub2, sign3 = (Signal(False) for _ in range(5))
    exp1, shift1, exp2 = (Signal(intbv(0)[8:]) for _ in range(3))
    larger1, smaller1 = (Signal(intbv(0)[24:]) for _ in range(2))
    sum2, limit2 = (Signal(intbv(0)[28:]) for _ in range(2))
    marked, left = Signal(intbv(0)[32:]), Signal(intbv(0)[5:])
    special2, special3 = (Signal(intbv(0)[2:]) for _ in range(2))
    exp3, sig3 = Signal(modbv(0)[9:]), Signal(intbv(0)[26:])  # exp3 is of no meaning for a zero sum

    @always(clk.posedge)
    def order():
        larger = intbv(0)[32:]
        smaller = intbv(0)[31:]
        exp_a = intbv(0)[8:]
        exp_b = intbv(0)[8:]
        if en[0]:
            exp_a[:] = a[31:23]
            exp_b[:] = b[31:23]
            if exp_a == 0:
                exp_a[0] = True
            if exp_b == 0:
                exp_b[0] = True
            if b[31:] > a[31:]:
                larger[:] = b
                smaller[:] = a[31:]
                exp1.next = exp_b
                shift1.next = exp_b - exp_a
            else:
                larger[:] = a
                smaller[:] = b[31:]
                exp1.next = exp_a
                shift1.next = exp_a - exp_b
            sign1.next = larger[31]
            sub1.next = a[31] != b[31]
            larger1.next = concat(larger[31:23] != 0, larger[23:])
            smaller1.next = concat(smaller[31:23] != 0, smaller[23:])

    @always(clk.posedge)
    def align_and_add():
        m = intbv(0)[27:]
        if en[1]:
            m[:] = concat(smaller1, intbv(0)[3:])
            if shift1[4]:
                m[:] = concat(intbv(0)[16:], m[27:17], m[17:] != 0)
            if shift1[3]:
                m[:] = concat(intbv(0)[8:], m[27:9], m[9:] != 0)
            if shift1[2]:
                m[:] = concat(intbv(0)[4:], m[27:5], m[5:] != 0)
            if shift1[1]:
                m[:] = concat(intbv(0)[2:], m[27:3], m[3:] != 0)
            if shift1[0]:
                m[:] = concat(False, m[27:2], m[2:] != 0)
            if shift1[8:5] != 0:
                m[:] = concat(intbv(0)[26:], smaller1 != 0)
            if sub1:
                sum2.next = concat(False, larger1, intbv(0)[3:]) - concat(False, m)
            else:
                sum2.next = concat(False, larger1, intbv(0)[3:]) + concat(False, m)
            limit2.next = concat(True, intbv(0)[27:]) >> exp1
            sign2.next = sign1
            sub2.next = sub1
            exp2.next = exp1
            if exp1 != 255:
                special2.next = FINITE
            elif larger1[23:] != 0 or (sub1 and shift1 == 0):
                special2.next = INVALID
            else:
                special2.next = INFINITE

    @always_comb
    def mark():
        # Left by the leading zeros, but at most by the exponent: there `limit2` has a one
        marked.next = concat(sum2 | limit2, intbv(0)[4:])

    @always(clk.posedge)
    def normalise():
        m = intbv(0)[28:]
        if en[2]:
            m[:] = sum2
            if left[4]:
                m[:] = concat(m[12:], intbv(0)[16:])
            if left[3]:
                m[:] = concat(m[20:], intbv(0)[8:])
            if left[2]:
                m[:] = concat(m[24:], intbv(0)[4:])
            if left[1]:
                m[:] = concat(m[26:], intbv(0)[2:])
            if left[0]:
                m[:] = concat(m[27:], False)
            sig3.next = concat(m[28:3], m[3:] != 0)
            exp3.next = concat(False, exp2) - concat(intbv(0)[4:], left)
            sign3.next = sign2 and not (sub2 and sum2 == 0)
            special3.next = special2

    count = leading_zeros(marked, left)
    pack = round_pack(clk, en(3), special3, sign3, exp3, sig3, y)
    return order, align_and_add, mark, count, normalise, pack


@unit(out="y")
def fp32_mul(clk, en, a, b, y):
    """y = a * b, FP32_MUL_LATENCY cycles later; bit k of ``en`` lets stage k move."""
    sign1, sign2, normal2 = (Signal(False) for _ in range(3))
    exp1, exp2, exp3 = (Signal(intbv(0)[9:]) for _ in range(3))
    zeros1, shift2 = (Signal(intbv(0)[5:]) for _ in range(2))
    x1, z1 = (Signal(intbv(0)[24:]) for _ in range(2))
    special1, special2 = (Signal(intbv(0)[2:]) for _ in range(2))
    product2 = Signal(intbv(0)[27:])
    sig3 = Signal(intbv(0)[26:])
    word_a, word_b = (Signal(intbv(0)[32:]) for _ in range(2))
    zeros_a, zeros_b = (Signal(intbv(0)[5:]) for _ in range(2))

    @always_comb
    def widen():
        word_a.next = concat(a[31:23] != 0, a[23:], intbv(0xFF)[8:])
        word_b.next = concat(b[31:23] != 0, b[23:], intbv(0xFF)[8:])

    @always(clk.posedge)
    def decode():
        # Only one operand needs normalising: the product of two subnormals is below half the least subnormal.
        x = intbv(0)[31:]
        z = intbv(0)[31:]
        exp_x = intbv(0)[8:]
        exp_z = intbv(0)[8:]
        m = intbv(0)[24:]
        zeros = intbv(0)[5:]
        if en[0]:
            if a[31:23] == 0:
                x[:] = a[31:]
                z[:] = b[31:]
                zeros[:] = zeros_a
            else:
                x[:] = b[31:]
                z[:] = a[31:]
                zeros[:] = zeros_b
            m[:] = concat(x[31:23] != 0, x[23:])
            if zeros[4]:
                m[:] = concat(m[8:], intbv(0)[16:])
            if zeros[3]:
                m[:] = concat(m[16:], intbv(0)[8:])
            if zeros[2]:
                m[:] = concat(m[20:], intbv(0)[4:])
            if zeros[1]:
                m[:] = concat(m[22:], intbv(0)[2:])
            if zeros[0]:
                m[:] = concat(m[23:], False)
            exp_x[:] = x[31:23]
            exp_z[:] = z[31:23]
            if exp_x == 0:
                exp_x[0] = True
            if exp_z == 0:
                exp_z[0] = True
            sign1.next = a[31] != b[31]
            exp1.next = concat(False, exp_x) + concat(False, exp_z)
            zeros1.next = zeros
            x1.next = m
            z1.next = concat(z[31:23] != 0, z[23:])
            if exp_x != 255 and exp_z != 255:
                special1.next = FINITE
            elif (exp_x == 255 and x[23:] != 0) or (exp_z == 255 and z[23:] != 0) or x == 0 or z == 0:
                special1.next = INVALID
            else:
                special1.next = INFINITE

    @always(clk.posedge)
    def multiply():
        product = intbv(0)[48:]
        exponent = intbv(0)[10:]  # of product[47], offset by 512
        right = intbv(0)[10:]
        if en[1]:
            product[:] = concat(intbv(0)[24:], x1) * concat(intbv(0)[24:], z1)
            exponent[:] = concat(False, exp1) + (512 - 127) - concat(intbv(0)[5:], zeros1)
            right[:] = 0
            if not exponent[9]:
                right[:] = 512 - exponent
            sign2.next = sign1
            special2.next = special1
            product2.next = concat(product[48:22], product[22:] != 0)
            normal2.next = exponent > 512
            exp2.next = exponent[9:]
            if right[10:5] != 0:
                shift2.next = 31
            else:
                shift2.next = right[5:]

    @always_comb
    def normalise():
        m = intbv(0)[25:]
        lost = intbv(0)[31:]
        if normal2:
            if product2[26]:
                sig3.next = concat(product2[27:2], product2[2:] != 0)
                exp3.next = exp2
            else:
                sig3.next = product2[26:]
                exp3.next = exp2 - 1
        else:
            m[:] = product2[27:2] >> shift2
            lost[:] = intbv(0x7FFFFFFF)[31:] >> ~shift2
            lost[:] = lost & concat(intbv(0)[6:], product2[27:2])
            sig3.next = concat(m, lost != 0 or product2[2:] != 0)
            exp3.next = 0

    pack = round_pack(clk, en(2), special2, sign2, exp3, sig3, y)
    counts = leading_zeros(word_a, zeros_a), leading_zeros(word_b, zeros_b)
    return widen, counts, decode, multiply, normalise, pack

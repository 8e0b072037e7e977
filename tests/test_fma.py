# SPDX-License-Identifier: Apache-2.0
import numpy as np
from fp32_reference import SPECIALS, fma_exact, fp32_bits, random_bits, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.arithmetic.fma import FMA_LATENCY, fma_model, fp32_int8_fma

INPUTS = {"a": 32, "w": 8, "gate": 1, "acc": 32}
OUTPUTS = {"y": 32}
WEIGHTS = [0, 1, -1, 2, 3, -3, 64, 127, -127, -128]


def operands(rng, n):
    """(a, w, acc): random, cancelling, half-way and special ones."""
    a, c = random_bits(rng, n), random_bits(rng, n)
    w = np.where(rng.random(n) < 0.3, rng.choice(WEIGHTS, n), rng.integers(-128, 128, n)).astype(np.int8)
    with np.errstate(all="ignore"):
        product = (a.view(np.float32) * -w.astype(np.float32)).view(np.uint32)
    near = (product + rng.integers(-2, 3, n)).astype(np.uint32)
    power = (product & np.uint32(0x7F800000)) + (rng.integers(-30, 31, n) << 23).astype(np.uint32)
    power = power & 0x7FFFFFFF | c & 0x80000000
    c = np.choose(rng.integers(0, 5, n), [c, c, c, near, power]).astype(np.uint32)
    grid = np.array([(x, v & 0xFF, y) for x in SPECIALS for v in WEIGHTS for y in SPECIALS], np.uint32)
    return (
        np.concatenate([grid[:, 0], a]),
        np.concatenate([grid[:, 1].astype(np.uint8).view(np.int8), w]),
        np.concatenate([grid[:, 2], c]),
    )


def exact(a, w, c):
    return np.array([fma_exact(*v) for v in zip(a.tolist(), w.tolist(), c.tolist(), strict=True)], np.uint32)


def check(got, expected, *inputs):
    wrong = np.flatnonzero(np.asarray(got) != expected)
    assert not wrong.size, [[hex(v[i]) for v in (*inputs, got, expected)] for i in wrong[:5]]


@settings(max_examples=3000, deadline=None)
@given(fp32_bits(), st.one_of(st.integers(-128, 127), st.sampled_from(WEIGHTS)), fp32_bits())
def test_model_is_correctly_rounded(a, w, c):
    assert int(fma_model(a, w, c)) == fma_exact(a, w, c)


def test_exact_reference_on_known_values():
    assert fma_exact(0x3F800000, 127, 0xC2FE0000) == 0  # 127 - 127 = +0
    assert fma_exact(0x80000000, 0, 0x80000000) == 0x80000000  # -0 * +0 + -0
    assert fma_exact(0x00000000, -1, 0x80000000) == 0x80000000
    assert fma_exact(0x7F7FFFFF, 2, 0) == 0x7F800000
    assert fma_exact(0x3F800000, 1, 0x33800000) == 0x3F800000  # 1 + 2**-24: tie to even
    assert fma_exact(0x3F800001, 1, 0x33800000) == 0x3F800002
    assert fma_exact(0x00000001, 3, 0x00000001) == 0x00000004
    assert fma_exact(0x7F800000, 0, 0) == 0x7FC00000


def test_myhdl_equals_exact():
    a, w, c = operands(np.random.default_rng(1), 6000)
    pick = np.random.default_rng(2).permutation(len(a))[:6000]
    a, w, c = a[pick], w[pick], c[pick]
    gate = np.random.default_rng(3).random(len(a)) < 0.1
    stream = list(zip(a, w.view(np.uint8), gate, c, strict=True)) + [(0, 0, 0, 0)] * FMA_LATENCY
    got = [y for (y,) in simulate(fp32_int8_fma, INPUTS, OUTPUTS, stream)][FMA_LATENCY:]
    check(got, np.where(gate, c, exact(a, w, c)), a, w, c, gate)


def test_model_equals_exact_on_many_operands():
    """The Verilog meets the host's fmaf in `test_arithmetic`."""
    a, w, c = operands(np.random.default_rng(4), 200_000)
    check(fma_model(a, w, c), exact(a, w, c), a, w, c)

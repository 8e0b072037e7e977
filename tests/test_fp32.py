# SPDX-License-Identifier: Apache-2.0
"""FP32 adder and multiplier: models against exact integers, MyHDL against the models; Verilog: `test_arithmetic`."""

import numpy as np
import pytest
from fp32_reference import SPECIALS, fma_exact, fp32_bits, mul_exact, random_bits, simulate
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.arithmetic.fp32 import FP32_ADD_LATENCY, FP32_MUL_LATENCY, add_model, fp32_add, fp32_mul, mul_model

UNITS = {"add": (fp32_add, add_model, FP32_ADD_LATENCY), "mul": (fp32_mul, mul_model, FP32_MUL_LATENCY)}
OUTPUTS = {"y": 32}
both = pytest.mark.parametrize("operation", UNITS)


def inputs(latency):
    """Names and widths: an enable for every stage."""
    return {"en": latency, "a": 32, "b": 32}


def pairs(rng, n):
    """Operands [n, 2]: random ones, some equal up to sign or the last place, and all pairs of specials."""
    a, b = random_bits(rng, n), random_bits(rng, n)
    close = (a ^ rng.integers(0, 2, n, dtype=np.uint32) << 31) + rng.integers(0, 3, n, dtype=np.uint32) - 1
    b = np.where(rng.random(n) < 0.15, close.astype(np.uint32), b)
    grid = np.array([(x, y) for x in SPECIALS for y in SPECIALS], np.uint32)
    return np.concatenate([grid, np.stack([a, b], 1)])


def check(got, expected, operands):
    wrong = np.flatnonzero(np.asarray(got) != np.asarray(expected))
    assert not wrong.size, [[hex(v) for v in (*operands[i], got[i], expected[i])] for i in wrong[:5]]


@settings(max_examples=3000, deadline=None)
@given(fp32_bits(), fp32_bits())
def test_models_are_correctly_rounded(a, b):
    assert int(add_model(a, b)) == fma_exact(a, 1, b)
    assert int(mul_model(a, b)) == mul_exact(a, b)


@both
def test_myhdl_equals_numpy(operation):
    unit, model, latency = UNITS[operation]
    operands = pairs(np.random.default_rng(1), 4000)
    every = (1 << latency) - 1
    stream = [(every, a, b) for a, b in operands] + [(every, 0, 0)] * latency
    got = [y for (y,) in simulate(unit, inputs(latency), OUTPUTS, stream)][latency:]
    check(got, model(*operands.T), operands)


@both
def test_enable_freezes_the_pipeline(operation):
    unit, model, latency = UNITS[operation]
    rng = np.random.default_rng(2)
    operands = random_bits(rng, 400).reshape(-1, 2)
    enable = rng.random(1000) < 0.5
    stream, taken = [], 0
    for en in enable:
        stream.append(
            (en * ((1 << latency) - 1), *(operands[min(taken, len(operands) - 1)] if en else random_bits(rng, 2)))
        )
        taken += en
    got = simulate(unit, inputs(latency), OUTPUTS, stream)
    after = np.cumsum(enable) - enable - latency  # results out so far, minus one
    expected = model(*operands.T)
    for (y,), i in zip(got, after, strict=True):
        if 0 <= i < len(operands):
            assert y == expected[i]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(fp32_bits(), fp32_bits()), min_size=20, max_size=60), st.sampled_from(sorted(UNITS)))
def test_myhdl_on_drawn_operands(operands, operation):
    unit, model, latency = UNITS[operation]
    every = (1 << latency) - 1
    got = simulate(unit, inputs(latency), OUTPUTS, [(every, *p) for p in operands] + [(every, 0, 0)] * latency)[
        latency:
    ]
    check([y for (y,) in got], model(*np.array(operands, np.uint32).T), operands)

# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from fp32_reference import (
    NAN,
    SPECIALS,
    bus,
    fma_exact,
    fp32_bits,
    is_nan,
    mul_exact,
    random_bits,
    simulate,
    verilate_and_run,
)
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hls.arithmetic.epilogue import EPILOGUE_LATENCY, epilogue_lane, epilogue_model

MINUS_INF, PLUS_INF, MINUS_ZERO, ONE = 0xFF800000, 0x7F800000, 0x80000000, 0x3F800000
INPUTS = {
    "rst": 1,
    "in_valid": 1,
    "acc": 32,
    "scale": 32,
    "bias": 32,
    "res": 32,
    "res_en": 1,
    "act_before_res": 1,
    "slope_en": 1,
    "slope": 32,
    "low": 32,
    "high": 32,
}
OUTPUTS = {"out_valid": 1, "y": 32}
CLAMPS = [
    (MINUS_INF, PLUS_INF),
    (0, PLUS_INF),
    (0, 0x40C00000),
    (0xBF800000, ONE),
    (MINUS_ZERO, 0),
    (0x00000001, 0x00800000),
    (MINUS_INF, MINUS_ZERO),
]


def rank(x):
    return ~x & 0xFFFFFFFF if x >> 31 else x | MINUS_ZERO


def activate(x, slope, low, high):
    if is_nan(x):
        return NAN
    if x >> 31 and slope is not None:
        x = mul_exact(x, slope)
    if is_nan(x):
        return NAN
    return low if rank(x) < rank(low) else high if rank(x) > rank(high) else x


def expected(acc, scale, bias, res, act_before_res, slope, low, high):
    """The epilogue in plain integers; res and slope are None when unused."""
    y = fma_exact(mul_exact(acc, scale), 1, bias)
    if act_before_res:
        y = activate(y, slope, low, high)
    if res is not None:
        y = fma_exact(y, 1, res)
    return y if act_before_res else activate(y, slope, low, high)


def model(acc, scale, bias, res, act_before_res, slope, low, high):
    bits = [None if v is None else np.uint32(v) for v in (acc, scale, bias, res, slope, low, high)]
    return int(epilogue_model(*bits[:4], act_before_res, *bits[4:]))


slopes = st.one_of(st.none(), st.sampled_from([0, 0x3C23D70A, ONE, PLUS_INF]), fp32_bits())


@settings(max_examples=3000, deadline=None)
@given(
    fp32_bits(),
    fp32_bits(),
    fp32_bits(),
    st.one_of(st.none(), fp32_bits()),
    st.booleans(),
    slopes,
    st.sampled_from(CLAMPS),
)
def test_model_is_the_specification(acc, scale, bias, res, act_before_res, slope, clamp):
    arguments = (acc, scale, bias, res, act_before_res, slope, *clamp)
    assert model(*arguments) == expected(*arguments)


@pytest.mark.parametrize("act_before_res", [False, True])
def test_neutral_parameters_are_an_exact_identity(act_before_res):
    bits = np.concatenate([np.array(SPECIALS, np.uint32), random_bits(np.random.default_rng(1), 10000)])
    got = epilogue_model(bits, np.float32(1), np.float32(-0.0), None, act_before_res)
    assert (got == np.where([is_nan(v) for v in bits.tolist()], NAN, bits)).all()


def test_relu_of_special_values():
    x = np.array([MINUS_ZERO, 0, NAN, MINUS_INF, PLUS_INF, 0x80000001, 1], np.uint32)
    got = epilogue_model(x, 1.0, -0.0, low=0.0)
    assert got.tolist() == [0, 0, NAN, 0, PLUS_INF, 0, 1]


def test_model_broadcasts_parameters_over_pixels():
    acc = np.float32([[1, -2], [3, 4]])
    got = epilogue_model(acc, np.float32([2, 3]), np.float32([0.5, 1]), acc, True, None, 0.0, 6.0)
    assert got.view(np.float32).tolist() == [[3.5, -2], [9, 10]]


def test_model_refuses_integers():
    with pytest.raises(TypeError, match="int64"):
        epilogue_model(np.float32([1]), 1.0, 0.0, None, False, None, 0.0, 6)


def traffic(seed, segments, length):
    """Input table [cycles, ports] with random gaps, and the outputs it must produce."""
    rng = np.random.default_rng(seed)
    rows, outputs = [[1] + [0] * 11], []
    for _ in range(segments):
        res_en, first, slope_en = (int(v) for v in rng.integers(0, 2, 3))
        slope = int(rng.choice([0, 0x3C23D70A, 0xBF000000, int(random_bits(rng, 1)[0])]))
        low, high = CLAMPS[rng.integers(len(CLAMPS))]
        gap = rng.choice([0, 0.3, 0.7, 0.95])
        values = random_bits(rng, 4 * length).reshape(length, 4)
        neutral = rng.random(length) < 0.2
        values[neutral, 1:3] = [ONE, MINUS_ZERO]
        given_slope = np.uint32(slope) if slope_en else None
        outputs.append(
            epilogue_model(
                *values.T[:3],
                values[:, 3] if res_en else None,
                bool(first),
                given_slope,
                np.uint32(low),
                np.uint32(high),
            )
        )
        sent = flushed = 0
        while sent < length or flushed < EPILOGUE_LATENCY + 5:
            valid = int(sent < length and rng.random() >= gap)
            rows.append(
                [0, valid, *(values[sent] if valid else random_bits(rng, 4)), res_en, first, slope_en, slope, low, high]
            )
            sent += valid
            flushed += sent == length and not valid
    rows.append(rows[-1])
    return np.array(rows, np.uint32), np.concatenate(outputs)


def check(rows, got, outputs):
    """Values leave in order, exactly EPILOGUE_LATENCY cycles after they entered; nothing moves without any."""
    entered = rows[:, 1]
    assert (got[EPILOGUE_LATENCY:, 0] == entered[:-EPILOGUE_LATENCY]).all()
    values = got[got[:, 0] == 1, 1]
    assert values.tolist() == outputs.tolist()
    inside = np.convolve(entered, np.ones(EPILOGUE_LATENCY + 1))[: len(entered)] > 0
    same_order = rows[1:, list(INPUTS).index("act_before_res")] == rows[:-1, list(INPUTS).index("act_before_res")]
    still = ~(inside[1:] | inside[:-1]) & same_order & (np.arange(1, len(entered)) > EPILOGUE_LATENCY)
    assert still.any()
    assert (got[1:, 1] == got[:-1, 1])[still].all()


@pytest.mark.slow
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 1 << 32))
def test_myhdl_equals_model(seed):
    rows, outputs = traffic(seed, 5, 30)
    got = np.array(simulate(epilogue_lane, INPUTS, OUTPUTS, rows.tolist()), np.uint32)
    check(rows, got, outputs)


def test_verilog_equals_model(tmp_path):
    rows, outputs = traffic(7, 150, 100)
    dut = epilogue_lane(bus(1), *(bus(w) for w in {**INPUTS, **OUTPUTS}.values()))
    check(rows, verilate_and_run(dut, INPUTS, OUTPUTS, rows, tmp_path), outputs)

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
from hls.arithmetic.function import FUNCTION_LATENCY, TableWrite, function_model
from hls.arithmetic.function_tables import function_words
from hls.config import Config

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


COMBINED = ["add", "multiply", "negative"]


def combined(y, res, how):
    if how == "add":
        return fma_exact(y, 1, res)
    return mul_exact(y, ONE if how == "negative" and not y >> 31 else res)


def expected(acc, scale, bias, res, act_before_res, slope, low, high, how):
    """The epilogue in plain integers; res and slope are None when unused."""
    y = fma_exact(mul_exact(acc, scale), 1, bias)
    if act_before_res:
        y = activate(y, slope, low, high)
    if res is not None:
        y = combined(y, res, how)
    return y if act_before_res else activate(y, slope, low, high)


def model(acc, scale, bias, res, act_before_res, slope, low, high, how):
    bits = [None if v is None else np.uint32(v) for v in (acc, scale, bias, res, slope, low, high)]
    return int(epilogue_model(*bits[:4], act_before_res, *bits[4:], how))


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
    st.sampled_from(COMBINED),
)
def test_model_is_the_specification(acc, scale, bias, res, act_before_res, slope, clamp, how):
    arguments = (acc, scale, bias, res, act_before_res, slope, *clamp, how)
    assert model(*arguments) == expected(*arguments)


@pytest.mark.parametrize("act_before_res", [False, True])
def test_a_function_is_the_end_of_the_activation(act_before_res):
    """Of what the clamp leaves; the second operand meets its value, or is in what it is of."""
    table = function_words("silu")
    acc, res = random_bits(np.random.default_rng(2), 2000).reshape(2, -1)
    got = epilogue_model(acc, 1.0, -0.0, res, act_before_res, None, -2.0, 3.0, "multiply", table)
    plain = epilogue_model(acc, 1.0, -0.0, None if act_before_res else res, False, None, -2.0, 3.0, "multiply")
    of_plain = function_model(plain, table)
    assert (
        got.tolist()
        == (
            epilogue_model(of_plain, 1.0, -0.0, res, True, None, combine="multiply") if act_before_res else of_plain
        ).tolist()
    )


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


CONFIGS = [Config(), Config(functions=False), Config(multiply=False), Config(functions=False, multiply=False)]
NAMES = ["silu", "tanh", "elu", "hardsigmoid"]


def inputs(config):
    """Names and widths; what an option leaves out is not there."""
    table = {"table_valid": 1, "table_pair": 8, "table_data": 64}
    functions = {"function_en": 1, "slot": 1} if config.functions else {}
    multiply = {"multiply": 1, "negative": 1} if config.multiply else {}
    return INPUTS | functions | multiply | (table if config.functions else {})


def lane(config):
    """Maker of an `epilogue_lane` by the names of `inputs`."""

    def make(clk, **ports):
        absent = dict.fromkeys(("function_en", "slot", "multiply", "negative", "table"))
        table = TableWrite()
        for name in vars(table):
            setattr(table, name, ports.pop(f"table_{name}", None))
        if config.functions:
            absent["table"] = table
        return epilogue_lane(clk=clk, **(absent | ports), config=config)

    return make


def traffic(seed, segments, length, config):
    """Rows of inputs, a dictionary each, with random gaps and tables that change, and the outputs they must produce."""
    rng = np.random.default_rng(seed)
    rows, outputs, loaded = [dict.fromkeys(inputs(config), 0) | {"rst": 1}], [], {}
    for _ in range(segments):
        flags = {name: int(rng.integers(2)) for name in ("res_en", "act_before_res", "slope_en", "slot")}
        low, high = CLAMPS[rng.integers(len(CLAMPS))]
        slope = int(rng.choice([0, 0x3C23D70A, 0xBF000000, int(random_bits(rng, 1)[0])]))
        layer = flags | {"slope": slope, "low": low, "high": high, "function_en": int(rng.random() < 0.6)}
        how = rng.choice(COMBINED) if config.multiply and flags["res_en"] else "add"
        layer |= {"multiply": int(how != "add"), "negative": int(how == "negative"), "rst": 0}
        layer["slope_en"] &= how == "add"
        slot, table = flags["slot"], None
        if config.functions and layer["function_en"]:
            if slot not in loaded or rng.random() < 0.3:
                loaded[slot] = function_words(str(rng.choice(NAMES)))
                pairs = loaded[slot].reshape(-1, 2).astype(object)
                load = [{"table_pair": i, "table_data": low | high << 32} for i, (low, high) in enumerate(pairs)]
                rows += [layer | idle(rng) | {"table_valid": 1} | pair for pair in load]
            table = loaded[slot]
        gap = rng.choice([0, 0.3, 0.7, 0.95])
        values = random_bits(rng, 4 * length).reshape(length, 4)
        neutral = rng.random(length) < 0.3
        values[neutral, 1:3] = [ONE, MINUS_ZERO]
        outputs.append(
            epilogue_model(
                *values.T[:3],
                values[:, 3] if flags["res_en"] else None,
                bool(flags["act_before_res"]),
                np.uint32(slope) if layer["slope_en"] else None,
                np.uint32(low),
                np.uint32(high),
                how,
                table,
            )
        )
        sent = flushed = 0
        while sent < length or flushed < LONGEST + 5:
            valid = int(sent < length and rng.random() >= gap)
            row = layer | idle(rng)
            if valid:
                row |= {"in_valid": 1} | dict(zip(OPERANDS, values[sent], strict=True))
            rows.append(row)
            sent += valid
            flushed += sent == length and not valid
    rows.append(rows[-1])
    return [{name: int(row[name]) for name in inputs(config)} for row in rows], np.concatenate(outputs)


OPERANDS = ("acc", "scale", "bias", "res")
LONGEST = EPILOGUE_LATENCY + FUNCTION_LATENCY


def idle(rng):
    """Inputs of a cycle in which nothing enters."""
    operands = dict(zip(OPERANDS, random_bits(rng, 4), strict=True))
    return operands | {"in_valid": 0, "table_valid": 0, "table_pair": 0, "table_data": 0}


def check(rows, got, outputs):
    """Values leave in order, exactly the latency of their layer after they entered; nothing moves without any."""
    leave, inside = (np.zeros(len(rows) + LONGEST + 1, bool) for _ in range(2))
    for at, row in enumerate(rows):
        if row["in_valid"]:
            latency = LONGEST if row.get("function_en") else EPILOGUE_LATENCY
            leave[at + latency] = True
            inside[at : at + latency + 1] = True
    assert (got[:, 0] == leave[: len(rows)]).all()
    values = got[got[:, 0] == 1, 1]
    assert values.tolist() == outputs.tolist()
    paths = ("act_before_res", "function_en", "multiply")
    path = np.array([[row.get(name, 0) for name in paths] for row in rows])
    same_path = (path[1:] == path[:-1]).all(axis=1)
    same_path[1:] &= same_path[:-1]  # a lane has its layer's in registers of its own
    still = ~(inside[1:] | inside[:-1])[: len(rows) - 1] & same_path & (np.arange(1, len(rows)) > LONGEST)
    assert still.any()
    assert (got[1:, 1] == got[:-1, 1])[still].all()


@pytest.mark.slow
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.integers(0, 1 << 32))
def test_myhdl_equals_model(seed):
    rows, outputs = traffic(seed, 5, 30, CONFIGS[0])
    got = np.array(simulate(lane(CONFIGS[0]), inputs(CONFIGS[0]), OUTPUTS, [list(r.values()) for r in rows]), np.uint32)
    check(rows, got, outputs)


@pytest.mark.parametrize("config", CONFIGS, ids=["all", "no functions", "no product", "neither"])
def test_verilog_equals_model(config, tmp_path):
    rows, outputs = traffic(7, 40, 60, config)
    dut = lane(config)(bus(1), **{name: bus(w) for name, w in {**inputs(config), **OUTPUTS}.items()})
    words = [[v for name, value in row.items() for v in split(value, inputs(config)[name])] for row in rows]
    check(rows, verilate_and_run(dut, inputs(config), OUTPUTS, np.array(words, np.uint32), tmp_path), outputs)


def split(value, width):
    return [value >> low & 0xFFFFFFFF for low in range(0, width, 32)]

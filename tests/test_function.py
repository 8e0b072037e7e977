# SPDX-License-Identifier: Apache-2.0
"""The function unit's tables against PyTorch's functions in float64; the unit against its NumPy twin."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fp32_reference import NAN, SPECIALS, bus, random_bits, simulate, verilate_and_run

from hls.arithmetic import function
from hls.arithmetic.function import (
    DIRECTORY_WORDS,
    FUNCTION_LATENCY,
    OCTAVES,
    ROW_WORDS,
    TABLE_SLOTS,
    TABLE_WORDS,
    TableWrite,
    function_lane,
    function_model,
    lowest_exponent,
)
from hls.arithmetic.function_tables import FUNCTIONS, function_words
from hls.errors import HeepgenError

TORCH = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "softplus": F.softplus,
    "mish": F.mish,
    "logsigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "erf": torch.erf,
    "atan": torch.atan,
    "decay": lambda x: torch.exp(-x.clamp(min=0)),
}
PARAMETERS = [
    ("elu", (0.1,)),
    ("elu", (2.5,)),
    ("elu", (-0.7,)),
    ("celu", (0.3,)),
    ("celu", (31.0,)),
    ("softplus", (2.0, 20.0)),
    ("softplus", (0.37, 15.0)),
    ("softplus", (100.0, 20.0)),
    ("celu", (30000.0,)),
]
CASES = [*((name, ()) for name in TORCH), *PARAMETERS]


def wrong(name, parameters, bits, got=None):
    """The inputs whose result is beyond the bound, or not PyTorch's where that is infinite or NaN."""
    x = torch.from_numpy(bits.view(np.float32)).double()
    exact = TORCH[name](x, *parameters).numpy()
    got = (function_model(bits, function_words(name, parameters)) if got is None else got).view(np.float32)
    with np.errstate(all="ignore"):
        infinite = np.isinf(exact.astype(np.float32))
        near = np.abs(got - exact) <= 2**-15 * np.maximum(np.abs(exact), 2**-10)
        right = np.where(infinite, got == exact.astype(np.float32), near) | (np.isnan(got) & np.isnan(exact))
    return bits[~right].view(np.float32)


def every_octave(rng):
    """Bit patterns: for every exponent and sign, the borders of 128 segments with their neighbours, and random ones."""
    borders = np.arange(128)[:, None] * 2**16 + np.array([-1, 0, 1])
    fractions = np.concatenate([borders.reshape(-1) & 0x7FFFFF, rng.integers(0, 1 << 23, 128)])
    return (np.arange(512)[:, None] << 23 | fractions).astype(np.uint32).reshape(-1)


def test_functions_are_those_of_pytorch():
    assert set(TORCH) == set(FUNCTIONS)


@pytest.mark.parametrize("name, parameters", CASES)
def test_error_is_bounded(name, parameters):
    assert wrong(name, parameters, every_octave(np.random.default_rng(1))).tolist() == []


@pytest.mark.parametrize("name, parameters", CASES)
def test_special_values(name, parameters):
    bits = np.array(SPECIALS, np.uint32)
    assert wrong(name, parameters, bits).tolist() == []


@pytest.mark.parametrize("name", TORCH)
def test_zeros(name):
    zeros = torch.tensor([0.0, -0.0])
    exact = TORCH[name](zeros.double()).numpy()
    got = function_model(zeros.numpy().view(np.uint32), function_words(name)).view(np.float32)
    near = 2**-15 if name == "decay" else 2**-20  # it has its slope at 0, and one segment there
    assert np.allclose(got, exact, rtol=near, atol=0) and (np.signbit(got) == np.signbit(exact)).all()


@pytest.mark.parametrize("name, low, high", [("sigmoid", 0, 1), ("tanh", -1, 1), ("softplus", 0, np.inf)])
def test_range_is_kept(name, low, high):
    bits = every_octave(np.random.default_rng(2))
    y = function_model(bits, function_words(name)).view(np.float32)
    assert (np.isnan(y) | ((y >= low) & (y <= high))).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCH)
def test_error_is_bounded_for_every_value(name):
    """y is the same for all values that share sign, exponent and what the segment looks at of the fraction: its top
    17 + k bits, or the whole where y = x. f is monotonic between the first and the last of them but where it has an
    extremum, where it is flat; so those two speak for all. Beyond the directory's octaves, fewer places are enough."""
    table = function_words(name)
    entries = table[:DIRECTORY_WORDS].view(np.uint16)
    for exponent in range(255):
        entry = int(np.clip(exponent - lowest_exponent(table), 0, OCTAVES - 1))
        for sign in range(2):
            place = int(entries[sign * OCTAVES + entry]) & 0x7FF
            inside = 0 < entry < OCTAVES - 1
            kept = min(17 + (place >> 8), 23) if inside else 10
            first = np.arange(1 << kept, dtype=np.uint32) << 23 - kept | np.uint32(sign << 31 | exponent << 23)
            last = first | np.uint32((1 << 23 - kept) - 1)
            identity = table[2 * (place & 255)] >> 8 & 3 == function.IDENTITY
            y = function_model(first, table)
            assert wrong(name, (), first, y).tolist() == []
            assert wrong(name, (), last, y if inside and not identity else None).tolist() == []


def test_table_fits():
    for name, parameters in CASES:
        words = function_words(name, parameters)
        assert words.dtype == np.uint32 and len(words) % ROW_WORDS == 0 and len(words) <= TABLE_WORDS
        assert not words.flags.writeable


@pytest.mark.parametrize(
    "name, parameters, message",
    [
        ("cosine", (), "function cosine: not known; choose from sigmoid, tanh"),
        ("elu", (1.0, 2.0), "function elu: 2 parameters given, it takes 1"),
        ("tanh", (1.0,), "function tanh: 1 parameters given, it takes 0"),
        ("softplus", (1.0, 1.1), r"function softplus\(1, 1.1\): no table"),
        ("celu", (1e12,), r"function celu\(1e\+12\): no table"),
        ("elu", (float("nan"),), r"function elu\(nan\): no table"),
    ],
)
def test_refusals(name, parameters, message):
    with pytest.raises(HeepgenError, match=message):
        function_words(name, parameters)


def by_hand(kind, power, c0, c1=0, c2=0):
    """A table whose every octave is one segment: c0 + c1 * t + c2 * t * t, times 2**power."""
    segment = [
        (round(c0 * 2**20) & 0x3FFFFF) << 10 | kind << 8 | power + 127,
        (round(c1 * 2**17) & 0x3FFFF) << 14 | round(c2 * 2**15) & 0x3FFF,
    ]
    return np.array([16 << 16 | 16] * DIRECTORY_WORDS + segment + [0] * 6, np.uint32)


def run(values, table):
    return function_model(np.float32(values).view(np.uint32), table).view(np.float32).tolist()


def test_kinds():
    inf = float("inf")
    assert run([1, 1.5, 2, 3], by_hand(function.ABSOLUTE, 1, 1, 0.5, 0.125)) == [2, 2.5625, 2, 2.5625]
    assert run([-2 + 2.0**-23, -1.5 + 2.0**-23], by_hand(function.ABSOLUTE, 1, 1, 0.5)) == [2, 2.5]
    assert run([1, 1.5, 2, 3, 5], by_hand(function.RELATIVE, 1, 1, 0.5)) == [2, 2.5, 4, 5, 9]
    assert run([0.0, -0.0, 1e-40, inf, -inf], by_hand(function.RELATIVE, 3, -1)) == [-0.0, -0.0, -0.0, -inf, -inf]
    assert run([2.0**-100, 2.0**100], by_hand(function.RELATIVE, -30, 1)) == [0, 2.0**70]
    assert run([2.0**100, -(2.0**100)], by_hand(function.RELATIVE, 30, 1)) == [inf, inf]
    assert run([0.3, -inf, 1e-45], by_hand(function.IDENTITY, 0, 1)) == [np.float32(0.3), -inf, np.float32(1e-45)]
    assert run([inf, -inf, 3], by_hand(function.ABSOLUTE, 0, 1.5)) == [1.5, 1.5, 1.5]
    assert np.isnan(run([inf, -inf, float("nan")], by_hand(function.NAN_AT_INFINITY, 0, 1))).all()
    assert np.isnan(run([float("nan")], by_hand(function.IDENTITY, 0, 1))).all()


INPUTS = {"en": 1, "x": 32, "slot": 1, "table_valid": 1, "table_pair": 8, "table_data": 64}
OUTPUTS = {"y": 32}


def random_table(rng):
    """Words of any meaning; in a quarter of the segments, coefficients that make p small or 0."""
    words = rng.integers(0, 1 << 32, TABLE_WORDS, dtype=np.uint32)
    high, low = words[DIRECTORY_WORDS::2], words[DIRECTORY_WORDS + 1 :: 2]
    flat = rng.random(len(high)) < 0.25
    low[flat] = 0
    high[flat] = high[flat] & 0x3FF | rng.choice(np.array([-1, 0, 1, 77], np.int32), flat.sum()).view(np.uint32) << 10
    return words


def traffic(rng, tables, length):
    """Cycles (en, x, slot, table_valid, table_pair, table_data): one table after the other is loaded and used, then all
    once more without loading; in between the lane is emptied. With them, the words that the values go through."""
    rows, used = [], []

    def add(en, slot, x, write=(0, 0, 0)):
        rows.append((en, x, slot, *write))
        if en:
            used.append((x, slot))

    def values(slot):
        for x in random_bits(rng, length).tolist():
            while rng.random() < 0.2:
                add(0, slot, x ^ 0x3FFFFF)
            add(1, slot, x)
        for _ in range(FUNCTION_LATENCY):
            add(1, slot, NAN)  # the same with any table, for those that are left inside

    for slot, table in enumerate(tables):
        for pair, (first, second) in enumerate(table.reshape(-1, 2).tolist()):
            add(0, slot, 0, (1, pair, second << 32 | first))
        values(slot)
    for slot in range(len(tables)):
        values(slot)
    return rows, used


def check_lane(rows, used, tables, got):
    """A value leaves after FUNCTION_LATENCY cycles with en, and stays until the next one."""
    x, slot = np.array(used, np.uint32).T
    want = np.choose(slot, [function_model(x, table) for table in tables])
    entered = np.cumsum([0, *(row[0] for row in rows)])[:-1]
    known = entered >= FUNCTION_LATENCY
    assert known.sum() > len(rows) / 2
    assert (got[known] == want[entered[known] - FUNCTION_LATENCY]).all()


def lane(clk, en, x, slot, table_valid, table_pair, table_data, y):
    table = TableWrite()
    table.valid, table.pair, table.data = table_valid, table_pair, table_data
    return function_lane(clk, en, x, slot, table, y)


def test_myhdl_equals_model():
    rng = np.random.default_rng(7)
    tables = [function_words("silu"), random_table(rng)]
    rows, used = traffic(rng, tables, 600)
    check_lane(rows, used, tables, np.array(simulate(lane, INPUTS, OUTPUTS, rows))[:, 0])


def test_verilog_equals_model(tmp_path):
    rng = np.random.default_rng(8)
    tables = [random_table(rng) for _ in range(TABLE_SLOTS)]
    rows, used = traffic(rng, tables, 100_000)
    words = np.array([(*row[:5], row[5] & 0xFFFFFFFF, row[5] >> 32) for row in rows], np.uint32)
    dut = lane(bus(1), **{name: bus(width) for name, width in {**INPUTS, **OUTPUTS}.items()})
    check_lane(rows, used, tables, verilate_and_run(dut, INPUTS, OUTPUTS, words, tmp_path)[:, 0])

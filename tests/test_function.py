# SPDX-License-Identifier: Apache-2.0
"""The function unit's tables against PyTorch's functions in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fp32_reference import SPECIALS

from hls.arithmetic import function
from hls.arithmetic.function import DIRECTORY_WORDS, OCTAVES, ROW_WORDS, TABLE_WORDS, function_model, lowest_exponent
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
    assert np.allclose(got, exact, rtol=2**-20, atol=0) and (np.signbit(got) == np.signbit(exact)).all()


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
            kept = min(17 + (place >> 8), 23) if 0 < entry < OCTAVES - 1 else 10
            first = np.arange(1 << kept, dtype=np.uint32) << 23 - kept | np.uint32(sign << 31 | exponent << 23)
            last = first | np.uint32((1 << 23 - kept) - 1)
            identity = table[2 * (place & 255)] >> 8 & 3 == function.IDENTITY
            y = function_model(first, table)
            assert wrong(name, (), first, y).tolist() == []
            assert wrong(name, (), last, last if identity else y).tolist() == []


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

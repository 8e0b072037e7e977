# SPDX-License-Identifier: Apache-2.0
"""Tables of the function unit: the functions in float64, and the segments that approximate each of them.

|y - f(x)| is at most ERROR * max(|f(x)|, SMALL) for every x of FP32, and y does not leave f's range. Every octave has
as few segments as keep that bound, all truncation counted; octaves that can do with the same segments share them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np

from hls.arithmetic.function import (
    ABSOLUTE,
    C0_BITS,
    C0_FRACTION,
    C1_BITS,
    C1_FRACTION,
    C2_BITS,
    C2_FRACTION,
    DIRECTORY_WORDS,
    EXPONENT_BITS,
    IDENTITY,
    LEAST_EXPONENT,
    MAX_K,
    NAN_AT_INFINITY,
    OCTAVES,
    RELATIVE,
    ROW_WORDS,
    T_BITS,
    TABLE_WORDS,
)
from hls.errors import HeepgenError

ERROR, SMALL = 2.0**-15, 2.0**-10

_NODES = 33
_MARGIN = 0.97
_USUAL_EXPONENT = 111  # of a table's first octave
_LARGEST = float(np.finfo(np.float32).max)
_LOWEST_POWER, _HIGHEST_POWER = -100, 127  # of a segment's scale


@dataclass(frozen=True)
class Definition:
    """A function of float64 arrays; its parameters with their defaults follow x."""

    evaluate: Callable[..., np.ndarray]
    defaults: tuple[float, ...] = ()


def _softplus(x: np.ndarray, beta: float, threshold: float) -> np.ndarray:
    return np.where(beta * x > threshold, x, np.logaddexp(0, beta * x) / beta)


def _elu(x: np.ndarray, alpha: float) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _per_element(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.frompyfunc(function, 1, 1)(x).astype(np.float64)


_erf, _erfc = _per_element(math.erf), _per_element(math.erfc)

FUNCTIONS = {
    "sigmoid": Definition(lambda x: 1 / (1 + np.exp(-x))),
    "tanh": Definition(np.tanh),
    "silu": Definition(lambda x: x / (1 + np.exp(-x))),
    "gelu": Definition(lambda x: x * 0.5 * _erfc(-x * math.sqrt(0.5))),
    "gelu_tanh": Definition(lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    "quick_gelu": Definition(lambda x: x / (1 + np.exp(-1.702 * x))),
    "hardswish": Definition(lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "hardsigmoid": Definition(lambda x: np.clip(x + 3, 0, 6) / 6),
    "elu": Definition(_elu, (1.0,)),
    "celu": Definition(lambda x, alpha: np.maximum(x, 0) + np.minimum(alpha * np.expm1(x / alpha), 0), (1.0,)),
    "selu": Definition(lambda x: 1.0507009873554804934193349852946 * _elu(x, 1.6732632423543772848170429916717)),
    "softplus": Definition(_softplus, (1.0, 20.0)),
    "mish": Definition(lambda x: x * np.tanh(np.logaddexp(0, x))),
    "logsigmoid": Definition(lambda x: -np.logaddexp(0, -x)),
    "softsign": Definition(lambda x: x / (1 + np.abs(x))),
    "erf": Definition(_erf),
    "atan": Definition(np.arctan),
    "decay": Definition(lambda x: np.exp(-np.maximum(x, 0))),
}
"""By name, as PyTorch defines them: gelu_tanh is GELU with approximate="tanh", quick_gelu is x * sigmoid(1.702 x).
decay is exp(-x) from 0 on, of softmax."""


def reference(name: str, x: np.ndarray, parameters: tuple[float, ...] = ()) -> np.ndarray:
    """f(x) in float64. Raises HeepgenError for a name or a number of parameters that is not known."""
    definition = _definition(name, parameters)
    with np.errstate(all="ignore"):
        return definition.evaluate(np.asarray(x, np.float64), *(parameters or definition.defaults))


def _definition(name: str, parameters: tuple[float, ...]) -> Definition:
    definition = FUNCTIONS.get(name)
    if definition is None:
        raise HeepgenError(f"function {name}: not known; choose from {', '.join(FUNCTIONS)}")
    if parameters and len(parameters) != len(definition.defaults):
        raise HeepgenError(f"function {name}: {len(parameters)} parameters given, it takes {len(definition.defaults)}")
    return definition


@lru_cache(maxsize=64)
def function_words(name: str, parameters: tuple[float, ...] = ()) -> np.ndarray:
    """The table of a function, uint32 words (read-only), a multiple of ROW_WORDS of them.

    Empty `parameters` are the defaults. Raises HeepgenError as `reference` does, and where no table keeps the bound.
    """
    lowest = range(LEAST_EXPONENT, LEAST_EXPONENT + (1 << EXPONENT_BITS))
    failure = None
    for exponent in sorted(lowest, key=lambda e: abs(e - _USUAL_EXPONENT)):
        try:
            words = _words(name, parameters, exponent)
            words.flags.writeable = False
            return words
        except HeepgenError as error:
            failure = failure or error
    assert failure
    raise failure


def _words(name: str, parameters: tuple[float, ...], lowest: int) -> np.ndarray:
    """The table whose first octave has this biased exponent."""
    with np.errstate(all="ignore"):
        runs = [run for sign in (1, -1) for run in _runs(name, parameters, sign, lowest)]
    first, pair = {}, DIRECTORY_WORDS // 2
    for run in runs:
        if run not in first:
            first[run], pair = pair, pair + len(run.c0)
    if 2 * pair > TABLE_WORDS:
        raise HeepgenError(f"{_text(name, parameters)}: takes {2 * pair} words, a function table has {TABLE_WORDS}")
    entries = np.array([first[run] | run.k << 8 for run in runs], np.uint32)
    entries[0] |= lowest - LEAST_EXPONENT << 11
    words = np.concatenate([entries[0::2] | entries[1::2] << 16, *(run.words() for run in first)]).astype(np.uint32)
    return np.pad(words, (0, -len(words) % ROW_WORDS))


def _text(name: str, parameters: tuple[float, ...]) -> str:
    return f"function {name}" + (f"({', '.join(f'{p:g}' for p in parameters)})" if parameters else "")


@dataclass(frozen=True)
class _Run:
    """2**k neighbouring segments of one kind: scales (powers of two) and coefficients as in the table."""

    kind: int
    power: tuple[int, ...]
    c0: tuple[int, ...]
    c1: tuple[int, ...]
    c2: tuple[int, ...]

    @property
    def k(self) -> int:
        return len(self.c0).bit_length() - 1

    def words(self) -> np.ndarray:
        power, c0, c1, c2 = (np.array(field) for field in (self.power, self.c0, self.c1, self.c2))
        high = (c0 & (1 << C0_BITS) - 1) << 10 | self.kind << 8 | power + 127
        low = (c1 & (1 << C1_BITS) - 1) << C2_BITS | c2 & (1 << C2_BITS) - 1
        return np.stack([high, low], 1).reshape(-1)

    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest value that the unit may give at the nodes of each segment, truncation counted."""
        power, c0, c1, c2 = (np.array(field)[:, None] for field in (self.power, self.c0, self.c1, self.c2))
        return _truncated(c0 * 2.0**-C0_FRACTION, c1, c2, self.k, power)


def _truncated(
    c0: np.ndarray | float, c1: np.ndarray, c2: np.ndarray, k: int, power: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest of p times two to the `power`, at the nodes."""
    t = _nodes(k)
    slope, curve = c1 * 2.0**-C1_FRACTION, c2 * 2.0**-C2_FRACTION
    exact = c0 + t * (slope + t * curve)
    rise = (slope + 2 * t * curve) * (2.0**-T_BITS if k + T_BITS < 23 else 0)  # what lies below t's last bit
    lost = np.where(c2 != 0, t * 2.0**-C1_FRACTION, 0) + np.where((c1 != 0) | (c2 != 0), 2.0**-C0_FRACTION, 0)
    scale = 2.0**power
    return (exact - np.maximum(rise, 0) - lost) * scale, (exact - np.minimum(rise, 0)) * scale


def _nodes(k: int) -> np.ndarray:
    """Places in a segment, from its first to its last value of FP32."""
    return (0.5 - 0.5 * np.cos(np.pi * np.linspace(0, 1, _NODES))) * (1 - 2.0 ** (k - 23))


@dataclass(frozen=True)
class _Octave:
    """What the unit may give for x = sign * 2**power * significand, for every power of `powers`."""

    f: Callable[[np.ndarray], np.ndarray]
    sign: int
    powers: np.ndarray
    low: float
    high: float

    def limits(self, k: int, kind: int) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest, [2**k, nodes], at the nodes of each segment; RELATIVE: divided by x's power of two."""
        fraction = (np.arange(1 << k)[:, None] + _nodes(k)) / (1 << k)
        significand = 1 + fraction if self.sign > 0 else 2 - 2.0**-23 - fraction
        scale = 2.0 ** self.powers[:, None, None]
        x = self.sign * significand * scale
        y = self.f(x)
        error = ERROR * _MARGIN * np.maximum(np.abs(y), SMALL)
        low, high = np.maximum(y - error, self.low), np.minimum(y + error, self.high)
        if kind == IDENTITY:
            low, high = low - x, high - x
        if kind == RELATIVE:
            low, high = low / scale, high / scale
        return low.max(0), high.min(0)

    def holds(self, run: _Run) -> bool:
        """Whether a run keeps the limits."""
        low, high = self.limits(run.k, run.kind)
        lowest, highest = run.range()
        return bool(np.all((lowest >= low) & (highest <= high)))

    def fit(self, k: int, kind: int) -> _Run | None:
        """Nearly the best run of 2**k segments; None where numbers do not fit. Whether it `holds` is not known."""
        low, high = self.limits(k, kind)
        if not np.all(low < high):
            return None
        t = _nodes(k)
        powers_of_t = np.stack([np.ones_like(t), t, t * t], 1)
        middle, weight = (low + high) / 2, 1 / (high - low)

        c = _least_squares(powers_of_t, middle, weight)
        p, slope = c @ powers_of_t.T, c[:, 1:] @ powers_of_t[:, :2].T
        power = _power(np.stack([np.abs(p).max(1) / 2, np.abs(slope).max(1), np.abs(c[:, 2]) * 4]).max(0))
        if power.max() > _HIGHEST_POWER:
            return None
        scale = 2.0 ** power[:, None]
        middle, low, high = middle / scale, low / scale, high / scale
        c2 = np.rint(c[:, 2:] / scale * 2**C2_FRACTION)
        rest = middle - c2 * 2.0**-C2_FRACTION * t * t
        c1 = np.rint(_least_squares(powers_of_t[:, :2], rest, weight)[:, 1:] * 2**C1_FRACTION)
        lowest, highest = _truncated(0, c1, c2, k, np.zeros_like(power)[:, None])
        c0 = np.rint(((low - lowest).max(1) + (high - highest).min(1)) / 2 * 2**C0_FRACTION)
        return _Run(kind, *(tuple(v.astype(int).reshape(-1).tolist()) for v in (power, c0, c1, c2)))


def _least_squares(basis: np.ndarray, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Coefficients [segments, n] of `basis` [nodes, n] nearest to each row of `values`, weights likewise."""
    weighted = basis * weight[..., None] ** 2
    return np.linalg.solve(weighted.mT @ basis, (weighted.mT @ values[..., None]))[..., 0]


def _runs(name: str, parameters: tuple[float, ...], sign: int, lowest: int) -> list[_Run]:
    """The segments of one sign of x, by directory entry; the first has the biased exponent `lowest`."""
    ends = np.array([0.0, _LARGEST, np.inf])
    at_zero, at_end, at_infinity = reference(name, sign * ends, parameters)
    magnitudes = np.concatenate([ends[:2], 2.0 ** np.arange(-40, 128, 2.0**-6)])
    everywhere = reference(name, np.concatenate([magnitudes, -magnitudes]), parameters)
    runs: list[_Run] = []
    for entry in range(OCTAVES):
        first, last = entry == 0, entry == OCTAVES - 1
        power = lowest - 127 + entry
        powers = np.arange(-126 if first else power, 128 if last else power + 1)
        octave = _Octave(lambda x: reference(name, x, parameters), sign, powers, everywhere.min(), everywhere.max())
        absolute = NAN_AT_INFINITY if last and np.isnan(at_infinity) else ABSOLUTE
        simple = [_IDENTITY, _constant(at_zero if first else at_end, absolute), *runs[-1:]]
        fitted = (octave.fit(k, kind) for k in range(MAX_K + 1) for kind in (RELATIVE, absolute))
        run = next((run for run in chain(simple, fitted) if run and octave.holds(run)), None)
        if run is None:
            raise HeepgenError(
                f"{_text(name, parameters)}: no table of segments is exact enough for |x| from {2.0 ** powers[0]:g} "
                f"to {2.0 ** (powers[-1] + 1):g}"
            )
        runs.append(run)
    return runs


_IDENTITY = _Run(IDENTITY, (0,), (0,), (0,), (0,))


def _constant(value: float, kind: int) -> _Run | None:
    power = int(_power(np.abs(value) / 2))
    if not np.isfinite(value) or power > _HIGHEST_POWER:
        return None
    return _Run(kind, (power,), (int(np.rint(value * 2.0 ** (C0_FRACTION - power))),), (0,), (0,))


def _power(need: np.ndarray) -> np.ndarray:
    """Exponent of the least scale below which numbers are that are at most `need`, and some more for rounding."""
    return np.maximum(np.frexp(need * (1 + 2.0**-10))[1], _LOWEST_POWER)

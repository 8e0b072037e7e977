# SPDX-License-Identifier: Apache-2.0
"""Numbers, arrays and names as C++."""

import itertools
import re
from collections.abc import Iterable, Iterator

import numpy as np


def float_literal(value: float) -> str:
    """C++ expression of a float32; every NaN becomes the canonical one."""
    rounded = np.float32(value)
    if np.isnan(rounded):
        return '__builtin_nanf("")'
    if np.isinf(rounded):
        return "__builtin_inff()" if rounded > 0 else "-__builtin_inff()"
    return f"{np.format_float_scientific(rounded, unique=True, trim='0')}f"


def identifier(name: str) -> str:
    """A C++ identifier for a layer or constant name."""
    text = re.sub(r"[^0-9A-Za-z_]+", "_", name)
    return f"layer_{text}" if text[:1].isdigit() else text


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """C++ identifiers by name, all different."""
    result: dict[str, str] = {}
    taken: set[str] = set()
    numbers: dict[str, Iterator[int]] = {}
    for name in names:
        base = identifier(name)
        number = numbers.setdefault(base, itertools.count())
        result[name] = next(n for i in number if (n := f"{base}_{i}" if i else base) not in taken)
        taken.add(result[name])
    return result


def _lines(items: list[str], per_line: int) -> str:
    rows = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
    return rows[0] if len(rows) == 1 else "\n        " + ",\n        ".join(rows)


def array_values(array: np.ndarray) -> str:
    """Initialiser list of a uint32, int8 or float32 array."""
    if array.dtype == np.float32:
        return _lines([float_literal(v) for v in array.reshape(-1)], 6)
    if array.dtype == np.int8:
        return _lines([str(v) for v in array.reshape(-1)], 20)
    return _lines([f"0x{v:08x}" for v in array.reshape(-1)], 8)

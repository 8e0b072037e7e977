# SPDX-License-Identifier: Apache-2.0
"""Constants of a program: weights, parameters, tables of functions."""

import itertools
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from firmware_gen import ir
from firmware_gen.operations.functions import table, table_name
from firmware_gen.operations.tensors import Ref
from hls.arithmetic.function import ROW_WORDS

Added: TypeAlias = tuple[str, np.ndarray, Ref] | ir.Function
"""What was asked for of `Constants`: an array by a name, with its reference, or a table."""


class Constants:
    """Named constant arrays (uint32 words), stored once each, but for those `given` under the names of their values.
    added: what was asked for, in order."""

    def __init__(self, given: Mapping[str, np.ndarray] = MappingProxyType({})) -> None:
        self.arrays: dict[str, np.ndarray] = dict(given)
        self._names: dict[bytes, str] = {}
        self._numbers: dict[str, Iterator[int]] = {}
        self.added: list[Added] = []

    def add(self, name: str, words: np.ndarray) -> Ref:
        """Reference to an array with this content; `name` is made unique when the content is new."""
        key = words.tobytes()
        if key not in self._names:
            numbers = self._numbers.setdefault(name, itertools.count())
            unique = next(n for i in numbers if (n := f"{name}_{i}" if i else name) not in self.arrays)
            self.arrays[unique] = words
            self._names[key] = unique
        where = Ref(self._names[key])
        self.added.append((name, words, where))
        return where

    def again(self, added: Added) -> bool:
        """Ask once more for what was added to others; whether it has the same reference."""
        if isinstance(added, ir.Function):
            self.table(added)
            return True
        name, words, where = added
        return self.add(name, words) == where

    def table(self, function: ir.Function) -> tuple[Ref, int]:
        """Reference to a function's table, which has a name of its own, and TABLE_ROWS of it."""
        name = table_name(function)
        self.arrays[name] = table(function)
        self.added.append(function)
        return Ref(name), len(self.arrays[name]) // ROW_WORDS

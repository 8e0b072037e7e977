# SPDX-License-Identifier: Apache-2.0
"""Windows of a simulated run as bits: of every signal a machine word holds 64 cycles."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hls.errors import HeepgenError
from sim.run import CYCLE_TIME

BITS = 64
Words = NDArray[np.uint64]
Path_ = tuple[str, ...]

_SCOPE = re.compile(r"\$scope \w+ (\S+) \$end")
_VARIABLE = re.compile(r"\$var \w+ (\d+) (\S+) (\S+?)(?:\s*\[(\d+):\d+\])? \$end")


@dataclass
class _Variable:
    width: int
    cycles: list[int] = field(default_factory=list)
    values: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Waves:
    """What signals were just before the clock rose, in cycles `first` <= c < `last` of every window. begun: the cycle
    from which registers hold what they were given."""

    windows: tuple[tuple[int, int], ...]
    variables: dict[tuple[Path_, str], _Variable] = field(repr=False)
    roots: tuple[Path_, ...] = ()
    begun: int = 0

    @cached_property
    def cycles(self) -> NDArray[np.int64]:
        return np.concatenate([np.arange(first, last) for first, last in self.windows])

    @cached_property
    def length(self) -> int:
        """Machine words that a window takes."""
        return max(-(-(last - first) // BITS) for first, last in self.windows)

    @cached_property
    def _cache(self) -> dict[int, Words]:
        return {}

    def has(self, path: Path_, name: str) -> bool:
        return (path, name) in self.variables

    def words(self, path: Path_, name: str) -> Words:
        """Bits of signal `name` of the instance at `path`, (width, windows, length); 0 behind a window's end."""
        variable = self.variables[path, name]
        if id(variable) not in self._cache:
            self._cache[id(variable)] = self._packed(variable)
        return self._cache[id(variable)]

    def _packed(self, variable: _Variable) -> Words:
        width, at = variable.width, np.array(variable.cycles, np.int64)
        text = "".join(v.rjust(width, "0") for v in variable.values)
        values = np.frombuffer(text.encode(), np.uint8).reshape(-1, width) & 1
        place = np.searchsorted(at, self.cycles, "right") - 1
        bits = np.zeros((width, len(self.windows), self.length * BITS), np.uint8)
        every = values[np.maximum(place, 0), ::-1].T if len(values) else np.zeros((width, len(self.cycles)), np.uint8)
        start = 0
        for number, (first, last) in enumerate(self.windows):
            bits[:, number, : last - first] = every[:, start : start + last - first]
            start += last - first
        return np.packbits(bits, axis=2, bitorder="little").view(np.uint64)

    def valid(self, begun: int = 0) -> Words:
        """Ones in the cycles of each window, (windows, length), from cycle `begun` on."""
        result = np.zeros((len(self.windows), self.length * BITS), np.uint8)
        for number, (first, last) in enumerate(self.windows):
            result[number, max(begun - first, 0) : last - first] = 1
        return np.packbits(result, axis=1, bitorder="little").view(np.uint64)


def read_waves(vcd: Path, root: str, windows: Sequence[tuple[int, int]]) -> Waves:
    """The windows that lie in a VCD of `sim.run`; paths begin below the instance of module `root`.

    Raises `HeepgenError` where the file has none of its signals.
    """
    identities: dict[str, _Variable] = {}
    variables: dict[tuple[Path_, str], _Variable] = {}
    scopes: list[str] = []
    with open(vcd) as stream:
        for line in stream:
            words = line.strip()
            if words.startswith("$scope"):
                scopes.append(_SCOPE.match(words)[1])  # type: ignore[index]
            elif words.startswith("$upscope"):
                scopes.pop()
            elif words.startswith("$var"):
                width, identity, name, _ = _VARIABLE.match(words).groups()  # type: ignore[union-attr]
                variable = identities.setdefault(identity, _Variable(int(width)))
                if root in scopes:
                    variables[tuple(scopes[scopes.index(root) + 1 :]), name] = variable
            elif words.startswith("$enddefinitions"):
                break
        if not variables:
            raise HeepgenError(f"{vcd} has no signals of {root}.")
        cycle = 0
        for line in stream:
            start = line[0]
            if start == "#":
                cycle = int(line[1:]) // CYCLE_TIME
            elif start == "b":
                value, _, identity = line[1:].rstrip().partition(" ")
                _change(identities[identity], cycle, value)
            elif start in "01":
                _change(identities[line[1:].rstrip()], cycle, start)
    return Waves(tuple(windows), variables)


def _change(variable: _Variable, cycle: int, value: str) -> None:
    if variable.cycles and variable.cycles[-1] == cycle:
        variable.values[-1] = value
    else:
        variable.cycles.append(cycle)
        variable.values.append(value)

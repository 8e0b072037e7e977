# SPDX-License-Identifier: Apache-2.0
"""Energy of every instance of an accelerator in windows of a run."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from gen.ppa.energy.activity import Activity, Words, after, settle
from gen.ppa.energy.netlist import Bit, Memory, Netlist
from gen.ppa.energy.power import energy
from gen.ppa.energy.waves import Waves
from gen.ppa.liberty import Library

Path = tuple[str, ...]
Floats = NDArray[np.float64]
MOST_WORDS = 1 << 22
"""Machine words of all nets of a module at once, 32 MiB a quantity."""


@dataclass(frozen=True)
class Accesses:
    """Of an SRAM, in all steps of a window. repeated: reads from the address of the cycle before."""

    memory: Memory
    reads: NDArray[np.int64]
    repeated: NDArray[np.int64]
    writes: NDArray[np.int64]


@dataclass(frozen=True)
class Instance:
    """One instance at `path` below the root, without those in it; by window, what `Energy` has by segment. area: of its
    cells, um2."""

    path: Path
    module: str
    area: float
    data: Floats
    clock: Floats
    leakage: Floats
    steps: NDArray[np.int64]
    memories: tuple[Accesses, ...]


def tree(netlists: Mapping[str, Netlist], root: str) -> Iterator[tuple[Path, str]]:
    """(path, module) of the root and of all instances below it."""
    todo: list[tuple[Path, str]] = [((), root)]
    while todo:
        path, module = todo.pop()
        yield path, module
        todo += [((*path, child.name), child.module) for child in netlists[module].children]


def measure(netlists: Mapping[str, Netlist], root: str, library: Library, waves: Waves) -> list[Instance]:
    """What each instance took, of modules by name; raises `HeepgenError` as `activity.settle`."""
    places: dict[str, list[Path]] = defaultdict(list)
    for path, module in tree(netlists, root):
        places[module].append(path)
    result = []
    for module, paths in places.items():
        found = netlists[module]
        per_path = len(waves.windows) * waves.length * max(len(found.signals) + len(found.gates), 1)
        most = max(1, MOST_WORDS // per_path)
        for start in range(0, len(paths), most):
            result += _measured(found, library, waves, paths[start : start + most])
    return result


def _measured(found: Netlist, library: Library, waves: Waves, paths: Sequence[Path]) -> list[Instance]:
    valid, checked = (np.concatenate([words] * len(paths)) for words in (waves.valid(), waves.valid(waves.begun)))
    activity = settle(found, library, _Signals(waves, paths), valid, checked)
    spent = energy(activity, library)
    memories = [_accesses(memory, activity) for memory in found.memories]
    area = sum(library.cells[gate.kind].area for gate in found.gates)
    count = len(waves.windows)
    result = []
    for number, path in enumerate(paths):
        own = slice(number * count, (number + 1) * count)
        accesses = tuple(Accesses(m.memory, m.reads[own], m.repeated[own], m.writes[own]) for m in memories)
        values = (spent.data[own], spent.clock[own], spent.leakage[own], spent.steps[own])
        result.append(Instance(path, found.module, area, *values, accesses))
    return result


class _Signals:
    """Bits of a module's signals in all windows of all its instances."""

    def __init__(self, waves: Waves, paths: Sequence[Path]) -> None:
        self.waves, self.paths = waves, paths
        self.known: dict[str, Words | None] = {}

    def __call__(self, name: str, index: int) -> Words | None:
        if name not in self.known:
            self.known[name] = self._all(name)
        words = self.known[name]
        return None if words is None else words[index]

    def _all(self, name: str) -> Words | None:
        *inside, own = name.split(".")  # a flattened netlist names what lies deeper
        paths = [(*path, *inside) for path in self.paths]
        if not all(self.waves.has(path, own) for path in paths):
            return None
        return np.concatenate([self.waves.words(path, own) for path in paths], axis=1)


def _accesses(memory: Memory, activity: Activity) -> Accesses:
    """A read in every cycle in which its port is enabled, a write where any bit's is."""
    values, steps = activity.values, activity.steps
    none = np.zeros_like(steps)

    def some(bits: Iterable[Bit]) -> Words:
        return reduce(np.bitwise_or, (values[bit] for bit in set(bits)), none)

    def cycles(words: Iterable[Words]) -> NDArray[np.int64]:
        counted: NDArray[np.int64] = sum(np.bitwise_count(w & steps).sum(axis=-1, dtype=np.int64) for w in words)
        return counted

    moved = [reduce(np.bitwise_or, (values[b] ^ after(values[b]) for b in address)) for _, address in memory.reads]
    return Accesses(
        memory,
        cycles(values[enable] for enable, _ in memory.reads),
        cycles(values[enable] & ~changed for (enable, _), changed in zip(memory.reads, moved, strict=True)),
        cycles(some(enables) for enables in memory.writes),
    )

# SPDX-License-Identifier: Apache-2.0
"""The strips of every descriptor of a compiled network, chosen by what they cost it and the next one."""

import math
from collections.abc import Hashable, Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from firmware_gen.memory.planner import memory_map
from firmware_gen.targets.descriptor.estimate import descriptor_cycles, descriptor_places, rotation_cycles
from firmware_gen.targets.descriptor.linked.program import Program
from firmware_gen.targets.descriptor.timing.banks import sharing
from firmware_gen.targets.descriptor.timing.spans import strip_span
from firmware_gen.targets.descriptor.timing.timeline import Timeline, Work
from hls.config import Config
from hls.descriptor.interface.rules import activation_room
from hls.descriptor.interface.table import Linked, on_chip

READ = 0.05
"""What a cycle of the bus for weights and parameters is worth beside one of the network."""

NEAR = 0.05
"""How much slower than the best one a program may be by the first few strips, and have its best ones chosen."""

MOST = 4
"""Programs for which the best strips are chosen."""

FEW = 3
"""Strips of a descriptor that are tried at first."""

ROUNDING = 1e-3
"""Cycles by which a sum of the timeline's may be off."""

CHECKED = 50_000
"""Cycles of a network up to which the cycle model, which takes a second for so many, has the last word;
up to twice so many it has that on strips that are chosen once more."""

TRUSTED = 1e-3
"""What these must save of a longer network's cycles by the timeline, whose error is not much smaller."""


def fastest(programs: Iterable[Program]) -> Program:
    """Of programs of one network, those that may be the fastest with their best strips, the first that takes fewest
    cycles. Of a long one strips are chosen once more: those of the next descriptor are known then."""
    found: Found = {}
    best, cycles = min((choose_strips(program, found) for program in near(programs)), key=lambda choice: choice[1])
    if CHECKED < cycles < math.inf:
        again, fewer = choose_strips(best, found)
        if cycles > 2 * CHECKED:
            return again if fewer < (1 - TRUSTED) * cycles else best
        if fewer < cycles and _total(again) < _total(best):
            return again
    return best


def near(programs: Iterable[Program], most: int = MOST, known: "Rough | None" = None) -> list[Program]:
    """Of programs of one network those that may be the fastest with their best strips, in their order, so many at
    most."""
    known = known or Rough()
    rough = [(known.cycles(program), number, program) for number, program in enumerate(programs)]
    best = sorted(rough, key=itemgetter(0, 1))[:most]
    return [program for cycles, _, program in sorted(best, key=itemgetter(1)) if cycles <= (1 + NEAR) * best[0][0]]


class Rough:
    """What programs of one network are expected to take with the first few strips of every descriptor, of which the
    very first are those that it has."""

    def __init__(self, few: int = FEW) -> None:
        self._few = few
        self._timelines: dict[Hashable, tuple[int, Timeline]] = {}
        """Numbered, by the one before and the shape of a descriptor, and the strips that it has."""
        self._found: dict[int, tuple[Program, list[float]]] = {}

    def cycles(self, program: Program) -> float:
        """Infinitely many where `choose_strips` says so."""
        return math.inf if _is_unknown(program) else max(self._ends(program), default=0.0)

    def by_layer(self, program: Program) -> list[float] | None:
        """Cycles of every layer, from the end of the one before on; None where nobody knows."""
        if _is_unknown(program):
            return None
        found, done = [0.0] * len(program.layers), float(rotation_cycles(program))
        layer = {i: number for number, own in enumerate(program.layers) for i in own.descriptors}
        for number, end in enumerate(self._ends(program)):
            found[layer[number]] += end - done
            done = end
        return found

    def _ends(self, program: Program) -> list[float]:
        """Of every descriptor."""
        if id(program) not in self._found:
            self._found[id(program)] = program, list(self._counted(program))
        return self._found[id(program)][1]

    def _counted(self, program: Program) -> Iterator[float]:
        before = float(rotation_cycles(program))
        for listed in program.lists:
            last = 0, Timeline()
            for index in range(listed.first, listed.end):
                work = _work(program, index)
                strips = work.descriptor.first_px, work.descriptor.strip_px
                key = last[0], work.shape, strips
                if key not in self._timelines:
                    number = len(self._timelines) + 1
                    self._timelines[key] = number, _soonest(last[1], work, strips, program.config, self._few)
                last = self._timelines[key]
                yield before + last[1].done
            before += last[1].done


def _soonest(timeline: Timeline, work: Work, strips: tuple[int, int], config: Config, few: int) -> Timeline:
    """After a descriptor that has such strips, or other ones."""
    best: tuple[tuple[float, float], Timeline] | None = None
    for candidate in list(dict.fromkeys([strips, *_candidates(work, config)]))[:few]:
        trial = timeline.copy()
        trial.add(work, *candidate)
        cost = trial.done + READ * work.reads(_count(work, candidate)), trial.through
        if best is None or cost < best[0]:
            best = cost, trial
    assert best is not None, "there is one candidate at least"
    return best[1]


def _count(work: Work, strips: tuple[int, int]) -> int:
    """Strips in all."""
    first, other = strips
    return 1 + -(-(work.descriptor.out_px - first) // other)


def _is_unknown(program: Program) -> bool:
    """Whether activations lie in contiguous banks: the timeline does not know how these slow them down."""
    return program.config.ports > 1 and program.arena_address < memory_map(program.config)[0]


def choose_strips(program: Program, found: "Found | None" = None) -> tuple[Program, float]:
    """The program with FIRST_PX and STRIP_PX of all descriptors chosen anew; the order of weights, and so CBG, stays.

    Also the cycles that are expected. Nothing changes, and infinitely many are, where nobody knows them.
    """
    if _is_unknown(program):
        return program, math.inf
    found = {} if found is None else found
    before = [(f.first_px, f.strip_px) for f in program.linked]
    chosen, cycles = [], float(rotation_cycles(program))
    for listed in program.lists:
        works = [_work(program, index) for index in range(listed.first, listed.end)]
        strips, done = _choose(works, before[listed.range], program.config, found)
        chosen += strips
        cycles += done
    other = program.with_strips(chosen)
    if cycles > CHECKED:
        return other, cycles
    old, new = _total(program), _total(other)
    return (program, old) if new > old else (other, new)


class _Choice(NamedTuple):
    """Strips of a descriptor, the timeline after it, and that with the next one in the strips that it has."""

    number: int
    strips: tuple[int, int]
    timeline: Timeline
    after: Timeline


_Given: TypeAlias = tuple[tuple[object, ...], tuple[int, int]]
"""The shape of a descriptor, and the strips that it has."""

Found: TypeAlias = dict[tuple[int, _Given, _Given | None], _Choice]
"""Choices by the one before and what they depend on: programs of a network often begin alike."""


def _choose(
    works: list[Work], strips: list[tuple[int, int]], config: Config, found: Found
) -> tuple[list[tuple[int, int]], float]:
    """Strips of a list of descriptors, each with those that let the next one end first, and when the last one ends."""
    given = [(work.shape, strip) for work, strip in zip(works, strips, strict=True)]
    last = _Choice(0, (0, 0), Timeline(), Timeline())
    chosen = []
    for place, work in enumerate(works):
        following = works[place + 1 : place + 2]
        key = last.number, given[place], given[place + 1] if following else None
        if key not in found:
            after = [(following[0], *strips[place + 1])] if following else []
            found[key] = _best(len(found) + 1, last, work, strips[place], after, config)
        last = found[key]
        chosen.append(last.strips)
    return chosen, last.timeline.done


def _best(
    number: int,
    last: _Choice,
    work: Work,
    strips: tuple[int, int],
    following: list[tuple[Work, int, int]],
    config: Config,
) -> _Choice:
    """Of a descriptor that has such strips, behind the last one."""
    timeline = last.timeline
    best: tuple[tuple[float, float], _Choice] | None = None
    for candidate in dict.fromkeys([strips, *_candidates(work, config)]):
        reads = READ * work.reads(_count(work, candidate))
        enough = math.inf if best is None else best[0][0] + ROUNDING - reads
        if timeline.earliest([(work, *candidate), *following]) > enough:
            continue
        if best is None and last.number:
            trial = last.after
        else:
            trial = timeline.copy()
            trial.add(work, *candidate)
        if trial.earliest(following) > enough:
            continue
        after = trial
        if following:
            after = trial.copy()
            after.add(*following[0])
        cost = (after.done + reads, after.through)
        if best is None or cost < best[0]:
            best = cost, _Choice(number, candidate, trial, after)
    assert best is not None, "there is one candidate at least"
    return best[1]


def _candidates(work: Work, config: Config) -> list[tuple[int, int]]:
    """(FIRST_PX, STRIP_PX) that split the pixels nearly evenly, a little or much finer than necessary."""
    f = work.descriptor
    if is_whole(f):
        return []
    pixels, room = f.out_px, activation_room(config)
    longest = min(config.accumulator_entries // f.cbg, pixels)
    fewest = -(-pixels // longest)
    counts = [fewest, fewest + 1, fewest + 2, fewest + 3, 2 * fewest, 3 * fewest, 4 * fewest]
    lengths = sorted({longest, *(-(-pixels // n) for n in counts if n <= pixels)}, reverse=True)
    pairs = dict.fromkeys((-(-strip // part), strip) for strip in lengths for part in (1, 2, 4))
    return [pair for pair in pairs if strip_span(f, *pair, work.windows) <= room]


def is_whole(f: Linked) -> bool:
    """Whether all pixels must be one strip: they are marked block by block, or stored over the input, of which nothing
    may be missing then."""
    return bool(f.mark_blocks) or (on_chip(f.load_addr) and f.load_addr == f.store_addr and not f.diagonal)


def _total(program: Program) -> int:
    return sum(e.cycles for e in descriptor_cycles(program)) + rotation_cycles(program)


def _work(program: Program, index: int) -> Work:
    """Of a linked descriptor: words of a beat that lie in one bank take a cycle each."""
    f = program.linked[index]
    shared = sharing(f, descriptor_places(program, index), program.config)
    words = sum(words for words, _ in shared.weights)
    weights = sum(words * n for words, n in shared.weights) / words if words else 1
    return Work(f, program.config, weights, shared.params)

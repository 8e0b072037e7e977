# SPDX-License-Identifier: Apache-2.0
"""Which tensors live in the scratchpad instead of memory, where, and which layers take turns so that they can.

A tensor may if the accelerator alone touches it, channels side by side: as a whole, or, between layers that take
turns (`lowering.depth_first`), in a ring of a few rows. What saves most cycles for its size is taken first, as long as
all that is alive at once fits.
"""

import heapq
import itertools
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from firmware_gen.memory import planner
from firmware_gen.memory.planner import Buffer
from firmware_gen.operations.tensors import Ref
from firmware_gen.targets.descriptor.lowering.depth_first import Group, Link
from firmware_gen.targets.descriptor.lowering.job import DESCRIPTOR_BYTES, Job, activations
from firmware_gen.targets.descriptor.scratchpad.choice import Choice
from firmware_gen.targets.descriptor.scratchpad.homes import Home, scattered
from firmware_gen.targets.descriptor.scratchpad.overlap import Line, Use, Whole, cost, delays, joined
from firmware_gen.targets.descriptor.scratchpad.rings import Rings
from firmware_gen.targets.descriptor.scratchpad.room import Room
from firmware_gen.targets.descriptor.scratchpad.splice import Plan, spliced
from hls.config import Config
from hls.descriptor.interface.timing import fetch_beats, record_beats

MARGINS = (0.2, 0.05)
"""The fraction of its layers' cycles that a group has to save: estimates are rough, so there are several choices."""

ROUGH = 0.5
"""How much slower the best choice of a search may be than the best one of all, and be tried too: estimates are that
rough for small buffers, most of all of what turns cost."""

TURN = 180
"""Cycles that a piece loses: its strips are short, its first rows and weights late. Measured with the cycle model."""

PIECES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48)
"""Numbers of pieces of a group's last layer that are tried."""

WEIGHTS = (1.0, 0.5, 0.0)
"""Powers of the size that a gain is divided by, tried in turn."""


def choose(
    jobs: Sequence[Sequence[Job]],
    links: Sequence[Link],
    buffers: list[Buffer],
    excluded: Iterable[str],
    arena: int,
    config: Config,
    poolings: Container[int] = (),
    lost: Callable[[int, int], float] = lambda arena, more: 0.0,
) -> list[tuple[tuple[Group, ...], dict[str, Home]]]:
    """Groups of steps that take turns, and the homes of all storages on chip: choices, of which one may be faster.

    jobs: those of every step, lowered with all tensors in memory. buffers: lives of their storages. excluded: storages
    that others than the accelerator read or write. arena: bytes that what stays in memory may take at once, with
    descriptors beside those of `jobs`; layers that take turns keep their inputs for longer. poolings: steps that may
    pool what the one before computes, piece by piece. lost: cycles that constants lose beside so
    many bytes in memory and descriptors.
    """
    plan = _Planner(jobs, links, buffers, excluded, arena, config, lost)
    searches = (plan.search(weight, count) for count in plan.sources_tried for weight in WEIGHTS)
    fast = [sorted(search, key=plan.cycles) for search in searches]
    each = [next(filter(plan.fits, own), own[0]) for own in fast]
    best = min(each, key=lambda choice: (not plan.fits(choice), plan.cycles(choice)))
    enough = (1 + ROUGH) * plan.cycles(best)
    others = [c for c in dict.fromkeys(each) if c != best and plan.cycles(c) < enough and plan.fits(c)]
    some = dict.fromkeys((best, plan.joined(best)))
    choices = dict.fromkeys(plan.refilled(plan.pruned(choice, margin)) for choice in some for margin in MARGINS)
    choices |= dict.fromkeys(plan.with_poolings(c, poolings, sooner) for sooner in (False, True) for c in choices)
    choices |= dict.fromkeys(plan.with_poolings(plan.refilled(plan.pruned(c, MARGINS[0])), poolings) for c in others)
    choices |= dict.fromkeys(map(plan.for_channels, choices))
    choices = dict.fromkeys(map(plan.with_channels, choices))
    return [(choice.groups, homes) for choice in choices if (homes := plan.places(choice))]


def splice(
    plans: Sequence[Plan],
    jobs: Sequence[Sequence[Job]],
    links: Sequence[Link],
    buffers: list[Buffer],
    excluded: Iterable[str],
    arena: int,
    config: Config,
) -> tuple[tuple[Group, ...], dict[str, Home]] | None:
    """One more choice, of the best parts of others, if there is one, and it fits; the rest as in `choose`."""
    plan = _Planner(jobs, links, buffers, excluded, arena, config)
    found = spliced(plans, buffers, plan.touching)
    if found is None:
        return None
    groups, on_chip = found
    rings = {link.value for group in groups for link in plan.rings.links(group)}
    homes = plan.places(Choice(on_chip - rings, groups))
    return (groups, homes) if homes else None


class _Planner:
    """Costs and places of choices."""

    def __init__(
        self,
        jobs: Sequence[Sequence[Job]],
        links: Sequence[Link],
        buffers: list[Buffer],
        excluded: Iterable[str],
        arena: int,
        config: Config,
        lost: Callable[[int, int], float] = lambda arena, more: 0.0,
    ) -> None:
        self.jobs, self.config, self.size = jobs, config, 4 * config.scratchpad_words
        self.all, self.arena, self.lost = buffers, arena, lost
        self._descriptors = [len(own) for own in jobs]
        self.names = [
            frozenset(where.name for job in own for where in activations(job.descriptor).values()) for own in jobs
        ]
        self.touching: dict[str, set[int]] = {b.name: set() for b in buffers}
        for step, names in enumerate(self.names):
            for name in names & self.touching.keys():
                self.touching[name].add(step)
        forbidden = set(excluded) | {name for own in jobs for job in own for name in scattered(job, config)}
        self.lives = {b.name: b for b in buffers if b.name not in forbidden}
        self.links = {link.step: link for link in links if link.value in self.lives}
        small = (n for n, b in self.lives.items() if b.size <= self.size and self.touching[n])
        storages = tuple(small)
        single = [link for link in self.links.values() if len(jobs[link.step]) == len(jobs[link.step + 1]) == 1]
        parts = [link for link in self.links.values() if link not in single]
        self.sources: tuple[str | Link, ...] = (*storages, *single, *parts)
        self.sources_tried = dict.fromkeys((len(self.sources), len(self.sources) - len(parts), len(storages)))
        """How many of them, from the first on, searches take: turns, or those of layers in parts, can lead away from
        what is best without any."""
        self._sources_at: list[list[int]] = [[] for _ in range(len(jobs) + 1)]
        for number, source in enumerate(self.sources):
            for step in self.touching[source] if isinstance(source, str) else (source.step, source.step + 1):
                self._sources_at[step].append(number)
        self._known: dict[tuple[Group | int, frozenset[str]], float] = {}
        self._known_groups: dict[tuple[int, ...], list[Group]] = {}
        self._seen = Choice(), frozenset[str]()
        self._known_pieces: dict[tuple[Any, ...], list[Use]] = {}
        self._wholes: dict[int, Whole] = {}
        self._fetch = fetch_beats(config) + record_beats(config)
        self.rings = Rings(self.links, config)
        self._timed = Choice()

    @cached_property
    def _line(self) -> Line:
        """Of the choice that was timed last."""
        line = Line(len(self.jobs), delays(self.config))
        line.change({step: self._uses(step, None, frozenset()) for step in range(len(self.jobs))})
        return line

    def search(self, weight: float, count: int | None = None) -> Iterator[Choice]:
        """From nothing on, take what saves most, divided by its size to the power of `weight`, until no more fits.

        What an item saves is computed again only when something near it was taken. count: of the sources, from the
        first on, that are taken; all without.
        """
        best, room = Choice(), Room(self)
        yield best
        queue: list[tuple[Any, ...]] = []  # (-saved for its size, source, number among its items, age, item)
        sources = self.sources[:count]
        ages = [0] * len(sources)
        changed: Iterable[int] = range(len(sources))
        while True:
            for source in changed:
                ages[source] += 1
                for number, item in enumerate(self.items(best, sources[source])):
                    gain = self.gain(best, item)
                    if gain > 0:
                        value = gain / max(self.more_bytes(best, item), 1) ** weight
                        heapq.heappush(queue, (-value, source, number, ages[source], item))
            too_large = []
            while queue:
                _, source, _, age, item = option = heapq.heappop(queue)
                if age != ages[source]:
                    continue
                if room.take(item):
                    break
                too_large.append(option)
            else:
                return
            for option in too_large:
                heapq.heappush(queue, option)
            changed = [source for source in self._sources_near(best, item) if source < len(sources)]
            best = best.grown(item)
            yield best

    def pruned(self, choice: Choice, margin: float) -> Choice:
        """The choice without groups that do not save that fraction of their cycles, nor tensors that save nothing."""
        cycles = self.cycles(choice)
        for group in choice.groups:
            without = replace(choice, groups=tuple(g for g in choice.groups if g != group))
            least = margin * self._group_cycles(group, self.on_chip(choice))
            if (fewer := self.cycles(without)) < cycles + least and self._may_follow(choice, without):
                choice, cycles = without, fewer
        for name in sorted(choice.whole):
            without = replace(choice, whole=choice.whole - {name})
            if (fewer := self.cycles(without)) <= cycles and self._may_follow(choice, without):
                choice, cycles = without, fewer
        return choice

    def _may_follow(self, choice: Choice, other: Choice) -> bool:
        """Whether what another choice leaves in memory fits if the choice's does."""
        return self.fits(other) or not self.fits(choice)

    def fits(self, choice: Choice) -> bool:
        """Whether memory holds what stays there."""
        return self._in_memory(choice) + self.more_descriptor_bytes(choice) <= self.arena

    def more_descriptor_bytes(self, choice: Choice) -> int:
        """Of those that layers which take turns have more."""
        return DESCRIPTOR_BYTES * self._more_descriptors(choice)

    def refilled(self, choice: Choice) -> Choice:
        """The choice, or one with a group less whose room whole tensors use better."""
        best = choice, self.cycles(choice)
        for group in choice.groups:
            other = self.filled(replace(choice, groups=tuple(g for g in choice.groups if g != group)))
            if (cycles := self.cycles(other)) < best[1] and self._may_follow(choice, other):
                best = other, cycles
        return best[0]

    def joined(self, choice: Choice) -> Choice:
        """The choice, or one in which groups that follow each other are one, where that saves cycles: what is between
        them is on chip then, and whole tensors make room for it."""
        best = choice, self.cycles(choice)
        for group, after in itertools.permutations(choice.groups, 2):
            if after.steps[0] != group.steps[-1] + 1 or group.steps[-1] not in self.links:
                continue
            rest = tuple(g for g in choice.groups if g not in (group, after))
            for one in self._groups((*group.steps, *after.steps)):
                for own in dict.fromkeys((one, replace(one, early=one.ahead == 0))):
                    other = self.filled(Choice(groups=(*rest, own)))
                    if self.places(other) is not None and (cycles := self.cycles(other)) < best[1]:
                        best = other, cycles
        return choice if best[0] == choice else self.joined(best[0])

    def filled(self, choice: Choice) -> Choice:
        """The choice with whole tensors that it has room for, those first that save most, if they save something."""
        room = Room(self)
        if not all(room.take(group) for group in choice.groups) or not all(map(room.take, sorted(choice.whole))):
            return choice
        names = (name for name in self.sources if isinstance(name, str) and name not in self.on_chip(choice))
        gains = sorted(((self.gain(choice, name), name) for name in names), reverse=True)
        for name in (name for gain, name in gains if gain > 0):
            if room.take(name):
                choice = choice.grown(name)
        return choice

    def with_poolings(self, choice: Choice, poolings: Container[int], sooner: bool = False) -> Choice:
        """The choice with every group that pools what its last layer computes, where that may be done; the result, a
        few words, is in memory then."""
        groups, written = [], set[str]()
        for group in choice.groups:
            step = group.steps[-1] + 1
            if step in poolings:
                group = replace(group, steps=(*group.steps, step), pooled=True, sooner=sooner)
                written |= {
                    where.name for job in self.jobs[step] if isinstance(where := job.descriptor.store_addr, Ref)
                }
            groups.append(group)
        return Choice(choice.whole - written, tuple(groups))

    def for_channels(self, choice: Choice) -> Choice:
        """The choice, with what the pairs of `_by_channels` load in the place of other whole tensors."""
        first = [name for step in self._by_channels(choice) for name in sorted(self.links[step].by_channels)]
        room, other = Room(self), replace(choice, whole=frozenset())
        if choice.whole.issuperset(first) or not all(map(room.take, choice.groups)):
            return choice
        for name in dict.fromkeys((*first, *sorted(choice.whole))):
            other = other.grown(name) if room.take(name) else other
        return self.filled(other)

    def with_channels(self, choice: Choice) -> Choice:
        """The choice with all pairs of `_by_channels` of which that is on chip, and that still fit."""
        before = -2
        for step in self._by_channels(choice):
            if step > before + 1 and self.links[step].by_channels <= choice.whole:
                more = replace(choice, groups=(*choice.groups, Group((step, step + 1), 0, by_channels=True)))
                if self.places(more) is not None:
                    choice, before = more, step
        return choice

    def _by_channels(self, choice: Choice) -> list[int]:
        """First steps of pairs outside a choice's groups that may take turns by channels, with all that they load on
        chip."""
        taken = {step for group in choice.groups for step in group.steps}
        own = (s for s, link in self.links.items() if link.by_channels and link.by_channels <= self.lives.keys())
        return [step for step in own if taken.isdisjoint((step, step + 1)) and self._may_take_turns((step, step + 1))]

    def on_chip(self, choice: Choice) -> frozenset[str]:
        if choice is not self._seen[0]:
            rings = (self.links[step].value for group in choice.groups for step in group.turning[:-1])
            self._seen = choice, choice.whole.union(rings)
        return self._seen[1]

    def timeline(self, choice: Choice) -> float:
        """Estimated cycles of the whole network, stage by stage, as descriptors follow each other."""
        steps, on_chip = self.changed(self._timed, choice), self.on_chip(choice)
        self._line.change({step: self._uses(step, choice.group_at.get(step), on_chip) for step in steps})
        self._timed = choice
        return self._line.cycles

    def cycles(self, choice: Choice) -> float:
        """`timeline`, and what constants lose by what stays in memory."""
        return self.timeline(choice) + self.lost(self._in_memory(choice), self._more_descriptors(choice))

    def _in_memory(self, choice: Choice) -> int:
        """Bytes that are alive at once beside what is on chip."""
        names = {b.name for b in self.buffers(choice)}
        return planner.peak([self.alive(b.name, b, choice) for b in self.all if b.name not in names], len(self.jobs))[0]

    def _more_descriptors(self, choice: Choice) -> int:
        return sum(self.rings.more_descriptors(group, self._descriptors) for group in choice.groups)

    def changed(self, old: Choice, new: Choice) -> set[int]:
        """Steps whose descriptors differ between two choices, or the streams of theirs that are on chip."""
        names = self.on_chip(old) ^ self.on_chip(new)
        steps = {step for group in set(old.groups) ^ set(new.groups) for step in group.steps}
        steps.update(*(self.touching[name] for name in names))
        for group in new.groups:
            if not steps.isdisjoint(group.steps):
                steps.update(group.steps)
        return steps

    def _uses(self, step: int, group: Group | None, on_chip: frozenset[str]) -> list[Use]:
        """Of the descriptors of a step; those of a group are its first one's."""
        if group is None or group.by_channels:
            return [self.use(job, on_chip) for job in self.jobs[step]]
        return self._pieces(group, self._near(group, on_chip)) if step == group.steps[0] else []

    def _near(self, group: Group, on_chip: frozenset[str]) -> frozenset[str]:
        return on_chip & frozenset().union(*(self.names[step] for step in group.steps))

    def alive(self, name: str, buffer: Buffer, choice: Choice) -> Buffer:
        """The buffer, alive while groups that touch it take turns."""
        for group in choice.groups:
            if self.touching[name] & set(group.steps):
                buffer = buffer.through(group.steps[0], group.steps[-1])
        return buffer

    def steps_from(self, choice: Choice) -> Iterator[Choice]:
        """Choices with one storage more on chip."""
        return (choice.grown(item) for source in self.sources for item in self.items(choice, source))

    def items(self, choice: Choice, source: str | Link) -> Iterator[str | Group]:
        """What a choice can grow by: a storage as a whole, or a link's groups, with those that its steps are in."""
        if isinstance(source, str):
            if source not in self.on_chip(choice):
                yield source
            return
        if source.value in self.on_chip(choice):
            return
        near = [g for g in choice.groups if source.step in g.steps or source.step + 1 in g.steps]
        yield from self._groups(tuple(sorted({source.step, source.step + 1, *(s for g in near for s in g.steps)})))

    def _groups(self, steps: tuple[int, ...]) -> list[Group]:
        """Those of some steps, if these may take turns."""
        if steps not in self._known_groups:
            outputs = self.links[steps[-2]].reader.outputs
            heights = {-(-outputs // n) for n in PIECES if n <= outputs} if self._may_take_turns(steps) else ()
            self._known_groups[steps] = [Group(steps, height, ahead) for height in heights for ahead in (0, 1)]
        return self._known_groups[steps]

    def _sources_near(self, choice: Choice, item: str | Group) -> list[int]:
        """Numbers of the sources whose items, or what they save, change when a choice grows by an item."""
        steps = self.changed(choice, choice.grown(item))
        return sorted({source for step in steps for source in self._sources_at[step]})

    def _may_take_turns(self, steps: tuple[int, ...]) -> bool:
        """Whether no layer writes, besides the rings, what another one of the steps still reads."""
        streams = [(step, activations(self.jobs[step][0].descriptor)) for step in steps]
        names = {
            stream: [(step, where[stream].name) for step, where in streams if stream in where]
            for stream in ("LOAD", "AUX", "STORE")
        }
        rings = {self.links[step].value for step in steps[:-1]}
        stored = [(step, name) for step, name in names["STORE"] if name not in rings]
        return not any(
            name == other and (stream == "LOAD" or step != reader)
            for step, name in stored
            for stream in ("LOAD", "AUX")
            for reader, other in names[stream]
        )

    def buffers(self, choice: Choice) -> list[Buffer]:
        result = [self.alive(name, self.lives[name], choice) for name in sorted(choice.whole)]
        for group in choice.groups:
            result += [
                Buffer(link.value, 4 * words, group.steps[0], group.steps[-1], align=4 * words)
                for link, words in self.rings.of(group)
            ]
        return result

    def places(self, choice: Choice, orders: int = planner.PLACEMENTS) -> dict[str, Home] | None:
        """Homes, None if it does not fit, in so many orders."""
        buffers = self.buffers(choice)
        if planner.peak(buffers, len(self.jobs))[0] > self.size:
            return None
        if choice.groups and not self.fits(choice):
            return None
        offsets = planner.allocate(buffers, self.size, orders)
        if any(offsets[b.name] + b.size > self.size for b in buffers):
            return None
        everything = (self.config.scratchpad_words - 1).bit_length()
        return {
            b.name: Home(offsets[b.name] // 4, everything if b.name in choice.whole else (b.size // 4 - 1).bit_length())
            for b in buffers
        }

    def gain(self, old: Choice, item: str | Group) -> float:
        """Estimated cycles that a choice saves by growing, layer by layer."""
        on_chip = self.on_chip(old)
        if isinstance(item, str):
            new, steps, grown = old, set(self.touching[item]), on_chip | {item}
        else:
            new, steps = old.grown(item), set(item.steps)
            grown = self.on_chip(new)
        for group in (*old.groups, *new.groups):
            if steps.intersection(group.steps):
                steps.update(group.steps)
        return self._cycles(steps, old, on_chip) - self._cycles(steps, new, grown)

    def more_bytes(self, choice: Choice, item: str | Group) -> int:
        """By which a choice grows on chip."""
        if isinstance(item, str):
            return int(self.lives[item].size)
        merged = [group for group in choice.groups if not set(group.steps).isdisjoint(item.steps)]
        return self.rings.bytes(item) - sum(self.rings.bytes(group) for group in merged)

    def _cycles(self, steps: set[int], choice: Choice, on_chip: frozenset[str]) -> float:
        """Estimated cycles of some steps, groups of the choice as a whole."""
        total = 0.0
        for step in steps:
            group = choice.group_at.get(step)
            if group is None:
                known: tuple[Group | int, frozenset[str]] = step, on_chip & self.names[step]
            elif step == group.steps[0]:
                known = group, self._near(group, on_chip)
            else:
                continue
            if known not in self._known:
                self._known[known] = self._group_cycles(group or Group((step,), 0), known[1])
            total += self._known[known]
        return total

    def _group_cycles(self, group: Group, on_chip: frozenset[str]) -> float:
        """A group's resources are each busy one after the other with all its layers, and all at once otherwise."""
        if len(group.steps) == 1:
            return sum(cost(self.use(job, on_chip)) for job in self.jobs[group.steps[0]])
        return cost(Use(*(sum(column) for column in zip(*self._pieces(group, on_chip), strict=True))))

    def _pieces(self, group: Group, on_chip: frozenset[str]) -> list[Use]:
        if (group, on_chip) not in self._known_pieces:
            layers = self.rings.layers(group)
            whole = [joined([self._whole(job) for job in self.jobs[step]]) for step in group.steps]
            known: dict[tuple[int, int, int, bool], Use] = {}
            uses, before = [], -1
            for layer, first, end in self.rings.turns(group):
                rows = layers[layer]
                low, high = rows.needed(first, end)
                key = layer, end - first, high - low, before == layer - 1
                if key not in known:
                    parts = (end - first) / rows.outputs, (high - low) / rows.inputs
                    known[key] = whole[layer].use(*parts, on_chip, self._fetch, TURN, before == layer - 1)
                uses.append(known[key])
                before = layer
            self._known_pieces[group, on_chip] = uses
        return self._known_pieces[group, on_chip]

    def use(self, job: Job, on_chip: frozenset[str]) -> Use:
        """What a descriptor needs as a whole."""
        return self._whole(job).use(1, 1.0, on_chip, self._fetch)

    def _whole(self, job: Job) -> Whole:
        if id(job) not in self._wholes:
            self._wholes[id(job)] = Whole.of(job, self.config)
        return self._wholes[id(job)]

# SPDX-License-Identifier: Apache-2.0
"""Which tensors live in the scratchpad instead of memory, where, and which layers take turns so that they can.

A tensor may if the accelerator alone touches it, channels side by side: as a whole, or, between layers that take
turns (`lowering.depth_first`), in a ring of a few rows. What saves most cycles for its size is taken first, as long as
all that is alive at once fits.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from firmware_gen.targets.descriptor.lowering.depth_first import Group, Link, ring_rows, turns
from firmware_gen.targets.descriptor.lowering.pieces import Job
from firmware_gen.targets.descriptor.lowering.tiling import stream_beats, strip_starts, vectors, window_words
from firmware_gen.targets.descriptor.place import planner
from firmware_gen.targets.descriptor.place.planner import Buffer
from hls.config import Config
from hls.descriptor.interface.table import LINEAR, PROFILE_RECORD, WORDS
from hls.errors import HeepgenError

STREAMS = ("LOAD", "AUX", "STORE")
"""Streams of activations, in the order in which they touch a word."""

HIDDEN = 0.02
"""What a beat that its layer hides is worth beside one that it waits for: layers overlap, and memory is shared."""

MARGINS = (0.2, 0.05)
"""The part of its layers' cycles that a group has to save: these estimates are rough, so there are several choices."""

TURN = 180
"""Cycles that a piece loses: its strips are short, its first rows and weights late. Measured with the cycle model."""

FETCH, FIRST, LAST = 30, 25, 60
"""`_timeline`: cycles from the drain's start to the next descriptor, from a word to its vector, from the last vector to
the last store."""

PIECES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48)
"""Numbers of pieces of a group's last layer that are tried."""


@dataclass(frozen=True)
class Home:
    """First word of a storage in the scratchpad, and log2 of the words of its ring; all of it for a whole tensor."""

    offset: int
    ring: int

    def word(self, index: int) -> int:
        """Where word `index` of the storage lies."""
        return self.offset + index % (1 << self.ring)


@dataclass(frozen=True)
class _Choice:
    """Storages that stay on chip as a whole, and groups."""

    whole: frozenset[str] = frozenset()
    groups: tuple[Group, ...] = ()


WEIGHTS = (1.0, 0.5, 0.0)
"""Powers of the size that a gain is divided by, tried in turn."""


def choose(
    jobs: Sequence[Sequence[Job]],
    links: Sequence[Link],
    buffers: list[Buffer],
    excluded: Iterable[str],
    arena: int,
    config: Config,
) -> list[tuple[tuple[Group, ...], dict[str, Home]]]:
    """Groups of steps that take turns, and the homes of all storages on chip: choices, of which one may be faster.

    jobs: those of every step, lowered with all tensors in memory. buffers: lives of their storages. excluded: storages
    that others than the accelerator read or write. arena: bytes that what stays in memory may take at once; layers
    that take turns keep their inputs for longer.
    """
    plan = _Planner(jobs, links, buffers, excluded, arena, config)
    best = min((choice for weight in WEIGHTS for choice in plan.search(weight)), key=plan.timeline)
    choices = dict.fromkeys(plan.pruned(best, margin) for margin in MARGINS)
    return [(choice.groups, homes) for choice in choices if (homes := plan.places(choice))]


class Use(NamedTuple):
    """Cycles for which a descriptor keeps each resource busy: the bus with what it reads, and with what it writes.

    lead: the part of `load` that the first strip needs. follows: it reads what the descriptor before it stores.
    """

    array: float
    load: float
    lead: float
    store: float
    bus_in: float
    bus_out: float
    follows: bool = True


class _Planner:
    """Costs and places of choices."""

    def __init__(self, jobs, links, buffers, excluded, arena, config):
        self.jobs, self.config, self.size = jobs, config, 4 * config.scratchpad_words
        self.all, self.arena = buffers, arena
        self.names = [frozenset(name for job in own for _, name in streams(job)) for own in jobs]
        self.touching = {
            b.name: frozenset(
                step for step, own in enumerate(jobs) for job in own if b.name in dict(streams(job)).values()
            )
            for b in buffers
        }
        forbidden = set(excluded) | {name for own in jobs for job in own for name in _not_dense(job)}
        self.lives = {b.name: b for b in buffers if b.name not in forbidden}
        self.links = {link.step: link for link in links if link.value in self.lives}
        self._known: dict[tuple, float] = {}
        self._known_pieces: dict[tuple, list[Use]] = {}
        self._whole_uses: dict[int, tuple] = {}
        self._rings: dict[Group, list[tuple[Link, int]]] = {}

    def search(self, weight: float) -> Iterator[_Choice]:
        """From nothing on, take what saves most, divided by its size to the power of `weight`, until no more fits."""
        best = _Choice()
        while best:
            yield best
            options = []
            size = sum(b.size for b in self.buffers(best))
            for choice in self.steps_from(best):
                gain = self._gain(best, choice)
                if gain > 0:
                    more = sum(b.size for b in self.buffers(choice)) - size
                    options.append((gain / max(more, 1) ** weight, choice))
            options.sort(key=lambda option: -option[0])
            best = next((choice for _, choice in options if self.places(choice) is not None), None)

    def pruned(self, choice: _Choice, margin: float) -> _Choice:
        """The choice without groups that do not save that part of their cycles, nor tensors that save nothing."""
        for group in choice.groups:
            without = replace(choice, groups=tuple(g for g in choice.groups if g != group))
            least = margin * self._group_cycles(group, self._on_chip(choice))
            if self.timeline(without) < self.timeline(choice) + least:
                choice = without
        for name in sorted(choice.whole):
            without = replace(choice, whole=choice.whole - {name})
            if self.timeline(without) <= self.timeline(choice):
                choice = without
        return choice

    def _on_chip(self, choice: _Choice) -> frozenset[str]:
        return choice.whole.union(self.links[step].value for group in choice.groups for step in group.steps[:-1])

    def timeline(self, choice: _Choice) -> float:
        """Estimated cycles of the whole network, stage by stage, as descriptors follow each other."""
        on_chip = self._on_chip(choice)
        member = {step: group for group in choice.groups for step in group.steps}
        uses = []
        for step, own in enumerate(self.jobs):
            group = member.get(step)
            if group is None:
                uses += [self.use(job, 1, 1.0, on_chip) for job in own]
            elif step == group.steps[0]:
                uses += self._pieces(group, on_chip)
        return _timeline(uses) + HIDDEN * sum(use.bus_in + use.bus_out for use in uses)

    def alive(self, name: str, buffer: Buffer, choice: _Choice) -> Buffer:
        """The buffer, alive while groups that touch it take turns."""
        for group in choice.groups:
            if self.touching[name] & set(group.steps):
                buffer = buffer.through(group.steps[0], group.steps[-1])
        return buffer

    def steps_from(self, choice: _Choice):
        """Choices with one storage more on chip."""
        ringed = {self.links[step].value for group in choice.groups for step in group.steps[:-1]}
        for name, buffer in self.lives.items():
            if name not in choice.whole and name not in ringed and buffer.size <= self.size and self.touching[name]:
                yield replace(choice, whole=choice.whole | {name})
        for step, link in self.links.items():
            if link.value in ringed or link.value in choice.whole:
                continue
            near = [g for g in choice.groups if step in g.steps or step + 1 in g.steps]
            steps = tuple(sorted({step, step + 1, *(s for g in near for s in g.steps)}))
            others = tuple(g for g in choice.groups if g not in near)
            outputs = self.links[steps[-2]].reader.outputs
            if self._may_take_turns(steps):
                for height in {-(-outputs // n) for n in PIECES if n <= outputs}:
                    for ahead in (0, 1):
                        yield replace(choice, groups=(*others, Group(steps, height, ahead)))

    def _may_take_turns(self, steps: tuple[int, ...]) -> bool:
        """Whether no layer writes, besides the rings, what another one of the steps still reads."""
        names = {
            stream: [(step, name) for step in steps for s, name in streams(self.jobs[step][0]) if s == stream]
            for stream in STREAMS
        }
        rings = {self.links[step].value for step in steps[:-1]}
        stored = [(step, name) for step, name in names["STORE"] if name not in rings]
        return not any(
            name == other and (stream == "LOAD" or step != reader)
            for step, name in stored
            for stream in ("LOAD", "AUX")
            for reader, other in names[stream]
        )

    def rings(self, group: Group) -> list[tuple[Link, int]]:
        """Links of a group with the words of their rings."""
        if group not in self._rings:
            self._rings[group] = self._ring_words(group)
        return self._rings[group]

    def _ring_words(self, group: Group) -> list[tuple[Link, int]]:
        links = [self.links[step] for step in group.steps[:-1]]
        layers = [links[0].source, *(link.reader for link in links)]
        rows = ring_rows(layers, turns(layers, group))
        least = 1 << (self.config.ports - 1).bit_length()
        return [
            (link, 1 << (max(n * link.row_words, least) - 1).bit_length()) for link, n in zip(links, rows, strict=True)
        ]

    def buffers(self, choice: _Choice) -> list[Buffer]:
        result = [self.alive(name, self.lives[name], choice) for name in sorted(choice.whole)]
        for group in choice.groups:
            result += [
                Buffer(link.value, 4 * words, group.steps[0], group.steps[-1], align=4 * words)
                for link, words in self.rings(group)
            ]
        return result

    def places(self, choice: _Choice) -> dict[str, Home] | None:
        """Homes, None if it does not fit."""
        buffers = self.buffers(choice)
        if planner.peak(buffers, len(self.jobs))[0] > self.size:
            return None
        names = {b.name for b in buffers}
        rest = [self.alive(b.name, b, choice) for b in self.all if b.name not in names]
        if choice.groups and planner.peak(rest, len(self.jobs))[0] > self.arena:
            return None
        offsets = planner.place(buffers, self.size)
        if any(offsets[b.name] + b.size > self.size for b in buffers):
            return None
        everything = (self.config.scratchpad_words - 1).bit_length()
        return {
            b.name: Home(offsets[b.name] // 4, everything if b.name in choice.whole else (b.size // 4 - 1).bit_length())
            for b in buffers
        }

    def _gain(self, old: _Choice, new: _Choice) -> float:
        """Estimated cycles that a step from `old` saves, layer by layer."""
        steps = {step for group in set(new.groups) - set(old.groups) for step in group.steps}
        steps.update(*(self.touching[name] for name in new.whole - old.whole))
        for group in (*old.groups, *new.groups):
            if steps.intersection(group.steps):
                steps.update(group.steps)
        return self._cycles(old, steps) - self._cycles(new, steps)

    def _cycles(self, choice: _Choice, steps: set[int]) -> float:
        """Estimated cycles of some steps, groups as a whole."""
        member = {step: group for group in choice.groups for step in group.steps}
        on_chip = self._on_chip(choice)
        total = 0.0
        for step in steps:
            group = member.get(step, Group((step,), 0))
            if step == group.steps[0]:
                near = on_chip & frozenset().union(*(self.names[n] for n in group.steps))
                if (group, near) not in self._known:
                    self._known[group, near] = self._group_cycles(group, near)
                total += self._known[group, near]
        return total

    def _group_cycles(self, group: Group, on_chip: frozenset[str]) -> float:
        """A group's resources are each busy one after the other with all its layers, and all at once otherwise."""
        if len(group.steps) == 1:
            return sum(_cost(self.use(job, 1, 1.0, on_chip)) for job in self.jobs[group.steps[0]])
        return _cost(Use(*(sum(part) for part in zip(*self._pieces(group, on_chip), strict=True))))

    def _pieces(self, group: Group, on_chip: frozenset[str]) -> list[Use]:
        if (group, on_chip) not in self._known_pieces:
            links = [self.links[step] for step in group.steps[:-1]]
            layers = [links[0].source, *(link.reader for link in links)]
            uses, before = [], -1
            for layer, first, end in turns(layers, group):
                rows = layers[layer]
                low, high = rows.needed(first, end)
                use = self.use(
                    self.jobs[group.steps[layer]][0], (end - first) / rows.outputs, (high - low) / rows.inputs, on_chip
                )
                uses.append(use._replace(array=use.array + TURN, follows=before == layer - 1))
                before = layer
            self._known_pieces[group, on_chip] = uses
        return self._known_pieces[group, on_chip]

    def use(self, job: Job, outputs: float, inputs: float, on_chip: frozenset[str]) -> Use:
        """What a part of a layer needs: that of so many of its output pixels, and of its input words."""
        if id(job) not in self._whole_uses:
            self._whole_uses[id(job)] = _beats(job, self.config)
        lead, strips, count = self._whole_uses[id(job)]
        share = {"LOAD": inputs, "STORE": outputs, "AUX": outputs}
        bus = {stream: n * share.get(stream, strips if outputs == 1 else 1.0) for stream, n in count.items()}
        array = max(vectors(job.fields) * outputs, bus["WEIGHT"], bus["STORE"])  # the accumulators hold little
        load, store = bus["LOAD"], bus["STORE"]
        for stream, storage in streams(job):
            if storage in on_chip:
                bus[stream] = 0.0
        fetch = -(-(WORDS + len(PROFILE_RECORD)) // self.config.ports)
        return Use(
            array,
            load,
            min(load, lead),
            store,
            fetch + bus["WEIGHT"] + bus["PARAM"] + bus["LOAD"],
            bus["STORE"] + bus["AUX"],
        )


def _beats(job: Job, config: Config) -> tuple[float, int, dict[str, int]]:
    """Load beats of a job's first strip, its strips, and the beats of its streams, those of WEIGHT and PARAM once."""
    f = job.fields
    lead = int(window_words(f)[1][min(f["FIRST_PX"], f["OUT_PX"]) - 1]) / config.ports
    return lead, len(strip_starts(f["OUT_PX"], f["FIRST_PX"], f["STRIP_PX"])), stream_beats(f, 1, config)


def _cost(use: Use) -> float:
    bus = use.bus_in + use.bus_out
    return max(use.array, use.load, bus) + HIDDEN * bus


def _timeline(uses: Sequence[Use]) -> float:
    """Cycles of descriptors in a row; one that follows another does so word by word."""
    loaded = computed = storing = 0.0
    stored = [0.0, 0.0]
    for use in uses:
        start = max(stored[-2] + FETCH, loaded)  # the one before is being drained: this one is fetched
        begun = max(computed, start + use.lead + FIRST)
        loaded = max(start + use.load, start + use.bus_in + storing, stored[-1] if use.follows else 0.0)
        computed = max(begun + use.array, loaded + FIRST)
        stored.append(max(max(stored[-1], begun) + use.store, computed + LAST))
        storing = use.bus_out
    return stored[-1]


def streams(job: Job) -> list[tuple[str, str]]:
    """(stream, storage) of a job's activations."""
    return [(s, job.fields[f"{s}_ADDR"].name) for s in STREAMS if f"{s}_ADDR" in job.fields]


def _not_dense(job: Job) -> list[str]:
    """Storages whose beats are not neighbouring words."""
    f = job.fields
    counts = {"LOAD": f["LOAD_C_COUNT"], "STORE": f["COUT"], "AUX": f["COUT"]}
    return [name for s, name in streams(job) if counts[s] > 1 and f[f"{s}_C_STRIDE"] != 1]


def check(
    jobs: Sequence[Job],
    homes: dict[str, Home],
    offsets: dict[str, int],
    arena: int,
    unknown: Container[str],
    config: Config,
) -> None:
    """Prove places in scratchpad and arena by replaying all descriptors, word by word: what was written is read.

    homes: of storages on chip. offsets: of all storages in an arena of so many bytes. unknown: storages that the CPU
    writes too, which no descriptor tells. Raises HeepgenError naming the layer and the storage.
    """
    chip = arena // 4 + 1  # the scratchpad, behind the arena
    holds = np.full(chip + config.scratchpad_words, -1)
    stored = {name for job in jobs for stream, name in streams(job) if stream == "STORE"}
    first_id = {name: number << LINEAR for number, name in enumerate([*offsets, *homes])}
    for job in jobs:
        for stream, name in streams(job):
            words = job.fields[f"{stream}_ADDR"].offset + _words(job.fields, stream)
            home = homes.get(name)
            places = chip + home.offset + words % (1 << home.ring) if home else offsets[name] // 4 + words
            if stream == "STORE":
                holds[places] = first_id[name] + words
            elif name in stored and name not in unknown and (holds[places] != first_id[name] + words).any():
                raise HeepgenError(f"memory plan: {name} is overwritten before {job.layer} has read it")


def _words(f: dict, stream: str) -> np.ndarray:
    """Words of a stream, relative to its address."""
    if stream == "LOAD":
        loops = [(f[f"LOAD_{axis}_COUNT"], f[f"LOAD_{axis}_STRIDE"]) for axis in "YXC"]
    else:
        loops = [
            (f["OUT_PX"] // f["OUT_W"], f[f"{stream}_Y_STRIDE"]),
            (f["OUT_W"], f[f"{stream}_X_STRIDE"]),
            (f["GROUPS"], f[f"{stream}_G_STEP"]),
            (f["COUT"], f[f"{stream}_C_STRIDE"]),
        ]
    words = np.zeros(1, np.int64)
    for count, stride in loops:
        words = (words[:, None] + np.arange(count) * stride).reshape(-1)
    return words

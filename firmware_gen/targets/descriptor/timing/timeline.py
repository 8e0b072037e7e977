# SPDX-License-Identifier: Apache-2.0
"""Timeline of linked descriptors, strip by strip: when each is loaded, computed and stored.

Follows `timing.cycles`, from which its delays come, but steps groups of channel blocks instead of cycles: it is
about a hundred times faster, and within a few percent. What shares the bus, or the scratchpad, is taken to flow evenly.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import NamedTuple, TypeAlias

from firmware_gen.targets.descriptor.timing.demand import demand, weights_fit
from firmware_gen.targets.descriptor.timing.spans import strip_sizes, window_words
from hls.arithmetic.accumulator import ACC_LATENCY
from hls.config import Config
from hls.descriptor.interface.rules import activation_room, may_halve
from hls.descriptor.interface.table import FIELDS, Linked, on_chip
from hls.descriptor.interface.timing import (
    ANSWER,
    FIRST_VECTOR,
    HALF_BANKS,
    LOADED,
    SCRATCHPAD_LATENCY,
    SCRATCHPAD_MARK,
    STORED,
    beats,
    fetch_beats,
    fetch_cycles,
    param_beats,
    read_to_store,
    record_beats,
    table_beats,
    vector_to_drain,
)

_WORDS = itemgetter(1)
_COUNTS = attrgetter(*(f.attribute for f in FIELDS if f.kind in ("uint", "int")))

MEMORY = 40
"""Latest events that a timeline remembers; older ones delay nobody."""


class Span(NamedTuple):
    """From begin to end, the evenly rising amount of something goes from low to high: words, or beats."""

    begin: float
    end: float
    low: float
    high: float

    def when(self, amount: float) -> float:
        """When so much is reached; the amount lies in the span."""
        return self.begin + (self.end - self.begin) * (amount - self.low) / (self.high - self.low)


Flow: TypeAlias = tuple[float, float, float]
"""From begin to end, so many beats of bus or scratchpad, evenly."""


class BlockGroup(NamedTuple):
    """A group of channel blocks of a strip: how many, cycles of a ``step`` that adds one product each, from its last
    vector ``to_drain``, store beats, those of weights, parameters and aux, and all that its stores take of the bus."""

    blocks: int
    step: int
    to_drain: int
    drain: int
    tiles: float
    params: float
    aux: float
    bus: float


class Work:
    """What the timeline needs to know of one linked descriptor.

    weight_cycles, param_cycles: of the memory for a beat of weights and of parameters.
    """

    def __init__(self, f: Linked, config: Config, weight_cycles: float = 1, param_cycles: float = 1):
        self.descriptor, self.config = f, config
        self.windows = window_words(f)
        self.load_chip, self.store_chip, self.aux_chip = (
            bool(config.scratchpad_words) and on_chip(where) for where in (f.load_addr, f.store_addr, f.aux_addr)
        )
        self.aux = bool(f.residual or f.acc_init)
        self.steps, self.row_steps = f.kh * f.kx * f.kb, f.kx * f.kb
        whole = demand(f, config)
        self.tile_beats, self.cut_beats = weight_cycles * whole.tile_beats, whole.cut
        self.fits = weights_fit(f, config)
        # As of whole scales: with fewer, strips get shorter than the cycle model likes.
        self.param_beats = 0 if f.uniform else param_cycles * param_beats(f.but(packed_scales=0), config)
        self.table_beats = table_beats(f, config)
        self.load_cycles = beats(f.load_c_count - f.load_gap, config) / f.load_c_count  # of a word
        parts = [whole.blocks[cb : cb + f.cbg] for cb in range(0, f.ncb, f.cbg)]
        self.groups = [(len(part), sum(part)) for part in parts] * f.groups  # blocks, store beats of a pixel
        self.blocks, self.stores = (
            sum(n for n, _ in self.groups),
            int(f.out_px * sum(beats for _, beats in self.groups)),
        )
        self.to_store = read_to_store(bool(f.function)) + STORED + (SCRATCHPAD_MARK if self.store_chip else ANSWER)
        self.on_bus = not self.store_chip, self.aux and not self.aux_chip
        self._groups: dict[int, tuple[list[BlockGroup], int]] = {}

    def reads(self, strips: int) -> float:
        """Cycles of the bus for weights and parameters, in so many strips."""
        strips_read = 1 if self.fits else strips
        return float(self.blocks * (strips * self.param_beats + strips_read * self.steps * self.tile_beats))

    def groups_of(self, pixels: int) -> tuple[list["BlockGroup"], int]:
        """Groups of channel blocks of a strip of so many pixels, and cycles in which each adds one product, in all."""
        if pixels not in self._groups:
            groups = [self._group(pixels, blocks, stores) for blocks, stores in self.groups]
            self._groups[pixels] = groups, sum(group.step for group in groups)
        return self._groups[pixels]

    def _group(self, pixels: int, blocks: int, stores: int) -> "BlockGroup":
        step = max(pixels * blocks, ACC_LATENCY, blocks * self.cut_beats)
        drain, params = pixels * stores, blocks * self.param_beats
        aux = drain * self.on_bus[1]
        bus = drain * self.on_bus[0] + aux + params
        tiles = blocks * self.steps * self.tile_beats
        return BlockGroup(
            blocks=blocks,
            step=step,
            to_drain=vector_to_drain(self.config, pixels * blocks),
            drain=drain,
            tiles=tiles,
            params=params,
            aux=aux,
            bus=bus,
        )

    @cached_property
    def shape(self) -> tuple[object, ...]:
        """All that a timeline depends on."""
        return (
            *_COUNTS(self.descriptor),
            self.load_chip,
            self.store_chip,
            self.aux_chip,
            self.tile_beats,
            self.param_beats,
        )


class _Progress:
    """How far the stages are with the descriptor that a timeline continues with.

    Times: ``fetch`` of the descriptor, ``loading``, ``fetched`` weights, ``now`` the sequencer, ``drained``; ``strip``
    and ``begin``, when the last strip and its last group's stores began; ``begun``, when the first vectors did. Since
    then, beats of load and weights are ``on_bus``, less those that were ``early``, and ``used`` are those of the last
    three groups' stores. ``asked`` and ``base``: input words, and those of descriptors before.
    """

    def __init__(self, timeline: "Timeline", work: Work):
        f, config = work.descriptor, work.config
        self.work = work
        self.to_load = LOADED + 1 + (SCRATCHPAD_LATENCY if work.load_chip else ANSWER)
        self.stored, self.base = timeline.done, timeline.words
        self.marks = (timeline.marks or [Span(self.stored, self.stored, 0, f.load_words)]) if f.barrier else []
        self.own_marks: list[Span] = []
        self.fetch = max(timeline.before) + fetch_cycles(config)
        self.loading = max(self.fetch, timeline.loaded) + 1
        self.now = self.strip = max(timeline.through, self.fetch + FIRST_VECTOR)
        self.begun: float | None = None
        self.begin = 0.0
        self.drained = max(self.stored, self.fetch) + (ANSWER + work.param_beats + 4 if work.param_beats else 0)
        self.table = max(self.stored, self.fetch)
        if work.table_beats:
            self.drained = max(self.drained, self.table + ANSWER + work.table_beats + 4)
        self.fetched, self.depth = max(timeline.fetched_weights, self.fetch), config.weight_bytes / (4 * config.ports)
        self.asked = self.pixel = 0
        self.last = False  # of all strips
        self.on_bus = self.early = 0.0
        self.used = (0.0, 0.0, 0.0)
        self.arrived: list[float] = []
        self.loads: list[tuple[float, float]] = []


class Timeline:
    """Where the stages are after some descriptors; cycle 0 is the doorbell."""

    def __init__(self) -> None:
        self.through = self.loaded = self.fetched_weights = 0.0  # sequencer, load engine, weight fetch
        self.done = 0.0
        self.before = (0.0, 0.0, 0.0)  # sequencer, load engine and drain, one descriptor earlier
        self.banks: list[tuple[float, bool]] = [(0.0, True)] * HALF_BANKS  # when drained, and whether a half one
        self.words = self.weights = 0.0
        self.marks: list[Span] = []  # words of the next input
        self.bus: list[Flow] = []
        self.chip: list[Flow] = []
        self.consumed: list[Span] = []  # beats of weights
        self.released: list[tuple[float, float]] = [(0.0, 0.0)]

    def copy(self) -> "Timeline":
        other = Timeline.__new__(Timeline)
        other.__dict__ = {k: list(v) if isinstance(v, list) else v for k, v in self.__dict__.items()}
        return other

    def earliest(self, works: Iterable[tuple[Work, int, int]]) -> float:
        """A lower bound of `done` after some descriptors in such strips: all vectors follow each other, and the last
        group's stores follow these; or all stores do."""
        through, done = self.through, self.done
        for work, first, strip in works:
            sizes = strip_sizes(work.descriptor.out_px, first, strip)
            counts = {px: sizes.count(px) for px in set(sizes)}
            through += work.steps * sum(n * work.groups_of(px)[1] for px, n in counts.items())
            last = work.groups_of(sizes[-1])[0][-1]
            done = (
                max(through + last.to_drain + last.drain, done + work.stores)
                + work.to_store
                + 2
                + record_beats(work.config)
            )
        return done

    def add(self, work: Work, first: int, strip: int) -> None:
        """Continue with a descriptor in such strips; `done` is when it is complete."""
        f, at = work.descriptor, _Progress(self, work)
        before = self.through, self.loaded, self.done
        self.bus = [flow for flow in self.bus if flow[1] > at.loading]
        self.bus.append((at.fetch - fetch_beats(work.config), at.fetch, fetch_beats(work.config)))
        if work.table_beats:
            self.bus.append((at.table, at.table + work.table_beats, work.table_beats))
        self.chip = [flow for flow in self.chip if flow[1] > at.loading]
        halves = may_halve(f, strip, work.config)
        for px in strip_sizes(f.out_px, first, strip):
            at.strip, end = at.now, at.pixel + px
            if at.pixel:
                self.bus = [flow for flow in self.bus if flow[1] > at.loading]
            self._arrive(at, end)
            at.last = end == f.out_px
            first = True
            for group in work.groups_of(px)[0]:
                start, tiles = self._compute(at, group, first, halves)
                self._drain(at, group, start, tiles, halves)
                first = False
            self._mark(at, end)
            at.pixel = end
        self.before, self.through, self.loaded = before, at.now, at.loading + 1
        self.fetched_weights = max(at.fetched, at.strip if work.fits else 0.0)
        self.done = at.drained + work.to_store + 2 + record_beats(work.config)
        self.words = at.base + f.load_words
        self.marks = at.own_marks if f.mark_words else []
        if self.marks and f.mark_base:
            self.marks.insert(0, Span(0, 0, 0, f.mark_base))
        self.released, self.consumed = self.released[-MEMORY:], self.consumed[-MEMORY:]

    def _arrive(self, at: "_Progress", end: int) -> None:
        """Input words of the output pixels up to ``end``: of the first kernel row, which needs fewer, and all."""
        work, f = at.work, at.work.descriptor
        needed = f.load_words if end == f.out_px else int(work.windows[1][end - 1])
        at.arrived, at.loads = [], []
        for target in (needed - (f.kh - 1) * f.ky_step, needed):
            if target > at.asked:
                at.loading = self._load(work, at.asked, target, at.loading, at.marks, at.stored, at.base)
                at.loads.append(((target - at.asked) * work.load_cycles, at.loading))
                at.asked = target
            at.arrived.append(at.loading + at.to_load)

    def _compute(self, at: "_Progress", group: BlockGroup, first: bool, halves: bool) -> tuple[float, float]:
        """The vectors of a group of channel blocks; when they begin, and what weights they fetch."""
        work, step = at.work, group.step
        other, same = self.banks[0][0], self.banks[2]  # of the same memory: its other half, this half or all of it
        start, now = at.now, same[0] + step * (work.steps - 1)
        if (free := other if halves and same[1] else same[0]) > start:
            start = free
        if (streamed := start + step * work.steps) > now:
            now = streamed
        if at.begun is None:
            at.begun = start
            at.early = min(at.depth, max(0.0, start - at.fetched - _between(self.bus, at.fetched, start)))
        begun = at.begun
        if first:
            now = max(now, at.arrived[1] + step * (work.row_steps - 1), at.arrived[0] + step * (work.steps - 1))
            if not work.load_chip:
                at.on_bus += sum(min(n, max(0.0, when - begun)) for n, when in at.loads)
        tiles = 0.0
        if work.tile_beats and (not work.fits or not at.pixel):
            tiles = group.tiles
            room = self.weights + tiles - at.depth
            at.fetched = max(at.fetched + tiles, self._used_weights(room), start + tiles - at.depth)
            if (cut := at.fetched + ANSWER + 6) > now:
                now = cut
            at.on_bus += tiles
        on_bus = at.on_bus - at.early
        if (served := begun + (on_bus if on_bus > 0 else 0.0) + at.used[0]) > now:
            now = served
        at.now = now
        if tiles:
            self.consumed.append(Span(start, now, self.weights, self.weights + tiles))
            self.weights += tiles
            self.bus.append((start, now, tiles))
        return start, tiles

    def _drain(self, at: "_Progress", group: BlockGroup, start: float, tiles: float, halves: bool) -> None:
        """The stores of a group, whose vectors began at ``start`` and fetched ``tiles`` of weights."""
        work, drain = at.work, group.drain
        begin = at.now + group.to_drain
        if at.drained > begin:
            begin = at.drained
        drained = begin + drain
        if not work.store_chip:  # weights that were not fetched early, the next descriptor's, and parameters go first
            late = tiles
            if tiles:
                late = tiles if at.last else min(tiles, max(0.0, at.on_bus - at.early))
                rate = min(late / (at.now - start), 0.95)
                late = min(late, drain * rate / (1 - rate))
            drained += late + group.params + group.aux
        at.begin, at.drained = begin, drained
        if group.bus:
            self.bus.append((begin, drained + 1, group.bus))
        at.used = (at.used[1], at.used[2], at.used[2] + group.bus)
        if work.descriptor.mark_blocks:
            words = at.own_marks[-1].high if at.own_marks else 0.0
            more = group.blocks * work.descriptor.out_px * work.descriptor.mark_words
            at.own_marks.append(Span(begin + work.to_store, drained + work.to_store, words, words + more))
        if work.aux and work.aux_chip:
            self.chip.append((begin, drained + 1, drain))
        self.banks = [*self.banks[1:], (drained, halves)]

    def _mark(self, at: "_Progress", end: int) -> None:
        """The strip up to the pixel ``end`` is computed: words of the next input, and of this one that are free."""
        f = at.work.descriptor
        if not f.mark_blocks:
            low, high = at.pixel * f.mark_words + f.mark_base, end * f.mark_words + f.mark_base
            at.own_marks.append(Span(at.begin + at.work.to_store, at.drained + at.work.to_store, low, high))
        free = int(at.work.windows[0][end]) if end < f.out_px else f.load_words
        self.released.append((at.now, at.base + free))

    def _load(
        self, work: Work, first: int, end: int, now: float, marks: list[Span], stored: float, base: float
    ) -> float:
        """When input words first..end - 1 are asked for: they exist, there is room, and nobody else is served."""
        room = activation_room(work.config)
        shared = self.chip if work.load_chip else self.bus
        for low, high, exists, complete in _parts(marks, first, end, stored):
            while low < high:
                part, free, index = high, 0.0, len(self.released)
                if base + high > room:
                    index = bisect_right(self.released, base + low - room, key=_WORDS)
                if index < len(self.released):
                    free, released = self.released[index]
                    part = min(high, released + room - base)
                start = max(now, exists, free)
                now = start + (part - low) * work.load_cycles
                alone = now
                for _ in range(20 if shared else 0):
                    later = alone + _between(shared, start, now)
                    if later < now + 1:
                        break
                    now = later
                low = part
            now = max(now, complete)
        return now

    def _used_weights(self, beats: float) -> float:
        """When so many beats of weights have been used in all."""
        for span in reversed(self.consumed):
            if span.low < beats:
                return span.when(min(beats, span.high))
        return 0.0


def _between(flows: list[Flow], begin: float, end: float) -> float:
    """Beats in a stretch of time."""
    total = 0.0
    for first, last, amount in flows:
        if last > begin and first < end:
            total += amount * ((last if last < end else end) - (first if first > begin else begin)) / (last - first)
    return total


def _parts(marks: list[Span], first: float, end: float, stored: float) -> Iterator[tuple[float, float, float, float]]:
    """(first word, end, when the first exists, when the last one does) of input words, which are at `stored`."""
    for span in marks:
        if first < span.high and span.low < end:
            high = min(span.high, end)
            yield first, high, min(span.begin, stored), min(span.when(high), stored)
            first = high
    if first < end:
        yield first, end, (stored if marks else 0.0), (stored if marks else 0.0)

# SPDX-License-Identifier: Apache-2.0
"""When descriptors in a row are done, for many configurations at once.

Follows what array, drain, load engine and bus hand on from one descriptor to the next: each takes its next one when it
is through, banks of sums are free when they are drained, input words exist when they are stored and are loaded where
there is room, and what has no cycle of the bus waits.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from firmware_gen.targets.descriptor.survey.banded import Columns, tiles_of
from firmware_gen.targets.descriptor.survey.lanes import STORE_PATH, Array, Lanes
from firmware_gen.targets.descriptor.survey.shapes import READ, Course, Geometry, Use, Waits, candidates, groups_of
from hls.descriptor.interface.timing import ANSWER, FIRST_VECTOR, LOADED, SCRATCHPAD_LATENCY, SCRATCHPAD_MARK, STORED


@dataclass(frozen=True)
class Link:
    """A descriptor in its place: whether its streams are on chip, whether its input may be what the one before stores,
    and whether that marks, word by word, what of it is there. layer: its number; columns: where it may have banded
    tiles instead of its diagonal ones."""

    shape: Any
    load_chip: bool
    store_chip: bool
    operand_chip: bool
    barrier: bool
    marks: bool
    layer: int = 0
    columns: Columns | None = None

    @property
    def stores_on_bus(self) -> int:
        """Streams of the bus that are as long as the output: store, operand."""
        return int(not self.store_chip) + int(bool(self.shape.operand) and not self.operand_chip)


Span = tuple[Array, Array, Array]
"""When beats begin and end, which come evenly in between, and their number."""

TINY = 1e-6
"""Of a share."""

ROUNDING = 1e-3
"""Cycles by which a sum may be off."""

LEAST = 4
"""Words behind the first ones that are there when vectors begin."""

CUT = 3
"""From the answer of a tile's last weights to its first vector."""


def _latest(*times: Array | float) -> Array:
    return np.asarray(reduce(np.maximum, times))


@dataclass
class _Begin:
    """How a descriptor begins. begun: when its first vectors do, which take the `course`. From weights_from on weights
    are fetched, of which `ready` are there at free_from, when nothing of the descriptor before is stored any more, as
    are `early` beats of input words; loaded: when all of these are asked for, second: those of the second strip,
    `arrived` cycles before their vectors. waits: whether none is there before the descriptor before is done. on_bus:
    whether they come by the bus."""

    course: Course
    begun: Array
    weights_from: Array
    free_from: Array
    loaded: Array
    second: Array
    early: Array
    ready: Array
    arrived: int
    waits: NDArray[np.bool_]
    on_bus: bool


class Flow:
    """Where the stages are after some descriptors of a list; cycle 0 is the doorbell. fetch_cycles: of the memory for a
    beat of a descriptor."""

    def __init__(self, lanes: Lanes, fetch_cycles: Array | float = 1.0):
        nothing = np.zeros(len(lanes))
        self.lanes = lanes
        self.fetch_beats = fetch_cycles * lanes.fetch_beats
        self.fetch = lanes.fetch + self.fetch_beats - lanes.fetch_beats
        self.before = self.done = self.loaded = self.fetched_weights = self.computed = self.drained = nothing
        self.stored_from = self.stored_to = nothing
        self.bus = self.chip = ((nothing, nothing, nothing),) * 2  # what is read, and what is stored
        self.stored: tuple[Array, ...] = ()  # of the last one's, what `_exists` asks for
        self.held = self.tail = self.last_share = nothing
        self.marks = np.zeros(len(lanes), bool)
        self.busy_vectors = self.busy_bus = self.busy_weights = self.busy_drain = self.busy_bus_words = nothing

    def add(self, link: Link, use: Use) -> Array:
        """One more descriptor; when it is done."""
        at = self._begin(link, use)
        self._hurry(at, use)
        late, share = self._late(link, use)
        late = late + at.arrived
        lanes, course, on_bus = self.lanes, at.course, not link.load_chip
        rest = use.load - at.early
        reads = rest * on_bus + use.weights - at.ready + use.params
        out = use.drain * (link.stores_on_bus > 0)
        aux = use.drain * (link.shape.operand and link.operand_chip)
        besides = self.fetch_beats + lanes.record_beats
        words = link.shape.load_words * on_bus + use.outputs * link.stores_on_bus
        words = self.busy_bus_words + words + lanes.ports * (use.weights + use.params + besides)
        bus = np.where(reads + out > 0, at.free_from + reads + besides, 0)
        chip = np.where(rest * (not on_bus) + aux > 0, at.free_from + rest * (not on_bus), 0)
        most = np.maximum(0, 1 - 2 / use.banks)  # when the last vectors are through: all but two banks
        computed = _latest(
            at.begun + course.compute,
            at.loaded + at.arrived + course.last,
            np.where(use.strips > 1, at.second + at.arrived + course.second, 0),
            np.where(share > 0, late + course.compute * share - course.ahead, 0),
            self.drained + course.compute - course.first,
            bus + out * most,
            chip + aux * most,
        )
        drains = np.maximum(at.begun + course.first + use.to_drain, self.done + use.opens)
        stored = _latest(drains + use.drain, bus + out, chip + aux, words / lanes.ports)
        last = use.early.closing * use.reads  # waits for its bank
        waited = np.maximum(drains + use.drain + last, stored) - use.previous - use.tail
        computed = np.where(use.banks > 2, np.maximum(computed, waited), computed)
        drained = _latest(
            stored,
            computed + use.last_to_drain + use.tail,
            computed - course.closing + use.to_drain + use.previous + use.tail,
            np.where(share > 0, late + course.first - course.ahead + use.to_drain + use.drain * share, 0),
        )
        consumed = at.begun + (computed - at.begun) * np.maximum(0, 1 - use.depth / np.maximum(use.weights, 1))
        come = _latest(at.weights_from + use.weights, at.free_from - at.ready + use.weights, consumed)
        come = np.where(use.fits & (use.strips > 1), np.maximum(come, computed - course.last_pass), come)
        self.fetched_weights = np.minimum(come, computed)
        read = np.maximum(at.loaded, self.fetched_weights) if on_bus else self.fetched_weights
        self.bus = (at.free_from, read, reads + besides), (drains, drained, out)
        self.chip = (at.free_from, at.loaded, rest * (not on_bus)), (drains, drained, aux)
        own = use.load * on_bus + use.weights + use.params + out + besides
        self.busy_bus, self.busy_vectors = self.busy_bus + own, self.busy_vectors + use.vectors
        self.busy_weights, self.busy_drain = self.busy_weights + use.weights, self.busy_drain + use.drain
        self.busy_bus_words = words
        to_store = STORE_PATH[bool(link.shape.function)] + STORED + (SCRATCHPAD_MARK if link.store_chip else ANSWER)
        self.stored_from, self.stored_to = drains + to_store, drained + to_store
        self.before, self.done = self.done, drained + to_store + 2 + lanes.record_beats
        self.loaded, self.computed, self.drained = at.loaded, computed, drained
        self.stored = (use.strips, use.banks, use.blocks, use.drain, use.first_share)
        self.held, self.tail, self.last_share, self.marks = (
            use.held,
            use.tail,
            use.last_share,
            self.lanes.all & link.marks,
        )
        return self.done

    def _begin(self, link: Link, use: Use) -> _Begin:
        """When words and weights come, and vectors begin."""
        lanes, on_bus = self.lanes, not link.load_chip
        fetched = self.before + self.fetch
        start = np.maximum(fetched, self.loaded) + 1
        weights_from = np.maximum(fetched, self.fetched_weights) + 1
        waits = link.barrier & ~self.marks
        arrived = LOADED + 1 + (ANSWER if on_bus else SCRATCHPAD_LATENCY)
        exists, complete, behind, first = self._exists(link, use)
        free_from = np.maximum(np.where(waits, self.done, self.drained), start)
        # Words and weights that come while the layer before is still stored
        room = np.maximum(0, lanes.room - self.held) * use.load / np.maximum(link.shape.load_words, 1)
        early = _idle(self.bus if on_bus else self.chip, np.maximum(start, first), self.drained)
        early = np.where(waits, 0, np.minimum(np.minimum(use.load - behind, early), room))
        lead = np.maximum(start + use.lead, exists + np.minimum(use.lead, behind + LEAST))
        ready = _idle(self.bus, weights_from, free_from if on_bus else np.maximum(lead, free_from)) - early * on_bus
        ready = np.minimum(np.minimum(use.depth, use.weights), np.maximum(0, ready))
        # What comes first when the bus is free: weights that are urgent, words of the first strip
        late_weights = np.maximum(0, np.minimum(use.weights, use.urgent) - ready)
        late, rest = np.maximum(0, use.lead - early), use.load - early
        opened = np.where(late > 0, free_from + late_weights * on_bus, start)
        lead = np.where(late > 0, np.maximum(lead, opened + late), lead)
        loaded = _latest(
            start + use.load,
            complete + behind,
            self.computed + np.maximum(0, use.load - room),
            np.where(rest > 0, free_from + rest + late_weights * on_bus, 0),
        )
        soonest = _latest(self.computed, fetched + FIRST_VECTOR, opened + arrived + LEAST / lanes.ports)
        begun = np.maximum(soonest, lead + arrived - use.early.ahead)
        there = _idle(self.bus, weights_from, begun) - np.maximum(early, use.lead) * on_bus
        there = np.minimum(np.minimum(use.depth, use.weights), np.maximum(ready, there))
        first_pass = np.where(use.fits, use.weights, use.weights / use.strips)
        course = use.early.behind(use.late, there, np.minimum(1, there / np.maximum(first_pass, 1)))
        missing = np.maximum(0, np.minimum(use.tile, use.weights) - ready)
        tile = np.where(missing > 0, np.maximum(weights_from, self.drained) + missing + ANSWER, weights_from) + CUT
        begun = np.maximum(soonest, lead + arrived - course.ahead)
        begun = np.maximum(begun, np.where(use.weights > 0, tile, 0))
        share = (use.second_share - use.lead_share) / np.maximum(1 - use.lead_share, TINY)
        second = lead + (np.maximum(loaded, lead) - lead) * np.clip(share, 0, 1)
        return _Begin(
            course=course,
            begun=begun,
            weights_from=weights_from,
            free_from=free_from,
            loaded=loaded,
            second=second,
            early=early,
            ready=ready,
            arrived=arrived,
            waits=waits,
            on_bus=on_bus,
        )

    def _hurry(self, at: _Begin, use: Use) -> None:
        """Weights that the vectors need at once go before what the layer before stores, which is done later then."""
        taken = use.first_weights * np.clip((at.free_from - at.begun) / np.maximum(at.course.first, 1), 0, 1)
        idle = _idle(self.bus, at.weights_from, self.drained)
        delay = np.minimum(use.weights, use.urgent + taken) - idle
        delay = np.clip(delay, 0, np.maximum(0, self.drained - at.weights_from) - idle)
        self.drained, self.done, self.stored_to = self.drained + delay, self.done + delay, self.stored_to + delay
        at.free_from = np.maximum(at.free_from, np.where(at.waits, self.done, self.drained))
        come = delay + _idle(self.bus, at.weights_from, at.free_from - delay) - at.early * at.on_bus
        at.ready = np.maximum(at.ready, np.minimum(np.minimum(use.depth + taken, use.weights), come))

    def choose(self, strips: NDArray[np.int64]) -> None:
        """Of a state with many candidates of strips that of one for every configuration, by number."""
        where = strips, np.arange(len(strips))
        for name, own in vars(self).items():
            setattr(self, name, _chosen(own, where))

    def take(self, other: "Flow", where: NDArray[np.bool_]) -> None:
        """The other's state for some of the configurations."""
        for name, own in vars(self).items():
            setattr(self, name, _merged(getattr(other, name), own, where))

    def _exists(self, link: Link, use: Use) -> tuple[Array | float, Array | float, Array | float, Array | float]:
        """When the words of the first strip, and all of them, are stored; beats that are behind the last ones; when the
        first words are."""
        if not link.barrier:
            return 0.0, 0.0, 0.0, 0.0
        if not self.marks.any():
            return self.done, self.done, 0.0, self.done
        strips, banks, blocks, drain, first = self.stored
        more = np.maximum(use.lead_share - first, 0) / np.maximum(1 - first, TINY) * (strips - 1)
        strip = np.where(more > TINY, np.floor(more - TINY) + 1, 0)
        part = np.where(more > TINY, more + 1 - strip, use.lead_share / first)
        length, own = self.stored_to - self.stored_from, banks / strips
        bank = np.minimum(drain / banks, length)
        period = (length - bank) / np.maximum(banks - 1, 1)
        blocks = np.maximum(1, blocks / own)  # of which the last one completes a pixel
        within = ((strip + 1) * own - 1) * period + bank * (blocks - 1 + part) / blocks
        behind = np.maximum(0, use.load * self.last_share - self.tail)
        exists = np.minimum(self.stored_from + within, self.stored_to)
        begin = np.minimum(self.stored_from + (own - 1) * period + bank * (blocks - 1) / blocks, self.stored_to)
        marks = self.marks
        return (
            np.where(marks, exists, self.done),
            self.done,
            np.where(marks, behind, 0),
            np.where(marks, begin, self.done),
        )

    def _late(self, link: Link, use: Use) -> tuple[Array, Array]:
        """When the words of the strip are there that needs some which the last strip of the descriptor before stores,
        and the share of all pixels from that strip on; of what is marked."""
        if not link.barrier or not self.marks.any():
            return 0 * self.done, 0 * self.done
        margin = use.lead_share - use.first_share  # words of further pixels in a window
        there = 1 - self.last_share
        more = np.floor((there - margin - use.first_share) / use.strip_share + TINY)
        begin = np.where(more < 0, 0, np.minimum(1, use.first_share + more * use.strip_share))
        end = np.minimum(1, np.where(more < 0, use.first_share, begin + use.strip_share) + margin)
        return self.done + np.maximum(0, end - there) * use.load, np.where(self.marks, 1 - begin, 0)


def _merged(new: Any, old: Any, where: NDArray[np.bool_]) -> Any:
    """New where that is said, old elsewhere: arrays, and tuples of them."""
    if isinstance(old, tuple):
        return tuple(_merged(*both, where) for both in zip(new, old, strict=True))
    return np.where(where, new, old) if isinstance(old, np.ndarray) else old


def _chosen(own: Any, where: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Any:
    """Of arrays (candidates, configurations), and tuples of them, the chosen ones; what has no candidates as it is."""
    if isinstance(own, tuple):
        return tuple(_chosen(each, where) for each in own)
    return own[where] if isinstance(own, np.ndarray) and own.ndim == 2 else own


def _idle(spans: Iterable[Span], begin: Array, end: Array) -> Array:
    """Cycles of a stretch of time that these leave."""
    idle = np.maximum(0, end - begin)
    for first, last, beats in spans:
        shared = np.maximum(0, np.minimum(end, last) - np.maximum(begin, first))
        idle = idle - shared * np.minimum(1, beats / np.maximum(last - first, 1))
    return np.maximum(0, idle)


class Uses:
    """Of a link on all configurations: a `Use` of all candidates of strips. cbg: channel blocks taken together."""

    def __init__(self, link: Link, known: "Known", cbg: Array | None):
        shape, columns, lanes = link.shape, link.columns, known.lanes
        self._shared = known.shared
        self.geometry = geometry = self._shared(("geometry", shape), lambda: Geometry(shape, lanes))
        load, out = not link.load_chip, int(not link.store_chip) + int(shape.operand and not link.operand_chip)
        if cbg is None:
            cbg = self._shared(("groups", shape, load, out), lambda: groups_of(geometry, load, out))
        self.cbg, self._like = cbg, (shape, cbg.tobytes())
        self.strips = self._shared(("strips", self._like), lambda: candidates(geometry, cbg))
        self.tiles = self._shared(
            ("tiles", columns, shape), lambda: tiles_of(columns, shape, lanes) if columns else None
        )
        if self.tiles:
            self.main = Uses(replace(link, shape=self.tiles.main, columns=None), known, None)
            self.rest = Uses(replace(link, shape=self.tiles.rest, columns=None), known, None)

    def with_waits(self, waits: Waits) -> Use:
        """Of every candidate, on every configuration."""

        def made() -> Use:
            return Geometry(self.geometry.shape, self.geometry.lanes, waits).use(self.cbg, *self.strips)

        return self._shared((waits.key, self._like), made)

    def constants(self, link: Link, with_banded: bool) -> tuple[Array, Array, Array]:
        """Bus beats of weights and parameters, and cycles in which the bus could bring more."""
        own = self._constants(link)
        if not with_banded or not self.tiles:
            return own
        main = (self.tiles.ranges * part for part in self.main._constants(replace(link, shape=self.tiles.main)))
        weights, params, slack = (np.where(self.tiles.pays, *both) for both in zip(main, own, strict=True))
        return weights, params, slack

    def _constants(self, link: Link) -> tuple[Array, Array, Array]:
        geometry, lanes, shape = self.geometry, self.geometry.lanes, link.shape
        strips = np.ceil(geometry.pixels / np.minimum(geometry.pixels, np.floor(lanes.entries / self.cbg)))
        weights = np.ceil(geometry.tiles * geometry.tile_beats) * np.where(geometry.fits, 1, strips)
        params, store = geometry.params * strips, geometry.pixels * shape.groups * geometry.beats
        load = shape.load_chunks * lanes.beats(shape.load_c_count) * (not link.load_chip)
        bus = weights + params + load + link.stores_on_bus * store
        return weights, params, np.maximum(0, np.maximum(geometry.pixels * geometry.tiles, store) - bus)

    def sizes(self, with_banded: bool) -> tuple[Array, Array]:
        """Bytes of weights and parameters; those of banded tiles are the same for all columns."""
        own, tiles = self.geometry, self.tiles
        if not with_banded or not tiles:
            return own.weight_bytes, own.param_bytes
        main, pays, ranges = self.main.geometry, tiles.pays, tiles.ranges
        weights = np.where(pays, ranges * main.weight_bytes, own.weight_bytes)
        return weights, np.where(pays, ranges * main.param_bytes, own.param_bytes)


Item = tuple[Link, Use, NDArray[np.bool_] | None]
"""A descriptor in all of its strips, and the configurations that have it; None for all."""


def items_of(link: Link, uses: Uses, waits: Waits, with_banded: bool) -> list[Item]:
    """A descriptor by diagonal tiles, and by banded ones where these pay."""
    tiles = uses.tiles
    if not with_banded or tiles is None:
        return [(link, uses.with_waits(waits), None)]
    found: list[Item] = [] if tiles.pays.all() else [(link, uses.with_waits(waits), ~tiles.pays)]
    main, whole = replace(link, shape=tiles.main), tiles.pays & ~tiles.has_rest & (tiles.ranges == 1)
    if whole.any():
        found.append((main, uses.main.with_waits(waits), whole))
    cut = tiles.pays & ~whole  # of a layer in parts, nothing is marked, and those behind the first wait for nothing
    rest = replace(link, shape=tiles.rest, marks=False, barrier=False)
    for part in range(int(tiles.ranges[cut].max(initial=0))):
        own = cut & (tiles.ranges > part)
        first = replace(main, marks=False, barrier=link.barrier and not part)
        found.append((first, uses.main.with_waits(waits), own))
        if (own & tiles.has_rest).any():
            found.append((rest, uses.rest.with_waits(waits), own & tiles.has_rest))
    return found


Found = TypeVar("Found")


class Known:
    """What was found for some configurations, for the next template to find."""

    def __init__(self, lanes: Lanes):
        self.lanes = lanes
        self._found: dict[Hashable, Any] = {}

    def shared(self, key: Hashable, find: Callable[[], Found]) -> Found:
        """What is known by a key, or found."""
        if key not in self._found:
            self._found[key] = find()
        found: Found = self._found[key]
        return found

    def uses(self, links: Sequence[Link]) -> list[Uses]:
        """Of every link, those of one layer in pieces with the channel blocks of its first one."""
        first: dict[int, Link] = {}
        return [self._uses(link, first.setdefault(link.layer, link)) for link in links]

    def _uses(self, link: Link, like: Link) -> Uses:
        cbg = None if link is like else self._uses(like, like).cbg
        return self.shared((link, like), lambda: Uses(link, self, cbg))


def run(items: Sequence[Item], lanes: Lanes, fetch_cycles: Array) -> Flow:
    """The flow behind a list of descriptors, each in the strips that let the next one be done first."""
    flow = Flow(lanes, fetch_cycles)
    for number, (link, use, where) in enumerate(items):
        trial = copy(flow)
        trial.add(link, use)
        after = _next(trial, items[number + 1 :], lanes.all if where is None else where)
        trial.choose(_best(after.done + READ * (use.weights + use.params)))
        if where is None:
            flow = trial
        else:
            flow.take(trial, where)
    return flow


def _next(flow: Flow, items: Iterable[Item], where: NDArray[np.bool_]) -> Flow:
    """One descriptor later, in its longest strips, on these configurations."""
    result, left = flow, where
    for link, use, own in items:
        having = left if own is None else left & own
        if having.any():
            later = copy(flow)
            later.add(link, use.longest)
            if having.all():
                return later
            result = copy(result)
            result.take(later, having)
            left = left & ~having
        if not left.any():
            break
    return result


def _best(costs: Array) -> NDArray[np.int64]:
    """Which of the candidates (candidates, configurations) costs least: one that is better than all before it."""
    before = np.minimum.accumulate(costs, axis=0)[:-1]
    better = costs[1:] < before - ROUNDING
    numbers = np.arange(1, len(costs))[:, None]
    found: NDArray[np.int64] = np.max(better * numbers, axis=0, initial=0)
    return found

# SPDX-License-Identifier: Apache-2.0
"""When descriptors in a row are done, for many configurations at once.

Follows what array, drain, load engine and bus hand on from one descriptor to the next: each takes its next one when it
is through, banks of sums are free when they are drained, input words exist when they are stored and are loaded where
there is room, and what has no cycle of the bus waits.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from firmware_gen.targets.descriptor.survey.lanes import STORE_PATH, Array, Lanes
from firmware_gen.targets.descriptor.survey.shapes import READ, Geometry, Shape, Use, Waits, candidates, groups_of
from hls.descriptor.interface.timing import ANSWER, FIRST_VECTOR, LOADED, SCRATCHPAD_LATENCY, SCRATCHPAD_MARK, STORED


@dataclass(frozen=True)
class Link:
    """A descriptor in its place: whether its streams are on chip, whether its input may be what the one before stores,
    and whether that marks, word by word, what of it is there. layer: its number."""

    shape: Shape
    load_chip: bool
    store_chip: bool
    operand_chip: bool
    barrier: bool
    marks: bool
    layer: int = 0

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


def _latest(*times: Array) -> Array:
    return reduce(np.maximum, times)


class Flow:
    """Where the stages are after some descriptors of a list; cycle 0 is the doorbell. fetch_cycles: of the memory for a
    beat of a descriptor."""

    def __init__(self, lanes: Lanes, fetch_cycles: Array | float = 1.0):
        nothing = np.zeros(len(lanes))
        self.lanes = lanes
        self.fetch_beats = fetch_cycles * lanes.fetch_beats
        self.fetch = lanes.fetch + self.fetch_beats - lanes.fetch_beats
        self.before = self.done = self.loaded = self.fetched_weights = self.computed = self.drained = nothing
        self.stored_from = self.stored_to = self.held = nothing
        self.bus = self.chip = ((nothing, nothing, nothing),) * 2  # what is read, and what is stored
        self.strips = self.blocks = self.banks = self.first_share = nothing + 1
        self.tail = self.last_share = self.drain = nothing
        self.marks = False
        self.busy_vectors = self.busy_bus = self.busy_weights = self.busy_drain = nothing

    def add(self, link: Link, use: Use) -> Array:
        """One more descriptor; when it is done."""
        lanes = self.lanes
        on_bus, shape = 0 if link.load_chip else 1, link.shape
        fetched = self.before + self.fetch
        start = np.maximum(fetched, self.loaded) + 1
        weights_from = np.maximum(fetched, self.fetched_weights) + 1
        exists, complete = self._exists(link, use)
        behind = np.maximum(0, use.load * self.last_share - self.tail) * (link.barrier and self.marks)
        waits = link.barrier and not self.marks
        arrived = LOADED + 1 + (SCRATCHPAD_LATENCY if link.load_chip else ANSWER)
        free_from = np.maximum(self.done if waits else self.drained, start)
        # Words and weights that come while the layer before is still stored
        room = np.maximum(0, lanes.room - self.held) * use.load / max(shape.load_words, 1)
        early = 0 * start
        if not waits:
            idle = _idle(self.bus if on_bus else self.chip, start, self.drained)
            early = np.minimum(np.minimum(use.load, idle), room)
        lead = np.maximum(start + use.lead, exists + np.minimum(use.lead, behind + LEAST))
        ready = _idle(self.bus, weights_from, free_from if on_bus else np.maximum(lead, free_from)) - early * on_bus
        ready = np.minimum(np.minimum(use.depth, use.weights), np.maximum(0, ready))
        late_weights = np.maximum(0, np.minimum(use.weights, use.urgent) - ready)
        late = np.maximum(0, use.lead - early)
        opened = np.where(late > 0, free_from + late_weights * on_bus, start)
        lead = np.where(late > 0, np.maximum(lead, opened + late), lead)
        soonest = _latest(self.computed, fetched + FIRST_VECTOR, opened + arrived + LEAST / lanes.ports)
        begun = np.maximum(soonest, lead + arrived - use.early.first * use.before)
        there = _idle(self.bus, weights_from, begun) - np.maximum(early, use.lead) * on_bus
        there = np.minimum(np.minimum(use.depth, use.weights), np.maximum(ready, there))
        first_pass = np.where(use.fits, use.weights, use.weights / use.strips)
        course = use.early.towards(use.late, 1 - np.minimum(1, there / np.maximum(first_pass, 1)))
        first_tile = np.maximum(0, np.minimum(use.tile, use.weights) - ready)
        tile = np.where(
            first_tile > 0, np.maximum(weights_from, self.drained) + first_tile + ANSWER + CUT, weights_from + CUT
        )
        loaded = np.maximum(
            np.maximum(start + use.load, complete + behind), self.computed + np.maximum(0, use.load - room)
        )
        rest = use.load - early
        loaded = np.maximum(loaded, np.where(rest > 0, free_from + rest + late_weights * on_bus, 0))
        begun = np.maximum(soonest, lead + arrived - course.first * use.before)
        begun = np.maximum(begun, np.where(use.weights > 0, tile, 0))
        taken = use.first_weights * np.clip((free_from - begun) / np.maximum(course.first, 1), 0, 1)
        idle = _idle(self.bus, weights_from, self.drained)
        delay = np.minimum(use.weights, use.urgent + taken) - idle
        delay = np.clip(delay, 0, np.maximum(0, self.drained - weights_from) - idle)
        self.drained, self.done, self.stored_to = self.drained + delay, self.done + delay, self.stored_to + delay
        free_from = np.maximum(free_from, self.done if waits else self.drained)
        come = delay + _idle(self.bus, weights_from, free_from - delay) - early * on_bus
        ready = np.maximum(ready, np.minimum(np.minimum(use.depth + taken, use.weights), come))
        computed = np.maximum(
            np.maximum(begun + course.compute, loaded + arrived + course.last),
            self.drained + course.compute - course.first,
        )
        out = use.drain if link.stores_on_bus else 0 * use.drain
        reads = rest * on_bus + use.weights - ready + use.params
        besides = self.fetch_beats + lanes.record_beats
        aux = use.drain * (shape.operand and link.operand_chip)
        stored = np.maximum(0, 1 - 2 / use.banks)  # when the last vectors are through: all but two banks
        bus = np.where(reads + out > 0, free_from + reads + besides, 0)
        chip = np.where(rest * (1 - on_bus) + aux > 0, free_from + rest * (1 - on_bus), 0)
        computed = _latest(computed, bus + out * stored, chip + aux * stored)
        to_store = STORE_PATH[bool(shape.function)] + STORED + (SCRATCHPAD_MARK if link.store_chip else ANSWER)
        drains = np.maximum(begun + course.first + lanes.to_drain, self.done + use.opens)
        drained = _latest(
            np.maximum(drains + use.drain, computed + lanes.to_drain + use.tail),
            computed - course.closing + lanes.to_drain + use.previous + use.tail,
            bus + out,
            chip + aux,
        )
        consumed = begun + (computed - begun) * np.maximum(0, 1 - use.depth / np.maximum(use.weights, 1))
        come = np.maximum(np.maximum(weights_from, free_from - ready) + use.weights, consumed)
        come = np.where(use.fits & (use.strips > 1), np.maximum(come, computed - course.last_pass), come)
        self.fetched_weights = np.minimum(come, computed)
        self.stored_from, self.stored_to = drains + to_store, drained + to_store
        read = np.maximum(loaded, self.fetched_weights) if on_bus else self.fetched_weights
        self.bus = (free_from, read, reads + besides), (drains, drained, out)
        self.chip = (free_from, loaded, rest * (1 - on_bus)), (drains, drained, aux)
        own = use.load * on_bus + use.weights + use.params + out + besides
        self.busy_bus, self.busy_vectors = self.busy_bus + own, self.busy_vectors + use.vectors
        self.busy_weights, self.busy_drain = self.busy_weights + use.weights, self.busy_drain + use.drain
        self.before, self.done = self.done, drained + to_store + 2 + lanes.record_beats
        self.loaded, self.computed, self.drained = loaded, computed, drained
        self.tail, self.last_share = use.tail, use.last_share
        self.held, self.strips, self.marks = use.held, use.strips, link.marks
        self.drain, self.blocks, self.banks, self.first_share = use.drain, use.blocks, use.banks, use.first_share
        return self.done

    def take(self, other: "Flow", where: NDArray[np.bool_]) -> None:
        """The other's state for some of the configurations."""
        for name, own in vars(self).items():
            new = getattr(other, name)
            if isinstance(own, np.ndarray):
                setattr(self, name, np.where(where, new, own))
            elif isinstance(own, tuple):
                setattr(
                    self, name, tuple(tuple(np.where(where, *both) for both in zip(n, o)) for n, o in zip(new, own))
                )

    def _exists(self, link: Link, use: Use) -> tuple[Array | float, Array | float]:
        """When the words of the first strip, and all of them, are stored."""
        if not link.barrier:
            return 0.0, 0.0
        if not self.marks:
            return self.done, self.done
        left = (
            np.maximum(use.lead_share - self.first_share, 0)
            * (self.strips - 1)
            / np.maximum(1 - self.first_share, TINY)
        )
        strip = np.where(left > TINY, np.floor(left - TINY) + 1, 0)
        part = np.where(left > TINY, left + 1 - strip, use.lead_share / self.first_share)
        length, own = self.stored_to - self.stored_from, self.banks / self.strips
        bank = np.minimum(self.drain / self.banks, length)
        period = (length - bank) / np.maximum(self.banks - 1, 1)
        blocks = np.maximum(1, self.blocks / own)  # of which the last one completes a pixel
        within = ((strip + 1) * own - 1) * period + bank * (blocks - 1 + part) / blocks
        return np.minimum(self.stored_from + within, self.stored_to), self.done


def _idle(spans: Iterable[Span], begin: Array, end: Array) -> Array:
    """Cycles of a stretch of time that these leave."""
    idle = np.maximum(0, end - begin)
    for first, last, beats in spans:
        shared = np.maximum(0, np.minimum(end, last) - np.maximum(begin, first))
        idle = idle - shared * np.minimum(1, beats / np.maximum(last - first, 1))
    return np.maximum(0, idle)


class Uses:
    """Of a link on all configurations: a `Use` for every candidate of strips. cbg: channel blocks taken together."""

    def __init__(self, link: Link, lanes: Lanes, cbg: Array | None):
        self.geometry = Geometry(link.shape, lanes)
        out = int(not link.store_chip) + int(link.shape.operand and not link.operand_chip)
        self.cbg = groups_of(self.geometry, not link.load_chip, out) if cbg is None else cbg
        self.strips = candidates(self.geometry, self.cbg)
        self._known: dict[bytes, list[Use]] = {}

    def with_waits(self, waits: Waits) -> list[Use]:
        """One for every candidate."""
        key = waits.key
        if key not in self._known:
            geometry = Geometry(self.geometry.shape, self.geometry.lanes, waits)
            self._known[key] = [geometry.use(self.cbg, *strips) for strips in self.strips]
        return self._known[key]

    def constants(self, link: Link) -> tuple[Array, Array, Array]:
        """Bus beats of weights and parameters, and cycles in which the bus could bring more."""
        geometry, lanes, shape = self.geometry, self.geometry.lanes, link.shape
        strips = np.ceil(geometry.pixels / np.minimum(geometry.pixels, np.floor(lanes.entries / self.cbg)))
        weights = np.ceil(geometry.tiles * geometry.tile_beats) * np.where(geometry.fits, 1, strips)
        params, store = geometry.params * strips, geometry.pixels * shape.groups * geometry.beats
        load = shape.load_chunks * lanes.beats(shape.load_c_count) * (not link.load_chip)
        bus = weights + params + load + link.stores_on_bus * store
        return weights, params, np.maximum(0, np.maximum(geometry.pixels * geometry.tiles, store) - bus)


Known = dict[tuple[Link, Link], Uses]
"""By link, and by that whose channel blocks it has: the first of a layer in pieces, or itself."""


def uses_of(links: Sequence[Link], lanes: Lanes, known: Known) -> list[Uses]:
    """Of every link."""
    first: dict[int, Link] = {}
    found = []
    for link in links:
        like = first.setdefault(link.layer, link)
        if (link, like) not in known:
            known[link, like] = Uses(link, lanes, None if link is like else known[like, like].cbg)
        found.append(known[link, like])
    return found


def run(links: Iterable[tuple[Link, Sequence[Use]]], lanes: Lanes, fetch_cycles: Array) -> Flow:
    """The flow behind a list of descriptors, each in the strips that let it be done first."""
    flow, links = Flow(lanes, fetch_cycles), list(links)
    for (link, uses), (_, following) in zip(links, [*links[1:], (None, ())], strict=True):
        trials = [(trial := copy(flow), trial.add(link, use), use) for use in uses]
        flow, least = trials[0][0], np.full(len(lanes), np.inf)
        weights = following[0].weights if following else 0
        for trial, end, use in trials:
            cost = np.maximum(end, trial.fetched_weights + weights) + READ * (use.weights + use.params)
            flow.take(trial, cost < least - ROUNDING)
            least = np.minimum(cost, least)
    return flow

# SPDX-License-Identifier: Apache-2.0
"""When descriptors in a row are done, for many configurations at once.

Follows what array, drain, load engine and bus hand on from one descriptor to the next: each takes its next one when it
is through, banks of sums are free when they are drained, input words exist when they are stored and are loaded where
there is room, and what has no cycle of the bus waits.
"""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_gen.targets.descriptor.survey.lanes import STORE_PATH, Array, Lanes
from firmware_gen.targets.descriptor.survey.shapes import READ, Geometry, Shape, Use, candidates, groups_of
from hls.descriptor.interface.timing import ANSWER, FIRST_VECTOR, LOADED, STORED


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


ROUNDING = 1e-3
"""Cycles by which a sum may be off."""

LEAST = 4
"""Words behind the first ones that are there when vectors begin."""

ARRIVED = ANSWER + LOADED + 1
"""From the request of a word to its vector."""


class Flow:
    """Where the stages are after some descriptors of a list; cycle 0 is the doorbell."""

    def __init__(self, lanes: Lanes):
        nothing = np.zeros(len(lanes))
        self.lanes = lanes
        self.before = self.done = self.loaded = self.computed = self.drained = nothing
        self.stored_from = self.stored_to = self.bus_from = self.bus_work = self.held = nothing
        self.strips = nothing + 1
        self.tail = self.last_share = nothing
        self.marks = False
        self.busy_vectors = self.busy_bus = self.busy_weights = self.busy_drain = nothing

    def add(self, link: Link, use: Use) -> Array:
        """One more descriptor; when it is done."""
        lanes = self.lanes
        on_bus = 0 if link.load_chip else 1
        fetched = self.before + lanes.fetch
        start = np.maximum(fetched, self.loaded) + 1
        free_from = np.maximum(self.drained, start)
        exists, complete = self._exists(link, use)
        window = np.maximum(0, self.drained - start)
        free = window - self.bus_work * np.minimum(1, window / np.maximum(self.drained - self.bus_from, 1))
        free = np.maximum(0, free) * (0 if link.barrier and not self.marks else 1)
        behind = np.maximum(0, use.load * self.last_share - self.tail) * (link.barrier and self.marks)
        room = np.maximum(0, lanes.room - self.held) * use.load / max(link.shape.load_words, 1)
        early = np.minimum(np.minimum(use.load * on_bus, free), room)
        lead = np.maximum(start + use.lead, exists + np.minimum(use.lead, behind + LEAST))
        late = np.maximum(0, use.lead - early) * on_bus
        lead = np.where(late > 0, np.maximum(lead, free_from + late), lead) + ARRIVED
        loaded = np.maximum(
            np.maximum(start + use.load, complete + behind), self.computed + np.maximum(0, use.load - room)
        )
        loaded = np.maximum(loaded, (free_from + use.load - early) * on_bus)
        ready = np.minimum(np.minimum(lanes.weight_depth, use.weights), np.maximum(0, free - early))
        begun = np.maximum(np.maximum(self.computed, fetched + FIRST_VECTOR), lead - use.ahead)
        computed = np.maximum(
            np.maximum(begun + use.compute, loaded + ARRIVED + use.last), self.drained + use.compute - use.first
        )
        out = use.drain * (0 if link.store_chip else 1) + use.drain * link.shape.operand * (not link.operand_chip)
        read = use.load * on_bus - early + use.weights - ready + use.params
        bus = free_from + read + out * (1 - 1 / use.strips)
        computed = np.maximum(computed, bus)
        to_store = STORE_PATH[bool(link.shape.function)] + STORED + ANSWER
        drains = np.maximum(begun + use.first + lanes.to_drain, self.drained)
        drained = np.maximum(
            np.maximum(drains + use.drain + use.params / use.strips, computed + lanes.to_drain + use.tail),
            bus + out / use.strips,
        )
        self.stored_from, self.stored_to = drains + to_store, drained + to_store
        self.bus_from, self.bus_work = free_from, read + out + lanes.fetch_beats + lanes.record_beats
        own = use.load * on_bus + use.weights + use.params + out + lanes.fetch_beats + lanes.record_beats
        self.busy_bus, self.busy_vectors = self.busy_bus + own, self.busy_vectors + use.vectors
        self.busy_weights, self.busy_drain = self.busy_weights + use.weights, self.busy_drain + use.drain
        self.before, self.done = self.done, drained + to_store + 2 + lanes.record_beats
        self.loaded, self.computed, self.drained = loaded, computed, drained
        self.tail, self.last_share = use.tail, use.last_share
        self.held, self.strips, self.marks = use.held, use.strips, link.marks
        return self.done

    def take(self, other: "Flow", where: NDArray[np.bool_]) -> None:
        """The other's state for some of the configurations."""
        for name, own in vars(self).items():
            if isinstance(own, np.ndarray):
                setattr(self, name, np.where(where, getattr(other, name), own))

    def _exists(self, link: Link, use: Use) -> tuple[Array | float, Array | float]:
        """When the words of the first strip, and all of them, are stored."""
        if not link.barrier:
            return 0.0, 0.0
        if not self.marks:
            return self.done, self.done
        share = np.minimum(1, np.ceil(use.lead_share * self.strips) / self.strips)
        return self.stored_from + (self.stored_to - self.stored_from) * share, self.done


class Uses:
    """Of a link on all configurations: a `Use` for every candidate of strips. cbg: channel blocks taken together."""

    def __init__(self, link: Link, lanes: Lanes, cbg: Array | None):
        geometry = Geometry(link.shape, lanes)
        out = int(not link.store_chip) + int(link.shape.operand and not link.operand_chip)
        self.cbg = groups_of(geometry, not link.load_chip, out) if cbg is None else cbg
        self.all = [geometry.use(self.cbg, *strips) for strips in candidates(geometry, self.cbg)]


Known = dict[tuple[Link, Link], Uses]
"""By link, and by that whose channel blocks it has: the first of a layer in pieces, or itself."""


def run(links: Iterable[Link], lanes: Lanes, known: Known) -> Flow:
    """The flow behind a list of descriptors, each in the strips that let it be done first."""
    flow = Flow(lanes)
    first: dict[int, Link] = {}
    for link in links:
        like = first.setdefault(link.layer, link)
        if (link, like) not in known:
            known[link, like] = Uses(link, lanes, None if link is like else known[like, like].cbg)
        trials = [(trial := copy(flow), trial.add(link, use), use) for use in known[link, like].all]
        flow, least = trials[0][0], np.full(len(lanes), np.inf)
        for trial, end, use in trials:
            cost = end + READ * (use.weights + use.params)
            flow.take(trial, cost < least - ROUNDING)
            least = np.minimum(cost, least)
    return flow

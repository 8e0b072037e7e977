# SPDX-License-Identifier: Apache-2.0
"""A rough estimate of descriptors in a row, which is quick when few of them change."""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from typing import NamedTuple

import numpy as np

from firmware_gen.targets.descriptor.lowering.job import Job, activations
from firmware_gen.targets.descriptor.timing.demand import demand
from firmware_gen.targets.descriptor.timing.spans import strip_sizes, window_words
from hls.config import Config
from hls.descriptor.interface.timing import ANSWER, LOADED, fetch_cycles, vector_to_end, weight_buffer

HIDDEN = 0.02
"""What a beat that its layer hides is worth beside one that it waits for: layers overlap, and memory is shared."""

DECIMALS = 6
"""Of estimated cycles: what is less is the rounding of sums."""


class Delays(NamedTuple):
    """Cycles from the drain's start to the next descriptor, from a word to its vector, from the last vector to the end
    of the layer."""

    fetch: int
    first: int
    last: int


def delays(config: Config) -> Delays:
    return Delays(fetch_cycles(config), ANSWER + LOADED, vector_to_end(config))


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


def cost(use: Use) -> float:
    """Cycles of a descriptor by itself."""
    bus = use.bus_in + use.bus_out
    return max(use.array, use.load, bus) + HIDDEN * bus


class Whole(NamedTuple):
    """What a descriptor takes as a whole: vectors, cycles for its tiles at least, its strips, beats of its streams,
    those of weights and parameters once, and of `load` those of its first strip; storages that it loads, stores and
    reads."""

    vectors: int
    tiles: int
    strips: int
    weights: int
    params: int
    load: int
    lead: float
    store: int
    aux: int
    loads: str | None
    stores: str | None
    reads: str | None

    @classmethod
    def of(cls, job: Job, config: Config) -> "Whole":
        f, where = job.descriptor, activations(job.descriptor)
        own = demand(f, config)
        return cls(
            own.vectors,
            own.tiles * weight_buffer(config).load_beats if f.band else 0,
            len(strip_sizes(f.out_px, f.first_px, f.strip_px)),
            own.weights,
            own.params,
            own.load,
            int(window_words(f)[1][min(f.first_px, f.out_px) - 1]) / config.ports,
            own.store,
            own.aux,
            *(where[stream].name if stream in where else None for stream in ("LOAD", "STORE", "AUX")),
        )

    def use(
        self, outputs: float, inputs: float, on_chip: frozenset[str], fetch: int, lost: int = 0, follows: bool = True
    ) -> Use:
        """Of so many of its output pixels and input words, with these storages on chip. fetch: beats for itself; lost:
        cycles of the array; follows: as in `Use`."""
        passes = self.strips if outputs == 1 else 1
        weights, load, store = self.weights * passes, self.load * inputs, self.store * outputs
        on_bus = fetch + weights + self.params * passes + (0.0 if self.loads in on_chip else load)
        out = (0.0 if self.stores in on_chip else store) + (0.0 if self.reads in on_chip else self.aux * outputs)
        array = max(self.vectors * outputs, weights, store, self.tiles)  # the accumulators hold little
        return Use(array + lost, load, min(load, self.lead), store, on_bus, out, follows)


def joined(parts: Sequence[Whole]) -> Whole:
    """Of a layer in parts, which read and write the same storages."""
    first = parts[0]
    if len(parts) == 1:
        return first
    counts = {name: sum(getattr(part, name) for part in parts) for name in ADDED}
    return first._replace(strips=max(part.strips for part in parts), **counts)


ADDED = ("vectors", "tiles", "weights", "params", "load", "store", "aux")
"""Of a `Whole`: what its parts have in sum."""

# The clock: when the last descriptor but one was stored, the last one stored, its input loaded, its vectors computed;
# the first and the third again, later by the cycles for which its stores keep the bus.
CLOCK = 6
_NOTHING = np.where(np.eye(CLOCK), 0.0, -np.inf)


def after(clock: np.ndarray, use: Use, wait: Delays) -> np.ndarray:
    """The clock one descriptor later; it follows the one before word by word. Columns are clocks of their own."""
    before, stored, loaded, computed, before_and_bus, loaded_and_bus = clock
    start = np.maximum(before + wait.fetch, loaded)  # the one before is being drained: this one is fetched
    begun = np.maximum(computed, start + (use.lead + wait.first))
    loaded = np.maximum(start + use.load, np.maximum(before_and_bus + wait.fetch, loaded_and_bus) + use.bus_in)
    if use.follows:
        loaded = np.maximum(loaded, stored)
    computed = np.maximum(begun + use.array, loaded + wait.first)
    done = np.maximum(np.maximum(stored, begun) + use.store, computed + wait.last)
    return np.stack([stored, done, loaded, computed, stored + use.bus_out, loaded + use.bus_out])


class Line:
    """Steps in a row, none of which uses anything at first.

    What a step does to the clock is linear where addition is the maximum and multiplication the sum. A tree holds the
    products of 2, 4, 8, ... of these matrices, so that few of them change with a step.
    """

    def __init__(self, steps: int, wait: Delays):
        self._wait = wait
        self._first = 1 << max(steps - 1, 0).bit_length()  # of the leaves; node i has the children 2 i and 2 i + 1
        self._tree = np.tile(_NOTHING, (2 * self._first, 1, 1))
        self._bus = [0.0] * steps

    @property
    def cycles(self) -> float:
        """Until the last store, and a little for what the bus does meanwhile."""
        return round(float(self._tree[1, 1].max()) + HIDDEN * sum(self._bus), DECIMALS)

    def change(self, uses: Mapping[int, list[Use]]) -> None:
        """What some steps use from now on, descriptor after descriptor."""
        for step, own in uses.items():
            self._tree[self._first + step] = reduce(partial(after, wait=self._wait), own, _NOTHING)
            self._bus[step] = sum(use.bus_in + use.bus_out for use in own)
        below = [step + self._first for step in uses]
        while below and min(below) > 1:
            below = sorted({node // 2 for node in below})
            nodes = np.array(below)
            earlier, later = self._tree[2 * nodes], self._tree[2 * nodes + 1]
            self._tree[nodes] = (later[:, :, :, np.newaxis] + earlier[:, np.newaxis]).max(axis=2)

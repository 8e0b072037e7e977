# SPDX-License-Identifier: Apache-2.0
"""A rough estimate of descriptors in a row, which is quick when few of them change."""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import numpy as np

HIDDEN = 0.02
"""What a beat that its layer hides is worth beside one that it waits for: layers overlap, and memory is shared."""

DECIMALS = 6
"""Of estimated cycles: what is less is the rounding of sums."""

FETCH, FIRST, LAST = 30, 25, 60
"""`after`: cycles from the drain's start to the next descriptor, from a word to its vector, from the last vector to
the last store."""


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


# The clock: when the last descriptor but one was stored, the last one stored, its input loaded, its vectors computed;
# the first and the third again, later by the cycles for which its stores keep the bus.
CLOCK = 6
_NOTHING = np.where(np.eye(CLOCK), 0.0, -np.inf)


def after(clock: np.ndarray, use: Use) -> np.ndarray:
    """The clock one descriptor later; it follows the one before word by word. Columns are clocks of their own."""
    before, stored, loaded, computed, before_and_bus, loaded_and_bus = clock
    start = np.maximum(before + FETCH, loaded)  # the one before is being drained: this one is fetched
    begun = np.maximum(computed, start + (use.lead + FIRST))
    loaded = np.maximum(start + use.load, np.maximum(before_and_bus + FETCH, loaded_and_bus) + use.bus_in)
    if use.follows:
        loaded = np.maximum(loaded, stored)
    computed = np.maximum(begun + use.array, loaded + FIRST)
    done = np.maximum(np.maximum(stored, begun) + use.store, computed + LAST)
    return np.stack([stored, done, loaded, computed, stored + use.bus_out, loaded + use.bus_out])


class Line:
    """Steps in a row, none of which uses anything at first.

    What a step does to the clock is linear where addition is the maximum and multiplication the sum. A tree holds the
    products of 2, 4, 8, ... of these matrices, so that few of them change with a step.
    """

    def __init__(self, steps: int):
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
            self._tree[self._first + step] = reduce(after, own, _NOTHING)
            self._bus[step] = sum(use.bus_in + use.bus_out for use in own)
        nodes = np.array(sorted(uses), int) + self._first
        while nodes.size and nodes[0] > 1:
            nodes = np.unique(nodes // 2)
            earlier, later = self._tree[2 * nodes], self._tree[2 * nodes + 1]
            self._tree[nodes] = (later[:, :, :, np.newaxis] + earlier[:, np.newaxis]).max(axis=2)

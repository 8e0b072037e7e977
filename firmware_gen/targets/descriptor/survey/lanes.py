# SPDX-License-Identifier: Apache-2.0
"""Many configurations at once: what estimates ask of each, as arrays."""

from collections.abc import Hashable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from firmware_gen.memory.planner import memory_map
from hls.arithmetic.accumulator import ACC_LATENCY
from hls.arithmetic.array import load_beats
from hls.config import Config
from hls.descriptor.interface.rules import activation_room, bank_entries
from hls.descriptor.interface.timing import (
    OUTSTANDING,
    fetch_beats,
    fetch_cycles,
    read_to_store,
    record_beats,
    vector_to_drain,
    weight_buffer,
)

Array = NDArray[np.float64]


def paid_alike(config: Config) -> tuple[Hashable, ...]:
    """What it depends on where banded tiles, and rows side by side, pay."""
    return config.rows, config.cols, config.accumulator_entries, load_beats(config), config.banded


def tiled_alike(config: Config) -> Hashable:
    """What it depends on where banded tiles pay, and what they are."""
    return (*paid_alike(config), config.banks, config.scratchpad_banks, activation_room(config))


class Lanes:
    """`configs` as float64 arrays, in their order. Most are called as in `Config`.

    room: words of the activation buffer that may be used. cut: load beats of a dense tile; row: bytes of weights that
    go to the array at once. weight_capacity: bytes, and weight_depth: bus beats, of the weight buffer; urgent: bus
    beats of it that are asked for before input words and stores. border, end: bytes of contiguous banks, and of all.
    to_drain: from a vector to the drain of its sum, where a group has sums enough. half: entries of half a bank.
    """

    def __init__(self, configs: Sequence[Config]):
        self.configs = tuple(configs)

        def each(name: str) -> Array:
            return np.array([getattr(config, name) for config in configs], float)

        self.rows, self.cols, self.ports, self.diagonal = map(each, ("rows", "cols", "ports", "diagonal"))
        self.packed_scales = each("packed_scales") > 0
        self.entries, self.scratchpad = each("accumulator_entries"), each("scratchpad_words")
        self.half = np.array([bank_entries(config, True) for config in configs], float)
        self.room = np.array([activation_room(config) for config in configs], float)
        buffers = [weight_buffer(config) for config in configs]
        self.row = np.array([b.row for b in buffers], float)
        self.cut = np.array([b.load_beats for b in buffers], float)
        self.weight_capacity = np.array([b.capacity for b in buffers], float)
        self.weight_depth = self.weight_capacity / (4 * self.ports)
        self.urgent = np.array([b.low_mark * b.row_beats + OUTSTANDING for b in buffers], float)
        self.to_drain = np.array([vector_to_drain(config, ACC_LATENCY) for config in configs], float)
        self.border, self.end = (np.array(each, float) for each in zip(*map(memory_map, configs), strict=True))
        self.fetch = np.array([fetch_cycles(config) for config in configs], float)
        self.fetch_beats = np.array([fetch_beats(config) for config in configs], float)
        self.record_beats = np.array([record_beats(config) for config in configs], float)

    @cached_property
    def all(self) -> NDArray[np.bool_]:
        """True for each."""
        return np.ones(len(self), bool)

    @cached_property
    def tiled_alike(self) -> tuple[Hashable, ...]:
        """Of each."""
        return tuple(map(tiled_alike, self.configs))

    def __len__(self) -> int:
        return len(self.configs)

    def beats(self, words: Array | float) -> Array:
        """Of neighbouring words."""
        return np.ceil(words / self.ports)


STORE_PATH = {function: read_to_store(function) for function in (False, True)}

# SPDX-License-Identifier: Apache-2.0
"""Memory banks that the streams of a descriptor use, and where words of a beat meet in one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from firmware_gen.targets.descriptor.timing.spans import strip_sizes
from hls.arithmetic.function import ROW_WORDS
from hls.config import Config
from hls.descriptor.interface.table import PROFILE_RECORD, WORDS, Linked, Output
from hls.descriptor.interface.timing import block_outputs, table_beat

NOWHERE = -1

Words = tuple[int, ...]
"""The memory bank of each word of a beat; () where nobody asks."""


class ByBeat(Protocol):
    """`Words` by the number of a beat."""

    def __getitem__(self, beat: int, /) -> Words: ...


@dataclass(frozen=True)
class Places:
    """Byte addresses in memory of a descriptor's streams; NOWHERE: there is none, or it is on chip."""

    load: int = NOWHERE
    weights: int = NOWHERE
    params: int = NOWHERE
    store: int = NOWHERE
    aux: int = NOWHERE
    fetch: int = NOWHERE
    table: int = NOWHERE
    record: int = NOWHERE


@dataclass(frozen=True)
class Sharing:
    """Per stream, how many words of a beat share a bank at most; ``weights``: (words, how many), bank after bank."""

    load: int
    weights: tuple[tuple[int, int], ...]
    params: int
    store: int
    aux: int
    fetch: int
    table: int
    record: int

    @property
    def contended(self) -> bool:
        """Whether words of a beat meet. Where none do, all ports take the same beat, and none waits for another."""
        own = (self.load, self.params, self.store, self.aux, self.fetch, self.table, self.record)
        return any(shared > 1 for shared in (*own, *(shared for _, shared in self.weights)))


def sharing(f: Linked, places: Places, config: Config) -> Sharing:
    def linear(address: int, words: int) -> int:
        return _shared(address, [(words, 1)], 1, config)

    return Sharing(
        load=_shared(places.load, f.load_loops, f.load_c_stride, config),
        weights=_weights(places.weights, f.weight_words, config),
        params=linear(places.params, f.param_words),
        store=_shared(places.store, f.output_loops(f.store), f.store_c_stride, config),
        aux=_shared(places.aux, f.output_loops(f.aux), f.aux_c_stride, config),
        fetch=linear(places.fetch, WORDS),
        table=linear(places.table, f.table_rows * ROW_WORDS),
        record=linear(places.record, len(PROFILE_RECORD)),
    )


@cache
def _parts(banks: int, interleaved: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Of every part of the memory that is as large as a bank: the first of the banks that its words go round, and how
    many these are."""
    first, size = list(range(banks)), [1] * banks
    for group in interleaved:
        first += [len(first)] * group
        size += [group] * group
    return first, size


def bank(address: NDArray[np.int64], config: Config) -> NDArray[np.int64]:
    """Number of the bank of each byte address; of one behind the memory, which no word has, of any."""
    first, size = _parts(config.memory_banks, config.memory_banks_interleaved)
    part = address // config.bank_bytes
    found: NDArray[np.int64] = np.take(first, part, mode="clip") + address // 4 % np.take(size, part, mode="clip")
    return found


def _shared(address: int, loops: Sequence[tuple[int, int]], stride: int, config: Config) -> int:
    """Words of a beat that share a bank at most, of a stream with such (count, words apart) loops."""
    if address == NOWHERE or config.ports == 1:
        return 1
    steps = [(count - 1) * apart for count, apart in loops]
    low, high = (address + 4 * sum(limit(step, 0) for step in steps) for limit in (min, max))
    size = _parts(config.memory_banks, config.memory_banks_interleaved)[1]
    smallest = min(size[low // config.bank_bytes : high // config.bank_bytes + 1])
    return max(Counter(word * stride % smallest for word in range(config.ports)).values())


def _weights(address: int, words: int, config: Config) -> tuple[tuple[int, int], ...]:
    if address == NOWHERE:
        return ()
    result: list[tuple[int, int]] = []
    at, end = address, address + 4 * words
    while at < end:
        following = min(end, (at // config.bank_bytes + 1) * config.bank_bytes)
        result.append(((following - at) // 4, _shared(at, (), 1, config)))
        at = following
    return tuple(result)


class _Anywhere:
    """Of beats that do not wait for a bank."""

    def __getitem__(self, beat: int, /) -> Words:
        return ()


ANYWHERE: ByBeat = _Anywhere()


@dataclass(frozen=True)
class Beats:
    """Per stream, the banks of its beats, in order."""

    load: ByBeat = ANYWHERE
    weights: ByBeat = ANYWHERE
    params: ByBeat = ANYWHERE
    store: ByBeat = ANYWHERE
    aux: ByBeat = ANYWHERE
    fetch: ByBeat = ANYWHERE
    table: ByBeat = ANYWHERE
    record: ByBeat = ANYWHERE


UNCONTENDED = Beats()


def beats_of(f: Linked, places: Places, config: Config) -> Beats:
    def beats(address: int, offsets: NDArray[np.int64], stride: int) -> ByBeat:
        """``offsets``: words from the address to each beat's first."""
        if address == NOWHERE:
            return ANYWHERE
        at = address + 4 * (offsets.reshape(-1, 1) + stride * np.arange(config.ports))
        known: dict[Words, Words] = {}
        return [known.setdefault(words, words) for words in map(tuple, bank(at, config).tolist())]

    def linear(address: int, words: int, beat: int = config.ports) -> ByBeat:
        return beats(address, np.arange(0, words, beat), 1)

    return Beats(
        load=beats(places.load, _load_offsets(f, config), f.load_c_stride),
        weights=linear(places.weights, f.weight_words),
        params=linear(places.params, f.param_words),
        store=beats(places.store, _output_offsets(f, f.store, config), f.store_c_stride),
        aux=beats(places.aux, _output_offsets(f, f.aux, config), f.aux_c_stride),
        fetch=linear(places.fetch, WORDS),
        table=linear(places.table, f.table_rows * ROW_WORDS, table_beat(config)),
        record=linear(places.record, len(PROFILE_RECORD)),
    )


def _load_offsets(f: Linked, config: Config) -> NDArray[np.int64]:
    (words, c_stride), (columns, x_stride), (rows, y_stride) = f.load_loops
    c = np.arange(0, words, config.ports) * c_stride
    return (np.arange(rows)[:, None, None] * y_stride + np.arange(columns)[:, None] * x_stride + c).reshape(-1)


def _output_offsets(f: Linked, output: Output[int], config: Config) -> NDArray[np.int64]:
    """In the order of the walker's loops: strip, group, channel block, pixel, beat."""
    result, first = [], 0
    for size in strip_sizes(f.out_px, f.first_px, f.strip_px):
        oy, ox = np.divmod(np.arange(first, first + size), f.out_w)
        pixels = (oy * output.y_stride + ox * output.x_stride)[:, None]
        for g in range(f.groups):
            for cb in range(f.ncb):
                channels = np.arange(0, block_outputs(f, cb, config), config.ports) * output.c_stride
                result.append((pixels + channels + cb * output.cb_step + g * output.g_step).reshape(-1))
        first += size
    return np.concatenate(result)

# SPDX-License-Identifier: Apache-2.0
"""Where storages lie in the scratchpad, and the proof that none is overwritten before it has been read."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from firmware_gen.operations.tensors import Ref, Tensor
from firmware_gen.targets.descriptor.lowering.job import Job, Symbolic, activations
from firmware_gen.targets.descriptor.timing.spans import loaded_words
from hls.config import Config
from hls.descriptor.interface.table import LINEAR
from hls.errors import HeepgenError

Words = TypeVar("Words", int, np.ndarray)


@dataclass(frozen=True)
class Home:
    """First word of a storage in the scratchpad, and log2 of the words of its ring; all of it for a whole tensor."""

    offset: int
    ring: int

    def word(self, index: Words) -> Words:
        """Where word `index` of the storage lies, or each of several."""
        inside = (1 << self.ring) - 1
        return self.offset & ~inside | (self.offset + index) & inside


def scattered(job: Job, config: Config) -> list[str]:
    """Storages whose beats are not words in neighbouring banks."""
    f = job.descriptor
    loops = {
        "LOAD": (f.load_c_count, f.load_c_stride),
        "AUX": (f.cout, f.aux_c_stride),
        "STORE": (f.cout, f.store_c_stride),
    }
    banks = config.scratchpad_banks
    apart = {stream for stream, (count, stride) in loops.items() if count > 1 and (stride - 1) % banks}
    return [where.name for stream, where in activations(f).items() if stream in apart]


def check(
    jobs: Sequence[Job],
    homes: Mapping[str, Home],
    offsets: Mapping[str, int],
    arena: int,
    unknown: Container[str],
    config: Config,
    states: Sequence[tuple[Tensor, Tensor]] = (),
) -> None:
    """Prove places in scratchpad and arena by replaying all descriptors, word by word: what was written is read.

    homes: of storages on chip. offsets: of all storages in an arena of so many bytes. unknown: storages that the CPU
    writes too, which no descriptor tells. states: each as it lies at the beginning, and what it has become at the end.
    Raises HeepgenError naming the layer and the storage.
    """
    chip = arena // 4 + 1  # the scratchpad, behind the arena
    holds = np.full(chip + config.scratchpad_words, -1)
    stored = {where.name for job in jobs if isinstance(where := job.descriptor.store_addr, Ref)}
    first_id = {name: number << LINEAR for number, name in enumerate([*offsets, *homes], 1)}

    def places_of(name: str, words: np.ndarray) -> np.ndarray:
        return chip + homes[name].word(words) if name in homes else offsets[name] // 4 + words

    for state, _ in states:
        words = state.words() - state.rotated
        holds[places_of(state.storage, words)] = first_id[state.storage] + words
    for job in jobs:
        for stream, where in activations(job.descriptor).items():
            name = where.name
            if name not in first_id:  # a constant's
                continue
            words = where.offset + _words(job.descriptor, stream)
            places = places_of(name, words)
            if stream == "STORE":
                holds[places] = first_id[name] + words
            elif name in stored and name not in unknown and (holds[places] != first_id[name] + words).any():
                raise HeepgenError(f"memory plan: {name} is overwritten before {job.layer} has read it")
    for _, left in states:
        words, name = left.words(), left.storage
        if name in stored and name not in unknown and (holds[places_of(name, words)] != first_id[name] + words).any():
            raise HeepgenError(f"memory plan: {name} is overwritten before the next inference has read it")


def _words(f: Symbolic, stream: str) -> np.ndarray:
    """Words of a stream, relative to its address."""
    if stream == "LOAD":
        return loaded_words(f)
    words = np.zeros(1, np.int64)
    for count, stride in reversed(f.output_loops(f.store if stream == "STORE" else f.aux)):
        words = (words[:, None] + np.arange(count) * stride).reshape(-1)
    return words

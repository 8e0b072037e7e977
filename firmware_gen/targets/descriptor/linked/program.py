# SPDX-License-Identifier: Apache-2.0
"""A compiled network: every descriptor, constant and address, ready to be run or printed as C++."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from firmware_gen.frozen import freeze
from firmware_gen.memory import network, planner
from firmware_gen.operations.tensors import Ref, Tensor
from firmware_gen.targets.descriptor.lowering.job import Job, activations
from firmware_gen.targets.descriptor.lowering.tiling import in_strips
from firmware_gen.targets.descriptor.scratchpad.homes import Home
from hls.config import Config
from hls.descriptor.interface.table import (
    ARENA,
    CONTIGUOUS,
    FIELD,
    INTERLEAVED,
    PROFILE_RECORD,
    SCRATCHPAD,
    WORDS,
    Linked,
    address,
    pack,
    split_address,
    unpack,
)

DESCRIPTORS, PROFILE = "descriptors", "profile"


class Rotating(NamedTuple):
    """A word of the descriptors that is an address in the scratchpad: that of the first inference, in bytes."""

    word: int
    offset: int


class DescriptorList(NamedTuple):
    """Descriptors first..end - 1, which one doorbell starts."""

    first: int
    end: int

    @property
    def range(self) -> slice:
        return slice(self.first, self.end)


@dataclass(frozen=True)
class Layer(network.Layer):
    """`descriptors` are the indices of its own, in order, none on the CPU."""

    descriptors: tuple[int, ...]
    bound_cycles: int


@dataclass(frozen=True, eq=False)
class Lowered:
    """Every layer of a network as jobs, nothing placed yet. `beginning`: those that write what states on chip are at
    first; `rotation`: words by which the scratchpad rotates between calls; `pitches`: of `lay_out`."""

    tensors: Mapping[str, Tensor]
    constants: Mapping[str, np.ndarray]
    jobs: tuple[Job, ...]
    layers: tuple[Layer, ...]
    beginning: tuple[Job, ...]
    rotation: int
    pitches: Mapping[str, int]

    def __post_init__(self) -> None:
        freeze(self, "tensors", "constants", "pitches")


@dataclass(frozen=True)
class Program(network.Network):
    """Constants by name, each with its address; everything else is derived from addresses.

    beginning: jobs before the first inference, whose descriptors lie behind those of the layers. scratchpad: homes of
    storages that are on chip instead, in the first inference; in each one after it they are `rotation` words further,
    round the scratchpad. whole: the network as it was lowered with every tensor in memory.
    """

    config: Config
    layers: tuple[Layer, ...]
    jobs: tuple[Job, ...]
    beginning: tuple[Job, ...]
    constants: Mapping[str, np.ndarray] = field(repr=False)
    placed: Mapping[str, planner.Placed] = field(repr=False)
    scratchpad: Mapping[str, Home]
    rotation: int
    whole: Lowered = field(repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        freeze(self, "constants", "placed", "scratchpad")

    @property
    def bases(self) -> list[int]:
        """BASE registers; LIMIT registers are `limits`. Both are 0 for a region that holds nothing, or is on chip."""
        return [first for first, _ in self._regions]

    @property
    def limits(self) -> list[int]:
        return [end for _, end in self._regions]

    @cached_property
    def _regions(self) -> tuple[tuple[int, int], ...]:
        arena = self.arena_address, self.arena_address + self.arena_bytes
        return self._constants(CONTIGUOUS), arena, self._constants(INTERLEAVED), (0, 0)

    def region(self, placed: planner.Placed) -> int:
        """Region of a constant."""
        return CONTIGUOUS if self.is_low(placed) else INTERLEAVED

    def _constants(self, region: int) -> tuple[int, int]:
        places = [(p.address, p.address + p.size) for p in self.placed.values() if self.region(p) == region]
        return min((first for first, _ in places), default=0), max((last for _, last in places), default=0)

    def descriptor_address(self, index: int) -> int:
        """Descriptor address (region and offset) of a descriptor."""
        return self.resolve(Ref(DESCRIPTORS, WORDS * index))

    def words(self, value: str) -> np.ndarray:
        """Word of every element of a value, in its shape; the scratchpad's words follow those of the memory."""
        tensor = self.tensors[value]
        if not tensor.on_chip:
            return super().words(value)
        places: np.ndarray = self.scratchpad[tensor.storage].word(tensor.words() - tensor.rotated)
        return self.config.ram_bytes // 4 + places

    @property
    def rotating(self) -> tuple[Rotating, ...]:
        """Every word of the layers' descriptors that the scratchpad's rotation changes."""
        if not self.rotation:
            return ()
        return tuple(
            Rotating(WORDS * index + FIELD[f"{stream}_ADDR"].word, split_address(self.resolve(where))[1])
            for index, job in enumerate(self.jobs)
            for stream, where in activations(job.descriptor).items()
            if where.on_chip
        )

    def profile_address(self, index: int) -> int:
        """Absolute byte address of the profile record of a descriptor."""
        return self.arena_address + self.offsets[PROFILE] + 4 * len(PROFILE_RECORD) * index

    @cached_property
    def linked(self) -> tuple[Linked, ...]:
        """The descriptors in memory."""
        return tuple(unpack(row) for row in self.constants[DESCRIPTORS].reshape(-1, WORDS)[: len(self.jobs)])

    def with_strips(self, strips: Sequence[tuple[int, int]]) -> "Program":
        """The program with other (FIRST_PX, STRIP_PX), one pair per descriptor."""
        if not self.jobs:
            return self
        jobs, words = [], []
        for job, linked, (first, strip) in zip(self.jobs, self.linked, strips, strict=True):
            jobs.append(replace(job, descriptor=in_strips(job.descriptor, first, strip, self.config)))
            words.append(pack(in_strips(linked, first, strip, self.config)))
        words.append(self.constants[DESCRIPTORS][WORDS * len(jobs) :])
        return replace(self, jobs=tuple(jobs), constants={**self.constants, DESCRIPTORS: np.concatenate(words)})

    @property
    def schedule(self) -> list[DescriptorList | Layer]:
        """What happens in order: lists of descriptors, and layers on the CPU."""
        schedule: list[DescriptorList | Layer] = []
        for layer in self.layers:
            if layer.on_cpu:
                schedule.append(layer)
            elif layer.descriptors:
                listed = DescriptorList(layer.descriptors[0], layer.descriptors[-1] + 1)
                if schedule and isinstance(before := schedule[-1], DescriptorList):
                    schedule[-1] = DescriptorList(before.first, max(before.end, listed.end))
                else:
                    schedule.append(listed)
        return schedule

    @property
    def beginning_list(self) -> DescriptorList:
        """What runs before the first inference; nothing where no state is on chip."""
        return DescriptorList(len(self.jobs), len(self.jobs) + len(self.beginning))

    @property
    def lists(self) -> list[DescriptorList]:
        return [item for item in self.schedule if isinstance(item, DescriptorList)]

    def resolve(self, ref: Ref) -> int:
        """Descriptor address of a symbolic one."""
        if ref.name in self.placed:
            placed = self.placed[ref.name]
            region = self.region(placed)
            return address(region, placed.address - self.bases[region] + 4 * ref.offset)
        if ref.on_chip:
            return address(SCRATCHPAD, 4 * self.scratchpad[ref.name].word(ref.offset))
        return address(ARENA, self.offsets[ref.name] + 4 * ref.offset)


def initial_of(state: str) -> str:
    """Name of the constant that holds what a state on chip is at first."""
    return f"{state}.initial"

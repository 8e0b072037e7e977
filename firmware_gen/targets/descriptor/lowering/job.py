# SPDX-License-Identifier: Apache-2.0
"""A descriptor before the memory plan has decided its addresses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from firmware_gen.operations.tensors import Ref
from firmware_gen.targets.descriptor.timing.demand import vectors
from hls.descriptor.interface.table import PROFILE_RECORD, WORDS, Descriptor

DESCRIPTOR_BYTES = 4 * (WORDS + len(PROFILE_RECORD))
"""Of memory that a descriptor takes, with its record."""

Symbolic: TypeAlias = Descriptor[Ref | int]
"""Its addresses are `Ref`s, and 0 where there is no stream."""


@dataclass(frozen=True)
class Job:
    """A descriptor of a layer."""

    layer: str
    descriptor: Symbolic = field(repr=False)

    @property
    def vectors(self) -> int:
        return vectors(self.descriptor)


def activations(descriptor: Symbolic) -> dict[str, Ref]:
    """First words of activations by stream, in the order in which the streams touch a word."""
    return _given({"LOAD": descriptor.load_addr, "AUX": descriptor.aux_addr, "STORE": descriptor.store_addr})


def constants(descriptor: Symbolic) -> dict[str, Ref]:
    """Weights and parameters by stream."""
    return _given({"WEIGHT": descriptor.weight_addr, "PARAM": descriptor.param_addr})


def _given(streams: Mapping[str, Ref | int]) -> dict[str, Ref]:
    return {stream: where for stream, where in streams.items() if isinstance(where, Ref)}


def on_bus(descriptor: Symbolic, beats: Mapping[str, int]) -> int:
    """Of beats by stream, those that leave the scratchpad alone."""
    on_chip = {stream for stream, where in activations(descriptor).items() if where.on_chip}
    return sum(n for stream, n in beats.items() if stream not in on_chip)

# SPDX-License-Identifier: Apache-2.0
"""What every operator says of itself, and the kinds of operators that the accelerator finishes alike.

Whoever needs to know something about an operator asks its class; what a class leaves out is what `Node` says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import ClassVar

import numpy as np

from firmware_gen.ir.activation import IDENTITY, Activation
from firmware_gen.ir.values import Pads, Shape


class Place(StrEnum):
    """Where an operator runs."""

    ARRAY = "array"
    CPU = "CPU"
    MEMORY = "memory"
    """Nowhere: the output is the input seen with another shape; a copy on the array where that cannot be."""
    MERGED = "merged"
    """The passes leave none."""


class Layout(Enum):
    """How an operator's output lies in memory."""

    MAPS = auto()
    """Feature maps (N, C, H, W) channels last, all else in PyTorch's order."""
    PYTORCH = auto()
    """In PyTorch's order."""
    INPUT = auto()
    """As the first input does."""
    ANY = auto()
    """As the first input does, or in PyTorch's order where that is needed."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """One operator. `name` is unique and human-friendly: the module path ("features.3"), or "relu_0" for
    functional calls. `inputs` and `output` are value names; every value has exactly one producer."""

    name: str
    inputs: tuple[str, ...]
    output: str

    runs_on: ClassVar[Place]
    in_place: ClassVar[bool] = False
    """Whether the output may overwrite any input that has its shape and layout."""
    computes: ClassVar[bool] = True
    """Whether there is arithmetic in it; what only moves elements, or shows them in another shape, has none."""
    element_by_element: ClassVar[bool] = False
    """Whether every element of the output is of one element of every input: the same one, or the one that is broadcast
    to it. Of a single input, `is_uniform` says it."""
    counts_batch: ClassVar[bool] = False
    """Whether its fields count elements of all images together, so that another batch needs other fields."""
    chosen_by_rows: ClassVar[bool] = False
    """Whether the passes compute it in another way where there are more rows."""
    hosts: ClassVar[bool] = False
    """Whether the passes merge what other operators compute into it."""
    may_vanish: ClassVar[bool] = False
    """Whether an output of the input's shape is the input."""
    passes_functions: ClassVar[bool] = False
    """Whether a function of every element gives the same before it as behind it."""
    has_in_map: ClassVar[bool] = False
    """Whether `in_map` says of which map, channels last, the input is, or becomes, the flattened one."""
    learned: ClassVar[tuple[str, ...]] = ()
    """Attributes that are constants of the model, per channel; None for those that are not there."""

    @property
    def op(self) -> str:
        """Operator name for reports, as in torch.nn where there is one."""
        return type(self).__name__

    @property
    def is_uniform(self) -> bool:
        """Whether every element of the output is one function of the same element of the only input."""
        return False

    @property
    def of_single_elements(self) -> bool:
        """Whether every element of the output is of one element of every input, by whatever numbers of its own."""
        return self.element_by_element or self.is_uniform

    def keeps_rows(self, shape: Shape) -> bool:
        """Whether every row of the output, of `shape` (N, F), is of the same row of every input that has rows."""
        return self.element_by_element or self.is_uniform

    @property
    def keeps_truths(self) -> bool:
        """Whether 0 and 1, for false and true, give nothing else: moved, one of them, both of them, or not (which is a
        Scale)."""
        return not self.computes

    @property
    def combines(self) -> str | None:
        """How what the node computes is combined with another tensor, see `Combined`; None where it is not."""
        return None

    def keeps_frames(self, axis: int, shape: Shape) -> bool:
        """Whether every place along `axis` of the output, of `shape`, is of that place of the inputs."""
        return self.element_by_element or self.is_uniform

    def padded(self, pads: Pads, value: float) -> Node | None:
        """The same of the input without `value` around it (top, left, bottom, right), which it adds itself; None where
        it cannot."""
        return None

    def why_merged(self, host: Node) -> str:
        """What becomes of it where the passes merge it into `host`, as a clause."""
        return f"part of {host.name}"

    @property
    def residual_input(self) -> str | None:
        """Name of the value that what the node computes is combined with, None without one."""
        return None

    @property
    def reads_in_order(self) -> bool:
        """Whether the input must lie in PyTorch's order."""
        return False

    @property
    def combined_inputs(self) -> tuple[str, ...]:
        """Inputs whose elements meet those of another tensor, so that both must lie alike."""
        return self.inputs if len(self.inputs) > 1 else ()

    def layout(self, shape: Shape) -> Layout:
        """How the output of this shape lies."""
        return Layout.MAPS

    def macs(self, in_shape: Shape, out_shape: Shape) -> int:
        """Multiply-accumulates of one inference."""
        return 0

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class Activated(Node):
    """A node that ends in an activation: y = act(v), where v is what it computes."""

    runs_on = Place.ARRAY
    hosts = True

    act: Activation = IDENTITY

    @property
    def ends_in_act(self) -> bool:
        """Whether nothing follows the activation."""
        return True


@dataclass(frozen=True, eq=False, kw_only=True)
class Combined(Activated):
    """y = act(a combined with b), where no producer could do it. inputs[0], a, has the output's shape; inputs[1], b,
    which may be a constant, has as many dimensions, and may have 1 in any that the output has more in.

    combine: "add", "multiply", "negative" (a * b where the sign of a is set, else a) or "maximum". commutes: whether b
    may take the place of a. `act` of a product, "multiply" or "negative", has no slope.
    """

    in_place = True
    element_by_element = True
    combine: ClassVar[str]
    commutes: ClassVar[bool] = True

    @property
    def combines(self) -> str:
        return self.combine

    @property
    def keeps_truths(self) -> bool:
        return self.combine in ("multiply", "maximum")

    def why_merged(self, host: Node) -> str:
        return f"{host.name} {'adds it' if self.combine == 'add' else 'multiplies'} on the way out"

    def layout(self, shape: Shape) -> Layout:
        return Layout.ANY


@dataclass(frozen=True, eq=False, kw_only=True)
class Fused(Activated):
    """A node with the accelerator's epilogue.

    residual: "none", or when a second input `inputs[1]`, as that of `Combined`, meets what the node computes:
    "before_act" is y = act(v + r), "after_act" is y = act(v) + r; one float32 addition, the last of v's. With another
    `combine` than "add" it is "multiply" or "negative", one product, and `act` has no slope.
    """

    residual: str = "none"
    combine: str = "add"

    @property
    def residual_input(self) -> str | None:
        return None if self.residual == "none" else self.inputs[1]

    @property
    def combines(self) -> str | None:
        return None if self.residual == "none" else self.combine

    @property
    def ends_in_act(self) -> bool:
        return self.residual != "after_act"

    @property
    def combined_inputs(self) -> tuple[str, ...]:
        return self.inputs[1:]


@dataclass(frozen=True, eq=False, kw_only=True)
class Weighted(Fused):
    """A layer with weights.

    weight: (O, ...), float64 before quantisation, int8 after.
    bias: (O,) or None before quantisation (float64), always present (float32) after.
    scale: None before quantisation, (O,) float32 after; real weight = weight * scale, per output channel.
    weight_scale: (O,) float64 where the model has INT8 weights, which stay: before quantisation, weight = integers *
    weight_scale.
    """

    learned = ("weight", "bias", "scale")

    weight: np.ndarray
    bias: np.ndarray | None = None
    scale: np.ndarray | None = None
    weight_scale: np.ndarray | None = None

    @property
    def parameters(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale and bias, of a quantised layer."""
        assert self.scale is not None and self.bias is not None, f"{self.name} is not quantised"
        return self.scale, self.bias

    def macs(self, in_shape: Shape, out_shape: Shape) -> int:
        return math.prod(out_shape) * math.prod(self.weight.shape[1:])


def has_4_bits(weight: np.ndarray) -> bool:
    """Whether 4 bits are enough for integer weights."""
    return bool(((weight >= -8) & (weight <= 7)).all())


def has_16_bits(scale: np.ndarray) -> bool:
    """Whether 16 bits are enough for float32 scales: they are bfloat16, which is the upper half of a float32."""
    return not (scale.astype(np.float32).view(np.uint32) & 0xFFFF).any()

# SPDX-License-Identifier: Apache-2.0
"""Operators that only the CPU has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from firmware_gen.ir.functions import Function
from firmware_gen.ir.operator import Layout, Node, Place
from firmware_gen.ir.values import Shape

if TYPE_CHECKING:
    from torch import Tensor

EXPONENTIAL = "needs the exponential function, which the array has not"


@dataclass(frozen=True, eq=False, kw_only=True)
class OnCpu(Node, ABC):
    """What the CPU computes, in the layout that it finds.

    why: what keeps it off the array, as a clause. kernel: its function in the C++ namespace heepstor.
    """

    runs_on = Place.CPU
    in_place = True

    why: ClassVar[str]
    kernel: ClassVar[str]

    @property
    def called(self) -> str:
        """The kernel that computes this node: `kernel`, or its like."""
        return self.kernel

    def arguments(self, size: int) -> tuple[float, ...] | None:
        """What the kernel takes behind input and output, which have `size` elements; None where it takes more than
        numbers, which `emit/cpu_calls.py` then says."""
        return None

    @abstractmethod
    def evaluate(self, *inputs: Tensor) -> Tensor:
        """The output in PyTorch, of any float type and batch size."""

    def layout(self, shape: Shape) -> Layout:
        return Layout.INPUT


@dataclass(frozen=True, eq=False, kw_only=True)
class OfElements(OnCpu):
    """A function of every element, of any shape."""

    hosts = True

    function: Function

    @property
    def op(self) -> str:
        return str(self.function)

    @property
    def is_uniform(self) -> bool:
        return True

    def evaluate(self, *inputs: Tensor) -> Tensor:
        return self.function.evaluate(inputs[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class Apply(OfElements):
    """A function of every element, of any shape, by its table, where the hardware has no function unit.
    kernel(in, out, count, table)."""

    why = "the hardware has no function unit"
    kernel = "apply_table"


FINITE = ("floor", "ceil", "trunc", "round", "sin", "cos")
"""Functions without a table that give a number for every number."""
ELEMENTARY = {
    "exp": "exp",
    "log": "log",
    "reciprocal": "reciprocal",
    "rsqrt": "inverse_sqrt",
    "sqrt": "square_root",
    **{name: name for name in FINITE},
}
"""Functions without a table, of all numbers, and what the C++ namespace heepstor calls them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Elementary(OfElements):
    """One of `ELEMENTARY` of every element, of any shape, within 3 units in the last place of the exact value and with
    IEEE 754's special values, as PyTorch has them. A quotient x / y is x times y's reciprocal, which overflows for a
    subnormal y. kernel, or its like, (in, out, count)."""

    why = "the function unit has no table of it"
    kernel = "exp"

    @property
    def called(self) -> str:
        return ELEMENTARY[self.function.name]

    def arguments(self, size: int) -> tuple[float, ...]:
        return (size,)


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(OnCpu):
    """Softmax, or its logarithm, over `axis`: -1, the last dimension of (N, F) or (F,); or 1, the channels of
    (N, C, H, W). kernel, or log_kernel, (in, out, rows, count, stride)."""

    why = EXPONENTIAL
    kernel = "softmax"

    axis: int = -1
    log: bool = False

    @property
    def op(self) -> str:
        return "LogSoftmax" if self.log else "Softmax"

    @property
    def called(self) -> str:
        return f"log_{self.kernel}" if self.log else self.kernel

    @property
    def reads_in_order(self) -> bool:
        return self.axis == -1

    def keeps_rows(self, shape: Shape) -> bool:
        return self.axis in (-1, 1)

    def keeps_frames(self, axis: int, shape: Shape) -> bool:
        return self.axis == 1

    def evaluate(self, *inputs: Tensor) -> Tensor:
        return inputs[0].log_softmax(self.axis) if self.log else inputs[0].softmax(self.axis)


@dataclass(frozen=True, eq=False, kw_only=True)
class Multiplying(OnCpu):
    """A product of two tensors, for hardware without a multiplying operand.
    kernel(a, steps, b, steps, out, steps, extent)."""

    element_by_element = True

    def layout(self, shape: Shape) -> Layout:
        return Layout.ANY


@dataclass(frozen=True, eq=False, kw_only=True)
class Product(Multiplying):
    """`Mul`."""

    why = "a product of computed tensors, and multiply is off"
    kernel = "multiply"

    @property
    def op(self) -> str:
        return "Mul"

    def evaluate(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * inputs[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class Slopes(Multiplying):
    """`PReLU`."""

    why = "a slope for every channel, and multiply is off"
    kernel = "multiply_negative"

    @property
    def op(self) -> str:
        return "PReLU"

    def evaluate(self, *inputs: Tensor) -> Tensor:
        return inputs[0].where(~inputs[0].signbit(), inputs[0] * inputs[1])

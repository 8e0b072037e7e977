# SPDX-License-Identifier: Apache-2.0
"""Operators that only the CPU has.

A class says why, which C++ function of the runtime computes it, and, in PyTorch, what it computes; its bit-exact model
is in `models.cpu_model`. That is all there is to a new one that works element by element.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from firmware_gen.ir.operator import Layout, Node, Place
from firmware_gen.ir.values import Shape

if TYPE_CHECKING:
    from torch import Tensor

EXPONENTIAL = "needs the exponential function, which the array has not"


@dataclass(frozen=True, eq=False, kw_only=True)
class OnCpu(Node, ABC):
    """What the CPU computes, in the layout that it finds. `why`, as a clause: what keeps it off the array."""

    runs_on = Place.CPU
    in_place = True

    why: ClassVar[str]

    @property
    def kernel(self) -> str:
        """The function's name in the C++ namespace heepstor."""
        return type(self).__name__.lower()

    @abstractmethod
    def evaluate(self, *inputs: Tensor) -> Tensor:
        """The output in PyTorch, of any float type and batch size."""

    def layout(self, shape: Shape) -> Layout:
        return Layout.INPUT


@dataclass(frozen=True, eq=False, kw_only=True)
class Elementwise(OnCpu):
    """One function of every element, of any shape: kernel(in, out, count)."""

    @property
    def is_uniform(self) -> bool:
        return True


@dataclass(frozen=True, eq=False, kw_only=True)
class Sigmoid(Elementwise):
    """1 / (1 + exp(-x))."""

    why = EXPONENTIAL

    def evaluate(self, *inputs: Tensor) -> Tensor:
        return inputs[0].sigmoid()


@dataclass(frozen=True, eq=False, kw_only=True)
class Tanh(Elementwise):
    """tanh(x)."""

    why = EXPONENTIAL

    def evaluate(self, *inputs: Tensor) -> Tensor:
        return inputs[0].tanh()


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(OnCpu):
    """Softmax, or its logarithm, over `axis`: -1, the last dimension of (N, F) or (F,); or 1, the channels of
    (N, C, H, W). kernel(in, out, rows, count, stride)."""

    why = EXPONENTIAL

    axis: int = -1
    log: bool = False

    @property
    def op(self) -> str:
        return "LogSoftmax" if self.log else "Softmax"

    @property
    def kernel(self) -> str:
        return "log_softmax" if self.log else "softmax"

    @property
    def reads_in_order(self) -> bool:
        return self.axis == -1

    def evaluate(self, *inputs: Tensor) -> Tensor:
        return inputs[0].log_softmax(self.axis) if self.log else inputs[0].softmax(self.axis)


@dataclass(frozen=True, eq=False, kw_only=True)
class Mul(OnCpu):
    """inputs[0] * inputs[1], element by element. The second has the first's shape, or 1 instead of its channels, or 1
    instead of every dimension of space: a gate. kernel(a, steps, b, steps, out, steps, images, pixels, channels)."""

    why = "a product of computed tensors: what the array multiplies by are weights"

    @property
    def kernel(self) -> str:
        return "multiply"

    def evaluate(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * inputs[1]

    def layout(self, shape: Shape) -> Layout:
        return Layout.ANY

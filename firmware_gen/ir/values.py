# SPDX-License-Identifier: Apache-2.0
"""Shapes, activations and the values on the edges of a graph."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from firmware_gen.ir.functions import Function

if TYPE_CHECKING:
    from torch import Tensor

Shape = tuple[int, ...]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, left, bottom, right

NO_PADS: Pads = (0, 0, 0, 0)


def chw(shape: Shape) -> tuple[int, int, int]:
    """Channels, height and width, which `shape` is."""
    channels, height, width = shape
    return channels, height, width


@dataclass(frozen=True)
class Activation:
    """y = function(clamp(x if x > 0 else slope * x, low, high)); the multiply is skipped when slope is 1.

    ReLU is (1, 0, inf), ReLU6 (1, 0, 6), LeakyReLU(s) is (s, -inf, inf). NaN passes through;
    a clamp to low = 0 returns +0 for -0. Without a function, y is what is clamped.
    """

    slope: float = 1.0
    low: float = -math.inf
    high: float = math.inf
    function: Function | None = None

    @property
    def is_identity(self) -> bool:
        return self == IDENTITY

    def evaluate(self, x: Tensor) -> Tensor:
        """y in PyTorch, of any float type."""
        from torch.nn.functional import leaky_relu

        if self.slope != 1:
            x = leaky_relu(x, self.slope)
        low, high = (bound if math.isfinite(bound) else None for bound in (self.low, self.high))
        x = x if low is None and high is None else x.clamp(low, high)
        return self.function.evaluate(x) if self.function else x

    @property
    def linear(self) -> Activation:
        """The part before the function: straight lines."""
        return replace(self, function=None)

    def __str__(self) -> str:
        if self.function:
            return str(self.function) if self.linear == IDENTITY else f"{self.linear}, {self.function}"
        names = {IDENTITY: "identity", RELU: "ReLU", RELU6: "ReLU6"}
        return names.get(self, f"act(slope={self.slope}, low={self.low}, high={self.high})")


IDENTITY = Activation()
RELU = Activation(low=0.0)
RELU6 = Activation(low=0.0, high=6.0)


@dataclass(frozen=True)
class Value:
    """A tensor on an edge of the graph: unique `name`, PyTorch `shape`; always float32 at run time."""

    name: str
    shape: Shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class State:
    """What lasts from one inference to the next: `value`, the graph's input that an inference reads it as; `name`, what
    the model calls it; `initial`, float32 in the value's shape, what it is before the first inference."""

    value: str
    name: str
    initial: np.ndarray

    @property
    def is_uneven(self) -> bool:
        """Whether it is not one number everywhere at first, bit for bit."""
        bits = self.initial.reshape(-1).view(np.uint32)
        return bool((bits != bits[0]).any())

# SPDX-License-Identifier: Apache-2.0
"""Activations: what a layer does with its outputs, its value in PyTorch and on the CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from firmware_gen.ir.functions import Function
from hls.arithmetic.fp32 import canonical_float

if TYPE_CHECKING:
    from torch import Tensor

_F = np.float32


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

    @property
    def multiplies(self) -> bool:
        """Whether it takes the multiplier of the epilogue, which a product with another tensor takes too."""
        return self.slope != 1

    @property
    def clamps(self) -> bool:
        """Whether the part before the function is the clamp alone: `clamps` of the C++ struct."""
        return self.slope == 1

    def evaluate(self, x: Tensor) -> Tensor:
        """y in PyTorch, of any float type."""
        from torch.nn.functional import leaky_relu

        if self.slope != 1:
            x = leaky_relu(x, self.slope)
        low, high = (bound if math.isfinite(bound) else None for bound in (self.low, self.high))
        x = x if low is None and high is None else x.clamp(low, high)
        return self.function.evaluate(x) if self.function else x

    def compute(self, x: np.ndarray) -> np.ndarray:
        """y on the CPU, bit for bit: `kernels::activated` on float32."""
        y = np.asarray(x, _F)
        with np.errstate(all="ignore"):
            if _F(self.slope) != 1:
                y = np.where(y > 0, y, canonical_float(y * _F(self.slope)))
            y = np.where(y <= _F(self.low), _F(self.low), y)
            y = np.where(y >= _F(self.high), _F(self.high), y)
        return self.function.compute(y) if self.function else y

    def then(self, other: Activation) -> Activation | None:
        """One activation equal to this one followed by `other`, None when there is none.

        A clamp after a clamp is a clamp: its bounds are those of the first, clamped by the second. Nothing follows a
        function."""
        if self.function:
            return None
        if other.slope != 1:
            if self.low >= 0:  # nothing negative comes
                other = replace(other, slope=1.0)
            else:
                return other if self == IDENTITY else None

        def clamp(x: float) -> float:
            return min(max(x, other.low), other.high)

        return replace(self, low=clamp(self.low), high=clamp(self.high), function=other.function)

    @property
    def numbers(self) -> dict[str, float]:
        """All of it but the function, by name: fields of a descriptor, and members of the C++ struct in its order."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "function"}

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

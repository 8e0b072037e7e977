# SPDX-License-Identifier: Apache-2.0
"""Shapes, and the values on the edges of a graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, left, bottom, right

NO_PADS: Pads = (0, 0, 0, 0)


def both_pads(outer: Pads, inner: Pads) -> Pads:
    """One padding around another."""
    top, left, bottom, right = (a + b for a, b in zip(outer, inner, strict=True))
    return top, left, bottom, right


def chw(shape: Shape) -> tuple[int, int, int]:
    """Channels, height and width, which `shape` is."""
    channels, height, width = shape
    return channels, height, width


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

# SPDX-License-Identifier: Apache-2.0
"""Operators that move elements and compute none."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from firmware_gen.ir.operator import Layout, Node, Place
from firmware_gen.ir.values import Pads, Pair, Shape, both_pads

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""`dims` of the Permute of (N, H, W, C) to (N, C, H, W), and of its inverse."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Movement(Node):
    """Moves elements, or shows them in another shape."""

    computes = False

    rearranges: ClassVar[bool] = True
    """Whether the output is the only input in another order or shape, or a part of it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Taking(Movement, ABC):
    """Elements of its only input, each of which is taken as a whole."""

    passes_functions = True

    @abstractmethod
    def elements(self, shape: Shape, out: Shape) -> np.ndarray:
        """Which element of the input, of `shape`, in PyTorch's order, every one of the output's is, in its shape."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Concat(Movement):
    """Joins two or more tensors along dimension `axis`, of vectors (F,) along the only one. `inputs` in order; one may
    occur twice."""

    rearranges = False
    runs_on = Place.ARRAY

    axis: int = 1

    def axis_of(self, shape: Shape) -> int:
        """The dimension of a tensor of this shape."""
        return min(self.axis, len(shape) - 1)

    def joins_channels(self, shape: Shape) -> bool:
        """Whether that dimension is the channels, or features."""
        return self.axis_of(shape) == min(1, len(shape) - 1)

    def keeps_frames(self, axis: int, shape: Shape) -> bool:
        return self.axis_of(shape) != axis


@dataclass(frozen=True, eq=False, kw_only=True)
class Upsample(Movement):
    """Nearest neighbour: (N, C, H, W) -> (N, C, H * factor[0], W * factor[1]); y[i, j] = x[i // f0, j // f1]."""

    rearranges = False
    passes_functions = True
    runs_on = Place.ARRAY

    factor: Pair


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Movement):
    """Constant padding of H and W: (N, C, H, W) -> (N, C, H + top + bottom, W + left + right); pads >= 0.
    Zero padding in front of Conv or AvgPool is merged by the passes; in front of MaxPool it never is."""

    rearranges = False
    runs_on = Place.ARRAY

    pads: Pads
    value: float = 0.0

    def padded(self, pads: Pads, value: float) -> Pad | None:
        return replace(self, pads=both_pads(pads, self.pads)) if value == self.value else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Taking):
    """Part of a map: (N, C, H, W) -> (N, C', H', W'); y[n, c, i, j] = x[n, start + step * (c, i, j)], inside x.
    Cropping is one, with the steps 1."""

    runs_on = Place.ARRAY
    may_vanish = True

    start: tuple[int, int, int]
    step: tuple[int, int, int] = (1, 1, 1)

    def elements(self, shape: Shape, out: Shape) -> np.ndarray:
        parts = zip(self.start, self.step, out[1:], strict=True)
        kept = tuple(slice(first, first + step * size, step) for first, step, size in parts)
        return _numbered(shape)[:, *kept]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Taking):
    """Same elements in the same (row-major, PyTorch) order, other shape; shapes are those of the two values.
    Flatten is one. `in_map` is (C, H, W) when it flattens a channels-last feature map with C > 1 and H*W > 1, which its
    readers must allow for; None when it is free: in any layout ((N, C, H, W) to (N, C, H', W') included), of what lies
    in PyTorch's order (`rewrite.in_pytorch_order`), or with only reshapes between it and the graph's outputs, which are
    in that order. No other kind exists: the passes refuse it."""

    runs_on = Place.MEMORY
    may_vanish = True
    has_in_map = True

    in_map: tuple[int, int, int] | None = None

    def layout(self, shape: Shape) -> Layout:
        return Layout.ANY

    def elements(self, shape: Shape, out: Shape) -> np.ndarray:
        return _numbered(out)


@dataclass(frozen=True, eq=False, kw_only=True)
class Permute(Taking):
    """Output dimension i is input dimension dims[i]. After the passes one of two that move nothing in memory:
    TO_CHANNELS_FIRST of (N, H, W, C) in PyTorch's order to a channels-last map (N, C, H, W), and TO_CHANNELS_LAST of
    such a map to (N, H, W, C) in PyTorch's order (`rewrite.in_pytorch_order`)."""

    runs_on = Place.MEMORY

    dims: tuple[int, ...]

    def layout(self, shape: Shape) -> Layout:
        return Layout.PYTORCH if self.dims == TO_CHANNELS_LAST else Layout.MAPS

    def elements(self, shape: Shape, out: Shape) -> np.ndarray:
        return _numbered(shape).transpose(self.dims)


@dataclass(frozen=True, eq=False, kw_only=True)
class AsStrided(Taking):
    """Elements of the input at places that are evenly spaced in its PyTorch order: y[i, j, ...] is element
    offset + strides[0] * i + strides[1] * j + ... . Permutes, slices and reshapes are such, and chains of them."""

    runs_on = Place.MEMORY
    counts_batch = True

    strides: tuple[int, ...]
    offset: int = 0

    @property
    def reads_in_order(self) -> bool:
        return True

    def layout(self, shape: Shape) -> Layout:
        return Layout.PYTORCH

    def elements(self, shape: Shape, out: Shape) -> np.ndarray:
        return strided(out, self.strides, self.offset)

    def is_view(self, shape: Shape) -> bool:
        """Whether the elements of the output lie side by side in the input."""
        return self.strides == row_major(shape)


def _numbered(shape: Shape) -> np.ndarray:
    """The number of every element, in PyTorch's order."""
    return np.arange(math.prod(shape)).reshape(shape)


def strided(shape: Shape, strides: tuple[int, ...], offset: int) -> np.ndarray:
    """offset + i * strides[0] + j * strides[1] + ... for every i, j, ... of `shape`."""
    index = np.full(shape, offset)
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        index += (np.arange(size) * stride).reshape(-1, *[1] * (len(shape) - 1 - axis))
    return index


def evenly_spaced(places: np.ndarray) -> tuple[int, tuple[int, ...]] | None:
    """The first of these numbers, and their steps along every axis; None where they are not evenly spaced."""
    offset = int(places.flat[0])
    steps = (places.take(min(1, n - 1), axis=axis).flat[0] for axis, n in enumerate(places.shape))
    strides = tuple(int(step) - offset for step in steps)
    return (offset, strides) if np.array_equal(strided(places.shape, strides, offset), places) else None


def row_major(shape: Shape) -> tuple[int, ...]:
    """Strides of a contiguous tensor; 0 along dimensions of one element."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step if size > 1 else 0)
        step *= size
    return tuple(reversed(strides))


@dataclass(frozen=True, eq=False, kw_only=True)
class InState(Movement):
    """What lies where the state of a stream lies, whose frames are rows (`axis` 2) or columns (3)."""

    rearranges = False
    runs_on = Place.ARRAY

    axis: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Advance(InState):
    """The state of a stream without its oldest frames: (N, C, H, W) -> the last ones, as many as the output has. They
    move to the front, and an Append puts new ones behind them."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Append(InState):
    """inputs[0], what an Advance left of a state, and inputs[1], its newest frames, behind it along `axis`: what the
    state becomes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Shuffle(Movement):
    """Channels of `groups` groups, interleaved: channel j * groups + i is channel j of group i."""

    runs_on = Place.ARRAY

    groups: int

    @property
    def op(self) -> str:
        return "ChannelShuffle"


@dataclass(frozen=True, eq=False, kw_only=True)
class PixelShuffle(Movement):
    """(N, C * f * f, H, W) -> (N, C, H * f, W * f): y[c, i * f + a, j * f + b] is x[(c * f + a) * f + b, i, j]."""

    runs_on = Place.ARRAY

    factor: int


@dataclass(frozen=True, eq=False, kw_only=True)
class PixelUnshuffle(Movement):
    """(N, C, H, W) -> (N, C * f * f, H / f, W / f), the inverse of PixelShuffle."""

    runs_on = Place.ARRAY

    factor: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Identity(Node):
    """Dropout, Identity, and whatever else does nothing at inference. Importer only."""

    runs_on = Place.MERGED
    may_vanish = True

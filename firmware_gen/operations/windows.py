# SPDX-License-Identifier: Apache-2.0
"""IR operators -> `Windowed`: a window moving over a feature map, the one form of every accelerated operator."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from firmware_gen import ir
from firmware_gen.operations.tensors import Ref

Map: TypeAlias = tuple[int, int, int]
"""(channels, height, width)."""

Range: TypeAlias = tuple[int, int]
Rectangle: TypeAlias = tuple[Range, Range]
"""Rows and columns."""


@dataclass(frozen=True)
class Windowed:
    """One image of any accelerated operator. `bottom` and `right` padding follow from the output size; strides are 0
    where all of the output sees one pixel.

    weight: int8 (groups, cout, kh, kw, channels per group), diagonal: (channels, kh, kw), or None for ones.
    planes: where weights lie that the CPU computes, as `ir.Tiles` says, in place of `weight`.
    scale, bias: float32 (groups, cout), or two floats for all channels. residual, combine: as in `ir.Fused`;
    of a copy combine may be "maximum", with the residual before the activation.
    tap: where maps have one column, whose channels are those of several neighbours, the channels of one: so many words
    from a tap of a kernel row to the next; 0 otherwise.
    """

    channels: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: ir.Pair = (1, 1)
    stride: ir.Pair = (1, 1)
    dilation: ir.Pair = (1, 1)
    top: int = 0
    left: int = 0
    groups: int = 1
    cout: int = 0
    diagonal: bool = False
    maximum: bool = False
    weight: np.ndarray | None = None
    planes: Ref | None = None
    scale: np.ndarray | float = 1.0
    bias: np.ndarray | float = -0.0
    pad_value: float = 0.0
    act: ir.Activation = ir.IDENTITY
    residual: str = "none"
    combine: str = "add"
    tap: int = 0

    def __post_init__(self) -> None:
        for array in (self.weight, self.scale, self.bias):
            if isinstance(array, np.ndarray):
                array.setflags(write=False)

    @cached_property
    def has_4_bits(self) -> bool:
        """Whether there are weights, and 4 bits are enough for each."""
        return self.weight is not None and ir.has_4_bits(self.weight)

    @cached_property
    def has_16_bit_scales(self) -> bool:
        """Whether channels have scales of their own, and 16 bits are enough for each."""
        return isinstance(self.scale, np.ndarray) and ir.has_16_bits(self.scale)


Share: TypeAlias = tuple[Windowed, Rectangle | None, tuple[int, int]]
"""A `Windowed`, the rectangle of the output that it computes (None: all of it), and of its output channels the first
one's place and the step."""

ALL_CHANNELS = (0, 1)


def windowed_ops(node: ir.Scale | ir.Conv | ir.Pool | ir.Pad, in_shape: ir.Shape, out_shape: ir.Shape) -> list[Share]:
    """What one image of a node on maps is computed by."""
    match node:
        case ir.Scale():
            return [(scale_window(node, ir.chw(in_shape[1:]), None), None, ALL_CHANNELS)]
        case ir.Conv(sections=(1, 1)):
            return _convolution(node, in_shape, out_shape, None)
        case ir.Conv():
            rows, columns = (_ranges(size, count) for size, count in zip(out_shape[2:], node.sections, strict=True))
            parts = enumerate(itertools.product(rows, columns))
            return [
                share
                for number, rectangle in parts
                for share in _convolution(_section(node, number), in_shape, out_shape, rectangle)
            ]
        case ir.Pool(adaptive=True):
            return _adaptive(node, in_shape, out_shape)
        case ir.Pool(kind="max"):
            op = replace(_pool(node, in_shape, out_shape), maximum=True, pad_value=-math.inf)
            return [(op, None, ALL_CHANNELS)]
        case ir.Pool():
            return _average(node, in_shape, out_shape)
        case ir.Pad():
            top, left, _, _ = node.pads
            op = replace(
                on_maps(in_shape, out_shape),
                top=top,
                left=left,
                cout=in_shape[1],
                diagonal=True,
                maximum=True,
                pad_value=node.value,
            )
            return [(op, None, ALL_CHANNELS)]


def on_maps(in_shape: ir.Shape, out_shape: ir.Shape) -> Windowed:
    """One pixel of maps (N, C, H, W) to one of the output."""
    channels, height, width = ir.chw(in_shape[1:])
    _, out_height, out_width = ir.chw(out_shape[1:])
    return Windowed(channels, height, width, out_height, out_width)


def linear_window(node: ir.Linear, in_shape: ir.Shape, linear_map: Map | None) -> Windowed:
    batch = in_shape[0] if len(in_shape) == 2 else 1
    weight, (scale, bias) = node.weight, node.parameters
    if linear_map is not None:
        weight = weight.reshape(-1, *linear_map).transpose(0, 2, 3, 1).reshape(weight.shape)
    return Windowed(
        node.in_features,
        1,
        batch,
        1,
        batch,
        cout=node.out_features,
        weight=weight[None, :, None, None],
        scale=scale[None],
        bias=bias[None],
        act=node.act,
    )


def _moving(node: ir.Conv | ir.Pool, in_shape: ir.Shape, out_shape: ir.Shape) -> Windowed:
    """The window of a node, whatever it computes."""
    top, left, _, _ = node.pads
    return replace(
        on_maps(in_shape, out_shape),
        kernel=node.kernel,
        stride=node.stride,
        dilation=node.dilation,
        top=top,
        left=left,
        act=node.act,
    )


def _section(node: ir.Conv, number: int) -> ir.Conv:
    """The convolution of one section, as that of all rows."""
    own = slice(number, None, math.prod(node.sections))
    scale, bias = node.parameters
    return replace(node, weight=node.weight[own], scale=scale[own], bias=bias[own], sections=(1, 1))


def _ranges(size: int, count: int) -> list[Range]:
    return [(first, first + size // count) for first in range(0, size, size // count)]


def _convolution(node: ir.Conv, in_shape: ir.Shape, out_shape: ir.Shape, rectangle: Rectangle | None) -> list[Share]:
    if node.is_depthwise:
        return [(op, rectangle, channels) for op, channels in _depthwise(node, in_shape, out_shape)]
    return [(_conv(node, in_shape, out_shape), rectangle, ALL_CHANNELS)]


def _conv(node: ir.Conv, in_shape: ir.Shape, out_shape: ir.Shape) -> Windowed:
    scale, bias = node.parameters
    weight = node.weight.reshape(node.groups, -1, *node.weight.shape[1:]).transpose(0, 1, 3, 4, 2)
    return replace(
        _moving(node, in_shape, out_shape),
        groups=node.groups,
        cout=weight.shape[1],
        weight=weight,
        scale=scale.reshape(node.groups, -1),
        bias=bias.reshape(node.groups, -1),
    )


def _depthwise(node: ir.Conv, in_shape: ir.Shape, out_shape: ir.Shape) -> list[tuple[Windowed, tuple[int, int]]]:
    """One diagonal operator per multiple m of the channel multiplier: output channel c * multiplier + m; with the
    place of the first one's channel, and the step."""
    op = replace(_moving(node, in_shape, out_shape), cout=node.groups, diagonal=True)
    (scale, bias), multiplier = node.parameters, node.out_channels // node.groups
    return [
        (
            replace(
                op,
                weight=node.weight[m::multiplier, 0],
                scale=scale[None, m::multiplier],
                bias=bias[None, m::multiplier],
            ),
            (m, multiplier),
        )
        for m in range(multiplier)
    ]


def _pool(node: ir.Pool, in_shape: ir.Shape, out_shape: ir.Shape) -> Windowed:
    return replace(_moving(node, in_shape, out_shape), cout=in_shape[1], diagonal=True)


def _average(node: ir.Pool, in_shape: ir.Shape, out_shape: ir.Shape) -> list[Share]:
    """One operator per rectangle of outputs with the same divisor."""
    op = _pool(node, in_shape, out_shape)
    if node.divisor_override is not None:
        return [(replace(op, scale=_inverse(node.divisor_override)), None, ALL_CHANNELS)]
    counts = [_positions(node, axis, in_shape[2 + axis], out_shape[2 + axis]) for axis in range(2)]
    return [
        (replace(op, scale=_inverse(high * wide)), (rows, cols), ALL_CHANNELS)
        for (rows, high), (cols, wide) in itertools.product(*map(_runs, counts))
    ]


def _adaptive(node: ir.Pool, in_shape: ir.Shape, out_shape: ir.Shape) -> list[Share]:
    """One operator per rectangle of outputs whose windows have one size and one distance."""
    op, maximum = _pool(node, in_shape, out_shape), node.kind == "max"
    rows, cols = (list(_adaptive_runs(in_shape[2 + axis], out_shape[2 + axis])) for axis in range(2))
    return [
        (
            replace(
                op,
                kernel=(high, wide),
                stride=(step_y, step_x),
                top=y[0] * step_y - y_start,
                left=x[0] * step_x - x_start,
                maximum=maximum,
                pad_value=-math.inf if maximum else 0.0,
                scale=1.0 if maximum else _inverse(high * wide),
            ),
            (y, x),
            ALL_CHANNELS,
        )
        for (y, y_start, step_y, high), (x, x_start, step_x, wide) in itertools.product(rows, cols)
    ]


def _adaptive_runs(size: int, outputs: int) -> Iterator[tuple[Range, int, int, int]]:
    """(outputs, start of the first window, distance, size of a window) along an axis; see `ir.Pool`."""
    windows = [(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]
    first = 0
    while first < outputs:
        start, stop = windows[first]
        step = max(windows[min(first + 1, outputs - 1)][0] - start, 1)
        last = first + 1
        while last < outputs and windows[last] == (start + (last - first) * step, stop + (last - first) * step):
            last += 1
        yield (first, last), start, step, stop - start
        first = last


def _inverse(divisor: int) -> float:
    return float(np.float32(1) / np.float32(divisor))


def _positions(node: ir.Pool, axis: int, size: int, outputs: int) -> list[int]:
    """Counted positions of the window of every output along an axis."""
    before, after = node.pads[axis], node.pads[2 + axis]
    low, high = (-before, size + after) if node.count_include_pad else (0, size)
    starts = [o * node.stride[axis] - before for o in range(outputs)]
    return [min(s + node.kernel[axis], high) - max(s, low) for s in starts]


def _runs(values: list[int]) -> Iterator[tuple[Range, int]]:
    """Ranges of equal neighbours."""
    first = 0
    for value, group in itertools.groupby(values):
        last = first + len(list(group))
        yield (first, last), value
        first = last


def copy_window(shape: Map) -> Windowed:
    """y = x on a (C, H, W) map."""
    channels, height, width = shape
    return Windowed(channels, height, width, height, width, cout=channels, diagonal=True, maximum=True)


def scale_window(node: ir.Scale, shape: Map, in_map: Map | None) -> Windowed:
    """A 1x1 depthwise convolution with weights 1."""
    scale, bias = node.scale, node.bias
    if in_map is not None:
        scale, bias = (v.reshape(in_map).transpose(1, 2, 0).reshape(-1) for v in (scale, bias))
    return replace(
        copy_window(shape),
        weight=np.ones((shape[0], 1, 1), np.int8),
        scale=scale[None],
        bias=bias[None],
        act=node.act,
        maximum=False,
    )

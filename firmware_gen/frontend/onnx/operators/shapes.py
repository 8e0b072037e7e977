# SPDX-License-Identifier: Apache-2.0
"""ONNX's operators that move, cut, join or repeat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles
from firmware_gen.frontend.onnx.operators.windows import padded


@handles("Concat", 13, "a*", "axis")
def _concat(node: Node) -> Function:
    return lambda *parts: torch.cat(parts, node.get("axis"))


@handles("Flatten", 25, attributes="axis")
def _flatten(node: Node) -> Function:
    shape, axis = node.shape(), node.get("axis")
    return lambda x: x.reshape(math.prod(shape[:axis]), math.prod(shape[axis:]))


@handles("Transpose", 25, attributes="perm")
def _transpose(node: Node) -> Function:
    return lambda x: x.permute(node.get("perm", list(range(x.ndim))[::-1]))


@handles("Reshape", 25, "xc", "allowzero")
def _reshape(node: Node) -> Function:
    shape = node.numbers(1)
    if not node.get("allowzero"):
        shape = [node.shape()[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return lambda x: x.reshape(shape)


@handles("Squeeze", 25, "xc")
def _squeeze(node: Node) -> Function:
    axes = node.axes(1)
    return lambda x: x.squeeze() if axes is None else x.squeeze(tuple(axes))


@handles("Unsqueeze", 25, "xc")
def _unsqueeze(node: Node) -> Function:
    rank, sizes = len(node.shape()) + len(node.numbers(1)), iter(node.shape())
    places = {a % rank for a in node.numbers(1)}
    shape = [1 if axis in places else next(sizes) for axis in range(rank)]
    return lambda x: x.reshape(shape)


@handles("Expand", 13, "xc")
def _expand(node: Node) -> Function:
    shape = torch.broadcast_shapes(node.shape(), node.numbers(1))  # type: ignore[no-untyped-call]
    return lambda x: x.expand(shape)


@handles("Tile", 13, "xc")
def _tile(node: Node) -> Function:
    return lambda x: x.repeat(node.numbers(1))


@handles("Gather", 13, "xc", "axis")
def _gather(node: Node) -> Function:
    """A single position has no dimension."""
    axis = node.get("axis") % len(node.shape())
    size, indices = node.shape()[axis], node.constant(1)
    indices = np.where(indices < 0, indices + size, indices)
    if not indices.ndim:
        return lambda x: x.select(axis, int(indices))
    shape = (*node.shape()[:axis], *indices.shape, *node.shape()[axis + 1 :])
    return lambda x: taken(x, axis, indices.reshape(-1).tolist()).reshape(shape)


@handles("GatherND", 13, "xc")
def _gather_nd(node: Node) -> Function:
    """Constant places in the first dimensions, as numbers of their elements in order."""
    indices = node.constant(1)
    sizes, rest = node.shape()[: indices.shape[-1]], node.shape()[indices.shape[-1] :]
    columns = zip(np.moveaxis(indices, -1, 0), sizes, strict=True)
    places = np.ravel_multi_index([np.where(column < 0, column + size, column) for column, size in columns], sizes)
    shape = (*indices.shape[:-1], *rest)
    return lambda x: taken(x.reshape(-1, *rest), 0, places.reshape(-1).tolist()).reshape(shape)


@handles("Compress", 28, "xc", "axis")
def _compress(node: Node) -> Function:
    """What a constant chooses of an axis, or of all elements."""
    places, axis = np.flatnonzero(node.constant(1)).tolist(), node.get("axis")
    if not places:
        raise node.refuse("its condition chooses nothing; let it choose an element")
    return lambda x: taken(x.reshape(-1), 0, places) if axis is None else taken(x, axis % x.ndim, places)


@handles("Col2Im", 18, "xcc", "dilations pads strides")
def _from_columns(node: Node) -> Function:
    size, kernel = tuple(node.numbers(1)), tuple(node.numbers(2))
    pads, ones = node.get("pads", [0] * 2 * len(size)), [1] * len(size)
    if len(size) != 2 or pads[:2] != pads[2:]:
        raise node.refuse(f"pads={pads} of an image of shape {size}; two dimensions, padded alike, are supported")
    dilation, stride = node.get("dilations", ones), node.get("strides", ones)
    return lambda x: F.fold(x, size, kernel, tuple(dilation), tuple(pads[:2]), tuple(stride))


@handles("GatherElements", 13, "xc", "axis")
def _gather_elements(node: Node) -> Function:
    axis = node.get("axis") % len(node.shape())
    places = torch.from_numpy(_from_the_front(node.constant(1), node.shape()[axis]))
    return lambda x: torch.gather(x, axis, places)


def _from_the_front(indices: np.ndarray, size: int) -> np.ndarray:
    return np.where(indices < 0, indices + size, indices).astype(np.int64)


@handles("ScatterElements", 18, "aca", "axis", reduction=("none", "add"))
def _scatter_elements(node: Node) -> Function:
    axis = node.get("axis") % len(node.shape())
    places = torch.from_numpy(_from_the_front(node.constant(1), node.shape()[axis]))
    scatter = torch.scatter_add if node.get("reduction") == "add" else torch.scatter
    return lambda x, updates: scatter(x, axis, places, updates)


@handles("ScatterND", 18, "aca", reduction=("none", "add"))
def _scatter_nd(node: Node) -> Function:
    columns = zip(np.moveaxis(node.constant(1), -1, 0), node.shape(), strict=False)
    places = [torch.from_numpy(_from_the_front(column, size)) for column, size in columns]
    added = node.get("reduction") == "add"
    return lambda x, updates: torch.index_put(x, tuple(places), updates, added)


@handles("Trilu", 14, "xc", "upper")
def _triangle(node: Node) -> Function:
    diagonal = node.numbers(1)[0] if node.has(1) else 0
    triangle = torch.triu if node.get("upper") else torch.tril
    return lambda x: triangle(x, diagonal)


def taken(x: torch.Tensor, axis: int, places: Sequence[int]) -> torch.Tensor:
    """Positions of a dimension, which are a slice where they lie at equal distances."""
    steps = set(np.diff(places).tolist()) or {1}
    if len(steps) == 1 and min(steps) > 0:
        part: torch.Tensor = torch.ops.aten.slice(x, axis, int(places[0]), int(places[-1]) + 1, min(steps))
        return part
    return x.index_select(axis, torch.tensor(places))


@handles("Split", 18, "xc", "axis num_outputs")
def _split(node: Node) -> Function:
    axis, sizes = node.get("axis"), node.numbers(1)
    if not node.has(1):
        parts, size = node.get("num_outputs"), node.shape()[axis]
        each = -(-size // parts)
        sizes = [each] * (parts - 1) + [size - each * (parts - 1)]
    return lambda x: torch.split(x, sizes, axis)


@handles("Slice", 13, "xcccc")
def _slice(node: Node) -> Function:
    starts, ends = node.numbers(1), node.numbers(2)
    axes, steps = node.axes(3) or range(len(starts)), node.numbers(4) or [1] * len(starts)

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            kept = range(*slice(start, end, step).indices(x.shape[axis]))
            if step < 0:
                x, kept = x.flip(axis), range(x.shape[axis] - 1 - kept.start, x.shape[axis] - 1 - kept.stop, -step)
            x = torch.ops.aten.slice(x, axis, kept.start, kept.stop, kept.step)
        return x if starts else x.clone()

    return run


@handles("Pad", 25, "xccc", "mode", mode=("constant", "edge", "reflect", "wrap"))
def _pad(node: Node) -> Function:
    rank, given, mode = len(node.shape()), node.numbers(1), node.get("mode")
    axes = node.axes(3)
    axes = list(range(rank)) if axes is None else axes
    pads, value = [0] * 2 * rank, float(node.constant(2)) if node.has(2) else 0.0
    for place, axis in enumerate(axes):
        pads[axis], pads[rank + axis] = given[place], given[len(axes) + place]
    if not any(pads):
        return torch.clone
    if mode == "constant":
        return lambda x: padded(x, pads, value)
    if min(pads) < 0:
        raise node.refuse(f"pads={pads} with mode={mode!r}; none below 0 are supported")
    around = [(pads[axis], pads[rank + axis]) for axis in range(rank)]
    places = {a: np.pad(np.arange(node.shape()[a]), p, mode).tolist() for a, p in enumerate(around) if any(p)}

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis, copied in places.items():
            x = taken(x, axis, copied)
        return x

    return run


@handles("DepthToSpace", 28, "x", "blocksize", mode=("DCR", "CRD"))
def _depth_to_space(node: Node) -> Function:
    block = node.get("blocksize")
    if node.get("mode") == "CRD":
        return lambda x: F.pixel_shuffle(x, block)
    return lambda x: F.pixel_shuffle(F.channel_shuffle(x, block * block), block)


@handles("SpaceToDepth", 28, "x", "blocksize", mode=("DCR", "CRD"))
def _space_to_depth(node: Node) -> Function:
    block, channels = node.get("blocksize"), node.shape()[1]
    if node.get("mode") == "CRD":
        return lambda x: F.pixel_unshuffle(x, block)
    return lambda x: F.channel_shuffle(F.pixel_unshuffle(x, block), channels)

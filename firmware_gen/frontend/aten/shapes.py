# SPDX-License-Identifier: Apache-2.0
"""ATen operators that move, cut, join or repeat."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.registry import channel_dim, float32, handles

Emit = Callable[..., str]
"""`Importer.emit`."""


@handles("cat", "concat", reads="tensors dim")
def _cat(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    sources = list(a["tensors"])
    if any(not isinstance(source, str) for source in sources):
        raise imp.refuse(node, "one of its inputs is a constant; computed tensors are supported")
    rank = len(imp.shape(sources[0]))
    if a["dim"] % rank != channel_dim(rank) or rank > 4:
        raise imp.refuse(node, f"dim={a['dim']}; the channels, dim={channel_dim(rank)}, are supported")
    return imp.emit(node, ir.Concat if len(sources) > 1 else ir.Identity, *sources)


@handles("pad", "constant_pad_nd", reads="self pad mode value")
def _pad(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    mode, value = a.get("mode", "constant"), a.get("value")
    amounts = [int(p) for p in a["pad"]]
    if mode != "constant":
        raise imp.refuse(node, f"mode={mode!r}; constant padding is supported")
    if not any(amounts):
        return imp.emit(node, ir.Identity, a["self"])
    imp.rank(node, a["self"], (3, 4), "(N, C, L) or (N, C, H, W)")
    spatial = 2 * (len(imp.shape(a["self"])) - 2)
    if any(amounts[spatial:]):
        raise imp.refuse(node, f"pad={amounts} pads channels or batch; height and width are supported")
    left, right, top, bottom = (amounts[:spatial] + [0, 0, 0, 0])[:4]
    source = _cropped(imp, node, a["self"], top, left, bottom, right)
    pads = tuple(max(p, 0) for p in (top, left, bottom, right))
    return imp.emit(node, ir.Pad, source, pads=pads, value=float32(value or 0.0))


def _cropped(imp: Importer, node: fx.Node, source: str, top: int, left: int, bottom: int, right: int) -> str:
    """What is left after negative padding."""
    if min(top, left, bottom, right) >= 0:
        return source
    shape = imp.shape(source)
    batch, channels, height, width = imp.ir_shape(source)
    size = height + min(top, 0) + min(bottom, 0), width + min(left, 0) + min(right, 0)
    if min(size) < 1:
        raise imp.refuse(node, f"it crops everything of an input of shape {shape}; crop less")
    out = (batch, channels, *size[4 - len(shape) :])
    return imp.step(node, ir.Slice, source, shape=out, start=(0, max(-top, 0), max(-left, 0)))


@handles("slice", reads="self dim start end step")
def _slice(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    size = imp.shape(a["self"])[a["dim"] % len(imp.shape(a["self"]))]
    first, last, step = slice(a["start"], a["end"], a["step"]).indices(size)
    return _emit_slice(imp, node, a["self"], a["dim"], range(first, last, step), imp.emit)


@handles("select", reads="self dim index")
def _select(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    index = a["index"] % imp.shape(a["self"])[a["dim"]]
    part = _emit_slice(imp, node, a["self"], a["dim"], range(index, index + 1))
    return imp.emit(node, ir.Reshape, part)


@handles("split", "split_with_sizes", "chunk", reads="self split_size split_sizes chunks dim")
def _split(imp: Importer, node: fx.Node, a: dict[str, Any]) -> list[str]:
    parts, first = [], 0
    for part in node.meta["val"]:
        last = first + part.shape[a["dim"]]
        parts.append(_emit_slice(imp, node, a["self"], a["dim"], range(first, last)))
        first = last
    return parts


def _emit_slice(imp: Importer, node: fx.Node, source: str, dim: int, kept: range, emit: Emit | None = None) -> str:
    """Positions `kept` of dimension `dim`, by a step on the way or, with `emit`, as the node's result."""
    shape, dim = imp.shape(source), dim % len(imp.shape(source))
    out = (*shape[:dim], len(kept), *shape[dim + 1 :])
    if not kept:
        raise imp.refuse(node, f"nothing is left of an input of shape {shape}; keep a part of it")
    if out == shape:
        return emit(node, ir.Identity, source) if emit else source
    if len(shape) == 4 and dim == 0 and shape[0] == imp.batch > 1:
        raise imp.refuse(node, "it takes inputs out of the batch; use another batch size instead")
    if (len(shape) > 1 and dim == 0) or len(shape) > 4:
        return _elements_slice(imp, node, source, dim, kept, emit)
    if len(shape) < 3:
        source = imp.step(node, ir.Reshape, source, shape=(1,) * (2 - len(shape)) + shape + (1, 1))
        dim += 2 - len(shape)
        part = _place_slice(imp, node, source, dim, kept)
        return emit(node, ir.Reshape, part) if emit else imp.step(node, ir.Reshape, part, shape=out)
    return _place_slice(imp, node, source, dim, kept)


def _elements_slice(imp: Importer, node: fx.Node, source: str, dim: int, kept: range, emit: Emit | None) -> str:
    """An AsStrided, which knows of no batch, channels or space."""
    shape = imp.shape(source)
    out = (*shape[:dim], len(kept), *shape[dim + 1 :])
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    offset, steps[dim] = kept[0] * steps[dim], kept.step * steps[dim]
    strides = [0 if size == 1 else step for size, step in zip(out, steps, strict=True)]
    if len(out) == 3:  # (a, b, c) is (a, b, 1, c)
        strides.insert(2, 0)
    fields: dict[str, Any] = {"strides": tuple(strides), "offset": offset}
    return (
        emit(node, ir.AsStrided, source, **fields)
        if emit
        else imp.step(node, ir.AsStrided, source, shape=out, **fields)
    )


def _place_slice(imp: Importer, node: fx.Node, source: str, dim: int, kept: range) -> str:
    """A Slice of a feature map."""
    shape = imp.shape(source)
    axis = dim - 1 if dim == 1 else dim - 1 + 4 - len(shape)  # among C, H, W
    start, step = ([value if i == axis else other for i in range(3)] for value, other in ((kept[0], 0), (kept.step, 1)))
    out = (*shape[:dim], len(kept), *shape[dim + 1 :])
    return imp.step(node, ir.Slice, source, shape=out, start=tuple(start), step=tuple(step))


@handles("expand", "repeat", reads="self size repeats")
def _repeat(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Copies of the channels; other dimensions stay."""
    shape, out = imp.shape(a["self"]), tuple(node.meta["val"].shape)
    channel = channel_dim(len(shape))
    copies = out[channel] // shape[channel] if len(out) == len(shape) else 0
    if tuple(s * copies if axis == channel else s for axis, s in enumerate(shape)) != out or len(shape) > 4:
        raise imp.refuse(node, f"from {shape} to {out}; copies of the channels, dimension {channel}, are supported")
    return imp.emit(node, ir.Concat if copies > 1 else ir.Identity, *[a["self"]] * copies)


@handles(
    "upsample_nearest1d",
    "upsample_nearest2d",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
    reads="self input output_size scales scales_h scales_w scale_factors",
)
def _upsample(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    source = a["input"] if "input" in a else a["self"]
    before, after = imp.ir_shape(source), tuple(node.meta["val"].shape)
    out = (1, after[2]) if len(after) == 3 else after[2:]
    factor = (out[0] // before[2], out[1] // before[3])
    given = a.get("scale_factors") or factor
    if (factor[0] * before[2], factor[1] * before[3]) != out or not set(given) <= set(factor):
        raise imp.refuse(node, f"from {before[2:]} to {out}, scale_factor={list(given)}; integer factors are supported")
    return imp.emit(node, ir.Upsample, source, factor=factor)


@handles(
    "view",
    "reshape",
    "_unsafe_view",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "view_copy",
    reads="self size shape start_dim end_dim dim sizes",
)
def _reshape(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return imp.emit(node, ir.Reshape, a["self"])


@handles("channel_shuffle", "native_channel_shuffle", reads="self groups")
def _channel_shuffle(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    imp.rank(node, a["self"], (3, 4), "(N, C, L) or (N, C, H, W)")
    return imp.emit(node, ir.Shuffle, a["self"], groups=int(a["groups"]))


@handles("pixel_shuffle", reads="self upscale_factor")
def _pixel_shuffle(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    imp.rank(node, a["self"], (4,), "(N, C, H, W)")
    return imp.emit(node, ir.PixelShuffle, a["self"], factor=int(a["upscale_factor"]))


@handles("permute", "transpose", "t", reads="self dims dim0 dim1")
def _permute(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    source = a["self"]
    shape = imp.shape(source)
    rank = len(shape)
    dims = list(range(rank))
    if "dims" in a:
        dims = [d % rank for d in a["dims"]]
    else:
        first, second = (a["dim0"] % rank, a["dim1"] % rank) if "dim0" in a else (0, rank - 1)
        dims[first], dims[second] = second, first
    moved = [d for d in dims if shape[d] > 1]
    if moved == sorted(moved):
        return imp.emit(node, ir.Reshape, source)
    if rank == 3 and dims == [0, 2, 1]:
        source = imp.step(node, ir.Reshape, source, shape=(shape[0], 1, *shape[1:]))
        return imp.emit(node, ir.Permute, source, dims=(0, 3, 1, 2))
    if rank == 3:  # (a, b, c) is (a, b, 1, c)
        first, second, third = ((0, 1, 3)[d] for d in dims)
        dims = [first, second, 2, third]
    return imp.emit(node, ir.Permute, source, dims=tuple(dims))


@handles(
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "clone",
    "alias",
    "detach",
    "contiguous",
    "to",
    "_to_copy",
    "type_as",
    reads="self input p train dtype layout other",
)
def _identity(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return imp.emit(node, ir.Identity, a["self"] if "self" in a else a["input"])

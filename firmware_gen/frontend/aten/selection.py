# SPDX-License-Identifier: Apache-2.0
"""ATen operators that take positions of a dimension: parts, repetitions, mirrored and rolled ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.registry import handles, plain_name

Emit = Callable[..., str]
"""`Importer.emit`."""

MOST_PARTS = 64
"""Stretches that one operator joins at most: each is a copy of its own."""

BROADCASTING = frozenset(("add", "sub", "rsub", "mul", "div", "maximum", "minimum", "max", "min"))
"""Operators that repeat an operand by themselves."""


@handles("slice", reads="self dim start end step", truths=True)
def _slice(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    size = imp.shape(a["self"])[a["dim"] % len(imp.shape(a["self"]))]
    first, last, step = slice(a["start"], a["end"], a["step"]).indices(size)
    return _emit_slice(imp, node, a["self"], a["dim"], range(first, last, step), imp.emit)


@handles("select", reads="self dim index", truths=True)
def _select(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    index = a["index"] % imp.shape(a["self"])[a["dim"]]
    part = _emit_slice(imp, node, a["self"], a["dim"], range(index, index + 1))
    return imp.emit(node, ir.Reshape, part)


@handles("unfold", reads="self dimension size step")
def _unfold(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Windows of a dimension, each along a new last one."""
    strides = list(ir.row_major(imp.shape(a["self"])))
    window = strides[a["dimension"]]
    strides[a["dimension"]] *= a["step"]
    shape = (1, *node.meta["val"].shape)  # of four dimensions or more: no rows of vectors, or one-dimensional maps
    shape, strides = ((1, *shape), [0, *strides]) if len(shape) == 3 else (shape, strides)
    windows = imp.inner(node, ir.AsStrided, a["self"], shape=shape, strides=(0, *strides, window))
    return imp.emit(node, ir.Reshape, windows)


@handles("as_strided", reads="self size stride storage_offset")
def _as_strided(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """What torch finds at these places of memory, where its input has elements of its own."""
    x = node.all_input_nodes[0].meta["val"]
    first = x.storage_offset() if a["storage_offset"] is None else a["storage_offset"]
    own = ir.strided(tuple(x.shape), x.stride(), x.storage_offset())
    numbers = {int(place): number for number, place in enumerate(own.flat)}
    places = ir.strided(tuple(a["size"]), tuple(a["stride"]), first)
    if not numbers.keys() >= set(places.flat):
        raise imp.refuse(node, "it reads memory that its input does not fill; use slices and reshapes")
    elements = np.array([numbers[place] for place in places.flat]).reshape(places.shape)
    return _emit_elements(imp, node, str(a["self"]), elements, "it takes elements that are not evenly spaced")


def _emit_elements(imp: Importer, node: fx.Node, source: str, elements: np.ndarray, otherwise: str) -> str:
    """The elements of `source` with these numbers, in this shape: evenly spaced, or the same places of equal parts;
    refused, with what is said, where they are neither."""
    spaced = ir.evenly_spaced(elements.reshape((1,) * max(1, 4 - elements.ndim) + elements.shape))
    if spaced is None:
        places = places_of(elements, math.prod(imp.shape(source)))
        if places is None:
            raise imp.refuse(node, f"{otherwise}; slice each dimension by itself")
        return imp.emit(node, ir.Reshape, taken(imp, node, in_parts(imp, node, source, places), 2, places.kept))
    if np.array_equal(elements.flat, np.arange(math.prod(imp.shape(source)))):
        return imp.emit(node, ir.Reshape, source)
    offset, strides = spaced
    shape = (1,) * (len(strides) - elements.ndim) + elements.shape
    found = imp.inner(node, ir.AsStrided, source, shape=shape, strides=strides, offset=offset)
    return imp.emit(node, ir.Reshape, found)


@dataclass(frozen=True)
class Places:
    """Of a tensor as `parts` times `size` times `width` elements, the same places `kept` in every part."""

    parts: int
    size: int
    width: int
    kept: list[int]


def places_of(elements: np.ndarray, count: int) -> Places | None:
    """What elements of `count`, by their numbers and in this order, are; None where that is nothing simple."""
    flat = elements.reshape(-1)
    for width in _divisors(math.gcd(flat.size, count)):
        rows = flat.reshape(-1, width)
        starts, size = rows[:, 0] // width, count // width
        if (rows[:, 0] % width).any() or (rows != rows[:, :1] + np.arange(width)).any():
            continue
        for parts in _divisors(math.gcd(starts.size, size)):
            kept = starts.reshape(parts, -1) - np.arange(parts)[:, None] * (size // parts)
            if (kept == kept[0]).all() and kept.min() >= 0 and kept.max() < size // parts:
                return Places(parts, size // parts, width, kept[0].tolist())
    return None


def _divisors(number: int) -> list[int]:
    return [n for n in range(number, 0, -1) if number % n == 0]


def in_parts(imp: Importer, node: fx.Node, source: str, places: Places) -> str:
    return imp.inner(node, ir.Reshape, source, shape=(1, places.parts, places.size, places.width))


@handles("split", "split_with_sizes", "chunk", reads="self split_size split_sizes chunks dim", truths=True)
def _split(imp: Importer, node: fx.Node, a: dict[str, Any]) -> list[str | torch.Tensor]:
    parts: list[str | torch.Tensor] = []
    first = 0
    for part in node.meta["val"]:
        last = first + part.shape[a["dim"]]
        empty = torch.zeros(part.shape) if first == last else None
        parts.append(_emit_slice(imp, node, a["self"], a["dim"], range(first, last)) if empty is None else empty)
        first = last
    return parts


@handles("unbind", reads="self dim", truths=True)
def _unbind(imp: Importer, node: fx.Node, a: dict[str, Any]) -> list[str]:
    parts = (_emit_slice(imp, node, a["self"], a["dim"], range(i, i + 1)) for i in range(len(node.meta["val"])))
    return [imp.inner(node, ir.Reshape, part, shape=tuple(node.meta["val"][0].shape)) for part in parts]


def _emit_slice(imp: Importer, node: fx.Node, source: str, dim: int, kept: range, emit: Emit | None = None) -> str:
    """Positions `kept` of dimension `dim`, by a node on the way or, with `emit`, as the node's result."""
    shape, dim = imp.shape(source), dim % len(imp.shape(source))
    out = (*shape[:dim], len(kept), *shape[dim + 1 :])
    if not kept:
        raise imp.refuse(node, f"nothing is left of an input of shape {shape}; keep a part of it")
    if out == shape:
        return emit(node, ir.Identity, source) if emit else source
    if dim == 0 and len(shape) == 4 and source in imp.inputs:
        raise imp.refuse(node, "it takes inputs out of the batch; use another batch size instead")
    if (len(shape) > 1 and dim == 0) or len(shape) > 4:
        return _elements_slice(imp, node, source, dim, kept, emit)
    if len(shape) < 3:
        source = imp.inner(node, ir.Reshape, source, shape=(1,) * (2 - len(shape)) + shape + (1, 1))
        dim += 2 - len(shape)
        part = _place_slice(imp, node, source, dim, kept)
        return emit(node, ir.Reshape, part) if emit else imp.inner(node, ir.Reshape, part, shape=out)
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
        else imp.inner(node, ir.AsStrided, source, shape=out, **fields)
    )


def _place_slice(imp: Importer, node: fx.Node, source: str, dim: int, kept: range) -> str:
    """A Slice of a feature map."""
    shape, axis = imp.shape(source), imp.ir_axis(source, dim) - 1  # among C, H, W
    start, step = ([value if i == axis else other for i in range(3)] for value, other in ((kept[0], 0), (kept.step, 1)))
    out = (*shape[:dim], len(kept), *shape[dim + 1 :])
    return imp.inner(node, ir.Slice, source, shape=out, start=tuple(start), step=tuple(step))


def taken(imp: Importer, node: fx.Node, source: str, dim: int, indices: Sequence[int]) -> str:
    """Positions `indices` of dimension `dim`, in that order, by nodes on the way."""
    shape = imp.shape(source)
    dim %= len(shape)
    factor, rest = divmod(len(indices), shape[dim])
    if len(shape) in (3, 4) and dim > 1 and not rest and list(indices) == [i // factor for i in range(len(indices))]:
        factors = tuple(factor if axis == imp.ir_axis(source, dim) else 1 for axis in (2, 3))
        out = (*shape[:dim], len(indices), *shape[dim + 1 :])
        return imp.inner(node, ir.Upsample, source, shape=out, factor=factors) if factor > 1 else source
    runs = list(_runs(indices))
    if len(runs) > MOST_PARTS:
        raise imp.refuse(node, f"it takes {len(runs)} stretches of dimension {dim}; {MOST_PARTS} at most are supported")
    return joined(imp, node, [_emit_slice(imp, node, source, dim, run) for run in runs], dim)


def joined(imp: Importer, node: fx.Node, parts: Sequence[str], dim: int) -> str:
    """The parts side by side along dimension `dim`, by a node on the way."""
    if not parts:
        raise imp.refuse(node, "nothing is left of its input; keep a part of it")
    if len(parts) == 1:
        return parts[0]
    shape = imp.shape(parts[0])
    out = (*shape[:dim], sum(imp.shape(part)[dim] for part in parts), *shape[dim + 1 :])
    return imp.inner(node, ir.Concat, *parts, shape=out, axis=imp.ir_axis(parts[0], dim))


def _runs(indices: Sequence[int]) -> Iterator[range]:
    """Ranges, with positive steps, that `indices` consist of, in order."""
    first = 0
    while first < len(indices):
        last, step = first + 1, 1
        if last < len(indices) and indices[last] > indices[first]:
            step = indices[last] - indices[first]
            while last < len(indices) and indices[last] - indices[last - 1] == step:
                last += 1
        yield range(indices[first], indices[last - 1] + 1, step)
        first = last


@handles("flip", reads="self dims", truths=True)
def _flip(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    value = a["self"]
    for dim in a["dims"]:
        value = taken(imp, node, value, dim, range(imp.shape(value)[dim])[::-1])
    return imp.emit(node, ir.Reshape, value)


@handles("roll", reads="self shifts dims", truths=True)
def _roll(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    value, dims = str(a["self"]), a["dims"]
    if not dims:  # through all of them
        value, dims = imp.inner(node, ir.Reshape, value, shape=(1, math.prod(imp.shape(value)))), [1]
    for shift, dim in zip(a["shifts"], dims, strict=True):
        size = imp.shape(value)[dim]
        value = taken(imp, node, value, dim, [(i - shift) % size for i in range(size)])
    return imp.emit(node, ir.Reshape, value)


@handles("index_select", reads="self dim index", truths=True)
def _index_select(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    indices = _positions(imp, node, a["index"], imp.shape(a["self"])[a["dim"]])
    return imp.emit(node, ir.Reshape, taken(imp, node, a["self"], a["dim"], indices))


def _positions(imp: Importer, node: fx.Node, index: str | torch.Tensor, size: int) -> list[int]:
    """Constant indices of a dimension of that size, none of them negative."""
    return [i % size for i in _constant(imp, node, index).reshape(-1).tolist()]


def _constant(imp: Importer, node: fx.Node, index: str | torch.Tensor) -> torch.Tensor:
    if isinstance(index, torch.Tensor) and index.dtype == torch.bool:
        raise imp.refuse(node, "it takes by a mask; make a buffer of the numbers of what is kept, mask.nonzero()")
    if not isinstance(index, torch.Tensor) or index.dtype not in (torch.int32, torch.int64):
        raise imp.refuse(node, "its indices are computed; constant numbers are supported")
    return index


@handles("index", "_unsafe_index", reads="self indices", truths=True)
def _index(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """x[:, i[:, None], j]: neighbouring dimensions, each by indices of its own; or any elements that are evenly spaced,
    as the windows of torch.nn.Unfold."""
    given = {dim: index for dim, index in enumerate(a["indices"]) if index is not None}
    dims, value = list(given), a["self"]
    apart = all(
        isinstance(index, torch.Tensor)
        and index.numel() == ((1,) * (len(dims) - index.ndim) + tuple(index.shape))[number]
        for number, index in enumerate(given.values())
    )
    if not apart or dims != list(range(dims[0], dims[-1] + 1)):
        indices = [slice(None) if i is None else _constant(imp, node, i) for i in a["indices"]]
        shape = imp.shape(value)
        elements = torch.arange(math.prod(shape)).reshape(shape)[tuple(indices)].numpy()
        return _emit_elements(imp, node, value, elements, "its indices are no slices")
    for dim, index in given.items():
        value = taken(imp, node, value, dim, _positions(imp, node, index, imp.shape(value)[dim]))
    return imp.emit(node, ir.Reshape, value)


@handles("diagonal", "diagonal_copy", reads="self offset dim1 dim2")
def _diagonal(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    shape = imp.shape(a["self"])
    elements = np.arange(math.prod(shape)).reshape(shape).diagonal(a["offset"], a["dim1"], a["dim2"])
    return _emit_elements(imp, node, a["self"], elements, "its diagonal is not evenly spaced")


@handles("gather", reads="self dim index", truths=True)
def _gather(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    numbers = torch.arange(math.prod(imp.shape(a["self"]))).reshape(imp.shape(a["self"]))
    elements = numbers.gather(a["dim"], _constant(imp, node, a["index"])).numpy()
    return _emit_elements(imp, node, a["self"], elements, "its indices are no slices")


@handles("repeat_interleave", reads="self repeats dim output_size", truths=True)
def _repeat_interleave(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    if a["dim"] is None or not isinstance(a["repeats"], int):
        raise imp.refuse(node, "it repeats through all dimensions, or by a tensor; give a number and dim")
    indices = [i // a["repeats"] for i in range(a["repeats"] * imp.shape(a["self"])[a["dim"]])]
    return imp.emit(node, ir.Reshape, taken(imp, node, a["self"], a["dim"], indices))


@handles("expand", "repeat", "tile", reads="self size repeats dims", truths=True)
def _repeat(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Copies along any dimensions; none where the readers repeat it by themselves."""
    value, out = str(a["self"]), tuple(node.meta["val"].shape)
    if plain_name(node) == "expand" and all(_repeats(imp, user, node, imp.shape(value)) for user in node.users):
        return value
    shape = imp.shape(value)
    if len(shape) < len(out):
        value = imp.inner(node, ir.Reshape, value, shape=(1,) * (len(out) - len(shape)) + shape)
    return imp.emit(node, ir.Reshape, repeated(imp, node, value, out))


def repeated(imp: Importer, node: fx.Node, value: str, out: ir.Shape) -> str:
    """Copies of a value, of as many dimensions as `out`, until it has that shape, by nodes on the way."""
    if len(out) <= 4:
        once = tuple(size if n == 1 else n for size, n in zip(out, imp.shape(value), strict=True))
        value = imp.inner(node, ir.Expand, value, shape=once) if once != imp.shape(value) else value
    for dim, size in enumerate(out):
        value = joined(imp, node, [value] * (size // imp.shape(value)[dim]), dim)
    return value


def _repeats(imp: Importer, user: fx.Node, node: fx.Node, shape: ir.Shape) -> bool:
    """Whether a reader of `node` computes the same from what has `shape`, before it was expanded."""
    if not isinstance(user.target, torch._ops.OpOverload) or plain_name(user) not in BROADCASTING:
        return False
    known = [(n, imp.env.get(n)) for n in user.all_input_nodes if n is not node]
    others = [imp.shape(own) if isinstance(own, str) else tuple(n.meta["val"].shape) for n, own in known]
    return bool(others) and np.broadcast_shapes(shape, *others) == tuple(user.meta["val"].shape)

# SPDX-License-Identifier: Apache-2.0
"""ATen operators that move, cut, join or repeat."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.arithmetic import emit_combined
from firmware_gen.frontend.aten.attention import product_fields
from firmware_gen.frontend.aten.functions import emit_chosen, function_step
from firmware_gen.frontend.aten.registry import INTEGERS, float32, handles, plain_name
from firmware_gen.frontend.aten.selection import Places, in_parts, joined, places_of, repeated, taken
from firmware_gen.operations.interpolation import fits


@handles("cat", "concat", reads="tensors dim", truths=True)
def _cat(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    tensors = [t for t in a["tensors"] if isinstance(t, str) or t.numel()]
    sources = _operands(imp, node, tensors)
    if len(sources) == 1:
        return imp.emit(node, ir.Identity, *sources)
    return imp.emit(node, ir.Concat, *sources, axis=imp.ir_axis(sources[0], a["dim"]))


def _operands(imp: Importer, node: fx.Node, tensors: Sequence[str | torch.Tensor]) -> list[str]:
    """What is joined, constants among it."""
    return [t if isinstance(t, str) else imp.constant(node, imp.weight(node, t, "constant")) for t in tensors]


@handles("stack", reads="tensors dim", truths=True)
def _stack(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    out = tuple(node.meta["val"].shape)
    dim = a["dim"] % len(out)
    one = (*out[:dim], 1, *out[dim + 1 :])
    parts = [imp.inner(node, ir.Reshape, t, shape=one) if isinstance(t, str) else t.reshape(one) for t in a["tensors"]]
    return imp.emit(node, ir.Reshape, joined(imp, node, _operands(imp, node, parts), dim))


@handles("pad", "constant_pad_nd", reads="self pad mode value", integers=True)
def _pad(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    mode, value = a.get("mode", "constant"), a.get("value")
    amounts = [int(p) for p in a["pad"]]
    if not any(amounts):
        return imp.emit(node, ir.Identity, a["self"])
    if mode != "constant":
        return _pad_by_positions(imp, node, a["self"], amounts, mode)
    spatial = 2 * (len(imp.shape(a["self"])) - 2)
    if spatial not in (2, 4) or any(amounts[spatial:]):
        return _pad_any(imp, node, a["self"], amounts, float32(value or 0.0))
    left, right, top, bottom = (amounts[:spatial] + [0, 0, 0, 0])[:4]
    source = _cropped(imp, node, a["self"], top, left, bottom, right)
    pads = tuple(max(p, 0) for p in (top, left, bottom, right))
    return imp.emit(node, ir.Pad, source, pads=pads, value=float32(value or 0.0))


def _pad_any(imp: Importer, node: fx.Node, value: str, amounts: Sequence[int], constant: float) -> str:
    """Dimension by dimension, each seen as the height of a map."""
    for dim, before, after in _amounts(imp, value, amounts):
        shape = imp.shape(value)
        kept = range(max(-before, 0), shape[dim] - max(-after, 0))
        if not kept:
            raise imp.refuse(node, f"it crops everything of an input of shape {shape}; crop less")
        value = taken(imp, node, value, dim, kept)
        before, after = max(before, 0), max(after, 0)
        around = (1, math.prod(shape[:dim]), len(kept), math.prod(shape[dim + 1 :]))
        seen = imp.inner(node, ir.Reshape, value, shape=around)
        out = (*around[:2], before + len(kept) + after, around[3])
        padded = imp.inner(node, ir.Pad, seen, shape=out, pads=(before, 0, after, 0), value=constant)
        value = imp.inner(node, ir.Reshape, padded, shape=(*shape[:dim], out[2], *shape[dim + 1 :]))
    return imp.emit(node, ir.Reshape, value)


def _amounts(imp: Importer, value: str, amounts: Sequence[int]) -> list[tuple[int, int, int]]:
    """(dimension, before, after) of what is padded; ATen counts from the last dimension."""
    rank = len(imp.shape(value))
    pairs = zip(amounts[::2], amounts[1::2], strict=True)
    return [(rank - 1 - i, before, after) for i, (before, after) in enumerate(pairs) if before or after]


def _position(mode: str, i: int, size: int) -> int:
    """Where padding at place i of a dimension is copied from."""
    match mode:
        case "reflect":
            return size - 1 - abs(i % (2 * size - 2) - (size - 1)) if size > 1 else 0
        case "replicate":
            return min(max(i, 0), size - 1)
    return i % size


def _pad_by_positions(imp: Importer, node: fx.Node, value: str, amounts: Sequence[int], mode: str) -> str:
    for dim, before, after in _amounts(imp, value, amounts):
        size = imp.shape(value)[dim]
        value = taken(imp, node, value, dim, [_position(mode, i, size) for i in range(-before, size + after)])
    return imp.emit(node, ir.Reshape, value)


@handles(*(f"{kind}_pad{rank}d" for kind in ("reflection", "replication") for rank in (1, 2)), reads="self padding")
def _pad_mode(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    mode = "reflect" if "reflection" in plain_name(node) else "replicate"
    return _pad_by_positions(imp, node, a["self"], a["padding"], mode)


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
    return imp.inner(node, ir.Slice, source, shape=out, start=(0, max(-top, 0), max(-left, 0)))


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
    _check_scales(imp, node, a, before[2:], out)
    factor = (out[0] // before[2], out[1] // before[3])
    if (factor[0] * before[2], factor[1] * before[3]) == out:
        return imp.emit(node, ir.Upsample, source, factor=factor)
    exact = "exact" in plain_name(node)
    for dim in range(2, len(after)):
        size, count = imp.shape(source)[dim], after[dim]
        places = ((2 * o + 1) * size // (2 * count) if exact else o * size // count for o in range(count))
        source = taken(imp, node, source, dim, list(places))
    return imp.emit(node, ir.Reshape, source)


def _check_scales(imp: Importer, node: fx.Node, a: dict[str, Any], before: ir.Shape, after: ir.Shape) -> None:
    """Refuse scale factors that are not those of the sizes, by which PyTorch then places the outputs."""
    given = a.get("scale_factors") or [a[name] for name in ("scales", "scales_h", "scales_w") if a.get(name)]
    for size, out, scale in zip(before[::-1], after[::-1], given[::-1], strict=False):
        if not math.isclose(size * scale, out, rel_tol=1e-6):
            raise imp.refuse(
                node, f"scale_factor={scale:g} makes {out} of {size}; give size, or recompute_scale_factor=True"
            )


@handles(
    "upsample_bilinear2d",
    "upsample_linear1d",
    reads="self input output_size scales scales_h scales_w scale_factors align_corners",
)
def _interpolate(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Rows and columns at once where the weights are INT8, else one after the other."""
    source, aligned = a["input"] if "input" in a else a["self"], bool(a["align_corners"])
    before, after = imp.ir_shape(source), tuple(node.meta["val"].shape)
    out = (*before[:2], 1, after[2]) if len(after) == 3 else after
    _check_scales(imp, node, a, before[2:], out[2:])
    if not fits(before, out, aligned):
        rows = (*before[:2], out[2], before[3])
        if not (fits(before, rows, aligned) and fits(rows, out, aligned)):
            return _by_matrices(imp, node, a)
        if len(after) == 4:
            source = imp.inner(node, ir.Interpolate, source, shape=rows, align_corners=aligned)
    return imp.emit(node, ir.Interpolate, source, align_corners=aligned)


@handles(
    "upsample_bicubic2d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    reads="self input output_size scales_h scales_w scale_factors align_corners",
)
def _by_matrices(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Products with constant matrices, which torch's operator makes of the unit matrix, axis by axis."""
    value, out = a["input"] if "input" in a else a["self"], tuple(node.meta["val"].shape)
    given = a.get("scale_factors") or [a.get(name) for name in ("scales", "scales_h", "scales_w") if name in a]
    scales = dict(zip(range(len(out) - 1, 1, -1), given[::-1], strict=False))
    assert isinstance(node.target, torch._ops.OpOverload)
    operator = getattr(torch.ops.aten, plain_name(node)).default
    for dim in range(len(out) - 1, 1, -1):
        size = imp.shape(value)[dim]
        if size == out[dim]:
            continue
        if len(out) == 3:
            matrix = operator(torch.eye(size).double()[None], out[2:], a["align_corners"], scales.get(dim))[0]
        else:
            matrix = operator(
                torch.eye(size).double()[None, None], [size, out[dim]], a["align_corners"], None, scales.get(dim)
            )
        matrix = matrix.reshape(size, out[dim])
        rest = tuple(n for d, n in enumerate(imp.shape(value)) if d != dim)
        value = permuted(imp, node, value, [*(d for d in range(len(out)) if d != dim), dim])
        rows = (1, math.prod(rest), size)
        value = imp.inner(node, ir.Reshape, value, shape=rows)
        fields = product_fields(rows, (1, *matrix.shape))
        constant = imp.constant(node, imp.weight(node, matrix[None], "matrix"))
        value = imp.inner(node, ir.MatMul, value, constant, shape=(*rows[:2], out[dim]), scale=1.0, **fields)
        value = imp.inner(node, ir.Reshape, value, shape=(*rest, out[dim]))
        value = permuted(imp, node, value, [*range(dim), len(out) - 1, *range(dim, len(out) - 1)])
    return imp.emit(node, ir.Reshape, value)


@handles("grid_sampler", "grid_sampler_2d", reads="input grid interpolation_mode padding_mode align_corners")
def _grid_sampler(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """A product of every channel's pixels with a constant matrix, which torch's operator makes of the unit matrix."""
    imp.rank(node, a["input"], (4,), "(N, C, H, W)")
    if isinstance(a["grid"], str):
        raise imp.refuse(node, "its grid is computed; make it a buffer of the model, or resize with Upsample")
    batch, channels, *size = imp.shape(a["input"])
    pixels = math.prod(size)
    grid = torch.from_numpy(imp.weight(node, a["grid"], "grid"))
    units = torch.eye(pixels).double().reshape(1, pixels, *size).expand(batch, -1, -1, -1)
    options = a["interpolation_mode"], a["padding_mode"], a["align_corners"]
    matrices = torch.ops.aten.grid_sampler(units, grid, *options).flatten(2)
    matrices = matrices if (matrices != matrices[:1]).any() else matrices[:1]
    rows = (batch, channels, pixels)
    value = imp.inner(node, ir.Reshape, a["input"], shape=rows)
    constant = imp.constant(node, imp.weight(node, matrices, "matrix"))
    fields = product_fields(rows, tuple(matrices.shape))
    value = imp.inner(node, ir.MatMul, value, constant, shape=(*rows[:2], matrices.shape[2]), scale=1.0, **fields)
    return imp.emit(node, ir.Reshape, value)


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
    truths=True,
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


@handles("pixel_unshuffle", reads="self downscale_factor")
def _pixel_unshuffle(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    imp.rank(node, a["self"], (4,), "(N, C, H, W)")
    return imp.emit(node, ir.PixelUnshuffle, a["self"], factor=int(a["downscale_factor"]))


@handles("permute", "transpose", "t", reads="self dims dim0 dim1", truths=True)
def _permute(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    source, rank = a["self"], len(imp.shape(a["self"]))
    dims = list(range(rank))
    if "dims" in a:
        dims = [d % rank for d in a["dims"]]
    else:
        first, second = (a["dim0"] % rank, a["dim1"] % rank) if "dim0" in a else (0, rank - 1)
        dims[first], dims[second] = second, first
    return imp.emit(node, ir.Reshape, permuted(imp, node, source, dims))


def permuted(imp: Importer, node: fx.Node, source: str, dims: Sequence[int]) -> str:
    """Output dimension i is input dimension dims[i], by a node on the way."""
    shape = imp.shape(source)
    out, moved = tuple(shape[d] for d in dims), [d for d in dims if shape[d] > 1]
    if moved == sorted(moved):
        return imp.inner(node, ir.Reshape, source, shape=out)
    order = list(dims)
    if len(shape) == 3 and order == [0, 2, 1]:
        source = imp.inner(node, ir.Reshape, source, shape=(shape[0], 1, *shape[1:]))
        order = [0, 3, 1, 2]
    elif len(shape) == 3:  # (a, b, c) is (a, b, 1, c)
        order = [imp.ir_axis(source, d) for d in dims]
        order.insert(2, 2)
    return imp.inner(node, ir.Permute, source, shape=out, dims=tuple(order))


@handles("index_put", reads="self indices values accumulate")
def _index_put(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Constants by a mask; what is computed at the same places of equal parts, added by a product with ones."""
    shape, values = tuple(node.meta["val"].shape), a["values"]
    if any(isinstance(i, str) for i in a["indices"]):
        raise imp.refuse(
            node, "its indices are computed; constant numbers, or a mask of all elements and a number, are"
        )
    indices = tuple(slice(None) if i is None else i for i in a["indices"])
    written = torch.arange(math.prod(shape)).reshape(shape)[indices]
    if not isinstance(values, str):
        values = values.float().expand(written.shape)
        if a["accumulate"]:
            *parts, last = _summands(written, values, shape)
            sums = a["self"]
            for number, part in enumerate(parts):
                sums = emit_combined(imp, node, ir.Add, sums, imp.weight(node, part, f"values{number}"), imp.inner)
            return emit_combined(imp, node, ir.Add, sums, imp.weight(node, last, "values"))
        zeros = torch.zeros(shape)
        put = torch.ops.aten.index_put(zeros, a["indices"], values)
        mask = torch.ops.aten.index_put(zeros.bool(), a["indices"], torch.tensor(True))
        return emit_chosen(imp, node, mask, put, a["self"])
    places = places_of(written.numpy(), math.prod(shape))
    if places is None:
        raise imp.refuse(node, "it writes to places that are no slices; join the parts with torch.cat")
    missing = written.ndim - len(imp.shape(values))
    values = imp.inner(node, ir.Reshape, values, shape=(1,) * missing + imp.shape(values)) if missing else values
    values = repeated(imp, node, values, tuple(written.shape))
    new = (1, places.parts, len(places.kept), places.width)
    values = imp.inner(node, ir.Reshape, values, shape=new)
    own = (1, places.parts, places.size, places.width)
    old = a["self"].reshape(own) if isinstance(a["self"], torch.Tensor) else in_parts(imp, node, a["self"], places)
    if a["accumulate"]:
        return imp.emit(node, ir.Reshape, _added(imp, node, old, values, places))
    order = list(range(places.size))
    for number, place in enumerate(places.kept):
        order[place] = places.size + number
    if isinstance(old, torch.Tensor):
        old = imp.constant(node, imp.weight(node, old, "operand"))
    both = joined(imp, node, [old, values], 2)
    return imp.emit(node, ir.Reshape, taken(imp, node, both, 2, order))


def _summands(places: torch.Tensor, values: torch.Tensor, shape: Sequence[int]) -> Iterator[torch.Tensor]:
    """Tensors of a shape to be added one after the other: one with all `values` at their flat `places`; or, where
    several go to one place and float32 does not hold their sum, one for the first of each, for the second, and so on.
    """
    flat, values = places.reshape(-1), values.reshape(-1)
    total = torch.zeros(math.prod(shape), dtype=torch.float64).index_add(0, flat, values.double())
    if torch.equal(total.float().double(), total):
        yield total.float().reshape(tuple(shape))
        return
    found: Counter[int] = Counter()
    rounds = []
    for place in flat.tolist():
        rounds.append(found[place])
        found[place] += 1
    for number in range(max(rounds) + 1):
        own = torch.tensor(rounds) == number
        yield torch.zeros(math.prod(shape)).index_put((flat[own],), values[own]).reshape(tuple(shape))


def _added(imp: Importer, node: fx.Node, old: str | torch.Tensor, values: str, places: Places) -> str:
    """What lies at `places`, and `values` there, of which several may go to one place."""
    counts = np.zeros((places.size, len(places.kept)))
    counts[places.kept, range(len(places.kept))] = 1
    turned = permuted(imp, node, values, (0, 1, 3, 2))
    rows = imp.inner(node, ir.Reshape, turned, shape=(places.parts * places.width, len(places.kept)))
    fields: dict[str, Any] = {"weight": counts, "weight_scale": np.ones(places.size)}
    spread = imp.inner(node, ir.Linear, rows, shape=(places.parts * places.width, places.size), **fields)
    spread = imp.inner(node, ir.Reshape, spread, shape=(1, places.parts, places.width, places.size))
    spread = permuted(imp, node, spread, (0, 1, 3, 2))
    other = imp.weight(node, old, "operand") if isinstance(old, torch.Tensor) else old
    return emit_combined(imp, node, ir.Add, spread, other, imp.inner)


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
    truths=True,
)
def _identity(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    source = a["self"] if "self" in a else a["input"]
    before, after = node.all_input_nodes[0].meta["val"].dtype, node.meta["val"].dtype
    if after == torch.bool and before != torch.bool:
        raise imp.refuse(node, "it makes truth of numbers; compare them with 0")
    if before.is_floating_point and after in (torch.int32, torch.int64):
        source = function_step(imp, node, source, "trunc")
    elif before != torch.bool and after in INTEGERS and not torch.can_cast(before, after):
        raise imp.refuse(node, f"it makes {str(after).removeprefix('torch.')} of numbers; use int32 or int64")
    return imp.emit(node, ir.Identity, source)

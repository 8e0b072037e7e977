# SPDX-License-Identifier: Apache-2.0
"""ATen reductions: sums, averages and maxima over any dimensions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.activations import emit_extremum
from firmware_gen.frontend.aten.arithmetic import emit_combined, scale_step
from firmware_gen.frontend.aten.functions import check_truth, function_step
from firmware_gen.frontend.aten.registry import handles, plain_name, schema
from firmware_gen.frontend.aten.selection import joined, taken
from firmware_gen.frontend.aten.shapes import permuted


@handles("any", "all", reads="self dim keepdim", truths=True)
@handles("mean", "sum", "amax", "amin", "max", "min", reads="self dim keepdim dtype other", integers=True)
def _reduce(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Over space a pooling whose window is the whole map, then over all other dimensions; a minimum is -max(-x)."""
    name, value, overload = plain_name(node), a["self"], schema(node).overload_name
    if "other" in a:
        return emit_extremum(imp, node, a, name == "max")
    if overload == "names_dim":
        raise imp.refuse(node, "named dimensions are not supported; use numbers")
    if name in ("any", "all"):
        check_truth(imp, node)
    dims = _dimensions(imp, a)
    kind = {"mean": "mean", "sum": "sum"}.get(name, "max")
    least = name in ("amin", "min", "all")
    value = scale_step(imp, node, value, -1.0) if least else value
    value = _reduced(imp, node, value, dims, kind)
    value = scale_step(imp, node, value, -1.0) if least else value
    return imp.emit(node, ir.Reshape, value)


@handles("prod", reads="self dim keepdim dtype", integers=True)
def _product(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Halves times halves; what is left over is the next ones' last."""
    value = a["self"]
    for dim in _dimensions(imp, a):
        while (count := imp.shape(value)[dim]) > 1:
            first, second = (taken(imp, node, value, dim, range(i, i + count // 2)) for i in (0, count // 2))
            product = emit_combined(imp, node, ir.Mul, first, second, imp.inner)
            rest = [taken(imp, node, value, dim, [count - 1])] if count % 2 else []
            value = joined(imp, node, [product, *rest], dim)
    return imp.emit(node, ir.Reshape, value)


@handles("cumsum", reads="self dim dtype", integers=True)
def _sums(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """A product with ones, of INT8 as they are."""
    value, dim = _last(imp, node, a)
    shape = imp.shape(value)
    rows = (math.prod(shape[:-1]), shape[-1])
    value = imp.inner(node, ir.Reshape, value, shape=rows)
    fields: dict[str, Any] = {"weight": np.tri(rows[1]), "weight_scale": np.ones(rows[1])}
    value = imp.inner(node, ir.Linear, value, shape=rows, **fields)
    return _back(imp, node, imp.inner(node, ir.Reshape, value, shape=shape), dim)


@handles("cumprod", "cummax", "cummin", reads="self dim dtype", integers=True)
def _scan(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Each with those 1, 2, 4, .. places before it."""
    kind = ir.Mul if plain_name(node) == "cumprod" else ir.Maximum
    value, dim = _last(imp, node, a)
    least = plain_name(node) == "cummin"
    value = scale_step(imp, node, value, -1.0) if least else value
    last, count, step = len(imp.shape(value)) - 1, imp.shape(value)[-1], 1
    while step < count:
        first, before, own = (
            taken(imp, node, value, last, places) for places in (range(step), range(count - step), range(step, count))
        )
        value = joined(imp, node, [first, emit_combined(imp, node, kind, own, before, imp.inner)], last)
        step *= 2
    value = scale_step(imp, node, value, -1.0) if least else value
    return _back(imp, node, value, dim)


def _last(imp: Importer, node: fx.Node, a: dict[str, Any]) -> tuple[str, int]:
    """A value with a dimension behind all others, and which it was."""
    rank = len(imp.shape(a["self"]))
    dim = a["dim"] % rank
    return permuted(imp, node, a["self"], [*(d for d in range(rank) if d != dim), dim]), dim


def _back(imp: Importer, node: fx.Node, value: str, dim: int) -> str:
    order = list(range(len(imp.shape(value)) - 1))
    return imp.emit(node, ir.Reshape, permuted(imp, node, value, [*order[:dim], len(order), *order[dim:]]))


@handles("linalg_vector_norm", "norm", reads="self p ord dim keepdim dtype")
def _norm(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    value, dims = a["self"], _dimensions(imp, a)
    order = a["ord"] if "ord" in a else a["p"]
    if order in (None, 2):
        square = emit_combined(imp, node, ir.Mul, value, value, imp.inner)
        value = function_step(imp, node, _reduced(imp, node, square, dims, "sum"), "sqrt")
    elif order in (1, math.inf):
        value = imp.inner(node, ir.Activate, value, shape=imp.shape(value), act=ir.Activation(slope=-1.0))
        value = _reduced(imp, node, value, dims, "sum" if order == 1 else "max")
    else:
        raise imp.refuse(node, f"its order is {order}; 1, 2 and infinity are supported")
    return imp.emit(node, ir.Reshape, value)


@handles("var", "std", reads="self dim unbiased correction keepdim")
def _variance(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    value, dims = a["self"], _dimensions(imp, a)
    given = a.get("correction")
    correction = float(a.get("unbiased", True) if given is None else given)
    count = math.prod(imp.shape(value)[d] for d in dims)
    if count <= correction:
        raise imp.refuse(node, f"it divides by {count} - {correction:g}; use correction=0")
    mean = scale_step(imp, node, _reduced(imp, node, value, dims, "mean"), -1.0)
    centred = emit_combined(imp, node, ir.Add, value, mean, imp.inner)
    square = emit_combined(imp, node, ir.Mul, centred, centred, imp.inner)
    value = _reduced(imp, node, square, dims, "mean")
    if correction:
        value = scale_step(imp, node, value, count / (count - correction))
    if plain_name(node) == "std":
        value = function_step(imp, node, value, "sqrt")
    return imp.emit(node, ir.Reshape, value)


def _dimensions(imp: Importer, a: dict[str, Any]) -> set[int]:
    """Those that an operator reduces."""
    rank, given = len(imp.shape(a["self"])), a.get("dim")
    return {d % rank for d in ([given] if isinstance(given, int) else given or range(rank))}


def _reduced(imp: Importer, node: fx.Node, value: str, dims: set[int], kind: str) -> str:
    """The "mean", "sum" or "max" over dimensions, of which 1 is left."""
    space = {d for d in dims if d > 1 and len(imp.shape(value)) in (3, 4)}
    value = _over_space(imp, node, value, space, kind) if space else value
    return _over_any(imp, node, value, dims - space, kind) if dims - space else value


def _over_space(imp: Importer, node: fx.Node, value: str, dims: set[int], kind: str) -> str:
    shape, whole = imp.shape(value), imp.ir_shape(value)
    axes = {imp.ir_axis(value, d) for d in dims}
    kernel = tuple(whole[axis] if axis in axes else 1 for axis in (2, 3))
    out = tuple(1 if d in dims else size for d, size in enumerate(shape))
    fields: dict[str, Any] = {
        "kind": "max" if kind == "max" else "avg",
        "divisor_override": 1 if kind == "sum" else None,
    }
    return imp.inner(node, ir.Pool, value, shape=out, kernel=kernel, stride=kernel, **fields)


def _over_any(imp: Importer, node: fx.Node, value: str, dims: set[int], kind: str) -> str:
    """Sums are products with ones, of INT8 as they are; a maximum is that of the rows of a map with one channel."""
    shape, out = imp.shape(value), tuple(1 if d in dims else size for d, size in enumerate(imp.shape(value)))
    count = math.prod(shape[d] for d in dims)
    scale = np.array([1 / count if kind == "mean" else 1.0])
    if dims == {1} and len(shape) in (3, 4) and kind != "max":
        weight = np.full((1, shape[1], 1, 1), scale[0])
        return imp.inner(node, ir.Conv, value, shape=out, weight=weight, weight_scale=scale)
    kept = [d for d in range(len(shape)) if d not in dims]
    rows = (math.prod(shape[d] for d in kept), count)
    value = permuted(imp, node, value, [*kept, *sorted(dims)])
    if kind != "max":
        value = imp.inner(node, ir.Reshape, value, shape=rows)
        weight = np.full((1, count), scale[0])
        value = imp.inner(node, ir.Linear, value, shape=(rows[0], 1), weight=weight, weight_scale=scale)
    else:
        value = imp.inner(node, ir.Reshape, value, shape=(1, 1, *rows))
        row = (1, count)
        value = imp.inner(node, ir.Pool, value, shape=(1, 1, rows[0], 1), kind="max", kernel=row, stride=row)
    return imp.inner(node, ir.Reshape, value, shape=out)

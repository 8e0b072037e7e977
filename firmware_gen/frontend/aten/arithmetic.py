# SPDX-License-Identifier: Apache-2.0
"""ATen arithmetic: additions, products, and constants as Scale."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.registry import as_tensor, channel_dim, float32, handles, plain_name, schema
from firmware_gen.passes.edits.rewrite import in_pytorch_order

Affine = Callable[[np.ndarray], tuple[ArrayLike, ArrayLike]]
"""(scale, bias) as functions of a constant."""


@handles("add", "sub", "rsub", reads="self other alpha", integers=True)
def _add(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """`a + alpha * b`: two computed tensors are added, constants become a Scale."""
    first, second, alpha = a["self"], a["other"], float32(a.get("alpha", 1))
    if "rsub" in schema(node).name:
        first, second, alpha = second, first, -alpha
    elif "sub" in schema(node).name:
        alpha = -alpha
    if isinstance(first, str) and isinstance(second, torch.Tensor) and second.isinf().any():
        return emit_combined(imp, node, ir.Add, first, _mask(imp, node, second) * alpha)
    if isinstance(second, str) and isinstance(first, torch.Tensor) and first.isinf().any() and alpha == 1:
        return emit_combined(imp, node, ir.Add, second, _mask(imp, node, first))
    if not isinstance(second, str):
        return _emit_affine(imp, node, first, second, lambda c: (1.0, alpha * c))
    if not isinstance(first, str):
        return _emit_affine(imp, node, second, first, lambda c: (alpha, c))
    if alpha != 1:
        fields = scale_fields(imp, second, scale=alpha)
        second = imp.inner(node, ir.Scale, second, shape=imp.shape(second), **fields)
    return emit_combined(imp, node, ir.Add, first, second)


def _mask(imp: Importer, node: fx.Node, constant: torch.Tensor) -> np.ndarray:
    """A constant that hides by infinities what it is added to."""
    return np.where(constant.isinf(), constant, imp.weight(node, constant.where(~constant.isinf(), 0), "operand"))


@handles("mul", reads="self other", integers=True)
def _mul(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    first, second = a["self"], a["other"]
    if isinstance(first, str) and isinstance(second, str):
        return emit_combined(imp, node, ir.Mul, first, second)
    source, constant = (first, second) if isinstance(first, str) else (second, first)
    return _emit_affine(imp, node, source, constant, lambda c: (c, 0.0))


def emit_combined(
    imp: Importer,
    node: fx.Node,
    kind: type[ir.Combined],
    first: str,
    second: str | np.ndarray,
    emit: Callable[..., str] | None = None,
) -> str:
    """Two operands whose shapes go together, as PyTorch says, the second one computed or a constant. The IR's first
    operand has all of the shape: one that is repeated is expanded before, where the other is repeated too.

    emit: `Importer.inner`, for what is computed on the way to the node's result.
    """
    shapes = [operand.shape if isinstance(operand, np.ndarray) else imp.shape(operand) for operand in (first, second)]
    shape = np.broadcast_shapes(*shapes)
    if len(shape) > 4 and len(set(shapes)) > 1:
        whole, *parts = folded(shape, shapes)
        if len(whole) > 4:
            raise imp.refuse(
                node,
                f"its operands have shapes {shapes[0]} and {shapes[1]}; use four dimensions, by reshape or flatten",
            )
        one, other = (
            operand.reshape(part)
            if isinstance(operand, np.ndarray)
            else imp.inner(node, ir.Reshape, operand, shape=part)
            for operand, part in zip((first, second), parts, strict=True)
        )
        value = _combined(imp, node, kind, one, other, whole, imp.inner)
        return emit(node, ir.Reshape, value, shape=shape) if emit else imp.emit(node, ir.Reshape, value)
    return _combined(imp, node, kind, first, second, shape, emit)


def folded(shape: ir.Shape, shapes: Sequence[ir.Shape]) -> list[ir.Shape]:
    """A shape, and those of operands that go together to it, with neighbouring dimensions taken together that each
    operand has all or nothing of."""
    aligned = [(1,) * (len(shape) - len(s)) + tuple(s) for s in shapes]
    places = [i for i, size in enumerate(shape) if size > 1]
    patterns = {i: tuple(s[i] > 1 for s in aligned) for i in places}
    groups = [list(group) for _, group in itertools.groupby(places, patterns.__getitem__)]
    return [tuple(math.prod(s[i] for i in group) for group in groups) for s in (shape, *aligned)]


def _combined(
    imp: Importer,
    node: fx.Node,
    kind: type[ir.Combined],
    first: str | np.ndarray,
    second: str | np.ndarray,
    shape: ir.Shape,
    emit: Callable[..., str] | None,
) -> str:
    operands = [_with_rank(imp, node, operand, len(shape)) for operand in (first, second)]
    if imp.shape(operands[0]) != shape == imp.shape(operands[1]) and isinstance(second, str) and kind.commutes:
        operands.reverse()
    if imp.shape(operands[0]) != shape:
        operands[0] = imp.inner(node, ir.Expand, operands[0], shape=shape)
    return emit(node, kind, *operands, shape=shape) if emit else imp.emit(node, kind, *operands)


def _with_rank(imp: Importer, node: fx.Node, operand: str | np.ndarray, rank: int) -> str:
    """An operand with dimensions of size 1 before its own, as many as are missing."""
    if isinstance(operand, np.ndarray):
        return imp.constant(node, operand.reshape((1,) * (rank - operand.ndim) + operand.shape))
    shape = imp.shape(operand)
    missing = rank - len(shape)
    return imp.inner(node, ir.Reshape, operand, shape=(1,) * missing + shape) if missing else operand


@handles("div", reads="self other rounding_mode")
def _div(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    source, divisor = a["self"], a["other"]
    if a.get("rounding_mode") is not None:
        whole = {"floor": "floor", "trunc": "trunc"}[a["rounding_mode"]]
        return imp.emit(node, ir.Identity, _whole_quotient(imp, node, source, divisor, whole))
    if isinstance(divisor, str):
        act = ir.Activation(function=ir.Function("reciprocal"))
        inverse = imp.inner(node, ir.Activate, divisor, shape=imp.shape(divisor), act=act)
        return _mul(imp, node, {"self": source, "other": inverse})
    if not imp.weight(node, as_tensor(divisor), "divisor").all():
        raise imp.refuse(node, "its divisor is 0; use another number")
    return _emit_affine(imp, node, source, divisor, lambda c: (1 / c, 0.0))


def _whole_quotient(imp: Importer, node: fx.Node, source: Any, divisor: Any, name: str) -> str:
    """A rounded quotient by a power of two, which float32 computes exactly; of others the last bit would decide."""
    number = None if isinstance(divisor, str) or as_tensor(divisor).numel() != 1 else float(as_tensor(divisor).item())
    if not isinstance(source, str) or not number or abs(math.frexp(number)[0]) != 0.5:
        raise imp.refuse(node, "it rounds a quotient by something else than a power of two; divide, then use floor")
    act = ir.Activation(function=ir.Function(name))
    quotient = scale_step(imp, node, source, 1 / number)
    return imp.inner(node, ir.Activate, quotient, shape=imp.shape(quotient), act=act)


@handles("remainder", "fmod", reads="self other")
def _remainder(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """x - d * (x / d), rounded down, or towards 0."""
    name = "floor" if plain_name(node) == "remainder" else "trunc"
    whole = _whole_quotient(imp, node, a["self"], a["other"], name)
    return emit_combined(
        imp, node, ir.Add, a["self"], scale_step(imp, node, whole, -float(as_tensor(a["other"]).item()))
    )


@handles("floor_divide", reads="self other")
def _floor_divide(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return imp.emit(node, ir.Identity, _whole_quotient(imp, node, a["self"], a["other"], "floor"))


@handles("neg", integers=True)
def _neg(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _emit_affine(imp, node, a["self"], -1.0, lambda c: (c, 0.0))


def scale_fields(imp: Importer, source: str, scale: ArrayLike = 1.0, bias: ArrayLike = 0.0) -> dict[str, Any]:
    shape = imp.shape(source)
    channels = shape[channel_dim(len(shape))]
    return {"scale": np.full(channels, scale, np.float64), "bias": np.full(channels, bias, np.float64)}


def scale_step(imp: Importer, node: fx.Node, source: str, scale: float, bias: float = 0.0) -> str:
    """Append x * scale + bias, of any shape, on the way to computing `node`."""
    shape = imp.shape(source)
    if len(shape) <= 4:
        return imp.inner(node, ir.Scale, source, shape=shape, **scale_fields(imp, source, scale, bias))
    return imp.inner(node, ir.Reshape, _scaled_flat(imp, node, source, scale, bias), shape=shape)


def _scaled_flat(imp: Importer, node: fx.Node, source: str, scale: ArrayLike, bias: ArrayLike) -> str:
    flat = imp.inner(node, ir.Reshape, source, shape=(1, math.prod(imp.shape(source))))
    return imp.inner(node, ir.Scale, flat, shape=imp.shape(flat), **scale_fields(imp, flat, scale, bias))


def _emit_affine(
    imp: Importer, node: fx.Node, source: str, constant: torch.Tensor | float, scale_and_bias: Affine
) -> str:
    """x * scale + bias, both functions of a constant: a Scale where it is a number, or one per channel, or in the last
    dimension of what lies in PyTorch's order; products and sums with constants elsewhere."""
    values = imp.weight(node, as_tensor(constant), "constant operand")
    shape = imp.shape(source)
    rank, channel = len(shape), channel_dim(len(shape))
    aligned = (1,) * (rank - values.ndim) + values.shape
    per_channel = tuple(size if axis == channel else 1 for axis, size in enumerate(shape))
    if rank <= 4 and aligned in (per_channel, (1,) * rank):
        scale, bias = scale_and_bias(values.reshape(-1))
        return imp.emit(node, ir.Scale, source, **scale_fields(imp, source, scale, bias))
    if values.size == 1:
        return imp.emit(node, ir.Reshape, _scaled_flat(imp, node, source, *scale_and_bias(values.reshape(-1))))
    if aligned == (*(1,) * (rank - 1), shape[-1]) and in_pytorch_order(imp.graph(), source):
        scale, bias = scale_and_bias(values.reshape(-1))
        rows = (math.prod(shape[:-1]), shape[-1])
        vectors = imp.inner(node, ir.Reshape, source, shape=rows)
        scaled = imp.inner(node, ir.Scale, vectors, shape=rows, **scale_fields(imp, vectors, scale, bias))
        return imp.emit(node, ir.Reshape, scaled)
    scale, bias = scale_and_bias(values)
    if isinstance(scale, np.ndarray):
        return emit_combined(imp, node, ir.Mul, source, scale)
    if scale != 1:
        source = imp.inner(node, ir.Scale, source, shape=shape, **scale_fields(imp, source, scale))
    return emit_combined(imp, node, ir.Add, source, np.asarray(bias))

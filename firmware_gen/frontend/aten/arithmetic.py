# SPDX-License-Identifier: Apache-2.0
"""ATen arithmetic: additions, products, and constants as Scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.registry import as_tensor, channel_dim, float32, handles, schema

Affine = Callable[[np.ndarray], tuple[ArrayLike, ArrayLike]]
"""(scale, bias) as functions of a constant."""


@handles("add", "sub", "rsub", reads="self other alpha")
def _add(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """`a + alpha * b`: two computed tensors are added, constants become a Scale."""
    first, second, alpha = a["self"], a["other"], float32(a.get("alpha", 1))
    if "rsub" in schema(node).name:
        first, second, alpha = second, first, -alpha
    elif "sub" in schema(node).name:
        alpha = -alpha
    if not isinstance(second, str):
        return _emit_affine(imp, node, first, second, lambda c: (1.0, alpha * c))
    if not isinstance(first, str):
        return _emit_affine(imp, node, second, first, lambda c: (alpha, c))
    if imp.shape(first) != imp.shape(second):
        raise imp.refuse(
            node,
            f"its operands have shapes {imp.shape(first)} and {imp.shape(second)}; computed tensors must have the "
            "same shape",
        )
    if alpha != 1:
        fields = scale_fields(imp, second, scale=alpha)
        second = imp.step(node, ir.Scale, second, shape=imp.shape(second), **fields)
    return imp.emit(node, ir.Add, first, second)


@handles("mul", reads="self other")
def _mul(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    first, second = a["self"], a["other"]
    if isinstance(first, str) and isinstance(second, str):
        return _emit_product(imp, node, first, second)
    source, constant = (first, second) if isinstance(first, str) else (second, first)
    return _emit_affine(imp, node, source, constant, lambda c: (c, 0.0))


def _emit_product(imp: Importer, node: fx.Node, first: str, second: str) -> str:
    if imp.shape(first) != tuple(node.meta["val"].shape):
        first, second = second, first
    whole, gate = imp.shape(first), imp.shape(second)
    matches = whole == gate or (
        len(whole) == len(gate) > 1
        and gate[0] == whole[0]
        and gate[1] in (1, whole[1])
        and gate[2:] in (whole[2:], (1,) * len(whole[2:]))
    )
    if not matches or len(whole) > 4:
        raise imp.refuse(
            node,
            f"its operands have shapes {whole} and {gate}; computed tensors of one shape, and gates "
            "with 1 for the channels or for all of space, can be multiplied",
        )
    return imp.emit(node, ir.Mul, first, second)


@handles("square")
def _square(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _emit_product(imp, node, a["self"], a["self"])


@handles("div", reads="self other rounding_mode")
def _div(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    source, divisor = a["self"], a["other"]
    if not isinstance(source, str) or isinstance(divisor, str):
        raise imp.refuse(node, "its divisor is computed; dividing by a constant is supported")
    if a.get("rounding_mode") is not None:
        raise imp.refuse(node, f"rounding_mode={a['rounding_mode']!r}; None is supported")
    if not imp.weight(node, as_tensor(divisor), "divisor").all():
        raise imp.refuse(node, "its divisor is 0; use another number")
    return _emit_affine(imp, node, source, divisor, lambda c: (1 / c, 0.0))


@handles("neg")
def _neg(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _emit_affine(imp, node, a["self"], -1.0, lambda c: (c, 0.0))


def scale_fields(imp: Importer, source: str, scale: ArrayLike = 1.0, bias: ArrayLike = 0.0) -> dict[str, Any]:
    shape = imp.shape(source)
    channels = shape[channel_dim(len(shape))]
    return {"scale": np.full(channels, scale, np.float64), "bias": np.full(channels, bias, np.float64)}


def _emit_affine(
    imp: Importer, node: fx.Node, source: str, constant: torch.Tensor | float, scale_and_bias: Affine
) -> str:
    """x * scale + bias, both functions of a constant: a number, or one per channel or in the last dimension."""
    values = imp.weight(node, as_tensor(constant), "constant operand")
    shape = imp.shape(source)
    rank, channel = len(shape), channel_dim(len(shape))
    aligned = (1,) * (rank - values.ndim) + values.shape
    scale, bias = scale_and_bias(values.reshape(-1))
    per_channel = tuple(size if axis == channel else 1 for axis, size in enumerate(shape))
    if rank <= 4 and aligned in (per_channel, (1,) * rank):
        return imp.emit(node, ir.Scale, source, **scale_fields(imp, source, scale, bias))
    if aligned == (*(1,) * (rank - 1), shape[-1]):
        rows = (math.prod(shape[:-1]), shape[-1])
        vectors = imp.step(node, ir.Reshape, source, shape=rows)
        scaled = imp.step(node, ir.Scale, vectors, shape=rows, **scale_fields(imp, vectors, scale, bias))
        return imp.emit(node, ir.Reshape, scaled)
    raise imp.refuse(
        node,
        f"its constant operand has shape {values.shape}, its input {shape}; a number, or one value per channel, "
        f"{per_channel}, is supported",
    )

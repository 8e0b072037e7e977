# SPDX-License-Identifier: Apache-2.0
"""ATen activations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.arithmetic import emit_combined, scale_fields, scale_step
from firmware_gen.frontend.aten.registry import channel_dim, float32, handles, plain_name
from firmware_gen.frontend.aten.shapes import permuted

Bound = str | float | torch.Tensor | None
"""A bound of a clamp, as a handler finds it: computed, a number, a constant, or none."""


@handles("relu", integers=True)
def _relu(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return imp.emit(node, ir.Activate, a["self"], act=ir.RELU)


@handles("relu6")
def _relu6(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return imp.emit(node, ir.Activate, a["self"], act=ir.RELU6)


@handles("hardtanh", "clamp", "clamp_min", "clamp_max", reads="self min_val max_val min max", integers=True)
def _clamp(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _emit_clamp(imp, node, a["self"], a.get("min_val", a.get("min")), a.get("max_val", a.get("max")))


@handles("maximum", "minimum", reads="self other", integers=True)
def _maximum(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return emit_extremum(imp, node, a, plain_name(node) == "maximum")


def emit_extremum(imp: Importer, node: fx.Node, a: dict[str, Any], maximum: bool) -> str:
    """The larger one of two operands, or by their negatives the smaller one; a clamp where one of them is a number."""
    source, other = (a["self"], a["other"]) if isinstance(a["self"], str) else (a["other"], a["self"])
    if not isinstance(other, str) and _is_number(other):
        return _emit_clamp(imp, node, source, **{"low" if maximum else "high": other})
    if not isinstance(other, str):
        other = imp.weight(node, other, "constant operand")
    if maximum:
        return emit_combined(imp, node, ir.Maximum, source, other)
    source, other = _negative(imp, node, source), _negative(imp, node, other)
    largest = emit_combined(imp, node, ir.Maximum, source, other, emit=imp.inner)
    return imp.emit(node, ir.Scale, largest, **scale_fields(imp, largest, -1.0))


def _is_number(constant: torch.Tensor | float) -> bool:
    return not isinstance(constant, torch.Tensor) or bool((constant == constant.flatten()[:1]).all())


def _negative(imp: Importer, node: fx.Node, operand: Any) -> Any:
    if not isinstance(operand, str):
        return -operand
    return imp.inner(node, ir.Scale, operand, shape=imp.shape(operand), **scale_fields(imp, operand, -1.0))


@handles("threshold", reads="self threshold value")
def _threshold(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """x above a threshold, else a value: a clamp where both are one."""
    bound, value = float32(a["threshold"]), float32(a["value"])
    if bound == value:
        return _emit_clamp(imp, node, a["self"], value)
    act = ir.Activation(function=ir.Function("gt", (bound,)))
    mask = imp.inner(node, ir.Activate, a["self"], shape=imp.shape(a["self"]), act=act)
    above = imp.inner(node, ir.Activate, a["self"], shape=imp.shape(a["self"]), act=ir.Activation(low=bound))
    chosen = imp.inner(node, ir.Mul, mask, above, shape=imp.shape(mask))
    if not value:
        return imp.emit(node, ir.Identity, chosen)
    return imp.emit(node, ir.Add, chosen, scale_step(imp, node, mask, -value, value))


def _emit_clamp(imp: Importer, node: fx.Node, source: str, low: Bound = None, high: Bound = None) -> str:
    least, most = (_one_number(imp, node, bound) for bound in (low, high))
    act = ir.Activation(
        low=-math.inf if least is None else float32(least), high=math.inf if most is None else float32(most)
    )
    if not act.low <= act.high:
        raise imp.refuse(node, f"min={least}, max={most}; min <= max is supported")
    return imp.emit(node, ir.Activate, source, act=act)


def _one_number(imp: Importer, node: fx.Node, bound: Bound) -> float | None:
    if isinstance(bound, str):
        raise imp.refuse(node, "a bound is computed; numbers are supported")
    if not isinstance(bound, torch.Tensor):
        return bound
    values = imp.weight(node, bound, "bound")
    if values.ndim and (values.size == 0 or (values != values.flat[0]).any()):
        raise imp.refuse(node, "a bound differs from place to place; one number is supported")
    return float(values.flat[0])


@handles("leaky_relu", reads="self negative_slope")
def _leaky_relu(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _emit_leaky(imp, node, a["self"], a["negative_slope"], "negative_slope")


@handles("prelu", reads="self weight")
def _prelu(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    slope = imp.weight(node, a["weight"], "weight")
    if slope.size != 1:
        rank = len(imp.shape(a["self"]))
        shape = [slope.size if axis == channel_dim(rank) else 1 for axis in range(rank)]
        return emit_combined(imp, node, ir.PReLU, a["self"], slope.reshape(shape))
    return _emit_leaky(imp, node, a["self"], slope.item(), "weight")


def _emit_leaky(imp: Importer, node: fx.Node, source: str, slope: float, argument: str) -> str:
    if not math.isfinite(slope):
        raise imp.refuse(node, f"{argument}={slope}; a finite slope is supported")
    return imp.emit(node, ir.Activate, source, act=ir.Activation(slope=float32(slope)))


@handles("softmax", "_softmax", reads="self dim dtype half_to_float")
def _softmax(imp: Importer, node: fx.Node, a: dict[str, Any], log: bool = False) -> str:
    source = a["self"]
    shape = imp.shape(source)
    rank, dim = len(shape), a["dim"] % len(shape)
    if dim == channel_dim(rank) and rank <= 4:
        return imp.emit(node, ir.Softmax, source, axis=-1 if rank < 3 else 1, log=log)
    order = [*(d for d in range(rank) if d != dim), dim]
    source = permuted(imp, node, source, order)
    rows = (math.prod(shape) // shape[dim], shape[dim])
    vectors = imp.inner(node, ir.Reshape, source, shape=rows)
    result = imp.inner(node, ir.Softmax, vectors, shape=rows, axis=-1, log=log)
    result = imp.inner(node, ir.Reshape, result, shape=imp.shape(source))
    return imp.emit(node, ir.Reshape, permuted(imp, node, result, np.argsort(order).tolist()))


@handles("log_softmax", "_log_softmax", reads="self dim dtype half_to_float")
def _log_softmax(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _softmax(imp, node, a, log=True)

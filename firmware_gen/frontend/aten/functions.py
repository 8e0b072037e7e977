# SPDX-License-Identifier: Apache-2.0
"""ATen functions of one element that have tables, and the parts that models write them with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.arithmetic import emit_combined, scale_fields, scale_step
from firmware_gen.frontend.aten.registry import as_tensor, float32, handles, plain_name
from firmware_gen.frontend.aten.selection import taken

Operand = str | float | torch.Tensor
"""A value that the model computes, or a constant."""


def emit_function(imp: Importer, node: fx.Node, source: str, name: str, *parameters: float) -> str:
    """Append the Activate that computes `node` as a function of `source`."""
    act = ir.Activation(function=ir.Function(name, parameters))
    return imp.emit(node, ir.Activate, source, act=act)


def function_step(imp: Importer, node: fx.Node, source: str, name: str, *parameters: float) -> str:
    """Append an Activate on the way to computing `node`."""
    act = ir.Activation(function=ir.Function(name, parameters))
    return imp.inner(node, ir.Activate, source, shape=imp.shape(source), act=act)


@handles("sigmoid", "tanh", "silu", "hardsigmoid", "hardswish", "selu", "mish", "erf", "special_erf", "atan", "arctan")
def _plain(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    name = plain_name(node).strip("_").removeprefix("special_")
    return emit_function(imp, node, a["self"], {"arctan": "atan"}.get(name, name))


@handles("log_sigmoid", "log_sigmoid_forward")
def _log_sigmoid(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return emit_function(imp, node, a["self"], "logsigmoid")


@handles("gelu", reads="self approximate")
def _gelu(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    names = {"none": "gelu", "tanh": "gelu_tanh"}
    return emit_function(imp, node, a["self"], names[a["approximate"]])


@handles("elu", reads="self alpha scale input_scale")
def _elu(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """scale * (x above 0, else alpha * (e^(input_scale * x) - 1))."""
    alpha, scale, input_scale = (float32(a[name]) for name in ("alpha", "scale", "input_scale"))
    if input_scale != 1 and abs(alpha * input_scale - 1) > 1e-6:
        raise imp.refuse(node, f"alpha={alpha}, input_scale={input_scale}; ELU, CELU and SELU are supported")
    name = "elu" if input_scale == 1 else "celu"
    if scale == 1:
        return emit_function(imp, node, a["self"], name, alpha)
    part = function_step(imp, node, a["self"], name, alpha)
    return imp.emit(node, ir.Scale, part, **scale_fields(imp, part, scale))


@handles("celu", reads="self alpha")
def _celu(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return emit_function(imp, node, a["self"], "celu", float32(a["alpha"]))


@handles("softplus", reads="self beta threshold")
def _softplus(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return emit_function(imp, node, a["self"], "softplus", float32(a["beta"]), float32(a["threshold"]))


@handles("glu", reads="self dim")
def _glu(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """The first half of a dimension, times sigmoid of the second."""
    half = imp.shape(a["self"])[a["dim"]] // 2
    first, second = (taken(imp, node, a["self"], a["dim"], range(i, i + half)) for i in (0, half))
    return imp.emit(node, ir.Mul, first, function_step(imp, node, second, "sigmoid"))


@handles("abs", integers=True)
def _abs(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return imp.emit(node, ir.Activate, a["self"], act=ir.Activation(slope=-1.0))


# --- powers ----------------------------------------------------------------------------------------------------

LARGEST_POWER = 16
"""Of whole exponents, which are products."""
ROOTS = {0.5: "sqrt", -0.5: "rsqrt"}


@handles("pow", reads="self exponent")
def _pow(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Whole exponents as products; others as e^(exponent * log x), which magnifies its rounding by exponent * log x."""
    x = a["self"]
    if not isinstance(x, str | torch.Tensor) and x > 0:
        return emit_function(imp, node, scale_step(imp, node, a["exponent"], math.log(float32(x))), "exp")
    if not isinstance(x, str) or isinstance(a["exponent"], str) or as_tensor(a["exponent"]).numel() != 1:
        return _power_of_elements(imp, node, x, a["exponent"])
    exponent = float32(as_tensor(a["exponent"]).item())
    if exponent in ROOTS:
        return emit_function(imp, node, x, ROOTS[exponent])
    if exponent != int(exponent):
        scaled = scale_step(imp, node, function_step(imp, node, x, "log"), exponent)
        return emit_function(imp, node, scaled, "exp")
    if not 1 <= abs(exponent) <= LARGEST_POWER:
        raise imp.refuse(node, f"exponent={exponent:g}; whole numbers from 1 to {LARGEST_POWER} are supported")
    if exponent < 0:
        return emit_function(imp, node, _power(imp, node, x, int(-exponent), imp.inner), "reciprocal")
    return imp.emit(node, ir.Identity, x) if exponent == 1 else _power(imp, node, x, int(exponent))


def _power_of_elements(imp: Importer, node: fx.Node, x: Any, exponent: Any) -> str:
    """e^(exponent * log x), of positive x alone: whole exponents, of which negative x have powers, are refused."""
    if not isinstance(x, str):
        base = imp.weight(node, as_tensor(x), "base")
        if not (base > 0).all():
            raise imp.refuse(node, "its base is not positive everywhere; use positive numbers")
        return emit_function(imp, node, emit_combined(imp, node, ir.Mul, exponent, np.log(base), imp.inner), "exp")
    if not isinstance(exponent, str):
        exponent = imp.weight(node, as_tensor(exponent), "exponent")
        if (exponent == np.rint(exponent)).any():
            raise imp.refuse(node, "its exponents differ, and whole ones are among them; use one for all elements")
    logarithm = function_step(imp, node, x, "log")
    return emit_function(imp, node, emit_combined(imp, node, ir.Mul, logarithm, exponent, imp.inner), "exp")


@handles("square", integers=True)
def _square(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _power(imp, node, a["self"], 2)


def _power(imp: Importer, node: fx.Node, x: str, exponent: int, emit: Callable[..., str] | None = None) -> str:
    """x^exponent by squares; `emit` as that of `emit_combined`."""
    if exponent == 1:
        return x
    if exponent % 2:
        return emit_combined(imp, node, ir.Mul, _power(imp, node, x, exponent - 1, imp.inner), x, emit)
    half = _power(imp, node, x, exponent // 2, imp.inner)
    return emit_combined(imp, node, ir.Mul, half, half, emit)


# --- parts -----------------------------------------------------------------------------------------------------


@handles("exp", "log", "reciprocal", "sqrt", "rsqrt", "sin", "cos", "floor", "ceil", "trunc", "fix")
def _part(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return emit_function(imp, node, a["self"], {"fix": "trunc"}.get(plain_name(node), plain_name(node)))


@handles("round", reads="self decimals")
def _round(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """To the even one of two neighbours, as IEEE 754 does."""
    decimals = a.get("decimals", 0)
    if decimals == 0:
        return emit_function(imp, node, a["self"], "round")
    scaled = scale_step(imp, node, a["self"], 10.0**decimals)
    return imp.emit(
        node, ir.Identity, scale_step(imp, node, function_step(imp, node, scaled, "round"), 10.0**-decimals)
    )


@handles("frac")
def _frac(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    whole = scale_step(imp, node, function_step(imp, node, a["self"], "trunc"), -1.0)
    return emit_combined(imp, node, ir.Add, a["self"], whole)


@handles("tan")
def _tan(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    sine, cosine = (function_step(imp, node, a["self"], name) for name in ("sin", "cos"))
    return emit_combined(imp, node, ir.Mul, sine, function_step(imp, node, cosine, "reciprocal"))


@handles("expm1")
def _expm1(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return imp.emit(node, ir.Identity, scale_step(imp, node, function_step(imp, node, a["self"], "exp"), 1.0, -1.0))


@handles("exp2")
def _exp2(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return emit_function(imp, node, scale_step(imp, node, a["self"], math.log(2)), "exp")


@handles("log2", "log10")
def _log_of_base(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    base = int(plain_name(node).removeprefix("log"))
    logarithm = function_step(imp, node, a["self"], "log")
    return imp.emit(node, ir.Identity, scale_step(imp, node, logarithm, 1 / math.log(base)))


@handles("sinh", "cosh")
def _hyperbolic(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Half of e^x, and half of e^-x."""
    sign = 1.0 if plain_name(node) == "cosh" else -1.0
    rising = scale_step(imp, node, function_step(imp, node, a["self"], "exp"), 0.5)
    falling = function_step(imp, node, scale_step(imp, node, a["self"], -1.0), "exp")
    return emit_combined(imp, node, ir.Add, rising, scale_step(imp, node, falling, 0.5 * sign))


@handles("erfc", "special_erfc")
def _erfc(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return imp.emit(node, ir.Identity, scale_step(imp, node, function_step(imp, node, a["self"], "erf"), -1.0, 1.0))


@handles("log1p")
def _log1p(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return emit_function(imp, node, scale_step(imp, node, a["self"], 1.0, 1.0), "log")


MIRRORED = {"gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}
"""By comparison: what it is with its operands the other way round."""


@handles("gt", "ge", "lt", "le", reads="self other")
def _comparison(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _compared(imp, node, plain_name(node), a["self"], a["other"])


@handles("eq", "ne", reads="self other")
def _equality(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """As what is neither less nor more."""
    at_least, at_most = (_compared(imp, node, name, a["self"], a["other"]) for name in ("ge", "le"))
    equal = emit_combined(imp, node, ir.Mul, at_least, at_most, imp.inner)
    return equal if plain_name(node) == "eq" else scale_step(imp, node, equal, -1.0, 1.0)


def _compared(imp: Importer, node: fx.Node, name: str, first: Any, second: Any) -> str:
    """1 where it holds, else 0: of a value with a number, or of a difference with 0."""
    if not isinstance(first, str):
        name, first, second = MIRRORED[name], second, first
    if not isinstance(second, str):
        bound = imp.weight(node, as_tensor(second), "bound")
        if bound.size == 1 and bound.ndim <= len(imp.shape(first)):
            return function_step(imp, node, first, name, float32(bound.item()))
        second = -bound
    else:
        second = scale_step(imp, node, second, -1.0)
    return function_step(imp, node, emit_combined(imp, node, ir.Add, first, second, imp.inner), name, 0.0)


@handles("logical_not", "bitwise_not")
def _not(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    check_truth(imp, node)
    return scale_step(imp, node, a["self"], -1.0, 1.0)


@handles("logical_and", "logical_or", "bitwise_and", "bitwise_or", "__and__", "__or__", reads="self other")
def _both(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    check_truth(imp, node)
    first, second = (v if isinstance(v, str) else v.numpy().astype(np.float64) for v in (a["self"], a["other"]))
    first, second = (first, second) if isinstance(first, str) else (second, first)
    return emit_combined(imp, node, ir.Mul if "and" in plain_name(node) else ir.Maximum, first, second, imp.inner)


@handles("logical_xor", "bitwise_xor", "__xor__", reads="self other")
def _either(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """The magnitude of their difference."""
    check_truth(imp, node)
    first, second = (v if isinstance(v, str) else v.numpy().astype(np.float64) for v in (a["self"], a["other"]))
    first, second = (first, second) if isinstance(first, str) else (second, first)
    assert isinstance(first, str), "operators of constants are folded"
    second = scale_step(imp, node, second, -1.0) if isinstance(second, str) else -second
    value = emit_combined(imp, node, ir.Add, first, second, imp.inner)
    return imp.inner(node, ir.Activate, value, shape=imp.shape(value), act=ir.Activation(slope=-1.0))


def check_truth(imp: Importer, node: fx.Node) -> None:
    """Refuse numbers, whose truth, or bits, nobody computes."""
    kinds = {fx.meta["val"].dtype for fx in node.all_input_nodes}
    if kinds != {torch.bool}:
        raise imp.refuse(node, "its operands are no results of comparisons; compare them with 0 before")


@handles("sign", "sgn")
def _sign(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Clamped twice, so that it is 1 of every normal number."""
    value, act = a["self"], ir.Activation(low=-1.0, high=1.0)
    for _ in range(2):
        value = scale_step(imp, node, value, 2.0**64)
        value = imp.inner(node, ir.Activate, value, shape=imp.shape(value), act=act)
    return imp.emit(node, ir.Identity, value)


@handles("where", reads="condition self other", integers=True)
def _where(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """condition * self + (1 - condition) * other, with a condition of 0 and 1."""
    condition = a["condition"]
    if not isinstance(condition, str):
        return emit_chosen(imp, node, condition, a["self"], a["other"])
    parts: list[str] = []
    for value, chosen in ((a["self"], True), (a["other"], False)):
        constant = None if isinstance(value, str) else imp.weight(node, as_tensor(value), "constant operand")
        if constant is not None and not constant.any():
            continue
        mask = condition if chosen else scale_step(imp, node, condition, -1.0, 1.0)
        if constant is not None and constant.size == 1 and constant.ndim <= len(imp.shape(mask)):
            parts.append(scale_step(imp, node, mask, constant.item()))
        else:
            parts.append(emit_combined(imp, node, ir.Mul, mask, value if constant is None else constant, imp.inner))
    if len(parts) == 2:
        return emit_combined(imp, node, ir.Add, parts[0], parts[1])
    if not parts:
        raise imp.refuse(node, "it chooses between zeros; leave it out")
    shape = tuple(node.meta["val"].shape)
    if imp.shape(parts[0]) == shape:
        return imp.emit(node, ir.Identity, parts[0])
    return emit_combined(imp, node, ir.Add, parts[0], np.zeros(shape))


@handles("masked_fill", reads="self mask value", integers=True)
def _masked_fill(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _where(imp, node, {"condition": a["mask"], "self": a["value"], "other": a["self"]})


def emit_chosen(imp: Importer, node: fx.Node, mask: torch.Tensor, first: Operand, second: Operand) -> str:
    """`first` where a constant mask holds, `second` elsewhere. What is infinite is added."""
    chosen = mask.numpy().astype(np.float64)
    others = np.asarray(1 - chosen)
    if isinstance(first, str) and isinstance(second, str):
        one = emit_combined(imp, node, ir.Mul, first, chosen, imp.inner)
        return emit_combined(imp, node, ir.Add, one, emit_combined(imp, node, ir.Mul, second, others, imp.inner))
    computed, constant, kept = (first, second, chosen) if isinstance(first, str) else (second, first, others)
    assert isinstance(computed, str) and not isinstance(constant, str), "choices of constants are folded"
    filled = as_tensor(constant).detach().numpy().astype(np.float64)
    if np.isnan(filled).any():
        raise imp.refuse(node, "it fills with NaN; use a number")
    if np.isinf(filled).any():
        return emit_combined(imp, node, ir.Add, computed, np.where(kept > 0, 0, filled))
    part = emit_combined(imp, node, ir.Mul, computed, kept, imp.inner)
    return emit_combined(imp, node, ir.Add, part, np.where(kept > 0, 0, filled))

# SPDX-License-Identifier: Apache-2.0
"""ATen operators with weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from firmware_gen import ir
from hls.errors import HeepgenError

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.arithmetic import emit_combined, scale_step
from firmware_gen.frontend.aten.attention import emit_product
from firmware_gen.frontend.aten.registry import float32, handles, window_size


@handles(
    "conv1d",
    "conv2d",
    "convolution",
    reads="input weight bias stride padding dilation groups transposed output_padding",
)
def _conv(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    if isinstance(a["weight"], str):
        raise imp.refuse(node, "its weight is computed by the model; write it with Tensor.unfold and torch.matmul")
    weight = imp.weight(node, a["weight"], "weight")
    if weight.ndim not in (3, 4):
        raise imp.refuse(node, f"its weight has {weight.ndim} dimensions; 1-D and 2-D convolution are supported")
    if a.get("transposed"):
        return _conv_transpose(imp, node, a)
    flat = weight.ndim == 3
    imp.rank(node, a["input"], (weight.ndim,), "(N, C, L)" if flat else "(N, C, H, W)")
    weight = weight[:, :, None] if flat else weight
    dilation = window_size(a["dilation"], flat, 1)
    return imp.emit(
        node,
        ir.Conv,
        a["input"],
        weight=weight,
        bias=imp.weight_or_none(node, a["bias"], "bias"),
        weight_scale=imp.weight_scale(node),
        stride=window_size(a["stride"], flat, 1),
        pads=_conv_pads(a["padding"], weight.shape[2:], dilation, flat),
        dilation=dilation,
        groups=int(a["groups"]),
    )


@handles(
    "conv_transpose1d", "conv_transpose2d", reads="input weight bias stride padding output_padding groups dilation"
)
def _conv_transpose(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """A convolution of the input with zeros between its elements, by the flipped kernel."""
    weight = imp.weight(node, a["weight"], "weight")
    if weight.ndim not in (3, 4):
        raise imp.refuse(node, f"its weight has {weight.ndim} dimensions; 1-D and 2-D convolution are supported")
    flat, groups = weight.ndim == 3, int(a["groups"])
    imp.rank(node, a["input"], (weight.ndim,), "(N, C, L)" if flat else "(N, C, H, W)")
    inputs, outputs, *kernel = (*weight.shape[:2], 1, weight.shape[2]) if flat else weight.shape

    def as_convolution(array: np.ndarray) -> np.ndarray:
        grouped = array.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
        return grouped.reshape(groups * outputs, inputs // groups, *kernel)[:, :, ::-1, ::-1]

    stride, dilation = (window_size(a[name], flat, 1) for name in ("stride", "dilation"))
    padding, more = (window_size(a[name], flat, 0) for name in ("padding", "output_padding"))
    top, left = (d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True))
    bias = imp.weight_or_none(node, a["bias"], "bias")
    return imp.emit(
        node,
        ir.Conv,
        a["input"],
        weight=np.ascontiguousarray(as_convolution(weight)),
        bias=bias,
        weight_scale=imp.weight_scale(node, as_convolution),
        pads=(top, left, top + more[0], left + more[1]),
        dilation=dilation,
        groups=groups,
        input_dilation=stride,
    )


def _conv_pads(padding: str | int | Sequence[int], kernel: Sequence[int], dilation: ir.Pair, flat: bool) -> ir.Pads:
    """'same' puts the odd cell at the bottom and right, as torch does."""
    if padding == "valid":
        return ir.NO_PADS
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    assert not isinstance(padding, str)
    top, left = window_size(padding, flat, 0)
    return (top, left, top, left)


def _emit_linear(
    imp: Importer,
    node: fx.Node,
    source: str,
    weight: np.ndarray,
    bias: np.ndarray | None,
    scale: np.ndarray | None = None,
) -> str:
    """(..., I) by weight (O, I) to (..., O), or by (I,) to (...)."""
    imp.rank(node, source, tuple(range(1, 9)), "(N, features)")
    if weight.ndim not in (1, 2):
        raise imp.refuse(node, f"its weight has shape {weight.shape}; a matrix or a vector is supported")
    shape, matrix = imp.shape(source), weight.reshape(-1, weight.shape[-1])
    rows = math.prod(shape[:-1])
    bias = _bias_of_rows(imp, node, bias, rows, len(matrix))
    if len(shape) < 3 and weight.ndim == 2:
        return imp.emit(node, ir.Linear, source, weight=matrix, bias=bias, weight_scale=scale)
    if len(shape) != 2:
        source = imp.inner(node, ir.Reshape, source, shape=(rows, shape[-1]))
    product = imp.inner(
        node, ir.Linear, source, shape=(rows, len(matrix)), weight=matrix, bias=bias, weight_scale=scale
    )
    return imp.emit(node, ir.Reshape, product)


def _bias_of_rows(imp: Importer, node: fx.Node, bias: np.ndarray | None, rows: int, outputs: int) -> np.ndarray | None:
    """One value per output from a bias of any shape that is the same for all rows."""
    shape = tuple(node.meta["val"].shape)
    if not shape:
        raise imp.refuse(node, "it computes a number without dimensions; keep one dimension")
    if bias is None:
        return None
    if math.prod(shape) == rows * outputs:
        every = np.broadcast_to(bias, shape).reshape(rows, outputs)
        if (every == every[0]).all():
            return np.array(every[0])
    raise imp.refuse(
        node,
        f"its bias of shape {bias.shape} differs from row to row; one value per output, ({outputs},), is supported",
    )


@handles("linear", reads="input weight bias")
def _linear(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    if isinstance(a["weight"], str):
        return _emit_product(imp, node, a["input"], a["weight"], a["bias"], turned=True)
    weight, scale = imp.weight(node, a["weight"], "weight"), imp.weight_scale(node)
    if isinstance(a["bias"], str):
        return _emit_linear_and(imp, node, a["input"], weight, scale, a["bias"])
    return _emit_linear(imp, node, a["input"], weight, imp.weight_or_none(node, a["bias"], "bias"), scale)


@handles("addmm", "addmv", reads="self mat1 mat2 mat vec beta alpha")
def _addmm(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """beta * bias + alpha * x @ weight, or weight @ x with a vector x."""
    names, alpha, beta = ("mat1", "mat2") if "mat1" in a else ("mat", "vec"), float32(a["alpha"]), float32(a["beta"])
    bias = a["self"]
    if isinstance(bias, torch.Tensor):
        bias = bias * beta
    elif beta != 1:
        bias = scale_step(imp, node, bias, beta)
    first, second = (a[name] for name in names)
    if _is_product(imp, first, second):
        return _emit_product(imp, node, first, second, bias, alpha)
    source, weight, scale = _operands(imp, node, a, *names)
    weight, scale = weight * alpha, None if scale is None else scale * alpha
    if isinstance(bias, str):
        return _emit_linear_and(imp, node, source, weight, scale, bias)
    return _emit_linear(imp, node, source, weight, imp.weight(node, bias, "bias"), scale)


def _emit_linear_and(
    imp: Importer, node: fx.Node, source: str, weight: np.ndarray, scale: np.ndarray | None, bias: str
) -> str:
    """A Linear, and a bias that is computed."""
    shape, matrix = imp.shape(source), weight.reshape(-1, weight.shape[-1])
    rows = imp.inner(node, ir.Reshape, source, shape=(math.prod(shape[:-1]), shape[-1]))
    out = (math.prod(shape[:-1]), len(matrix))
    product = imp.inner(node, ir.Linear, rows, shape=out, weight=matrix, bias=None, weight_scale=scale)
    product = imp.inner(node, ir.Reshape, product, shape=(*shape[:-1], *weight.shape[:-1]))
    return emit_combined(imp, node, ir.Add, product, bias)


def _emit_product(
    imp: Importer,
    node: fx.Node,
    first: str | torch.Tensor,
    second: str | torch.Tensor,
    bias: str | torch.Tensor | None,
    alpha: float = 1.0,
    turned: bool = False,
) -> str:
    """alpha * first @ second, whose rows are columns where `turned`, and a bias."""
    if bias is None:
        return emit_product(imp, node, first, second, scale=alpha, turned=turned)
    product = emit_product(imp, node, first, second, imp.inner, scale=alpha, turned=turned)
    return emit_combined(imp, node, ir.Add, product, bias if isinstance(bias, str) else imp.weight(node, bias, "bias"))


@handles("mm", "mv", "matmul", "bmm", "dot", reads="self mat2 vec other tensor")
def _mm(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    second = next(name for name in ("mat2", "vec", "other", "tensor") if name in a)
    if _is_product(imp, a["self"], a[second]):
        return emit_product(imp, node, a["self"], a[second])
    source, weight, scale = _operands(imp, node, a, "self", second)
    return _emit_linear(imp, node, source, weight, None, scale)


def _is_product(imp: Importer, first: str | torch.Tensor, second: str | torch.Tensor) -> bool:
    """Whether a product is none by one matrix of weights: both operands are computed, or weights are several matrices
    or come first."""
    if isinstance(first, str):
        return isinstance(second, str) or second.ndim > 2
    assert isinstance(second, str), "products of constants are folded"
    return first.ndim > 2 or len(imp.shape(second)) > 1


def _operands(
    imp: Importer, node: fx.Node, a: dict[str, Any], left: str, right: str
) -> tuple[str, np.ndarray, np.ndarray | None]:
    """The computed operand of a product and the weight, as (O, I) or (I,), with its scale; by names of arguments."""
    first, second = a[left], a[right]
    if isinstance(first, str):
        if isinstance(second, str):
            raise imp.refuse(node, "both operands are computed; x @ weight with a constant weight is supported")
        weight = imp.weight(node, second, "weight")
        if weight.ndim != 2:
            return first, weight, None
        return first, np.ascontiguousarray(weight.T), imp.weight_scale(node, np.transpose, right)
    assert isinstance(second, str), "products of constants are folded"
    weight = imp.weight(node, first, "weight")
    if len(imp.shape(second)) != 1 or weight.ndim > 2:
        raise imp.refuse(
            node, f"a constant of shape {weight.shape} is its first operand; write x @ weight, with the constant last"
        )
    return second, weight, imp.weight_scale(node, argument=left) if weight.ndim == 2 else None


@handles(
    "batch_norm",
    "_native_batch_norm_legit_no_training",
    reads="input weight bias running_mean running_var training eps",
)
def _batch_norm(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return emit_batch_norm(imp, node, a)


def emit_batch_norm(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """Append what normalises by running statistics."""
    imp.rank(node, a["input"], (2, 3, 4), "(N, F), (N, C, L) or (N, C, H, W)")
    mean = imp.weight(node, a["running_mean"], "running mean")
    variance = imp.weight(node, a["running_var"], "running variance")
    if not (variance + a["eps"] > 0).all():
        raise HeepgenError(f"layer {imp.label(node)}: its variance + eps is not positive; train it again")
    gamma, beta = imp.weight_or_none(node, a["weight"], "weight"), imp.weight_or_none(node, a["bias"], "bias")
    scale = (1.0 if gamma is None else gamma) / np.sqrt(variance + a["eps"])
    shift = (0.0 if beta is None else beta) - mean * scale
    return imp.emit(node, ir.BatchNorm, a["input"], scale=scale, shift=shift)

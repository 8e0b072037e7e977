# SPDX-License-Identifier: Apache-2.0
"""ONNX's layers with weights."""

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
from firmware_gen.frontend.onnx.operators.windows import halves, padded, window, window_pads


@handles("Conv", 22, "xww", "auto_pad dilations group kernel_shape pads strides")
def _conv(node: Node) -> Function:
    kernel, stride, dilation = window(node, node.constant(1).shape[2:])
    pads = window_pads(node, kernel, stride, dilation)
    convolve = F.conv1d if len(kernel) == 1 else F.conv2d
    return lambda x, w, b=None: convolve(padded(x, pads, 0.0), w, b, stride, 0, dilation, node.get("group"))


@handles("ConvTranspose", 22, "xww",
          "auto_pad dilations group kernel_shape output_padding output_shape pads strides")  # fmt: skip
def _conv_transpose(node: Node) -> Function:
    kernel, stride, dilation = window(node, node.constant(1).shape[2:])
    rank, mode = len(kernel), node.get("auto_pad")
    more, size = node.get("output_padding", [0] * rank), node.get("output_shape")
    pads = node.get("pads", [0] * 2 * rank) if mode == "NOTSET" else [0] * 2 * rank
    if mode.startswith("SAME") and size is None:
        size = [n * s for n, s in zip(node.shape()[2:], stride, strict=True)]
    if size is not None:
        total = [s * (n - 1) + m + (k - 1) * d + 1 - out for n, out, k, d, m, s
                 in zip(node.shape()[2:], size[-rank:], kernel, dilation, more, stride, strict=True)]  # fmt: skip
        if min(total) < 0 and "output_shape" in node.given:
            raise node.refuse(f"output_shape={size} is larger than what the kernel reaches; use output_padding")
        pads = halves([max(0, n) for n in total], larger_first=mode != "SAME_UPPER")
    both = [min(pair) for pair in zip(pads[:rank], pads[rank:], strict=True)]
    rest = [b - a for a, b in zip(pads, both * 2, strict=True)]
    convolve = F.conv_transpose1d if rank == 1 else F.conv_transpose2d
    return lambda x, w, b=None: padded(convolve(x, w, b, stride, both, more, node.get("group"), dilation), rest, 0.0)


@handles("Gemm", 13, "aaa", "alpha beta transA transB")
def _gemm(node: Node) -> Function:
    """alpha * A @ B + beta * C, where a constant C that is the same for all rows is a bias."""
    alpha, beta = node.get("alpha"), node.get("beta")
    is_bias = node.has(2) and not any(map(node.is_computed, (1, 2))) and _has_equal_rows(node.constant(2))

    def run(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        a = a.t() if node.get("transA") else a
        c = c if c is None or beta == 1 else c * beta
        if is_bias:
            w = b if node.get("transB") else b.t()
            assert c is not None
            return F.linear(a, w * alpha, (c[0] if c.ndim == 2 else c).expand(len(w)))
        b = b.t() if node.get("transB") else b
        if alpha != 1:
            a, b = (a * alpha, b) if node.is_computed(1) else (a, b * alpha)
        y = _product(node, a, b)
        return y if c is None else y + c

    return run


def _has_equal_rows(array: np.ndarray) -> bool:
    return array.ndim < 2 or bool((array == array[:1]).all())


@handles("MatMul", 13, "aa")
def _matmul(node: Node) -> Function:
    return lambda a, b: _product(node, a, b)


@handles("Einsum", 12, "a*", "equation")
def _einsum(node: Node) -> Function:
    return lambda *tensors: torch.einsum(node.get("equation"), *tensors)


def _product(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A product with one constant matrix, or vector, is a layer."""
    constant = next((i for i in (0, 1) if not node.is_computed(i)), None)
    if constant is None or not _is_matrix(node.shape(constant), node.shape(1 - constant)):
        return torch.matmul(a, b)
    if constant == 1:
        return _times(a, b)
    if b.ndim == 1:
        return _times(b, a.mT)
    return _times(b.mT, a) if a.ndim == 1 else _times(b.mT, a.mT).mT


def _is_matrix(shape: Sequence[int], other: Sequence[int]) -> bool:
    return math.prod(shape[:-2]) == 1 and len(shape) <= max(2, len(other))


def _times(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x @ w, w being a constant."""
    if w.ndim == 1:
        return F.linear(x, w[None]).reshape(x.shape[:-1])
    return F.linear(x, w.reshape(w.shape[-2:]).t())

# SPDX-License-Identifier: Apache-2.0
"""ONNX's layers with weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

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


@handles("Gemm", 13, "xww", "alpha beta transA transB")
def _gemm(node: Node) -> Function:
    outputs = node.constant(1).shape[0 if node.get("transB") else 1]
    if node.get("transA") and min(node.shape()) > 1:
        raise node.refuse("transA=1 moves data; 0 is supported")
    if node.has(2) and node.constant(2).ndim == 2 and (node.constant(2) != node.constant(2)[:1]).any():
        raise node.refuse(f"its C {node.constant(2).shape} differs from row to row; one row is supported")

    def run(x: torch.Tensor, w: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        w = (w if node.get("transB") else w.t()) * node.get("alpha")
        c = None if c is None else ((c[0] if c.ndim == 2 else c) * node.get("beta")).expand(outputs)
        return F.linear(x.t() if node.get("transA") else x, w, c)

    return run


@handles("MatMul", 13, "xw")
def _matmul(node: Node) -> Function:
    shape = node.constant(1).shape
    if math.prod(shape[:-2]) != 1 or (len(shape) > 2 and len(node.shape()) < len(shape)):
        raise node.refuse(f"its B has shape {shape}; one matrix, or a vector, is supported")

    def run(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        if w.ndim == 1:
            return F.linear(x, w[None]).reshape(x.shape[:-1])
        return F.linear(x, w.reshape(w.shape[-2:]).t())

    return run


@handles("BatchNormalization", 15, "xwwww", "epsilon momentum")
def _batch_norm(node: Node) -> Function:
    return lambda x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, eps=node.get("epsilon"))

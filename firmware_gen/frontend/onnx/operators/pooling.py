# SPDX-License-Identifier: Apache-2.0
"""ONNX's pooling and reductions."""

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
from firmware_gen.frontend.onnx.operators.windows import padded, window, window_pads

LEAST_NORM = 1e-30
"""Of what is divided by it: zeros stay zeros."""


@handles("MaxPool AveragePool", 22, "x",
          "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides storage_order")  # fmt: skip
def _pool(node: Node) -> Function:
    """PyTorch pads both ends alike, by at most half a window: some windows more, and what is too much is cut off. Where
    an average without the padding has more of it, it is one with it, times what makes up for that."""
    kernel, stride, dilation = window(node, node.get("kernel_shape"))
    rank, average = len(kernel), node.op == "AveragePool"
    pads, counted = window_pads(node, kernel, stride, dilation), average and bool(node.get("count_include_pad"))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if average and any(d != 1 for d in dilation):
        raise node.refuse(f"dilations={dilation}; 1 is supported")
    wanted, share = _pooled_size(node, pads, spans, stride), None
    inner = None if counted else pads[:rank]
    if not all(_inside(*axis) for axis in zip(node.shape()[2:], pads, kernel, dilation, stride, wanted, strict=False)):
        raise node.refuse(f"pads={pads} of windows {spans}: some windows lie in the padding, which is not supported")
    if inner and not all(_reached(*axis) for axis in zip(node.shape()[2:], inner, spans, stride, wanted, strict=True)):
        moved = [next((q for q in range(p, k // 2 + 1, s) if _reached(n, q, k, s, out + (q - p) // s)), None)
                 for n, p, k, s, out in zip(node.shape()[2:], inner, spans, stride, wanted, strict=True)]  # fmt: skip
        inner = [q for q in moved if q is not None]
    if not inner or len(inner) < rank:
        if average and not counted and any(pads):
            pads, counted = _reaching(node.shape()[2:], pads, kernel, stride, wanted), True
            share = _whole_share(node.shape()[2:], pads, kernel, stride, wanted)
        inner, outer = [0] * rank, pads
    else:
        outer = [0] * 2 * rank
    first = [0 if any(outer) else (q - p) // s for q, p, s in zip(inner, pads, stride, strict=False)]
    room = [n + 2 * q + outer[i] + outer[rank + i] - k
            for i, (n, q, k) in enumerate(zip(node.shape()[2:], inner, spans, strict=True))]  # fmt: skip
    ceil = any(free // s + 1 < low + out for free, s, low, out in zip(room, stride, first, wanted, strict=True))
    pool = getattr(F, f"{'avg' if average else 'max'}_pool{rank}d")

    def run(x: torch.Tensor) -> torch.Tensor:
        x = padded(x, outer, 0.0 if average else -torch.inf)
        y: torch.Tensor = (
            pool(x, kernel, stride, inner, ceil, counted) if average else pool(x, kernel, stride, inner, dilation, ceil)
        )
        for axis, (low, out) in enumerate(zip(first, wanted, strict=True), 2):
            y = y if y.shape[axis] == out else torch.ops.aten.slice(y, axis, low, low + out)
        return y if share is None else y * torch.from_numpy(share)

    return run


def _reaching(size: Sequence[int], pads: list[int], kernel: list[int], step: list[int], wanted: list[int]) -> list[int]:
    """Padding to the end of the last window."""
    begins, ends = pads[: len(size)], pads[len(size) :]
    axes = zip(size, begins, ends, kernel, step, wanted, strict=True)
    return begins + [max(end, (out - 1) * s + k - n - begin) for n, begin, end, k, s, out in axes]


def _whole_share(
    size: Sequence[int], pads: list[int], kernel: list[int], step: list[int], wanted: list[int]
) -> np.ndarray:
    """By how much larger a window is than its part inside the input, float32 (1, 1, ...)."""
    share = np.ones((1, 1, *wanted))
    for axis, (n, p, k, s, out) in enumerate(zip(size, pads, kernel, step, wanted, strict=False), 2):
        first = np.arange(out) * s - p
        inside = np.minimum(first + k, n) - np.maximum(first, 0)
        share = share * (k / inside).reshape(-1, *[1] * (share.ndim - axis - 1))
    return share.astype(np.float32)


def _inside(size: int, pad: int, kernel: int, dilation: int, step: int, wanted: int) -> bool:
    """Whether every window has a place in the input."""
    places = np.arange(wanted)[:, None] * step - pad + np.arange(kernel) * dilation
    return bool(((places >= 0) & (places < size)).any(1).all())


def _reached(size: int, pad: int, span: int, step: int, wanted: int) -> bool:
    """Whether PyTorch's pooling has `wanted` windows, the last of which it may let run past the padding."""
    return 2 * pad <= span and (wanted - 1) * step < size + pad and -(-(size + 2 * pad - span) // step) + 1 >= wanted


@handles("LpPool", 22, "x", "auto_pad dilations kernel_shape pads strides", p=(1, 2))
def _norm_pool(node: Node) -> Function:
    """From averages, whose windows count their padding."""
    kernel, stride, dilation = window(node, node.get("kernel_shape"))
    pads = window_pads(node, kernel, stride, dilation)
    if any(d != 1 for d in dilation):
        raise node.refuse(f"dilations={dilation}; 1 is supported")
    pool, count = F.avg_pool1d if len(kernel) == 1 else F.avg_pool2d, math.prod(kernel)

    def run(x: torch.Tensor) -> torch.Tensor:
        x = padded(torch.abs(x) if node.get("p") == 1 else torch.square(x), pads, 0.0)
        total = pool(x, kernel, stride) * count
        return total if node.get("p") == 1 else torch.sqrt(total)

    return run


@handles("LpNormalization", 22, "x", "axis", p=(1, 2))
def _unit_norm(node: Node) -> Function:
    axis, order = node.get("axis"), node.get("p")
    return lambda x: x / torch.linalg.vector_norm(x, order, axis, True).clamp(min=LEAST_NORM)


@handles("GlobalAveragePool GlobalMaxPool", 22)
def _global_pool(node: Node) -> Function:
    space = tuple(range(2, len(node.shape())))
    if not space:
        raise node.refuse(f"its input has shape {node.shape()}, which has no space")
    reduced = torch.amax if node.op == "GlobalMaxPool" else torch.mean
    return lambda x: reduced(x, space, keepdim=True)


def _pooled_size(node: Node, pads: Sequence[int], spans: Sequence[int], stride: Sequence[int]) -> list[int]:
    """With ceil_mode no window begins in the padding at the end."""
    rank, size = len(spans), []
    for i, (n, span, step) in enumerate(zip(node.shape()[2:], spans, stride, strict=True)):
        free = n + pads[i] + pads[rank + i] - span
        if free < 0 or (node.get("ceil_mode") and free % step and node.get("auto_pad") != "NOTSET"):
            raise node.refuse(f"windows of {span} with pads={pads} do not fit into its input {node.shape()}")
        out = (-(-free // step) if node.get("ceil_mode") else free // step) + 1
        size.append(out - 1 if (out - 1) * step >= n + pads[i] else out)
    return size


@handles("ReduceMean ReduceMax ReduceMin ReduceProd ReduceSum", 20, "xc", "keepdims noop_with_empty_axes")
def _reduce(node: Node) -> Function:
    axes, keep = node.axes(1) or list(range(len(node.shape()))), bool(node.get("keepdims"))
    if not node.axes(1) and node.get("noop_with_empty_axes"):
        return torch.clone
    if node.op == "ReduceProd":

        def product(x: torch.Tensor) -> torch.Tensor:
            for axis in sorted(axes, reverse=True):
                x = torch.prod(x, axis, keepdim=keep)
            return x

        return product
    if node.op == "ReduceMin":
        return lambda x: -torch.amax(-x, axes, keepdim=keep)
    if node.op == "ReduceMax":
        return lambda x: torch.amax(x, axes, keepdim=keep)
    if node.op == "ReduceSum":
        return lambda x: torch.sum(x, axes, keepdim=keep)
    return lambda x: torch.mean(x, axes, keepdim=keep)


@handles("CumSum", 14, "xc", "exclusive reverse")
def _sums(node: Node) -> Function:
    (axis,) = node.numbers(1)
    exclusive, reverse = bool(node.get("exclusive")), bool(node.get("reverse"))

    def run(x: torch.Tensor) -> torch.Tensor:
        y = torch.cumsum(x.flip(axis) if reverse else x, axis)
        if exclusive:
            y = torch.cat((torch.zeros_like(y.narrow(axis, 0, 1)), y.narrow(axis, 0, y.shape[axis] - 1)), axis)
        return y.flip(axis) if reverse else y

    return run


@handles("LRN", 13, "x", "alpha beta bias size")
def _local_response_norm(node: Node) -> Function:
    size, channels = node.get("size"), node.shape()[1]
    before = (size - 1) // 2

    def run(x: torch.Tensor) -> torch.Tensor:
        squares = F.pad(torch.square(x).reshape(1, -1, channels, x[0, 0].numel()), (0, 0, before, size - 1 - before))
        mean = F.avg_pool2d(squares, (size, 1), 1).reshape(x.shape)
        return x / torch.pow(mean * node.get("alpha") + node.get("bias"), node.get("beta"))

    return run

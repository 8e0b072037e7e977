# SPDX-License-Identifier: Apache-2.0
"""What windows of ONNX have in common: sizes and padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node


def window(node: Node, given: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Kernel, strides and dilations."""
    kernel, rank = list(given), len(given)
    if rank not in ((1, 2, 3) if node.op == "AveragePool" else (1, 2)) or len(node.shape()) != rank + 2:
        raise node.refuse(
            f"its input has shape {node.shape()}, its kernel {kernel}; one and two dimensions of space are supported"
        )
    if node.get("kernel_shape", kernel) != kernel:
        raise node.refuse(f"kernel_shape={node.get('kernel_shape')}, but its weight has {kernel}")
    return kernel, node.get("strides", [1] * rank), node.get("dilations", [1] * rank)


def window_pads(node: Node, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """In ONNX's order: all beginnings, then all ends."""
    mode = node.get("auto_pad")
    pads = node.get("pads", [0] * 2 * len(kernel)) if mode == "NOTSET" else [0] * 2 * len(kernel)
    if min(pads) < 0:
        raise node.refuse(f"pads={pads}; none below 0 are supported")
    if mode.startswith("SAME"):
        total = [max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
                 for size, k, s, d in zip(node.shape()[2:], kernel, stride, dilation, strict=True)]  # fmt: skip
        pads = halves(total, larger_first=mode == "SAME_LOWER")
    return list(pads)


def halves(total: list[int], larger_first: bool) -> list[int]:
    small, large = [n // 2 for n in total], [n - n // 2 for n in total]
    return large + small if larger_first else small + large


def padded(x: torch.Tensor, pads: list[int], value: float) -> torch.Tensor:
    rank = len(pads) // 2
    amounts = [p for axis in reversed(range(rank)) for p in (pads[axis], pads[rank + axis])]
    return F.pad(x, amounts, value=value) if any(pads) else x

# SPDX-License-Identifier: Apache-2.0
"""ONNX's activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles, plain

plain("Relu", F.relu, 14)


@handles("LeakyRelu", 16, attributes="alpha")
def _leaky_relu(node: Node) -> Function:
    return lambda x: F.leaky_relu(x, node.get("alpha"))


@handles("PRelu", 16, "xw")
def _prelu(node: Node) -> Function:
    """PyTorch has one slope for every channel; those of another shape are multiplied by."""
    slope, rank = node.constant(1), len(node.shape())
    aligned = (1,) * (rank - slope.ndim) + slope.shape
    channels = node.shape()[1] if rank > 1 else 1
    if slope.size == 1 or aligned == (1, channels, *(1,) * (rank - 2)):
        return lambda x, w: F.prelu(x, w.reshape(-1))
    return lambda x, w: torch.clamp(x, min=0) + w * torch.clamp(x, max=0)


@handles("Max", 13, "a*")
def _max(node: Node) -> Function:
    return _folded(torch.maximum)


@handles("Min", 13, "a*")
def _min(node: Node) -> Function:
    return _folded(torch.minimum)


def _folded(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Function:
    def run(first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        for other in others:
            first = function(first, other)
        return first if others else first.clone()

    return run


@handles("Clip", 13, "xaa")
def _clip(node: Node) -> Function:
    if node.is_computed(1) or node.is_computed(2):
        return _bounded
    low, high = (float(node.constant(i)) if node.has(i) else None for i in (1, 2))
    return lambda x, *bounds: x.clone() if low is None and high is None else torch.clamp(x, low, high)


def _bounded(x: torch.Tensor, low: torch.Tensor | None = None, high: torch.Tensor | None = None) -> torch.Tensor:
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


@handles("Softmax LogSoftmax", 13, attributes="axis")
def _softmax(node: Node) -> Function:
    function = F.softmax if node.op == "Softmax" else F.log_softmax
    return lambda x: function(x, node.get("axis"))

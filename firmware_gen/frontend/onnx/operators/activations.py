# SPDX-License-Identifier: Apache-2.0
"""ONNX's activations."""

from __future__ import annotations

import math
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
    shape, channels = node.constant(1).shape, node.shape()[1:2]
    if math.prod(shape) != 1 and (*channels, *(1,) * (len(node.shape()) - 2)) != shape[-len(node.shape()) + 1 :]:
        raise node.refuse(f"its slope has shape {shape}; one slope, or one per channel, is supported")
    return lambda x, slope: F.prelu(x, slope.reshape(-1))


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


@handles("Clip", 13, "xcc")
def _clip(node: Node) -> Function:
    low, high = (float(node.constant(i)) if node.has(i) else None for i in (1, 2))
    return lambda x: x.clone() if low is None and high is None else torch.clamp(x, low, high)


@handles("Softmax LogSoftmax", 13, attributes="axis")
def _softmax(node: Node) -> Function:
    function = F.softmax if node.op == "Softmax" else F.log_softmax
    return lambda x: function(x, node.get("axis"))

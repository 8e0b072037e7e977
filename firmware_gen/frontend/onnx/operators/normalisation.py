# SPDX-License-Identifier: Apache-2.0
"""ONNX's normalisations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles


@handles("BatchNormalization", 15, "xwwww", "epsilon momentum")
def _batch_norm(node: Node) -> Function:
    return lambda x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, eps=node.get("epsilon"))


@handles("LayerNormalization", 17, "xww", "axis epsilon stash_type")
def _layer_norm(node: Node) -> Function:
    """With the mean and the inverse of the standard deviation, where they are used."""
    shape, eps = node.shape()[node.get("axis") :], node.get("epsilon")
    axes, more = tuple(range(-len(shape), 0)), any(node.outputs[1:])

    def run(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor | tuple[torch.Tensor, ...]:
        y = F.layer_norm(x, shape, w.expand(shape), None if b is None else b.expand(shape), eps)
        if not more:
            return y
        return y, x.mean(axes, keepdim=True), torch.rsqrt(x.var(axes, correction=0, keepdim=True) + eps)

    return run


@handles("RMSNormalization", 23, "xw", "axis epsilon stash_type")
def _rms_norm(node: Node) -> Function:
    shape = node.shape()[node.get("axis") :]
    return lambda x, w: F.rms_norm(x, shape, w.expand(shape), node.get("epsilon"))


@handles("GroupNormalization", 21, "xww", "epsilon num_groups stash_type")
def _group_norm(node: Node) -> Function:
    return lambda x, w, b: F.group_norm(x, node.get("num_groups"), w, b, node.get("epsilon"))


@handles("InstanceNormalization", 22, "xww", "epsilon")
def _instance_norm(node: Node) -> Function:
    """A group for every channel."""
    return lambda x, w, b: F.group_norm(x, x.shape[1], w, b, node.get("epsilon"))

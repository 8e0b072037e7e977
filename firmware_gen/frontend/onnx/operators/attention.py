# SPDX-License-Identifier: Apache-2.0
"""ONNX's Attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles


@handles("Attention", 24, "aaaw", "is_causal kv_num_heads q_num_heads scale softmax_precision")
def _attention(node: Node) -> Function:
    """Queries, keys and values are (N, heads, steps, features), or (N, steps, heads * features)."""
    flat = len(node.shape()) == 3
    heads = [node.get("q_num_heads"), *[node.get("kv_num_heads")] * 2] if flat else [node.shape(i)[1] for i in range(3)]
    if len(set(heads)) > 1:
        raise node.refuse(f"its queries have {heads[0]} heads, its keys {heads[1]}; equal numbers are supported")

    def parted(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:2], heads[0], -1).transpose(1, 2)

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        q, k, v = map(parted, inputs[:3]) if flat else inputs[:3]
        mask = inputs[3] if len(inputs) > 3 else None
        y = F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=bool(node.get("is_causal")), scale=node.get("scale")
        )
        return y.transpose(1, 2).flatten(2) if flat else y

    return run

# SPDX-License-Identifier: Apache-2.0
"""ONNX's Attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles

HIDDEN = -1e30
"""What a mask adds to a score that does not count."""


@handles("Attention", 24, "aaaw", "is_causal kv_num_heads q_num_heads scale softcap softmax_precision")
def _attention(node: Node) -> Function:
    """Queries, keys and values are (N, heads, steps, features), or (N, steps, heads * features). Neighbouring heads of
    queries may share a head of keys."""
    flat = len(node.shape()) == 3
    heads = [node.get("q_num_heads"), *[node.get("kv_num_heads")] * 2] if flat else [node.shape(i)[1] for i in range(3)]
    shared, rest = divmod(heads[0], heads[1])
    if rest or heads[1] != heads[2]:
        raise node.refuse(f"its queries have {heads[0]} heads, its keys {heads[1]}, its values {heads[2]}")
    scale, cap = node.get("scale"), node.get("softcap")
    if cap and node.has(3) and _hides_all(torch.tensor(node.constant(3)), bool(node.get("is_causal"))):
        raise node.refuse("its attn_mask hides every key from a query; let it see one")

    def parted(x: torch.Tensor, count: int) -> torch.Tensor:
        return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)

    def run(*inputs: torch.Tensor) -> torch.Tensor:
        q, k, v = (parted(x, n) for x, n in zip(inputs, heads, strict=False)) if flat else inputs[:3]
        k, v = (x if shared == 1 else x.repeat_interleave(shared, 1) for x in (k, v))
        mask = inputs[3] if len(inputs) > 3 else None
        if cap:
            scores = q @ k.mT * (scale or q.shape[-1] ** -0.5)
            y = _softmax(cap * torch.tanh(scores / cap), mask, bool(node.get("is_causal"))) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=bool(node.get("is_causal")), scale=scale)
        return y.transpose(1, 2).flatten(2) if flat else y

    return run


def _hides_all(mask: torch.Tensor, causal: bool) -> bool:
    hidden = ~mask if mask.dtype == torch.bool else mask <= HIDDEN
    if causal:
        hidden = hidden | torch.ones(hidden.shape[-2:], dtype=torch.bool).triu(1)
    return bool(hidden.all(-1).any())


def _softmax(scores: torch.Tensor, mask: torch.Tensor | None, causal: bool) -> torch.Tensor:
    if mask is not None:
        scores = scores + (torch.zeros(mask.shape).masked_fill(~mask, HIDDEN) if mask.dtype == torch.bool else mask)
    if causal:
        scores = scores + torch.full(scores.shape[-2:], HIDDEN).triu(1)
    return scores.softmax(-1)

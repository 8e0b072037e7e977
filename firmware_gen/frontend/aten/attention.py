# SPDX-License-Identifier: Apache-2.0
"""ATen products of matrices that are both computed, and attention, which is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.arithmetic import emit_combined, folded, scale_step
from firmware_gen.frontend.aten.registry import arguments_of, handles
from firmware_gen.frontend.aten.selection import repeated, taken

HIDDEN = -1e30
"""What a mask adds to a score that does not count: its exponential is 0."""


def product_fields(first: ir.Shape, second: ir.Shape, turned: bool = False) -> dict[str, Any]:
    """Fields of the MatMul of tensors of these shapes, which broadcast as those of torch.matmul; `turned`: the second
    one's rows are columns."""
    first = (1, *first) if len(first) == 1 else first
    second = (*second, 1) if len(second) == 1 else second
    batch = np.broadcast_shapes(first[:-2], second[:-2])
    if len(batch) > 2:
        batch, *parts = folded(batch, (first[:-2], second[:-2]))
        first, second = (*parts[0], *first[-2:]), (*parts[1], *second[-2:])
    assert len(batch) <= 2, "operands are expanded before"
    inner, outer = (*reversed(batch), 1, 1)[:2]
    rows, depth = first[-2:]
    columns = second[-2 if turned else -1]
    out = (outer, inner, rows, columns)
    return {
        "sizes": (outer, inner, rows, depth, columns),
        "a": _matrices(first, (outer, inner)),
        "b": _matrices(second, (outer, inner), turned),
        "out": ir.Matrices(math.prod(out), _steps(out)),
    }


def _matrices(shape: ir.Shape, batch: ir.Pair, turned: bool = False) -> ir.Matrices:
    whole = (*(1,) * (4 - len(shape)), *shape)
    steps = [
        0 if own < all_ else step for own, all_, step in zip(whole, (*batch, *whole[2:]), _steps(whole), strict=True)
    ]
    outer, inner, row, column = steps
    return ir.Matrices(math.prod(shape), (outer, inner, column, row) if turned else (outer, inner, row, column))


def _steps(shape: ir.Shape) -> tuple[int, int, int, int]:
    outer, inner, rows, columns = shape
    return inner * rows * columns, rows * columns, columns, 1


def operand(imp: Importer, node: fx.Node, value: str | torch.Tensor) -> str:
    """The name of an operand, which may be a constant."""
    return value if isinstance(value, str) else imp.constant(node, imp.weight(node, value, "operand"))


def _in_two_groups(imp: Importer, node: fx.Node, a: str, b: str) -> tuple[str, str]:
    """The operands, expanded where more than two groups of their dimensions would broadcast."""
    shapes = [imp.shape(value)[:-2] for value in (a, b)]
    batch = np.broadcast_shapes(*shapes)
    if len(batch) <= 2 or len(folded(batch, shapes)[0]) <= 2:
        return a, b
    whole = (repeated(imp, node, _with_batch(imp, node, value, len(batch)), (*batch, *imp.shape(value)[-2:]))
             for value in (a, b))  # fmt: skip
    first, second = whole
    return first, second


def _with_batch(imp: Importer, node: fx.Node, value: str, count: int) -> str:
    shape = imp.shape(value)
    missing = count + 2 - len(shape)
    return imp.inner(node, ir.Reshape, value, shape=(1,) * missing + shape) if missing else value


def emit_product(
    imp: Importer,
    node: fx.Node,
    first: str | torch.Tensor,
    second: str | torch.Tensor,
    inner: Callable[..., str] | None = None,
    *,
    scale: float = 1.0,
    turned: bool = False,
) -> str:
    """scale * first @ second, whose rows are columns where `turned`. inner: `Importer.inner`, for what is computed on
    the way to the node's result, and has its shape."""
    a, b = _in_two_groups(imp, node, *(operand(imp, node, value) for value in (first, second)))
    fields = product_fields(imp.shape(a), imp.shape(b), turned and len(imp.shape(b)) > 1)
    if inner:
        return inner(node, ir.MatMul, a, b, shape=tuple(node.meta["val"].shape), scale=scale, **fields)
    return imp.emit(node, ir.MatMul, a, b, scale=scale, **fields)


@handles("scaled_dot_product_attention", reads="query key value attn_mask dropout_p is_causal scale enable_gqa")
def _attention(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """softmax(scale * query @ key.T + mask) @ value."""
    if a["dropout_p"]:
        raise imp.refuse(node, f"dropout_p={a['dropout_p']}; call model.eval() before torch.export.export")
    query, key, value = (operand(imp, node, a[name]) for name in ("query", "key", "value"))
    shape, features = imp.shape(query), imp.shape(query)[-1]
    if a["enable_gqa"]:
        key, value = (_for_every_head(imp, node, part, shape[-3]) for part in (key, value))
    fields = product_fields(shape, imp.shape(key), turned=True)
    outer, inner, queries, _, keys = fields["sizes"]
    scale = 1 / math.sqrt(features) if a["scale"] is None else a["scale"]
    rows = (outer * inner * queries, keys)
    scores = imp.inner(node, ir.MatMul, query, key, shape=rows, suffix="scores", scale=float(scale), **fields)
    chosen = None
    if isinstance(a["attn_mask"], str):
        scores, chosen = _masked(imp, node, scores, a.pop("attn_mask"), (*shape[:-1], keys))
        a["attn_mask"] = None
    mask = _mask(imp, node, a, queries, keys)
    if mask is not None:
        every = np.broadcast_to(mask, (*shape[:-1], keys)).reshape(rows)
        scores = imp.inner(node, ir.Add, scores, imp.constant(node, every.copy()), shape=rows, suffix="mask")
    weights = imp.inner(node, ir.Softmax, scores, shape=rows, suffix="softmax", axis=-1)
    if chosen:
        weights = imp.inner(node, ir.Mul, weights, chosen, shape=rows)
    fields = product_fields((*shape[:-1], keys), imp.shape(value))
    return imp.emit(node, ir.MatMul, weights, value, **fields)


def _for_every_head(imp: Importer, node: fx.Node, value: str, heads: int) -> str:
    """Keys or values, each head as often as neighbouring heads of queries share it."""
    dim = len(imp.shape(value)) - 3
    shared = heads // imp.shape(value)[dim]
    return taken(imp, node, value, dim, [i // shared for i in range(heads)]) if shared > 1 else value


def _masked(imp: Importer, node: fx.Node, scores: str, mask: str, shape: ir.Shape) -> tuple[str, str | None]:
    """Scores with a computed mask; of truth also what hides all keys from a query that sees none, as PyTorch does."""
    rows = imp.shape(scores)
    fx_mask = arguments_of(node)["attn_mask"]
    truth = fx_mask.meta["val"].dtype == torch.bool
    whole = imp.inner(node, ir.Reshape, scores, shape=shape)
    added = scale_step(imp, node, mask, -HIDDEN, HIDDEN) if truth else mask
    whole = emit_combined(imp, node, ir.Add, whole, added, imp.inner)
    scores = imp.inner(node, ir.Reshape, whole, shape=rows)
    if not truth:
        return scores, None
    rank = len(imp.shape(mask))
    mask = imp.inner(node, ir.Reshape, mask, shape=(1,) * (len(shape) - rank) + imp.shape(mask))
    every = imp.inner(node, ir.Expand, mask, shape=shape) if imp.shape(mask) != shape else mask
    return scores, imp.inner(node, ir.Reshape, every, shape=rows)


def _mask(imp: Importer, node: fx.Node, a: dict[str, Any], queries: int, keys: int) -> np.ndarray | None:
    """What is added to the scores, None for nothing."""
    causal = np.where(np.tri(queries, keys), 0, HIDDEN) if a["is_causal"] else None
    mask = a["attn_mask"]
    if mask is None:
        return causal
    if mask.dtype == torch.bool:
        added = np.where(mask.numpy(), 0, HIDDEN)
    else:
        added = imp.weight(node, mask.clamp(min=HIDDEN), "attn_mask")
    added = added if causal is None else np.maximum(added + causal, HIDDEN)
    if (added <= HIDDEN).all(-1).any():
        raise imp.refuse(node, "its attn_mask hides every key from a query; let it see one")
    return np.asarray(added)

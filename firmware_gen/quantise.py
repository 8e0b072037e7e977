"""INT8 weights, symmetric, +-127, per output channel or per tensor; everything else stays FP32.

    scale = float32(max|w| / 127), 1 for an all-zero channel
    q     = clip(rint(w / scale), -127, 127)

w is the BatchNorm-folded weight in float64; the division by 127 and the one by the (float32) scale are done
in float64; rint rounds ties to even. The folded float64 bias is rounded to float32 here, and only here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from firmware_gen.ir import Conv, Graph, Linear
from hls.errors import HeepgenError

LIMIT = 127


def quantise(graph: Graph, per_channel: bool = True) -> Graph:
    """The graph with int8 `weight`, float32 `scale` (O,) and float32 `bias` (O,) in every Conv and Linear.

    per_channel: one scale per output channel; otherwise one per tensor, repeated O times.
    Raises HeepgenError, naming the layer, when a folded weight, scale or bias does not fit float32.
    """
    nodes = [_quantise_node(n, per_channel) if isinstance(n, Conv | Linear) else n for n in graph.nodes]
    return graph.with_nodes(nodes)


def quantise_weight(weight: np.ndarray, per_channel: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """weight: (O, ...) float64 -> (q int8 of the same shape, scale float32 of shape (O,))."""
    rows = weight.astype(np.float64).reshape(weight.shape[0], -1)
    largest = np.abs(rows).max(axis=1) if per_channel else np.full(len(rows), np.abs(rows).max())
    with np.errstate(over="ignore"):
        scale = (largest / LIMIT).astype(np.float32)
    scale[scale == 0] = 1  # also a channel too small for a float32 scale
    q = np.clip(np.rint(rows / scale[:, None].astype(np.float64)), -LIMIT, LIMIT)
    return q.astype(np.int8).reshape(weight.shape), scale


def _quantise_node(node: Conv | Linear, per_channel: bool) -> Conv | Linear:
    if node.scale is not None:
        raise HeepgenError(f"layer {node.name} is quantised already")
    q, scale = quantise_weight(node.weight, per_channel)
    with np.errstate(over="ignore"):
        bias = np.zeros(len(scale), np.float32) if node.bias is None else node.bias.astype(np.float32)
    if not (np.isfinite(scale).all() and np.isfinite(bias).all()):
        raise HeepgenError(
            f"layer {node.name}: a weight or bias is too large for float32 once BatchNorm is folded in; "
            "check the BatchNorm's running variance"
        )
    return replace(node, weight=q, scale=scale, bias=bias)

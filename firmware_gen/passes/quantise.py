# SPDX-License-Identifier: Apache-2.0
"""INT8 weights, symmetric, +-127, per output channel or per tensor; everything else stays FP32.

    scale = float32(max|w| / L), 1 for an all-zero channel; per channel the next bfloat16 that is not smaller
    q     = clip(rint(w / scale), -L, L)

A bfloat16 is the upper half of a float32, and the accelerator reads two of them at once where a layer has no other
scales. The grid gets coarser by at most 2^-7, and nothing is clipped. A channel whose weights are multiples of the
float32 scale, to within MULTIPLES of it, keeps that one: they were rounded before, and stay what they are.

L is 127, or 7 in layers whose weights shall have 4 bits; these are int8 arrays too, and what packs them sees that 4
bits are enough. w is the BatchNorm-folded weight in float64; the division by L and the one by the (float32) scale are
done in float64; rint rounds ties to even. The folded float64 bias is rounded to float32 here, and only here; so are the
scale and bias of a Scale, and operands that are constants.

Where the model has INT8 weights, q are these, -128 included, and scale is theirs, times the BatchNorm's; the options
below say nothing of them.

With calibrate="mse" the largest weights of a channel may be clipped: instead of max|w|, the range is that of the
fractions CLIPS of it which gives the smallest sum of squared errors (q * scale - w)^2. Layers of 4 bits always have
that range: with 15 values, one large weight would cost all others their precision.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from firmware_gen.ir import Graph, Node, Scale, Weighted
from hls.errors import HeepgenError

LIMITS = {8: 127, 4: 7}
"""Largest weight, by bits."""

CLIPS = np.linspace(1, 0.5, 65)
MULTIPLES = 2.0**-12
CALIBRATIONS = ("max", "mse")


def quantise(graph: Graph, per_channel: bool = True, calibrate: str = "max", int4: Collection[str] = ()) -> Graph:
    """The graph with int8 `weight`, float32 `scale` (O,) and float32 `bias` (O,) in every Conv and Linear, and
    float32 constants.

    per_channel: one scale per output channel; otherwise one per tensor, repeated O times.
    calibrate: "max" for the full range of the weights, "mse" for the range with the smallest squared error.
    int4: layers whose weights get 4 bits.
    Raises HeepgenError, naming the layer, when a folded weight, scale or bias does not fit float32.
    """
    if calibrate not in CALIBRATIONS:
        raise HeepgenError(f"calibrate = {calibrate!r}: choose one of {', '.join(CALIBRATIONS)}")
    names = {n.name for n in graph.nodes if isinstance(n, Weighted)}
    if unknown := set(int4) - names:
        raise HeepgenError(
            f"weights of 4 bits: {min(unknown)} is no layer with weights; these are: {', '.join(sorted(names))}"
        )
    rounded = {name: round_constant(name, array) for name, array in graph.constants.items()}
    return graph.with_nodes(
        (quantise_node(n, per_channel, calibrate, 4 if n.name in int4 else 8) for n in graph.nodes), constants=rounded
    )


def round_constant(name: str, array: np.ndarray) -> np.ndarray:
    """An operand that is a constant, in float32. A mask's infinities stay."""
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float32)
    if not (np.isfinite(rounded) | np.isinf(array)).all():
        raise HeepgenError(f"constant {name}: a number is too large for float32; check the model")
    return rounded


def quantise_node(node: Node, per_channel: bool = True, calibrate: str = "max", bits: int = 8) -> Node:
    """`quantise` of one node."""
    match node:
        case Weighted():
            return _quantise_weighted(node, per_channel, calibrate, bits)
        case Scale():
            return _round_scale(node)
    return node


def quantise_weight(
    weight: np.ndarray, per_channel: bool = True, calibrate: str = "max", bits: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """weight: (O, ...) float64 -> (q int8 of the same shape, scale float32 of shape (O,))."""
    rows = weight.astype(np.float64).reshape(weight.shape[0], -1)
    largest = np.abs(rows).max(axis=1) if per_channel else np.full(len(rows), np.abs(rows).max())
    q, scale = _with_range(rows, largest, per_channel, bits)
    if calibrate == "mse" or bits == 4:
        q, scale = _least_squares(rows, largest, per_channel, bits)
    return q.astype(np.int8).reshape(weight.shape), scale


def _with_range(rows: np.ndarray, largest: np.ndarray, per_channel: bool, bits: int) -> tuple[np.ndarray, np.ndarray]:
    limit = LIMITS[bits]
    with np.errstate(over="ignore"):
        scale = (largest / limit).astype(np.float32)
    scale[scale == 0] = 1  # also a channel too small for a float32 scale
    steps = rows / scale[:, None].astype(np.float64)
    if per_channel:
        rounded = (np.abs(steps - np.rint(steps)) > MULTIPLES).any(axis=1)
        scale[rounded] = next_bfloat16(scale[rounded])
        steps = rows / scale[:, None].astype(np.float64)
    return np.clip(np.rint(steps), -limit, limit), scale


def next_bfloat16(scale: np.ndarray) -> np.ndarray:
    """The least bfloat16 that are not smaller than positive float32 numbers, as float32."""
    return ((scale.view(np.uint32) + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)).view(np.float32)


def _integers(weight: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The INT8 weights that `weight` is made of, times `scale` (O,), and their scale."""
    divisor = np.where(scale == 0, 1, scale).reshape(-1, *[1] * (weight.ndim - 1))
    with np.errstate(over="ignore"):
        return np.rint(weight / divisor).astype(np.int8), scale.astype(np.float32)


def _least_squares(
    rows: np.ndarray, largest: np.ndarray, per_channel: bool, bits: int
) -> tuple[np.ndarray, np.ndarray]:
    best_q, best_scale = _with_range(rows, largest, per_channel, bits)
    best = np.full(len(rows), np.inf)
    for clip in CLIPS:
        q, scale = _with_range(rows, largest * clip, per_channel, bits)
        error = ((q * scale[:, None].astype(np.float64) - rows) ** 2).sum(axis=1)
        better = error < best if per_channel else np.full(len(rows), error.sum() < best.sum())
        best_q[better], best_scale[better], best[better] = q[better], scale[better], error[better]
    return best_q, best_scale


def with_biases(graph: Graph, biases: Mapping[str, np.ndarray | list[float]]) -> Graph:
    """A quantised graph with other biases, float32 (O,) by layer name, in place of its own."""
    return graph.with_nodes(
        replace(n, bias=np.array(biases[n.name], np.float32)) if isinstance(n, Weighted) and n.name in biases else n
        for n in graph.nodes
    )


def _quantise_weighted(node: Weighted, per_channel: bool, calibrate: str, bits: int) -> Weighted:
    if node.scale is not None:
        raise HeepgenError(f"layer {node.name} is quantised already")
    if node.weight_scale is not None:
        q, scale = _integers(node.weight, node.weight_scale)
    else:
        q, scale = quantise_weight(node.weight, per_channel, calibrate, bits)
    with np.errstate(over="ignore"):
        bias = np.zeros(len(scale), np.float32) if node.bias is None else node.bias.astype(np.float32)
    _check_finite(node, scale, bias)
    return replace(node, weight=q, scale=scale, bias=bias)


def _round_scale(node: Scale) -> Scale:
    with np.errstate(over="ignore"):
        scale, bias = node.scale.astype(np.float32), node.bias.astype(np.float32)
    _check_finite(node, scale, bias)
    return replace(node, scale=scale, bias=bias)


def _check_finite(node: Node, scale: np.ndarray, bias: np.ndarray) -> None:
    if not (np.isfinite(scale).all() and np.isfinite(bias).all()):
        raise HeepgenError(
            f"layer {node.name}: a weight or bias is too large for float32 once BatchNorm is folded in; "
            "check the BatchNorm's running variance"
        )

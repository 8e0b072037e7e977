# SPDX-License-Identifier: Apache-2.0
"""Weights that an ONNX file holds as integers, which DequantizeLinear multiplies by a scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from firmware_gen.frontend.onnx.node import Node

MOVING = frozenset(("Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"))
"""Operators that move the elements of their first input, and change none."""


@dataclass(frozen=True)
class Integers:
    """A constant, codes * scale: int8, and float32 that broadcasts to it."""

    codes: np.ndarray
    scale: np.ndarray


def integers_of(node: Node, known: Mapping[str, Integers]) -> dict[str, Integers]:
    """The outputs of a `node` that was folded which are such constants; `known`: those of the nodes before it."""
    if node.op == "DequantizeLinear":
        return _dequantised(node)
    source = known.get(node.inputs[0]) if node.op in MOVING and node.inputs else None
    if source is None:
        return {}
    scale = np.broadcast_to(source.scale, source.codes.shape)
    moved = (node.fold({node.inputs[0]: array}) for array in (source.codes, scale))
    return {name: Integers(codes, _narrow(scale)) for name, codes, scale in zip(node.outputs, *moved, strict=False)}


def _dequantised(node: Node) -> dict[str, Integers]:
    """(x - zero point) * scale, whatever the axis and the blocks of scale and zero point are."""
    x, scale, *zero = node.inputs
    ones = {name: np.ones_like(node.values[name]) for name in (x, scale)}
    (codes,) = node.fold({scale: ones[scale]})
    if (
        node.values[scale].dtype != np.float32
        or not ((codes == np.rint(codes)) & (codes >= -128) & (codes < 128)).all()
    ):
        return {}
    (own,) = node.fold({x: ones[x]} | {name: np.zeros_like(node.values[name]) for name in zero})
    return {node.outputs[0]: Integers(codes.astype(np.int8), _narrow(own))}


def _narrow(scale: np.ndarray) -> np.ndarray:
    """One element of every dimension in which all are the same."""
    for axis in range(scale.ndim):
        first = scale.take([0], axis) if scale.shape[axis] else scale
        scale = first if (scale == first).all() else scale
    return scale

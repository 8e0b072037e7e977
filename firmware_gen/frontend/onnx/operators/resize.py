# SPDX-License-Identifier: Apache-2.0
"""ONNX's Resize and GridSample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from onnx import NodeProto, TensorProto, ValueInfoProto, helper
from onnx.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles
from firmware_gen.frontend.onnx.operators.shapes import taken

MODES = ("align_corners", "asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
ROUNDINGS = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda place: math.ceil(place - Fraction(1, 2)),
    "round_prefer_ceil": lambda place: math.floor(place + Fraction(1, 2)),
}
LIKELY = 1000
"""Factors in float32 are taken for fractions with a denominator up to this."""


@handles("Resize", 19, "xccc", "antialias axes cubic_coeff_a exclude_outside nearest_mode",
         mode=("nearest", "linear", "cubic"), coordinate_transformation_mode=MODES)  # fmt: skip
def _resize(node: Node) -> Function:
    """By the places of the outputs among the inputs, dimension by dimension."""
    shape, sizes, how = node.shape(), node.numbers(3), node.get("coordinate_transformation_mode")
    places = {}
    weighted = {name: node.get(name) for name in ("antialias", "exclude_outside") if node.get(name)}
    if weighted and node.get("mode") == "nearest":
        raise node.refuse(f"{' and '.join(f'{n}={v}' for n, v in weighted.items())} with mode='nearest'; leave it out")
    of_matrices = node.get("mode") == "cubic" or bool(weighted)
    for number, axis in enumerate(a % len(shape) for a in node.get("axes", range(len(shape)))):
        factor = Fraction(sizes[number], shape[axis]) if sizes else _fraction(node.constant(2)[number])
        count = sizes[number] if sizes else math.floor(shape[axis] * factor)
        if count != shape[axis] * factor and (how == "align_corners" or (how, count) == ("pytorch_half_pixel", 1)):
            raise node.refuse(f"{how} makes {count} of {shape[axis]} by a factor; runtimes differ there, give sizes")
        own = _places(how, shape[axis], count, factor)
        if own != list(range(shape[axis])):
            places[axis] = own
            of_matrices = of_matrices or (node.get("mode") == "linear" and (axis < 2 or len(shape) not in (3, 4)))
    if of_matrices:
        return _by_matrices(node)
    return _linear(node, places) if node.get("mode") == "linear" else _nearest(node, places)


def _by_matrices(node: Node) -> Function:
    """Products with constant matrices, which ONNX's evaluator makes of the unit matrix, axis by axis."""
    shape, source, matrices = node.shape(), 3 if node.has(3) else 2, {}
    for number, axis in enumerate(a % len(shape) for a in node.get("axes", range(len(shape)))):
        unit, given = np.eye(shape[axis], dtype=np.float32), node.constant(source)[number : number + 1]
        if given == (shape[axis] if source == 3 else 1):
            continue
        proto = NodeProto()
        proto.CopyFrom(node.proto)
        proto.input[:] = ["x", *[""] * (source - 1), "given"]
        del proto.output[1:]
        kept = [attribute for attribute in proto.attribute if attribute.name != "axes"]
        del proto.attribute[:]
        proto.attribute.extend([*kept, helper.make_attribute("axes", [1])])
        starts = [helper.make_tensor_value_info("x", TensorProto.FLOAT, unit.shape), ValueInfoProto(name="given")]
        graph = helper.make_graph([proto], "unit", starts, [ValueInfoProto(name=proto.output[0])])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)])
        (matrix,) = ReferenceEvaluator(model).run(None, {"x": unit, "given": given})
        matrices[axis] = torch.from_numpy(np.ascontiguousarray(matrix, np.float32))[None]

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis, matrix in matrices.items():
            x = torch.matmul(x.movedim(axis, -1), matrix).movedim(-1, axis)
        return x.clone()

    return run


def _fraction(scale: float) -> Fraction:
    return Fraction(float(scale)).limit_denominator(LIKELY)


def _places(how: str, size: int, count: int, factor: Fraction) -> list[Fraction]:
    """Where every output of an axis lies among the inputs."""
    half = Fraction(1, 2)
    middle = Fraction(size, 2) * (1 - count / (factor * size)) if how == "half_pixel_symmetric" else 0
    match how:
        case "asymmetric":
            return [o / factor for o in range(count)]
        case "align_corners":
            return [Fraction(o * (size - 1), max(count - 1, 1)) for o in range(count)]
        case "pytorch_half_pixel" if count == 1:
            return [Fraction(0)]
    return [(o + half) / factor - half + middle for o in range(count)]


def _nearest(node: Node, places: Mapping[int, Sequence[Fraction]]) -> Function:
    """Pixels that are repeated, at once, and others that are taken."""
    shape, rounded = node.shape(), ROUNDINGS[node.get("nearest_mode")]
    factors, others = [1] * len(shape), {}
    for axis, own in places.items():
        indices = [min(max(rounded(place), 0), shape[axis] - 1) for place in own]
        factor = len(indices) // shape[axis]
        if axis > 1 and len(shape) < 5 and indices == [i // factor for i in range(factor * shape[axis])]:
            factors[axis] = factor
        else:
            others[axis] = indices

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis, indices in others.items():
            x = taken(x, axis, indices)
        return F.interpolate(x, scale_factor=factors[2:], mode="nearest") if max(factors) > 1 else x.clone()

    return run


def _linear(node: Node, places: Mapping[int, Sequence[Fraction]]) -> Function:
    """PyTorch's interpolation where the places are its own; else some of those of a finer one."""
    shape = node.shape()
    inside = {axis: _inside(own, shape[axis]) for axis, own in places.items()}

    def interpolated(x: torch.Tensor, counts: Mapping[int, int], corners: bool) -> torch.Tensor:
        sizes = [counts.get(axis, size) for axis, size in enumerate(x.shape)]
        return F.interpolate(x, sizes[2:], mode="linear" if len(shape) == 3 else "bilinear", align_corners=corners)

    counts = {axis: len(own) for axis, own in inside.items()}
    for corners, how in ((False, "half_pixel"), (True, "align_corners")):
        if all(own == _inside(_places(how, shape[a], counts[a], Fraction(counts[a], shape[a])), shape[a])
               for a, own in inside.items()):  # fmt: skip
            return lambda x: interpolated(x, counts, corners) if counts else x.clone()
    parts = {axis: math.lcm(*(place.denominator for place in own)) for axis, own in inside.items()}

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis, own in inside.items():
            x = interpolated(x, {axis: (shape[axis] - 1) * parts[axis] + 1}, True)
            x = taken(x, axis, [int(place * parts[axis]) for place in own])
        return x

    return run


def _inside(places: Sequence[Fraction], size: int) -> list[Fraction]:
    """Places beyond the ends are at them."""
    return [min(max(place, Fraction(0)), Fraction(size - 1)) for place in places]


SAMPLING = {name: name for name in ("bilinear", "nearest", "bicubic")} | {"linear": "bilinear", "cubic": "bicubic"}
"""PyTorch's names, by those of all versions."""


@handles("GridSample", 22, "xw", "align_corners",
         mode=tuple(SAMPLING), padding_mode=("zeros", "border", "reflection"))  # fmt: skip
def _grid_sample(node: Node) -> Function:
    if len(node.shape()) != 4:
        raise node.refuse(f"its input has shape {node.shape()}; two dimensions of space are supported")
    mode, padding, aligned = SAMPLING[node.get("mode")], node.get("padding_mode"), bool(node.get("align_corners"))
    return lambda x, grid: F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=aligned)

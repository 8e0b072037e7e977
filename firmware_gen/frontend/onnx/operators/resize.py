# SPDX-License-Identifier: Apache-2.0
"""ONNX's Resize."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles


@handles("Resize", 19, "xccc", "axes coordinate_transformation_mode nearest_mode", mode=("nearest", "linear"))
def _resize(node: Node) -> Function:
    sizes = node.numbers(3)
    axes = [a % len(node.shape()) for a in node.get("axes", range(len(node.shape())))]
    factors = [1.0] * len(node.shape())
    for place, axis in enumerate(axes):
        factors[axis] = sizes[place] / node.shape()[axis] if sizes else float(node.constant(2)[place])
    return _linear(node, factors) if node.get("mode") == "linear" else _nearest(node, factors)


def _linear(node: Node, factors: list[float]) -> Function:
    how, corners = node.get("coordinate_transformation_mode"), False
    if len(factors) not in (3, 4) or factors[:2] != [1, 1] or any(f != int(f) or f < 1 for f in factors):
        raise node.refuse(f"it scales by {factors}; integer factors of height and width are supported")
    if how == "align_corners":
        corners = True
    elif how not in HALF_PIXEL:
        raise node.refuse(f"coordinate_transformation_mode={how!r} is not supported, but 'half_pixel' is")
    mode = "linear" if len(factors) == 3 else "bilinear"
    return lambda x: F.interpolate(x, scale_factor=factors[2:], mode=mode, align_corners=corners)


def _nearest(node: Node, factors: list[float]) -> Function:
    """Pixels that are repeated, and pixels at equal distances that are kept."""
    how, rounding = node.get("coordinate_transformation_mode"), node.get("nearest_mode")
    repeats, kept = [1.0] * len(factors), {}
    for axis, (size, factor) in enumerate(zip(node.shape(), factors, strict=True)):
        places = _places(how, rounding, size, factor)
        if places is None:
            raise node.refuse(f"coordinate_transformation_mode={how!r} is not supported, but 'half_pixel' is")
        steps = set(np.diff(places).tolist()) or {1}
        if factor == int(factor) and (places == np.arange(len(places)) // int(factor)).all():
            repeats[axis] = int(factor)
        elif len(steps) == 1 and min(steps) > 0:
            kept[axis] = (int(places[0]), int(places[-1]) + 1, steps.pop())
        else:
            raise node.refuse(
                f"with coordinate_transformation_mode={how!r} and nearest_mode={rounding!r} it neither repeats every "
                f"pixel of {size} as often, nor keeps some at equal distances; 'asymmetric' with 'floor' and integer "
                "factors does, and is supported"
            )
    if repeats[:2] != [1, 1]:
        raise node.refuse(f"it enlarges by {factors}; integer factors of height and width are supported")

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis, (first, last, step) in kept.items():
            x = torch.ops.aten.slice(x, axis, first, last, step)
        return F.interpolate(x, scale_factor=repeats[2:], mode="nearest")

    return run


HALF_PIXEL = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
"""The same where sizes grow by integer factors."""


def _places(how: str, rounding: str, size: int, factor: float) -> np.ndarray | None:
    """The input's element that every output is."""
    count = int(size * factor)
    out = np.arange(count)
    half = (out + 0.5) / factor - 0.5
    symmetric = half + size / 2 * (1 - count / (factor * size))
    places = {
        "half_pixel": half, "half_pixel_symmetric": symmetric, "pytorch_half_pixel": half if count > 1 else out * 0.0,
        "asymmetric": out / factor, "align_corners": out * (size - 1) / max(count - 1, 1),
    }.get(how)  # fmt: skip
    if places is None:
        return None
    rounded = {"floor": np.floor(places), "ceil": np.ceil(places), "round_prefer_floor": np.ceil(places - 0.5),
               "round_prefer_ceil": np.floor(places + 0.5)}[rounding]  # fmt: skip
    clipped: np.ndarray = np.clip(rounded, 0, size - 1).astype(int)
    return clipped

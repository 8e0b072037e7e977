# SPDX-License-Identifier: Apache-2.0
"""ONNX's Resize."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles


@handles("Resize", 19, "xccc", "axes coordinate_transformation_mode nearest_mode", mode=("nearest",))
def _resize(node: Node) -> Function:
    shape, sizes = node.shape(), node.numbers(3)
    axes = [a % len(shape) for a in node.get("axes", range(len(shape)))]
    factors = [1.0] * len(shape)
    for place, axis in enumerate(axes):
        factors[axis] = sizes[place] / shape[axis] if sizes else float(node.constant(2)[place])
    if factors[:2] != [1, 1] or any(f != int(f) or f < 1 for f in factors):
        raise node.refuse(f"it enlarges by {factors}; integer factors of height and width are supported")
    how, rounding = node.get("coordinate_transformation_mode"), node.get("nearest_mode")
    if not all(_repeats(how, rounding, n, int(f)) for n, f in zip(shape, factors, strict=True)):
        raise node.refuse(
            f"coordinate_transformation_mode={how!r} with nearest_mode={rounding!r} does not repeat "
            "every pixel; 'asymmetric' with 'floor' does, and is supported"
        )
    return lambda x: F.interpolate(x, scale_factor=factors[2:], mode="nearest")


def _repeats(how: str, rounding: str, size: int, factor: int) -> bool:
    """Whether output i is input i // factor."""
    out = np.arange(size * factor)
    half = (out + 0.5) / factor - 0.5
    places = {
        "half_pixel": half, "half_pixel_symmetric": half, "pytorch_half_pixel": half if len(out) > 1 else out * 0.0,
        "asymmetric": out / factor, "align_corners": out * (size - 1) / max(len(out) - 1, 1),
    }.get(how)  # fmt: skip
    if places is None:
        return False
    rounded = {"floor": np.floor(places), "ceil": np.ceil(places), "round_prefer_floor": np.ceil(places - 0.5),
               "round_prefer_ceil": np.floor(places + 0.5)}[rounding]  # fmt: skip
    return bool((np.clip(rounded, 0, size - 1) == out // factor).all())

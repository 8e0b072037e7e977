# SPDX-License-Identifier: Apache-2.0
"""ONNX's operators as functions of PyTorch, in one table that these modules fill."""

from firmware_gen.frontend.onnx.operators import (
    activations,
    arithmetic,
    attention,
    functions,
    layers,
    normalisation,
    pooling,
    recurrent,
    resize,
    shapes,
)
from firmware_gen.frontend.onnx.operators.registry import FOLDABLE, HANDLERS, OF_SHAPE, Function, Handler

__all__ = [
    "FOLDABLE",
    "HANDLERS",
    "OF_SHAPE",
    "Function",
    "Handler",
    "activations",
    "arithmetic",
    "attention",
    "functions",
    "layers",
    "normalisation",
    "pooling",
    "recurrent",
    "resize",
    "shapes",
]

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
from firmware_gen.frontend.onnx.operators.registry import HANDLERS, OF_SHAPE, RANDOM, Function, Handler

__all__ = [
    "HANDLERS",
    "OF_SHAPE",
    "RANDOM",
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

# SPDX-License-Identifier: Apache-2.0
"""ATen operators as IR nodes, in one table that these modules fill."""

from firmware_gen.frontend.aten import (
    activations,
    arithmetic,
    attention,
    functions,
    layers,
    norms,
    pooling,
    recurrent,
    reductions,
    selection,
    shapes,
)
from firmware_gen.frontend.aten.registry import HANDLERS, HARMLESS, MOVING_OPERATORS, OF_SHAPE, READS, is_function

__all__ = [
    "HANDLERS",
    "HARMLESS",
    "MOVING_OPERATORS",
    "OF_SHAPE",
    "READS",
    "activations",
    "arithmetic",
    "attention",
    "functions",
    "is_function",
    "layers",
    "norms",
    "pooling",
    "recurrent",
    "reductions",
    "selection",
    "shapes",
]

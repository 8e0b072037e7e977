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
from firmware_gen.frontend.aten.registry import CONSTANT_OPERATORS, HANDLERS, HARMLESS, READS

__all__ = [
    "CONSTANT_OPERATORS",
    "HANDLERS",
    "HARMLESS",
    "READS",
    "activations",
    "arithmetic",
    "attention",
    "functions",
    "layers",
    "norms",
    "pooling",
    "recurrent",
    "reductions",
    "selection",
    "shapes",
]

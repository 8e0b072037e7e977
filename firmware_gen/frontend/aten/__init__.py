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
from firmware_gen.frontend.aten.registry import CREATING, HANDLERS, HARMLESS, OF_SHAPE, PREPARING, READS, is_function

KNOWN = frozenset(HANDLERS) | OF_SHAPE | CREATING | PREPARING
"""Operators that the import looks at by themselves."""

__all__ = [
    "HANDLERS",
    "HARMLESS",
    "KNOWN",
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

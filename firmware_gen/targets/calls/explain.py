# SPDX-License-Identifier: Apache-2.0
"""What runs where in a network of calls, and why."""

import math

from firmware_gen import ir
from firmware_gen.operations.placement import ARRAY, CPU, MEMORY
from firmware_gen.operations.tensors import shares_storage


def place_of(node: ir.Node, graph: ir.Graph) -> tuple[str, str]:
    """Where a node runs beside an accelerator that multiplies matrices."""
    where, why = place_on_cpu(node, graph)
    if isinstance(node, ir.Linear):
        rows = math.prod(graph.in_shape(node)[:-1])
        return ARRAY, f"product of {rows} x {node.in_features} and {node.in_features} x {node.out_features}"
    if isinstance(node, ir.Conv) and not node.is_depthwise:
        return ARRAY, "a product for every group of channels, whose rows are what the windows see"
    return where, why


def place_on_cpu(node: ir.Node, graph: ir.Graph) -> tuple[str, str]:
    """Where a node runs without an accelerator."""
    if isinstance(node, ir.OnCpu):
        return CPU, node.why
    if shares_storage(graph, node):
        return MEMORY, "its input, seen with another shape"
    return CPU, "a plain kernel"

# SPDX-License-Identifier: Apache-2.0
"""What a comparison with exact arithmetic allows for besides rounding."""

from firmware_gen import ir
from hls.arithmetic.function_tables import ERROR


def of_tables(graph: ir.Graph) -> float:
    """What the tables of a graph's functions may add to the error of an output, in units of the largest value (at least
    1), where no layer makes more of it: ERROR for each."""
    return ERROR * sum(isinstance(node, ir.Activated) and bool(node.act.function) for node in graph.nodes)

# SPDX-License-Identifier: Apache-2.0
"""Comparisons that are no part of a function: 0 and 1 of a difference, by factors and clamps."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from firmware_gen.ir import ELEMENTARY, FINITE, Activate, Activation, Graph, Mul, Node, Scale, Value
from firmware_gen.ir.functions import COMPARISONS
from firmware_gen.refusal import refusal

STEP = 2.0**64
"""A factor under which no difference of numbers around 1 stays below 1; two make 1 of every normal number."""
CLAMP = Activation(low=0.0, high=1.0)


def compute_comparisons(graph: Graph) -> Graph:
    """Compute x > c as clamp(STEP * clamp(STEP * (x - c), 0, 1), 0, 1), x < c likewise, and x >= c as 1 - (x < c). NaN
    stays NaN.

    Raises HeepgenError where it chooses what may be infinite, which times 0 is NaN.
    """
    _check_choices(graph)
    nodes: list[Node] = []
    values: list[Value] = []
    for node in graph.nodes:
        if not isinstance(node, Activate) or not node.act.function or not _is_comparison(node):
            nodes.append(node)
            continue
        steps = list(_steps(graph, node, node.act.function.name, *node.act.function.parameters))
        values += [Value(step.output, graph.out_shape(node)) for step in steps[:-1]]
        nodes += steps
    return graph.with_nodes(nodes, values=values)


def _steps(graph: Graph, node: Activate, name: str, bound: float) -> Iterator[Node]:
    """A factor and a clamp, twice. The first factor allows for large bounds."""
    shape = graph.out_shape(node)
    channels = shape[min(1, len(shape) - 1)]
    sign = 1 if name in ("gt", "le") else -1
    first = sign * STEP / 2.0 ** max(math.frexp(bound)[1], 0)
    second, opposite = (STEP, 0.0) if name in ("gt", "lt") else (-STEP, 1.0)
    source = node.inputs[0]
    for part, scale, bias in (("difference", first, -bound * first), ("unit", second, opposite)):
        value, scales, biases = f"{node.output}.{part}", np.full(channels, scale), np.full(channels, bias)
        yield Scale(name=f"{node.name}.{part}", inputs=(source,), output=value, scale=scales, bias=biases)
        source = node.output if part == "unit" else f"{value}.clamped"
        own = node.name if part == "unit" else f"{node.name}.{part}.clamp"
        yield Activate(name=own, inputs=(value,), output=source, act=CLAMP)


def _check_choices(graph: Graph) -> None:
    """Raises HeepgenError for a product of 0 and 1 with what may be infinite."""
    truths = set(graph.constants)
    for node in graph.nodes:
        known = [value in truths for value in node.inputs]
        if _is_comparison(node) or (node.keeps_truths and all(known)):
            truths.add(node.output)
        elif isinstance(node, Mul) and any(v in truths - graph.constants.keys() for v in node.inputs):
            if (function := _infinite(graph, node.inputs[known.index(False)])) is not None:
                why = f"it may choose infinity, which {function} gives; clamp what that is computed from"
                raise refusal(node.name, "where", why)


def _is_comparison(node: Node) -> bool:
    return isinstance(node, Activate) and node.act.function is not None and node.act.function.name in COMPARISONS


def _is_bounded(graph: Graph, node: Node) -> bool:
    """Whether a function of 1 / x is of what is clamped above 0."""
    clamp = graph.producer(node.inputs[0])
    inverts = isinstance(node, Activate) and node.act.function and node.act.function.name in ("reciprocal", "rsqrt")
    return bool(inverts) and isinstance(clamp, Activate) and clamp.act.low > 0


def _infinite(graph: Graph, value: str) -> str | None:
    """A function without a table that a value is computed from, element by element."""
    node = graph.producer(value)
    if node is None or _is_comparison(node):
        return None
    if isinstance(node, Activate) and node.act.function and node.act.function.name in ELEMENTARY.keys() - set(FINITE):
        return None if _is_bounded(graph, node) else node.act.function.name
    if node.of_single_elements or not node.computes:
        return next((found for v in node.inputs if (found := _infinite(graph, v))), None)
    return None

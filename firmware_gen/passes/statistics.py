# SPDX-License-Identifier: Apache-2.0
"""Softmax and norms of many rows on the array, which leaves one number of every row to the CPU.

    softmax     z = max(x) - x,  e = exp(-z),  y = e * (1 / sum(e)), or, its logarithm, -z - log(sum(e))
    norm        c = x - mean(x),  y = c / sqrt(mean(c * c) + eps)

A row's maximum is a pooling, its sum a product with ones; the CPU computes reciprocals, roots and logarithms of sums.
Both need the function unit, for exp(-z), or the multiplying operand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from firmware_gen.ir import (
    IDENTITY,
    TO_CHANNELS_FIRST,
    TO_CHANNELS_LAST,
    Activate,
    Activation,
    Add,
    AsStrided,
    Elementary,
    Function,
    Graph,
    Linear,
    Mul,
    Node,
    Normalise,
    Permute,
    Pool,
    Reshape,
    Scale,
    Shape,
    Softmax,
    Value,
    row_major,
)
from firmware_gen.ir.costs import costs
from firmware_gen.passes.edits.rewrite import in_pytorch_order

AWAY, ROW, ELEMENT = 900, 60, 6
"""Cycles that this takes at most on 8x8 with two ports: passes of the array and the CPU between them, and what rows and
elements add, rounded up."""
LOGARITHM = 250, 70, 3
"""What a logarithm adds to each of them."""
LONGEST = 512
"""Numbers that one product with ones sums: longer rows take several, so that ones take little memory."""
DECAY = Activation(function=Function("decay"))


def split_statistics(graph: Graph) -> Graph:
    """Give every Softmax and Normalise that this makes faster a pass of the array for each of its steps."""
    nodes: list[Node] = []
    values: list[Value] = []
    for node in graph.nodes:
        steps = _steps(graph, node)
        nodes += steps.nodes if steps else [node]
        values += steps.values if steps else []
    return graph.with_nodes(nodes, values=values)


def _steps(graph: Graph, node: Node) -> _Steps | None:
    size = math.prod(graph.out_shape(node))
    match node:
        case Softmax():
            count = graph.out_shape(node)[node.axis]
            kernel = node.called
            pays = _pays(size // count, size, kernel, node.log) and not _logarithm_follows(graph, node)
            return _softmax(graph, node, count) if pays else None
        case Normalise():
            return _norm(graph, node) if _pays(size // node.count, size, node.kernel) and _sums(node.count) else None
    return None


def _pays(rows: int, size: int, kernel: str, logarithm: bool = False) -> bool:
    """Whether the CPU's own kernel takes longer."""
    more = LOGARITHM if logarithm else (0, 0, 0)
    away, row, element = (own + extra for own, extra in zip((AWAY, ROW, ELEMENT), more, strict=True))
    return rows * costs()[kernel, "row"] + size * costs()[kernel, "element"] > away + rows * row + size * element


def _logarithm_follows(graph: Graph, node: Node) -> bool:
    """A probability's logarithm has the error of the smallest ones, which exp(-z) has in full."""
    return any(isinstance(n, Elementary) and n.function.name == "log" for n in graph.consumers(node.output))


def _sums(count: int) -> tuple[int, ...]:
    """Numbers that are summed at a time, whose product is `count`; none where it has too large a factor."""
    if count <= LONGEST:
        return (count,)
    largest = next(d for d in range(LONGEST, 0, -1) if count % d == 0)
    rest = _sums(count // largest) if largest > 1 else ()
    return (largest, *rest) if rest else ()


@dataclass
class _Steps:
    """New nodes that compute what `node` does."""

    node: Node
    nodes: list[Node] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    def add(self, part: str, operator: type[Node], *inputs: str, shape: Shape, **fields: Any) -> str:
        value = Value(f"{self.node.output}.{part}", shape)
        self.values.append(value)
        self.nodes.append(operator(name=f"{self.node.name}.{part}", inputs=inputs, output=value.name, **fields))
        return value.name

    def total(self, part: str, value: str, rows: int, count: int, factor: float, bias: float | None = None) -> str:
        """factor * the sum of every row + bias, (rows, 1)."""
        parts = _sums(count)
        for number, size in enumerate(parts):
            last = number == len(parts) - 1
            rest = math.prod(parts[number + 1 :])
            scale = np.array([factor if last else 1.0])
            name = part if last else f"{part}.{number}"
            if len(parts) > 1:
                value = self.add(f"{name}.rows", Reshape, value, shape=(rows * rest, size))
            fields = {"bias": np.array([bias])} if last and bias is not None else {}
            weight = np.full((1, size), scale[0])
            value = self.add(name, Linear, value, shape=(rows * rest, 1), weight=weight, weight_scale=scale, **fields)
        return value

    def result(self, shape: Shape, value: str, operator: type[Node] = Reshape, **fields: Any) -> _Steps:
        self.nodes.append(operator(name=self.node.name, inputs=(value,), output=self.node.output, **fields))
        return self


def _softmax(graph: Graph, node: Softmax, count: int) -> _Steps | None:
    if not _sums(count) or (node.axis == 1 and in_pytorch_order(graph, node.inputs[0])):
        return None  # the channels of what lies in PyTorch's order are no rows
    steps, shape = _Steps(node), graph.out_shape(node)
    size = math.prod(shape)
    rows = size // count
    x = node.inputs[0]
    if node.axis == 1:
        batch, _, height, width = shape
        x = steps.add("last", Permute, x, shape=(batch, height, width, count), dims=TO_CHANNELS_LAST)
    x = steps.add("rows", AsStrided, x, shape=(rows, count), strides=row_major((rows, count)))
    row = {"kernel": (1, count), "stride": (1, count)}
    largest = steps.add("map", Reshape, x, shape=(1, 1, rows, count))
    largest = steps.add("max", Pool, largest, shape=(1, 1, rows, 1), kind="max", **row)
    largest = steps.add("largest", Reshape, largest, shape=(rows, 1))
    negative = {"scale": np.full(count, -1.0), "bias": np.zeros(count), "residual": "before_act", "act": DECAY}
    if node.log:
        below = steps.add("below", Scale, x, largest, shape=(rows, count), **negative | {"act": IDENTITY})
        power = steps.add("exp", Activate, below, shape=(rows, count), act=DECAY)
        total = steps.total("sum", power, rows, count, 1.0)
        factor = steps.add("log", Elementary, total, shape=(rows, 1), function=Function("log"))
        sign = {"scale": np.array([-1.0]), "bias": np.zeros(1)}
        factor = steps.add("negative", Scale, factor, shape=(rows, 1), **sign)
        y = steps.add("difference", Scale, below, factor, shape=(rows, count), **negative | {"act": IDENTITY})
    else:
        power = steps.add("exp", Scale, x, largest, shape=(rows, count), **negative)
        total = steps.total("sum", power, rows, count, 1.0)
        factor = steps.add("reciprocal", Elementary, total, shape=(rows, 1), function=Function("reciprocal"))
        y = steps.add("product", Mul, power, factor, shape=(rows, count))
    if node.axis == 1:
        y = steps.add("maps", Reshape, y, shape=(batch, height, width, count))
        return steps.result(shape, y, Permute, dims=TO_CHANNELS_FIRST)
    return steps.result(shape, y)


def _norm(graph: Graph, node: Normalise) -> _Steps:
    steps, shape, count = _Steps(node), graph.out_shape(node), node.count
    rows = math.prod(shape) // count
    x = steps.add("rows", AsStrided, node.inputs[0], shape=(rows, count), strides=row_major((rows, count)))
    if node.centred:
        mean = steps.total("mean", x, rows, count, -1 / count)
        x = steps.add("centred", Add, x, mean, shape=(rows, count))
    square = steps.add("square", Mul, x, x, shape=(rows, count))
    variance = steps.total("variance", square, rows, count, 1 / count, node.eps)
    factor = steps.add("rsqrt", Elementary, variance, shape=(rows, 1), function=Function("rsqrt"))
    y = steps.add("product", Mul, x, factor, shape=(rows, count))
    return steps.result(shape, y)

# SPDX-License-Identifier: Apache-2.0
"""Products of two computed matrices on the array, by two INT8 planes of the second one, which the CPU makes."""

import math
from dataclasses import replace

from firmware_gen.ir import Graph, InPlanes, MatMul, Node, PlaneProduct, Planes, Tiles, Value
from firmware_gen.ir.costs import LIST, costs

MULTIPLY = 2.3
"""Cycles of the CPU for a multiply-accumulate, about those of a step of 4x4 with its share of the loops around it."""
PASSES, INPUT, OUTPUT = 200, 1.1, 3.2
"""Cycles of the array on 8x8 with two ports: of the three passes over every matrix, and what an element of the first
operand and of the output adds. Measured on 14 products."""


def split_matmuls(graph: Graph, tiles: Tiles, deepest: int) -> Graph:
    """Give every MatMul that this makes faster to the array. deepest: columns of a first matrix that it can take."""
    nodes: list[Node] = []
    values: list[Value] = []
    for node in graph.nodes:
        if isinstance(node, MatMul) and _fits(graph, node, deepest) and _pays(planes := _planes(node, tiles)):
            inputs = (*node.inputs, planes.output)
            nodes.append(planes)
            nodes.append(PlaneProduct(name=node.name, inputs=inputs, output=node.output, product=node, tiles=tiles))
            values.append(Value(planes.output, (_words(node, tiles),)))
        else:
            nodes.append(node)
    return graph.with_nodes(nodes, values=values)


def retiled(graph: Graph, tiles: Tiles) -> Graph:
    """The same for another array."""
    own = [node for node in graph.nodes if isinstance(node, InPlanes)]
    if all(node.tiles == tiles for node in own):
        return graph
    values = [Value(n.output, (_words(n.product, tiles),)) for n in own if isinstance(n, Planes)]
    nodes = [replace(node, tiles=tiles) if isinstance(node, InPlanes) else node for node in graph.nodes]
    return graph.with_nodes(nodes, values=values)


def _planes(node: MatMul, tiles: Tiles) -> Planes:
    name, output = f"{node.name}.planes", f"{node.output}.planes"
    return Planes(name=name, inputs=node.inputs[1:], output=output, product=node, tiles=tiles)


def _words(node: MatMul, tiles: Tiles) -> int:
    outer, inner, _, depth, columns = node.sizes
    return outer * inner * tiles.words(depth, columns)


def _fits(graph: Graph, node: MatMul, deepest: int) -> bool:
    """Whether the array reads the first matrix row by row, and the second one is computed."""
    *_, depth, columns = node.sizes
    computed = node.inputs[1] not in graph.constants
    return computed and (node.a.steps[3] == 1 or depth == 1) and max(depth, columns) <= deepest


def _pays(planes: Planes) -> bool:
    product = planes.product
    outer, inner, rows, depth, columns = product.sizes
    matrices = outer * inner
    cpu = MULTIPLY * math.prod(product.sizes)
    away = LIST + sum(costs()[Planes.kernel, loop] * count for loop, count in planes.iterations.items())
    array = matrices * (PASSES + rows * (INPUT * depth + OUTPUT * columns))
    return cpu > away + array

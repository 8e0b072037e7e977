# SPDX-License-Identifier: Apache-2.0
"""Maps with their rows and columns exchanged, where that lets layers take turns that could not otherwise.

What a convolution of sections of the rows computes, and a mean over all of them, needs all rows at once. With rows as
columns it needs one row, so that these layers work row by row on what little the scratchpad holds.
"""

from dataclasses import replace
from functools import singledispatch
from typing import TypeGuard

import numpy as np

from firmware_gen.ir import (
    IDENTITY,
    Activate,
    Add,
    Apply,
    AsStrided,
    Combined,
    Concat,
    Conv,
    Elementary,
    Graph,
    Linear,
    Node,
    Pad,
    Pads,
    Pair,
    Pool,
    Reshape,
    Scale,
    Shape,
    Upsample,
    Value,
)
from firmware_gen.passes.edits.draft import Draft, edited
from firmware_gen.passes.edits.rewrite import free_name


def turn_maps(graph: Graph) -> Graph:
    """A network with convolutions of sections of rows, all of whose layers can be turned, with rows as columns.
    Convolutions whose mean over all columns comes back to them are computed twice, which costs less than keeping what
    they compute."""
    sectioned = any(isinstance(node, Conv) and node.sections[0] > 1 for node in graph.nodes)
    if not sectioned or graph.state or graph.channels_last or not _may_turn(graph):
        return graph
    return edited(_repeated(_turned(graph)), _sum_first)


def _may_turn(graph: Graph) -> bool:
    inner = all(_is_vector(graph.shape(value)) for value in graph.outputs)
    return inner and all(
        _turned_node.dispatch(type(n)) is not _turned_node.dispatch(Node) and _fits(graph, n) for n in graph.nodes
    )


def _is_vector(shape: Shape) -> bool:
    return len(shape) != 4 or shape[2:] == (1, 1)


def _fits(graph: Graph, node: Node) -> bool:
    """Whether a node that works on vectors sees none but such."""
    if not isinstance(node, Reshape | Linear):
        return len(graph.out_shape(node)) in (2, 4)
    return _is_vector(graph.in_shape(node)) and _is_vector(graph.out_shape(node))


def _turned(graph: Graph) -> Graph:
    shapes = [Value(value.name, _exchanged(value.shape)) for value in graph.values.values()]
    nodes: list[Node] = []
    inputs: dict[str, str] = {}
    for value in graph.inputs:
        shape = graph.shape(value)
        if not _is_vector(shape):
            name = free_name(graph, f"{value}.turned")
            _, channels, height, width = shape
            strides = (channels * height * width, height * width, 1, width)
            kept = tuple(s * (n > 1) for s, n in zip(strides, _exchanged(shape), strict=True))
            nodes.append(AsStrided(name=name, inputs=(value,), output=name, strides=kept))
            shapes = [v for v in shapes if v.name != value] + [Value(name, _exchanged(shape)), graph.values[value]]
            inputs[value] = name
    for node in graph.nodes:
        turned = _turned_node(node)
        nodes.append(replace(turned, inputs=tuple(inputs.get(v, v) for v in node.inputs)))
    constants = {name: np.swapaxes(a, 2, 3) if a.ndim == 4 else a for name, a in graph.constants.items()}
    return graph.with_nodes(nodes, values=shapes, constants=constants)


def _exchanged(shape: Shape) -> Shape:
    return (*shape[:2], shape[3], shape[2]) if len(shape) == 4 else shape


@singledispatch
def _turned_node(node: Node) -> Node:
    raise NotImplementedError


@_turned_node.register
def _(node: Activate | Apply | Combined | Elementary | Linear | Reshape | Scale) -> Node:
    return node


@_turned_node.register
def _(node: Conv) -> Node:
    return replace(
        node,
        weight=np.ascontiguousarray(np.swapaxes(node.weight, 2, 3)),
        stride=_pair(node.stride),
        pads=_pads(node.pads),
        dilation=_pair(node.dilation),
        input_dilation=_pair(node.input_dilation),
        sections=_pair(node.sections),
    )


@_turned_node.register
def _(node: Pool) -> Node:
    return replace(
        node, kernel=_pair(node.kernel), stride=_pair(node.stride), pads=_pads(node.pads), dilation=_pair(node.dilation)
    )


@_turned_node.register
def _(node: Pad) -> Node:
    return replace(node, pads=_pads(node.pads))


@_turned_node.register
def _(node: Upsample) -> Node:
    return replace(node, factor=_pair(node.factor))


@_turned_node.register
def _(node: Concat) -> Node:
    return replace(node, axis={2: 3, 3: 2}.get(node.axis, node.axis))


def _pair(pair: Pair) -> Pair:
    return pair[1], pair[0]


def _pads(pads: Pads) -> Pads:
    top, left, bottom, right = pads
    return left, top, right, bottom


def _repeated(graph: Graph) -> Graph:
    """Convolutions of sections that a mean over all columns reads, and a sum of three, computed once for each."""
    nodes = list(graph.nodes)
    values = []
    for node in graph.nodes:
        readers = graph.consumers(node.output)
        if not _is_one_column(node) or len(readers) != 2 or node.output in graph.outputs:
            continue
        pools = [reader for reader in readers if _is_mean(graph, reader)]
        sums = [reader for reader in readers if isinstance(reader, Add)]
        if len(pools) == len(sums) == 1 and isinstance(graph.read_once_by(sums[0].output), Add):
            name = free_name(graph, f"{node.name}.again")
            again = replace(node, name=name, output=f"{node.output}.again")
            values.append(Value(again.output, graph.out_shape(node)))
            late = replace(sums[0], inputs=tuple(again.output if v == node.output else v for v in sums[0].inputs))
            nodes = [m for n in nodes for m in ((again, late) if n is sums[0] else (n,))]
    return graph.with_nodes(nodes, values=values)


def _is_one_column(node: Node) -> TypeGuard[Conv]:
    """Whether a row of a convolution of sections may be one column with the channels of all, which needs no part of its
    input twice."""
    return isinstance(node, Conv) and node.sections[1] > 1 and node.is_depthwise and node.stride[1] == 1


def _is_mean(graph: Graph, node: Node) -> bool:
    return isinstance(node, Pool) and node.kind == "avg" and node.kernel == (1, graph.in_shape(node)[3])


def _sum_first(graph: Draft, node: Node) -> bool:
    """x + (y + t), where y is a convolution's and t the same for all columns, as (y + x) + t: the convolution adds x,
    and what remains has one operand for each row."""
    for value in node.inputs if isinstance(node, Add) else ():
        inner, other = graph.producer(value), next((v for v in node.inputs if v != value), value)
        if not isinstance(inner, Add) or inner.act != IDENTITY or graph.read_once_by(value) is not node:
            continue
        for own, rest in (inner.inputs, inner.inputs[::-1]):
            conv = graph.producer(own)
            if not conv or not _is_one_column(conv) or graph.read_once_by(own) is not inner:
                continue
            if graph.shape(rest) != graph.shape(own) == graph.shape(other) and conv.residual == "none":
                first = replace(conv, inputs=(*conv.inputs, other), output=value, residual="before_act")
                graph.edit({conv: (), inner: (first,), node: (replace(node, inputs=(value, rest)),)})
                return True
    return False

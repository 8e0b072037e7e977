# SPDX-License-Identifier: Apache-2.0
"""The edits that passes are made of."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, count

from firmware_gen.ir import AnyGraph, Graph, Layout, Node, Reshape, Value


def substitute(graph: Graph, new: Mapping[Node, Node], values: Iterable[Value] = ()) -> Graph:
    """Replace nodes by others that write the same values."""
    return graph.with_nodes([new.get(n, n) for n in graph.nodes], values=values)


def free_name(graph: AnyGraph, stem: str) -> str:
    """`stem`, with a number behind it where a node is called so."""
    numbered = (f"{stem}_{number}" for number in count(1))
    return next(name for name in chain((stem,), numbered) if name not in graph.names)


def is_reshaped_input(graph: AnyGraph, value: str) -> bool:
    """Whether a value is the graph's input, or that reshaped: in memory in PyTorch's order."""
    while isinstance(producer := graph.producer(value), Reshape):
        value = producer.inputs[0]
    return producer is None and value not in graph.channels_last


def in_pytorch_order(graph: AnyGraph, value: str) -> bool:
    """Whether a value lies in memory in PyTorch's order: the graph's input, vectors that are no flattened map, a
    Permute to channels last, and what is computed from them element by element; also reshaped."""
    while (producer := graph.producer(value)) is not None:
        if producer.reads_in_order:
            return True
        match producer.layout(shape := graph.shape(value)):
            case Layout.PYTORCH:
                return True
            case Layout.MAPS:
                return len(shape) != 4
        value = producer.inputs[0]
    return value not in graph.channels_last


def is_reshaped_output(graph: AnyGraph, value: str) -> bool:
    """Whether nothing but the graph's outputs reads a value, directly or through reshapes."""
    readers = graph.consumers(value)
    if not all(isinstance(r, Reshape) and is_reshaped_output(graph, r.output) for r in readers):
        return False
    return bool(readers) or value in graph.ordered_outputs


def renamed(node: Node, rename: Mapping[str, str]) -> Node:
    """The node with other names of the values that it reads."""
    if not rename.keys() & set(node.inputs):
        return node
    return replace(node, inputs=tuple(rename.get(v, v) for v in node.inputs))

# SPDX-License-Identifier: Apache-2.0
"""The edits that passes are made of."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

from firmware_gen.ir import Graph, Layout, Node, Reshape, Value


def repeated(one_change: Callable[[Graph], Graph]) -> Callable[[Graph], Graph]:
    """The pass that makes a change, which returns the graph that it got where there is nothing to do, until there is
    not. Networks may have thousands."""

    @wraps(one_change)
    def all_changes(graph: Graph) -> Graph:
        while (changed := one_change(graph)) is not graph:
            graph = changed
        return graph

    return all_changes


def bypass(graph: Graph, node: Node) -> Graph:
    """Remove a one-input node: its readers, and the graph's outputs, take its input instead."""
    source = node.inputs[0]
    rename = {node.output: source}
    nodes = [renamed(n, rename) for n in graph.nodes if n is not node]
    return graph.with_nodes(nodes, outputs=tuple(rename.get(v, v) for v in graph.outputs))


def absorb(graph: Graph, producer: Node, reader: Node, **fields: Any) -> Graph:
    """Merge `reader` into `producer`, whose output only it reads: `producer` gets `fields`, and writes the
    reader's output. It moves to the reader's place when `fields` give it more inputs."""
    merged = replace(producer, output=reader.output, **fields)
    place, gone = (reader, producer) if "inputs" in fields else (producer, reader)
    return graph.with_nodes(merged if n is place else n for n in graph.nodes if n is not gone)


def substitute(graph: Graph, new: Mapping[Node, Node], values: Iterable[Value] = ()) -> Graph:
    """Replace nodes by others that write the same values."""
    return graph.with_nodes([new.get(n, n) for n in graph.nodes], values=values)


def hoist(graph: Graph, above: Node, node: Node) -> Graph:
    """above -> node becomes node -> above, for a `node` that works on elements in any order and is the only
    reader of `above`, which has one input."""
    middle = replace(graph.values[above.output], shape=graph.in_shape(above))
    early = replace(node, inputs=above.inputs, output=above.output)
    late = replace(above, inputs=(above.output,), output=node.output)
    return substitute(graph, {above: early, node: late}, values=[middle])


def free_name(graph: Graph, stem: str) -> str:
    """`stem`, with a number behind it where a node is called so."""
    taken = {node.name for node in graph.nodes}
    numbered = (f"{stem}_{number}" for number in range(1, len(taken) + 2))
    return next(name for name in (stem, *numbered) if name not in taken)


def is_reshaped_input(graph: Graph, value: str) -> bool:
    """Whether a value is the graph's input, or that reshaped: in memory in PyTorch's order."""
    while isinstance(producer := graph.producer(value), Reshape):
        value = producer.inputs[0]
    return producer is None and value not in graph.channels_last


def in_pytorch_order(graph: Graph, value: str) -> bool:
    """Whether a value lies in memory in PyTorch's order: the graph's input, vectors that are no flattened map, a
    Permute to channels last, and what is computed from them element by element; also reshaped."""
    producer, shape = graph.producer(value), graph.shape(value)
    if producer is None:
        return value not in graph.channels_last
    if producer.reads_in_order:
        return True
    match producer.layout(shape):
        case Layout.PYTORCH:
            return True
        case Layout.MAPS:
            return len(shape) != 4
    return in_pytorch_order(graph, producer.inputs[0])


def is_reshaped_output(graph: Graph, value: str) -> bool:
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

"""The two edits every pass is made of."""

from dataclasses import replace

from firmware_gen.ir import Graph, Node


def bypass(graph: Graph, node: Node) -> Graph:
    """Remove a one-input node: its readers, and the graph's outputs, take its input instead."""
    source = node.inputs[0]
    rename = {node.output: source}
    nodes = [_renamed(n, rename) for n in graph.nodes if n is not node]
    return graph.with_nodes(nodes, outputs=tuple(rename.get(v, v) for v in graph.outputs))


def absorb(graph: Graph, producer: Node, reader: Node, **fields) -> Graph:
    """Merge `reader` into `producer`, whose output only it reads: `producer` gets `fields`, and writes the
    reader's output."""
    merged = replace(producer, output=reader.output, **fields)
    nodes = [merged if n is producer else n for n in graph.nodes if n is not reader]
    return graph.with_nodes(nodes)


def _renamed(node: Node, rename: dict[str, str]) -> Node:
    if not rename.keys() & set(node.inputs):
        return node
    return replace(node, inputs=tuple(rename.get(v, v) for v in node.inputs))

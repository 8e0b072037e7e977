# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from firmware_gen.ir import AnyGraph, Concat, Graph, Node
from firmware_gen.passes.edits.draft import Draft, edited
from firmware_gen.passes.edits.rewrite import renamed


def drop_dead(graph: Graph) -> Graph:
    """Remove nodes that no output depends on (an auxiliary head that inference ignores)."""
    needed, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            kept.append(node)
    return graph.with_nodes(reversed(kept))


def drop_identities(graph: Graph) -> Graph:
    """Remove Dropout, Identity, and reshapes and slices that keep the shape."""
    rename: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        if does_nothing(graph, node):
            rename[node.output] = rename.get(node.inputs[0], node.inputs[0])
        else:
            kept.append(renamed(node, rename))
    return graph.with_nodes(kept, outputs=tuple(rename.get(v, v) for v in graph.outputs)) if rename else graph


def does_nothing(graph: AnyGraph, node: Node) -> bool:
    """Whether a node's output is its input, in the same shape."""
    return node.may_vanish and graph.in_shape(node) == graph.out_shape(node)


def merge_concats(graph: Graph) -> Graph:
    """Merge a Concat into the Concat that is its only reader."""
    return edited(graph, _merge_concat)


def _merge_concat(graph: Draft, node: Node) -> bool:
    if not isinstance(node, Concat):
        return False
    for inner in map(graph.producer, node.inputs):
        if not isinstance(inner, Concat) or graph.read_once_by(inner.output) is not node:
            continue
        shape = graph.out_shape(inner)
        if inner.axis_of(shape) == node.axis_of(shape):
            parts = [p for v in node.inputs for p in (inner.inputs if v == inner.output else (v,))]
            graph.substitute({node: replace(node, inputs=tuple(parts))})
            return True
    return False

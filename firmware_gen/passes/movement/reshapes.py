# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace
from typing import Any

from firmware_gen.ir import (
    AsStrided,
    Combined,
    Concat,
    Fused,
    Graph,
    Layout,
    Linear,
    Node,
    Reshape,
    Scale,
    Shape,
    Value,
    chw,
    row_major,
)
from firmware_gen.operations.tensors import kept_in_order
from firmware_gen.passes.edits.cleanup import drop_dead, drop_identities
from firmware_gen.passes.edits.rewrite import free_name, in_pytorch_order, is_reshaped_output, repeated, substitute

Map = tuple[int, int, int]


@repeated
def merge_reshapes(graph: Graph) -> Graph:
    """Merge chains of reshapes into one, and drop those that end in the shape they started from."""
    made: dict[str, Node] = {}
    merged: set[str] = set()
    for node in graph.nodes:
        source = made.get(node.inputs[0]) if isinstance(node, Reshape) else None
        if isinstance(source, Reshape):
            merged.add(source.output)
            node = replace(node, inputs=source.inputs)
        made[node.output] = node
    if merged:
        unread = merged.difference(graph.outputs, *(node.inputs for node in made.values()))
        graph = graph.with_nodes(node for value, node in made.items() if value not in unread)
    return drop_identities(graph)


@repeated
def sink_reshapes(graph: Graph) -> Graph:
    """A sum or product of two maps flattened alike, or a Concat of flattened maps of one size, is done on the maps and
    flattened then."""
    for node in graph.nodes:
        if not isinstance(node, Combined | Concat):
            continue
        reshapes = [r for v in node.inputs if isinstance(r := graph.producer(v), Reshape)]
        if len(reshapes) < len(node.inputs) or not _joins_features(graph, node):
            continue
        shape = _joined(node, [graph.in_shape(r) for r in reshapes])
        if shape and all(_flattens(graph.in_shape(r), graph.out_shape(r)) for r in reshapes):
            return drop_dead(_sunk(graph, node, reshapes, shape))
    return graph


def _joins_features(graph: Graph, node: Node) -> bool:
    return not isinstance(node, Concat) or node.joins_channels(graph.out_shape(node))


def _joined(node: Node, shapes: list[Shape]) -> Shape | None:
    """Shape of a sum, product or Concat of maps of these shapes; None when they do not match."""
    first = shapes[0]
    if any(len(s) != 4 for s in shapes):
        return None
    if isinstance(node, Combined):
        return first if all(s == first for s in shapes) else None
    channels = sum(s[1] for s in shapes)
    return (first[0], channels, *first[2:]) if all(s[2:] == first[2:] for s in shapes) else None


def _sunk(graph: Graph, node: Node, reshapes: list[Reshape], shape: Shape) -> Graph:
    fields: dict[str, Any] = {"axis": 1} if isinstance(node, Concat) else {}
    maps = replace(node, inputs=tuple(r.inputs[0] for r in reshapes), output=f"{node.output}.map", **fields)
    name = free_name(graph, f"{node.name}.reshape")
    flat = replace(reshapes[0], name=name, inputs=(maps.output,), output=node.output)
    nodes = [m for n in graph.nodes for m in ((maps, flat) if n is node else (n,))]
    return graph.with_nodes(nodes, values=[Value(maps.output, shape)])


def find_maps(graph: Graph) -> Graph:
    """Set `in_map` of every Flatten that a channels-last layout reorders, and of the Linear or Scale that reads it.
    Where such a vector meets one in another order it becomes an AsStrided, which has its elements in PyTorch's."""
    kept = kept_in_order(graph)
    maps: dict[str, Map] = {}
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        if isinstance(node, Reshape):
            here = _flattened_map(graph, node, kept)
            new[node] = replace(node, in_map=here)
        else:
            here = maps.get(node.inputs[0])
            if isinstance(node, Linear | Scale):
                new[node] = replace(node, in_map=here)
        if meeting := [v for v in _meeting(graph, node, maps) if v in maps]:
            return find_maps(substitute(graph, _in_order(graph, meeting[0])))
        if here and not node.reads_in_order and node.layout(graph.out_shape(node)) in (Layout.INPUT, Layout.ANY):
            maps[node.output] = here
    return substitute(graph, new)


def _in_order(graph: Graph, value: str) -> dict[Node, Node]:
    """The Reshape that a flattened map comes from, and what takes its place."""
    flatten = graph.producer(value)
    while not isinstance(flatten, Reshape):
        assert flatten, "only a Reshape flattens a map"
        flatten = graph.producer(flatten.inputs[0])
    strides = row_major(graph.out_shape(flatten))
    return {flatten: AsStrided(name=flatten.name, inputs=flatten.inputs, output=flatten.output, strides=strides)}


def _meeting(graph: Graph, node: Node, maps: dict[str, Map]) -> tuple[str, ...]:
    """Inputs that must lie alike, and may not; a constant lies as what it meets, and one number per row goes with any
    order."""
    second = node.inputs[1] if isinstance(node, Combined | Fused) and len(node.inputs) > 1 else None
    if second and (second in graph.constants or graph.shape(second)[-1] == 1):
        return ()
    if second and isinstance(node, Combined) and maps.get(node.inputs[0]) == maps.get(second):
        return ()
    return node.inputs if second and isinstance(node, Scale) else node.combined_inputs


def _flattened_map(graph: Graph, node: Reshape, kept: set[str]) -> Map | None:
    """The map that a Reshape flattens while its channels are last. kept: values that are needed in PyTorch's order."""
    value = node.inputs[0]
    if is_free(graph.in_shape(node), graph.out_shape(node)) or value in kept or in_pytorch_order(graph, value):
        return None
    return chw(graph.in_shape(node)[1:])


def reorders(graph: Graph, node: Reshape) -> bool:
    """Whether a Reshape of a channels-last map has to move elements: its readers cannot allow for their order."""
    before, after = graph.in_shape(node), graph.out_shape(node)
    flattens = len(before) == 4 and _flattens(before, after)
    return not is_free(before, after) and not flattens and not is_reshaped_output(graph, node.output)


def is_free(before: Shape, after: Shape) -> bool:
    """Whether a reshape moves nothing in any layout."""
    return (_same_in_any_layout(before) and _same_in_any_layout(after)) or _regroups_space(before, after)


def _same_in_any_layout(shape: Shape) -> bool:
    """Row-major and channels-last order are the same sequence of elements."""
    return len(shape) != 4 or shape[1] == 1 or shape[2] * shape[3] == 1


def _regroups_space(before: Shape, after: Shape) -> bool:
    return len(before) == len(after) == 4 and before[:2] == after[:2]


def _flattens(before: Shape, after: Shape) -> bool:
    features = math.prod(before[1:])
    return after == (before[0], features) or (before[0] == 1 and after == (features,))

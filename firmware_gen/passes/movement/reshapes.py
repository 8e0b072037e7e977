# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace
from typing import Any

from firmware_gen.ir import (
    AnyGraph,
    AsStrided,
    Combined,
    Concat,
    Graph,
    Layout,
    Node,
    Reshape,
    Scale,
    Shape,
    Value,
    chw,
    row_major,
)
from firmware_gen.operations.tensors import kept_in_order, takes_order
from firmware_gen.passes.edits.cleanup import does_nothing
from firmware_gen.passes.edits.draft import Draft, edited
from firmware_gen.passes.edits.rewrite import free_name, in_pytorch_order, is_reshaped_output, substitute

Map = tuple[int, int, int]


def merge_reshapes(graph: Graph) -> Graph:
    """Merge chains of reshapes into one, and drop those that end in the shape they started from, and what else does
    nothing."""
    return edited(graph, merge_reshape)


def merge_reshape(graph: Draft, node: Node) -> bool:
    """`merge_reshapes` at one node."""
    if does_nothing(graph, node):
        graph.bypass(node)
        return True
    source = graph.producer(node.inputs[0]) if isinstance(node, Reshape) else None
    if isinstance(source, Reshape):
        graph.substitute({node: replace(node, inputs=source.inputs)})
    return isinstance(source, Reshape)


def sink_reshapes(graph: Graph) -> Graph:
    """A sum or product of two maps flattened alike, or a Concat of flattened maps of one size, is done on the maps and
    flattened then."""
    return edited(graph, _sink_reshapes)


def _sink_reshapes(graph: Draft, node: Node) -> bool:
    if not isinstance(node, Combined | Concat):
        return False
    reshapes = [r for v in node.inputs if isinstance(r := graph.producer(v), Reshape)]
    if len(reshapes) < len(node.inputs) or not _joins_features(graph, node):
        return False
    shape = _joined(node, [graph.in_shape(r) for r in reshapes])
    if not shape or not all(_flattens(graph.in_shape(r), graph.out_shape(r)) for r in reshapes):
        return False
    fields: dict[str, Any] = {"axis": 1} if isinstance(node, Concat) else {}
    maps = replace(node, inputs=tuple(r.inputs[0] for r in reshapes), output=f"{node.output}.map", **fields)
    name = free_name(graph, f"{node.name}.reshape")
    flat = replace(reshapes[0], name=name, inputs=(maps.output,), output=node.output)
    graph.edit({node: (maps, flat)}, values=[Value(maps.output, shape)])
    return True


def _joins_features(graph: AnyGraph, node: Node) -> bool:
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


def find_maps(graph: Graph) -> Graph:
    """Set `in_map` of every Flatten that a channels-last layout reorders, and of the Linear or Scale that reads it.
    Where such a vector meets one in another order it becomes an AsStrided, which has its elements in PyTorch's."""
    flattened = _Flattened(graph)
    new: dict[Node, Node] = {}
    for node in graph.nodes:
        while meeting := [v for v in _meeting(graph, node, flattened.maps) if v in flattened.maps]:
            flatten = flattened.put_in_order(meeting[0])
            strides = row_major(graph.out_shape(flatten))
            new[flatten] = AsStrided(name=flatten.name, inputs=flatten.inputs, output=flatten.output, strides=strides)
        here = flattened.enter(node)
        if node.has_in_map and node not in new:
            fields: dict[str, Any] = {"in_map": here}
            new[node] = replace(node, **fields)
    graph = substitute(graph, new)
    return find_maps(graph) if flattened.is_changed else graph


class _Flattened:
    """The map that every vector is whose elements lie as in that map, of the nodes of a graph entered so far."""

    def __init__(self, graph: Graph):
        self._graph, self._kept = graph, kept_in_order(graph)
        self.maps: dict[str, Map] = {}
        self.is_changed = False

    def enter(self, node: Node) -> Map | None:
        """The map that its first input is, or that it flattens."""
        graph = self._graph
        flattens = isinstance(node, Reshape)
        here = _flattened_map(graph, node, self._kept) if flattens else self.maps.get(node.inputs[0])
        if here and not node.reads_in_order and _follows(graph, node):
            self.maps[node.output] = here
        return here

    def put_in_order(self, value: str) -> Reshape:
        """The Reshape that a value comes from, which keeps PyTorch's order from now on, and so does what it reads."""
        graph, flatten = self._graph, self._graph.producer(value)
        while not isinstance(flatten, Reshape):
            assert flatten, "only a Reshape flattens a map"
            flatten = graph.producer(flatten.inputs[0])
        self.is_changed = True
        self._forget(flatten.output)
        waiting = [flatten.inputs[0]]
        while waiting:
            if (kept := waiting.pop()) in self._kept:
                continue
            self._kept.add(kept)
            producer = graph.producer(kept)
            waiting += producer.inputs if producer and takes_order(graph, producer) else ()
            for reader in graph.consumers(kept):
                waiting += [reader.output] if reader.inputs[0] == kept and _follows(graph, reader) else []
                if isinstance(reader, Reshape):
                    self._forget(reader.output)
        return flatten

    def _forget(self, value: str) -> None:
        """Drop the map of a value, and of what lies as it does."""
        waiting = [value]
        while waiting:
            value = waiting.pop()
            if self.maps.pop(value, None):
                waiting += [n.output for n in self._graph.consumers(value) if n.inputs[0] == value]


def _follows(graph: Graph, node: Node) -> bool:
    """Whether the output lies as the first input does where nothing else is asked of it."""
    return node.layout(graph.out_shape(node)) in (Layout.INPUT, Layout.ANY)


def _meeting(graph: Graph, node: Node, maps: dict[str, Map]) -> tuple[str, ...]:
    """Inputs that must lie alike, and may not; a constant lies as what it meets, and one number per row goes with any
    order."""
    second = node.inputs[1] if node.combines else None
    if second and (second in graph.constants or graph.shape(second)[-1] == 1):
        return ()
    if second and isinstance(node, Combined) and maps.get(node.inputs[0]) == maps.get(second):
        return ()
    return node.inputs if second and isinstance(node, Scale) else node.combined_inputs


def _flattened_map(graph: Graph, node: Node, kept: set[str]) -> Map | None:
    """The map that a Reshape flattens while its channels are last. kept: values that are needed in PyTorch's order."""
    value = node.inputs[0]
    if is_free(graph.in_shape(node), graph.out_shape(node)) or value in kept or in_pytorch_order(graph, value):
        return None
    return chw(graph.in_shape(node)[1:])


def reorders(graph: AnyGraph, node: Reshape) -> bool:
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

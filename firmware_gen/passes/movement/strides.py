# SPDX-License-Identifier: Apache-2.0
"""Elements that have to move: permutes, reshapes and slices that are no view of how tensors lie in memory."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from firmware_gen.ir import (
    TO_CHANNELS_FIRST,
    TO_CHANNELS_LAST,
    AsStrided,
    Concat,
    Graph,
    MatMul,
    Matrices,
    Node,
    Permute,
    Place,
    Reshape,
    Scale,
    Slice,
    Taking,
    evenly_spaced,
)
from firmware_gen.operations.tensors import read_in_order
from firmware_gen.passes.edits.cleanup import drop_dead
from firmware_gen.passes.edits.rewrite import absorb, in_pytorch_order, repeated, substitute
from firmware_gen.passes.movement.permutes import swap_columns
from firmware_gen.passes.movement.reshapes import reorders


@repeated
def move_elements(graph: Graph) -> Graph:
    """Bring every Permute to one of the two forms of `ir.Permute`, or to an AsStrided; so become the reshapes that a
    channels-last layout would reorder, and the slices whose elements lie side by side in PyTorch's order, or that only
    products of computed matrices read, which take them from where they lie."""
    needed = read_in_order(graph)
    moving = [node for node in graph.nodes if isinstance(node, Taking)]
    ordered = {node: in_pytorch_order(graph, node.inputs[0]) for node in moving}
    for node in moving:
        if isinstance(node, Permute) and not ordered[node] and (swapped := swap_columns(graph, node)):
            return swapped
    for node in moving:
        if _moves(graph, node, ordered[node], needed):
            return substitute(graph, {node: as_strided(graph, node)})
    return graph


def _moves(graph: Graph, node: Taking, ordered: bool, needed: set[str]) -> bool:
    """Whether `node` must, or should, be an AsStrided. ordered: its input is in PyTorch's order whatever reads it.
    needed: the values that a reader needs in that order."""
    match node:
        case Permute():
            free = TO_CHANNELS_FIRST if ordered else TO_CHANNELS_LAST
            return node.dims != free or (ordered and node.output in needed)
        case Reshape():
            return not ordered and node.inputs[0] not in needed and reorders(graph, node)
        case Slice():
            return ordered and (_is_view(graph, node) or _only_products_read(graph, node.output))
    return False


def _is_view(graph: Graph, node: Slice) -> bool:
    return as_strided(graph, node).is_view(graph.out_shape(node))


def _is_absorbed(node: Node) -> bool:
    """Whether a product may take a node between it and its operand."""
    return node.runs_on is Place.MEMORY or (isinstance(node, Scale) and _factor(node) is not None)


def _only_products_read(graph: Graph, value: str) -> bool:
    """Whether a value goes, rearranged or not, into products of computed matrices alone."""
    readers = graph.consumers(value)
    rearranged = all(
        isinstance(reader, MatMul) or (_is_absorbed(reader) and _only_products_read(graph, reader.output))
        for reader in readers
    )
    return bool(readers) and rearranged and value not in graph.outputs


@repeated
def merge_strides(graph: Graph) -> Graph:
    """Merge an AsStrided, and the Reshape behind it, into the one before it; what takes elements of one of the tensors
    that a Concat joins takes them from there."""
    for node in graph.nodes:
        above = graph.producer(node.inputs[0])
        if isinstance(node, AsStrided) and (taken := _from_part(graph, node)):
            return drop_dead(substitute(graph, {node: taken}))
        if not isinstance(node, AsStrided | Reshape) or not isinstance(above, AsStrided):
            continue
        if isinstance(node, Reshape) and graph.read_once_by(above.output) is not node:
            continue
        places = _elements(graph, above).reshape(-1)[_elements(graph, node)]
        if merged := fitted(node, places):
            return drop_dead(substitute(graph, {node: replace(merged, inputs=above.inputs)}))
    return graph


def _from_part(graph: Graph, node: AsStrided) -> AsStrided | None:
    """The same from the one tensor that a Concat got all these elements from; None where there are several, or none."""
    concat = graph.producer(node.inputs[0])
    while isinstance(concat, Reshape):
        concat = graph.producer(concat.inputs[0])
    if not isinstance(concat, Concat):
        return None
    axis, shapes = concat.axis_of(graph.out_shape(concat)), [graph.shape(value) for value in concat.inputs]
    places = _elements(graph, node)
    owners = np.concatenate([np.full(shape, i) for i, shape in enumerate(shapes)], axis).reshape(-1)[places]
    if (owners != owners.flat[0]).any():
        return None
    elements = np.concatenate([np.arange(math.prod(shape)).reshape(shape) for shape in shapes], axis)
    taken = fitted(node, elements.reshape(-1)[places])
    return taken and replace(taken, inputs=(concat.inputs[owners.flat[0]],))


@repeated
def absorb_strides(graph: Graph) -> Graph:
    """Let a MatMul read its operands, and write its output, where they lie: without the AsStrided, Reshape,
    or Scale by one number, beside it."""
    for node in graph.nodes:
        if isinstance(node, MatMul) and (new := _with_operand(graph, node) or _with_output(graph, node)):
            return drop_dead(new)
    return graph


def _with_operand(graph: Graph, node: MatMul) -> Graph | None:
    for place, (own, shape) in enumerate(zip((node.a, node.b), node.shapes, strict=False)):
        above = graph.producer(node.inputs[place])
        fields: dict[str, Any] = {}
        match above:
            case Scale() if (factor := _factor(above)) is not None:
                fields = {"scale": node.scale * factor}
            case Reshape():
                fields = {"a": own} if place == 0 else {"b": own}
            case AsStrided():
                elements = _elements(graph, above).reshape(-1)[own.elements(shape)]
                if spaced := evenly_spaced(elements):
                    offset, (outer, inner, row, column) = spaced
                    size = math.prod(graph.in_shape(above))
                    fields = {"b" if place else "a": Matrices(size, (outer, inner, row, column), offset)}
        if above and fields:
            inputs = tuple(above.inputs[0] if i == place else v for i, v in enumerate(node.inputs))
            return substitute(graph, {node: replace(node, inputs=inputs, **fields)})
    return None


def _with_output(graph: Graph, node: MatMul) -> Graph | None:
    reader = graph.read_once_by(node.output)
    if isinstance(reader, Reshape):
        return absorb(graph, node, reader)
    if isinstance(reader, Scale) and (factor := _factor(reader)) is not None:
        return absorb(graph, node, reader, scale=node.scale * factor)
    if not isinstance(reader, AsStrided):
        return None
    elements = _elements(graph, reader).reshape(-1)
    if len(np.unique(elements)) != node.out.size or elements.size != node.out.size:
        return None
    spaced = evenly_spaced(np.argsort(elements)[node.out.elements(node.shapes[2])])
    if spaced is None:
        return None
    offset, (outer, inner, row, column) = spaced
    return absorb(graph, node, reader, out=Matrices(node.out.size, (outer, inner, row, column), offset))


def _factor(node: Scale) -> float | None:
    """What a Scale multiplies everything by; None where it does anything else."""
    alone = node.is_uniform and node.act.is_identity and not node.bias.any()
    return float(node.scale[0]) if alone else None


def as_strided(graph: Graph, node: Taking) -> AsStrided:
    """The same of a tensor that lies in PyTorch's order."""
    found = fitted(node, _elements(graph, node))
    assert found, f"{node.name}: {node.op} is evenly spaced"
    return found


def fitted(node: Node, places: np.ndarray) -> AsStrided | None:
    """The AsStrided that takes these elements, in the shape of the output of `node`; None where they are not evenly
    spaced."""
    spaced = evenly_spaced(places)
    if spaced is None:
        return None
    offset, strides = spaced
    return AsStrided(name=node.name, inputs=node.inputs, output=node.output, strides=strides, offset=offset)


def _elements(graph: Graph, node: Taking) -> np.ndarray:
    """Which element of the input every one of the output's is, in the output's shape."""
    return node.elements(graph.in_shape(node), graph.out_shape(node))

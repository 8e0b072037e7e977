# SPDX-License-Identifier: Apache-2.0
"""Elements that have to move: permutes, reshapes and slices that are no view of how tensors lie in memory."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from firmware_gen.ir import (
    TO_CHANNELS_FIRST,
    TO_CHANNELS_LAST,
    AnyGraph,
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
from firmware_gen.operations.tensors import is_read_in_order
from firmware_gen.passes.edits.draft import Draft, edited
from firmware_gen.passes.edits.rewrite import in_pytorch_order
from firmware_gen.passes.movement.permutes import swap_columns
from firmware_gen.passes.movement.reshapes import merge_reshape, reorders


def move_elements(graph: Graph) -> Graph:
    """Bring every Permute to one of the two forms of `ir.Permute`, or to an AsStrided; so become the reshapes that a
    channels-last layout would reorder, and the slices whose elements lie side by side in PyTorch's order, or that only
    products of computed matrices read, which take them from where they lie."""
    before = None
    while graph is not before:
        before = graph
        graph = edited(edited(graph, _swap_columns, merge_reshape), _move)
    return graph


def _swap_columns(graph: Draft, node: Node) -> bool:
    return isinstance(node, Permute) and not in_pytorch_order(graph, node.inputs[0]) and swap_columns(graph, node)


def _move(graph: Draft, node: Node) -> bool:
    """Make an AsStrided of what must, or should, be one."""
    if not isinstance(node, Taking):
        return False
    ordered = in_pytorch_order(graph, node.inputs[0])
    match node:
        case Permute():
            free = TO_CHANNELS_FIRST if ordered else TO_CHANNELS_LAST
            moves = node.dims != free or (ordered and is_read_in_order(graph, node.output))
        case Reshape():
            moves = not ordered and not is_read_in_order(graph, node.inputs[0]) and reorders(graph, node)
        case Slice():
            moves = ordered and (_is_view(graph, node) or _only_products_read(graph, node.output))
        case _:
            return False
    if moves:
        graph.substitute({node: as_strided(graph, node)})
    return moves


def _is_view(graph: AnyGraph, node: Slice) -> bool:
    return as_strided(graph, node).is_view(graph.out_shape(node))


def _is_absorbed(node: Node) -> bool:
    """Whether a product may take a node between it and its operand."""
    return node.runs_on is Place.MEMORY or (isinstance(node, Scale) and _factor(node) is not None)


def _only_products_read(graph: AnyGraph, value: str) -> bool:
    """Whether a value goes, rearranged or not, into products of computed matrices alone."""
    readers = graph.consumers(value)
    rearranged = all(
        isinstance(reader, MatMul) or (_is_absorbed(reader) and _only_products_read(graph, reader.output))
        for reader in readers
    )
    return bool(readers) and rearranged and value not in graph.outputs


def merge_strides(graph: Graph) -> Graph:
    """Merge an AsStrided, and the Reshape behind it, into the one before it; what takes elements of one of the tensors
    that a Concat joins takes them from there."""
    return edited(graph, _merge_strides)


def _merge_strides(graph: Draft, node: Node) -> bool:
    if not isinstance(node, AsStrided | Reshape):
        return False
    above = graph.producer(node.inputs[0])
    merged = _from_part(graph, node) if isinstance(node, AsStrided) else None
    if not merged and isinstance(above, AsStrided):
        if isinstance(node, Reshape) and graph.read_once_by(above.output) is not node:
            return False
        found = fitted(node, _elements(graph, above).reshape(-1)[_elements(graph, node)])
        merged = found and replace(found, inputs=above.inputs)
    if merged:
        graph.substitute({node: merged})
    return merged is not None


def _from_part(graph: AnyGraph, node: AsStrided) -> AsStrided | None:
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


def absorb_strides(graph: Graph) -> Graph:
    """Let a MatMul read its operands, and write its output, where they lie: without the AsStrided, Reshape,
    or Scale by one number, beside it."""
    return edited(graph, _absorb_strides)


def _absorb_strides(graph: Draft, node: Node) -> bool:
    return isinstance(node, MatMul) and (_with_operand(graph, node) or _with_output(graph, node))


def _with_operand(graph: Draft, node: MatMul) -> bool:
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
            graph.substitute({node: replace(node, inputs=inputs, **fields)})
            return True
    return False


def _with_output(graph: Draft, node: MatMul) -> bool:
    reader = graph.read_once_by(node.output)
    fields: dict[str, Any] | None = None
    match reader:
        case Reshape():
            fields = {}
        case Scale() if (factor := _factor(reader)) is not None:
            fields = {"scale": node.scale * factor}
        case AsStrided():
            elements = _elements(graph, reader).reshape(-1)
            if len(np.unique(elements)) == node.out.size == elements.size:
                spaced = evenly_spaced(np.argsort(elements)[node.out.elements(node.shapes[2])])
                if spaced:
                    offset, (outer, inner, row, column) = spaced
                    fields = {"out": Matrices(node.out.size, (outer, inner, row, column), offset)}
    if reader and fields is not None:
        graph.absorb(node, reader, **fields)
    return fields is not None


def _factor(node: Scale) -> float | None:
    """What a Scale multiplies everything by; None where it does anything else."""
    alone = node.is_uniform and node.act.is_identity and not node.bias.any()
    return float(node.scale[0]) if alone else None


def as_strided(graph: AnyGraph, node: Taking) -> AsStrided:
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


def _elements(graph: AnyGraph, node: Taking) -> np.ndarray:
    """Which element of the input every one of the output's is, in the output's shape."""
    return node.elements(graph.in_shape(node), graph.out_shape(node))

# SPDX-License-Identifier: Apache-2.0
"""Elements that have to move: permutes, reshapes and slices that are no view of how tensors lie in memory."""

import math
from dataclasses import replace

import numpy as np

from firmware_gen.ir import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, AsStrided, Graph, Node, Permute, Reshape, Slice
from firmware_gen.operations.tensors import read_in_order
from firmware_gen.passes.cleanup import drop_dead
from firmware_gen.passes.permutes import swap_columns
from firmware_gen.passes.reshapes import reorders
from firmware_gen.passes.rewrite import in_pytorch_order, substitute


def move_elements(graph: Graph) -> Graph:
    """Bring every Permute to one of the two forms of `ir.Permute`, or to an AsStrided; so become the reshapes that a
    channels-last layout would reorder, and the slices whose elements lie side by side in PyTorch's order."""
    while changed := _with_one_moved(graph):
        graph = changed
    return graph


def _with_one_moved(graph: Graph) -> Graph | None:
    needed = read_in_order(graph)
    moving = [node for node in graph.nodes if isinstance(node, Permute | Reshape | Slice)]
    ordered = {node: in_pytorch_order(graph, node.inputs[0]) for node in moving}
    for node in moving:
        if isinstance(node, Permute) and not ordered[node] and (swapped := swap_columns(graph, node)):
            return swapped
    for node in moving:
        if _moves(graph, node, ordered[node], needed):
            return substitute(graph, {node: as_strided(graph, node)})
    return None


def _moves(graph: Graph, node: Permute | Reshape | Slice, ordered: bool, needed: set[str]) -> bool:
    """Whether `node` must, or should, be an AsStrided. ordered: its input is in PyTorch's order whatever reads it.
    needed: the values that a reader needs in that order."""
    match node:
        case Permute():
            free = TO_CHANNELS_FIRST if ordered else TO_CHANNELS_LAST
            return node.dims != free or (ordered and node.output in needed)
        case Reshape():
            return not ordered and node.inputs[0] not in needed and reorders(graph, node)
        case Slice():
            return ordered and as_strided(graph, node).is_view(graph.out_shape(node))


def merge_strides(graph: Graph) -> Graph:
    """Merge an AsStrided, and the Reshape behind it, into the one before it."""
    while changed := _with_one_merged(graph):
        graph = changed
    return graph


def _with_one_merged(graph: Graph) -> Graph | None:
    for node in graph.nodes:
        above = graph.producer(node.inputs[0])
        if not isinstance(node, AsStrided | Reshape) or not isinstance(above, AsStrided):
            continue
        if isinstance(node, Reshape) and graph.read_once_by(above.output) is not node:
            continue
        places = above.elements(graph.out_shape(above)).reshape(-1)[_elements(graph, node)]
        if merged := fitted(node, places):
            return drop_dead(substitute(graph, {node: replace(merged, inputs=above.inputs)}))
    return None


def as_strided(graph: Graph, node: Permute | Reshape | Slice) -> AsStrided:
    """The same of a tensor that lies in PyTorch's order."""
    strided = fitted(node, _elements(graph, node))
    assert strided, f"{node.name}: {node.op} is evenly spaced"
    return strided


def fitted(node: Node, places: np.ndarray) -> AsStrided | None:
    """The AsStrided that takes these elements, in the shape of the output of `node`; None where they are not evenly
    spaced."""
    offset = int(places.flat[0])
    steps = (places.take(min(1, n - 1), axis=axis).flat[0] for axis, n in enumerate(places.shape))
    strides = tuple(int(step) - offset for step in steps)
    strided = AsStrided(name=node.name, inputs=node.inputs, output=node.output, strides=strides, offset=offset)
    return strided if np.array_equal(strided.elements(places.shape), places) else None


def _elements(graph: Graph, node: Node) -> np.ndarray:
    """Which element of the input every one of the output's is, in the output's shape."""
    shape, out = graph.in_shape(node), graph.out_shape(node)
    match node:
        case AsStrided():
            return node.elements(out)
        case Permute():
            return np.arange(math.prod(shape)).reshape(shape).transpose(node.dims)
        case Slice():
            parts = zip(node.start, node.step, out[1:], strict=True)
            kept = tuple(slice(first, first + step * size, step) for first, step, size in parts)
            return np.arange(math.prod(shape)).reshape(shape)[:, *kept]
    return np.arange(math.prod(shape)).reshape(out)

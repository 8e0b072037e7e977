# SPDX-License-Identifier: Apache-2.0
"""Rows that nobody reads are not computed: a classifier reads the first of a transformer's tokens, or the last."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from firmware_gen.ir import AnyGraph, AsStrided, Graph, MatMul, Matrices, Node, Reshape, Taking, Value, evenly_spaced
from firmware_gen.passes.batchnorm import fold_batchnorm
from firmware_gen.passes.edits.draft import Draft, edited
from firmware_gen.passes.edits.rewrite import free_name, in_pytorch_order
from firmware_gen.passes.movement.reshapes import merge_reshapes
from firmware_gen.passes.movement.strides import absorb_strides


def raise_rows(graph: Graph) -> Graph:
    """Take rows before what computes them row by row, where all its readers take the same ones; what was between these
    and a layer of their own may be folded into it then."""
    raised = edited(graph, _raise_rows)
    return graph if raised is graph else fold_batchnorm(absorb_strides(merge_reshapes(raised)))


def _raise_rows(graph: Draft, node: Node) -> bool:
    if not isinstance(node, Taking) or isinstance(node, Reshape):
        return False
    value = node.inputs[0]
    while isinstance(producer := graph.producer(value), Reshape) and in_pytorch_order(graph, producer.inputs[0]):
        value = producer.inputs[0]
    readers = _readers(graph, value) if producer and len(graph.shape(value)) == 2 else []
    if producer is None or not readers or not in_pytorch_order(graph, value):
        return False
    places = [_places(graph, reader) for reader in readers]
    alike = all(np.array_equal(found, places[0]) for found in places)
    if not alike or len(places[0]) >= math.prod(graph.shape(value)):
        return False
    if new := _fewer(graph, producer, places[0]):
        _replace(graph, producer, readers, *new)
    return new is not None


def _readers(graph: AnyGraph, value: str) -> list[Taking]:
    """Who reads a value, also reshaped; none where anybody takes all of it."""
    found: list[Taking] = []
    if value in graph.outputs:
        return []
    for reader in graph.consumers(value):
        if isinstance(reader, Reshape):
            own = _readers(graph, reader.output)
            if not own:
                return []
            found += own
        elif isinstance(reader, Taking):
            found.append(reader)
        else:
            return []
    return found


def _places(graph: AnyGraph, node: Taking) -> np.ndarray:
    return node.elements(graph.in_shape(node), graph.out_shape(node)).reshape(-1)


New = tuple[list[Node], tuple[int, int], dict[str, Value], dict[str, np.ndarray]]
"""Nodes in a producer's place, the last of which writes its value, of this shape; new values, and constants."""


def _fewer(graph: AnyGraph, node: Node, places: np.ndarray) -> New | None:
    """`node`, which computes these elements alone; None where that is not possible."""
    if isinstance(node, MatMul):
        return _fewer_products(graph, node, places)
    count, width = graph.out_shape(node)
    rows = places.reshape(-1, width)[:, 0] // width if len(places) % width == 0 else places
    whole = np.array_equal((rows[:, None] * width + np.arange(width)).reshape(-1), places)
    if not whole or not node.keeps_rows((count, width)):
        return None
    nodes: list[Node] = []
    inputs, values, constants = [], dict[str, Value](), dict[str, np.ndarray]()
    for number, value in enumerate(node.inputs):
        high, wide = graph.shape(value)
        if high != count or not in_pytorch_order(graph, value):
            if high != 1:
                return None
            inputs.append(value)
            continue
        taken = f"{node.output}.rows{number}"
        values[taken] = Value(taken, (len(rows), wide))
        inputs.append(taken)
        if value in graph.constants:
            constants[taken] = graph.constants[value][rows]
        elif spaced := evenly_spaced(rows[:, None] * wide + np.arange(wide)):
            name = free_name(graph, f"{node.name}.rows{number}")
            nodes.append(AsStrided(name=name, inputs=(value,), output=taken, strides=spaced[1], offset=spaced[0]))
        else:
            return None
    nodes.append(replace(node, inputs=tuple(inputs)))
    return nodes, (len(rows), width), values, constants


def _fewer_products(graph: AnyGraph, node: MatMul, places: np.ndarray) -> New | None:
    """The product of the rows that these elements are of, in all its matrices."""
    elements = node.out.elements(node.shapes[2])
    where = _order_of(places, node.out.size)
    kept = where[elements] >= 0
    rows = np.flatnonzero(kept[0, 0, :, 0])
    if not len(rows) or (kept != kept[:1, :1, :, :1]).any() or len(np.unique(places)) < len(places):
        return None
    out, spaced = evenly_spaced(where[elements[:, :, rows]]), evenly_spaced(rows)
    if out is None or spaced is None:
        return None
    outer, inner, row, column = node.a.steps
    few = replace(
        node,
        sizes=(*node.sizes[:2], len(rows), *node.sizes[3:]),
        a=Matrices(node.a.size, (outer, inner, row * spaced[1][0], column), node.a.offset + row * spaced[0]),
        out=_matrices(len(places), out),
    )
    width = graph.out_shape(node)[1]
    shape = (len(places) // width, width) if len(places) % width == 0 else (1, len(places))
    nodes, values = _of_few_rows(graph, few)
    return nodes, shape, values, {}


def _of_few_rows(graph: AnyGraph, node: MatMul) -> tuple[list[Node], dict[str, Value]]:
    """`node`, which reads some rows of its first operand: those are taken before it, where they may be taken earlier
    still."""
    value = node.inputs[0]
    producer, shape = graph.producer(value), graph.shape(value)
    if producer is None or len(shape) != 2 or len(graph.consumers(value)) > 1 or not producer.keeps_rows(shape):
        return [node], {}
    elements = node.a.elements(node.shapes[0])
    places = np.unique(elements)
    rows = np.unique(places // shape[1])
    spaced = evenly_spaced(rows[:, None] * shape[1] + np.arange(shape[1]))
    own = evenly_spaced(_order_of(places, node.a.size)[elements])
    if spaced is None or own is None or len(places) < len(rows) * shape[1]:
        return [node], {}
    taken, name = f"{node.output}.rows", free_name(graph, f"{node.name}.rows")
    early = AsStrided(name=name, inputs=(value,), output=taken, strides=spaced[1], offset=spaced[0])
    few = replace(node, inputs=(taken, *node.inputs[1:]), a=_matrices(len(places), own))
    return [early, few], {taken: Value(taken, (len(rows), shape[1]))}


def _order_of(places: np.ndarray, size: int) -> np.ndarray:
    """Where each of `size` elements is among these, -1 where it is none of them."""
    where = np.full(size, -1)
    where[places] = np.arange(len(places))
    return where


def _matrices(size: int, spaced: tuple[int, tuple[int, ...]]) -> Matrices:
    offset, (outer, inner, row, column) = spaced
    return Matrices(size, (outer, inner, row, column), offset)


def _replace(
    graph: Draft,
    producer: Node,
    readers: list[Taking],
    nodes: list[Node],
    shape: tuple[int, int],
    values: Mapping[str, Value],
    constants: Mapping[str, np.ndarray],
) -> None:
    """Put `nodes` in the place of the producer, and a Reshape in that of every reader."""
    new: dict[Node, Sequence[Node]] = {
        reader: (Reshape(name=reader.name, inputs=(producer.output,), output=reader.output),) for reader in readers
    }
    graph.edit({producer: nodes, **new}, [Value(producer.output, shape), *values.values()], constants)

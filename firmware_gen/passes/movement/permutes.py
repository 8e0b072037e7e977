# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from typing import Any

import numpy as np

from firmware_gen.ir import (
    TO_CHANNELS_FIRST,
    TO_CHANNELS_LAST,
    Graph,
    Linear,
    Node,
    Permute,
    Reshape,
    Scale,
    Shape,
    Shuffle,
    Value,
)
from firmware_gen.passes.edits.draft import Draft, edited
from firmware_gen.passes.edits.rewrite import free_name, is_reshaped_input
from firmware_gen.passes.movement.reshapes import merge_reshape


def merge_permutes(graph: Graph) -> Graph:
    """Replace a Permute that undoes another by a Reshape, and fold one in front of a flattened Linear into the
    order of the Linear's weights. Reshapes that only place dimensions of size 1 may lie between two permutes."""
    return edited(graph, _merge_permute, merge_reshape)


def _merge_permute(graph: Draft, node: Node) -> bool:
    if isinstance(node, Permute):
        return _undo(graph, node)
    return isinstance(node, Linear) and _permute_columns(graph, node)


def raise_permutes(graph: Graph) -> Graph:
    """Move a Permute to channels first above what works on elements alike: the network is channels last until then."""
    return edited(graph, _raise_permute)


def _raise_permute(graph: Draft, node: Node) -> bool:
    above = graph.producer(node.inputs[0])
    if not isinstance(node, Permute) or node.dims != TO_CHANNELS_FIRST or not above or not above.is_uniform:
        return False
    if graph.read_once_by(above.output) is not node:
        return False
    fields: dict[str, Any] = {}
    if isinstance(above, Scale):
        channels = graph.out_shape(node)[1]
        fields = {k: np.full(channels, getattr(above, k)[0]) for k in ("scale", "bias")}
    early = replace(node, inputs=above.inputs, output=above.output)
    late = replace(above, inputs=(above.output,), output=node.output, **fields)
    graph.substitute({above: early, node: late}, values=[Value(above.output, graph.out_shape(node))])
    return True


def _undo(graph: Draft, node: Permute) -> bool:
    producer = graph.producer(node.inputs[0])
    if isinstance(producer, Reshape) and _sizes(graph.in_shape(producer)) == _sizes(graph.out_shape(producer)):
        producer = graph.producer(producer.inputs[0])
    if not isinstance(producer, Permute):
        return False
    first, second = _order(graph.in_shape(producer), producer.dims), _order(graph.in_shape(node), node.dims)
    undoes = [first[i] for i in second] == sorted(first)
    if undoes:
        graph.substitute({node: Reshape(name=node.name, inputs=producer.inputs, output=node.output)})
    return undoes


def _sizes(shape: Shape) -> list[int]:
    return [size for size in shape if size > 1]


def _order(shape: Shape, dims: tuple[int, ...]) -> list[int]:
    """Where the dimensions of more than one element come from, counted among themselves."""
    kept = [d for d in range(len(shape)) if shape[d] > 1]
    return [kept.index(d) for d in dims if shape[d] > 1]


def _permute_columns(graph: Draft, linear: Linear) -> bool:
    flatten = graph.producer(linear.inputs[0])
    if not isinstance(flatten, Reshape):
        return False
    permute = graph.producer(flatten.inputs[0])
    if not isinstance(permute, Permute) or permute.dims[0] != 0 or is_reshaped_input(graph, permute.inputs[0]):
        return False
    shape = graph.out_shape(permute)
    vectors: tuple[Shape, ...] = ((shape[0], linear.in_features), (linear.in_features,))
    if graph.out_shape(flatten) not in vectors:
        return False
    back = np.argsort(permute.dims)
    weight = linear.weight.reshape(-1, *shape[1:]).transpose(back).reshape(linear.weight.shape)
    name = free_name(graph, f"{linear.name}.flatten")
    straight = replace(flatten, name=name, inputs=permute.inputs, output=f"{linear.output}.flat")
    permuted = replace(linear, inputs=(straight.output,), weight=weight)
    graph.edit({linear: (straight, permuted)}, values=[Value(straight.output, graph.out_shape(flatten))])
    return True


def find_shuffles(graph: Graph) -> Graph:
    """A Permute that swaps the groups of a map's channels with the channels inside them becomes a Shuffle."""
    return edited(graph, _find_shuffle, merge_reshape)


def _find_shuffle(graph: Draft, node: Node) -> bool:
    split = graph.producer(node.inputs[0])
    if not isinstance(node, Permute) or not isinstance(split, Reshape):
        return False
    whole, parts = graph.in_shape(split), graph.out_shape(split)
    swaps = node.dims in ((0, 2, 1, 3), (0, 2, 1, 3, 4))
    if not swaps or len(whole) != 4 or (parts[0], parts[1] * parts[2]) != whole[:2]:
        return False
    shuffled = f"{node.output}.shuffled"
    chain = (
        Shuffle(name=node.name, inputs=split.inputs, output=shuffled, groups=parts[1]),
        Reshape(name=free_name(graph, f"{node.name}.parts"), inputs=(shuffled,), output=node.output),
    )
    graph.edit({node: chain}, values=[Value(shuffled, whole)])
    return True


def swap_columns(graph: Draft, node: Permute) -> bool:
    """(N, 1, a, b) to (N, b, 1, a), which (N, C, L) to (N, L, C) is imported as, as (N, C, H, W) to (N, H, W, C); not
    any other Permute."""
    if node.dims != TO_CHANNELS_FIRST or graph.in_shape(node)[1] != 1:
        return False
    batch, _, a, b = graph.in_shape(node)
    stem = node.output
    chain: list[Node] = [
        Reshape(name=f"{node.name}.before", inputs=node.inputs, output=f"{stem}.map"),
        replace(node, inputs=(f"{stem}.map",), output=f"{stem}.last", dims=TO_CHANNELS_LAST),
        Reshape(name=f"{node.name}.after", inputs=(f"{stem}.last",), output=stem),
    ]
    graph.edit({node: chain}, [Value(f"{stem}.map", (batch, a, 1, b)), Value(f"{stem}.last", (batch, 1, b, a))])
    return True

# SPDX-License-Identifier: Apache-2.0
"""BatchNorm, and arithmetic with constants: y = x * scale + shift per channel, all in float64."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from firmware_gen.ir import (
    IDENTITY,
    AnyGraph,
    BatchNorm,
    Concat,
    Conv,
    Fused,
    Graph,
    Interpolate,
    Linear,
    MatMul,
    Movement,
    Node,
    Pool,
    Reshape,
    Scale,
    Slice,
    Upsample,
    Weighted,
)
from firmware_gen.passes.edits.draft import Draft, edited
from firmware_gen.passes.edits.rewrite import substitute
from firmware_gen.passes.movement.reshapes import merge_reshape

New = dict[Node, Node]


def fold_batchnorm(graph: Graph) -> Graph:
    """Fold every BatchNorm and Scale into the layers before it, or else the one after it; Scale is what remains.

    Before: Conv and Linear, weight' = weight * scale, bias' = bias * scale + shift per output channel, also through
    Upsample, Interpolate, Concat, Slice of space, pooling and reshapes that it commutes with, one number for all
    elements through whatever moves them, when nothing else reads what lies between; through a reshape to channels of
    fewer rows, Conv has sections. A product of two computed matrices takes a factor.
    After: Linear, also across a Flatten, and Conv without padding, weight' = weight * scale per input channel,
    bias' = bias + weight * shift; unless the model has these weights as INT8.
    """
    graph = edited(graph, _fold, merge_reshape)
    return substitute(graph, {n: _as_scale(n) for n in graph.nodes if isinstance(n, BatchNorm)})


def _fold(graph: Draft, node: Node) -> bool:
    if not isinstance(node, BatchNorm | Scale) or _has_epilogue(node):
        return False
    scale, shift = node.scale, node.shift if isinstance(node, BatchNorm) else node.bias
    if (new := _into_producers(graph, node.inputs[0], scale, shift)) is not None:
        graph.substitute(new)
        producer = graph.producer(node.inputs[0])
        assert producer, "there is one that takes them"
        graph.absorb(producer, node)
    elif (new := _into_reader(graph, node.output, scale, shift)) is not None:
        graph.substitute(new)
        graph.bypass(node)
    return new is not None


def _has_epilogue(node: Node) -> bool:
    """Whether something was fused already: then its output is not linear in its weights any more."""
    return isinstance(node, Fused) and (node.act != IDENTITY or node.residual != "none")


def _as_scale(norm: BatchNorm) -> Scale:
    return Scale(name=norm.name, inputs=norm.inputs, output=norm.output, scale=norm.scale, bias=norm.shift)


def _into_producers(graph: AnyGraph, value: str, scale: np.ndarray, shift: np.ndarray) -> New | None:
    """The nodes, old to new, that make `value` come out as value * scale + shift; None when there are none."""
    node = graph.producer(value)
    if node is None or graph.read_once_by(value) is None or _has_epilogue(node):
        return None
    match node:
        case Conv():
            return {
                node: _scaled_outputs(node, *(np.repeat(array, math.prod(node.sections)) for array in (scale, shift)))
            }
        case Linear():
            return {node: _scaled_outputs(node, scale, shift)}
        case BatchNorm():
            return {node: replace(node, scale=node.scale * scale, shift=node.shift * scale + shift)}
        case Scale():
            return {node: replace(node, scale=node.scale * scale, bias=node.bias * scale + shift)}
        case Upsample() | Interpolate():
            return _into_producers(graph, node.inputs[0], scale, shift)
        case Slice() if graph.in_shape(node)[1] == graph.out_shape(node)[1]:
            return _into_producers(graph, node.inputs[0], scale, shift)
        case Reshape() if _keeps_channels(graph, node):
            return _into_producers(graph, node.inputs[0], scale, shift)
        case Reshape() if sections := _sections(graph, node):
            return _into_sections(graph, node.inputs[0], sections, scale, shift)
        case Pool() if _commutes(node, scale, shift):
            return _into_producers(graph, node.inputs[0], scale, shift)
        case Concat() if len(set(node.inputs)) == len(node.inputs):
            return _into_parts(graph, node, scale, shift)
        case MatMul() if _is_uniform(scale, shift) and not shift[0]:
            return {node: replace(node, scale=node.scale * float(scale[0]))}
        case Movement(rearranges=True) if _is_uniform(scale, shift):
            return _into_producers(graph, node.inputs[0], *_of_channels(graph, node.inputs[0], scale, shift))
    return None


def _is_uniform(scale: np.ndarray, shift: np.ndarray) -> bool:
    return bool((scale == scale[0]).all() and (shift == shift[0]).all())


def _of_channels(graph: AnyGraph, value: str, scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same number of each for every channel of `value`."""
    shape = graph.shape(value)
    channels = shape[min(1, len(shape) - 1)]
    return np.full(channels, scale[0]), np.full(channels, shift[0])


def _into_parts(graph: AnyGraph, concat: Concat, scale: np.ndarray, shift: np.ndarray) -> New | None:
    new: New = {}
    first = 0
    for value in concat.inputs:
        shape = graph.shape(value)
        channels = slice(None)
        if concat.joins_channels(shape):
            channels = slice(first, first + shape[concat.axis_of(shape)])
            first = channels.stop
        part = _into_producers(graph, value, scale[channels], shift[channels])
        if part is None:
            return None
        new |= part
    return new


def _sections(graph: AnyGraph, node: Reshape) -> int:
    """By how many a Reshape of maps divides their rows and multiplies their channels; 0 for any other."""
    before, after = graph.in_shape(node), graph.out_shape(node)
    if not len(before) == len(after) == 4 or before[2] % after[2]:
        return 0
    sections = before[2] // after[2]
    return sections if after == (before[0], before[1] * sections, before[2] // sections, before[3]) else 0


def _into_sections(graph: AnyGraph, value: str, sections: int, scale: np.ndarray, shift: np.ndarray) -> New | None:
    """`_into_producers` where every channel has a scale for each section of its rows."""
    conv = graph.producer(value)
    if not isinstance(conv, Conv) or conv.is_transposed or conv.sections not in ((1, 1), (sections, 1)):
        return None
    if graph.read_once_by(value) is None or _has_epilogue(conv):
        return None
    rows = conv.stride[0] * graph.shape(value)[2] // sections
    if conv.dilation[0] * (conv.kernel[0] - 1) > 2 * rows:
        return None  # what neighbours both read takes longer than the scales apart

    def each(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else np.repeat(array, sections // conv.sections[0], axis=0)

    fields: dict[str, Any] = {name: each(getattr(conv, name)) for name in ("weight", "bias", "weight_scale")}
    return {conv: _scaled_outputs(replace(conv, sections=(sections, 1), **fields), scale, shift)}


def _scaled_outputs(node: Conv | Linear, scale: np.ndarray, shift: np.ndarray) -> Conv | Linear:
    """scale, shift: of every row of the weights."""
    per_channel = scale.reshape(-1, *[1] * (node.weight.ndim - 1))
    bias = shift if node.bias is None else node.bias * scale + shift
    weight_scale = None if node.weight_scale is None else node.weight_scale * scale
    return replace(node, weight=node.weight * per_channel, bias=bias, weight_scale=weight_scale)


def _commutes(pool: Pool, scale: np.ndarray, shift: np.ndarray) -> bool:
    """An average without counted padding is linear; a maximum keeps its place under an increasing function."""
    if pool.kind == "max":
        return bool((scale > 0).all())
    return pool.divisor_override is None and not (any(pool.pads) and pool.count_include_pad)


def _keeps_channels(graph: AnyGraph, node: Reshape) -> bool:
    before, after = graph.in_shape(node), graph.out_shape(node)
    return len(before) > 1 and len(after) > 1 and before[:2] == after[:2]


def _into_reader(graph: AnyGraph, value: str, scale: np.ndarray, shift: np.ndarray) -> New | None:
    """The only reader of `value`, changed to read it unscaled; None when it cannot be."""
    reader = graph.read_once_by(value)
    if isinstance(reader, Reshape) and len(graph.shape(value)) == 4 and len(graph.out_shape(reader)) == 2:
        before, after = graph.shape(value), graph.out_shape(reader)
        pixels = before[2] * before[3]
        if before[0] == after[0]:
            return _into_reader(graph, reader.output, np.repeat(scale, pixels), np.repeat(shift, pixels))
    if isinstance(reader, Movement) and reader.rearranges and _is_uniform(scale, shift):
        return _into_reader(graph, reader.output, *_of_channels(graph, reader.output, scale, shift))
    if isinstance(reader, MatMul) and reader.inputs.count(value) == 1 and _is_uniform(scale, shift) and not shift[0]:
        return {reader: replace(reader, scale=reader.scale * float(scale[0]))}
    if reader is None or reader.inputs[0] != value:
        return None
    if isinstance(reader, Weighted) and reader.weight_scale is not None:
        return None  # its weights would not be integers times one number any more
    if isinstance(reader, Linear):
        return {reader: _with_inputs(reader, reader.weight * scale, reader.weight @ shift)}
    if isinstance(reader, Conv) and not any(reader.pads) and not reader.is_transposed and reader.sections == (1, 1):
        per_group = reader.weight.shape[1]
        group = np.arange(reader.out_channels) // (reader.out_channels // reader.groups)
        channel = group[:, None] * per_group + np.arange(per_group)  # (O, C/groups)
        weight = reader.weight * scale[channel][:, :, None, None]
        return {reader: _with_inputs(reader, weight, (reader.weight.sum(axis=(2, 3)) * shift[channel]).sum(axis=1))}
    return None


def _with_inputs(node: Conv | Linear, weight: np.ndarray, bias: np.ndarray) -> Conv | Linear:
    return replace(node, weight=weight, bias=bias if node.bias is None else node.bias + bias)

# SPDX-License-Identifier: Apache-2.0
"""Paddings and slices that become a part of the windows of the layer beside them."""

from dataclasses import replace
from typing import Any

from firmware_gen.ir import AnyGraph, Conv, Graph, Node, Pad, Slice
from firmware_gen.passes.edits.draft import Draft, edited


def merge_pads(graph: Graph) -> Graph:
    """Merge padding into every reader that does it itself. MaxPool pads with -inf, so a zero Pad in front of it stays;
    the others pad with 0."""
    return edited(graph, _merge_pad)


def _merge_pad(graph: Draft, node: Node) -> bool:
    pad = graph.producer(node.inputs[0])
    merged = node.padded(pad.pads, pad.value) if isinstance(pad, Pad) else None
    if pad and merged:
        graph.substitute({node: replace(merged, inputs=(pad.inputs[0], *node.inputs[1:]))})
    return merged is not None


def merge_slices(graph: Graph) -> Graph:
    """Merge a Slice into the Slice or the Conv that it is the only reader of: a Conv computes only what is kept."""
    return edited(graph, _merge_slice)


def _merge_slice(graph: Draft, node: Node) -> bool:
    producer = graph.producer(node.inputs[0])
    if not isinstance(node, Slice) or producer is None or graph.read_once_by(producer.output) is not node:
        return False
    fields = _sliced(graph, producer, node)
    if fields is not None:
        graph.absorb(producer, node, **fields)
    return fields is not None


def _sliced(graph: AnyGraph, producer: Node, node: Slice) -> dict[str, Any] | None:
    """What changes in `producer` when it also does what `node` does; None when it cannot."""
    if isinstance(producer, Slice):
        pairs = list(zip(producer.start, producer.step, node.start, node.step, strict=True))
        return {"start": tuple(a + s * b for a, s, b, _ in pairs), "step": tuple(s * t for _, s, _, t in pairs)}
    whole = graph.in_shape(node)[1] == graph.out_shape(node)[1]
    if not isinstance(producer, Conv) or producer.is_transposed or producer.sections != (1, 1) or not whole:
        return None
    stride, pads = [], []
    for axis in range(2):
        step = producer.stride[axis] * node.step[1 + axis]
        before = producer.pads[axis] - producer.stride[axis] * node.start[1 + axis]
        reach = producer.dilation[axis] * (producer.kernel[axis] - 1)
        size, outputs = graph.in_shape(producer)[2 + axis], graph.out_shape(node)[2 + axis]
        after = max((outputs - 1) * step + reach + 1 - size - before, 0)
        if before < 0 or (size + before + after - reach - 1) // step + 1 != outputs:
            return None
        stride.append(step)
        pads.append((before, after))
    (top, bottom), (left, right) = pads
    return {"stride": tuple(stride), "pads": (top, left, bottom, right)}

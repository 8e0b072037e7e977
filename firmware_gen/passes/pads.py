# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace
from typing import Any

from firmware_gen.ir import Conv, Graph, Node, Pad, Pool
from firmware_gen.passes.cleanup import drop_dead
from firmware_gen.passes.rewrite import substitute


def merge_pads(graph: Graph) -> Graph:
    """Merge padding with the reader's own value into every Conv or pooling that reads it, and a Pad into an
    equal-valued Pad.

    MaxPool pads with -inf, so a zero Pad in front of it stays; the others pad with 0. AvgPool takes it where the
    divisor stays right: explicit zeros always count, its own padding only with count_include_pad.
    """
    for node in graph.nodes:
        pad = graph.producer(node.inputs[0])
        if isinstance(pad, Pad) and isinstance(node, Pad | Pool | Conv) and _mergeable(pad, node):
            return merge_pads(drop_dead(substitute(graph, {node: _merged(pad, node)})))
    return graph


def _mergeable(pad: Pad, reader: Pad | Pool | Conv) -> bool:
    if isinstance(reader, Pad):
        return reader.value == pad.value
    if isinstance(reader, Pool) and reader.adaptive:
        return False
    if isinstance(reader, Pool) and reader.kind == "max":
        return pad.value == -math.inf and not reader.ceil_mode
    if pad.value != 0:
        return False
    if isinstance(reader, Conv):
        return not reader.is_transposed  # its zeros lie between the input's rows
    if isinstance(reader, Pool) and not reader.ceil_mode:
        return not any(reader.pads) or reader.count_include_pad or reader.divisor_override is not None
    return False


def _merged(pad: Pad, reader: Pad | Pool | Conv) -> Node:
    top, left, bottom, right = (a + b for a, b in zip(pad.pads, reader.pads, strict=True))
    fields: dict[str, Any] = {"count_include_pad": True} if isinstance(reader, Pool) and reader.kind == "avg" else {}
    return replace(reader, inputs=(pad.inputs[0], *reader.inputs[1:]), pads=(top, left, bottom, right), **fields)

# SPDX-License-Identifier: Apache-2.0
"""Which operand of a sum or product is loaded, and which one comes as the second; columns that are channels."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from firmware_gen import ir
from firmware_gen.operations import operation
from firmware_gen.operations.operation import Operation
from firmware_gen.operations.tensors import Tensor
from firmware_gen.operations.windows import copy_window


def operations_of(node: ir.Node, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """`operation.operations_of`, as the array does it."""
    found = operation.operations_of(node, sources, target)
    if isinstance(node, ir.Conv) and node.sections[1] > 1 and (one := _as_one_column(found)):
        return [one]
    return [_swapped(own) for own in found]


def _as_one_column(found: list[Operation]) -> Operation | None:
    """The sections of a depthwise convolution's columns together, where a row in memory is also one column with the
    channels of all: each of these has a scale and a bias, and takes its neighbours' words; None where it is not."""
    first = found[0]
    op, rows = first.op, [own.rectangle and own.rectangle[1] for own in found]
    views = [view for view in (first.source, first.target, first.aux) if view]
    dense = all((view.c, view.x, view.y) == (1, op.channels, op.width * op.channels) for view in views)
    alike = op.width == op.out_width and op.stride[1] == 1 and len(set(rows)) == len(found)
    if not op.diagonal or not dense or not alike:
        return None

    def every(arrays: Iterable[Any], axis: int) -> np.ndarray:
        """Of all columns, from those of the sections."""
        return np.concatenate([a for own, a in zip(found, arrays, strict=True) for _ in _columns(own)], axis)

    channels = op.width * op.channels
    whole = replace(
        op,
        channels=channels,
        width=1,
        out_width=1,
        cout=channels,
        weight=every((own.op.weight for own in found), 0),
        scale=every((own.op.scale for own in found), 1),
        bias=every((own.op.bias for own in found), 1),
        tap=op.channels,
    )
    return replace(first, op=whole, rectangle=None)


def _columns(own: Operation) -> range:
    assert own.rectangle, "a section is a part of the output"
    return range(*own.rectangle[1])


def _swapped(own: Operation) -> Operation:
    """A map that meets one number per channel is the second operand, and these are loaded, once: the load engine can go
    on with the next layer meanwhile."""
    op, aux = own.op, own.aux
    copy = replace(
        copy_window((op.channels, op.height, op.width)), act=op.act, residual=op.residual, combine=op.combine
    )
    if aux is None or own.flat or op.weight is not None or op.residual != "before_act":
        return own
    if op.combine not in ("add", "multiply") or isinstance(op.scale, np.ndarray) or op != copy:
        return own
    dense = all(view.y == op.width * view.x for view in (own.source, own.target))
    if not dense or aux.x or aux.y or aux.c != 1 or op.width * op.height == 1:
        return own
    return replace(
        own,
        op=replace(op, height=1, width=1, stride=(0, 0)),
        source=aux,
        source_step=own.aux_step,
        aux=own.source,
        aux_step=own.source_step,
    )

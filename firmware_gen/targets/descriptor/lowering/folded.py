# SPDX-License-Identifier: Apache-2.0
"""Convolutions of one input channel whose windows move by several rows: so many rows are loaded as channels, side by
side, so that a kernel row of few columns fills a vector.
"""

from dataclasses import replace

import numpy as np

from firmware_gen.operations.operation import Operation
from firmware_gen.operations.windows import Rectangle, Windowed
from hls.config import Config

WORTH = 0.9
"""Of the vectors of whole kernel rows one by one, that folded ones take at most."""


def rows_of(op: Windowed) -> int:
    """Input rows that may lie side by side, 1 for none: as many as the window moves by, where they divide kernel and
    padding."""
    one = op.channels == op.groups == 1 and op.weight is not None and not op.diagonal and op.dilation[0] == 1
    rows = op.stride[0]
    return rows if one and rows > 1 and op.kernel[0] % rows == op.top % rows == 0 and op.height >= rows else 1


def pays(op: Windowed, config: Config) -> bool:
    """Whether rows side by side take fewer vectors."""
    rows = rows_of(op)
    return rows > 1 and _vectors(op, rows, config) <= WORTH * _vectors(op, 1, config)


def folded(operation: Operation, config: Config) -> list[Operation]:
    """An operation with rows of its input side by side where that pays, and before it one for the outputs that see
    rows at the end which are too few to begin with the first row: the next layer begins with the others."""
    op, rows = operation.op, rows_of(operation.op)
    (first, last), columns = operation.rectangle or ((0, op.out_height), (0, op.out_width))
    if not pays(op, config):
        return [operation]
    whole, over = divmod(op.height, rows)
    end = min(last, (whole * rows - op.kernel[0] + op.top) // rows + 1) if over else last
    if end <= first:
        return [operation]
    result = [_side_by_side(operation, rows, 0, ((first, end), columns))]
    if end < last:
        result.insert(0, _side_by_side(operation, rows, over, ((end, last), columns)))
    return result


def _side_by_side(operation: Operation, rows: int, first: int, rectangle: Rectangle) -> Operation:
    """So many rows from the first one on lie side by side. Where that is not row 0, windows begin with rows of no
    weight, and end with rows outside, of which none has a weight."""
    op, source = operation.op, operation.source
    assert op.weight is not None, "a convolution has weights"
    weight = op.weight
    if first:
        none = np.zeros_like(weight[:, :, : rows - first])
        weight = np.concatenate([none, weight[:, :, : first - rows]], axis=2)
    kernel = (op.kernel[0] // rows, op.kernel[1])
    part = replace(
        op,
        channels=rows,
        height=op.height // rows,
        kernel=kernel,
        stride=(op.stride[0] // rows, op.stride[1]),
        top=op.top // rows + (first > 0),
        weight=weight.reshape(1, op.cout, kernel[0], rows, kernel[1]).transpose(0, 1, 2, 4, 3),
    )
    view = replace(source, base=source.at(y=first), c=source.y, y=rows * source.y)
    return replace(operation, op=part, source=view, rectangle=rectangle)


def _vectors(op: Windowed, rows: int, config: Config) -> int:
    """Of an output, for a channel block."""
    return (op.kernel[0] // rows) * -(-rows * op.kernel[1] // config.rows)

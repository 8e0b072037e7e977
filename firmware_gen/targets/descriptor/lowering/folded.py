# SPDX-License-Identifier: Apache-2.0
"""Convolutions of one input channel whose windows move by several rows: so many rows are loaded as channels, side by
side, so that a kernel row of few columns fills a vector.
"""

from dataclasses import replace

from firmware_gen.operations.operation import Operation
from firmware_gen.operations.windows import Windowed
from hls.config import Config

WORTH = 0.9
"""Of the vectors of whole kernel rows one by one, that folded ones take at most."""


def rows_of(op: Windowed) -> int:
    """Input rows that may lie side by side, 1 for none: as many as the window moves by, where they divide kernel and
    padding."""
    one = op.channels == op.groups == 1 and op.weight is not None and not op.diagonal and op.dilation[0] == 1
    rows = op.stride[0]
    return rows if one and rows > 1 and op.kernel[0] % rows == op.top % rows == 0 and op.height >= rows else 1


def folded(operation: Operation, config: Config) -> list[Operation]:
    """An operation with rows of its input side by side where that pays, and before it one for the outputs that see
    rows at the end which are too few for that: the next layer begins with the others."""
    op, rows = operation.op, rows_of(operation.op)
    (first, last), columns = operation.rectangle or ((0, op.out_height), (0, op.out_width))
    if rows == 1:
        return [operation]
    whole = op.height // rows
    end = last if op.height % rows == 0 else min(last, (whole * rows - op.kernel[0] + op.top) // rows + 1)
    if end <= first or _vectors(op, rows, end - first, config) + _vectors(op, 1, last - end, config) > WORTH * _vectors(
        op, 1, last - first, config
    ):
        return [operation]
    assert op.weight is not None, "a convolution has weights"
    source, kernel = operation.source, (op.kernel[0] // rows, op.kernel[1])
    weight = op.weight.reshape(1, op.cout, kernel[0], rows, kernel[1]).transpose(0, 1, 2, 4, 3)
    side_by_side = replace(
        op,
        channels=rows,
        height=whole,
        kernel=kernel,
        stride=(op.stride[0] // rows, op.stride[1]),
        top=op.top // rows,
        weight=weight,
    )
    view = replace(source, c=source.y, y=rows * source.y)
    result = [replace(operation, op=side_by_side, source=view, rectangle=((first, end), columns))]
    if end < last:
        taps = min(op.kernel[0], op.height - end * op.stride[0] + op.top)  # of which one is inside
        rest = replace(op, kernel=(taps, op.kernel[1]), weight=op.weight[:, :, :taps])
        result.insert(0, replace(operation, op=rest, rectangle=((end, last), columns)))
    return result


def _vectors(op: Windowed, rows: int, outputs: int, config: Config) -> int:
    """Of so many rows of the output, for a column and a channel block."""
    return outputs * (op.kernel[0] // rows) * -(-rows * op.kernel[1] // config.rows)

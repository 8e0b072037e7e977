# SPDX-License-Identifier: Apache-2.0
"""What a range of outputs sees of its input along one axis."""

from firmware_gen.operations.windows import Range


def along(
    axis_range: Range, taps: Range, size: int, stride: int, dilation: int, before: int
) -> tuple[tuple[int, int, int], int, int]:
    """Input of a range of outputs along one axis: (first, count, step) to load, window start and stride in it."""
    if stride == 0:
        return (0, 1, 1), 0, 0
    outputs = axis_range[1] - axis_range[0]
    start = axis_range[0] * stride - before + taps[0] * dilation
    if taps[1] - taps[0] == 1 and start >= 0 and start + (outputs - 1) * stride < size:
        return (start, outputs, stride), 0, 1  # what the stride skips is not loaded
    stop = start + (outputs - 1) * stride + (taps[1] - taps[0] - 1) * dilation + 1
    first = min(max(start, 0), size - 1)
    return (first, max(min(stop, size), first + 1) - first, 1), start - first, stride if outputs > 1 else 1

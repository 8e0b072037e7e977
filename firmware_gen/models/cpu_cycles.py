# SPDX-License-Identifier: Apache-2.0
"""Cycles of what the CPU computes: iterations of the loops of its C++, times what one takes."""

from collections import Counter
from collections.abc import Mapping
from functools import singledispatch
from typing import TypeAlias

import numpy as np

from firmware_gen import ir
from firmware_gen.ir.costs import costs
from firmware_gen.memory.network import Layer
from firmware_gen.operations.windows import Windowed

Iterations: TypeAlias = Mapping[tuple[str, str], int]
"""Of loops, by kernel and loop."""

BLOCK = PIXELS = 4
"""Outputs, and pixels, that `dense` of runtime/kernels.cpp computes together; rows, and columns, of `matmul`."""


def cycles_of(iterations: Iterations) -> int | None:
    """Of so many iterations; None where a kernel was never measured."""
    if not iterations.keys() <= costs().keys():
        return None
    return round(sum(costs()[loop] * count for loop, count in iterations.items()))


@singledispatch
def iterations_of(node: ir.OnCpu, layer: Layer) -> Iterations:
    """Of an operator of the CPU: whatever is not known otherwise takes so much for a call, and for every element."""
    return _each(node.called, call=1, element=layer.target.size)


@iterations_of.register
def _(node: ir.Softmax, layer: Layer) -> Iterations:
    rows = layer.target.size // layer.target.shape[node.axis]
    return _each(node.called, call=1, row=rows, element=layer.target.size)


@iterations_of.register
def _(node: ir.Normalise, layer: Layer) -> Iterations:
    return _each(node.called, call=1, row=layer.target.size // node.count, element=layer.target.size)


@iterations_of.register
def _(node: ir.MatMul, layer: Layer) -> Iterations:
    outer, inner, rows, depth, columns = node.sizes
    near = node.a.steps[3] == 1 and 1 in node.b.steps[2:]
    iterations = {"call": 1, "matrix": outer * inner}
    for high, rows_of in ((BLOCK, rows - rows % BLOCK if near else 0), (1, rows % BLOCK if near else rows)):
        for wide, columns_of in ((BLOCK, columns - columns % BLOCK), (1, columns % BLOCK)):
            blocks = outer * inner * (rows_of // high) * (columns_of // wide)
            kind = f"{high}x{wide}{'' if near else ', far'}"
            iterations |= {f"block {kind}": blocks, f"step {kind}": blocks * depth}
    return _each(node.kernel, **iterations)


@iterations_of.register
def _(node: ir.Planes, layer: Layer) -> Iterations:
    return _each(node.kernel, **node.iterations)


def window_iterations(kernel: str, op: Windowed, channels_first: bool) -> Iterations:
    """Of one image of a kernel that moves a window: dense, depthwise, max_pool or average_pool."""
    high = _inside(op.out_height, op.stride[0], op.dilation[0], op.top, op.kernel[0], op.height)
    wide = _inside(op.out_width, op.stride[1], op.dilation[1], op.left, op.kernel[1], op.width)
    pixels, taps = len(high) * len(wide), int(high.sum() * wide.sum())
    rows = int(high.sum()) * len(wide)
    if kernel == "dense":
        iterations = _dense(op, high, wide, channels_first)
    elif kernel == "depthwise":
        blocks, single = divmod(op.channels, BLOCK)
        both = blocks + single
        iterations = {"pixel": pixels, "block": pixels * both, "row": rows * both}
        iterations |= {"tap": taps * single, "block_tap": taps * blocks, "output": pixels * op.channels}
    else:
        iterations = {
            "pixel": pixels,
            "output": pixels * op.channels,
            "row": rows * op.channels,
            "tap": taps * op.channels,
        }
    outputs = pixels * (op.channels if op.diagonal else op.groups * op.cout)
    return {**_each(kernel, call=1, **iterations), **_epilogue(op, outputs)}


def row_iterations(op: Windowed, channels_first: bool, depth: int, width: int, pushed: bool) -> Iterations:
    """Of one image of a product, besides a Linear layer's: what `runtime/gemm/gemm.hpp` copies of A, which are windows
    that leave the input, and others too where the driver takes neighbouring words only (not `pushed`); for every block
    of `depth` taps and every tile of `width` outputs."""
    high = _inside(op.out_height, op.stride[0], op.dilation[0], op.top, op.kernel[0], op.height)
    wide = _inside(op.out_width, op.stride[1], op.dilation[1], op.left, op.kernel[1], op.width)
    rows, pixels = _interior(high, op.kernel[0]), len(high) * len(wide)
    whole = rows * _interior(wide, op.kernel[1])
    channels = op.channels // op.groups
    planar = channels_first or channels == 1
    inner = op.kernel[1] if planar else channels
    joined = inner if planar or op.groups > 1 or op.dilation[1] > 1 else op.kernel[1] * channels
    iterations: Counter[str] = Counter()
    for begin in range(0, op.kernel[0] * op.kernel[1] * channels, depth):
        end = min(begin + depth, op.kernel[0] * op.kernel[1] * channels)
        runs = (end - 1) // inner - begin // inner + 1
        near = begin // joined == (end - 1) // joined and not (planar and op.dilation[1] > 1)
        one_position = runs == 1 and not planar
        copied = pixels if not (pushed or near) else 0 if pushed and one_position else pixels - whole
        iterations += Counter({"window": copied, "run": copied * runs, "tap": copied * (end - begin)})
        if whole < pixels:
            iterations["segment"] += len(high) + 2 * rows
        if not near:
            iterations["listed run"] += runs
            iterations["far tap"] += whole * (end - begin) * pushed
    tiles = op.groups * -(-op.cout // width)
    return _each("pushed" if pushed else "copied", **{loop: tiles * count for loop, count in iterations.items()})


def _epilogue(op: Windowed, outputs: int) -> Iterations:
    """Of what runtime/epilogue.hpp calls for every output, because it is not a clamp."""
    if op.act.function:
        return _each("function", element=outputs)
    if op.residual == "none" and op.act.clamps:
        return {}
    return _each("epilogue", **{"sum" if op.combine == "add" else "other": outputs})


def _dense(op: Windowed, high: np.ndarray, wide: np.ndarray, channels_first: bool) -> dict[str, int]:
    """As `each_group` takes pixels: four at a time where they see the same taps; of the taps of a run, four at a time
    too."""
    channels = op.channels // op.groups
    rows, columns = _interior(high, op.kernel[0]), _interior(wide, op.kernel[1])
    blocks = op.groups * -(-op.cout // BLOCK)
    iterations = Counter({"block": blocks, "output": len(high) * len(wide) * op.groups * op.cout})

    def count(kind: str, groups: int, lines: int, kx: int) -> None:
        """`groups` of pixels, which see `lines` rows of taps in all, of `kx` columns."""
        if channels_first:
            runs, length = channels, kx
        elif op.groups == 1 and op.dilation[1] == 1:
            runs, length = 1, kx * channels
        else:
            runs, length = kx, channels
        iterations[kind] += blocks * groups
        iterations[f"run of {kind}"] += blocks * lines * runs
        iterations[f"taps of {kind}"] += blocks * lines * runs * (length // BLOCK)
        iterations[f"tap of {kind}"] += blocks * lines * runs * (length % BLOCK)

    if columns >= PIXELS:
        groups = -(-columns // PIXELS)
        count("four", len(high) * groups, int(high.sum()) * groups, op.kernel[1])
    for kx in (int(kx) for kx in wide if columns < PIXELS or kx < op.kernel[1]):
        single = high if rows < PIXELS else high[high < op.kernel[0]]
        if rows >= PIXELS:
            groups = -(-rows // PIXELS)
            count("four", groups, groups * op.kernel[0], kx)
        count("one", len(single), int(single.sum()), kx)
    return iterations


def _inside(outputs: int, stride: int, dilation: int, before: int, taps: int, size: int) -> np.ndarray:
    """Per output position along an axis, the taps that lie inside the input."""
    at = np.arange(outputs)[:, None] * stride - before + np.arange(taps) * dilation
    counts: np.ndarray = ((at >= 0) & (at < size)).sum(1)
    return counts


def _interior(counts: np.ndarray, taps: int) -> int:
    """Positions that see all taps."""
    return int((counts == taps).sum())


def _each(kernel: str, **iterations: int) -> dict[tuple[str, str], int]:
    return {(kernel, loop): count for loop, count in iterations.items() if count}

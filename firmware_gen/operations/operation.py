# SPDX-License-Identifier: Apache-2.0
"""Nodes of the graph -> operations: a `Windowed` on tensors where they lie."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np

from firmware_gen import ir
from firmware_gen.operations.tensors import Tensor, View, channel_axis, channel_part, map_view
from firmware_gen.operations.windows import (
    COPY_WINDOW,
    Range,
    Windowed,
    copy_window,
    linear_window,
    scale_window,
    windowed_ops,
)
from hls.errors import HeepgenError


@dataclass(frozen=True)
class Operation:
    """A `Windowed` with its places in memory, repeated for every image of the batch; steps are in words.

    flat: an elementwise operation on that many contiguous words; `op` then only carries activation and residual.
    """

    op: Windowed
    source: View
    target: View
    aux: View | None = None
    rectangle: tuple[Range, Range] | None = None
    images: int = 1
    source_step: int = 0
    target_step: int = 0
    aux_step: int = 0
    flat: int = 0


@singledispatch
def operations_of(node: ir.Node, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """What a node does, for the accelerator and for the software kernels alike."""
    raise HeepgenError(f"layer {node.name}: {node.op} has no form on the accelerator")


@operations_of.register
def _(node: ir.Activate | ir.Reshape | ir.Add, sources: list[Tensor], target: Tensor) -> list[Operation]:
    return [_elementwise(node, sources, target)]


@operations_of.register
def _(node: ir.Permute, sources: list[Tensor], target: Tensor) -> list[Operation]:
    channels_last = replace(target, shape=sources[0].shape, channels_last=sources[0].shape[1:])
    return [_elementwise(node, sources, channels_last)]


@operations_of.register
def _(node: ir.Linear, sources: list[Tensor], target: Tensor) -> list[Operation]:
    return [_vector_operation(node, sources, target, node.in_features, node.out_features)]


@operations_of.register
def _(node: ir.Scale, sources: list[Tensor], target: Tensor) -> list[Operation]:
    if len(target.shape) == 4:
        return _map_operations(node, sources, target, target.shape)
    return [_vector_operation(node, sources, target, target.shape[-1], target.shape[-1])]


@operations_of.register
def _(node: ir.Conv, sources: list[Tensor], target: Tensor) -> list[Operation]:
    if node.is_transposed:
        return _transposed(node, sources, target)
    return _map_operations(node, sources, target, target.shape)


@operations_of.register
def _(node: ir.Pool | ir.Pad, sources: list[Tensor], target: Tensor) -> list[Operation]:
    return _map_operations(node, sources, target, target.shape)


def _map_operations(node, sources: list[Tensor], target: Tensor, out_shape: ir.Shape) -> list[Operation]:
    """What a node on maps does, or that of its outputs which have this shape."""
    aux = sources[1] if node.residual_input else None
    residual = node.residual if aux else "none"
    operation = _map_operation(None, sources[0], target, aux)
    result = []
    for op, rectangle, (offset, step) in windowed_ops(node, sources[0].shape, out_shape):
        views = [v and replace(v, base=v.at(offset), c=v.c * step) for v in (operation.target, operation.aux)]
        result.append(
            replace(operation, op=replace(op, residual=residual), rectangle=rectangle, target=views[0], aux=views[1])
        )
    return result


def _elementwise(node, sources: list[Tensor], target: Tensor) -> Operation:
    """act(a) or act(a + b), of any shapes, copying between layouts where they differ."""
    fields = {"act": getattr(node, "act", ir.IDENTITY), "residual": "before_act" if len(sources) > 1 else "none"}
    every = [*sources, target]
    aux = sources[1] if len(sources) > 1 else None
    same = all(t.channels_last == target.channels_last for t in every)
    if same and not any(t.pitch for t in every):
        views = [t and View(t.base, 1, 1, 0) for t in (sources[0], target, aux)]
        return Operation(replace(COPY_WINDOW, **fields), *views, flat=target.size)
    if len(target.shape) == 4:
        return _map_operation(copy_window(target.shape[1:], **fields), sources[0], target, aux)
    if same:
        rows, features = target.shape
        views = [t and View(t.base, 1, t.pitch or features, 0) for t in (sources[0], target, aux)]
        return Operation(copy_window((features, 1, rows), **fields), *views)
    shape = next(t.channels_last for t in every if t.channels_last)
    return _map_operation(copy_window(shape, **fields), sources[0], target, aux, shape)


def _map_operation(op, source: Tensor, target: Tensor, aux: Tensor | None, shape=None) -> Operation:
    """`op` from maps to maps; `shape` is that of all of them when their tensors are flattened."""
    shapes = [shape or t.shape[1:] if t else () for t in (source, target, aux)]
    maps = [map_view(t, s) for t, s in zip((source, target, aux), shapes, strict=True)]
    return Operation(
        op, *(view for view, _ in maps), None, source.size // math.prod(shapes[0]), *(step for _, step in maps)
    )


def _vector_operation(node, sources: list[Tensor], target: Tensor, inputs: int, outputs: int) -> Operation:
    """Linear or Scale on (N, F) or (F,): the vectors of a batch are the pixels of a row."""
    source, residual = sources[0], node.residual
    if residual != "none" and sources[1].channels_last != target.channels_last:
        raise HeepgenError(
            f"layer {node.name}: its residual is a flattened feature map in another order than its "
            "output; add it before flattening, or as a layer of its own"
        )
    op = (
        linear_window(node, source.shape, source.channels_last)
        if isinstance(node, ir.Linear)
        else scale_window(node, (inputs, 1, source.size // inputs), source.channels_last)
    )
    tensors_ = (source, target, sources[1] if residual != "none" else None)
    views = [t and View(t.base, 1, t.pitch or n, 0) for t, n in zip(tensors_, (inputs, outputs, outputs), strict=True)]
    return Operation(replace(op, residual=residual), *views)


@operations_of.register
def _(node: ir.Concat, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """Every input that does not lie there already is copied to its channels of the output."""
    result, channel = [], 0
    axis = channel_axis(target.shape)
    for source in sources:
        part = channel_part(target, source.shape, channel)
        channel += source.shape[axis]
        if source == part:
            continue
        if len(target.shape) == 4:
            result.append(_map_operation(copy_window(source.shape[1:]), source, part, None))
        elif source.channels_last:  # a flattened map, written in PyTorch's order
            shape = source.channels_last
            result.append(_map_operation(copy_window(shape), source, part, None, shape))
        else:
            count = source.shape[axis]
            views = [View(t.base, 1, t.pitch or count, 0) for t in (source, part)]
            result.append(Operation(copy_window((count, 1, source.size // count)), *views))
    return result


@operations_of.register
def _(node: ir.Upsample, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """The input is copied to every phase of the output."""
    high, wide = node.factor
    operation = _map_operation(copy_window(sources[0].shape[1:]), sources[0], target, None)
    view = operation.target
    return [
        replace(operation, target=replace(view, base=view.at(x=x, y=y), x=view.x * wide, y=view.y * high))
        for y in range(high)
        for x in range(wide)
    ]


@operations_of.register
def _(node: ir.Shuffle, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """Every group is copied to channels that lie `groups` apart."""
    _, channels, height, width = sources[0].shape
    size = channels // node.groups
    whole = _map_operation(copy_window((size, height, width)), sources[0], target, None, sources[0].shape[1:])
    return [
        replace(
            whole,
            source=replace(whole.source, base=whole.source.at(c=group * size)),
            target=replace(whole.target, base=whole.target.at(c=group), c=whole.target.c * node.groups),
        )
        for group in range(node.groups)
    ]


@operations_of.register
def _(node: ir.PixelShuffle, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """For every phase of the output, the channels that hold it are copied there."""
    factor = node.factor
    _, channels, height, width = sources[0].shape
    op = copy_window((channels // factor**2, height, width))
    whole = _map_operation(op, sources[0], target, None)
    view, out = whole.source, whole.target
    return [
        replace(
            whole,
            source=replace(view, base=view.at(c=y * factor + x), c=view.c * factor**2),
            target=replace(out, base=out.at(x=x, y=y), x=out.x * factor, y=out.y * factor),
        )
        for y in range(factor)
        for x in range(factor)
    ]


def _transposed(node: ir.Conv, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """A convolution for every phase of the output, with the kernel's taps that meet the input there."""
    axes = [_phases(node, axis, target.shape[2 + axis]) for axis in range(2)]
    result = []
    for y, x in itertools.product(*axes):
        part = replace(
            node,
            weight=_taps(_taps(node.weight, y, 2), x, 3),
            input_dilation=(1, 1),
            dilation=(y.dilation, x.dilation),
            pads=(y.before, x.before, 0, 0),
        )
        for operation in _map_operations(part, sources, target, (*target.shape[:2], y.outputs, x.outputs)):
            views = [
                v and replace(v, base=v.at(x=x.phase, y=y.phase), x=v.x * x.step, y=v.y * y.step)
                for v in (operation.target, operation.aux)
            ]
            result.append(replace(operation, target=views[0], aux=views[1]))
    return result


@dataclass(frozen=True)
class _Phase:
    """Outputs phase, phase + step, ... along an axis: a convolution by `taps` of the kernel, none where only the bias
    comes out."""

    phase: int
    step: int
    outputs: int
    taps: slice | None
    dilation: int
    before: int


def _phases(node: ir.Conv, axis: int, outputs: int) -> Iterator[_Phase]:
    """Output o is the sum over taps t of w[t] times row (o - pad + t * dilation) / step, where that is whole."""
    step, dilation = node.input_dilation[axis], node.dilation[axis]
    common = math.gcd(step, dilation)
    for phase in range(min(step, outputs)):
        count = -(-(outputs - phase) // step)
        offset = phase - node.pads[axis]
        meeting = (t for t in range(min(step // common, node.kernel[axis])) if (offset + t * dilation) % step == 0)
        first = next(meeting, None)
        if first is None:
            yield _Phase(phase, step, count, None, 1, count)  # a window before all rows
        else:
            yield _Phase(
                phase,
                step,
                count,
                slice(first, None, step // common),
                dilation // common,
                -(offset + first * dilation) // step,
            )


def _taps(weight: np.ndarray, phase: _Phase, axis: int) -> np.ndarray:
    taken = np.moveaxis(weight, axis, 0)
    taken = taken[phase.taps] if phase.taps else np.zeros_like(taken[:1])
    return np.moveaxis(taken, 0, axis)


@operations_of.register
def _(node: ir.Slice, sources: list[Tensor], target: Tensor) -> list[Operation]:
    operation = _map_operation(copy_window(target.shape[1:]), sources[0], target, None)
    view = operation.source
    (c, y, x), (step_c, step_y, step_x) = node.start, node.step
    part = View(view.at(c=c, x=x, y=y), view.c * step_c, view.x * step_x, view.y * step_y)
    return [replace(operation, source=part)]

# SPDX-License-Identifier: Apache-2.0
"""Nodes of the graph -> operations: a `Windowed` on tensors where they lie."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np

from firmware_gen import ir
from firmware_gen.operations import interpolation
from firmware_gen.operations.tensors import Ref, Tensor, View, map_view, newest_of, operand_view, slice_of
from firmware_gen.operations.windows import (
    Map,
    Rectangle,
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
    rectangle: Rectangle | None = None
    images: int = 1
    source_step: int = 0
    target_step: int = 0
    aux_step: int = 0
    flat: int = 0

    def storing(self, c: ir.Pair = (0, 1), x: ir.Pair = (0, 1), y: ir.Pair = (0, 1)) -> Operation:
        """The same for some of the output's channels, columns and rows, by (first, step); `View.every`."""
        return replace(self, target=self.target.every(c, x, y), aux=self.aux and self.aux.every(c, x, y))


@singledispatch
def operations_of(node: ir.Node, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """What a node does, for the accelerator and for the software kernels alike."""
    raise HeepgenError(f"layer {node.name}: {node.op} has no form on the accelerator")


@operations_of.register
def _(
    node: ir.Activate | ir.Reshape | ir.Combined | ir.Expand, sources: list[Tensor], target: Tensor
) -> list[Operation]:
    return [elementwise(node, sources, target)]


@operations_of.register
def _(node: ir.Permute, sources: list[Tensor], target: Tensor) -> list[Operation]:
    channels_last = replace(target, shape=sources[0].shape, channels_last=ir.chw(sources[0].shape[1:]))
    return [elementwise(node, sources, channels_last)]


@operations_of.register
def _(node: ir.AsStrided, sources: list[Tensor], target: Tensor) -> list[Operation]:
    (source,) = sources
    if source.channels_last or source.pitch:
        raise HeepgenError(f"layer {node.name}: what it reads does not lie in PyTorch's order")
    return _copies(source.base.moved(node.offset), node.strides, target.base, target.steps, target.shape)


def _copies(
    source: Ref, source_steps: Sequence[int], target: Ref, target_steps: Sequence[int], shape: ir.Shape
) -> list[Operation]:
    """An array of `shape`, copied between places whose elements lie so many words apart along its dimensions: maps
    whose rows, columns and channels are dimensions, neighbouring ones taken together where they go on alike in both."""
    loops: list[tuple[int, int, int]] = []  # (count, source, target), innermost of the target first
    given = zip(shape, source_steps, target_steps, strict=True)
    for loop in sorted((loop for loop in given if loop[0] > 1), key=lambda loop: loop[2]):
        inner = loops[-1] if loops else (0, 0, 0)
        if loop[1:] == (inner[0] * inner[1], inner[0] * inner[2]):
            loops[-1] = (inner[0] * loop[0], *inner[1:])
        else:
            loops.append(loop)
    near = [loop for loop in loops if 1 in loop[1:]] or loops[:1] or [(1, 1, 1)]
    channels = max(near, key=lambda loop: loop[0])
    rest = sorted((loop for loop in loops if loop != channels), reverse=True) + 3 * [(1, 0, 0)]
    columns, rows, images, *outer = rest
    op = copy_window((channels[0], rows[0], columns[0]))
    read, written = (View(base, channels[i], columns[i], rows[i]) for i, base in ((1, source), (2, target)))
    whole = Operation(op, read, written, images=images[0], source_step=images[1], target_step=images[2])
    result = []
    for place in itertools.product(*(range(loop[0]) for loop in outer)):
        first, other = (sum(n * loop[i] for n, loop in zip(place, outer, strict=True)) for i in (1, 2))
        result.append(replace(whole, source=read.moved(first), target=written.moved(other)))
    return result


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


def _map_operations(
    node: ir.Scale | ir.Conv | ir.Pool | ir.Pad, sources: list[Tensor], target: Tensor, out_shape: ir.Shape
) -> list[Operation]:
    """What a node on maps does, or that of its outputs which have this shape."""
    residual, combine = _second_operand(node)
    aux = sources[1] if residual != "none" else None
    result = []
    for op, rectangle, channels in windowed_ops(node, sources[0].shape, out_shape):
        whole = _map_operation(replace(op, residual=residual, combine=combine), sources[0], target, aux)
        result.append(replace(whole.storing(c=channels), rectangle=rectangle))
    return result


def _second_operand(node: ir.Node) -> tuple[str, str]:
    """When and how a node combines what it computes with its second input, as in `ir.Fused`."""
    if isinstance(node, ir.Combined):
        return "before_act", node.combine
    return (node.residual, node.combine) if isinstance(node, ir.Fused) else ("none", "add")


def elementwise(node: ir.Node, sources: list[Tensor], target: Tensor) -> Operation:
    """act(a), or act(a combined with b), of any shapes, copying between layouts where they differ."""
    aux = sources[1] if len(sources) > 1 else None
    act = node.act if isinstance(node, ir.Activated) else ir.IDENTITY
    residual, combine = _second_operand(node)

    def copy(shape: Map) -> Windowed:
        return replace(copy_window(shape), act=act, residual=residual, combine=combine)

    every = [*sources, target]
    same = all(t.channels_last == target.channels_last for t in every)
    if same and all(t.size == target.size and not t.pitch for t in every):
        aux_view = View(aux.base, 1, 1, 0) if aux else None
        views = View(sources[0].base, 1, 1, 0), View(target.base, 1, 1, 0)
        return Operation(copy((1, 1, 1)), *views, aux_view, flat=target.size)
    if len(target.shape) == 4:
        return _map_operation(copy(ir.chw(target.shape[1:])), sources[0], target, aux, alike=True)
    if len({t.channels_last for t in every if t.shape[-1] == target.shape[-1]}) == 1:
        features = target.shape[-1]
        return _row_operation(copy((features, 1, target.size // features)), sources[0], target, aux, features, features)
    shape = next(t.channels_last for t in every if t.channels_last)
    return _map_operation(copy(shape), sources[0], target, aux, shape, alike=True)


def _map_operation(
    op: Windowed, source: Tensor, target: Tensor, aux: Tensor | None, shape: Map | None = None, alike: bool = False
) -> Operation:
    """`op` from maps to maps; `shape` is that of all of them when their tensors are flattened. alike: pixels of the
    source are those of the target."""
    read, source_step = (
        operand_view(source, target.shape, shape) if alike else map_view(source, shape or ir.chw(source.shape[1:]))
    )
    written, target_step = map_view(target, shape or ir.chw(target.shape[1:]))
    added, aux_step = operand_view(aux, target.shape, shape) if aux else (None, 0)
    images = target.size // math.prod(shape or target.shape[1:])
    return Operation(
        op=op,
        source=read,
        target=written,
        aux=added,
        rectangle=None,
        images=images,
        source_step=source_step,
        target_step=target_step,
        aux_step=aux_step,
    )


def _row_operation(
    op: Windowed, source: Tensor, target: Tensor, aux: Tensor | None, inputs: int, outputs: int
) -> Operation:
    """`op` on vectors, which are the pixels of a row."""

    rows = target.size // outputs

    def view(tensor: Tensor, features: int) -> View:
        own = tensor.shape[-1]
        several = rows == 1 or tensor.size > own
        return View(tensor.base, int(own == features), (tensor.pitch or own) * several, 0)

    return Operation(op, view(source, inputs), view(target, outputs), view(aux, outputs) if aux else None)


def _vector_operation(
    node: ir.Linear | ir.Scale, sources: list[Tensor], target: Tensor, inputs: int, outputs: int
) -> Operation:
    """Linear or Scale on (N, F) or (F,)."""
    source, aux = sources[0], sources[1] if node.residual != "none" else None
    if aux and aux.shape[-1] == outputs > 1 and aux.channels_last != target.channels_last:
        raise HeepgenError(
            f"layer {node.name}: its residual is a flattened feature map in another order than its "
            "output; add it before flattening, or as a layer of its own"
        )
    op = (
        linear_window(node, source.shape, source.channels_last)
        if isinstance(node, ir.Linear)
        else scale_window(node, (inputs, 1, source.size // inputs), source.channels_last)
    )
    return _row_operation(
        replace(op, residual=node.residual, combine=node.combine), source, target, aux, inputs, outputs
    )


@operations_of.register
def _(node: ir.PlaneProduct, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """Of every matrix 256 times the product with one plane, the other one added, and times the columns' factors."""
    own, tiles = node.product, node.tiles
    outer, inner, rows, depth, columns = own.sizes
    read, _, planes = sources
    high = Windowed(depth, 1, rows, 1, rows, cout=columns, scale=256.0)
    low = replace(high, scale=1.0, residual="before_act")
    times = replace(copy_window((columns, 1, rows)), residual="before_act", combine="multiply")
    result = []
    for number, (i, k) in enumerate(itertools.product(range(outer), range(inner))):
        a, y = (
            View(tensor.base.moved(at.offset + i * at.steps[0] + k * at.steps[1]), at.steps[3], at.steps[2], 0)
            for tensor, at in ((read, own.a), (target, own.out))
        )
        factors = planes.base.moved(number * tiles.words(depth, columns))
        first = factors.moved(tiles.factor_words(columns))
        second = first.moved(tiles.plane_words(depth, columns))
        result.append(Operation(replace(high, planes=first), a, y))
        result.append(Operation(replace(low, planes=second), a, y, y))
        result.append(Operation(times, y, y, View(factors, 1, 0, 0)))
    return result


@operations_of.register
def _(node: ir.Concat, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """Every input that does not lie there already is copied to its part of the output."""
    result: list[Operation] = []
    axis, first = node.axis_of(target.shape), 0
    for source in sources:
        part = slice_of(target, source.shape, axis, first)
        place = target.base.moved(first * target.steps[axis])
        first += source.shape[axis]
        if source == part:
            continue
        if source.channels_last and len(source.shape) != 4:  # a flattened map, written in PyTorch's order
            assert part, "vectors lie in one stretch"
            shape = source.channels_last
            result.append(_map_operation(copy_window(shape), source, part, None, shape))
        else:
            result += _copies(source.base, source.steps, place, target.steps, source.shape)
    return result


@operations_of.register
def _(node: ir.Advance, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """Frames lie side by side: words that move down, each read before it is overwritten, unless the scratchpad has
    rotated by what leaves."""
    kept = sources[0].base.moved(sources[0].size - target.size)
    return [] if kept == target.base else [copied(kept, target.base, target.size)]


def copied(source: Ref, target: Ref, words: int) -> Operation:
    """Contiguous words, copied."""
    return Operation(copy_window((1, 1, 1)), View(source, 1, 1, 0), View(target, 1, 1, 0), flat=words)


@operations_of.register
def _(node: ir.Append, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """The newest frames, unless they were written where they belong."""
    _, newest = sources
    place = newest_of(target, newest.shape, node.axis)
    if newest == place:
        return []
    return [_map_operation(copy_window(ir.chw(newest.shape[1:])), newest, place, None)]


@operations_of.register
def _(node: ir.Upsample, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """The input is copied to every phase of the output."""
    high, wide = node.factor
    operation = _map_operation(copy_window(ir.chw(sources[0].shape[1:])), sources[0], target, None)
    return [operation.storing(x=(x, wide), y=(y, high)) for y in range(high) for x in range(wide)]


@operations_of.register
def _(node: ir.Shuffle, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """Every group is copied to channels that lie `groups` apart."""
    _, channels, height, width = sources[0].shape
    size = channels // node.groups
    op = copy_window((size, height, width))
    whole = _map_operation(op, sources[0], target, None, (channels, height, width))
    return [
        replace(whole.storing(c=(group, node.groups)), source=whole.source.every(c=(group * size, 1)))
        for group in range(node.groups)
    ]


@operations_of.register
def _(node: ir.PixelShuffle, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """For every phase of the output, the channels that hold it are copied there."""
    factor = node.factor
    _, channels, height, width = sources[0].shape
    op = copy_window((channels // factor**2, height, width))
    whole = _map_operation(op, sources[0], target, None)
    return [
        replace(whole.storing(x=(x, factor), y=(y, factor)), source=whole.source.every(c=(y * factor + x, factor**2)))
        for y in range(factor)
        for x in range(factor)
    ]


@operations_of.register
def _(node: ir.PixelUnshuffle, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """Every phase of the input is copied to the channels that hold it."""
    factor = node.factor
    op = copy_window((sources[0].shape[1], *ir.chw(target.shape[1:])[1:]))
    whole = _map_operation(op, sources[0], target, None)
    return [
        replace(
            whole,
            source=whole.source.every(x=(x, factor), y=(y, factor)),
            target=whole.target.every(c=(y * factor + x, factor**2)),
        )
        for y in range(factor)
        for x in range(factor)
    ]


@operations_of.register
def _(node: ir.Interpolate, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """For every phase of the output, and at every border, a window of its own."""
    aux = sources[1] if node.residual != "none" else None
    result = []
    for op, y, x in interpolation.windows(node, sources[0].shape, target.shape):
        whole = _map_operation(replace(op, residual=node.residual), sources[0], target, aux)
        phase = whole.storing(x=(x.phase, x.step), y=(y.phase, y.step))
        result.append(replace(phase, rectangle=(y.outputs, x.outputs)))
    return result


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
            result.append(operation.storing(x=(x.phase, x.step), y=(y.phase, y.step)))
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
            yield _Phase(
                phase=phase, step=step, outputs=count, taps=None, dilation=1, before=count
            )  # a window before all rows
        else:
            yield _Phase(
                phase=phase,
                step=step,
                outputs=count,
                taps=slice(first, None, step // common),
                dilation=dilation // common,
                before=-(offset + first * dilation) // step,
            )


def _taps(weight: np.ndarray, phase: _Phase, axis: int) -> np.ndarray:
    taken = np.moveaxis(weight, axis, 0)
    taken = taken[phase.taps] if phase.taps else np.zeros_like(taken[:1])
    return np.moveaxis(taken, 0, axis)


@operations_of.register
def _(node: ir.Slice, sources: list[Tensor], target: Tensor) -> list[Operation]:
    operation = _map_operation(copy_window(ir.chw(target.shape[1:])), sources[0], target, None)
    (c, y, x), (step_c, step_y, step_x) = node.start, node.step
    return [replace(operation, source=operation.source.every((c, step_c), (x, step_x), (y, step_y)))]

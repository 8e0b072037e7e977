# SPDX-License-Identifier: Apache-2.0
"""One piece of a `Windowed` -> one descriptor with symbolic addresses, and how a `Windowed` is split into pieces.

A `Windowed` is split where it must be: into rectangles of the output (images of a batch, column tiles with halo,
average-pooling borders), ranges of channels or groups, and ranges of the reduction (K splits: all but the last piece
drain raw accumulators, all but the first are initialised from them).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from firmware_gen import ir
from firmware_gen.operations.constants import Constants
from firmware_gen.operations.tensors import Ref, View
from firmware_gen.operations.windows import Range, Rectangle, Windowed
from firmware_gen.targets.descriptor.lowering import banded, layout
from firmware_gen.targets.descriptor.lowering.axis import along
from firmware_gen.targets.descriptor.lowering.epilogue import COMBINATIONS, activation_fields
from firmware_gen.targets.descriptor.lowering.job import Symbolic, activations
from firmware_gen.targets.descriptor.lowering.tiling import choose_strips, in_strips
from firmware_gen.targets.descriptor.timing.spans import strip_span
from hls.config import Config
from hls.descriptor.interface.rules import activation_room
from hls.descriptor.interface.table import FIELDS, Descriptor, misfits
from hls.errors import HeepgenError


@dataclass(frozen=True)
class Piece:
    """What one descriptor computes: ranges of output rows and columns, kernel taps, input channels and groups.

    `first` and `last` are its place in a chain of K splits. `band`: outputs of a row that a banded tile computes; 0 for
    other tiles.
    """

    rows: Range
    cols: Range
    ky: Range
    kx: Range
    channels: Range
    groups: Range
    first: bool = True
    last: bool = True
    band: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Output columns and rows."""
        return self.cols[1] - self.cols[0], self.rows[1] - self.rows[0]


NOTHING = np.zeros(0, np.uint32)


def _collapse(loops: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Three (count, stride) loops, innermost first, merged where one continues the other."""
    merged: list[tuple[int, int]] = []
    for count, stride in loops:
        if count == 1:
            continue
        if merged and merged[-1][0] * merged[-1][1] == stride:
            merged[-1] = (merged[-1][0] * count, merged[-1][1])
        else:
            merged.append((count, stride))
    return merged + [(1, 0)] * (3 - len(merged)) if merged else [(1, 1), (1, 0), (1, 0)]


def _loops(loops: list[tuple[int, int]], gap: int = 0) -> dict[str, Any]:
    """Fields of a load by (count, stride) loops, innermost first, which so many words are passed over after."""
    collapsed = [loops[0], *_collapse(loops[1:])[:2]] if gap else _collapse(loops)
    fields: dict[str, Any] = {"load_gap": gap}
    for axis, (count, stride) in zip("cxy", collapsed, strict=True):
        fields |= {f"load_{axis}_count": count, f"load_{axis}_stride": stride}
    fields["load_c_count"] += gap
    return fields | {"load_words": math.prod(fields[f"load_{axis}_count"] for axis in "cxy")}


def piece_descriptor(
    op: Windowed, piece: Piece, source: View, target: View, config: Config, aux: View | None = None
) -> Symbolic:
    """Of a piece, all but the strips and the weight and parameter streams."""
    if piece.band:
        return _banded_descriptor(op, piece, source, target, config, aux)
    channels = piece.channels[1] - piece.channels[0]
    pixel = op.tap or channels
    groups = piece.groups[1] - piece.groups[0]
    kh, kw = piece.ky[1] - piece.ky[0], piece.kx[1] - piece.kx[0]
    rows, y0, stride_y = along(piece.rows, piece.ky, op.height, op.stride[0], op.dilation[0], op.top)
    cols, x0, stride_x = along(piece.cols, piece.kx, op.width, op.stride[1], op.dilation[1], op.left)
    block = config.diagonal if op.diagonal else config.cols
    run_mode = not op.diagonal and groups == 1 and (op.dilation[1] == 1 or kw == 1)
    run = kw * channels if run_mode else channels // groups if not op.diagonal else channels
    cout = channels if op.diagonal else op.cout
    in_row = cols[1] * channels
    loops = [(channels, source.c), (cols[1], cols[2] * source.x), (rows[1], rows[2] * source.y)]
    out_channel = piece.channels[0] if op.diagonal else piece.groups[0] * op.cout
    fields = _epilogue(
        op, piece, target, aux, lambda prefix, view: _output(prefix, view, piece, out_channel, block, op.cout)
    )
    if config.packed_scales and "uniform" not in fields:
        fields["packed_scales"] = int(op.has_16_bit_scales)
    out_w, out_h = piece.size
    if op.stride[0] == 0:  # one row of all pixels, which are all of their rows
        out_w, out_h, stride_y = out_w * out_h, 1, 1
        fields |= {f"{name}_y_stride": out_w * fields[f"{name}_x_stride"] for name in ("store", "aux")}
    return Descriptor(
        diagonal=int(op.diagonal),
        max=int(op.maximum),
        unit_weights=int(op.weight is None and op.planes is None),
        int4=int(config.int4_weights and op.has_4_bits),
        load_addr=source.at(piece.channels[0], cols[0], rows[0]),
        **_loops(loops),
        in_row=in_row,
        in_h=rows[1],
        y0=y0,
        x0=x0 * pixel,
        row0=y0 * in_row,
        kh=kh,
        kx=1 if run_mode else kw,
        kb=1 if op.diagonal else -(-run // config.rows),
        run=run,
        dil_y=op.dilation[0] if kh > 1 else 1,
        stride_y=stride_y,
        ky_step=op.dilation[0] * in_row if kh > 1 else 0,
        kx_step=0 if run_mode else op.dilation[1] * pixel,
        sx_words=stride_x * channels,
        sy_words=stride_y * in_row,
        out_w=out_w,
        out_px=out_w * out_h,
        groups=groups,
        ncb=-(-cout // block),
        cout=cout,
        group_in_step=channels // groups if groups > 1 else 0,
        pad_value=op.pad_value,
        **fields,
    )


def _banded_descriptor(
    op: Windowed, piece: Piece, source: View, target: View, config: Config, aux: View | None
) -> Symbolic:
    """`piece_descriptor` of channel after channel, whose pixels lie a pitch apart in the buffer."""
    channels, kh, outputs = piece.channels[1] - piece.channels[0], piece.ky[1] - piece.ky[0], piece.band
    rows, y0, stride_y = along(piece.rows, piece.ky, op.height, op.stride[0], op.dilation[0], op.top)
    cols, x0, _ = along(piece.cols, piece.kx, op.width, op.stride[1], op.dilation[1], op.left)
    width, out_h = piece.size
    vectors, pitch = width // outputs, banded.pitch_of(channels, config)
    limits = banded.lane_limits(op, piece.cols, outputs)
    assert limits, "an operator without them is not banded"
    in_row = cols[1] * pitch
    loops = [(channels, 1), (cols[1], source.x), (rows[1], rows[2] * source.y)]

    def placed(prefix: str, view: View) -> dict[str, Any]:
        return {
            f"{prefix}_addr": view.at(piece.channels[0], piece.cols[0], piece.rows[0]),
            f"{prefix}_c_stride": view.x,
            f"{prefix}_x_stride": outputs * view.x,
            f"{prefix}_y_stride": view.y,
            f"{prefix}_cb_step": view.c,
            f"{prefix}_g_step": 0,
        }

    return Descriptor(
        band=op.stride[1],
        first_lane=limits[0],
        last_lanes=limits[1],
        int4=int(config.int4_weights and op.has_4_bits),
        load_addr=source.at(piece.channels[0], cols[0], rows[0]),
        **_loops(loops, pitch - channels),
        in_row=in_row,
        in_h=rows[1],
        y0=y0,
        x0=x0 * pitch,
        row0=y0 * in_row,
        kh=kh,
        kx=1,
        kb=1,
        run=banded.run_of(op, outputs),
        dil_y=op.dilation[0] if kh > 1 else 1,
        stride_y=stride_y,
        ky_step=op.dilation[0] * in_row if kh > 1 else 0,
        kx_step=pitch,
        sx_words=outputs * op.stride[1] * pitch,
        sy_words=stride_y * in_row,
        out_w=vectors,
        out_px=vectors * out_h,
        groups=1,
        ncb=channels,
        cout=outputs,
        pad_value=op.pad_value,
        **_epilogue(op, piece, target, aux, placed),
    )


def _epilogue(
    op: Windowed, piece: Piece, target: View, aux: View | None, placed: Callable[[str, View], dict[str, Any]]
) -> dict[str, Any]:
    """Fields of a piece's epilogue and of its STORE and AUX streams, which `placed` gives."""
    fields = activation_fields(op.act if piece.last else ir.IDENTITY) | placed("store", target)
    if not piece.first:
        fields |= placed("aux", target) | {"acc_init": 1}
    elif op.residual != "none":
        assert aux, "a residual lies somewhere"
        fields |= placed("aux", aux) | COMBINATIONS[op.combine]
        fields |= {"act_first": int(op.residual == "after_act")}
    if not piece.last or not isinstance(op.scale, np.ndarray):
        scale, bias = (op.scale, op.bias) if piece.last else (1.0, -0.0)
        fields |= {"uniform": 1, "scale": scale, "bias": bias}
    return fields


def _output(prefix: str, view: View, piece: Piece, channel: int, block: int, group_channels: int) -> dict[str, Any]:
    """Fields of the store or the aux stream of a piece whose first output channel is given."""
    return {
        f"{prefix}_addr": view.at(channel, piece.cols[0], piece.rows[0]),
        f"{prefix}_c_stride": view.c,
        f"{prefix}_x_stride": view.x,
        f"{prefix}_y_stride": view.y,
        f"{prefix}_cb_step": block * view.c,
        f"{prefix}_g_step": group_channels * view.c,
    }


def with_constants(
    op: Windowed, piece: Piece, descriptor: Symbolic, name: str, constants: Constants, config: Config
) -> Symbolic:
    """The descriptor of a piece with its weights and parameters, which are packed."""
    (ky0, ky1), (kx0, kx1), (c0, c1), (g0, g1) = piece.ky, piece.kx, piece.channels, piece.groups
    weights = params = NOTHING
    if op.weight is not None:
        if piece.band:
            weights = layout.banded_weights(
                op.weight[c0:c1], op.dilation[1], descriptor.cbg, bool(descriptor.int4), config
            )
        elif op.diagonal:
            weight = op.weight[c0:c1, ky0:ky1, kx0:kx1]
            weights = layout.diagonal_weights(weight, descriptor.cbg, bool(descriptor.int4), config)
        else:
            weight = op.weight[g0:g1, :, ky0:ky1, kx0:kx1]
            if op.groups == 1:
                weight = weight[..., c0:c1]
            weight = weight.reshape(*weight.shape[:3], descriptor.kx, descriptor.run)
            weights = layout.dense_weights(weight, descriptor.cbg, bool(descriptor.int4), config)
    if isinstance(op.scale, np.ndarray) and isinstance(op.bias, np.ndarray) and not descriptor.uniform:
        part = (slice(None), slice(c0, c1)) if op.diagonal else slice(g0, g1)
        block = config.diagonal if op.diagonal else config.cols
        if piece.band:
            params = layout.banded_parameters(op.scale[0, c0:c1], op.bias[0, c0:c1], config.ports)
        else:
            scale, bias = op.scale[part], op.bias[part]
            params = layout.parameters(scale, bias, block, config.ports, bool(descriptor.packed_scales))
    if op.act.function and descriptor.function:
        where, rows = constants.table(op.act.function)
        descriptor = descriptor.but(table_addr=where, table_rows=rows)
    if op.planes:
        count = layout.tiles_of(config).plane_words(op.channels, op.cout)
        descriptor = descriptor.but(weight_addr=op.planes, weight_words=count)
    else:
        own = constants.add(f"{name}_weights", weights) if len(weights) else 0
        descriptor = descriptor.but(weight_addr=own, weight_words=len(weights))
    return descriptor.but(
        param_addr=constants.add(f"{name}_params", params) if len(params) else 0, param_words=len(params)
    )


def _ranges(size: int, count: int, multiple: int = 1) -> list[Range]:
    """`count` or fewer nearly equal ranges covering 0..size, that begin at multiples."""
    step = -(-size // count)
    step = -(-step // multiple) * multiple
    return [(first, min(first + step, size)) for first in range(0, size, step)]


def piece_counts(size: int) -> list[int]:
    """Numbers of pieces to try, few first."""
    return sorted({n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, size) if n <= size})


def pieces(
    op: Windowed, rectangle: Rectangle | None, cols: int, channels: int, ky: int, kx: int, config: Config
) -> list[Piece]:
    """Pieces of an operator, in execution order, for numbers of ranges of columns, channels and taps.

    Channels of a diagonal operator and groups are independent; channels of a dense one are a K split.
    """
    rows, (left, right) = rectangle or ((0, op.out_height), (0, op.out_width))
    columns = [(left + a, left + b) for a, b in _ranges(right - left, cols)]
    everything, all_groups = (0, op.channels), (0, op.groups)
    if op.groups > 1:
        size = op.channels // op.groups
        spans = [((a * size, b * size), (a, b)) for a, b in _ranges(op.groups, channels)]
    elif op.diagonal:
        spans = [(span, all_groups) for span in _ranges(op.channels, channels, config.diagonal)]
    else:
        spans = [(everything, all_groups)]
    k_spans: list[Range | None] = [None]
    if op.groups == 1 and not op.diagonal:
        k_spans = [*_ranges(op.channels, channels, config.rows if op.kernel[1] == 1 else 1)]
    chain = list(itertools.product(_ranges(op.kernel[0], ky), _ranges(op.kernel[1], kx), k_spans))
    return [
        Piece(
            rows=rows,
            cols=column,
            ky=tap_y,
            kx=tap_x,
            channels=k_span or span,
            groups=groups,
            first=i == 0,
            last=i == len(chain) - 1,
        )
        for column, (span, groups) in itertools.product(columns, spans)
        for i, (tap_y, tap_x, k_span) in enumerate(chain)
    ]


def banded_pieces(op: Windowed, rectangle: Rectangle | None, channels: int, config: Config) -> list[Piece]:
    """Pieces of a depthwise convolution by banded tiles, for a number of ranges of channels."""
    rows, columns = rectangle or ((0, op.out_height), (0, op.out_width))
    kernel = (0, op.kernel[0]), (0, op.kernel[1])
    ranges = banded.columns_of(columns, banded.most_outputs(op, config))
    spans = _ranges(op.channels, channels)
    return [Piece(rows, cols, *kernel, span, (0, 1), band=outputs) for cols, outputs in ranges for span in spans]


NUMBERS: dict[str, Any] = {f.attribute: 0.0 for f in FIELDS if f.kind == "fp32"}


def _shape(descriptor: Symbolic) -> Symbolic:
    """What `choose_strips` asks of a descriptor: neither numbers of the epilogue, nor where streams lie."""
    places: dict[str, Any] = {
        f"{stream.lower()}_addr": Ref("", on_chip=where.on_chip) for stream, where in activations(descriptor).items()
    }
    return descriptor.but(**NUMBERS, **places)


_strips = lru_cache(maxsize=1 << 14)(choose_strips)


Split: TypeAlias = list[tuple[Piece, Symbolic]]
"""Pieces in order, with their descriptors."""


def _plan(
    op: Windowed,
    split: list[Piece],
    source: View,
    target: View,
    config: Config,
    aux: View | None,
    cbg: int | None,
    single: bool = False,
) -> tuple[int, Split] | None:
    """The cost by which splits are compared, and the pieces with their strips, `single`: one each; None when a piece
    does not fit."""
    if op.residual != "none" and not all(piece.first for piece in split):
        return None  # ACC_INIT excludes RESIDUAL
    if op.tap and any(piece.channels != (0, op.channels) for piece in split):
        return None  # a channel's neighbours are read with it
    planned: Split = []
    total = 0
    for piece in split:
        descriptor = piece_descriptor(op, piece, source, target, config, aux)
        if misfits(descriptor):
            return None
        strips = _strips(_shape(descriptor), config, cbg, single)
        if strips is None:
            return None
        descriptor = in_strips(descriptor.but(cbg=strips.cbg), strips.first_px, strips.strip_px, config)
        planned.append((piece, descriptor))
        total += strips.cost + DESCRIPTOR_COST
    return total, planned


DESCRIPTOR_COST = 40
"""Of one more descriptor: fetch, first loads, last stores."""


def best_split(
    layer: str,
    op: Windowed,
    rectangle: Rectangle | None,
    source: View,
    target: View,
    config: Config,
    aux: View | None = None,
    cbg: int | None = None,
) -> Split:
    """The cheapest of the coarsest splits that fit, all with `cbg` where that is given.

    Raises HeepgenError with the numbers when none does.
    """
    if banded.is_banded(op, source, target, config):
        for channels in piece_counts(op.channels):
            found = banded_pieces(op, rectangle, channels, config)
            if plan := _plan(op, found, source, target, config, aux, cbg):
                return plan[1]
    _, (left, right) = rectangle or ((0, 0), (0, op.out_width))
    tiles = piece_counts(right - left) if op.stride[1] else [1]
    span = op.groups if op.groups > 1 else -(-op.channels // (config.diagonal if op.diagonal else 1))
    for ky, kx, channels in _counts(op, span):
        best: tuple[int, Split] | None = None
        for cols in tiles:
            plan = _plan(op, pieces(op, rectangle, cols, channels, ky, kx, config), source, target, config, aux, cbg)
            if plan and (best is None or plan[0] < best[0]):
                best = plan
            elif best:
                break
        if best:
            return best[1]
    raise HeepgenError(_refusal(layer, replace(op, residual="none"), source, target, config))


def k_split(layer: str, op: Windowed, splits: int, source: View, target: View, config: Config) -> Split:
    """An operator as so many K splits, each in one strip and a channel block at a time, which is drained while the next
    one is computed. Raises HeepgenError where one does not fit."""
    found = pieces(op, None, 1, splits, splits, 1, config)
    plan = _plan(op, found, source, target, config, None, 1, single=True)
    if plan is None:
        raise HeepgenError(_refusal(layer, op, source, target, config))
    return plan[1]


def taps_piece(op: Windowed, rows: Range, source: View, target: View, config: Config) -> tuple[Piece, Symbolic] | None:
    """Some rows of the window of a diagonal operator of one output row, as a piece of a chain that begins with row 0
    and ends with the last; None where it does not fit the buffers."""
    first, last = rows[0] == 0, rows[1] == op.kernel[0]
    everything = (0, op.out_width), rows, (0, op.kernel[1]), (0, op.channels), (0, op.groups)
    plan = _plan(op, [Piece((0, 1), *everything, first, last)], source, target, config, None, None)
    return plan[1][0] if plan else None


def _counts(op: Windowed, span: int) -> list[tuple[int, int, int]]:
    """Numbers of ranges of kernel rows, kernel columns and channels to try, in order: few of the taps first. A window
    over all rows, as of global pooling, is split along them instead: while the last rows are still computed, the
    others are pooled."""
    counts = itertools.product(piece_counts(op.kernel[0]), piece_counts(op.kernel[1]), piece_counts(span))
    if op.diagonal and op.out_height == 1 and op.residual == "none":
        return sorted(counts, key=lambda count: (count[0] * count[1] * count[2], count[1:]))
    return sorted(counts, key=lambda count: count[0] * count[1])


def _refusal(layer: str, op: Windowed, source: View, target: View, config: Config) -> str:
    smallest = pieces(op, ((0, 1), (0, 1)), 1, 1 << 30, op.kernel[0], op.kernel[1], config)[0]
    descriptor = piece_descriptor(op, smallest, source, target, config)
    if wrong := misfits(descriptor):
        return f"layer {layer}: {', '.join(wrong)} is beyond the accelerator's descriptor; use smaller dimensions."
    return (
        f"layer {layer}: one output pixel needs {strip_span(descriptor.but(out_px=1), 1, 1)} input words at once, "
        f"buffers.activation_words = {config.activation_words} holds {activation_room(config)}; "
        "enlarge the buffer."
    )

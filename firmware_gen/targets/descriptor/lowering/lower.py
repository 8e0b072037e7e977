"""IR operators -> accelerator descriptors with symbolic addresses.

Every accelerated operator becomes a `Windowed`: a window moving over a feature map. A `Windowed` is cut into
pieces where it must be: rectangles of the output (images of a batch, column tiles with halo, average-pooling
borders), ranges of channels or groups, and ranges of the reduction (K splits: all but the last piece drain raw
accumulators, all but the first are initialised from them). A piece is one descriptor.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from firmware_gen import ir
from firmware_gen.targets.descriptor.lowering import layout
from firmware_gen.targets.descriptor.lowering.tiling import choose_strips, strip_span, vectors
from hls.config import Config
from hls.descriptor import table
from hls.errors import HeepgenError

Range = tuple[int, int]


@dataclass(frozen=True)
class Ref:
    """Word `offset` of a named tensor or constant, whose address the memory plan decides, in memory or on chip."""

    name: str
    offset: int = 0
    on_chip: bool = False


@dataclass(frozen=True)
class View:
    """A feature map in memory: strides in words of channels, columns and rows."""

    base: Ref
    c: int
    x: int
    y: int

    def at(self, c: int = 0, x: int = 0, y: int = 0) -> Ref:
        return replace(self.base, offset=self.base.offset + c * self.c + x * self.x + y * self.y)


@dataclass(frozen=True)
class Windowed:
    """One image of any accelerated operator. `bottom` and `right` padding follow from the output size.

    weight: int8 (groups, cout, kh, kw, channels per group), diagonal: (channels, kh, kw), or None for ones.
    scale, bias: float32 (groups, cout), or two floats for all channels. residual: as in `ir.Fused`.
    """

    channels: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: ir.Pair = (1, 1)
    stride: ir.Pair = (1, 1)
    dilation: ir.Pair = (1, 1)
    top: int = 0
    left: int = 0
    groups: int = 1
    cout: int = 0
    diagonal: bool = False
    maximum: bool = False
    weight: np.ndarray | None = None
    scale: np.ndarray | float = 1.0
    bias: np.ndarray | float = -0.0
    pad_value: float = 0.0
    act: ir.Activation = ir.IDENTITY
    residual: str = "none"


@dataclass(frozen=True)
class Piece:
    """What one descriptor computes: ranges of output rows and columns, kernel taps, input channels and groups.

    `first` and `last` are its place in a chain of K splits.
    """

    rows: Range
    cols: Range
    ky: Range
    kx: Range
    channels: Range
    groups: Range
    first: bool = True
    last: bool = True


@dataclass(frozen=True)
class Job:
    """A descriptor: fields by name, addresses still `Ref`s. Estimated cycles come from the cost model."""

    layer: str
    fields: dict = field(repr=False)
    cycles: int = 0

    @property
    def vectors(self) -> int:
        return vectors(self.fields)


class Constants:
    """Named constant arrays (uint32 words), stored once each."""

    def __init__(self):
        self.arrays: dict[str, np.ndarray] = {}
        self._names: dict[bytes, str] = {}

    def add(self, name: str, words: np.ndarray) -> Ref:
        """Reference to an array with this content; `name` is made unique when the content is new."""
        key = words.tobytes()
        if key not in self._names:
            unique = next(n for i in itertools.count() if (n := f"{name}_{i}" if i else name) not in self.arrays)
            self.arrays[unique] = words
            self._names[key] = unique
        return Ref(self._names[key])


# --- operators -------------------------------------------------------------------------------------------------


def windowed_ops(node: ir.Node, in_shape: ir.Shape, out_shape: ir.Shape) -> list[tuple]:
    """(Windowed, output rectangle or None, output channel offset and step) for one image of a node on maps."""
    match node:
        case ir.Scale():
            return [(_scale(node, in_shape[1:], None), None, (0, 1))]
        case ir.Conv() if node.is_depthwise:
            return _depthwise(node, in_shape, out_shape)
        case ir.Conv():
            return [(_conv(node, in_shape, out_shape), None, (0, 1))]
        case ir.Pool(adaptive=True):
            return _adaptive(node, in_shape, out_shape)
        case ir.Pool(kind="max"):
            return [(replace(_pool(node, in_shape, out_shape), maximum=True, pad_value=-math.inf), None, (0, 1))]
        case ir.Pool():
            return _average(node, in_shape, out_shape)
        case ir.Pad():
            top, left, _, _ = node.pads
            op = Windowed(*in_shape[1:], *out_shape[2:], top=top, left=left, cout=in_shape[1], diagonal=True,
                          maximum=True, pad_value=node.value)
            return [(op, None, (0, 1))]
    raise HeepgenError(f"layer {node.name}: {node.op} has no form on the accelerator")


def _linear(node, in_shape, linear_map) -> Windowed:
    batch = in_shape[0] if len(in_shape) == 2 else 1
    weight = node.weight
    if linear_map is not None:
        weight = weight.reshape(-1, *linear_map).transpose(0, 2, 3, 1).reshape(weight.shape)
    return Windowed(node.in_features, 1, batch, 1, batch, cout=node.out_features, weight=weight[None, :, None, None],
                    scale=node.scale[None], bias=node.bias[None], act=node.act)


def _conv(node, in_shape, out_shape) -> Windowed:
    top, left, _, _ = node.pads
    weight = node.weight.reshape(node.groups, -1, *node.weight.shape[1:]).transpose(0, 1, 3, 4, 2)
    return Windowed(*in_shape[1:], *out_shape[2:], node.kernel, node.stride, node.dilation, top, left, node.groups,
                    weight.shape[1], weight=weight, scale=node.scale.reshape(node.groups, -1),
                    bias=node.bias.reshape(node.groups, -1), act=node.act)


def _depthwise(node, in_shape, out_shape) -> list[tuple]:
    """One diagonal operator per multiple m of the channel multiplier: output channel c * multiplier + m."""
    top, left, _, _ = node.pads
    multiplier = node.out_channels // node.groups
    return [
        (Windowed(*in_shape[1:], *out_shape[2:], node.kernel, node.stride, node.dilation, top, left,
                  cout=node.groups, diagonal=True, weight=node.weight[m::multiplier, 0],
                  scale=node.scale[None, m::multiplier], bias=node.bias[None, m::multiplier], act=node.act),
         None, (m, multiplier))
        for m in range(multiplier)
    ]


def _pool(node, in_shape, out_shape) -> Windowed:
    top, left, _, _ = node.pads
    return Windowed(*in_shape[1:], *out_shape[2:], node.kernel, node.stride, node.dilation, top, left,
                    cout=in_shape[1], diagonal=True, act=node.act)


def _average(node, in_shape, out_shape) -> list[tuple]:
    """One operator per rectangle of outputs with the same divisor."""
    op = _pool(node, in_shape, out_shape)
    if node.divisor_override is not None:
        return [(replace(op, scale=_inverse(node.divisor_override)), None, (0, 1))]
    counts = [_positions(node, axis, in_shape[2 + axis], out_shape[2 + axis]) for axis in range(2)]
    return [
        (replace(op, scale=_inverse(high * wide)), (rows, cols), (0, 1))
        for (rows, high), (cols, wide) in itertools.product(*map(_runs, counts))
    ]


def _adaptive(node, in_shape, out_shape) -> list[tuple]:
    """One operator per rectangle of outputs whose windows have one size and one distance."""
    op = _pool(node, in_shape, out_shape)
    fields = {"maximum": True, "pad_value": -math.inf} if node.kind == "max" else {}
    rows, cols = (list(_adaptive_runs(in_shape[2 + axis], out_shape[2 + axis])) for axis in range(2))
    return [
        (replace(op, kernel=(high, wide), stride=(step_y, step_x), top=y[0] * step_y - y_start,
                 left=x[0] * step_x - x_start, **(fields or {"scale": _inverse(high * wide)})), (y, x), (0, 1))
        for (y, y_start, step_y, high), (x, x_start, step_x, wide) in itertools.product(rows, cols)
    ]


def _adaptive_runs(size: int, outputs: int) -> Iterator[tuple[Range, int, int, int]]:
    """(outputs, start of the first window, distance, size of a window) along an axis; see `ir.Pool`."""
    windows = [(i * size // outputs, -(-(i + 1) * size // outputs)) for i in range(outputs)]
    first = 0
    while first < outputs:
        start, stop = windows[first]
        step = max(windows[min(first + 1, outputs - 1)][0] - start, 1)
        last = first + 1
        while last < outputs and windows[last] == (start + (last - first) * step, stop + (last - first) * step):
            last += 1
        yield (first, last), start, step, stop - start
        first = last


def _inverse(divisor: int) -> float:
    return float(np.float32(1) / np.float32(divisor))


def _positions(node, axis: int, size: int, outputs: int) -> list[int]:
    """Counted positions of the window of every output along an axis."""
    before, after = node.pads[axis], node.pads[2 + axis]
    low, high = (-before, size + after) if node.count_include_pad else (0, size)
    starts = [o * node.stride[axis] - before for o in range(outputs)]
    return [min(s + node.kernel[axis], high) - max(s, low) for s in starts]


def _runs(values: list[int]) -> Iterator[tuple[Range, int]]:
    """Ranges of equal neighbours."""
    first = 0
    for value, group in itertools.groupby(values):
        last = first + len(list(group))
        yield (first, last), value
        first = last


# --- one piece -> one descriptor -------------------------------------------------------------------------------


def along(axis_range: Range, taps: Range, size: int, stride: int, dilation: int, before: int):
    """Input of a range of outputs along one axis: (first, count, step) to load, window start and stride in it."""
    outputs = axis_range[1] - axis_range[0]
    start = axis_range[0] * stride - before + taps[0] * dilation
    if taps[1] - taps[0] == 1 and start >= 0 and start + (outputs - 1) * stride < size:
        return (start, outputs, stride), 0, 1  # what the stride skips is not loaded
    stop = start + (outputs - 1) * stride + (taps[1] - taps[0] - 1) * dilation + 1
    first = min(max(start, 0), size - 1)
    return (first, max(min(stop, size), first + 1) - first, 1), start - first, stride if outputs > 1 else 1


def _collapse(loops: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Three (count, stride) loops, innermost first, merged where one continues the other."""
    merged = []
    for count, stride in loops:
        if count == 1:
            continue
        if merged and merged[-1][0] * merged[-1][1] == stride:
            merged[-1] = (merged[-1][0] * count, merged[-1][1])
        else:
            merged.append((count, stride))
    return merged + [(1, 0)] * (3 - len(merged)) if merged else [(1, 1), (1, 0), (1, 0)]


def piece_fields(op: Windowed, piece: Piece, source: View, target: View, config: Config,
                 aux: View | None = None) -> dict:
    """Descriptor fields of a piece, all but the strips and the weight and parameter streams."""
    channels = piece.channels[1] - piece.channels[0]
    groups = piece.groups[1] - piece.groups[0]
    kh, kw = piece.ky[1] - piece.ky[0], piece.kx[1] - piece.kx[0]
    rows, y0, stride_y = along(piece.rows, piece.ky, op.height, op.stride[0], op.dilation[0], op.top)
    cols, x0, stride_x = along(piece.cols, piece.kx, op.width, op.stride[1], op.dilation[1], op.left)
    block = config.diagonal if op.diagonal else config.cols
    run_mode = not op.diagonal and groups == 1 and (op.dilation[1] == 1 or kw == 1)
    run = kw * channels if run_mode else channels // groups if not op.diagonal else channels
    cout = channels if op.diagonal else op.cout
    in_row = cols[1] * channels
    loops = _collapse([(channels, source.c), (cols[1], cols[2] * source.x), (rows[1], rows[2] * source.y)])
    out_channel = piece.channels[0] if op.diagonal else piece.groups[0] * op.cout
    store = target.at(out_channel, piece.cols[0], piece.rows[0])
    fields = {
        "DIAGONAL": int(op.diagonal), "MAX": int(op.maximum), "UNIT_WEIGHTS": int(op.weight is None),
        "ACC_INIT": int(not piece.first),
        "LOAD_ADDR": source.at(piece.channels[0], cols[0], rows[0]),
        "LOAD_WORDS": math.prod(count for count, _ in loops),
        "IN_ROW": in_row, "IN_H": rows[1], "Y0": y0, "X0": x0 * channels, "ROW0": y0 * in_row,
        "KH": kh, "KX": 1 if run_mode else kw, "KB": 1 if op.diagonal else -(-run // config.rows), "RUN": run,
        "DIL_Y": op.dilation[0] if kh > 1 else 1, "STRIDE_Y": stride_y,
        "KY_STEP": op.dilation[0] * in_row if kh > 1 else 0,
        "KX_STEP": 0 if run_mode else op.dilation[1] * channels, "SX_WORDS": stride_x * channels,
        "SY_WORDS": stride_y * in_row, "OUT_W": piece.cols[1] - piece.cols[0],
        "OUT_PX": (piece.cols[1] - piece.cols[0]) * (piece.rows[1] - piece.rows[0]),
        "GROUPS": groups, "NCB": -(-cout // block), "COUT": cout,
        "GROUP_IN_STEP": channels // groups if groups > 1 else 0,
        "PAD_VALUE": op.pad_value,
        "LOW": op.act.low if piece.last else -math.inf, "HIGH": op.act.high if piece.last else math.inf,
    }
    for axis, (count, stride) in zip("CXY", loops, strict=True):
        fields |= {f"LOAD_{axis}_COUNT": count, f"LOAD_{axis}_STRIDE": stride}
    fields |= _stream("STORE", store, target, block, op.cout)
    if not piece.first:
        fields |= _stream("AUX", store, target, block, op.cout)
    elif op.residual != "none":
        start = aux.at(out_channel, piece.cols[0], piece.rows[0])
        fields |= _stream("AUX", start, aux, block, op.cout)
        fields |= {"RESIDUAL": 1, "ACT_FIRST": int(op.residual == "after_act")}
    if piece.last and op.act.slope != 1:
        fields |= {"SLOPE_EN": 1, "SLOPE": op.act.slope}
    if not piece.last or not isinstance(op.scale, np.ndarray):
        scale, bias = (op.scale, op.bias) if piece.last else (1.0, -0.0)
        fields |= {"UNIFORM": 1, "SCALE": scale, "BIAS": bias}
    return fields


def _stream(prefix: str, start: Ref, view: View, block: int, group_channels: int) -> dict:
    return {f"{prefix}_ADDR": start, f"{prefix}_C_STRIDE": view.c, f"{prefix}_X_STRIDE": view.x,
            f"{prefix}_Y_STRIDE": view.y, f"{prefix}_CB_STEP": block * view.c,
            f"{prefix}_G_STEP": group_channels * view.c}


def _add_streams(op: Windowed, piece: Piece, fields: dict, name: str, constants: Constants, config: Config):
    """Pack the weights and parameters a piece needs."""
    (ky0, ky1), (kx0, kx1), (c0, c1), (g0, g1) = piece.ky, piece.kx, piece.channels, piece.groups
    if op.weight is not None:
        if op.diagonal:
            words = layout.diagonal_weights(op.weight[c0:c1, ky0:ky1, kx0:kx1], fields["CBG"], config)
        else:
            weight = op.weight[g0:g1, :, ky0:ky1, kx0:kx1]
            if op.groups == 1:
                weight = weight[..., c0:c1]
            weight = weight.reshape(*weight.shape[:3], fields["KX"], fields["RUN"])
            words = layout.dense_weights(weight, fields["CBG"], config)
        fields |= {"WEIGHT_ADDR": constants.add(f"{name}_weights", words), "WEIGHT_WORDS": len(words)}
    if not fields.get("UNIFORM"):
        part = (slice(None), slice(c0, c1)) if op.diagonal else slice(g0, g1)
        block = config.diagonal if op.diagonal else config.cols
        words = layout.parameters(op.scale[part], op.bias[part], block, config.ports)
        fields |= {"PARAM_ADDR": constants.add(f"{name}_params", words), "PARAM_WORDS": len(words)}


# --- cutting ---------------------------------------------------------------------------------------------------


def _cut(size: int, parts: int, multiple: int = 1) -> list[Range]:
    """`parts` or fewer nearly equal ranges covering 0..size, cut at multiples."""
    step = -(-size // parts)
    step = -(-step // multiple) * multiple
    return [(first, min(first + step, size)) for first in range(0, size, step)]


def _part_counts(size: int) -> list[int]:
    """Numbers of parts to try, few first."""
    return sorted({n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, size) if n <= size})


def pieces(op: Windowed, rectangle: tuple[Range, Range] | None, cols: int, channels: int, ky: int, kx: int,
           config: Config) -> list[Piece]:
    """Pieces of an operator, in execution order, for numbers of cuts along columns, channels and taps.

    Channels of a diagonal operator and groups are independent; channels of a dense one are a K split.
    """
    rows, (left, right) = rectangle or ((0, op.out_height), (0, op.out_width))
    columns = [(left + a, left + b) for a, b in _cut(right - left, cols)]
    everything, all_groups = (0, op.channels), (0, op.groups)
    if op.groups > 1:
        size = op.channels // op.groups
        spans = [((a * size, b * size), (a, b)) for a, b in _cut(op.groups, channels)]
    elif op.diagonal:
        spans = [(span, all_groups) for span in _cut(op.channels, channels, config.diagonal)]
    else:
        spans = [(everything, all_groups)]
    k_spans = [None]
    if op.groups == 1 and not op.diagonal:
        k_spans = _cut(op.channels, channels, config.rows if op.kernel[1] == 1 else 1)
    chain = list(itertools.product(_cut(op.kernel[0], ky), _cut(op.kernel[1], kx), k_spans))
    return [
        Piece(rows, column, tap_y, tap_x, k_span or span, groups, first=i == 0, last=i == len(chain) - 1)
        for column, (span, groups) in itertools.product(columns, spans)
        for i, (tap_y, tap_x, k_span) in enumerate(chain)
    ]


def _fits_fields(fields: dict) -> bool:
    for name, value in fields.items():
        known = table.FIELD[name]
        if known.kind in ("uint", "int") and not known.range[0] <= value <= known.range[1]:
            return False
    return True


def _plan(op: Windowed, cut: list[Piece], source: View, target: View, config: Config, aux: View | None,
          cbg: int | None):
    """(estimated cycles, [(piece, fields with strips, cycles)]), or None when a piece does not fit."""
    if op.residual != "none" and not all(piece.first for piece in cut):
        return None  # ACC_INIT excludes RESIDUAL
    planned, total = [], 0
    chosen = {}
    for piece in cut:
        fields = piece_fields(op, piece, source, target, config, aux)
        if not _fits_fields(fields):
            return None
        key = tuple((k, v.on_chip if isinstance(v, Ref) else v) for k, v in fields.items())
        if key not in chosen:
            chosen[key] = choose_strips(fields, config, cbg)
        strips = chosen[key]
        if strips is None:
            return None
        fields |= {"FIRST_PX": strips.first_px, "STRIP_PX": strips.strip_px, "CBG": strips.cbg}
        planned.append((piece, fields, strips.cycles))
        total += strips.cycles + DESCRIPTOR_CYCLES
    return total, planned


DESCRIPTOR_CYCLES = 40
"""Estimated cost of one more descriptor: fetch, first loads, last stores."""


def best_cut(layer: str, op: Windowed, rectangle, source: View, target: View, config: Config, aux: View | None = None,
             cbg: int | None = None):
    """The cheapest of the coarsest cuts that fit, all with `cbg` where that is given.

    Raises HeepgenError with the numbers when none does.
    """
    _, (left, right) = rectangle or ((0, 0), (0, op.out_width))
    tiles = _part_counts(right - left)
    span = op.groups if op.groups > 1 else -(-op.channels // (config.diagonal if op.diagonal else 1))
    for ky, kx in _tap_cuts(op.kernel):
        for channels in _part_counts(span):
            best = None
            for cols in tiles:
                plan = _plan(op, pieces(op, rectangle, cols, channels, ky, kx, config), source, target, config,
                             aux, cbg)
                if plan and (best is None or plan[0] < best[0]):
                    best = plan
                elif best:
                    break
            if best:
                return best[1]
    raise HeepgenError(_refusal(layer, replace(op, residual="none"), source, target, config))


def _tap_cuts(kernel: ir.Pair) -> list[ir.Pair]:
    cuts = itertools.product(_part_counts(kernel[0]), _part_counts(kernel[1]))
    return sorted(cuts, key=lambda cut: cut[0] * cut[1])


def _refusal(layer: str, op: Windowed, source: View, target: View, config: Config) -> str:
    smallest = pieces(op, ((0, 1), (0, 1)), 1, 1 << 30, op.kernel[0], op.kernel[1], config)[0]
    fields = piece_fields(op, smallest, source, target, config)
    wrong = [f"{n} = {v}" for n, v in fields.items()
             if table.FIELD[n].kind in ("uint", "int")
             and not table.FIELD[n].range[0] <= v <= table.FIELD[n].range[1]]
    if wrong:
        return f"layer {layer}: {', '.join(wrong)} is beyond the accelerator's descriptor; use smaller dimensions."
    return (f"layer {layer}: one output pixel needs {strip_span(fields | {'OUT_PX': 1}, 1, 1)} input words at once, "
            f"buffers.activation_words = {config.activation_words} holds {config.activation_words - config.ports}; "
            "enlarge the buffer.")


# --- layers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensor:
    """Where and how a value lies in memory.

    `storage` names the buffer, which several values may share; the value begins at its word `offset`.
    `channels_last` is (C, H, W) when each image lies in H, W, C order although PyTorch's is C, H, W, else None.
    `pitch`: words from one pixel to the next (channels last) or from one image to the next, for channels of a
    larger tensor; 0 when the value is contiguous. `on_chip`: the storage is in the scratchpad.
    """

    storage: str
    shape: ir.Shape
    channels_last: tuple[int, int, int] | None = None
    offset: int = 0
    pitch: int = 0
    on_chip: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Words from the beginning of the storage to the last one of the value."""
        return self.offset + (self.size if not self.pitch else (self.units - 1) * self.pitch + self.size // self.units)

    @property
    def units(self) -> int:
        """Pixels (channels last) or images, which `pitch` separates."""
        return self.size // self.channels_last[0] if self.channels_last else self.shape[0]

    @property
    def base(self) -> Ref:
        return Ref(self.storage, self.offset, self.on_chip)

    def words(self) -> np.ndarray:
        """Word of the storage of every element, in the shape of the value."""
        rows = self.offset + np.arange(self.units)[:, None] * (self.pitch or self.size // self.units)
        index = rows + np.arange(self.size // self.units)
        if self.channels_last:
            channels, height, width = self.channels_last
            index = index.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
        return index.reshape(self.shape)


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


class NotInPlace(Exception):
    """The layer named cannot overwrite its residual: it needs its output for partial sums."""


def layer_jobs(node: ir.Node, sources: list[Tensor], target: Tensor, constants: Constants, config: Config) -> list[Job]:
    """Descriptors of a node, for every image of the batch."""
    jobs = []
    for operation in operations(node, sources, target):
        if operation.flat:
            jobs += _flat_jobs(node.name, operation, constants, config)
            continue
        for image in range(operation.images):
            jobs += windowed_jobs(node.name, operation, image, constants, config)
    return jobs


def _shifted(view: View | None, words: int) -> View | None:
    return view and replace(view, base=replace(view.base, offset=view.base.offset + words))


def windowed_jobs(layer: str, operation: Operation, image: int, constants: Constants, config: Config,
                  cbg: int | None = None) -> list[Job]:
    """Descriptors of one operation on one image, in order."""
    op = operation.op
    source = _shifted(operation.source, image * operation.source_step)
    target = _shifted(operation.target, image * operation.target_step)
    aux = _shifted(operation.aux, image * operation.aux_step)
    try:
        cut = best_cut(layer, op, operation.rectangle, source, target, config, aux, cbg)
    except HeepgenError:
        if op.residual == "none":
            raise
        if operation.aux.base.name == operation.target.base.name:
            raise NotInPlace(layer) from None
        return [job for half in _without_residual(operation)
                for job in windowed_jobs(layer, half, image, constants, config)]
    jobs = []
    for piece, fields, cycles in cut:
        _add_streams(op, piece, fields, layer, constants, config)
        jobs.append(Job(layer, fields, cycles))
    return jobs


def _without_residual(operation: Operation) -> list[Operation]:
    """K splits cannot take a residual: drain raw accumulators, then apply the whole epilogue to them in place."""
    op, target = operation.op, operation.target
    outputs = op.channels if op.diagonal else op.groups * op.cout
    scale, bias = ((v.reshape(1, -1) if isinstance(v, np.ndarray) else v) for v in (op.scale, op.bias))
    raw = replace(op, scale=1.0, bias=-0.0, act=ir.IDENTITY, residual="none")
    finish = Windowed(outputs, op.out_height, op.out_width, op.out_height, op.out_width, cout=outputs, diagonal=True,
                      maximum=True, scale=scale, bias=bias, act=op.act, residual=op.residual)
    return [replace(operation, op=raw, aux=None),
            replace(operation, op=finish, source=target, source_step=operation.target_step)]


def _flat_jobs(layer: str, operation: Operation, constants: Constants, config: Config) -> list[Job]:
    """Contiguous words: rows of D channels, and what remains."""
    lanes, size = config.diagonal, operation.flat
    jobs = []
    for start, channels, rows in ((0, lanes, size // lanes), (size - size % lanes, size % lanes, 1)):
        if channels and rows:
            op = replace(operation.op, channels=channels, width=rows, out_width=rows, cout=channels)
            views = [_shifted(v, start) and replace(_shifted(v, start), x=channels)
                     for v in (operation.source, operation.target, operation.aux)]
            jobs += windowed_jobs(layer, Operation(op, *views), 0, constants, config)
    return jobs


def operations(node: ir.Node, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """What a node does, for the accelerator and for the software kernels alike."""
    match node:
        case ir.Activate() | ir.Reshape() | ir.Add():
            return [_elementwise(node, sources, target)]
        case ir.Permute():
            channels_last = replace(target, shape=sources[0].shape, channels_last=sources[0].shape[1:])
            return [_elementwise(node, sources, channels_last)]
        case ir.Linear():
            return [_vector_operation(node, sources, target, node.in_features, node.out_features)]
        case ir.Scale() if len(target.shape) != 4:
            features = target.shape[-1]
            return [_vector_operation(node, sources, target, features, features)]
        case ir.Concat():
            return _concat(sources, target)
        case ir.Upsample():
            return _upsample(node, sources[0], target)
        case ir.Shuffle():
            return _shuffle(node, sources[0], target)
        case ir.PixelShuffle():
            return _pixel_shuffle(node, sources[0], target)
        case ir.Slice():
            return [_slice(node, sources[0], target)]
        case ir.Conv() if node.is_transposed:
            return _transposed(node, sources, target)
    return _map_operations(node, sources, target, target.shape)


def _map_operations(node, sources: list[Tensor], target: Tensor, out_shape: ir.Shape) -> list[Operation]:
    """What a node on maps does, or that of its outputs which have this shape."""
    aux = sources[1] if getattr(node, "residual", "none") != "none" else None
    residual = node.residual if aux else "none"
    operation = _map_operation(None, sources[0], target, aux)
    result = []
    for op, rectangle, (offset, step) in windowed_ops(node, sources[0].shape, out_shape):
        views = [v and replace(v, base=v.at(offset), c=v.c * step) for v in (operation.target, operation.aux)]
        result.append(replace(operation, op=replace(op, residual=residual), rectangle=rectangle, target=views[0],
                              aux=views[1]))
    return result


_COPY = Windowed(1, 1, 1, 1, 1, cout=1, diagonal=True, maximum=True)


def _copy(shape: tuple[int, int, int], **fields) -> Windowed:
    """y = x on a (C, H, W) map, but for `fields`."""
    return replace(_COPY, channels=shape[0], height=shape[1], width=shape[2], out_height=shape[1],
                   out_width=shape[2], cout=shape[0], **fields)


def _elementwise(node, sources: list[Tensor], target: Tensor) -> Operation:
    """act(a) or act(a + b), of any shapes, copying between layouts where they differ."""
    fields = {"act": getattr(node, "act", ir.IDENTITY), "residual": "before_act" if len(sources) > 1 else "none"}
    every = [*sources, target]
    aux = sources[1] if len(sources) > 1 else None
    same = all(t.channels_last == target.channels_last for t in every)
    if same and not any(t.pitch for t in every):
        views = [t and View(t.base, 1, 1, 0) for t in (sources[0], target, aux)]
        return Operation(replace(_COPY, **fields), *views, flat=target.size)
    if len(target.shape) == 4:
        return _map_operation(_copy(target.shape[1:], **fields), sources[0], target, aux)
    if same:
        rows, features = target.shape
        views = [t and View(t.base, 1, t.pitch or features, 0) for t in (sources[0], target, aux)]
        return Operation(_copy((features, 1, rows), **fields), *views)
    shape = next(t.channels_last for t in every if t.channels_last)
    return _map_operation(_copy(shape, **fields), sources[0], target, aux, shape)


def _map_operation(op, source: Tensor, target: Tensor, aux: Tensor | None, shape=None) -> Operation:
    """`op` from maps to maps; `shape` is that of all of them when their tensors are flattened."""
    shapes = [shape or t.shape[1:] if t else () for t in (source, target, aux)]
    maps = [_map_view(t, s) for t, s in zip((source, target, aux), shapes, strict=True)]
    return Operation(op, *(view for view, _ in maps), None, source.size // math.prod(shapes[0]),
                     *(step for _, step in maps))


def _map_view(tensor: Tensor | None, shape: tuple[int, int, int]) -> tuple[View | None, int]:
    """View of the first image of a tensor of (C, H, W) maps, and the words from one image to the next."""
    if tensor is None:
        return None, 0
    channels, height, width = shape
    if tensor.channels_last:
        pitch = tensor.pitch or channels
        return View(tensor.base, 1, pitch, width * pitch), height * width * pitch
    return View(tensor.base, height * width, 1, width), tensor.pitch or math.prod(shape)


def steps(tensor: Tensor, whole: ir.Shape) -> tuple[int, int, int]:
    """Words of maps (N, C, H, W) or vectors from image to image, pixel to pixel and channel to channel; 0 along what
    the tensor has one of, and `whole` has several."""
    shape, full = ((*s, 1, 1)[:3] if len(s) == 1 else (*s, 1, 1)[1:4] for s in (tensor.shape, whole))
    view, image = _map_view(tensor, shape)
    return image, view.x * (shape[1:] == full[1:]), view.c * (shape[0] == full[0])


def _vector_operation(node, sources: list[Tensor], target: Tensor, inputs: int, outputs: int) -> Operation:
    """Linear or Scale on (N, F) or (F,): the vectors of a batch are the pixels of a row."""
    source, residual = sources[0], node.residual
    if residual != "none" and sources[1].channels_last != target.channels_last:
        raise HeepgenError(f"layer {node.name}: its residual is a flattened feature map in another order than its "
                           "output; add it before flattening, or as a layer of its own")
    op = _linear(node, source.shape, source.channels_last) if isinstance(node, ir.Linear) else _scale(
        node, (inputs, 1, source.size // inputs), source.channels_last)
    tensors_ = (source, target, sources[1] if residual != "none" else None)
    views = [t and View(t.base, 1, t.pitch or n, 0) for t, n in zip(tensors_, (inputs, outputs, outputs), strict=True)]
    return Operation(replace(op, residual=residual), *views)


def _scale(node, shape: tuple[int, int, int], in_map) -> Windowed:
    """A 1x1 depthwise convolution with weights 1."""
    scale, bias = node.scale, node.bias
    if in_map is not None:
        scale, bias = (v.reshape(in_map).transpose(1, 2, 0).reshape(-1) for v in (scale, bias))
    return _copy(shape, weight=np.ones((shape[0], 1, 1), np.int8), scale=scale[None], bias=bias[None],
                 act=node.act, maximum=False)


def _concat(sources: list[Tensor], target: Tensor) -> list[Operation]:
    """Every input that does not lie there already is copied to its channels of the output."""
    result, channel = [], 0
    axis = _channel_axis(target.shape)
    for source in sources:
        part = _part(target, source.shape, channel)
        channel += source.shape[axis]
        if source == part:
            continue
        if len(target.shape) == 4:
            result.append(_map_operation(_copy(source.shape[1:]), source, part, None))
        elif source.channels_last:  # a flattened map, written in PyTorch's order
            shape = source.channels_last
            result.append(_map_operation(_copy(shape), source, part, None, shape))
        else:
            count = source.shape[axis]
            views = [View(t.base, 1, t.pitch or count, 0) for t in (source, part)]
            result.append(Operation(_copy((count, 1, source.size // count)), *views))
    return result


def _upsample(node: ir.Upsample, source: Tensor, target: Tensor) -> list[Operation]:
    """The input is copied to every phase of the output."""
    high, wide = node.factor
    operation = _map_operation(_copy(source.shape[1:]), source, target, None)
    view = operation.target
    return [replace(operation, target=replace(view, base=view.at(x=x, y=y), x=view.x * wide, y=view.y * high))
            for y in range(high) for x in range(wide)]


def _shuffle(node: ir.Shuffle, source: Tensor, target: Tensor) -> list[Operation]:
    """Every group is copied to channels that lie `groups` apart."""
    _, channels, height, width = source.shape
    size = channels // node.groups
    whole = _map_operation(_copy((size, height, width)), source, target, None, source.shape[1:])
    return [replace(whole, source=replace(whole.source, base=whole.source.at(c=group * size)),
                    target=replace(whole.target, base=whole.target.at(c=group), c=whole.target.c * node.groups))
            for group in range(node.groups)]


def _pixel_shuffle(node: ir.PixelShuffle, source: Tensor, target: Tensor) -> list[Operation]:
    """For every phase of the output, the channels that hold it are copied there."""
    factor = node.factor
    _, channels, height, width = source.shape
    op = _copy((channels // factor**2, height, width))
    whole = _map_operation(op, source, target, None)
    view, out = whole.source, whole.target
    return [replace(whole, source=replace(view, base=view.at(c=y * factor + x), c=view.c * factor**2),
                    target=replace(out, base=out.at(x=x, y=y), x=out.x * factor, y=out.y * factor))
            for y in range(factor) for x in range(factor)]


def _transposed(node: ir.Conv, sources: list[Tensor], target: Tensor) -> list[Operation]:
    """A convolution for every phase of the output, with the kernel's taps that meet the input there."""
    axes = [_phases(node, axis, target.shape[2 + axis]) for axis in range(2)]
    result = []
    for y, x in itertools.product(*axes):
        part = replace(node, weight=_taps(_taps(node.weight, y, 2), x, 3), input_dilation=(1, 1),
                       dilation=(y.dilation, x.dilation), pads=(y.before, x.before, 0, 0))
        for operation in _map_operations(part, sources, target, (*target.shape[:2], y.outputs, x.outputs)):
            views = [v and replace(v, base=v.at(x=x.phase, y=y.phase), x=v.x * x.step, y=v.y * y.step)
                     for v in (operation.target, operation.aux)]
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
            yield _Phase(phase, step, count, slice(first, None, step // common), dilation // common,
                         -(offset + first * dilation) // step)


def _taps(weight: np.ndarray, phase: _Phase, axis: int) -> np.ndarray:
    taken = np.moveaxis(weight, axis, 0)
    taken = taken[phase.taps] if phase.taps else np.zeros_like(taken[:1])
    return np.moveaxis(taken, 0, axis)


def _slice(node: ir.Slice, source: Tensor, target: Tensor) -> Operation:
    operation = _map_operation(_copy(target.shape[1:]), source, target, None)
    view = operation.source
    (c, y, x), (step_c, step_y, step_x) = node.start, node.step
    part = View(view.at(c=c, x=x, y=y), view.c * step_c, view.x * step_x, view.y * step_y)
    return replace(operation, source=part)


_UNARY = (ir.Softmax, ir.Sigmoid, ir.Tanh)
"""What the CPU computes element by element, or along one dimension, in the layout that it finds."""

CPU_NODES = (*_UNARY, ir.Mul)
"""What the CPU computes."""

TO_CHANNELS_FIRST = (0, 3, 1, 2)
"""`dims` of the Permute that an input may have; that of an output is its inverse."""

VIEWS = (ir.Reshape, ir.Permute)
"""Nodes whose output is their input seen with another shape."""


def tensors(graph: ir.Graph, share: bool = True, separate: Container[str] = (),
            on_chip: Container[str] = ()) -> dict[str, Tensor]:
    """Memory layout of every value: PyTorch's order at the graph's input and output, else channels-last.

    Reshapes and permutations share their input's storage; a reshape of the graph's input that is also its output
    is a copy. With `share` what a Concat joins is written where it is joined, and an elementwise operator, or the
    addition of a residual, overwrites what nobody reads afterwards, unless its layer is in `separate`. Storages in
    `on_chip` are the scratchpad's.
    """
    result = {v: Tensor(v, graph.shape(v)) for v in graph.inputs}
    plain = _in_pytorch_order(graph)
    parts = _concat_parts(graph, plain) if share else {}
    for index, node in enumerate(graph.nodes):
        shape = graph.out_shape(node)
        source = result[node.inputs[0]]
        if isinstance(node, ir.Permute) and shares_storage(graph, node):
            last = _channels_last(shape) if node.dims == TO_CHANNELS_FIRST else None
            result[node.output] = Tensor(source.storage, shape, last)
        elif shares_storage(graph, node):
            result[node.output] = replace(source, shape=shape)
        elif node.output in parts:
            result[node.output] = parts[node.output]
        else:
            own = Tensor(node.output, shape, _layout(node, shape, source, node.output in plain))
            reusable = _overwritten(graph, index, own, result) if share and node.name not in separate else None
            result[node.output] = replace(own, storage=reusable or own.storage)
    return {value: replace(tensor, on_chip=tensor.storage in on_chip) for value, tensor in result.items()}


def copy_outputs(graph: ir.Graph) -> ir.Graph:
    """An output that is the input, or lies in another order than PyTorch's, becomes a copy of it."""
    lie = tensors(graph)
    copied = {v: f"{v}.copy" for v in graph.outputs if v in graph.inputs or lie[v].channels_last}
    nodes = [ir.Activate(name=name, inputs=(v,), output=name, act=ir.IDENTITY) for v, name in copied.items()]
    values = [ir.Value(name, graph.shape(v)) for v, name in copied.items()]
    return graph.with_nodes([*graph.nodes, *nodes], tuple(copied.get(v, v) for v in graph.outputs), values)


def _layout(node: ir.Node, shape: ir.Shape, source: Tensor, plain: bool) -> tuple[int, int, int] | None:
    """`channels_last` of a node's output that has a storage of its own."""
    if _keeps_layout(node, shape):
        return source.channels_last
    if plain or isinstance(node, ir.Linear | ir.Permute):
        return None
    if isinstance(node, ir.Activate | ir.Add | ir.Mul):
        return None if len(shape) == 4 and source.channels_last and not _channels_last(shape) else source.channels_last
    return _channels_last(shape)


def _keeps_layout(node: ir.Node, shape: ir.Shape) -> bool:
    """Whether a node writes its output of `shape` in the order in which it finds its input."""
    return isinstance(node, _UNARY) or (isinstance(node, ir.Scale) and len(shape) != 4)


def _overwritten(graph: ir.Graph, index: int, own: Tensor, tensors_: dict[str, Tensor]) -> str | None:
    """Storage of an input that the output `own` of a node may overwrite, element by element."""
    node = graph.nodes[index]
    if isinstance(node, (ir.Activate, ir.Add, ir.Scale, *CPU_NODES)):
        candidates = node.inputs
    else:
        candidates = node.inputs[1:] if getattr(node, "residual", "none") != "none" else ()
        candidates = [v for v in candidates if tensors_[v].storage != tensors_[node.inputs[0]].storage]
    later = {v for n in graph.nodes[index + 1:] for v in n.inputs} | {*graph.outputs, *graph.inputs}
    needed = {tensors_[v].storage for v in later if v in tensors_}
    for value in candidates:
        old = tensors_[value]
        if old.storage not in needed and old == replace(own, storage=old.storage):
            return old.storage
    return None


def _channel_axis(shape: ir.Shape) -> int:
    return min(1, len(shape) - 1)


def _part(whole: Tensor, shape: ir.Shape, channel: int) -> Tensor:
    """The tensor of `shape` that begins at a channel of `whole`, which joins it with others."""
    if whole.channels_last:
        return replace(whole, shape=shape, channels_last=shape[1:], offset=whole.offset + channel,
                       pitch=whole.pitch or whole.channels_last[0])
    batch, space = (shape[0], math.prod(shape[2:])) if len(shape) > 1 else (1, 1)
    return replace(whole, shape=shape, offset=whole.offset + channel * space,
                   pitch=(whole.pitch or whole.size // batch) if batch > 1 else 0)


def _concat_parts(graph: ir.Graph, plain: set[str]) -> dict[str, Tensor]:
    """Values that can be written straight into the Concat that joins them, and where they lie then."""
    parts: dict[str, Tensor] = {}
    for node in reversed(graph.nodes):
        if not isinstance(node, ir.Concat):
            continue
        shape = graph.out_shape(node)
        whole = parts.get(node.output) or Tensor(node.output, shape,
                                                 None if node.output in plain else _channels_last(shape))
        channel = 0
        for value in node.inputs:
            if value not in parts and _may_be_part(graph, value):
                parts[value] = _part(whole, graph.shape(value), channel)
            channel += graph.shape(value)[_channel_axis(shape)]
    return parts


def _may_be_part(graph: ir.Graph, value: str) -> bool:
    """Whether the accelerator writes `value`, and only it reads it, as it is: strided access costs it nothing."""
    producer = graph.producer(value)
    written = producer and not isinstance(producer, (*VIEWS, *CPU_NODES))
    if len(graph.shape(value)) != 4:
        written = isinstance(producer, ir.Linear | ir.Concat)
    readers = graph.consumers(value)
    return written and value not in graph.outputs and not any(isinstance(n, (*VIEWS, *CPU_NODES)) for n in readers)


def shares_storage(graph: ir.Graph, node: ir.Node) -> bool:
    """Whether a node's output is its input seen with another shape."""
    if isinstance(node, ir.Permute):  # channels can be last only in what need not lie in PyTorch's order
        return (node.dims == TO_CHANNELS_FIRST or not _channels_last(graph.in_shape(node))
                or node.inputs[0] not in _in_pytorch_order(graph))
    return isinstance(node, ir.Reshape) and not (node.output in graph.outputs and _is_input(graph, node))


def _is_input(graph: ir.Graph, node: ir.Node) -> bool:
    """Whether a node reads the graph's input, directly or through reshapes."""
    value = node.inputs[0]
    while isinstance(producer := graph.producer(value), ir.Reshape | ir.Permute):
        value = producer.inputs[0]
    return value in graph.inputs


def _in_pytorch_order(graph: ir.Graph) -> set[str]:
    """Values that must lie in PyTorch's order: the outputs, what a Softmax of vectors reads, and whatever such a value
    takes its order from."""
    plain = set(graph.outputs)
    for node in reversed(graph.nodes):
        vectors_ = isinstance(node, ir.Softmax) and node.axis == -1
        takes = isinstance(node, ir.Reshape) or _keeps_layout(node, graph.shape(node.output))
        if vectors_ or (node.output in plain and takes):
            plain.add(node.inputs[0])
    return plain


def _channels_last(shape: ir.Shape) -> tuple[int, int, int] | None:
    return shape[1:] if len(shape) == 4 and shape[1] > 1 and shape[2] * shape[3] > 1 else None

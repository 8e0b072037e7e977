# SPDX-License-Identifier: Apache-2.0
"""Depthwise layers by banded tiles, on the configurations where that pays: a vector has as many outputs of a row as the
array lets it have, so that what a descriptor asks differs from one configuration to the other.

A template has such layers by diagonal tiles; from those follow the descriptors of the banded ones.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_gen import ir
from firmware_gen.operations.tensors import Tensor
from firmware_gen.operations.windows import Range, Windowed
from firmware_gen.targets.descriptor.lowering import banded
from firmware_gen.targets.descriptor.lowering.axis import along
from firmware_gen.targets.descriptor.lowering.pieces import piece_counts
from firmware_gen.targets.descriptor.lowering.streams import operations_of
from firmware_gen.targets.descriptor.survey.lanes import Array, Lanes, tiled_alike
from firmware_gen.targets.descriptor.survey.shapes import Shape
from hls.config import Config
from hls.descriptor.interface.rules import activation_room
from hls.descriptor.interface.table import Linked


@dataclass(frozen=True)
class Columns:
    """Of a depthwise convolution: all that its tiles depend on along a row."""

    channels: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel: ir.Pair
    stride: ir.Pair
    dilation: ir.Pair
    left: int

    @classmethod
    def of(cls, op: Windowed) -> "Columns":
        return cls(
            op.channels, op.height, op.width, op.out_height, op.out_width, op.kernel, op.stride, op.dilation, op.left
        )

    @cached_property
    def op(self) -> Windowed:
        """The same with weights that say nothing."""
        weight = np.zeros((self.channels, *self.kernel), np.int8)
        return Windowed(
            channels=self.channels,
            height=self.height,
            width=self.width,
            out_height=self.out_height,
            out_width=self.out_width,
            kernel=self.kernel,
            stride=self.stride,
            dilation=self.dilation,
            left=self.left,
            diagonal=True,
            weight=weight,
        )

    def diagonal(self, shape: Shape) -> Shape:
        """The descriptor by diagonal tiles of all columns, of one by banded tiles."""
        channels, out_h = self.channels, shape.out_px // shape.out_w
        (_, loaded, _), x0, stride = self._along((0, self.out_width))
        in_row = loaded * channels
        return replace(
            shape,
            diagonal=1,
            band=0,
            blocks=0,
            load_c_count=channels,
            load_chunks=loaded * shape.in_h,
            load_words=in_row * shape.in_h,
            in_row=in_row,
            x0=x0 * channels,
            row0=shape.y0 * in_row,
            kx=self.kernel[1],
            run=channels,
            ky_step=shape.dil_y * in_row if shape.kh > 1 else 0,
            kx_step=self.dilation[1] * channels,
            sx_words=stride * channels,
            sy_words=shape.stride_y * in_row,
            out_w=self.out_width,
            out_px=self.out_width * out_h,
            cout=channels,
        )

    def banded(
        self, shape: Shape, columns: tuple[int, int], outputs: int, channels: int, pitch: int, dense: bool
    ) -> Shape:
        """The opposite, for some columns and channels, as `lowering.pieces` has it. dense: there is no gap."""
        out_h, vectors = shape.out_px // shape.out_w, (columns[1] - columns[0]) // outputs
        (_, loaded, _), x0, _ = self._along(columns)
        rows = 1 if loaded == self.width else shape.in_h
        in_row, chunks = loaded * pitch, rows if dense else loaded * shape.in_h
        return replace(
            shape,
            diagonal=0,
            band=self.stride[1],
            blocks=channels,
            load_c_count=loaded * channels * shape.in_h // chunks,
            load_chunks=chunks,
            load_words=in_row * shape.in_h,
            in_row=in_row,
            x0=x0 * pitch,
            row0=shape.y0 * in_row,
            kx=1,
            run=banded.run_of(self.op, outputs),
            ky_step=shape.dil_y * in_row if shape.kh > 1 else 0,
            kx_step=pitch,
            sx_words=outputs * self.stride[1] * pitch,
            sy_words=shape.stride_y * in_row,
            out_w=vectors,
            out_px=vectors * out_h,
            cout=outputs,
        )

    def _along(self, columns: tuple[int, int]) -> tuple[tuple[int, int, int], int, int]:
        return along(columns, (0, self.kernel[1]), self.width, self.stride[1], self.dilation[1], self.left)

    def whole(self, links: Sequence[Linked]) -> int:
        """How many of these descriptors, by banded tiles, compute all columns of all channels of the same rows."""
        done, first = 0, links[0]
        for number, f in enumerate(links, 1):
            done += f.out_px * f.cout * f.ncb
            if done >= first.out_px // first.out_w * self.out_width * self.channels:
                return number
        return len(links)


def depthwise(graph: ir.Graph, tensors: Mapping[str, Tensor]) -> dict[str, Columns]:
    """Layers that may have banded tiles, by name. tensors: without pitches."""
    found = {}
    for node in graph.nodes:
        if isinstance(node, ir.Conv) and node.is_depthwise and not node.is_transposed:
            if all(banded.may_have_pitch(graph, value, tensors) for value in (node.inputs[0], node.output)):
                operations = operations_of(node, [tensors[v] for v in node.inputs], tensors[node.output])
                found[node.name] = Columns.of(operations[0].op)
    return found


class Varied:
    """What `Shape` says, of configurations whose descriptors differ: `which` of `shapes` each has."""

    def __init__(self, shapes: Sequence[Shape], which: NDArray[np.int64]):
        self.shapes, self.which = tuple(shapes), which
        self._key = self.shapes, which.tobytes()

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Varied) and self._key == other._key

    def __getattr__(self, name: str) -> Any:
        found = [getattr(shape, name) for shape in self.shapes]
        if len(set(found)) == 1:
            return found[0]
        return np.array(found, float)[self.which]

    def _each(self, name: str, numbers: Array) -> Array:
        result = np.zeros(numbers.shape)
        for number, shape in enumerate(self.shapes):
            own = self.which == number
            if own.any():
                result[..., own] = getattr(shape, name)(numbers[..., own])
        return result

    def spans(self, pixels: Array) -> Array:
        return self._each("spans", pixels)

    def needed(self, pixels: Array) -> Array:
        return self._each("needed", pixels)

    def released(self, pixels: Array) -> Array:
        return self._each("released", pixels)

    def longests(self, rooms: Array) -> Array:
        return self._each("longests", rooms)


@dataclass(frozen=True)
class Tiles:
    """Where a layer has banded tiles: `main` of all columns or most of them, `rest` of the others, with the
    configurations that have these; by how many ranges of channels each, one after the other."""

    main: Varied
    pays: NDArray[np.bool_]
    rest: Varied
    has_rest: NDArray[np.bool_]
    ranges: NDArray[np.int64]


def tiles_of(columns: Columns, shape: Shape, lanes: Lanes) -> Tiles | None:
    """Of a descriptor by diagonal tiles; None where they pay nowhere."""
    keys = lanes.tiled_alike
    likes = dict(zip(keys, lanes.configs, strict=True))
    ranges = {key: _ranges(columns, Like(key, config)) for key, config in likes.items()}
    somewhere = next((own for own in ranges.values() if own), None)
    if somewhere is None:
        return None
    mains, rests = dict[Shape, int](), dict[Shape, int]()
    numbers: dict[Hashable, tuple[int, int, int]] = {}
    made: dict[Hashable, tuple[int, int, int]] = {}
    for key, config in likes.items():
        own = (ranges[key] or somewhere, config.banks, config.scratchpad_banks, activation_room(config))
        if own not in made:
            pieces, shapes = _shapes(columns, shape, own[0], config)
            made[own] = mains.setdefault(shapes[0], len(mains)), rests.setdefault(shapes[-1], len(rests)), pieces
        numbers[key] = made[own]
    main, rest, pieces = np.array([numbers[key] for key in keys]).T
    pays = np.array([bool(ranges[key]) for key in keys]) & (pieces > 0)
    two = np.array([len(ranges[key]) > 1 for key in keys])
    return Tiles(Varied(list(mains), main), pays, Varied(list(rests), rest), two, np.maximum(pieces, 1))


def _shapes(
    columns: Columns, shape: Shape, ranges: Sequence[tuple[Range, int]], config: Config
) -> tuple[int, list[Shape]]:
    """Into how many ranges of channels a descriptor is cut, the fewest whose input the buffer holds, 0 where it holds
    none; and what the first of them asks, by ranges of columns."""
    room, shapes = activation_room(config), list[Shape]()
    dense = banded.map_pitch(columns.channels, config) == columns.channels
    for cuts in piece_counts(columns.channels):
        channels = -(-columns.channels // cuts)
        pitch, own_dense = banded.pitch_of(channels, config), channels == 1 or (dense and channels == columns.channels)
        shapes = [columns.banded(shape, own, outputs, channels, pitch, own_dense) for own, outputs in ranges]
        if all(own.span(1) <= room for own in shapes):
            return -(-columns.channels // channels), shapes
    return 0, shapes


@dataclass(frozen=True)
class Like:
    """A configuration of which only its key counts."""

    key: Hashable
    config: Config = field(compare=False)


@lru_cache(maxsize=1 << 16)
def _ranges(columns: Columns, like: Like) -> tuple[tuple[Range, int], ...]:
    """Columns of the output, each range with the outputs of its vectors; none where banded tiles do not pay."""
    if not banded.pays(columns.op, like.config):
        return ()
    return tuple(banded.columns_of((0, columns.out_width), banded.most_outputs(columns.op, like.config)))


def paying(columns: Sequence[Columns], config: Config) -> tuple[bool, ...]:
    """For which of these layers banded tiles pay."""
    like = Like(tiled_alike(config), config)
    return tuple(bool(_ranges(own, like)) for own in columns)

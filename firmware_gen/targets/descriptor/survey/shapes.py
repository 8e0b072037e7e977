# SPDX-License-Identifier: Apache-2.0
"""What one descriptor asks of many configurations: its blocks, tiles and strips on each, as arrays.

Strips and channel-block groups are chosen as `lowering.tiling` and `strips` do, from fewer candidates.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from firmware_gen.targets.descriptor.strips import is_whole
from firmware_gen.targets.descriptor.survey.lanes import Array, Lanes
from firmware_gen.targets.descriptor.timing.spans import window_words
from hls.arithmetic.accumulator import ACC_LATENCY
from hls.arithmetic.function import ROW_WORDS
from hls.descriptor.interface.table import Linked
from hls.descriptor.interface.timing import ANSWER, FIRST_BEAT


@dataclass(frozen=True)
class Shape:
    """Of a descriptor, what does not depend on the configuration: fields of its table, `flat`: words that it copies in
    rows of as many channels as the configuration likes, 0 where its channels are fixed; blocks: channels of banded
    tiles, which depend on it."""

    diagonal: int
    band: int
    unit_weights: int
    uniform: int
    operand: int
    acc_init: int
    whole: int
    mark_blocks: int
    function: int
    int4: int
    packed_scales: int
    load_c_count: int
    load_c_stride: int
    load_x_stride: int
    load_chunks: int
    load_words: int
    in_row: int
    in_h: int
    y0: int
    x0: int
    row0: int
    kh: int
    kx: int
    run: int
    dil_y: int
    stride_y: int
    ky_step: int
    kx_step: int
    sx_words: int
    sy_words: int
    out_w: int
    out_px: int
    groups: int
    cout: int
    group_in_step: int
    load_table: int
    table_rows: int
    flat: int = 0
    blocks: int = 0

    @classmethod
    def of(cls, f: Linked, flat: int = 0) -> "Shape":
        own = {
            "operand": int(bool(f.residual or f.acc_init)),
            "whole": int(is_whole(f)),
            "load_chunks": f.load_x_count * f.load_y_count,
            "flat": flat,
            "blocks": f.ncb if f.band else 0,
        }
        return cls(**{x.name: own[x.name] if x.name in own else int(getattr(f, x.name)) for x in fields(cls)})

    @cached_property
    def windows(self) -> tuple[Array, Array]:
        """Words that are released, and needed, by output pixel."""
        return window_words(self)  # type: ignore[arg-type]

    def span(self, pixels: int) -> int:
        """Input words that strips of so many pixels need at once."""
        if pixels not in self._spans:
            start, end = self.windows
            begins = np.arange(0, self.out_px, pixels)
            ends = np.minimum(begins + pixels, self.out_px)
            self._spans[pixels] = int((end[ends - 1] - start[begins]).max())
        return self._spans[pixels]

    @cached_property
    def _spans(self) -> dict[int, int]:
        return {}

    def spans(self, pixels: Array) -> Array:
        """`span` of each."""
        lengths, where = np.unique(pixels, return_inverse=True)
        return np.array([self.span(int(length)) for length in lengths], float)[where]

    def needed(self, pixels: Array) -> Array:
        """Words that the first pixels need."""
        return np.asarray(self.windows[1][np.minimum(pixels, self.out_px).astype(int) - 1], float)

    def released(self, pixels: Array) -> Array:
        """Words that the last pixels do not need."""
        return np.asarray(self.windows[0][(self.out_px - pixels).astype(int)], float)

    def longests(self, rooms: Array) -> Array:
        """`longest` of each."""
        sizes, where = np.unique(rooms, return_inverse=True)
        return np.array([self.longest(int(size)) for size in sizes], float)[where]

    def longest(self, room: int) -> int:
        """The most pixels of a strip whose input a buffer of so many words holds; 1 where it holds none."""
        start, end = self.windows
        low, high = 1, self.out_px
        while low < high:
            middle = (low + high + 1) // 2
            if (end[middle - 1 :] - start[: len(start) - middle + 1]).max() <= room:
                low = middle
            else:
                high = middle - 1
        return low


class Course(NamedTuple):
    """Cycles: `compute` of all vectors, with what they wait for when nothing else holds them up; `first` of the first
    group, `last_pass` of the last strip, `last` of what is behind the last words, `second` behind those of the second
    strip, `closing` of the last group; `ahead` of the first group's that come before its last words."""

    compute: Array
    first: Array
    last_pass: Array
    last: Array
    second: Array
    closing: Array
    ahead: Array

    def behind(self, other: "Course", there: Array, share: Array) -> "Course":
        """What is left of the other one's waiting for weights where so many beats, a share of all, are there."""
        waited = (np.maximum(own, its - there) for own, its in zip(self, other, strict=True))
        closing = self.closing + (1 - share) * (other.closing - self.closing)
        return Course(*waited)._replace(closing=closing)


@dataclass(frozen=True)
class Use:
    """Arrays, one element per configuration, or (candidates of strips, configurations).

    vectors: their number, whose course is `early` where weights are there in time, `late` where none is fetched before.
    Cycles: `drain` of all stores, `tail` of the last group's, `previous` of those of the group before; `load` of all
    input words, `lead` of those that the first strip needs, which are `lead_share` of all, `second_share` with those of
    the second strip; `weights` and `params` of the bus, `depth` of the weight buffer, `urgent` of weights that come
    before all else, `tile` of one tile and `first_weights` of the first group; `opens`: from the end of the descriptor
    before to the first store. held: words that the last strip needs. fits: whether weights are read once. Numbers:
    `strips`, `banks` of sums, `blocks` of channels in all groups; `reads`: the part of a group's vectors that wait for
    the bank of the group before the last one. From a vector to the drain of its sum: `to_drain`, `last_to_drain` of the
    last group.
    last_share, first_share, strip_share: of the last strip, the first one, others, of all pixels. outputs: words."""

    vectors: Array
    early: Course
    late: Course
    drain: Array
    tail: Array
    previous: Array
    load: Array
    lead: Array
    lead_share: Array
    second_share: Array
    held: Array
    strips: Array
    last_share: Array
    weights: Array
    params: Array
    fits: NDArray[np.bool_]
    depth: Array
    urgent: Array
    tile: Array
    first_weights: Array
    opens: Array
    blocks: Array
    first_share: Array
    strip_share: Array
    banks: Array
    reads: Array
    outputs: Array
    to_drain: Array
    last_to_drain: Array

    @cached_property
    def longest(self) -> "Use":
        """That of the first candidate, whose strips are longest."""
        return Use(**{field.name: _first(getattr(self, field.name)) for field in fields(self)})


def _first(own: Any) -> Any:
    if isinstance(own, Course):
        return Course(*map(_first, own))
    return own[0] if own.ndim == 2 else own


class Waits(NamedTuple):
    """Cycles of memory or scratchpad for a beat of weights, parameters and input words, and for all that belongs to a
    store beat."""

    weights: Array | float = 1.0
    params: Array | float = 1.0
    loads: Array | float = 1.0
    stores: Array | float = 1.0

    @property
    def key(self) -> bytes:
        """The same for the same ones."""
        return b"".join(np.asarray(own, float).tobytes() for own in self)


NONE = Waits()


class Geometry:
    """Of a `Shape` or a `Varied` one on many configurations, before strips are chosen."""

    def __init__(self, shape: Any, lanes: Lanes, waits: Waits = NONE):
        self.shape, self.lanes, self.waits = shape, lanes, waits
        ones = np.ones(len(lanes))
        if shape.flat:
            self.width, self.cout = lanes.diagonal, np.minimum(lanes.diagonal, shape.flat)
            self.pixels = np.maximum(shape.flat // lanes.diagonal, 1)
        else:
            self.cout, self.pixels = shape.cout * ones, shape.out_px * ones
            self.width = self.cout if shape.band else lanes.diagonal if shape.diagonal else lanes.cols
        self.blocks = shape.blocks * ones if shape.band else np.ceil(self.cout / self.width)
        kb = ones if shape.diagonal else np.ceil(shape.run / lanes.rows)
        self.steps = shape.kh * shape.kx * kb
        self.tiles = shape.groups * self.blocks * self.steps
        row_only = shape.diagonal or shape.band
        tile = (lanes.diagonal if row_only else lanes.rows * lanes.cols) * (0.5 if shape.int4 else 1)
        self.tile_bytes = 0 * ones if shape.unit_weights else tile
        self.tile_beats = waits.weights * self.tile_bytes / (4 * lanes.ports)
        self.depth = waits.weights * lanes.weight_depth
        self.urgent = waits.weights * lanes.urgent + self.tile_beats
        self.cut = ones if shape.diagonal or shape.unit_weights else np.maximum(lanes.cut, tile / lanes.row)
        self.weight_bytes = np.ceil(self.tiles * self.tile_bytes / (4 * lanes.ports)) * 4 * lanes.ports
        scales = ones if shape.band else lanes.beats(self.width)  # bus beats of a block
        packed = lanes.packed_scales & (shape.packed_scales > 0)
        block = 0 * ones if shape.uniform else scales + np.where(packed, np.ceil(scales / 2), scales)
        self.params = shape.groups * self.blocks * block
        self.param_cycles = waits.params * self.params
        self.opens = np.where(block > 0, ANSWER + waits.params * block + 4, FIRST_BEAT)
        if shape.load_table:
            table = shape.table_rows * ROW_WORDS // np.minimum(lanes.ports, 2)
            self.opens = np.maximum(self.opens, ANSWER + table + 4)
        self.param_bytes = 4 * self.params * lanes.ports
        self.fits = self.weight_bytes <= lanes.weight_capacity
        self.full = waits.stores * lanes.beats(self.width)  # of a pixel's block
        last = self.width if shape.band else self.cout - (self.blocks - 1) * self.width
        self.rest = waits.stores * lanes.beats(last)
        self.load = waits.loads * shape.load_chunks * lanes.beats(shape.load_c_count)
        self.beats = (self.blocks - 1) * self.full + self.rest

    def to_drain(self, entries: Array) -> Array:
        """As `timing.vector_to_drain`, of a group of so many."""
        waits: Array = self.lanes.to_drain + np.where(entries >= ACC_LATENCY, 0, ACC_LATENCY - 1)
        return waits

    def halved(self, strip: Array, cbg: Array) -> NDArray[np.bool_]:
        """As `rules.may_halve`."""
        halved: NDArray[np.bool_] = (strip * cbg <= self.lanes.half) & (not self.shape.acc_init)
        return halved

    def span(self, pixels: Array) -> Array:
        """Input words that strips of so many pixels need at once."""
        spans: Array = pixels * self.cout if self.shape.flat else self.shape.spans(pixels)
        return spans

    def passes(self, pixels: Array, cbg: Array, reads: Array | int, halved: NDArray[np.bool_]) -> Array:
        """Cycles of a strip's vectors: of two groups in turn, a bank is free again when the first one's is drained; of
        four, where banks are halved, of which the first step does not wait for the other half. reads: whether weights
        are fetched meanwhile."""
        whole = np.ceil(self.blocks / cbg) - 1  # groups but for the last one
        rest = self.blocks - whole * cbg
        c, d = self.group(pixels, cbg, reads), pixels * cbg * self.full
        r, last = self.group(pixels, rest, reads), pixels * ((rest - 1) * self.full + self.rest)
        back, back_last = self.to_drain(pixels * cbg) + 1, self.to_drain(pixels * rest) + 1

        def again(vectors: Array, drain: Array) -> Array:
            """From a group's first vector to that of the second one behind it."""
            return np.asarray(
                drain + np.where(halved, np.maximum(vectors * (1 - 1 / self.steps), (vectors - drain) / 2), vectors)
            )

        bank, last_bank = again(c, back + d), again(r, back_last + last)
        same = np.maximum(np.maximum(2 * c, bank), 2 * d)
        to_last = np.maximum(np.maximum(c + r, bank), d + last)
        from_last = np.maximum(np.maximum(c + r, last_bank), d + last)
        only = np.maximum(np.maximum(r, last), last_bank / 2)
        even = (same * (whole - 1) + to_last + from_last) / 2
        odd = (whole - 1) / 2 * same + np.maximum(to_last, from_last)
        total = np.where(whole == 0, only, np.where(whole % 2 == 1, odd, even))
        return np.asarray(self.shape.groups * total)

    def vectors(self, pixels: Array, cbg: Array, reads: Array | int) -> Array:
        """Cycles of a strip's vectors that wait for no bank of sums."""
        whole = np.ceil(self.blocks / cbg) - 1
        own = whole * self.group(pixels, cbg, reads) + self.group(pixels, self.blocks - whole * cbg, reads)
        return np.asarray(self.shape.groups * own)

    def group(self, pixels: Array, blocks: Array, reads: Array | int) -> Array:
        """Cycles of the vectors of a group of channel blocks."""
        tiles = blocks * np.maximum(self.cut, reads * self.tile_beats)
        return np.asarray(self.steps * np.maximum(np.maximum(pixels * blocks, ACC_LATENCY), tiles))

    def ahead(self, pixels: Array, group: Array) -> Array:
        """Cycles of a group's vectors that begin before its last words are there: of all kernel rows but the last one,
        as soon as the words of the first one are; of a single pixel all but its last vectors."""
        shape = self.shape
        alone = (pixels == 1) & (shape.groups == 1) & (not shape.diagonal)
        rows = self.load * np.minimum((shape.kh - 1) * shape.ky_step / np.maximum(shape.load_words, 1), 1)
        return np.asarray(np.where(alone, group * (1 - 1 / self.steps), np.minimum(group * (1 - 1 / shape.kh), rows)))

    def use(self, cbg: Array, first: Array, strip: Array) -> Use:
        """With these strips, (candidates, configurations)."""
        shape, pixels = self.shape, self.pixels
        more = np.ceil(np.maximum(pixels - first, 0) / strip)
        strips = 1 + more
        last = np.where(more > 0, pixels - first - (more - 1) * strip, first)
        in_last = self.blocks - (np.ceil(self.blocks / cbg) - 1) * cbg
        tail = last * ((in_last - 1) * self.full + self.rest)
        alone = shape.groups * np.ceil(self.blocks / cbg) == 1
        previous = np.where(more > 1, strip, first) * np.minimum(more, 1)
        previous = np.where(alone, previous * ((in_last - 1) * self.full + self.rest), last * cbg * self.full)
        early, late = (self.course(cbg, first, strip, last, more, reads) for reads in (0, 1))
        load, until = self.load, np.minimum(first + strip, pixels)
        if shape.flat:
            lead_share, second, held = np.minimum(first / pixels, 1), until / pixels, last * self.cout
        else:
            lead_share, second = shape.needed(first) / shape.load_words, shape.needed(until) / shape.load_words
            held = shape.load_words - shape.released(last)
        return Use(
            vectors=pixels * self.tiles,
            early=early,
            late=late,
            drain=pixels * shape.groups * self.beats,
            tail=tail,
            previous=previous,
            load=load,
            lead=load * lead_share,
            lead_share=lead_share,
            second_share=second,
            held=held,
            strips=strips,
            last_share=last / pixels,
            weights=np.ceil(self.tiles * self.tile_beats) * np.where(self.fits, 1, strips),
            params=strips * self.param_cycles,
            fits=self.fits,
            depth=self.depth,
            urgent=self.urgent,
            tile=self.tile_beats,
            first_weights=self.tile_beats * self.steps * np.minimum(cbg, self.blocks),
            opens=self.opens,
            blocks=self.blocks * shape.groups,
            first_share=np.minimum(first / pixels, 1),
            strip_share=strip / pixels,
            banks=strips * shape.groups * np.ceil(self.blocks / cbg),
            reads=np.where(self.halved(strip, cbg), 1 - 1 / self.steps, 1),
            outputs=pixels * shape.groups * self.cout * np.maximum(shape.blocks, 1),
            to_drain=self.to_drain(first * np.minimum(cbg, self.blocks)),
            last_to_drain=self.to_drain(last * in_last),
        )

    def course(self, cbg: Array, first: Array, strip: Array, last: Array, more: Array, reads: int) -> Course:
        """Of the vectors of so many strips behind the first one, where weights are fetched (1), or are there (0)."""
        again, halved = reads * ~self.fits, self.halved(strip, cbg)
        last_pass = self.vectors(last, cbg, again)
        vectors = self.vectors(first, cbg, reads) + np.where(more > 0, last_pass, 0)
        vectors = vectors + np.maximum(more - 1, 0) * self.vectors(strip, cbg, again)
        steady = self.passes(first, cbg, reads, halved) + np.where(more > 0, self.passes(last, cbg, again, halved), 0)
        steady = steady + np.maximum(more - 1, 0) * self.passes(strip, cbg, again, halved)
        count = (1 + more) * self.shape.groups * np.ceil(self.blocks / cbg)
        begin = np.minimum(cbg, self.blocks)
        compute = vectors + (steady - vectors) * np.maximum(0, 1 - 2 / count)  # two banks of sums are free at first
        group, own, end = (self.group(px, begin, w) for px, w in ((first, reads), (strip, again), (last, again)))
        from_second = compute - self.vectors(first, cbg, reads)
        return Course(
            compute,
            group,
            last_pass,
            last_pass - self.ahead(last, end),
            np.where(more > 1, from_second - self.ahead(strip, own), last_pass - self.ahead(last, end)),
            self.group(last, self.blocks - (np.ceil(self.blocks / cbg) - 1) * cbg, again),
            self.ahead(first, group),
        )


def groups_of(geometry: Geometry, load_bus: bool, out_bus: int) -> Array:
    """Channel blocks that are accumulated together, as `lowering.tiling` ranks them. load_bus: whether the load is a
    stream of the bus; out_bus: how many of store and operand are."""
    shape, lanes, pixels = geometry.shape, geometry.lanes, geometry.pixels
    if geometry.blocks.max() == 1:
        return np.ones(len(lanes))
    padded = lanes.beats(np.minimum(geometry.width, geometry.cout))
    drain = shape.groups * geometry.blocks * padded
    load = shape.load_chunks * lanes.beats(shape.load_c_count)
    once = np.ceil(geometry.tiles * geometry.tile_beats) + geometry.params
    best = least = np.full(len(lanes), np.inf)
    for cbg in _powers(
        int(min(geometry.blocks.max(), lanes.entries.max())), np.minimum(geometry.blocks, lanes.entries)
    ):
        most = np.minimum(np.floor(lanes.entries / cbg), pixels)
        fewest = np.ceil(pixels / most)
        counts = (fewest, fewest + 1, fewest + 2, fewest + 3, 2 * fewest, 3 * fewest, 4 * fewest, 8 * fewest)
        lengths = np.stack([most, *(np.ceil(pixels / np.minimum(count, pixels)) for count in counts)])
        rest = pixels % lengths
        strip = lengths[:, None]  # (strips, 1, configurations), and first strips in the second place
        first = np.stack([lengths, np.where(rest, rest, lengths), np.ceil(lengths / 2)], axis=1)
        more = np.ceil(np.maximum(pixels - first, 0) / strip)
        last = np.where(more > 0, pixels - first - (more - 1) * strip, first)
        own, again = _ranked(geometry, strip, cbg)
        end, last_again = _ranked(geometry, last, cbg)
        begin = np.where(more > 0, np.maximum(_ranked(geometry, first, cbg)[0], first * drain), 0)
        busy = begin + np.maximum(own, strip * drain) * np.maximum(more - 1, 0) + np.maximum(end, last * drain)
        bus = (more + 1) * once + load * load_bus + pixels * drain * out_bus
        in_last = geometry.blocks - (np.ceil(geometry.blocks / cbg) - 1) * cbg
        span = geometry.span(strip)
        free, word = lanes.room + lanes.ports - span, shape.load_words / pixels
        ahead = np.maximum(more - 1, 0) * np.maximum(strip * word - free, 0)
        ahead = ahead + np.where(more > 0, np.maximum(last * word - free, 0), 0)
        cost = np.maximum(np.maximum(busy, bus), load + last_again) + last * in_last * padded + 2 * (more + 1)
        cost = cost + np.floor(ahead / lanes.ports) + bus * WORDS
        cost = np.where(span > lanes.room, BEYOND + cbg, cost).min(axis=(0, 1))
        better = cost < least
        best, least = np.where(better, cbg, best), np.where(better, cost, least)
    return best


WORDS, BEYOND = 1e-7, 1e15
"""What a beat is worth where cycles are equal; cycles of strips whose input does not fit."""


def _powers(most: int, allowed: Array) -> list[Array]:
    """Powers of two up to the most that is allowed, and that; by ascending numbers."""
    return [np.minimum(1 << i, allowed) for i in range(most.bit_length())] + [allowed]


def _ranked(geometry: Geometry, pixels: Array, cbg: Array) -> tuple[Array, Array]:
    """Cycles of a strip, and of all its groups but the first."""
    tile = np.maximum(pixels, np.maximum(geometry.cut, np.ceil(geometry.tile_beats)))
    whole = np.ceil(geometry.blocks / cbg) - 1
    rest = geometry.blocks - whole * cbg

    def group(blocks: Array) -> Array:
        waits = np.maximum(tile, pixels + np.maximum(ACC_LATENCY - pixels * blocks, 0))
        passes = (tile * (blocks - 1) + waits) * geometry.steps
        if geometry.shape.band:  # as in `lowering.tiling`
            passes = np.maximum(passes, (geometry.lanes.to_drain + passes + pixels * blocks * geometry.full) / 2)
        return np.asarray(passes)

    own, last = group(cbg), group(rest)
    total = (whole * own + last) * geometry.shape.groups
    return total, total - np.where(whole > 0, own, last)


def candidates(geometry: Geometry, cbg: Array) -> tuple[Array, Array]:
    """First strips and others that are tried, as in `strips`, (candidates, configurations); instead of what does not
    fit, the longest that do."""
    pixels = geometry.pixels
    most, fits = np.minimum(np.floor(geometry.lanes.entries / cbg), pixels), longest_strips(geometry)
    fewest = np.ceil(pixels / most)
    counts = np.stack([fewest, fewest + 1, 2 * fewest, 4 * fewest])
    strips = np.ceil(pixels / np.minimum(counts, pixels))
    strips = np.where(geometry.span(strips) > geometry.lanes.room, np.minimum(fits, strips), strips)
    halves = np.stack([strips, np.ceil(strips / 2)], axis=1)
    return halves.reshape(-1, len(pixels)), np.repeat(strips, 2, axis=0)


def longest_strips(geometry: Geometry) -> Array:
    """The most pixels of a strip whose input fits."""
    shape, lanes = geometry.shape, geometry.lanes
    if shape.flat:
        return np.asarray(np.minimum(np.floor(lanes.room / geometry.cout), geometry.pixels))
    longest: Array = shape.longests(lanes.room)
    return longest


READ = 0.05
"""What a cycle of the bus for weights and parameters is worth, as in `strips`."""

# SPDX-License-Identifier: Apache-2.0
"""What the stages of the cycle model need to know of one descriptor: its loops, written out."""

import numpy as np

from firmware_gen.targets.descriptor.timing.banks import Beats
from firmware_gen.targets.descriptor.timing.demand import tiles
from firmware_gen.targets.descriptor.timing.spans import strip_sizes
from hls.config import Config
from hls.descriptor.interface.table import Linked, on_chip
from hls.descriptor.interface.timing import beats, block_outputs, param_beats, table_beat, table_beats

SWAP, STEP_FIRST, STEP_LAST, GROUP_FIRST, GROUP_LAST, STRIP_LAST = (1 << i for i in range(6))
"""Flags of a vector."""


def _groups(f: Linked) -> list[list[int]]:
    """Channel blocks accumulated together, for one group."""
    return [list(range(i, min(i + f.cbg, f.ncb))) for i in range(0, f.ncb, f.cbg)]


def _vectors(f: Linked, config: Config) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Per vector: words that must be loaded, and flags; per strip: words that are released after it."""
    apart = 1 if f.band else config.diagonal if f.diagonal else 0  # words from block to block, which share lanes if 0
    needs, flags, released = [], [], []
    first = 0
    for size in strip_sizes(f.out_px, f.first_px, f.strip_px):
        oy, ox = np.divmod(np.arange(first, first + size), f.out_w)
        x = f.x0 + ox * f.sx_words
        row = f.row0 + oy * f.sy_words
        iy = f.y0 + oy * f.stride_y
        for g in range(f.groups):
            for blocks in _groups(f):
                for ky in range(f.kh):
                    inside = (iy + ky * f.dil_y >= 0) & (iy + ky * f.dil_y < f.in_h)
                    for step in range(f.kx * f.kb):
                        kx, kb = divmod(step, f.kb)
                        offsets = [cb * apart for cb in blocks] if apart else [kb * config.rows]
                        lines = []
                        for offset in offsets:
                            p = x + kx * f.kx_step + g * f.group_in_step + offset
                            high = np.minimum(min(config.rows, f.run - offset), f.in_row - p)
                            ok, end = np.maximum(-p, 0) < high, p + high
                            if f.band:
                                lanes = np.where(ox == f.out_w - 1, min(f.run, f.last_lanes), f.run)
                                ok, end = np.where(ox == 0, f.first_lane, 0) < lanes, f.in_row
                            lines.append(np.where(inside & ok, row + ky * f.ky_step + end, 0))
                        needs.append(np.concatenate(lines if apart else lines * len(blocks)))
                        flags.append(
                            _flags(size, len(blocks), ky == 0 and step == 0, ky == f.kh - 1 and step == f.kx * f.kb - 1)
                        )
        flags[-1][-1] |= STRIP_LAST
        first += size
        released.append(_released(f, first) if first < f.out_px else f.load_words)
    return np.concatenate(needs), np.concatenate(flags), released


def _released(f: Linked, pixel: int) -> int:
    """Words that nobody needs from an output pixel on."""
    oy, ox = divmod(pixel, f.out_w)
    iy = f.y0 + oy * f.stride_y
    start = f.row0 + oy * f.sy_words + min(max(f.x0 + ox * f.sx_words, 0), f.in_row)
    return 0 if iy < 0 else start if iy < f.in_h else f.load_words


def _flags(pixels: int, blocks: int, group_first: bool, group_last: bool) -> np.ndarray:
    flags = np.zeros((blocks, pixels), np.int64)
    flags[:, 0] |= SWAP
    flags[0, 0] |= STEP_FIRST | (GROUP_FIRST if group_first else 0)
    flags[-1, -1] |= STEP_LAST | (GROUP_LAST if group_last else 0)
    return flags.reshape(-1)


def _runs(flags: np.ndarray, needs: np.ndarray) -> dict[int, tuple[int, int]]:
    """For every vector with flags: the next such one, and the words that it and those up to there need."""
    flagged = np.flatnonzero(flags)
    ends = [*flagged[1:].tolist(), len(needs)]
    most = np.maximum.reduceat(needs, flagged).tolist()
    return dict(zip(flagged.tolist(), zip(ends, most, strict=True), strict=True))


def _store_blocks(f: Linked, config: Config) -> list[tuple[int, bool]]:
    """Output beats of every channel block of every strip, and whether it is the last of its bank."""
    return [
        (size * beats(block_outputs(f, cb, config), config), cb == blocks[-1])
        for size in strip_sizes(f.out_px, f.first_px, f.strip_px)
        for _ in range(f.groups)
        for blocks in _groups(f)
        for cb in blocks
    ]


class Plan:
    """What the stages need to know of one descriptor."""

    def __init__(self, f: Linked, banks: Beats, config: Config):
        diagonal, unit = bool(f.diagonal), bool(f.unit_weights)
        self.banks = banks
        self.strips = len(strip_sizes(f.out_px, f.first_px, f.strip_px))
        needs, flags, self.releases = _vectors(f, config)
        self.needs, self.flags = needs.tolist(), flags.tolist()
        self.runs = _runs(flags, needs)
        self.blocks = _store_blocks(f, config)
        self.beats = sum(n for n, _ in self.blocks)
        self.uniform, self.residual, self.acc_init = bool(f.uniform), bool(f.residual), bool(f.acc_init)
        self.halves = bool(f.halves)
        self.barrier, self.profile = bool(f.barrier), bool(f.profile)
        self.param_block = param_beats(f, config)
        self.param_words = 0 if self.uniform else f.param_words
        self.weight_words, self.int4 = 0 if unit else f.weight_words, bool(f.int4)
        self.tiles = tiles(f)
        self.diagonal, self.unit, self.banded = diagonal, unit, bool(f.band)
        self.load_words, self.chunk, self.gap = f.load_words, f.load_c_count, f.load_gap
        self.load_chip, self.store_chip, self.aux_chip = (
            bool(config.scratchpad_words) and on_chip(where) for where in (f.load_addr, f.store_addr, f.aux_addr)
        )
        self.mark_words, self.mark_base = f.mark_words, f.mark_base
        self.function = bool(f.function)
        self.table_beats = table_beats(f, config)
        self.table_words = table_beat(config)
        self.stores = self._stores(f, config)

    def _stores(self, f: Linked, config: Config) -> list[tuple[int, bool]]:
        """Per store beat, its words and whether it completes what MARK_WORDS are counted by."""
        result = []
        for size in strip_sizes(f.out_px, f.first_px, f.strip_px):
            for g in range(f.groups):
                for cb in range(f.ncb):
                    outputs = block_outputs(f, cb, config)
                    beats = [min(config.ports, outputs - first) for first in range(0, outputs, config.ports)]
                    last = bool(f.mark_blocks) or (g == f.groups - 1 and cb == f.ncb - 1)
                    result += ([(beat, False) for beat in beats[:-1]] + [(beats[-1], last)]) * size
        return result

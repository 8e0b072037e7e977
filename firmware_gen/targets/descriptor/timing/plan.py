# SPDX-License-Identifier: Apache-2.0
"""What the stages of the cycle model need to know of one descriptor: its loops, written out."""

from typing import Any

import numpy as np

from firmware_gen.targets.descriptor.timing.banks import Banks, word_banks
from firmware_gen.targets.descriptor.timing.demand import tiles
from firmware_gen.targets.descriptor.timing.spans import strip_sizes
from hls.config import Config
from hls.descriptor.interface.table import on_chip
from hls.descriptor.interface.timing import beats, channels, param_beats

SWAP, STEP_FIRST, STEP_LAST, GROUP_FIRST, GROUP_LAST, STRIP_LAST = (1 << i for i in range(6))
"""Marks of a vector."""


def _groups(f: dict[str, Any]) -> list[list[int]]:
    """Channel blocks accumulated together, for one group."""
    return [list(range(i, min(i + f["CBG"], f["NCB"]))) for i in range(0, f["NCB"], f["CBG"])]


def _vectors(f: dict[str, Any], config: Config) -> tuple[list[int], list[int], list[int]]:
    """Per vector: words that must be loaded, and marks; per strip: words that are released after it."""
    diagonal = bool(f.get("DIAGONAL"))
    needs, marks, released = [], [], []
    first = 0
    for size in strip_sizes(f):
        oy, ox = np.divmod(np.arange(first, first + size), f["OUT_W"])
        x = f["X0"] + ox * f["SX_WORDS"]
        row = f["ROW0"] + oy * f["SY_WORDS"]
        iy = f["Y0"] + oy * f["STRIDE_Y"]
        for g in range(f["GROUPS"]):
            for blocks in _groups(f):
                for ky in range(f["KH"]):
                    inside = (iy + ky * f["DIL_Y"] >= 0) & (iy + ky * f["DIL_Y"] < f["IN_H"])
                    for step in range(f["KX"] * f["KB"]):
                        kx, kb = divmod(step, f["KB"])
                        offsets = [cb * config.diagonal for cb in blocks] if diagonal else [kb * config.rows]
                        lines = []
                        for offset in offsets:
                            p = x + kx * f["KX_STEP"] + g * f.get("GROUP_IN_STEP", 0) + offset
                            high = np.minimum(min(config.rows, f["RUN"] - offset), f["IN_ROW"] - p)
                            ok = inside & (np.maximum(-p, 0) < high)
                            lines.append(np.where(ok, row + ky * f["KY_STEP"] + p + high, 0))
                        needs.append(np.concatenate(lines if diagonal else lines * len(blocks)))
                        marks.append(
                            _marks(
                                size,
                                len(blocks),
                                ky == 0 and step == 0,
                                ky == f["KH"] - 1 and step == f["KX"] * f["KB"] - 1,
                            )
                        )
        marks[-1][-1] |= STRIP_LAST
        first += size
        oy, ox = divmod(first, f["OUT_W"])
        start = f["ROW0"] + oy * f["SY_WORDS"] + min(max(f["X0"] + ox * f["SX_WORDS"], 0), f["IN_ROW"])
        iy = f["Y0"] + oy * f["STRIDE_Y"]
        released.append(0 if iy < 0 else start if iy < f["IN_H"] else f["LOAD_WORDS"])
    released[-1] = f["LOAD_WORDS"]
    return np.concatenate(needs).tolist(), np.concatenate(marks).tolist(), released


def _marks(pixels: int, blocks: int, group_first: bool, group_last: bool) -> np.ndarray:
    marks = np.zeros((blocks, pixels), np.int64)
    marks[:, 0] |= SWAP
    marks[0, 0] |= STEP_FIRST | (GROUP_FIRST if group_first else 0)
    marks[-1, -1] |= STEP_LAST | (GROUP_LAST if group_last else 0)
    return marks.reshape(-1)


def _store_blocks(f: dict[str, Any], config: Config) -> list[tuple[int, bool]]:
    """Output beats of every channel block of every strip, and whether it is the last of its bank."""
    width = channels(f.get("DIAGONAL", 0), config)
    return [
        (size * beats(min(width, f["COUT"] - cb * width), config), cb == blocks[-1])
        for size in strip_sizes(f)
        for _ in range(f["GROUPS"])
        for blocks in _groups(f)
        for cb in blocks
    ]


class Plan:
    """What the stages need to know of one descriptor."""

    def __init__(self, fields: dict[str, Any], banks: Banks, config: Config):
        f = {"GROUP_IN_STEP": 0, "KX_STEP": 0} | fields
        diagonal, unit = bool(f.get("DIAGONAL")), bool(f.get("UNIT_WEIGHTS"))
        self.banks = banks
        self.strips = len(strip_sizes(f))
        self.needs, self.marks, self.releases = _vectors(f, config)
        self.blocks = _store_blocks(f, config)
        self.beats = sum(n for n, _ in self.blocks)
        self.uniform, self.residual, self.acc_init = (bool(f.get(n)) for n in ("UNIFORM", "RESIDUAL", "ACC_INIT"))
        self.barrier, self.profile = bool(f.get("BARRIER", 1)), bool(f.get("PROFILE", 1))
        self.width = channels(diagonal, config)
        self.param_block = param_beats(diagonal, config)
        self.param_words = 0 if self.uniform else f["PARAM_WORDS"]
        self.weight_words = 0 if unit else f["WEIGHT_WORDS"]
        self.tiles = tiles(f)
        self.diagonal, self.unit = diagonal, unit
        self.load_words, self.chunk = f["LOAD_WORDS"], f["LOAD_C_COUNT"]
        self.load_chip, self.store_chip, self.aux_chip = (
            bool(config.scratchpad_words) and on_chip(f, stream) for stream in ("LOAD", "STORE", "AUX")
        )
        self.mark_words, self.mark_base = f.get("MARK_WORDS", 0), f.get("MARK_BASE", 0)
        self.stores = self._stores(f, config)
        self.store_banks, self.aux_banks = (
            self._output_banks(f, config, stream, entry, banks.addresses[i])
            for i, stream, entry in ((1, "STORE", banks.store), (2, "AUX", banks.aux))
        )
        self.load_steps = (banks.addresses[0], *(f[f"LOAD_{n}_STRIDE"] for n in "CXY"), f["LOAD_X_COUNT"])
        self.config = config

    def load_banks(self, chunk: int, c: int) -> tuple[int, ...]:
        """Of the beat that begins ``c`` words behind the start of a chunk."""
        entry = self.banks.load
        if not entry or entry[0] >= 0:
            return entry
        address, c_stride, x_stride, y_stride, row = self.load_steps
        offset = c * c_stride + chunk % row * x_stride + chunk // row * y_stride
        return word_banks(address + 4 * offset, c_stride, self.config)

    def _output_banks(
        self, f: dict[str, Any], config: Config, stream: str, entry: tuple[int, ...], address: int
    ) -> list[tuple[int, ...]]:
        """Per beat of the output's loops."""
        if not entry or entry[0] >= 0:
            return [entry] * self.beats
        c_step, x_step, y_step, cb_step, g_step = (
            f[f"{stream}_{n}"] for n in ("C_STRIDE", "X_STRIDE", "Y_STRIDE", "CB_STEP", "G_STEP")
        )
        result: list[tuple[int, ...]] = []
        first = 0
        for size in strip_sizes(f):
            for g in range(f["GROUPS"]):
                for cb in range(f["NCB"]):
                    for px in range(first, first + size):
                        oy, ox = divmod(px, f["OUT_W"])
                        at = oy * y_step + ox * x_step + cb * cb_step + g * g_step
                        result += [
                            word_banks(address + 4 * (at + c * c_step), c_step, config)
                            for c in range(0, min(self.width, f["COUT"] - cb * self.width), config.ports)
                        ]
            first += size
        return result

    def _stores(self, f: dict[str, Any], config: Config) -> list[tuple[int, bool]]:
        """Per store beat, its words and whether it completes a pixel."""
        result = []
        for size in strip_sizes(f):
            for g in range(f["GROUPS"]):
                for cb in range(f["NCB"]):
                    channels = min(self.width, f["COUT"] - cb * self.width)
                    beats = [min(config.ports, channels - first) for first in range(0, channels, config.ports)]
                    last = g == f["GROUPS"] - 1 and cb == f["NCB"] - 1
                    result += ([(beat, False) for beat in beats[:-1]] + [(beats[-1], last)]) * size
        return result

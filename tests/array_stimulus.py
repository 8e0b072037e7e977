# SPDX-License-Identifier: Apache-2.0
"""Stimulus for the array: interesting FP32 values, and legal schedules of tiles with random gaps."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hls.arithmetic.array import array_latency, array_model, load_beats

SPECIALS = np.array(
    [
        0,
        1,
        2,
        0x7FFFFF,
        0x800000,
        0x800001,
        0xFFFFFF,
        0x3F800000,
        0x3F7FFFFF,
        0x3F800001,
        0x7F7FFFFF,
        0x7F000000,
        0x7F800000,
        0x7F800001,
        0x7FC00000,
        0x7FFFFFFF,
    ],
    np.uint32,
)


def fp32_values(rng: np.random.Generator, shape: tuple) -> np.ndarray:
    """uint32 bit patterns: any, normally distributed, of close exponents, short, subnormal, special.

    The last axis is a vector: most of its lanes are of one kind.
    """
    sign = rng.integers(0, 2, shape).astype(np.uint32) << 31
    fraction = rng.integers(0, 1 << 23, shape).astype(np.uint32)
    base = rng.integers(0, 256, (*shape[:-1], 1))
    near = np.clip(base + rng.integers(-14, 15, shape), 0, 254).astype(np.uint32) << 23
    kinds = [
        rng.integers(0, 1 << 32, shape).astype(np.uint32),
        rng.standard_normal(shape).astype(np.float32).view(np.uint32),
        sign | near | fraction,
        sign | near | fraction & 0x700000 | rng.integers(0, 2, shape).astype(np.uint32),
        sign | fraction >> rng.integers(0, 23, shape).astype(np.uint32),
        sign | rng.choice(SPECIALS, shape),
    ]
    kind = rng.choice(len(kinds), (*shape[:-1], 1), p=[0.1, 0.2, 0.4, 0.15, 0.1, 0.05])
    kind = np.where(rng.random(shape) < 0.05, rng.integers(0, len(kinds), shape), kind)
    return np.choose(kind, kinds)


def vectors(rng: np.random.Generator, n: int, rows: int) -> np.ndarray:
    """fp32_values, some with lanes that repeat with opposite sign so that sums cancel."""
    v = fp32_values(rng, (n, rows))
    if rows > 1:
        cancel = rng.random(n) < 0.3
        v[cancel, 1] = v[cancel, 0] ^ (1 << 31) ^ rng.integers(0, 2, cancel.sum()).astype(np.uint32)
    return v


def weights(rng: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    kind = rng.integers(0, 4)
    if kind == 0:
        return rng.integers(-128, 128, (rows, cols)).astype(np.int8)
    choices = ([-1, 0, 1], [1], [-128, -127, 0, 127, 64])[kind - 1]
    return rng.choice(choices, (rows, cols)).astype(np.int8)


@dataclass
class Schedule:
    """Per-cycle inputs of `systolic_array` (arrays of T), and its column results."""

    vec_valid: np.ndarray
    vec: np.ndarray  # [T, rows]
    vec_swap: np.ndarray
    vec_diag: np.ndarray
    vec_max: np.ndarray
    load_valid: np.ndarray
    load_data: np.ndarray  # uint8 [T, load_rows * cols]
    load_beat: np.ndarray
    load_diag: np.ndarray
    col_valid: np.ndarray  # bool [T, cols]
    col_data: np.ndarray  # uint32 [T, cols], where valid


def schedule(config, tiles: int, per_tile: int, gaps: float, seed: int) -> Schedule:
    """`tiles` random tiles of 1..per_tile vectors, as early as is legal but for `gaps`."""
    rng = np.random.default_rng(seed)

    def draw():
        diag = bool(rng.random() < 0.4)
        max_mode = diag and bool(rng.random() < 0.5)
        shape = config.rows, config.cols
        w = np.ones(shape, np.int8) if max_mode else weights(rng, *shape)
        return vectors(rng, int(rng.integers(1, per_tile + 1)), config.rows), w, diag, max_mode

    return _schedule(config, (draw() for _ in range(tiles)), gaps, rng)


def back_to_back(config, tiles: Iterable) -> Schedule:
    """Given tiles (vectors [N, rows], weights [rows, cols], diagonal, maximum), as early as is legal."""
    return _schedule(config, tiles, 0.0, np.random.default_rng(0))


def _schedule(config, tiles: Iterable, gaps: float, rng) -> Schedule:
    loads, inputs = [], []
    load_free = vector_free = 0
    for v, w, diag, max_mode in tiles:
        beat_times = _times(rng, load_free, 1 if diag else load_beats(config), gaps)
        for beat, t in enumerate(beat_times):
            loads.append((t, beat, diag, _beat_bytes(w, beat, diag, config.load_rows, rng)))
        times = _times(rng, max(beat_times[-1] + 1, vector_free), len(v), gaps)
        inputs.append((times, v, diag, max_mode, array_model(v, w, diag, max_mode, config.arithmetic)))
        load_free, vector_free = times[0], times[-1] + 1
    return _pack(config, loads, inputs, rng)


def _times(rng, start, n, gaps):
    return start - 1 + np.cumsum(rng.geometric(1 - gaps, n))


def _beat_bytes(w, beat, diag, load_rows, rng):
    data = rng.integers(0, 256, load_rows * w.shape[1]).astype(np.uint8)  # unused bytes may be anything
    part = np.diag(w) if diag else w[beat * load_rows : (beat + 1) * load_rows].reshape(-1)
    data[: part.size] = part.view(np.uint8) if part.flags.c_contiguous else part.copy().view(np.uint8)
    return data


def _pack(config, loads, inputs, rng):
    latency, cols = array_latency(config), config.cols
    length = inputs[-1][0][-1] + latency + cols + 2
    s = Schedule(
        vec_valid=np.zeros(length, bool),
        vec=fp32_values(rng, (length, config.rows)),
        vec_swap=rng.random(length) < 0.5,
        vec_diag=rng.random(length) < 0.5,
        vec_max=rng.random(length) < 0.5,
        load_valid=np.zeros(length, bool),
        load_data=rng.integers(0, 256, (length, config.load_rows * cols)).astype(np.uint8),
        load_beat=np.zeros(length, np.uint8),
        load_diag=rng.random(length) < 0.5,
        col_valid=np.zeros((length, cols), bool),
        col_data=np.zeros((length, cols), np.uint32),
    )
    for t, beat, diag, data in loads:
        assert not s.load_valid[t]
        s.load_valid[t], s.load_beat[t], s.load_diag[t], s.load_data[t] = True, beat, diag, data
    for t, v, diag, max_mode, y in inputs:
        assert not s.vec_valid[t].any()
        s.vec_valid[t], s.vec[t], s.vec_diag[t], s.vec_max[t] = True, v, diag, max_mode
        s.vec_swap[t] = np.arange(len(t)) == 0
        for c in range(cols):
            s.col_valid[t + latency + c, c], s.col_data[t + latency + c, c] = True, y[:, c]
    return s

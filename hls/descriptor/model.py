# SPDX-License-Identifier: Apache-2.0
"""NumPy model of the whole accelerator: runs descriptor lists on a memory image, bit for bit.

This is the reference that hardware and firmware are compared with. It follows the loops of
``table`` but streams all pixels of a tile at once: strips, bus order and buffer sizes do not
change results, only the order of the additions does, and that is kept (blocks ascend in k).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hls.arithmetic.accumulator import accumulate_model
from hls.arithmetic.aligned_error import LossMeter
from hls.arithmetic.array import array_model
from hls.arithmetic.epilogue import epilogue_model
from hls.config import Config
from hls.descriptor.interface.rules import contradiction
from hls.descriptor.interface.table import SCRATCHPAD, WORDS, Fields, on_chip, split_address, unpack
from hls.errors import HeepgenError

PIXELS_AT_ONCE = 1 << 12  # of all memories together: what a cache holds


@dataclass(frozen=True)
class Layer:
    """What one descriptor did: its fields and its streamed vectors; `loss` is LossMeter's share, where asked for."""

    address: int
    fields: dict[str, Any]
    vectors: int
    loss: float | None = None


def execute(
    memory: np.ndarray, doorbell: int, bases: Sequence[int], config: Config, measure_loss: bool = False
) -> list[Layer]:
    """Run the descriptor list at descriptor address ``doorbell``.

    ``memory`` is a uint8 array that starts at byte address 0 and is changed in place; ``bases`` are the
    BASE registers, and the last of them says where in ``memory`` the scratchpad lies, if there is one. Several
    memories, one per row, run at once: descriptors, weights and parameters are those of the first. Returns a list of
    Layer, with what alignment cost if ``measure_loss``. Raises HeepgenError for addresses outside ``memory`` and for
    descriptors that break `rules`.
    """
    words = memory.view(np.uint32).reshape(-1, memory.shape[-1] // 4)
    layers = []
    while True:
        start = resolve(doorbell, bases)
        if start // 4 + WORDS > words.shape[1]:
            raise HeepgenError(f"descriptor at {start:#x} lies outside the {memory.shape[-1]} bytes of memory")
        fields = unpack(words[0, start // 4 : start // 4 + WORDS])
        if wrong := contradiction(fields, config):
            raise HeepgenError(f"descriptor at {start:#x}: {wrong}; the hardware refuses it with error DESCRIPTOR")
        meter = LossMeter() if measure_loss and config.arithmetic == "aligned" else None
        vectors = _run_layer(words, fields, bases, config, meter)
        layers.append(Layer(start, fields, vectors, meter.share if meter else None))
        if fields["LAST"]:
            return layers
        doorbell = fields["NEXT"]


def resolve(address: int, bases: Sequence[int]) -> int:
    """Byte address of a descriptor address."""
    if address % 4:
        raise HeepgenError(f"descriptor address {address:#x} is not a multiple of 4")
    region, offset = split_address(address)
    return bases[region] + offset


def _stream_index(
    words: np.ndarray, prefix: str, fields: Fields, bases: Sequence[int], config: Config, *terms: np.ndarray
) -> np.ndarray:
    """`_word_index` of a stream (LOAD, STORE, AUX), which may be the scratchpad's."""
    name = f"{prefix}_ADDR"
    if not config.scratchpad_words or not on_chip(fields, prefix):
        return _word_index(words, name, fields, bases, *terms)
    if fields["LOAD_C_COUNT" if prefix == "LOAD" else "COUT"] > 1 and fields[f"{prefix}_C_STRIDE"] != 1:
        raise HeepgenError(
            f"{name} {fields[name]:#x}: words of a beat are neighbours in the scratchpad, "
            f"{prefix}_C_STRIDE is {fields[f'{prefix}_C_STRIDE']}"
        )
    first, mask = resolve(fields[name], [0] * len(bases)) // 4, (1 << fields[f"{prefix}_RING"]) - 1
    index = (first & ~mask | (first + sum(terms)) & mask) % config.scratchpad_words
    return np.asarray(bases[SCRATCHPAD] // 4 + index)


def _word_index(words: np.ndarray, name: str, fields: Fields, bases: Sequence[int], *terms: np.ndarray) -> np.ndarray:
    """Word indices of the broadcast sum of ``terms`` (in words) relative to address field ``name``."""
    index = np.asarray(resolve(fields[name], bases) // 4 + sum(terms))
    if index.size and (index.min() < 0 or index.max() >= words.shape[1]):
        raise HeepgenError(f"{name} {fields[name]:#x} reaches outside the {4 * words.shape[1]} bytes of memory")
    return index


def _run_layer(words: np.ndarray, f: Fields, bases: Sequence[int], config: Config, meter: LossMeter | None) -> int:
    diagonal = bool(f["DIAGONAL"])
    block = config.diagonal if diagonal else config.cols
    loads = _stream_index(
        words,
        "LOAD",
        f,
        bases,
        config,
        np.arange(f["LOAD_Y_COUNT"])[:, None, None] * f["LOAD_Y_STRIDE"],
        np.arange(f["LOAD_X_COUNT"])[:, None] * f["LOAD_X_STRIDE"],
        np.arange(f["LOAD_C_COUNT"]) * f["LOAD_C_STRIDE"],
    )
    buffer = words[:, loads.reshape(-1)]
    weights = _weight_tiles(words, f, bases, config)
    scale, bias = _parameters(words, f, bases, config, block)
    oy, ox = np.divmod(np.arange(f["OUT_PX"]), f["OUT_W"])
    channel = np.arange(f["NCB"] * block)
    channel = channel[channel < f["COUT"]]
    vectors = 0
    results = []
    step = max(1, PIXELS_AT_ONCE // len(words))
    for g in range(f["GROUPS"]):
        for first in range(0, f["OUT_PX"], step):
            px = slice(first, first + step)
            stored = _stream(words, f, bases, config, "STORE", g, oy[px], ox[px], channel, block)
            aux = acc = None
            if f["RESIDUAL"] or f["ACC_INIT"]:
                read = _stream(words, f, bases, config, "AUX", g, oy[px], ox[px], channel, block)
                aux = words[:, read].reshape(-1, len(channel))
                if f["ACC_INIT"]:
                    acc = np.zeros((len(aux), f["NCB"] * block), np.uint32)
                    acc[:, : len(channel)] = aux
            for k in range(f["KH"] * f["KX"] * f["KB"]):
                x = _partial_sums(buffer, f, config, weights, g, k, oy[px], ox[px], meter)
                acc = x if acc is None else accumulate_model(acc, x, first=False, max_mode=bool(f["MAX"]))
                vectors += len(oy[px]) * f["NCB"]
            assert acc is not None, "a count of 0 is refused above"
            acc, scales, biases = acc[:, : len(channel)], scale[g, : len(channel)], bias[g, : len(channel)]
            if meter:
                meter.outputs(g, acc, scales, biases, len(words))
            y = epilogue_model(
                acc,
                scales,
                biases,
                aux if f["RESIDUAL"] else None,
                bool(f["ACT_FIRST"]),
                f["SLOPE"] if f["SLOPE_EN"] else None,
                f["LOW"],
                f["HIGH"],
            )
            results.append((stored, y))
    for where, y in results:
        words[:, where] = y.reshape(len(words), *where.shape)
    return vectors


def _stream(
    words: np.ndarray,
    f: Fields,
    bases: Sequence[int],
    config: Config,
    prefix: str,
    g: int,
    oy: np.ndarray,
    ox: np.ndarray,
    channel: np.ndarray,
    block: int,
) -> np.ndarray:
    """Word indices [pixels, channels] of the STORE or AUX stream."""
    return _stream_index(
        words,
        prefix,
        f,
        bases,
        config,
        (oy * f[f"{prefix}_Y_STRIDE"] + ox * f[f"{prefix}_X_STRIDE"])[:, None],
        g * f[f"{prefix}_G_STEP"]
        + channel // block * f[f"{prefix}_CB_STEP"]
        + channel % block * f[f"{prefix}_C_STRIDE"],
    )


def _partial_sums(
    buffer: np.ndarray,
    f: Fields,
    config: Config,
    weights: np.ndarray,
    g: int,
    k: int,
    oy: np.ndarray,
    ox: np.ndarray,
    meter: LossMeter | None,
) -> np.ndarray:
    """Column results uint32 [memories * pixels, NCB * Cb] of weight step ``k``."""
    rest, kb = divmod(k, f["KB"])
    ky, kx = divmod(rest, f["KX"])
    max_mode = bool(f["MAX"])
    if not f["DIAGONAL"]:
        lanes = _lanes(
            buffer, f, config, oy, ox, ky, kx, g * f["GROUP_IN_STEP"] + kb * config.rows, f["RUN"] - kb * config.rows
        )
        tiles = np.concatenate(list(weights[g, :, k]), axis=1)
        if meter:
            meter.meet(lanes, tiles)
        return array_model(lanes, tiles, False, max_mode, config.arithmetic)
    blocks = []
    for cb in range(f["NCB"]):
        offset = cb * config.diagonal
        lanes = _lanes(buffer, f, config, oy, ox, ky, kx, offset, f["RUN"] - offset)
        x = array_model(lanes, weights[0, cb, k], True, max_mode, config.arithmetic)
        blocks.append(x[:, : config.diagonal])
    return np.concatenate(blocks, axis=1)


def _lanes(
    buffer: np.ndarray,
    f: Fields,
    config: Config,
    oy: np.ndarray,
    ox: np.ndarray,
    ky: int,
    kx: int,
    offset: int,
    run: int,
) -> np.ndarray:
    """Vectors uint32 [memories * pixels, rows]: one block of a run, lanes without data replaced by PAD_VALUE."""
    lane = np.arange(config.rows)
    p = (f["X0"] + ox * f["SX_WORDS"] + kx * f["KX_STEP"] + offset)[:, None] + lane
    row = f["ROW0"] + oy * f["SY_WORDS"] + ky * f["KY_STEP"]
    iy = f["Y0"] + oy * f["STRIDE_Y"] + ky * f["DIL_Y"]
    valid = ((iy >= 0) & (iy < f["IN_H"]))[:, None] & (p >= 0) & (p < f["IN_ROW"]) & (lane < run)
    index = np.where(valid, row[:, None] + p, 0)
    if index.max(initial=0) >= buffer.shape[1]:
        raise HeepgenError(f"window reaches input word {index.max()} but LOAD_WORDS is {buffer.shape[1]}")
    pad = np.float32(f["PAD_VALUE"]).view(np.uint32)
    return np.where(valid, buffer[:, index], pad).reshape(-1, config.rows)


def _weight_tiles(words: np.ndarray, f: Fields, bases: Sequence[int], config: Config) -> np.ndarray:
    """int8 [GROUPS, NCB, KH*KX*KB, rows, cols]; diagonal tiles have their bytes on the diagonal."""
    steps = f["KH"] * f["KX"] * f["KB"]
    shape = (f["GROUPS"], f["NCB"], steps)
    tiles = np.zeros((*shape, config.rows, config.cols), np.int8)
    d = np.arange(config.diagonal)
    if f["UNIT_WEIGHTS"]:
        tiles[..., d, d] = 1
        return tiles
    size = config.diagonal if f["DIAGONAL"] else config.rows * config.cols
    start = _word_index(words, "WEIGHT_ADDR", f, bases, np.arange(f["WEIGHT_WORDS"]))
    stream = words[0, start].view(np.int8)
    g, cb, k = np.ix_(*map(np.arange, shape))
    group = cb // f["CBG"] * f["CBG"]
    blocks = np.minimum(f["CBG"], f["NCB"] - group)
    tile = (g * f["NCB"] + group) * steps + k * blocks + cb - group
    data = stream[tile[..., None] * size + np.arange(size)]
    if f["DIAGONAL"]:
        tiles[..., d, d] = data
    else:
        tiles[:] = data.reshape(tiles.shape)
    return tiles


def _parameters(
    words: np.ndarray, f: Fields, bases: Sequence[int], config: Config, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias, float32 [GROUPS, NCB * Cb]."""
    shape = (f["GROUPS"], f["NCB"] * block)
    if f["UNIFORM"]:
        return np.full(shape, f["SCALE"]), np.full(shape, f["BIAS"])
    ports = config.ports
    beats = -(-block // ports)
    index = _word_index(words, "PARAM_ADDR", f, bases, np.arange(f["GROUPS"] * f["NCB"] * beats * 2 * ports))
    data = words[0, index].view(np.float32).reshape(*shape[:1], f["NCB"], beats, 2, ports)
    scale, bias = (
        data[..., i, :].reshape(*shape[:1], f["NCB"], beats * ports)[..., :block].reshape(shape) for i in range(2)
    )
    return scale, bias

# SPDX-License-Identifier: Apache-2.0
"""NumPy model of the whole accelerator: runs descriptor lists on a memory image, bit for bit.

This is the reference that hardware and firmware are compared with. It follows the loops of
``table`` but streams all pixels of a tile at once: strips, bus order and buffer sizes do not
change results, only the order of the additions does, and that is kept (blocks ascend in k).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from hls.arithmetic.accumulator import accumulate_model
from hls.arithmetic.aligned_error import LossMeter
from hls.arithmetic.array import array_model
from hls.arithmetic.epilogue import activation_arguments, epilogue_model
from hls.arithmetic.function import ROW_WORDS, reach
from hls.config import Config
from hls.descriptor.interface.rules import block_params, contradiction, tile_weights_of
from hls.descriptor.interface.table import SCRATCHPAD, WORDS, Linked, Output, on_chip, split_address, unpack
from hls.descriptor.interface.timing import channels
from hls.errors import HeepgenError

PIXELS_AT_ONCE = 1 << 12  # of all memories together: what a cache holds


@dataclass(frozen=True)
class Executed:
    """What one descriptor did: its streamed vectors; `loss` is LossMeter's share, where asked for."""

    address: int
    descriptor: Linked
    vectors: int
    loss: float | None = None


def execute(
    memory: np.ndarray,
    doorbell: int,
    bases: Sequence[int],
    config: Config,
    measure_loss: bool = False,
    tables: dict[int, np.ndarray] | None = None,
) -> list[Executed]:
    """Run the descriptor list at descriptor address ``doorbell``.

    ``memory`` is a uint8 array that starts at byte address 0 and is changed in place; ``bases`` are the
    BASE registers, and the last of them says where in ``memory`` the scratchpad lies, if there is one. Several
    memories, one per row, run at once: descriptors, weights and parameters are those of the first. ``tables``: what
    the slots hold already, changed in place, of a list that is run in parts. Returns one
    `Executed` per descriptor, with what alignment cost if ``measure_loss``. Raises HeepgenError for addresses outside
    ``memory``, for descriptors that break `rules`, and for a FUNCTION whose table the list has not loaded.
    """
    words = memory.view(np.uint32).reshape(-1, memory.shape[-1] // 4)
    tables = {} if tables is None else tables
    executed = []
    while True:
        start = resolve(doorbell, bases)
        if start // 4 + WORDS > words.shape[1]:
            raise HeepgenError(f"descriptor at {start:#x} lies outside the {memory.shape[-1]} bytes of memory")
        descriptor = unpack(words[0, start // 4 : start // 4 + WORDS])
        if wrong := contradiction(descriptor, config):
            raise HeepgenError(f"descriptor at {start:#x}: {wrong}; the hardware refuses it with error DESCRIPTOR")
        meter = LossMeter() if measure_loss and config.arithmetic == "aligned" else None
        table = _table(words, descriptor, bases, tables)
        vectors = _run(words, descriptor, bases, config, meter, table)
        executed.append(Executed(start, descriptor, vectors, meter.share if meter else None))
        if descriptor.last:
            return executed
        doorbell = descriptor.next


def resolve(address: int, bases: Sequence[int]) -> int:
    """Byte address of a descriptor address."""
    if address % 4:
        raise HeepgenError(f"descriptor address {address:#x} is not a multiple of 4")
    region, offset = split_address(address)
    return bases[region] + offset


def _table(words: np.ndarray, f: Linked, bases: Sequence[int], tables: dict[int, np.ndarray]) -> np.ndarray | None:
    """Words of the function that a layer applies, which may be loaded into its slot of `tables` first."""
    if not f.function:
        return None
    if f.load_table:
        index = _word_index(words, "TABLE_ADDR", f.table_addr, bases, np.arange(ROW_WORDS * f.table_rows))
        tables[f.table_slot] = words[0, index]
        if reach(tables[f.table_slot]) > len(index):
            raise HeepgenError(f"TABLE_ROWS {f.table_rows}: the table at {f.table_addr:#x} goes on behind them")
    if f.table_slot not in tables:
        raise HeepgenError(f"FUNCTION with TABLE_SLOT {f.table_slot}, into which this list has loaded no table")
    return tables[f.table_slot]


def _load(words: np.ndarray, f: Linked, bases: Sequence[int], config: Config) -> np.ndarray:
    """The activation buffer uint32 [memories, LOAD_WORDS]; words that are passed over hold anything."""
    index = _load_index(words, f, bases, config)
    buffer = np.zeros((len(words), *index.shape[:2], f.load_c_count), np.uint32)
    buffer[..., : index.shape[2]] = words[:, index]
    return buffer.reshape(len(words), -1)


def _load_index(words: np.ndarray, f: Linked, bases: Sequence[int], config: Config) -> np.ndarray:
    """Word indices of what is loaded of the input window, [LOAD_Y_COUNT, LOAD_X_COUNT, words]."""
    steps = [np.arange(count) * stride for count, stride in f.load_loops]
    terms = steps[2][:, None, None], steps[1][:, None], steps[0]
    neighbours = len(steps[0]) == 1 or _apart(f.load_c_stride, config)
    return _stream_index(words, "LOAD", f.load_addr, f.load_ring, neighbours, bases, config, *terms)


def _output_index(
    words: np.ndarray,
    prefix: str,
    output: Output[int],
    f: Linked,
    bases: Sequence[int],
    config: Config,
    g: int,
    oy: np.ndarray,
    ox: np.ndarray,
    channel: np.ndarray,
) -> np.ndarray:
    """Word indices [pixels, channels] of the STORE or AUX stream."""
    block, lane = np.divmod(channel, channels(f, config))
    terms = (
        (oy * output.y_stride + ox * output.x_stride)[:, None],
        g * output.g_step + block * output.cb_step + lane * output.c_stride,
    )
    neighbours = f.cout == 1 or _apart(output.c_stride, config)
    return _stream_index(words, prefix, output.addr, output.ring, neighbours, bases, config, *terms)


def _apart(stride: int, config: Config) -> bool:
    """Whether the words of a beat lie in different banks of the scratchpad, one after the other."""
    return stride == 1 or (config.banded and (stride - 1) % config.scratchpad_banks == 0)


def _stream_index(
    words: np.ndarray,
    prefix: str,
    where: int,
    ring: int,
    neighbours: bool,
    bases: Sequence[int],
    config: Config,
    *terms: np.ndarray,
) -> np.ndarray:
    """`_word_index` of a stream that may be the scratchpad's; neighbours: whether the words of a beat are in banks."""
    if not config.scratchpad_words or not on_chip(where):
        return _word_index(words, f"{prefix}_ADDR", where, bases, *terms)
    if not neighbours:
        raise HeepgenError(
            f"{prefix}_ADDR {where:#x}: words of a beat lie in neighbouring banks of the scratchpad, {prefix}_C_STRIDE "
            f"is not 1 modulo {config.scratchpad_banks}"
        )
    first, mask = resolve(where, [0] * len(bases)) // 4, (1 << ring) - 1
    index = (first & ~mask | (first + sum(terms)) & mask) % config.scratchpad_words
    return np.asarray(bases[SCRATCHPAD] // 4 + index)


def _word_index(words: np.ndarray, name: str, where: int, bases: Sequence[int], *terms: np.ndarray) -> np.ndarray:
    """Word indices of the broadcast sum of ``terms`` (in words) relative to address field ``name``."""
    index = np.asarray(resolve(where, bases) // 4 + sum(terms))
    if index.size and (index.min() < 0 or index.max() >= words.shape[1]):
        raise HeepgenError(f"{name} {where:#x} reaches outside the {4 * words.shape[1]} bytes of memory")
    return index


def _run(
    words: np.ndarray,
    f: Linked,
    bases: Sequence[int],
    config: Config,
    meter: LossMeter | None,
    table: np.ndarray | None,
) -> int:
    block = channels(f, config)
    buffer = _load(words, f, bases, config)
    weights = _weight_tiles(words, f, bases, config)
    scale, bias = _parameters(words, f, bases, config, block)
    oy, ox = np.divmod(np.arange(f.out_px), f.out_w)
    channel = np.arange(f.ncb * block)
    if not f.band:
        channel = channel[channel < f.cout]
    vectors = 0
    results = []
    step = max(1, PIXELS_AT_ONCE // len(words))
    for g in range(f.groups):
        for first in range(0, f.out_px, step):
            px = slice(first, first + step)
            index = partial(
                _output_index, words=words, f=f, bases=bases, config=config, g=g, oy=oy[px], ox=ox[px], channel=channel
            )
            stored = index(prefix="STORE", output=f.store)
            aux = acc = None
            if f.residual or f.acc_init:
                read = index(prefix="AUX", output=f.aux)
                aux = words[:, read].reshape(-1, len(channel))
                if f.acc_init:
                    acc = np.zeros((len(aux), f.ncb * block), np.uint32)
                    acc[:, : len(channel)] = aux
            for k in range(f.kh * f.kx * f.kb):
                x = _partial_sums(
                    buffer=buffer, f=f, config=config, weights=weights, g=g, k=k, oy=oy[px], ox=ox[px], meter=meter
                )
                acc = x if acc is None else accumulate_model(acc, x, first=False, max_mode=bool(f.max))
                vectors += len(oy[px]) * f.ncb
            assert acc is not None, "a count of 0 is refused above"
            acc, scales, biases = acc[:, : len(channel)], scale[g, : len(channel)], bias[g, : len(channel)]
            if meter:
                meter.outputs(g, acc, scales, biases, len(words))
            y = epilogue_model(
                acc,
                scales,
                biases,
                aux if f.residual else None,
                bool(f.act_first),
                combine="negative" if f.negative else "multiply" if f.multiply else "add",
                table=table,
                **activation_arguments(f),
            )
            results.append((stored, y))
    for where, y in results:
        words[:, where] = y.reshape(len(words), *where.shape)
    return vectors


def _partial_sums(
    buffer: np.ndarray,
    f: Linked,
    config: Config,
    weights: np.ndarray,
    g: int,
    k: int,
    oy: np.ndarray,
    ox: np.ndarray,
    meter: LossMeter | None,
) -> np.ndarray:
    """Column results uint32 [memories * pixels, NCB * Cb] of weight step ``k``."""
    rest, kb = divmod(k, f.kb)
    ky, kx = divmod(rest, f.kx)
    max_mode = bool(f.max)
    if not f.diagonal and not f.band:
        lanes = _lanes(
            buffer=buffer,
            f=f,
            config=config,
            oy=oy,
            ox=ox,
            ky=ky,
            kx=kx,
            offset=g * f.group_in_step + kb * config.rows,
            run=f.run - kb * config.rows,
        )
        tiles = np.concatenate(list(weights[g, :, k]), axis=1)
        if meter:
            meter.meet([(lanes, tiles)])
        return array_model(lanes, tiles, False, max_mode, config.arithmetic)
    width, blocks = channels(f, config), []
    for cb in range(f.ncb):
        offset, run = (cb, f.run) if f.band else (cb * width, f.run - cb * width)
        lanes = _lanes(buffer=buffer, f=f, config=config, oy=oy, ox=ox, ky=ky, kx=kx, offset=offset, run=run)
        blocks.append((lanes, weights[0, cb, k]))
    if meter and f.band:
        meter.meet([(lanes, tile[:, :width]) for lanes, tile in blocks])
    sums = [array_model(lanes, tile, bool(f.diagonal), max_mode, config.arithmetic) for lanes, tile in blocks]
    return np.concatenate([x[:, :width] for x in sums], axis=1)


def _lanes(
    buffer: np.ndarray,
    f: Linked,
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
    p = (f.x0 + ox * f.sx_words + kx * f.kx_step + offset)[:, None] + lane * (f.kx_step if f.band else 1)
    row = f.row0 + oy * f.sy_words + ky * f.ky_step
    iy = f.y0 + oy * f.stride_y + ky * f.dil_y
    valid = ((iy >= 0) & (iy < f.in_h))[:, None] & (lane < run)
    if f.band:
        valid &= (ox != 0)[:, None] | (lane >= f.first_lane)
        valid &= (ox != f.out_w - 1)[:, None] | (lane < f.last_lanes)
    else:
        valid &= (p >= 0) & (p < f.in_row)
    index = np.where(valid, row[:, None] + p, 0)
    if index.max(initial=0) >= buffer.shape[1]:
        raise HeepgenError(f"window reaches input word {index.max()} but LOAD_WORDS is {buffer.shape[1]}")
    if f.load_gap and (index[valid] % f.load_c_count >= f.load_c_count - f.load_gap).any():
        raise HeepgenError(f"window reads words that are passed over, with LOAD_GAP {f.load_gap}")
    pad = np.float32(f.pad_value).view(np.uint32)
    return np.where(valid, buffer[:, index], pad).reshape(-1, config.rows)


def _weight_tiles(words: np.ndarray, f: Linked, bases: Sequence[int], config: Config) -> np.ndarray:
    """int8 [GROUPS, NCB, KH*KX*KB, rows, cols]; diagonal ones have their bytes on the diagonal, banded ones below."""
    steps = f.kh * f.kx * f.kb
    shape = (f.groups, f.ncb, steps)
    tiles = np.zeros((*shape, config.rows, config.cols), np.int8)
    d = np.arange(config.diagonal)
    if f.unit_weights:
        tiles[..., d, d] = 1
        return tiles
    size = tile_weights_of(f, config)
    start = _word_index(words, "WEIGHT_ADDR", f.weight_addr, bases, np.arange(f.weight_words))
    stream = words[0, start].view(np.int8)
    if f.int4:
        stream = np.stack([stream << 4 >> 4, stream >> 4], axis=1).reshape(-1)
    g, cb, k = np.ix_(*map(np.arange, shape))
    group = cb // f.cbg * f.cbg
    blocks = np.minimum(f.cbg, f.ncb - group)
    tile = (g * f.ncb + group) * steps + k * blocks + cb - group
    data = stream[tile[..., None] * size + np.arange(size)]
    if f.diagonal:
        tiles[..., d, d] = data
    elif f.band:
        tap = np.arange(config.rows)[:, None] - f.band * np.arange(config.cols)
        tiles[:] = np.where((tap >= 0) & (tap < size), data[..., tap.clip(0, size - 1)], 0)
    else:
        tiles[:] = data.reshape(tiles.shape)
    return tiles


def _parameters(
    words: np.ndarray, f: Linked, bases: Sequence[int], config: Config, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and bias, float32 [GROUPS, NCB * Cb]."""
    shape = (f.groups, f.ncb * block)
    if f.uniform:
        return np.full(shape, f.scale), np.full(shape, f.bias)
    ports = config.ports
    row, lane = np.divmod(np.arange(block), ports)
    if f.band:
        row[:] = 0
    stored = block_params(config, bool(f.diagonal), bool(f.band), bool(f.packed_scales))
    index = _word_index(words, "PARAM_ADDR", f.param_addr, bases, np.arange(f.groups * f.ncb * stored))
    data = words[0, index].reshape(f.groups, f.ncb, stored // ports, ports)
    if f.packed_scales:
        both, bias = data[:, :, row // 2 * 3, lane], data[:, :, row // 2 * 3 + 1 + row % 2, lane]
        scale = np.where(row % 2, both << 16, both & 0xFFFF0000)
    else:
        scale, bias = data[:, :, 2 * row, lane], data[:, :, 2 * row + 1, lane]
    return scale.astype(np.uint32).view(np.float32).reshape(shape), bias.view(np.float32).reshape(shape)

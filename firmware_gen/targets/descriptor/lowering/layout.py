# SPDX-License-Identifier: Apache-2.0
"""How weights, scales and biases lie in memory: the streams of `table`, as uint32 words."""

import numpy as np

from firmware_gen.ir import Tiles
from hls.config import Config


def tiles_of(config: Config) -> Tiles:
    """How the stream of `dense_weights` lies, one channel block at a time."""
    return Tiles(config.rows, config.cols, config.ports)


def _blocks(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Split `axis` into (blocks, size), zero padded at its end."""
    count = -(-array.shape[axis] // size)
    shape = (*array.shape[:axis], count, size, *array.shape[axis + 1 :])
    if missing := count * size - array.shape[axis]:
        array = np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])
    return array.reshape(shape)


def _words(stream: np.ndarray, ports: int, int4: bool) -> np.ndarray:
    """int8 weights as words, zero padded to a multiple of `ports` words."""
    if int4:
        pairs = np.pad(stream.reshape(-1), (0, stream.size % 2)).view(np.uint8).reshape(-1, 2)
        stream = pairs[:, 0] & 15 | pairs[:, 1] << 4
    return np.pad(stream.reshape(-1), (0, -stream.size % (4 * ports))).view(np.uint32)


def dense_weights(weight: np.ndarray, cbg: int, int4: bool, config: Config) -> np.ndarray:
    """Tiles of a dense or grouped layer.

    weight: int8 (groups, cout, kh, kx, run); returns uint32 words in the order g, cbg, ky, kx, kb, cb, row, column.
    """
    tiles = _blocks(_blocks(weight, 4, config.rows), 1, config.cols)  # g, cb, column, ky, kx, kb, row
    tiles = tiles.transpose(0, 1, 3, 4, 5, 6, 2)  # g, cb, ky, kx, kb, row, column
    groups = [
        tiles[:, first : first + cbg].transpose(0, 2, 3, 4, 1, 5, 6).reshape(len(tiles), -1)
        for first in range(0, tiles.shape[1], cbg)
    ]
    return _words(np.concatenate(groups, axis=1), config.ports, int4)


def diagonal_weights(weight: np.ndarray, cbg: int, int4: bool, config: Config) -> np.ndarray:
    """Tiles of a depthwise layer. weight: int8 (channels, kh, kw); words in the order cbg, ky, kx, cb, lane."""
    tiles = _blocks(weight, 0, config.diagonal).transpose(0, 2, 3, 1)  # cb, ky, kx, lane
    groups = [tiles[first : first + cbg].transpose(1, 2, 0, 3).reshape(-1) for first in range(0, len(tiles), cbg)]
    return _words(np.concatenate(groups), config.ports, int4)


def banded_weights(weight: np.ndarray, dilation: int, cbg: int, int4: bool, config: Config) -> np.ndarray:
    """Rows of taps of a depthwise layer. weight: int8 (channels, kh, kw); words in the order cbg, ky, channel, tap."""
    channels, kh, kw = weight.shape
    taps = np.zeros((kh, channels, config.diagonal), np.int8)
    taps[..., : (kw - 1) * dilation + 1 : dilation] = weight.transpose(1, 0, 2)
    groups = [taps[:, first : first + cbg].reshape(-1) for first in range(0, channels, cbg)]
    return _words(np.concatenate(groups), config.ports, int4)


def banded_parameters(scale: np.ndarray, bias: np.ndarray, ports: int) -> np.ndarray:
    """Scales and biases, float32 (channels,) each, of a depthwise layer of `banded_weights`, as uint32 words."""
    both = np.stack([scale, bias], axis=1).astype(np.float32)  # channel, 2
    return np.repeat(both.reshape(-1), ports).view(np.uint32)


def parameters(scale: np.ndarray, bias: np.ndarray, block: int, ports: int, packed: bool = False) -> np.ndarray:
    """Scales and biases, float32 (groups, cout) each, for channel blocks of `block`, as uint32 words; packed: the
    scales are bfloat16, two to a word."""
    both = np.stack([scale, bias]).astype(np.float32)  # 2, g, channel
    rows = _blocks(_blocks(both, 2, block), 3, ports)  # 2, g, cb, row, lane
    if not packed:
        return np.ascontiguousarray(rows.transpose(1, 2, 3, 0, 4)).reshape(-1).view(np.uint32)
    scales, biases = (_blocks(part, 2, 2) for part in rows.view(np.uint32))  # g, cb, pair, 2, lane
    beats = np.concatenate([scales[..., :1, :] | scales[..., 1:, :] >> 16, biases], axis=3)
    count = rows.shape[3]
    return beats.reshape(*beats.shape[:2], -1)[..., : (count + -(-count // 2)) * ports].reshape(-1)

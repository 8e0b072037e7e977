# SPDX-License-Identifier: Apache-2.0
"""What a descriptor asks of array, bus and store side: the counts that estimates are made of."""

import math
from dataclasses import dataclass

from hls.config import Config
from hls.descriptor.interface import timing
from hls.descriptor.interface.rules import tile_weights_of, weights_per_word
from hls.descriptor.interface.table import Descriptor
from hls.descriptor.interface.timing import beats, block_outputs, weight_buffer


def vectors(f: Descriptor[object]) -> int:
    """Vectors streamed by a descriptor."""
    return int(f.out_px * tiles(f))


def tiles(f: Descriptor[object]) -> int:
    """Weight tiles of a strip."""
    return int(f.groups * f.ncb * f.kh * f.kx * f.kb)


def tile_bytes(f: Descriptor[object], config: Config) -> float:
    """Of the weights that are read for a tile."""
    return 0 if f.unit_weights else 4 * tile_weights_of(f, config) / weights_per_word(f)


def weights_fit(f: Descriptor[object], config: Config) -> bool:
    """Whether a pass stays in the weight buffer, and is read once for all strips."""
    return bool(4 * f.weight_words <= weight_buffer(config).capacity)


@dataclass(frozen=True)
class Demand:
    """Of one descriptor, in whatever strips; beats are those of bus or scratchpad.

    tiles: of a strip. tile_beats: of a tile's weights. cut: cycles in which they go to the array. blocks: store beats
    of a pixel, per channel block. load, store, aux: beats in all. weights, params: beats of one pass.
    """

    vectors: int
    tiles: int
    tile_beats: float
    cut: int
    blocks: tuple[int, ...]
    load: int
    store: int
    aux: int
    weights: int
    params: int

    def beats(self, weight_passes: int = 1, param_passes: int = 1) -> dict[str, int]:
        """Of every stream, by the prefix of its descriptor fields."""
        return {
            "WEIGHT": self.weights * weight_passes,
            "PARAM": self.params * param_passes,
            "LOAD": self.load,
            "STORE": self.store,
            "AUX": self.aux,
        }


def demand(f: Descriptor[object], config: Config, padded: bool = False) -> Demand:
    """Of a descriptor; its strips, addresses and lengths of streams need not be set yet.

    padded: the last channel block is stored as if it had all its channels.
    """
    diagonal, size, count = f.diagonal, tile_bytes(f, config), tiles(f)
    buffer = weight_buffer(config)
    blocks = tuple(beats(block_outputs(f, 0 if padded else cb, config), config) for cb in range(f.ncb))
    store = f.out_px * f.groups * sum(blocks)
    return Demand(
        vectors=vectors(f),
        tiles=count,
        tile_beats=size / (4 * config.ports),
        cut=1 if diagonal or not size else max(buffer.load_beats, math.ceil(size / buffer.row)),
        blocks=blocks,
        load=f.load_y_count * f.load_x_count * beats(f.load_c_count - f.load_gap, config),
        store=store,
        aux=store if f.residual or f.acc_init else 0,
        weights=math.ceil(count * size / (4 * config.ports)),
        params=0 if f.uniform else f.groups * f.ncb * timing.param_beats(f, config),
    )


def array_or_bus(vector_count: int, inputs: int, outputs: int, weight_bytes: int, ports: int) -> int:
    """What array and bus allow a layer of INT8 weights, all of whose words cross the bus once: max(vectors, bus words /
    ports); bus words = inputs + outputs (+ residual) + weights / 4. No bound where tensors stay in the scratchpad."""
    return max(vector_count, -(-(inputs + outputs + -(-weight_bytes // 4)) // ports))

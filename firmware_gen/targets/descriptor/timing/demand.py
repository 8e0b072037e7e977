# SPDX-License-Identifier: Apache-2.0
"""What a descriptor asks of array, bus and store side: the counts that estimates are made of."""

from dataclasses import dataclass

from hls.config import Config
from hls.descriptor.interface import timing
from hls.descriptor.interface.table import Fields
from hls.descriptor.interface.timing import beats, channels, weight_buffer


def vectors(f: Fields) -> int:
    """Vectors streamed by a descriptor."""
    return int(f["OUT_PX"] * tiles(f))


def tiles(f: Fields) -> int:
    """Weight tiles of a strip."""
    return int(f["GROUPS"] * f["NCB"] * f["KH"] * f["KX"] * f["KB"])


def tile_bytes(f: Fields, config: Config) -> int:
    """Weights that are read for a tile."""
    return 0 if f.get("UNIT_WEIGHTS") else timing.tile_bytes(f.get("DIAGONAL", 0), config)


def weights_fit(f: Fields, config: Config) -> bool:
    """Whether a pass stays in the weight buffer, and is read once for all strips."""
    return bool(4 * f.get("WEIGHT_WORDS", 0) <= weight_buffer(config).capacity)


def is_on_chip(f: Fields, stream: str) -> bool:
    """Whether a stream of a descriptor whose addresses are not resolved yet leaves the bus alone."""
    return bool(getattr(f.get(f"{stream}_ADDR"), "on_chip", False))


@dataclass(frozen=True)
class Demand:
    """Of one descriptor, in whatever strips; beats are those of bus or scratchpad.

    tile_beats: of a tile's weights. cut: cycles in which they go to the array. blocks: store beats of a pixel, per
    channel block. load, store, aux: beats in all. weights, params: beats of one pass.
    """

    vectors: int
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


def demand(f: Fields, config: Config, padded: bool = False) -> Demand:
    """From the fields of a descriptor; its strips, addresses and lengths of streams need not be set yet.

    padded: the last channel block is stored as if it had all its channels.
    """
    diagonal, size, count = f.get("DIAGONAL", 0), tile_bytes(f, config), tiles(f)
    width = channels(diagonal, config)
    left = [f["COUT"] - cb * width for cb in range(f["NCB"])]
    blocks = tuple(beats(min(width, left[0] if padded else rest), config) for rest in left)
    store = f["OUT_PX"] * f["GROUPS"] * sum(blocks)
    return Demand(
        vectors(f),
        size / (4 * config.ports),
        1 if diagonal or not size else weight_buffer(config).load_beats,
        blocks,
        f["LOAD_Y_COUNT"] * f["LOAD_X_COUNT"] * beats(f["LOAD_C_COUNT"], config),
        store,
        store if f.get("RESIDUAL") or f.get("ACC_INIT") else 0,
        -(-count * size // (4 * config.ports)),
        0 if f.get("UNIFORM") else f["GROUPS"] * f["NCB"] * timing.param_beats(diagonal, config),
    )

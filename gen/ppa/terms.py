# SPDX-License-Identifier: Apache-2.0
"""What the size of a unit grows with: numbers of a configuration that figures are fitted to."""

from collections.abc import Callable, Mapping
from math import gcd

from hls.config import Config
from hls.descriptor.interface.rules import block_params
from hls.descriptor.interface.timing import weight_buffer

Term = Callable[[Config], float]


def _bits(n: int) -> int:
    return (n - 1).bit_length()


def _multiplied(*factors: int) -> bool:
    """Whether a product with one of these numbers, whichever a layer needs, takes a multiplier, and no shift."""
    return len(set(factors)) > 1 or factors[0] & (factors[0] - 1) != 0


def _param_factors(c: Config) -> set[int]:
    """Words of parameters of a block of channels, by what a layer is."""
    kinds = (False, True) if c.packed_scales else (False,)
    return {
        block_params(c, False, banded=True),
        *(block_params(c, diagonal, packed=packed) for diagonal in (False, True) for packed in kinds),
    }


def _gearbox(c: Config) -> tuple[int, int, int]:
    """Bytes that the gearbox of weights holds; pairs of shifts of its input; numbers of bytes that leave it at once."""
    buffer = weight_buffer(c)
    grain = gcd(buffer.row, buffer.beat, buffer.last, c.diagonal)
    refill = buffer.refill // grain
    room = refill * grain + buffer.row * (1 + c.int4_weights)
    return room, (refill.bit_length() + 1) // 2, len({buffer.beat, buffer.last, c.diagonal})


_SIZES: Mapping[str, Term] = {
    "1": lambda c: 1,
    "R": lambda c: c.rows,
    "C": lambda c: c.cols,
    "P": lambda c: c.ports,
    "D": lambda c: c.diagonal,
    "B": lambda c: c.banks,
    "L": lambda c: c.load_rows,
    "r": lambda c: _bits(c.rows),
    "c": lambda c: _bits(c.cols),
    "b": lambda c: _bits(c.banks),
    "p": lambda c: _bits(c.ports),
    "e": lambda c: _bits(c.accumulator_entries),
    "a": lambda c: _bits(c.activation_words),
    "w": lambda c: _bits(c.weight_bytes),
    "s": lambda c: _bits(c.scratchpad_words) if c.scratchpad_words else 0,
    "S": lambda c: c.scratchpad_words > 0,
    "F": lambda c: c.functions,
    "M": lambda c: c.multiply,
    "I": lambda c: c.int4_weights,
    "N": lambda c: c.banded,
    "Z": lambda c: c.packed_scales,
    "G": lambda c: _gearbox(c)[0],
    "g": lambda c: _gearbox(c)[1],
    "K": lambda c: _gearbox(c)[2],
    "k": lambda c: weight_buffer(c).row_beats > 1,
    "q": lambda c: (_bits(c.banks) + 1) // 2,
    "x": lambda c: _multiplied(c.cols, c.diagonal) + _multiplied(c.rows),
    "y": lambda c: len([words for words in _param_factors(c) if _multiplied(words)]),
    "t": lambda c: _multiplied(c.ports),
}
"""R rows, C columns, P ports, D the smaller of R and C, B banks of activations, L rows of weights per cycle; r, c, b, p
the bits that count them, e, a, w and s those of the addresses of accumulators, activations, weights and scratchpad; S,
F, M, I, N and Z whether scratchpad, functions, products, weights of 4 bits, banded tiles and scales of 16 bits are
there; G, g and K as `_gearbox` says, k whether a row of it is several beats of the bus; q the stages of four that turn
the banks' words; x how many multipliers the checks of a descriptor take for blocks of channels and rows, y how many for
words of parameters; t whether addresses take one for ports."""


def values(config: Config, names: tuple[str, ...]) -> list[float]:
    """Of terms, each a product of sizes such as "RCr" or "1"."""
    sizes = {name: float(of(config)) for name, of in _SIZES.items()}
    found = []
    for name in names:
        product = 1.0
        for letter in name:
            product *= sizes[letter]
        found.append(product)
    return found


CANDIDATES: Mapping[str, tuple[str, ...]] = {
    "systolic_array": ("R", "C", "RC", "RR", "CC", "D", "Rr", "Cr", "RCr", "LC", "LCC", "RCL", "r"),
    "accumulators": ("C", "Ce", "e"),
    "activation_buffer": ("R", "B", "RB", "Rb", "Bb", "Bq", "Rbb", "Bbb", "BP", "BPb", "Bpb", "Ba", "a", "N"),
    "scratchpad": ("P", "PP", "s", "Ps", "N", "PN", "Pp", "PpN"),
    "drain": ("P", "PF", "PM", "PFM", "Z", "PZ", "C", "PC", "c", "e", "F", "PP"),
    "aux_reader": ("P", "F", "C", "PC", "c", "e", "PP"),
    "weight_loader": ("P", "LC", "w", "k", "kw", "c", "I", "G", "g", "GK", "Gg", "GI", "N"),
    "param_reader": ("P", "PP", "c"),
    "load_engine": ("P", "PP", "a", "r", "t"),
    "sequencer": ("r", "e", "a", "R", "C", "N"),
    "arbiter": ("P", "PP", "S"),
    "memory_ports": ("P", "PP", "S"),
    "control": ("P", "PP", "S", "F", "M", "I", "N", "Z", "r", "c", "e", "a", "x", "y", "t"),
    "delay_line": ("LC", "e", "r", "R", "er", "eR"),
    "glue": ("P", "S", "PS", "C", "c", "e"),
}
"""What each unit can depend on, besides a constant."""

# SPDX-License-Identifier: Apache-2.0
"""What the size of a unit grows with: numbers of a configuration that figures are fitted to."""

from collections.abc import Callable, Mapping

from hls.config import Config

Term = Callable[[Config], float]


def _bits(n: int) -> int:
    return (n - 1).bit_length()


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
}
"""R rows, C columns, P ports, D the smaller of R and C, B banks of activations, L rows of weights per cycle; r, c, b, p
the bits that count them, e, a, w and s those of the addresses of accumulators, activations, weights and scratchpad; S,
F, M and I whether scratchpad, functions, products and weights of 4 bits are there."""


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
    "activation_buffer": ("R", "B", "Rb", "Bb", "BP", "BPb", "Ba", "a"),
    "scratchpad": ("P", "PP", "s", "Ps"),
    "drain": ("P", "PF", "PM", "PFM", "C", "PC", "c", "e", "F", "PP"),
    "aux_reader": ("P", "F", "C", "PC", "c", "e", "PP"),
    "weight_loader": ("P", "LC", "LCc", "LCP", "w", "R", "PP", "c", "I", "IP", "ILC"),
    "param_reader": ("P", "PP", "c"),
    "load_engine": ("P", "PP", "a", "r"),
    "sequencer": ("r", "e", "a", "R", "C"),
    "arbiter": ("P", "PP", "S"),
    "memory_ports": ("P", "PP", "S"),
    "control": ("P", "PP", "S", "F", "M", "I", "r", "c", "e", "a", "R", "C"),
    "delay_line": ("LC", "e", "r", "R", "er", "eR"),
    "glue": ("P", "S", "PS", "C", "c", "e"),
}
"""What each unit can depend on, besides a constant."""

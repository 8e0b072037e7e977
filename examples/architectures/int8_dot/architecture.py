# SPDX-License-Identifier: Apache-2.0
"""An example of an architecture outside of heepgen: INT8 weights and INT8 activations (W8A8), quantised on the way.

docs/architectures.md walks through it. Try it:

    heepgen run model.pt2 --architecture examples/architectures/int8_dot
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from firmware_gen.architectures.contract import Architecture, Gemm, Limits, Verilog
from hls.config import System, option, power_of_two


@dataclass(frozen=True)
class Int8Dot(System):
    """Options, in section int8_dot of heepstor_cfg.hjson."""

    architecture: ClassVar[str] = "int8_dot"

    columns: int = option(
        32, *power_of_two(4, 64), "dot products at once: a multiplier and a memory each", in_hash=True
    )
    depth: int = option(512, *power_of_two(16, 512), "the longest vector: weights of a column", in_hash=True)


def compute(config: Int8Dot, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Every bit of C = A * B, float32 (M, K) and int8 (K, N) -> float32 (M, N).

    A row of A becomes integers of at most 127 times one power of two: the least that holds its largest magnitude,
    rounded to nearest, ties to even, and never below the smallest normal number. Their products with B are summed
    exactly; the sum, rounded to FP32, is multiplied by the power of two. So a row of zeros gives +0. A row with an
    infinity or a NaN gives the canonical NaN everywhere.
    """
    magnitude = (a.view(np.uint32) & 0x7FFFFFFF).max(axis=1, keepdims=True)
    exponent = np.maximum((magnitude + 0x10000) >> 23, 7)  # biased, of what rounds to at most 127 / 64
    finite = magnitude < 0x7F800000
    scale, inverse = ((bits << 23).view(np.float32) for bits in (exponent - 6, 260 - exponent))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        elements = np.where(finite, np.rint(a * inverse), 0)
        sums = (elements @ b.astype(np.float64)).astype(np.int32)  # exact, and fast
        product = sums.astype(np.float32) * scale
    return np.where(finite, product, np.float32(np.nan))


def cycles(config: Int8Dot, m: int, k: int, n: int) -> int:
    """Of a Linear layer of any size: the CPU's work, as measured, which the hardware keeps up with."""
    blocks, tiles = -(-k // config.depth), -(-n // config.columns)
    loads = 1 if blocks == 1 else -(-m // 32)  # weights stay for all rows, or for as many as heepgen takes at once
    weights = loads * k * (17 * tiles + 10 * -(-n // 4))
    return weights + m * (70 + 100 * tiles * blocks + 13 * tiles * k + 14 * blocks * n + 15 * n)


ARCHITECTURE = Architecture(
    summary="integer dot products in hand-written Verilog, activations quantised to INT8 vector by vector",
    config=Int8Dot,
    hardware=Verilog(("int8_dot.sv",), "int8_dot", lambda config: {"COLUMNS": config.columns, "DEPTH": config.depth}),
    software=Gemm(compute, "driver.hpp", lambda config: Limits(k=config.depth, n=config.columns), cycles),
    peak=lambda config: config.columns,
)

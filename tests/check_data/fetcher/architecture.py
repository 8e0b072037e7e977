# SPDX-License-Identifier: Apache-2.0
"""An accelerator that fetches and stores by itself, for tests of the verification kit."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from firmware_gen.architectures.contract import Architecture, Gemm, Limits, Verilog
from hls.config import System, integer, option


@dataclass(frozen=True)
class Fetcher(System):
    architecture: ClassVar[str] = "fetcher"

    depth_bits: int = option(5, *integer(2, 6), "logarithm of the longest vector", in_hash=True)


def compute(config, a, b):
    bits = np.ascontiguousarray(a).view(np.uint32)
    exponent = (bits >> 23 & 255).astype(np.int64)
    magnitude = (bits & 0x7FFFFF | 0x800000).astype(np.int64) >> np.clip(142 - exponent, 0, 24)
    magnitude = np.where(exponent > 141, 0x7FFFFF, magnitude)
    sums = np.where(bits >> 31, -magnitude, magnitude) @ b.astype(np.int64)
    return sums.astype(np.uint32).view(np.int32).astype(np.float32) * np.float32(0.00390625)


def cycles(config, m, k, n):
    return 1170 + k * (3 + 12 * n) + m * (12 + 3 * k + 47 * n)


ARCHITECTURE = Architecture(
    summary="fixed-point sums, fetched and stored by a master",
    config=Fetcher,
    hardware=Verilog(
        ("fetcher.v",), "fetcher", lambda config: {"DEPTH_BITS": config.depth_bits}, masters=lambda config: 1
    ),
    software=Gemm(compute, "driver.hpp", lambda config: Limits(1 << config.depth_bits, 4), cycles),
)

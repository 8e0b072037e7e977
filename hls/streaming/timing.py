# SPDX-License-Identifier: Apache-2.0
"""Cycles of the streaming accelerator, counted from the cycle after the grant of a vector's last lane."""

from typing import Protocol

from hls.arithmetic.aligned import ALIGN_STAGES, NORMALISE_LATENCY
from hls.arithmetic.fp32 import FP32_ADD_LATENCY
from hls.arithmetic.pe import ALIGNED_STEP, FMA_STEP

LANE_LATENCY = 2
"""Cycles from a lane's read to the lane: the memory, and the register that clears lanes behind the last."""

COLLECT_LATENCY = 1
"""Cycles from a column's partial sum to the one that all columns share."""


class Geometry(Protocol):
    """What the timing depends on."""

    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def arithmetic(self) -> str: ...
    @property
    def sums(self) -> int: ...


def is_aligned(config: Geometry) -> bool:
    return config.arithmetic == "aligned"


def step(config: Geometry) -> int:
    """Cycles from row to row, a power of two."""
    return ALIGNED_STEP if is_aligned(config) else FMA_STEP


def front(config: Geometry) -> int:
    """To the first lane at row 0."""
    return LANE_LATENCY + (ALIGN_STAGES if is_aligned(config) else 0)


def column_time(config: Geometry) -> int:
    """To the partial sum of column 0; those of the others follow one by one."""
    product = 1 if is_aligned(config) else 0
    return front(config) + step(config) * config.rows + product


def result_latency(config: Geometry) -> int:
    """Cycles from a column's partial sum to its FP32 result."""
    return COLLECT_LATENCY + (NORMALISE_LATENCY if is_aligned(config) else 0)


def add_latency(config: Geometry) -> int:
    """Cycles from the read of a sum to its write."""
    return 1 + (FP32_ADD_LATENCY if config.sums else 0)


def spacing(config: Geometry) -> int:
    """From a vector to the next: lanes and columns go one by one, and a sum is written before it is read again."""
    return max(step(config) * config.rows, config.cols, add_latency(config) + 1)


def written_time(config: Geometry) -> int:
    """Until all sums of the vector may be read."""
    return column_time(config) + config.cols - 1 + result_latency(config) + add_latency(config)


def settled_time(config: Geometry) -> int:
    """From a vector that meets new weights until row 0 may take others, one cycle later; `step` more for every row.

    A multiple of `step`.
    """
    passed = front(config) + config.cols - 4
    return max(1, -(-passed // step(config))) * step(config)

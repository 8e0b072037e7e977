# SPDX-License-Identifier: Apache-2.0
"""The small architecture: an array without memory or masters, which the CPU feeds and whose sums it reads."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from firmware_gen.architectures.contract import Architecture, Fact, Gemm, Limits, MyHdl
from hls.streaming.config import StreamingConfig

if TYPE_CHECKING:
    import numpy as np


def _compute(config: StreamingConfig, a: "np.ndarray", b: "np.ndarray") -> "np.ndarray":
    from hls.streaming.model import compute

    return compute(config, a, b)


def _limits(config: StreamingConfig) -> Limits:
    return Limits(k=config.rows, n=config.cols)


_BLOCK, _ROW, _PIXEL, _OUTPUT, _SUM = 165, 7, 80, 22, 16
"""Measured cycles of the CPU besides the words that it moves, 2 each: for a tile of weights; for a row of A; for an
output pixel's columns, and each of its outputs; to add a sum by itself."""


def _cycles(config: StreamingConfig, m: int, k: int, n: int) -> int:
    from firmware_gen.targets.calls.product import CHUNK
    from hls.streaming.timing import spacing, written_time

    tiles, blocks = -(-n // config.cols), -(-k // config.rows)
    loads = -(-m // (config.sums or CHUNK)) if blocks > 1 else 1
    words = sum(-(-min(config.cols, n - i) // 4) for i in range(0, n, config.cols))
    if config.sums:
        rows = sum(max(2 * min(config.rows, k - i) + _ROW, spacing(config)) for i in range(0, k, config.rows))
    else:
        rows = 2 * k + blocks * (written_time(config) + _PIXEL + _SUM * min(n, config.cols))
    finish = _PIXEL * tiles + _OUTPUT * n
    return loads * (_BLOCK * tiles * blocks + 2 * words * k) + m * (rows * tiles + finish)


def _headers(_config: StreamingConfig) -> Mapping[str, str]:
    from hls.streaming.registers import c_header

    return {"streaming_regs.h": c_header()}


def _unit() -> Any:
    from hls.streaming.top import streaming

    return streaming


def _describe(config: StreamingConfig) -> str:
    sums = f"{config.sums} rows of sums" if config.sums else "no sums"
    return f"{config.rows}x{config.cols} {config.arithmetic}, {sums}"


def _facts(config: StreamingConfig) -> Sequence[Fact]:
    multipliers, product = (
        config.rows * config.cols,
        "INT27 x INT8" if config.arithmetic == "aligned" else "FP32 x INT8",
    )
    sums = 4 * config.sums * config.cols
    return (
        Fact("multipliers", "multipliers, array", multipliers, f"{multipliers} ({product})"),
        Fact("sum_bytes", "buffer of sums", sums, f"{sums:,} bytes" if sums else "none"),
    )


ARCHITECTURE = Architecture(
    summary="systolic array that the CPU feeds and whose sums it reads: no masters, little area",
    config=StreamingConfig,
    software=Gemm(_compute, "driver.hpp", _limits, _cycles, headers=_headers, pushes=lambda config: bool(config.sums)),
    hardware=MyHdl(_unit),
    facts=_facts,
    describe=_describe,
    peak=lambda config: config.rows * config.cols,
)

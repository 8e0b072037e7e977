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
    software=Gemm(_compute, "driver.hpp", _limits, headers=_headers),
    hardware=MyHdl(_unit),
    facts=_facts,
    describe=_describe,
)

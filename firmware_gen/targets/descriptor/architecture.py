# SPDX-License-Identifier: Apache-2.0
"""The default architecture: a systolic array that fetches descriptors and data by itself."""

from collections.abc import Sequence
from pathlib import Path

from firmware_gen.architectures.contract import Architecture, Fact, Graph, Target, Whole
from hls.config import Config


def _target() -> Target:
    from firmware_gen.targets.descriptor.target import DescriptorTarget

    return DescriptorTarget()


def _generate(config: Config, folder: Path) -> list[Path]:
    from hls.descriptor.top import generate

    return generate(config, folder)


def _masters(config: Config) -> int:
    return config.ports


def _peak(config: Config) -> int:
    return config.rows * config.cols


def _describe(config: Config) -> str:
    ports = "1 port" if config.ports == 1 else f"{config.ports} ports"
    return f"{config.rows}x{config.cols} {config.arithmetic}, {ports}"


def _facts(config: Config) -> Sequence[Fact]:
    multipliers, product = (
        config.rows * config.cols,
        "INT27 x INT8" if config.arithmetic == "aligned" else "FP32 x INT8",
    )
    accumulators, scratchpad = 2 * config.accumulator_entries * config.cols * 4, 4 * config.scratchpad_words
    return (
        Fact("multipliers", "multipliers, array", multipliers, f"{multipliers} ({product})"),
        Fact("epilogue_multipliers", "multipliers, epilogue", config.ports, f"{config.ports} (FP32)"),
        Fact(
            "activation_bytes",
            "activation buffer",
            4 * config.activation_words,
            f"{4 * config.activation_words:,} bytes",
        ),
        Fact("weight_bytes", "weight buffer", config.weight_bytes, f"{config.weight_bytes:,} bytes"),
        Fact("accumulator_bytes", "accumulators", accumulators, f"{accumulators:,} bytes in two banks"),
        Fact("scratchpad_bytes", "scratchpad", scratchpad, f"{scratchpad:,} bytes" if scratchpad else "none"),
    )


ARCHITECTURE = Architecture(
    summary="systolic array with descriptors, masters and buffers of its own: whole layers run without the CPU",
    config=Config,
    software=Graph(_target),
    hardware=Whole(_generate, _masters),
    facts=_facts,
    describe=_describe,
    peak=_peak,
)

# SPDX-License-Identifier: Apache-2.0
"""The default architecture: a systolic array that fetches descriptors and data by itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_gen.architectures.contract import Architecture, Fact, Graph, Target, Whole
from hls.config import Config
from hls.lib.probe import Engine

if TYPE_CHECKING:
    from firmware_gen.ir import Tiles


def _target() -> Target:
    from firmware_gen.targets.descriptor.target import DescriptorTarget

    return DescriptorTarget()


def _tiles(config: Config) -> "tuple[Tiles, int] | None":
    from firmware_gen.targets.descriptor.lowering.layout import tiles_of

    return (tiles_of(config), config.activation_words // 4) if config.multiply else None


def _generate(config: Config, folder: Path) -> list[Path]:
    from hls.descriptor.top import generate

    return generate(config, folder)


def _masters(config: Config) -> int:
    return config.ports


def _peak(config: Config) -> int:
    return config.rows * config.cols


def _engines(config: Config) -> Sequence[Engine]:
    from hls.descriptor.engines import engines

    return engines(config)


def _describe(config: Config) -> str:
    ports = "1 port" if config.ports == 1 else f"{config.ports} ports"
    return f"{config.rows}x{config.cols} {config.arithmetic}, {ports}"


def _facts(config: Config) -> Sequence[Fact]:
    array = f"{config.rows} rows x {config.cols} columns, {config.arithmetic}"
    product = "INT27 x INT8" if config.arithmetic == "aligned" else "FP32 x INT8"
    macs, bus = config.rows * config.cols, 4 * config.ports
    activations, scratchpad = 4 * config.activation_words, 4 * config.scratchpad_words
    accumulators = 2 * config.accumulator_entries * config.cols * 4
    peak = f"{macs} MAC/cycle; depthwise and pooling {config.diagonal}"
    return (
        Fact("array", "array", f"{config.rows}x{config.cols}", array),
        Fact("multipliers", "multipliers, array", macs, f"{macs} ({product})"),
        Fact("epilogue_multipliers", "multipliers, epilogue", config.ports, f"{config.ports} (FP32)"),
        Fact("activation_bytes", "activation buffer", activations, f"{activations:,} bytes"),
        Fact("weight_bytes", "weight buffer", config.weight_bytes, f"{config.weight_bytes:,} bytes"),
        Fact("accumulator_bytes", "accumulators", accumulators, f"{accumulators:,} bytes in two banks"),
        Fact("scratchpad_bytes", "scratchpad", scratchpad, f"{scratchpad:,} bytes" if scratchpad else "none"),
        Fact("peak_mac_per_cycle", "peak", macs, peak),
        Fact("peak_diagonal_mac_per_cycle", "", config.diagonal, ""),
        Fact("peak_bus_bytes_per_cycle", "bus peak", bus, f"{bus} bytes/cycle over {config.ports} OBI ports"),
    )


def _documents(_config: Config) -> dict[str, str]:
    from hls.descriptor.interface import regmap

    return {
        "heepstor_regs.h": regmap.c_header(),
        "heepstor_regs.md": regmap.markdown(),
        "heepstor_regs.hjson": regmap.register_hjson(),
    }


ARCHITECTURE = Architecture(
    summary="systolic array with descriptors, masters and buffers of its own: whole layers run without the CPU",
    config=Config,
    software=Graph(
        _target,
        products=lambda config: bool(config.multiply),
        functions=lambda config: bool(config.functions),
        statistics=lambda config: bool(config.multiply and config.functions),
        tiles=_tiles,
    ),
    hardware=Whole(_generate, _masters),
    facts=_facts,
    documents=_documents,
    describe=_describe,
    peak=_peak,
    engines=_engines,
)

# SPDX-License-Identifier: Apache-2.0
"""Area and clock of any configuration without synthesis: units.json says what each unit's figures grow with."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gen.ppa import sram
from gen.ppa.asic import REGISTER_WORDS
from gen.ppa.synthesis import Memory
from gen.ppa.terms import values
from hls.arithmetic.function import TABLE_SLOTS, TABLE_WORDS
from hls.config import Config, System
from hls.descriptor.interface.timing import beats, param_depth, weight_buffer
from hls.errors import HeepgenError

UNITS = Path(__file__).with_name("units.json")
_METRICS = ("lut", "ff", "dsp", "bram", "um2", "leakage_uw")
_WIDTHS = (32, 64, 96, 128)
_LARGEST = 1 << 16


@dataclass(frozen=True)
class UnitCost:
    """One unit with everything in it: UltraScale+, and 45 nm, where mm2 has its SRAM macros and kge has not. ns: the
    longest path within one of its modules."""

    lut: int
    ff: int
    dsp: int
    bram: float
    kge: float
    mm2: float
    leakage_uw: float
    ns: float


@dataclass(frozen=True)
class Cost(UnitCost):
    """An accelerator, and the clock on an ECP5 of its slowest block alone (MHz)."""

    mhz: float
    units: Mapping[str, UnitCost]


def ram_sizes() -> Iterator[tuple[int, int]]:
    """Width and words of every RAM that a configuration may have."""
    for width in _WIDTHS:
        words = 2
        while words * width <= _LARGEST * 32:
            yield width, words
            words *= 2


def rams(config: Config) -> Iterator[tuple[str, Memory, int]]:
    """Unit, size and number of the RAMs with a module of their own."""
    wide = 32 * config.ports
    weights = weight_buffer(config)
    rows = max(2, beats(config.cols, config))
    yield "activation_buffer", Memory(32, config.activation_words // config.banks), config.banks
    yield "weight_loader", Memory(wide, weights.depth), weights.row_beats
    yield "param_reader", Memory(wide, param_depth(config)), 1
    yield "drain", Memory(wide, 2 << (rows - 1).bit_length()), 2
    yield "accumulators", Memory(32, config.accumulator_entries), 2 * config.cols
    if config.scratchpad_words:
        banks = 1 << (config.ports - 1).bit_length()
        yield "scratchpad", Memory(32, config.scratchpad_words // banks), banks


def macros(config: Config) -> Iterator[tuple[str, Memory, int]]:
    """Unit, size and number of the memories that are SRAM macros."""
    yield from (entry for entry in rams(config) if entry[1].words > REGISTER_WORDS)
    if config.functions:
        yield "drain", Memory(64, TABLE_SLOTS * TABLE_WORDS // 2), config.ports


@dataclass(frozen=True)
class _Figures:
    """units.json: factors[u, m, t] of unit u, metric m and term t."""

    gate_um2: float
    mhz: Mapping[str, float]
    rams: Mapping[str, Mapping[str, float]]
    names: tuple[str, ...]
    terms: tuple[str, ...]
    factors: Any
    ns: tuple[float, ...]
    yosys: str
    library: str


@cache
def _figures() -> _Figures:
    data = json.loads(UNITS.read_text())
    units = data["units"]
    terms = tuple(
        dict.fromkeys(term for unit in units.values() for metric in _METRICS for term in unit.get(metric, {}))
    )
    factors = np.array(
        [[[unit.get(metric, {}).get(term, 0.0) for term in terms] for metric in _METRICS] for unit in units.values()]
    )
    longest = tuple(unit["ns"] for unit in units.values())
    return _Figures(
        gate_um2=data["gate_um2"],
        mhz=data["mhz"],
        rams=data["rams"],
        names=tuple(units),
        terms=terms,
        factors=factors,
        ns=longest,
        yosys=data["yosys"],
        library=data["library"],
    )


def origin() -> str:
    """What the shipped figures were measured with."""
    return f"yosys {_figures().yosys}, {_figures().library}"


def library() -> str:
    """The library of standard cells of the shipped figures."""
    return _figures().library


def cost(config: System) -> Cost:
    """What `config` takes, from the shipped figures; raises `HeepgenError` for an architecture that has none."""
    if not isinstance(config, Config):
        raise HeepgenError(
            f"architecture {config.architecture} has no shipped figures of area and clock; "
            "heepgen ppa --synthesise measures it."
        )
    figures = _figures()
    found = np.maximum(figures.factors @ np.array(values(config, figures.terms)), 0.0)
    absent = {f"systolic_array_{'fma' if config.arithmetic == 'aligned' else 'aligned'}"}
    if not config.scratchpad_words:
        absent.add("scratchpad")
    units = {
        name: dict(zip(_METRICS, map(float, row), strict=True)) | {"mm2": 0.0, "ns": ns}
        for name, row, ns in zip(figures.names, found, figures.ns, strict=True)
        if name not in absent
    }
    for name, memory, count in rams(config):
        for metric, value in figures.rams[f"{memory.width}x{memory.words}"].items():
            units[name][metric] += count * value
    for name, memory, count in macros(config):
        one = sram.macro(memory.width, memory.words)
        units[name]["mm2"] += count * one.mm2
        units[name]["leakage_uw"] += count * one.leakage_uw
    parts = {name: _unit_cost(unit, figures.gate_um2) for name, unit in units.items()}
    slowest = min(mhz for block, mhz in figures.mhz.items() if _has(config, block))
    return Cost(
        lut=sum(part.lut for part in parts.values()),
        ff=sum(part.ff for part in parts.values()),
        dsp=sum(part.dsp for part in parts.values()),
        bram=sum(part.bram for part in parts.values()),
        kge=sum(part.kge for part in parts.values()),
        mm2=sum(part.mm2 for part in parts.values()),
        leakage_uw=sum(part.leakage_uw for part in parts.values()),
        ns=max(part.ns for part in parts.values()),
        mhz=slowest,
        units=parts,
    )


def _unit_cost(unit: Mapping[str, float], gate_um2: float) -> UnitCost:
    return UnitCost(
        lut=round(unit["lut"]),
        ff=round(unit["ff"]),
        dsp=round(unit["dsp"]),
        bram=round(2 * unit["bram"]) / 2,
        kge=unit["um2"] / gate_um2 / 1000,
        mm2=unit["um2"] * 1e-6 + unit["mm2"],
        leakage_uw=unit["leakage_uw"],
        ns=unit["ns"],
    )


def _has(config: Config, block: str) -> bool:
    absent = {"aligned_pe", "align_lane", "exponent_max", "normaliser"} if config.arithmetic == "fma" else {"fma_pe"}
    if not config.functions:
        absent |= {"function_lane"}
    if not config.scratchpad_words:
        absent |= {"scratchpad"}
    return block not in absent

# SPDX-License-Identifier: Apache-2.0
"""Energy of an inference without a simulation: what units and their SRAMs took in measured runs, by area and by work.

`make energy` writes model.json again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from firmware_gen.architectures.contract import LayerCycles
from gen.ppa.composition import macros
from gen.ppa.fpga import GLUE
from gen.ppa.sram import BUS_BITS, macro
from gen.ppa.verilog import ROOT, block_name
from hls.config import Config, System
from hls.errors import HeepgenError

MODEL = Path(__file__).with_name("model.json")
MHZ = 100.0
"""At which leakage is counted, unless another clock is given."""

LEAST_SPREAD = 0.02
"""Of shares of work, below which runs do not tell idle from work."""
Floats = NDArray[np.float64]

_FOLLOWS = {
    "systolic_array_aligned": "vectors",
    "systolic_array_fma": "vectors",
    "accumulators": "vectors",
    "activation_buffer": "vectors",
    "sequencer": "vectors",
    "delay_line": "vectors",
    "drain": "drain",
    "aux_reader": "drain",
    "param_reader": "drain",
    "load_engine": "bus",
    "scratchpad": "bus",
    "arbiter": "bus",
    "memory_ports": "bus",
    "weight_loader": "weights",
}


class UnitArea(Protocol):
    """What `gen.ppa.composition.cost` says of a unit: gate equivalents in thousands, leakage in uW."""

    @property
    def kge(self) -> float: ...
    @property
    def leakage_uw(self) -> float: ...


class Areas(Protocol):
    @property
    def units(self) -> Mapping[str, UnitArea]: ...


@dataclass(frozen=True)
class Rate:
    """Of something in a cycle, whatever the unit does, and what it has more of in a cycle of work."""

    idle: float
    work: float

    def total(self, cycles: float, work: float) -> float:
        return self.idle * cycles + self.work * work


@dataclass(frozen=True)
class Factors:
    """Of one unit: pJ of clock pins and of data toggles per kGE, and accesses of each of its SRAMs."""

    clock: Rate
    data: Rate
    reads: Rate
    writes: Rate


def unit_name(module: str, arithmetic: str) -> str:
    """The unit of `gen.ppa.composition` that a module below the root, or the root, belongs to."""
    name = GLUE if module == ROOT else block_name(module)
    return f"{name}_{arithmetic}" if name == "systolic_array" else name


def work_of(unit: str, layer: LayerCycles) -> int:
    """In how many cycles of a layer a unit works; control and glue are at work in all."""
    return int(getattr(layer, _FOLLOWS[unit])) if unit in _FOLLOWS else layer.cycles


@dataclass(frozen=True)
class Model:
    """Factors by unit, and accesses of the system's RAM in a cycle in which the CPU works."""

    factors: Mapping[str, Factors]
    cpu_accesses: float

    def units_uj(self, config: System, layers: Sequence[LayerCycles], cost: Areas, mhz: float) -> dict[str, float]:
        """Energy of every unit over the layers of an inference at a clock, in uJ; see `energy_uj`."""
        unknown = [unit for unit in cost.units if unit not in self.factors]
        if unknown or not isinstance(config, Config):
            raise HeepgenError(f"architecture {config.architecture} has no measured energies of its units.")
        cycles = sum(layer.cycles for layer in layers)
        result = {}
        for unit, area in cost.units.items():
            mine, work = self.factors[unit], sum(work_of(unit, layer) for layer in layers)
            pj = (mine.clock.total(cycles, work) + mine.data.total(cycles, work)) * area.kge
            for name, memory, count in macros(config):
                if name == unit:
                    one = macro(memory.width, memory.words)
                    pj += count * mine.reads.total(cycles, work) * one.read_pj
                    pj += count * mine.writes.total(cycles, work) * one.write_pj
            result[unit] = (pj + area.leakage_uw / mhz * cycles) * 1e-6
        return result

    def ram_uj(self, config: System, layers: Sequence[LayerCycles], mhz: float) -> float:
        """Of the system's RAM: words of the accelerator, and what the CPU takes where it works."""
        bank = macro(BUS_BITS, config.bank_bytes * 8 // BUS_BITS, ports=1)
        words = sum(layer.bus_words + self.cpu_accesses * layer.on_cpu * layer.cycles for layer in layers)
        leakage = config.memory_banks * bank.leakage_uw / mhz * sum(layer.cycles for layer in layers)
        return (words * bank.read_pj + leakage) * 1e-6

    def uj(self, config: System, layers: Sequence[LayerCycles], cost: Areas, mhz: float = MHZ) -> float:
        """Of all of it."""
        return sum(self.units_uj(config, layers, cost, mhz).values()) + self.ram_uj(config, layers, mhz)


def known() -> bool:
    """Whether the energies of units are there."""
    return MODEL.is_file()


@cache
def shipped(gated: bool = True) -> Model:
    """What `make energy` measured; raises `HeepgenError` where it has not."""
    if not known():
        raise HeepgenError("the energies of units have not been measured: make energy does it.")
    figures = json.loads(MODEL.read_text())
    found = figures["gated" if gated else "ungated"].items()
    factors = {unit: Factors(**{name: Rate(*rate) for name, rate in rates.items()}) for unit, rates in found}
    return Model(factors, figures["cpu_accesses"])


def energy_uj(
    config: System, layers: Sequence[LayerCycles], cost: Areas, *, gated: bool = True, mhz: float = MHZ
) -> float:
    """Energy of the accelerator, its buffers and the system's RAM over an inference, in uJ.

    layers: those of a `Prediction`, and `LayerCycles(around, on_cpu=True)` for what lies around them. Raises
    `HeepgenError` for an architecture whose units were not measured, and where no energies are shipped.
    """
    return shipped(gated).uj(config, layers, cost, mhz)


@dataclass(frozen=True)
class Sample:
    """What a unit took in a phase of a measured run, per cycle: pJ of clock pins and of data toggles, reads and writes
    of each of its SRAMs; with its kGE, and the share of cycles that it worked in."""

    unit: str
    kge: float
    cycles: int
    clock: float
    data: float
    reads: float
    writes: float
    work: float


def fitted(samples: Sequence[Sample]) -> dict[str, Factors]:
    """Of every unit in `samples`, none of them negative, by least squares over cycles."""
    result = {}
    for unit in dict.fromkeys(sample.unit for sample in samples):
        mine = [sample for sample in samples if sample.unit == unit]
        weight = np.sqrt([sample.cycles for sample in mine])
        kge, work = np.array([sample.kge for sample in mine]), np.array([sample.work for sample in mine])
        clock, data, reads, writes = np.array([(s.clock, s.data, s.reads, s.writes) for s in mine]).T
        result[unit] = Factors(*(_rate(weight, work, found) for found in (clock / kge, data / kge, reads, writes)))
    return result


def _rate(weight: Floats, work: Floats, found: Floats) -> Rate:
    """Idle and work of a `Rate`, from what was found at shares of work; each term alone where the other is negative."""
    ones = np.ones_like(work)
    idle, busy = map(float, np.linalg.lstsq(np.stack([weight, weight * work], 1), weight * found, rcond=None)[0])
    if busy < 0 or float(np.ptp(work)) < LEAST_SPREAD:
        idle, busy = _slope(weight, ones, found), 0.0
    elif idle < 0:
        idle, busy = 0.0, _slope(weight, work, found)
    return Rate(float(f"{idle:.4g}"), float(f"{busy:.4g}"))


def _slope(weight: Floats, x: Floats, y: Floats) -> float:
    squares = weight**2 * x
    return float(squares @ y) / max(float(squares @ x), 1e-12)

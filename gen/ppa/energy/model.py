# SPDX-License-Identifier: Apache-2.0
"""Energy of an inference without a simulation: what units and their SRAMs took in measured runs, by area and by work.

`make energy-model` writes model.json again.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import mul
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from firmware_gen.architectures.contract import LayerCycles
from gen.ppa.composition import Cost, cost, macros
from gen.ppa.energy.parts import RAM, part_of_unit
from gen.ppa.fpga import GLUE
from gen.ppa.sram import BUS_BITS, macro
from gen.ppa.synthesis import Memory
from gen.ppa.verilog import ROOT, block_name
from hls.config import Config, System
from hls.errors import HeepgenError

MODEL = Path(__file__).with_name("model.json")
MHZ = 100.0
"""At which leakage is counted, unless another clock is given."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Work:
    """Of an inference, or of a part of it: cycles, those of them in which the array takes a vector, and in which ports,
    the weight loader and the drain are busy, words of the bus, and cycles in which the CPU works."""

    cycles: float = 0
    vectors: float = 0
    bus: float = 0
    weights: float = 0
    drain: float = 0
    bus_words: float = 0
    cpu: float = 0

    @classmethod
    def of(cls, layers: Iterable[LayerCycles]) -> "Work":
        """Of all these layers; what lies around them is a `LayerCycles(around, on_cpu=True)`."""
        rows = [
            (own.cycles, own.vectors, own.bus, own.weights, own.drain, own.bus_words, own.on_cpu * own.cycles)
            for own in layers
        ]
        return cls(*map(sum, zip(*rows, strict=True)))


RATES = ("cycles", "vectors", "bus", "weights", "drain")
"""Attributes of `Work` that energies of units are counted by."""

_WORKS: Mapping[str, tuple[str, ...]] = {
    "systolic_array_aligned": ("vectors", "weights"),
    "systolic_array_fma": ("vectors", "weights"),
    "accumulators": ("vectors", "drain"),
    "activation_buffer": ("vectors", "bus"),
    "sequencer": ("vectors",),
    "delay_line": ("vectors", "weights"),
    "drain": ("drain",),
    "aux_reader": ("drain",),
    "param_reader": ("drain", "bus"),
    "load_engine": ("vectors", "bus"),
    "scratchpad": ("vectors", "drain"),
    "arbiter": ("bus",),
    "memory_ports": ("bus",),
    "weight_loader": ("weights",),
    "control": ("bus",),
}
"""What a unit takes more energy for, besides every cycle."""


class UnitArea(Protocol):
    """What `gen.ppa.composition.cost` says of a unit: gate equivalents in thousands, before clocks are gated."""

    @property
    def kge(self) -> float: ...


class Areas(Protocol):
    @property
    def units(self) -> Mapping[str, UnitArea]: ...


Rates = Mapping[str, float]
"""By RATES: of a cycle, whatever the unit does, and more in one in which it does that; never negative."""


@dataclass(frozen=True)
class Factors:
    """Of one unit: pJ of clock pins and of data toggles per kGE, accesses of each of its SRAMs, and uW per kGE."""

    clock: Rates
    data: Rates
    reads: Rates
    writes: Rates
    leakage: float


def unit_name(module: str, arithmetic: str) -> str:
    """The unit of `gen.ppa.composition` that a module below the root, or the root, belongs to."""
    name = GLUE if module == ROOT else block_name(module)
    return f"{name}_{arithmetic}" if name == "systolic_array" else name


LIKE = {"systolic_array_fma": "systolic_array_aligned"}
"""Units that take as much per kGE as others, unless they were measured themselves."""


def works_of(unit: str) -> tuple[str, ...]:
    """Those of RATES that a unit's energies are counted by."""
    return ("cycles", *_WORKS.get(unit, ()))


@dataclass(frozen=True)
class Prices:
    """pJ of one configuration at a clock, by unit and of the RAM, for each of what `Work` counts."""

    pj: Mapping[str, Work]

    def by_part(self, work: Work) -> dict[str, float]:
        """uJ by part of the system, as `part_of_unit` names them."""
        found: dict[str, float] = {}
        for unit, own in self.pj.items():
            part = RAM if unit == RAM else part_of_unit(unit)
            found[part] = found.get(part, 0.0) + _product(own, work)
        return found

    @cached_property
    def whole(self) -> Work:
        """Of all units together."""
        return Work(*map(sum, zip(*map(_numbers, self.pj.values()), strict=True)))

    def uj(self, work: Work) -> float:
        """Of all of it: grows with everything in `work`."""
        return _product(self.whole, work)


def _product(pj: Work, work: Work) -> float:
    total: float = sum(map(mul, _numbers(pj), _numbers(work)))
    return 1e-6 * total


def _numbers(work: Work) -> tuple[float, ...]:
    """In the order of its fields."""
    return tuple(vars(work).values())


@dataclass(frozen=True)
class Model:
    """Factors by unit, and accesses of the system's RAM in a cycle in which the CPU works."""

    factors: Mapping[str, Factors]
    cpu_accesses: float

    def prices(self, config: System, areas: Areas, mhz: float = MHZ) -> Prices:
        """Of `config`; raises `HeepgenError` for an architecture whose units were not measured."""
        unknown = [unit for unit in areas.units if LIKE.get(unit, unit) not in self.factors]
        if unknown or not isinstance(config, Config):
            raise HeepgenError(f"architecture {config.architecture} has no measured energies of its units.")
        memories = tuple(macros(config))
        found = {unit: self._unit(unit, memories, area, mhz) for unit, area in areas.units.items()}
        bank = macro(BUS_BITS, config.bank_bytes * 8 // BUS_BITS, ports=1)
        found[RAM] = Work(
            cycles=config.memory_banks * bank.leakage_uw / mhz,
            bus_words=bank.read_pj,
            cpu=self.cpu_accesses * bank.read_pj,
        )
        return Prices(found)

    def _unit(self, unit: str, memories: Sequence[tuple[str, Memory, int]], area: UnitArea, mhz: float) -> Work:
        mine = self.factors[unit if unit in self.factors else LIKE[unit]]
        pj = dict.fromkeys(RATES, 0.0) | {"cycles": area.kge * mine.leakage / mhz}
        _add(pj, mine.clock, area.kge)
        _add(pj, mine.data, area.kge)
        for name, memory, count in memories:
            if name == unit:
                one = macro(memory.width, memory.words)
                _add(pj, mine.reads, count * one.read_pj)
                _add(pj, mine.writes, count * one.write_pj)
                pj["cycles"] += count * one.leakage_uw / mhz
        return Work(**pj)


def _add(pj: dict[str, float], rates: Rates, factor: float) -> None:
    for name, rate in rates.items():
        pj[name] += rate * factor


def known() -> bool:
    """Whether the energies of units are there."""
    return MODEL.is_file()


@cache
def shipped() -> Model:
    """What `make energy-model` measured; raises `HeepgenError` where it has not."""
    if not known():
        raise HeepgenError("the energies of units have not been measured: make energy-model does it.")
    figures = json.loads(MODEL.read_text())
    factors = {unit: Factors(**rates) for unit, rates in figures["units"].items()}
    return Model(factors, figures["cpu_accesses"])


@cache
def off_by() -> str:
    """How far the shipped model is off, in words; "" where none is shipped."""
    if not known():
        return ""
    errors: Mapping[str, float] = json.loads(MODEL.read_text())["errors"]["network"]
    most = max(abs(off) for off in errors.values())
    return f"within {math.ceil(100 * most)} % of gate level for {len(errors)} networks that it was not fitted to"


def prices_of(config: System, found: Cost | None = None, mhz: float = MHZ) -> Prices:
    """What the accelerator, with clock gating, its buffers and the system's RAM take at a clock; found: the figures of
    `config`, where they are known already. Raises `HeepgenError` for an architecture whose units were not measured, and
    where no energies are shipped."""
    return shipped().prices(config, found or cost(config), mhz)


@dataclass(frozen=True)
class Sample:
    """What a unit took in a phase of a measured run, per cycle: pJ of clock pins and of data toggles, reads and writes
    of each of its SRAMs; its leakage in uW. kge: as `UnitArea` has it; share: of the run's cycles, that the phase has;
    work: shares of cycles that the unit worked in, by RATES."""

    unit: str
    kge: float
    share: float
    clock: float
    data: float
    reads: float
    writes: float
    leakage: float
    work: Mapping[str, float]


def shares(layer: LayerCycles, cycles: int) -> dict[str, float]:
    """`Sample.work` of a layer that took so many cycles."""
    found = Work.of([layer])
    return {name: min(1.0, getattr(found, name) / cycles) for name in RATES} | {"cycles": 1.0}


def fitted(samples: Sequence[Sample]) -> dict[str, Factors]:
    """Of every unit in `samples`, by least squares among what is not negative; each run weighs as much as others."""
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    def rates(names: Sequence[str], weight: Floats, work: Floats, column: Floats) -> Rates:
        least, _ = nnls(weight[:, None] * work, weight * column)
        return {name: float(f"{rate:.4g}") for name, rate in zip(names, least, strict=True) if rate > 0}

    result = {}
    for unit in dict.fromkeys(sample.unit for sample in samples):
        mine = [sample for sample in samples if sample.unit == unit]
        weight = np.sqrt([sample.share for sample in mine])
        kge = np.array([sample.kge for sample in mine])
        names = works_of(unit)
        work = np.array([[sample.work[name] for name in names] for sample in mine])
        clock, data, reads, writes = np.array([(s.clock, s.data, s.reads, s.writes) for s in mine]).T
        columns = (clock / kge, data / kge, reads, writes)
        leakage = np.average([sample.leakage for sample in mine] / kge, weights=weight**2)
        found = [rates(names, weight, work, column) for column in columns]
        result[unit] = Factors(found[0], found[1], found[2], found[3], float(f"{leakage:.4g}"))
    return result

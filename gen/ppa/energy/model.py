# SPDX-License-Identifier: Apache-2.0
"""Energy of an inference without a simulation: what units took in measured runs, by their area and by what they did.

`make energy` writes model.json again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from firmware_gen.architectures.contract import LayerCycles
from gen.ppa.fpga import GLUE
from gen.ppa.verilog import ROOT, block_name
from hls.config import System
from hls.errors import HeepgenError

MODEL = Path(__file__).with_name("model.json")
MHZ = 100.0
"""At which leakage is counted, unless another clock is given."""

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
class Factors:
    """Of one unit: pJ of clock pins per kGE and cycle; pJ of data toggles and of its SRAMs per kGE, per cycle whatever
    it does and per cycle of work."""

    clock: float
    idle: float
    work: float


def unit_name(module: str, arithmetic: str) -> str:
    """The unit of `gen.ppa.composition` that a module below the root, or the root, belongs to."""
    name = GLUE if module == ROOT else block_name(module)
    return f"{name}_{arithmetic}" if name == "systolic_array" else name


def work_of(unit: str, layer: LayerCycles) -> int:
    """In how many cycles of a layer a unit works; control and glue are at work in all."""
    return int(getattr(layer, _FOLLOWS[unit])) if unit in _FOLLOWS else layer.cycles


@cache
def factors(gated: bool = False) -> Mapping[str, Factors]:
    """The measured factors by unit; raises `HeepgenError` where none are shipped."""
    if not MODEL.is_file():
        raise HeepgenError("the energies of units have not been measured: make energy does it.")
    found = json.loads(MODEL.read_text())["gated" if gated else "ungated"]
    return {unit: Factors(**values) for unit, values in found.items()}


def energy_uj(
    config: System, layers: Sequence[LayerCycles], cost: Areas, *, gated: bool = False, mhz: float = MHZ
) -> float:
    """Energy of the accelerator and its buffers over the layers of an inference, in uJ.

    Raises `HeepgenError` for an architecture whose units were not measured.
    """
    return sum(unit_energies_uj(config, layers, cost, gated=gated, mhz=mhz).values())


def unit_energies_uj(
    config: System, layers: Sequence[LayerCycles], cost: Areas, *, gated: bool = False, mhz: float = MHZ
) -> dict[str, float]:
    """`energy_uj` by unit."""
    known = factors(gated)
    unknown = [unit for unit in cost.units if unit not in known]
    if unknown:
        raise HeepgenError(f"architecture {config.architecture} has no measured energies, as of its {unknown[0]}.")
    cycles = sum(layer.cycles for layer in layers)
    result = {}
    for unit, area in cost.units.items():
        mine = known[unit]
        work = sum(work_of(unit, layer) for layer in layers)
        dynamic = (mine.clock + mine.idle) * cycles + mine.work * work
        result[unit] = (dynamic * area.kge + area.leakage_uw / mhz * cycles) * 1e-6
    return result


@dataclass(frozen=True)
class Sample:
    """What a unit took in a phase of a measured run, in pJ per cycle: its kGE, and the share of cycles it worked in."""

    unit: str
    kge: float
    cycles: int
    clock: float
    data: float
    work: float


def fitted(samples: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """Factors of every unit in `samples`, none of them negative, by least squares over cycles."""
    result = {}
    for unit in dict.fromkeys(sample.unit for sample in samples):
        mine = [sample for sample in samples if sample.unit == unit]
        weight = np.sqrt([sample.cycles for sample in mine])
        clock = float(np.average([s.clock / s.kge for s in mine], weights=weight**2))
        data = np.array([s.data / s.kge for s in mine])
        work = np.array([s.work for s in mine])
        idle, busy = np.linalg.lstsq(np.stack([weight, weight * work], 1), weight * data, rcond=None)[0]
        if busy < 0 or unit not in _FOLLOWS:
            idle, busy = float(np.average(data, weights=weight**2)), 0.0
        elif idle < 0:
            idle, busy = 0.0, float((weight**2 * work) @ data / ((weight**2 * work) @ work))
        result[unit] = {k: float(f"{v:.4g}") for k, v in asdict(Factors(clock, idle, busy)).items()}
    return result

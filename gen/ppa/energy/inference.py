# SPDX-License-Identifier: Apache-2.0
"""Energy of an inference, layer by layer and part by part, from what windows of its run took."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gen.ppa.energy.measure import Instance
from gen.ppa.energy.parts import BUFFERS, PARTS, RAM, part_of
from gen.ppa.energy.sampling import Estimate, Phase, Window, estimate

NOT_PRICED = ("wires", "glitches", "buffers of the clock tree", "pads", "PLL", "bus", "a CPU at work")
"""What the figures leave out."""


@dataclass(frozen=True)
class PartEnergy:
    """pJ per cycle of data toggles and of clock pins, and leakage in uW."""

    data: float = 0.0
    clock: float = 0.0
    leakage: float = 0.0

    def plus(self, other: "PartEnergy") -> "PartEnergy":
        return PartEnergy(self.data + other.data, self.clock + other.clock, self.leakage + other.leakage)

    def pj(self, mhz: float) -> float:
        """Per cycle at a clock: 1 uW over a cycle of 1 us is 1 pJ."""
        return self.data + self.clock + self.leakage / mhz


@dataclass(frozen=True)
class LayerEnergy:
    """What a phase of an inference takes, split into PARTS and into the root's modules, instances of one together, with
    what the root itself has. dynamic: data and clock in all, pJ per cycle, with its error."""

    name: str
    cycles: int
    parts: Mapping[str, PartEnergy]
    units: Mapping[str, PartEnergy]
    dynamic: Estimate

    def pj(self, mhz: float) -> float:
        """Per cycle."""
        return sum(part.pj(mhz) for part in self.parts.values())

    def uj(self, mhz: float) -> float:
        """Of the phase."""
        return self.cycles * self.pj(mhz) * 1e-6


@dataclass(frozen=True)
class InferenceEnergy:
    """The accelerator, its buffers and the system's RAM over one inference; `sampled`: cycles that were looked at."""

    layers: tuple[LayerEnergy, ...]
    sampled: int

    @property
    def cycles(self) -> int:
        return sum(layer.cycles for layer in self.layers)

    def uj(self, mhz: float) -> float:
        return sum(layer.uj(mhz) for layer in self.layers)

    def error(self) -> float | None:
        """Standard error of the whole for sampling, in uJ; None where a layer was seen through one window alone."""
        errors = [layer.dynamic.error for layer in self.layers]
        if any(error is None for error in errors):
            return None
        spread = [layer.cycles * (error or 0.0) * 1e-6 for layer, error in zip(self.layers, errors, strict=True)]
        return float(np.linalg.norm(spread)) if spread else 0.0

    def by_part(self, mhz: float) -> dict[str, float]:
        """uJ by PARTS."""
        return self._total([layer.parts for layer in self.layers], mhz)

    def by_unit(self, mhz: float) -> dict[str, float]:
        """uJ by modules, as in `LayerEnergy`."""
        return self._total([layer.units for layer in self.layers], mhz)

    def _total(self, split: Sequence[Mapping[str, PartEnergy]], mhz: float) -> dict[str, float]:
        total: dict[str, float] = defaultdict(float)
        for layer, parts in zip(self.layers, split, strict=True):
            for name, part in parts.items():
                total[name] += layer.cycles * part.pj(mhz) * 1e-6
        return dict(total)


class Macro(Protocol):
    """An SRAM: pJ per access, and leakage in uW."""

    @property
    def read_pj(self) -> float: ...
    @property
    def write_pj(self) -> float: ...
    @property
    def leakage_uw(self) -> float: ...


Macros = Callable[[int, int], Macro]
Chosen = NDArray[np.bool_]


def inference_energy(
    phases: Sequence[Phase],
    windows: Sequence[Window],
    instances: Sequence[Instance],
    macro: Macros,
    ram: Sequence[PartEnergy],
) -> InferenceEnergy:
    """`instances` were measured in `windows` of `phases`; `macro` is the SRAM of a width and a number of words, `ram`
    what the system's memory takes in every phase."""
    tops = {instance.path: instance.module for instance in instances if len(instance.path) <= 1}
    layers = []
    for number, phase in enumerate(phases):
        seen = np.array([window.phase == number for window in windows])
        steps = instances[0].steps[seen]
        parts: dict[str, PartEnergy] = dict.fromkeys(PARTS, PartEnergy()) | {RAM: ram[number]}
        units: dict[str, PartEnergy] = defaultdict(PartEnergy)
        dynamic = np.zeros(len(steps))
        for instance in instances:
            unit = tops[instance.path[:1]]
            logic, buffers = _logic(instance, seen), _buffers(instance, seen, macro)
            dynamic += (instance.data[seen] + instance.clock[seen]) * 1e-3 + _accesses(instance, seen, macro)
            parts[part_of(instance.path)] = parts[part_of(instance.path)].plus(logic)
            parts[BUFFERS] = parts[BUFFERS].plus(buffers)
            units[unit] = units[unit].plus(logic).plus(buffers)
        layers.append(LayerEnergy(phase.name, phase.cycles, parts, dict(units), estimate(phase, dynamic, steps)))
    return InferenceEnergy(tuple(layers), int(instances[0].steps.sum()))


def _logic(instance: Instance, seen: Chosen) -> PartEnergy:
    steps = instance.steps[seen]
    total = float(steps.sum())
    return PartEnergy(
        float(instance.data[seen].sum()) / total * 1e-3,
        float(instance.clock[seen].sum()) / total * 1e-3,
        float((instance.leakage[seen] * steps).sum()) / total * 1e-3,
    )


def _accesses(instance: Instance, seen: Chosen, macro: Macros) -> NDArray[np.float64]:
    """pJ of its SRAMs in every window."""
    total = np.zeros(int(seen.sum()))
    for found in instance.memories:
        one = macro(found.memory.width, found.memory.words)
        total += found.reads[seen] * one.read_pj + found.writes[seen] * one.write_pj
    return total


def _buffers(instance: Instance, seen: Chosen, macro: Macros) -> PartEnergy:
    leakage = sum(macro(found.memory.width, found.memory.words).leakage_uw for found in instance.memories)
    return PartEnergy(float(_accesses(instance, seen, macro).sum()) / float(instance.steps[seen].sum()), 0.0, leakage)

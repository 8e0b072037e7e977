# SPDX-License-Identifier: Apache-2.0
"""Energy of an inference, layer by layer and part by part, from what windows of its run took."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gen.ppa.energy.measure import Instance
from gen.ppa.energy.parts import PARTS, part_of
from gen.ppa.energy.sampling import Estimate, Phase, Window, estimate

NOT_PRICED = ("wires", "glitches", "buffers of the clock tree", "pads", "PLL")
"""What the figures leave out: none of it is in a netlist before its layout."""


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
    """What a phase of an inference takes per cycle. dynamic: data and clock in all, pJ per cycle, with its error."""

    name: str
    cycles: int
    parts: Mapping[str, PartEnergy]
    dynamic: Estimate

    def pj(self, mhz: float) -> float:
        """Per cycle."""
        return sum(part.pj(mhz) for part in self.parts.values())

    def uj(self, mhz: float) -> float:
        """Of the phase."""
        return self.cycles * self.pj(mhz) * 1e-6


@dataclass(frozen=True)
class InferenceEnergy:
    """The logic of the accelerator over one inference; `sampled`: cycles that were looked at."""

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

    def part(self, name: str, mhz: float) -> float:
        """uJ of one of PARTS."""
        return sum(layer.cycles * layer.parts[name].pj(mhz) * 1e-6 for layer in self.layers)


def inference_energy(
    phases: Sequence[Phase], windows: Sequence[Window], instances: Sequence[Instance]
) -> InferenceEnergy:
    """`instances` were measured in `windows` of `phases`."""
    layers = []
    for number, phase in enumerate(phases):
        seen = np.array([window.phase == number for window in windows])
        steps = instances[0].steps[seen]
        parts = dict.fromkeys(PARTS, PartEnergy())
        dynamic = np.zeros(len(steps))
        for instance in instances:
            dynamic += (instance.data[seen] + instance.clock[seen]) * 1e-3
            name = part_of(instance.path)
            parts[name] = parts[name].plus(_mean(instance, seen))
        layers.append(LayerEnergy(phase.name, phase.cycles, parts, estimate(phase, dynamic, steps)))
    return InferenceEnergy(tuple(layers), int(instances[0].steps.sum()))


def _mean(instance: Instance, seen: np.ndarray) -> PartEnergy:
    steps = instance.steps[seen]
    total = float(steps.sum())
    return PartEnergy(
        float(instance.data[seen].sum()) / total * 1e-3,
        float(instance.clock[seen].sum()) / total * 1e-3,
        float((instance.leakage[seen] * steps).sum()) / total * 1e-3,
    )

# SPDX-License-Identifier: Apache-2.0
"""Cycles of a network on many configurations, estimated together.

The compiler decides for a few of them (`templates`); every other configuration is asked what it takes with the
decisions of the nearest ones, and the best of these counts.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from firmware_gen.targets.descriptor.estimate import CPU_CYCLES
from firmware_gen.targets.descriptor.survey.flow import Known, Uses, run, uses_of
from firmware_gen.targets.descriptor.survey.lanes import Array, Lanes
from firmware_gen.targets.descriptor.survey.memory import Memory, load_cycles, located
from firmware_gen.targets.descriptor.survey.shapes import Waits
from firmware_gen.targets.descriptor.survey.templates import Template
from hls.config import Config


@dataclass(frozen=True)
class Estimate:
    """Of one configuration: cycles of an inference; bytes of RAM that program, constants and activations take; busy
    cycles of the whole inference, of vectors, bus, weights and drain; layers of the CPU, which are not counted."""

    cycles: int
    ram: int
    busy: dict[str, float]
    left_out: tuple[str, ...]


def decided_alike(config: Config) -> Hashable:
    """What configurations have in common for which the same is decided, whatever the size of the array."""
    buffers = (config.scratchpad_words, config.activation_words, config.weight_bytes, config.accumulator_entries)
    memory = (config.memory_banks, config.memory_banks_interleaved, config.bank_kib)
    return (*buffers, *memory, config.functions, config.multiply, config.ports)


def survey(templates: Sequence[Template], configs: Sequence[Config]) -> list[Estimate | str]:
    """An estimate for every configuration, or why there is none."""
    lanes, known = Lanes(configs), Known()
    best = np.full(len(lanes), np.inf)
    ram = np.zeros(len(lanes))
    refused: list[str | None] = [None] * len(lanes)
    busy = {name: np.zeros(len(lanes)) for name in ("vectors", "bus", "weights", "drain")}
    left_out = templates[0].on_cpu
    for template in templates:
        uses = uses_of(template.links, lanes, known)
        memory = located(template, lanes, uses)
        total, own_busy = _cycles(template, lanes, uses, memory)
        bytes_, why = memory.ram, memory.why
        ok = np.array([w is None for w in why])
        better = ok & (total < best)
        best, ram = np.where(better, total, best), np.where(better, bytes_, ram)
        for name in busy:
            busy[name] = np.where(better, own_busy[name], busy[name])
        refused = why if template is templates[0] else refused
    return [
        Estimate(round(float(best[i])), int(ram[i]), {name: float(b[i]) for name, b in busy.items()}, left_out)
        if np.isfinite(best[i])
        else str(refused[i])
        for i in range(len(lanes))
    ]


def _cycles(template: Template, lanes: Lanes, uses: Sequence[Uses], memory: Memory) -> tuple[Array, dict[str, Array]]:
    total = np.zeros(len(lanes))
    busy = {name: np.zeros(len(lanes)) for name in ("vectors", "bus", "weights", "drain")}
    for first, end in template.lists:
        chosen = (
            (template.links[i], uses[i].with_waits(_waits(template, i, lanes, memory))) for i in range(first, end)
        )
        flow = run(chosen, lanes, memory.descriptors)
        total += flow.done + CPU_CYCLES
        for name in busy:
            busy[name] = busy[name] + getattr(flow, f"busy_{name}")
    return total, busy


def _waits(template: Template, number: int, lanes: Lanes, memory: Memory) -> Waits:
    link = template.links[number]
    weights, params = template.weights_of[number], template.params_of[number]
    shared = np.where(memory.banks > 1, 1, lanes.ports)  # by the words of a beat in one bank
    return Waits(
        memory.cycles[weights] if weights >= 0 else 1.0,
        memory.cycles[params] if params >= 0 else 1.0,
        1.0 if link.load_chip else load_cycles(link.shape, lanes, memory.banks),
        max(1, link.stores_on_bus) * (shared if link.stores_on_bus else 1),
    )

# SPDX-License-Identifier: Apache-2.0
"""Cycles of a network on many configurations, estimated together.

The compiler decides for a few of them (`templates`); every other configuration is asked what it takes with the
decisions of the nearest ones, and the best of these counts.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from firmware_gen.memory import planner
from firmware_gen.targets.descriptor.estimate import CPU_CYCLES
from firmware_gen.targets.descriptor.survey.flow import Known, run
from firmware_gen.targets.descriptor.survey.lanes import Array, Lanes
from firmware_gen.targets.descriptor.survey.shapes import Geometry
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
        total, own_busy = _cycles(template, lanes, known)
        bytes_, why = _memory(template, lanes)
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


def _cycles(template: Template, lanes: Lanes, known: Known) -> tuple[Array, dict[str, Array]]:
    total = np.zeros(len(lanes))
    busy = {name: np.zeros(len(lanes)) for name in ("vectors", "bus", "weights", "drain")}
    for first, end in template.lists:
        flow = run(template.links[first:end], lanes, known)
        total += flow.done + CPU_CYCLES
        for name in busy:
            busy[name] = busy[name] + getattr(flow, f"busy_{name}")
    return total, busy


def _memory(template: Template, lanes: Lanes) -> tuple[Array, list[str | None]]:
    """Bytes of RAM, and why a configuration has not enough."""
    geometry: dict[int, Geometry] = {}
    sizes = []
    for stream in template.streams:
        own = geometry.setdefault(stream.link, Geometry(template.links[stream.link].shape, lanes))
        sizes.append(own.weight_bytes if stream.weights else own.param_bytes)
    table = np.array(sizes) if sizes else np.zeros((0, len(lanes)))
    fixed = sum(planner.rounded(size) for _, size in template.fixed)
    constants = (np.ceil(table / planner.ALIGN) * planner.ALIGN).sum(axis=0) + fixed
    why: list[str | None] = []
    ram = np.zeros(len(lanes))
    for i, config in enumerate(lanes.configs):
        given = [*template.fixed, *((s.name, int(size)) for s, size in zip(template.streams, table[:, i], strict=True))]
        reason = None
        for arena in template.arenas:
            try:
                planner.locate(template.network, given, arena, config, template.program)
            except planner.DoesNotFit as error:
                reason = str(error)
            else:
                reason = None
                break
        ram[i] = constants[i] + arena + template.program
        why.append(reason)
    return ram, why

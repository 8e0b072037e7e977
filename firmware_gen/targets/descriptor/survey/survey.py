# SPDX-License-Identifier: Apache-2.0
"""Cycles of a network on many configurations, estimated together.

The compiler decides for a few of them (`templates`); every other configuration is asked what it takes with the
decisions of the nearest ones, and the best of these counts.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from firmware_gen.targets.descriptor.survey.flow import Item, Known, Uses, items_of, run
from firmware_gen.targets.descriptor.survey.lanes import Array, Lanes
from firmware_gen.targets.descriptor.survey.memory import Memory, load_cycles, located
from firmware_gen.targets.descriptor.survey.shapes import Waits
from firmware_gen.targets.descriptor.survey.templates import Template
from hls.config import Config


@dataclass(frozen=True)
class Estimate:
    """Of one configuration: cycles of an inference, and those of them that are the CPU's; bytes of RAM that program,
    constants and activations take; of the whole inference, by BUSY; layers whose cycles nobody knows, which are not
    counted. tight: a template that takes less has no room in its memory."""

    cycles: int
    on_cpu: int
    ram: int
    busy: dict[str, float]
    left_out: tuple[str, ...]
    tight: bool = False


class NoRoom(str):
    """Why a network does not run on a configuration: its memory is too small."""


BUSY = ("vectors", "bus", "weights", "drain", "bus_words")
"""Cycles in which these are at work, and words."""


def decided_alike(config: Config) -> Hashable:
    """What configurations have in common for which much the same is decided, whatever the size of the array and the
    number of ports."""
    buffers = (config.scratchpad_words, config.activation_words, config.weight_bytes, config.accumulator_entries)
    memory = (config.memory_banks, config.memory_banks_interleaved, config.bank_kib)
    return (*buffers, *memory, config.functions, config.multiply)


def survey(templates: Sequence[Template], configs: Sequence[Config]) -> list[Estimate | NoRoom]:
    """An estimate for every configuration, or why there is none."""
    lanes = Lanes(configs)
    known = Known(lanes)
    best, roomy = np.full(len(lanes), np.inf), np.full(len(lanes), np.inf)
    ram = np.zeros(len(lanes))
    refused: list[str | None] = [None] * len(lanes)
    busy = {name: np.zeros(len(lanes)) for name in BUSY}
    on_cpu, left_out = np.zeros(len(lanes)), templates[0].on_cpu.left_out
    for template, with_banded in _forms(templates):
        uses = known.uses(template.links)
        if with_banded and not any(use.tiles for use in uses):
            continue
        memory = located(template, lanes, uses, with_banded)
        by_array, own_busy = _cycles(template, lanes, uses, memory, with_banded)
        own_on_cpu = template.on_cpu.on(configs)
        total = by_array + own_on_cpu
        bytes_, why = memory.ram, memory.why
        ok = np.array([w is None for w in why])
        better, roomy = ok & (total < best), np.minimum(roomy, total)
        best, ram = np.where(better, total, best), np.where(better, bytes_, ram)
        on_cpu = np.where(better, own_on_cpu, on_cpu)
        for name in busy:
            busy[name] = np.where(better, own_busy[name], busy[name])
        refused = why if template is templates[0] else refused
    return [
        Estimate(
            round(float(best[i])),
            int(on_cpu[i]),
            int(ram[i]),
            {name: float(b[i]) for name, b in busy.items()},
            left_out,
            bool(roomy[i] < best[i]),
        )
        if np.isfinite(best[i])
        else NoRoom(refused[i])
        for i in range(len(lanes))
    ]


def _forms(templates: Sequence[Template]) -> Iterator[tuple[Template, bool]]:
    """Every template, and whether depthwise layers have banded tiles where these pay: those of a network that was
    compiled with pitches for them have, others have not, or both where the compiler had no such choice."""
    choice = any(template.pitches for template in templates)
    for template in templates:
        if not template.pitches:
            yield template, False
        if template.pitches or not choice:
            yield template, True


def _cycles(
    template: Template, lanes: Lanes, uses: Sequence[Uses], memory: Memory, with_banded: bool
) -> tuple[Array, dict[str, Array]]:
    total = np.zeros(len(lanes))
    busy = {name: np.zeros(len(lanes)) for name in BUSY}
    for first, end in template.lists:
        chosen: list[Item] = []
        for i in range(first, end):
            chosen += items_of(template.links[i], uses[i], _waits(template, i, lanes, memory), with_banded)
        flow = run(chosen, lanes, memory.descriptors)
        total += flow.done
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

# SPDX-License-Identifier: Apache-2.0
"""Where a template's constants lie on many configurations, as `arena.locate_all` places them, and what that costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from firmware_gen.memory import planner
from firmware_gen.memory.knapsack import left_out
from firmware_gen.targets.descriptor.linked.program import DESCRIPTORS
from firmware_gen.targets.descriptor.lowering.job import DESCRIPTOR_BYTES
from firmware_gen.targets.descriptor.survey.flow import Uses
from firmware_gen.targets.descriptor.survey.lanes import Array, Lanes
from firmware_gen.targets.descriptor.survey.shapes import Shape
from firmware_gen.targets.descriptor.survey.templates import Template
from firmware_gen.targets.descriptor.timing.crossbar import stream_cycles
from hls.config import Config
from hls.descriptor.interface.table import WORDS


@dataclass(frozen=True)
class Memory:
    """Arrays, one element per configuration. ram: bytes that program, constants and activations take; why: there is not
    enough, or None. descriptors: cycles of the memory for a beat of them; of a stream of constants, by its number:
    `cycles`. banks: that activations are interleaved over, 1 where they lie in contiguous banks.
    """

    ram: Array
    why: list[str | None]
    descriptors: Array
    cycles: Array
    banks: Array


class _Plan:
    """Constants (constants, configurations) beside an arena of so many bytes."""

    def __init__(self, lanes: Lanes, sizes: Array, losses: Array, arena: int, program: int):
        border, end = lanes.border, lanes.end
        arena = planner.rounded(arena)
        own = np.ceil(sizes / planner.ALIGN) * planner.ALIGN
        low_arena = arena > end - border
        room = np.where(low_arena, end - border, end - border - arena)
        free = np.where(low_arena, border - arena, border) - program
        order = np.lexsort((-sizes, -losses / np.maximum(sizes, 1)), axis=0)
        low = np.zeros(sizes.shape, bool)
        left = room - (arena * low_arena)
        lanes_ = np.arange(sizes.shape[1])
        for rank in order:
            size = sizes[rank, lanes_] + planner.ALIGN
            low[rank, lanes_] = size > left
            left = left - np.where(size > left, 0, size)
        fits = (own * low).sum(axis=0) <= free
        for lane in np.flatnonzero(~fits):
            bytes_, places = own[:, lane].astype(int).tolist(), (int(room[lane]), int(free[lane]))
            found = left_out(bytes_, losses[:, lane].tolist(), *places, planner.ALIGN)
            if found is None:  # in their own order, which may fit where many are small
                low[:, lane] = own[::-1, lane].cumsum()[::-1] > room[lane]
            else:
                low[:, lane] = False
                low[found, lane] = True
        self.low = low
        self.fits = (own * low).sum(axis=0) <= free
        self.low_bytes = np.where(self.fits, (sizes * low).sum(axis=0), np.inf)
        self.arena = np.where(low_arena, 0, border + (own * ~low).sum(axis=0))


def located(template: Template, lanes: Lanes, uses: Sequence[Uses], with_banded: bool) -> Memory:
    """uses: of every link. with_banded: depthwise layers have banded tiles where these pay."""
    sizes, losses = _constants(template, lanes, uses, with_banded)
    more = template.more if with_banded else 0
    arenas = [arena + more for arena in template.arenas]
    plans = [_Plan(lanes, sizes, losses, arena, template.program) for arena in arenas]
    kept, freed = plans
    several = lanes.ports > 1  # otherwise inputs are kept wherever that fits
    freely = ~kept.fits | (several & (freed.low_bytes < kept.low_bytes))
    low = np.where(freely, freed.low, kept.low)
    arena = np.where(freely, arenas[1], arenas[0])
    cycles = np.where(low, lanes.ports, 1)
    number = {name: i for i, name in enumerate(template.constants)}
    known = sizes.sum(axis=0) - sizes[number[DESCRIPTORS]] + template.program
    turns = template.turns + more + known + template.descriptors * DESCRIPTOR_BYTES
    too_much = (template.turns > 0) & (turns > lanes.end)
    fits = freed.fits & ~too_much
    return Memory(
        sizes.sum(axis=0) + arena + template.program,
        [None if own else _why(template, sizes[:, i], arenas[1], lanes.configs[i]) for i, own in enumerate(fits)],
        cycles[number[DESCRIPTORS]],
        cycles[[number[stream.name] for stream in template.streams]],
        _banks(np.where(freely, freed.arena, kept.arena), lanes),
    )


def _constants(template: Template, lanes: Lanes, uses: Sequence[Uses], with_banded: bool) -> tuple[Array, Array]:
    """Bytes of every constant, and cycles that it costs in contiguous banks, as in `arena`."""
    sizes = dict.fromkeys(template.constants, np.zeros(len(lanes)))
    losses = dict(sizes)
    sizes |= {name: np.full(len(lanes), float(size)) for name, size in template.fixed}
    more = lanes.ports - 1
    losses[DESCRIPTORS] = more * len(template.links) * WORDS / lanes.ports
    readers = zip(template.links, uses, template.weights_of, template.params_of, strict=True)
    for link, use, weights_of, params_of in readers:
        weights, params, slack = use.constants(link, with_banded)
        for number, beats in ((weights_of, weights), (params_of, params)):
            if number >= 0:
                name = template.streams[number].name
                losses[name] = losses[name] + np.maximum(0, more * beats - slack)
    for stream in template.streams:
        weights, params = uses[stream.link].sizes(with_banded)
        sizes[stream.name] = weights if stream.weights else params
    return np.array([sizes[name] for name in template.constants]), np.array([losses[n] for n in template.constants])


def _why(template: Template, sizes: NDArray[np.float64], arena: int, config: Config) -> str:
    given = [(name, int(size)) for name, size in zip(template.constants, sizes, strict=True)]
    try:
        planner.locate(template.network, given, arena, config, template.program)
    except planner.DoesNotFit as error:
        return str(error)
    return f"{template.network} does not fit: there is no memory for layers that take turns"


def _banks(address: Array, lanes: Lanes) -> Array:
    found = np.ones(len(lanes))
    for i, config in enumerate(lanes.configs):
        first = config.contiguous_bytes
        for size in config.memory_banks_interleaved:
            if first <= address[i] < first + size * config.bank_bytes:
                found[i] = size
            first += size * config.bank_bytes
    return found


def load_cycles(shape: Shape, lanes: Lanes, banks: Array) -> Array:
    """Cycles of the memory for a beat of input words, on average."""
    found = np.ones(len(lanes))
    if shape.flat:
        return np.where(banks > 1, found, lanes.ports)
    for ports, size in {*zip(lanes.ports.astype(int).tolist(), banks.astype(int).tolist(), strict=True)}:
        cycles = _load_cycles(
            min(shape.load_c_count, WORDS_SEEN), shape.load_c_stride % size, shape.load_x_stride % size, ports, size
        )
        found = np.where((lanes.ports == ports) & (banks == size), cycles, found)
    return found


PIXELS, WORDS_SEEN = 32, 512
"""Of which the memory is watched, and words of each."""


@lru_cache(maxsize=1024)
def _load_cycles(channels: int, c_stride: int, x_stride: int, ports: int, banks: int) -> float:
    words = [(x * x_stride + c * c_stride) % banks for x in range(PIXELS) for c in range(channels)]
    rows = [words[x * channels : (x + 1) * channels] for x in range(PIXELS)]
    beats = [tuple(row[c : c + ports]) for row in rows for c in range(0, channels, ports)]
    return stream_cycles(beats, ports) if any(len(set(beat)) < len(beat) for beat in beats) else 1.0

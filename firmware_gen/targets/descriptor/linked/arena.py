# SPDX-License-Identifier: Apache-2.0
"""Where activations, profile records and constants of a network lie in memory."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from firmware_gen import ir
from firmware_gen.memory import planner
from firmware_gen.memory.arena import (
    Arena,
    accesses,
    buffers_of,
    check_states,
    extent,
    keeping,
    places_of,
    program_bytes,
)
from firmware_gen.memory.knapsack import left_out
from firmware_gen.targets.descriptor.linked.program import DESCRIPTORS, PROFILE, Lowered, Program
from firmware_gen.targets.descriptor.lowering.depth_first import Group
from firmware_gen.targets.descriptor.lowering.job import Job, activations, constants, on_bus
from firmware_gen.targets.descriptor.scratchpad.homes import Home
from firmware_gen.targets.descriptor.timing.demand import demand, weights_fit
from hls.config import Config
from hls.descriptor.interface.table import PROFILE_RECORD, WORDS
from hls.errors import HeepgenError


def plan_arena(
    graph: ir.Graph,
    lowered: Lowered,
    groups: Sequence[Group],
    arrays: Mapping[str, np.ndarray],
    records: int,
    keep_all: bool,
    scratchpad: Mapping[str, Home],
    config: Config,
    keep_inputs: bool = True,
) -> Arena:
    """Inputs are kept if `keep_inputs`, that fits, and costs no constant its place in interleaved banks, where several
    ports need it."""
    tensors, layers, jobs = lowered.tensors, lowered.layers, lowered.jobs
    plans: list[Arena] = []
    for keep in keeping(keep_all, keep_inputs):
        buffers = [b for b in buffers_of(graph, tensors, layers, keep, keep_all) if b.name not in scratchpad]
        for group in groups:  # a layer that takes turns reads until the last one is done
            near = {t.storage for step in group.steps for t in (*layers[step].sources, layers[step].target)}
            buffers = [b.through(group.steps[0], group.steps[-1]) if b.name in near else b for b in buffers]
        if records:
            buffers.append(planner.Buffer(PROFILE, 4 * len(PROFILE_RECORD) * records, -1, len(layers)))
        offsets = planner.allocate(buffers)
        try:
            placed, address = locate_all(graph, jobs, arrays, extent(buffers, offsets), config)
        except HeepgenError:
            if not plans and (not keep or keep_all):
                raise
        else:
            plans.append(Arena(tuple(buffers), offsets, keep, tuple(placed), address))
    border = planner.memory_map(config)[0] if config.ports > 1 else 0
    plan = min(plans, key=lambda plan: sum(p.size for p in plan.constants if p.address < border))
    # What is on chip lies apart here, whatever its ring; `homes.check` proves rings
    places = places_of(tensors, plan.offsets, (*scratchpad, *graph.constants), plan.bytes)
    kept = {v: places[v] for v in graph.arguments if plan.keeps_input}
    if records:
        kept[PROFILE] = plan.offsets[PROFILE] // 4 + np.arange(len(PROFILE_RECORD) * records)
    planner.check_overlaps(places, accesses(graph, places), graph.outputs, kept)
    check_states(graph, places)
    return plan


def locate_all(
    graph: ir.Graph, jobs: Sequence[Job], arrays: Mapping[str, np.ndarray], arena: int, config: Config
) -> tuple[list[planner.Placed], int]:
    """`planner.locate`; where the interleaved banks do not hold all constants, they hold those that gain by it."""
    sizes, lost = {n: 4 * len(a) for n, a in arrays.items()}, _contiguous_losses(jobs, config)
    low: Sequence[str] = _outside(sizes, lost, arena, config)

    def located(low: Iterable[str]) -> tuple[list[planner.Placed], int]:
        names = dict.fromkeys([*low, *sizes])
        return planner.locate(graph.name, [(n, sizes[n]) for n in names], arena, config, program_bytes(graph))

    try:
        return located(low)
    except planner.DoesNotFit:  # nor do the contiguous banks hold the rest
        own, loss = [planner.rounded(size) for size in sizes.values()], [lost.get(name, 0) for name in sizes]
        found = left_out(own, loss, *planner.rooms(arena, config, program_bytes(graph)), planner.ALIGN)
        return located([list(sizes)[number] for number in found or ()])


def losses(jobs: Sequence[Job], arrays: Mapping[str, np.ndarray], config: Config) -> Callable[[int, int], float]:
    """Cycles that constants lose which interleaved banks do not hold beside an arena of so many bytes, and with so many
    descriptors more than `jobs`. arrays: constants, without descriptors."""
    sizes, lost = {n: 4 * len(a) for n, a in arrays.items()}, _contiguous_losses(jobs, config)
    size, loss = 4 * WORDS, lost[DESCRIPTORS] / max(len(jobs), 1)  # of a descriptor

    def found(arena: int, more: int) -> float:
        count = len(jobs) + more
        own = lost | {DESCRIPTORS: count * loss}
        return sum(own.get(name, 0) for name in _outside({DESCRIPTORS: count * size} | sizes, own, arena, config))

    return found


def lost_by_constants(program: Program) -> float:
    """Cycles that those lose which lie in contiguous banks."""
    lost, border = _contiguous_losses(program.jobs, program.config), planner.memory_map(program.config)[0]
    return sum(lost.get(name, 0) for name, placed in program.placed.items() if placed.address < border)


def _outside(sizes: Mapping[str, int], lost: Mapping[str, float], arena: int, config: Config) -> list[str]:
    """Constants that interleaved banks do not hold beside an arena, of sizes in bytes, by what each loses then."""
    border, end = planner.memory_map(config)
    low, room = [], end - border - arena
    if sum(sizes.values()) + len(sizes) * planner.ALIGN <= room:
        return []
    for name in sorted(sizes, key=lambda n: (-lost.get(n, 0) / max(sizes[n], 1), -sizes[n])):
        if sizes[name] + planner.ALIGN > room:
            low.append(name)
        else:
            room -= sizes[name] + planner.ALIGN
    return low


def _contiguous_losses(jobs: Sequence[Job], config: Config) -> dict[str, float]:
    """What constants, by name, lose in contiguous banks, where the words of a beat wait for each other: the beats more
    that a layer's vectors, or its stores, do not hide. Ranks them, and predicts nothing."""
    losses: dict[str, float] = {DESCRIPTORS: (config.ports - 1) * len(jobs) * WORDS / config.ports}
    for job in jobs:
        f = job.descriptor
        strips = -(-f.out_px // min(f.out_px, config.accumulator_entries // f.cbg))
        beats = demand(f, config).beats(1 if weights_fit(f, config) else strips, strips)
        bus = on_bus(f, beats)
        slack = max(0, max(job.vectors, beats["STORE"]) - bus)
        for stream, where in (activations(f) | constants(f)).items():  # those of activations are of no constant
            loss = max(0, (config.ports - 1) * beats[stream] - slack)
            losses[where.name] = losses.get(where.name, 0) + loss
    return losses

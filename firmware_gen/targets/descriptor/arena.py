# SPDX-License-Identifier: Apache-2.0
"""Where activations and constants of a network lie in memory, and the report of it."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from firmware_gen import ir
from firmware_gen.memory import planner
from firmware_gen.operations.tensors import Tensor, shares_storage
from firmware_gen.targets.descriptor.lowering.depth_first import Group
from firmware_gen.targets.descriptor.lowering.pieces import Job
from firmware_gen.targets.descriptor.place.residency import Home
from firmware_gen.targets.descriptor.program import DESCRIPTORS, PROFILE, Layer, Lowered
from firmware_gen.targets.descriptor.timing.demand import demand, is_on_chip, weights_fit
from hls.config import Config
from hls.descriptor.interface.table import PROFILE_RECORD, WORDS
from hls.errors import HeepgenError


@dataclass(frozen=True)
class Arena:
    """Where buffers lie in the arena, where it lies beside the constants, and whether the input survives a call."""

    buffers: list[planner.Buffer]
    offsets: dict[str, int]
    keeps_input: bool
    constants: list[planner.Placed]
    address: int

    @property
    def bytes(self) -> int:
        return _extent(self.buffers, self.offsets)


def program_bytes(graph: ir.Graph) -> int:
    """Room kept for the program, which also holds what the outputs must be."""
    return planner.PROGRAM_BYTES + 4 * sum(graph.values[value].size for value in graph.outputs)


def plan_arena(
    graph: ir.Graph,
    lowered: Lowered,
    groups: Sequence[Group],
    arrays: Mapping[str, np.ndarray],
    records: int,
    keep_all: bool,
    scratchpad: Mapping[str, Home],
    config: Config,
) -> Arena:
    """The input is kept if that fits, and costs no constant its place in interleaved banks, where several ports need
    it."""
    tensors, layers, jobs = lowered.tensors, lowered.layers, lowered.jobs
    plans: list[Arena] = []
    for keep in (True,) if keep_all else (True, False):
        buffers = [
            b for b in buffers_of(graph, tensors, layers, groups, records, keep, keep_all) if b.name not in scratchpad
        ]
        offsets = planner.allocate(buffers)
        try:
            located = locate_all(graph, jobs, arrays, _extent(buffers, offsets), config)
        except HeepgenError:
            if not plans and (not keep or keep_all):
                raise
        else:
            plans.append(Arena(buffers, offsets, keep, *located))
    border = planner.memory_map(config)[0] if config.ports > 1 else 0
    plan = min(plans, key=lambda plan: sum(p.size for p in plan.constants if p.address < border))
    # What is on chip lies apart here, whatever its ring; `residency.check` proves rings
    extents = _sizes(tensors)
    ends = itertools.accumulate((extents[name] for name in scratchpad), initial=plan.bytes)
    offsets = plan.offsets | dict(zip(scratchpad, ends, strict=False))
    places = {v: offsets[t.storage] // 4 + t.words() for v, t in tensors.items()}
    kept = {graph.inputs[0]: places[graph.inputs[0]]} if plan.keeps_input else {}
    if records:
        kept[PROFILE] = offsets[PROFILE] // 4 + np.arange(len(PROFILE_RECORD) * records)
    planner.check_overlaps(places, _accesses(graph, places), graph.outputs, kept)
    return plan


def locate_all(
    graph: ir.Graph, jobs: Sequence[Job], arrays: Mapping[str, np.ndarray], arena: int, config: Config
) -> tuple[list[planner.Placed], int]:
    """`planner.locate`; where the interleaved banks do not hold all constants, they hold those that gain by it."""
    sizes = {n: 4 * len(a) for n, a in arrays.items()}
    border, end = planner.memory_map(config)
    losses = _contiguous_losses(jobs, config)
    low, room = [], end - border - arena
    for name in sorted(sizes, key=lambda n: (-losses.get(n, 0) / sizes[n], -sizes[n])):
        if sizes[name] + planner.ALIGN > room:
            low.append(name)
        else:
            room -= sizes[name] + planner.ALIGN

    def located(names: Iterable[str]) -> tuple[list[planner.Placed], int]:
        return planner.locate(graph.name, [(n, sizes[n]) for n in names], arena, config, program_bytes(graph))

    try:
        return located([*low, *(n for n in sizes if n not in low)])
    except planner.DoesNotFit:  # nor do the contiguous banks hold the rest: in their own order less room is lost
        return located(sizes)


def _contiguous_losses(jobs: Sequence[Job], config: Config) -> dict[str, float]:
    """Cycles that constants, by name, cost in contiguous banks, where the words of a beat wait for each other: those
    that a layer's vectors, or its stores, do not hide."""
    losses: dict[str, float] = {DESCRIPTORS: (config.ports - 1) * len(jobs) * WORDS / config.ports}
    for job in jobs:
        f = job.fields
        strips = -(-f["OUT_PX"] // min(f["OUT_PX"], config.accumulator_entries // f["CBG"]))
        beats = demand(f, config).beats(1 if weights_fit(f, config) else strips, strips)
        bus = sum(n for stream, n in beats.items() if not is_on_chip(f, stream))
        slack = max(0, max(job.vectors, beats["STORE"]) - bus)
        for stream in ("WEIGHT", "PARAM"):
            if f"{stream}_ADDR" in f:
                name = f[f"{stream}_ADDR"].name
                losses[name] = losses.get(name, 0) + max(0, (config.ports - 1) * beats[stream] - slack)
    return losses


def _accesses(graph: ir.Graph, places: Mapping[str, np.ndarray]) -> list[planner.Access]:
    """What every layer reads, defines and writes: a Reshape or Permute nothing, a Concat what is not there yet."""
    accesses = [planner.Access((), v, np.full(places[v].shape, True)) for v in graph.inputs]
    for node in graph.nodes:
        place = places[node.output]
        writes = np.full(place.shape, not shares_storage(graph, node))
        if isinstance(node, ir.Concat):
            writes = np.concatenate([places[v] for v in node.inputs], axis=min(1, place.ndim - 1)) != place
        accesses.append(planner.Access(node.inputs, node.output, writes))
    return accesses


def buffers_of(
    graph: ir.Graph,
    tensors: Mapping[str, Tensor],
    layers: Sequence[Layer],
    groups: Sequence[Group],
    records: int,
    keep_input: bool,
    keep_all: bool,
) -> list[planner.Buffer]:
    born: dict[str, int] = {}
    dies: dict[str, int] = {}
    storage = {v: t.storage for v, t in tensors.items()}
    born[storage[graph.inputs[0]]] = -1
    for step, layer in enumerate(layers):
        born.setdefault(layer.target.storage, step)
        for tensor in (*layer.sources, layer.target):
            dies[tensor.storage] = step
    end = len(layers)
    dies |= dict.fromkeys((storage[v] for v in graph.outputs), end)
    if keep_input:
        dies[storage[graph.inputs[0]]] = end
    if keep_all:
        dies = dict.fromkeys(born, end)
    sizes = _sizes(tensors)
    buffers = [planner.Buffer(n, sizes[n], born[n], dies[n]) for n in born]
    for group in groups:  # a layer that takes turns reads until the last one is done
        near = {t.storage for step in group.steps for t in (*layers[step].sources, layers[step].target)}
        buffers = [b.through(group.steps[0], group.steps[-1]) if b.name in near else b for b in buffers]
    if records:
        buffers.append(planner.Buffer(PROFILE, 4 * len(PROFILE_RECORD) * records, -1, end))
    return buffers


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes of every storage."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.storage] = max(sizes.get(tensor.storage, 0), 4 * tensor.extent)
    return sizes


def _extent(buffers: Sequence[planner.Buffer], offsets: Mapping[str, int]) -> int:
    return max(offsets[b.name] + b.size for b in buffers)


def _working_set(layer: Layer) -> int:
    """Bytes that a layer reads and writes; what it overwrites, or joins, counts once."""
    storages: dict[str, int] = {}
    for tensor in (*layer.sources, layer.target):
        storages[tensor.storage] = max(storages.get(tensor.storage, 0), 4 * tensor.size)
    return sum(storages.values())


def memory_report(graph: ir.Graph, layers: Sequence[Layer], arena: Arena, config: Config) -> planner.MemoryReport:
    steps = tuple(layer.name for layer in layers)
    activations = [b for b in arena.buffers if b.name != PROFILE]
    alive, step = planner.peak(activations, len(steps))
    sizes = [(p.name, p.size) for p in arena.constants]
    return planner.MemoryReport(
        graph.name,
        planner.memory_map(config)[1],
        sum(p.size for p in arena.constants),
        sum(p.size for p in arena.constants if "_weights" in p.name),
        sum(b.size for b in activations),
        arena.bytes,
        program_bytes(graph),
        alive,
        steps[min(max(step, 0), len(steps) - 1)] if steps else "",
        max((_working_set(layer) for layer in layers), default=0),
        planner.smallest_memory(sizes, arena.bytes, config, program_bytes(graph)),
        steps,
        tuple(
            {
                "name": b.name,
                "address": arena.address + arena.offsets[b.name],
                "size": b.size,
                "born": b.born,
                "dies": b.dies,
            }
            for b in arena.buffers
        ),
        tuple({"name": p.name, "address": p.address, "size": p.size} for p in arena.constants),
    )

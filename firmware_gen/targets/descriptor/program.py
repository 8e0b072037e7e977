# SPDX-License-Identifier: Apache-2.0
"""A compiled network: every descriptor, constant and address, ready to be run or printed as C++."""

import itertools
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from firmware_gen import ir
from firmware_gen.targets.descriptor.lowering import depth_first
from firmware_gen.targets.descriptor.lowering.depth_first import Group
from firmware_gen.targets.descriptor.lowering.jobs import NotInPlace
from firmware_gen.targets.descriptor.lowering.pieces import Constants, Job
from firmware_gen.targets.descriptor.lowering.tensors import Ref, Tensor, copy_outputs, lay_out, shares_storage
from firmware_gen.targets.descriptor.lowering.tiling import lower_bound
from firmware_gen.targets.descriptor.order import order
from firmware_gen.targets.descriptor.place import planner, residency
from firmware_gen.targets.descriptor.timing.demand import demand, is_on_chip, weights_fit
from hls.config import Config
from hls.descriptor.interface.table import (
    ARENA,
    CONTIGUOUS,
    INTERLEAVED,
    PROFILE_RECORD,
    SCRATCHPAD,
    WORDS,
    address,
    pack,
    unpack,
)
from hls.errors import HeepgenError

DESCRIPTORS, PROFILE = "descriptors", "profile"

DESCRIPTOR_BYTES = 4 * (WORDS + len(PROFILE_RECORD))

TURNS = 100
"""More descriptors, of layers that take turns, for which memory is kept when they are chosen."""


@dataclass(frozen=True)
class Layer:
    """A node of the graph on the device; `descriptors` are the indices of its own, in order, none on the CPU."""

    node: ir.Node
    op: str
    in_shape: ir.Shape
    out_shape: ir.Shape
    macs: int
    descriptors: tuple[int, ...]
    bound_cycles: int
    sources: tuple[Tensor, ...]
    target: Tensor

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def on_cpu(self) -> bool:
        return self.node.runs_on is ir.Place.CPU


@dataclass(frozen=True)
class Lowered:
    """Every layer of a network as jobs, nothing placed yet."""

    tensors: dict[str, Tensor]
    constants: Constants
    jobs: list[Job]
    layers: list[Layer]


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


@dataclass(frozen=True)
class Program:
    """Constants by name, each with its address; everything else is derived from addresses.

    offsets: of storages in the arena. scratchpad: homes of those that are on chip instead. whole: the network as it was
    lowered with every tensor in memory.
    """

    graph: ir.Graph
    config: Config
    layers: tuple[Layer, ...]
    jobs: tuple[Job, ...]
    tensors: dict[str, Tensor]
    constants: dict[str, np.ndarray] = field(repr=False)
    placed: dict[str, planner.Placed] = field(repr=False)
    arena_address: int
    arena_bytes: int
    offsets: dict[str, int]
    scratchpad: dict[str, residency.Home]
    report: planner.MemoryReport
    keeps_input: bool
    whole: Lowered = field(repr=False)

    @cached_property
    def in_memory(self) -> "Program":
        """The same network with every tensor whole and in memory, as the CPU's kernels need it."""
        if not self.scratchpad:
            return self
        return _placed(self.graph, replace(self.config, scratchpad_words=0), self.whole, self.whole)

    @property
    def bases(self) -> list[int]:
        """BASE registers; LIMIT registers are `limits`. Both are 0 for a region that holds nothing, or is on chip."""
        return [first for first, _ in self._regions]

    @property
    def limits(self) -> list[int]:
        return [end for _, end in self._regions]

    @cached_property
    def _regions(self) -> tuple[tuple[int, int], ...]:
        arena = self.arena_address, self.arena_address + self.arena_bytes
        return self._constants(CONTIGUOUS), arena, self._constants(INTERLEAVED), (0, 0)

    def region(self, placed: planner.Placed) -> int:
        """Region of a constant."""
        return CONTIGUOUS if placed.address < planner.memory_map(self.config)[0] else INTERLEAVED

    def _constants(self, region: int) -> tuple[int, int]:
        places = [(p.address, p.address + p.size) for p in self.placed.values() if self.region(p) == region]
        return min((first for first, _ in places), default=0), max((last for _, last in places), default=0)

    @property
    def input(self) -> Tensor:
        return self.tensors[self.graph.inputs[0]]

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What the network returns, in order, each contiguous and in PyTorch's order; two may be the same."""
        return tuple(self.tensors[value] for value in self.graph.outputs)

    def descriptor_address(self, index: int) -> int:
        """Descriptor address (region and offset) of a descriptor."""
        return self.resolve(Ref(DESCRIPTORS, WORDS * index))

    def tensor_address(self, value: str) -> int:
        """Absolute byte address of a value; it may have been overwritten when the program ends."""
        tensor = self.tensors[value]
        return self.arena_address + self.offsets[tensor.storage] + 4 * tensor.offset

    def profile_address(self, index: int) -> int:
        """Absolute byte address of the profile record of a descriptor."""
        return self.arena_address + self.offsets[PROFILE] + 4 * len(PROFILE_RECORD) * index

    @property
    def linked(self) -> list[dict[str, Any]]:
        """Fields of the descriptors in memory."""
        return [unpack(row) for row in self.constants[DESCRIPTORS].reshape(-1, WORDS)[: len(self.jobs)]]

    def with_strips(self, strips: Sequence[tuple[int, int]]) -> "Program":
        """The program with other (FIRST_PX, STRIP_PX), one pair per descriptor."""
        fields = [{"FIRST_PX": first, "STRIP_PX": strip} for first, strip in strips]
        jobs = [replace(job, fields=job.fields | new) for job, new in zip(self.jobs, fields, strict=True)]
        if not jobs:
            return self
        words = np.concatenate([pack(old | new) for old, new in zip(self.linked, fields, strict=True)])
        return replace(self, jobs=tuple(jobs), constants=_frozen(self.constants | {DESCRIPTORS: words}))

    @property
    def steps(self) -> list[Any]:
        """What happens in order: (first, last) of a chain of descriptors, or a Layer on the CPU."""
        steps: list[Any] = []
        for layer in self.layers:
            if layer.on_cpu:
                steps.append(layer)
            elif layer.descriptors:
                first, end = layer.descriptors[0], layer.descriptors[-1] + 1
                if steps and isinstance(steps[-1], tuple):
                    first, end = steps[-1][0], max(steps.pop()[1], end)
                steps.append((first, end))
        return steps

    def resolve(self, ref: Ref) -> int:
        """Descriptor address of a symbolic one."""
        if ref.name in self.placed:
            placed = self.placed[ref.name]
            region = self.region(placed)
            return address(region, placed.address - self.bases[region] + 4 * ref.offset)
        if ref.on_chip:
            return address(SCRATCHPAD, 4 * self.scratchpad[ref.name].word(ref.offset))
        return address(ARENA, self.offsets[ref.name] + 4 * ref.offset)


def compile_graph(graph: ir.Graph, config: Config, profile: bool = True, keep_activations: bool = False) -> Program:
    """The first of `compile_choices`."""
    return next(compile_choices(graph, config, profile, keep_activations))


def compile_choices(
    graph: ir.Graph, config: Config, profile: bool = True, keep_activations: bool = False
) -> Iterator[Program]:
    """Compile a quantised graph, once for every choice of what stays on chip.

    profile: every descriptor writes a record. keep_activations: all activations stay in memory, where none shares its
    place with another.
    Raises HeepgenError when a layer or the memory does not fit."""
    if len(graph.inputs) != 1:
        raise HeepgenError(f"{graph.name} has {len(graph.inputs)} inputs; one is supported")
    graph = copy_outputs(graph)
    whole = _lowered(graph, config, not keep_activations)
    fits = False
    if config.scratchpad_words and not keep_activations:
        for groups, scratchpad in _residency(graph, whole, config):
            resident = _lowered(graph, config, True, scratchpad, groups)
            try:
                program = _placed(graph, config, whole, resident, groups, scratchpad, profile)
            except planner.DoesNotFit:  # pieces have more descriptors, and keep their inputs for longer
                continue
            fits = True
            yield program
    if not fits:
        yield _placed(graph, config, whole, whole, profile=profile, keep_activations=keep_activations)


def _placed(
    graph: ir.Graph,
    config: Config,
    whole: Lowered,
    lowered: Lowered,
    groups: Sequence[Group] = (),
    scratchpad: Mapping[str, residency.Home] = MappingProxyType({}),
    profile: bool = False,
    keep_activations: bool = False,
) -> Program:
    """The program of lowered layers, with addresses."""
    jobs, layers = lowered.jobs, lowered.layers
    arrays = {DESCRIPTORS: np.zeros(WORDS * max(len(jobs), 1), np.uint32)} | lowered.constants.arrays
    arena = _plan_arena(graph, lowered, groups, arrays, len(jobs) * profile, keep_activations, scratchpad, config)
    program = Program(
        graph,
        config,
        tuple(layers),
        tuple(jobs),
        lowered.tensors,
        _frozen(arrays),
        {p.name: p for p in arena.constants},
        arena.address,
        arena.bytes,
        arena.offsets,
        dict(scratchpad),
        _report(graph, layers, arena, config),
        arena.keeps_input,
        whole,
    )
    return replace(program, constants=_frozen(arrays | {DESCRIPTORS: _link(program, profile)})) if jobs else program


def _frozen(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def program_bytes(graph: ir.Graph) -> int:
    """Room kept for the program, which also holds what the outputs must be."""
    return planner.PROGRAM_BYTES + 4 * sum(graph.values[value].size for value in graph.outputs)


def _lowered(
    graph: ir.Graph, config: Config, share: bool, on_chip: Container[str] = (), groups: Sequence[Group] = ()
) -> Lowered:
    """Every layer as jobs; a residual that turns out to be needed is not overwritten."""
    separate: set[str] = set()
    while True:
        tensors = lay_out(graph, share, separate, on_chip)
        constants = Constants()
        jobs: list[Job] = []
        own: list[list[int]] = [[] for _ in graph.nodes]
        try:
            for part in depth_first.parts(graph, groups):
                for step, new in depth_first.jobs(graph, part, tensors, constants, config):
                    own[step] += range(len(jobs), len(jobs) + len(new))
                    jobs += new
        except NotInPlace as error:
            separate.add(str(error))
        else:
            layers = [
                _layer(graph, node, tensors, tuple(indices), jobs, config)
                for node, indices in zip(graph.nodes, own, strict=True)
            ]
            return Lowered(tensors, constants, jobs, layers)


def _residency(graph: ir.Graph, whole: Lowered, config: Config):
    """`residency.choose` for a network lowered without layers that take turns, and with all tensors in memory."""
    tensors, jobs, layers = whole.tensors, whole.jobs, whole.layers
    used = program_bytes(graph) + sum(a.nbytes for a in whole.constants.arrays.values()) + len(jobs) * DESCRIPTOR_BYTES
    arena = planner.memory_map(config)[1] - used - TURNS * DESCRIPTOR_BYTES
    outside = {t.storage for layer in layers if layer.on_cpu for t in (*layer.sources, layer.target)}
    outside |= {tensors[v].storage for v in (*graph.inputs, *graph.outputs)}
    buffers = _buffers(graph, tensors, layers, (), 0, False, False)
    own = [[jobs[i] for i in layer.descriptors] for layer in layers]
    return residency.choose(own, depth_first.links(graph, tensors, own), buffers, outside, arena, config)


def _layer(graph, node, tensors, descriptors, jobs, config) -> Layer:
    sources, target = tuple(tensors[v] for v in node.inputs), tensors[node.output]
    own = [jobs[i] for i in descriptors]
    bound = 0
    if own:
        weight = node.weight.size if isinstance(node, ir.Weighted) else 0
        residual = sum(t.size for t in sources[1:]) if any(j.fields.get("RESIDUAL") for j in own) else 0
        inputs = sum(t.size for t in sources) - residual
        loaded = min(inputs, sum(j.fields["LOAD_WORDS"] for j in own)) + residual
        streamed = sum(j.vectors for j in own)
        bound = lower_bound(streamed, loaded, target.size, weight, config.ports)
    return Layer(node, node.op, sources[0].shape, target.shape, graph.macs(node), descriptors, bound, sources, target)


def _plan_arena(graph, lowered, groups, arrays, records, keep_all, scratchpad, config) -> Arena:
    """The input is kept if that fits, and costs no constant its place in interleaved banks, where several ports need
    it."""
    tensors, layers, jobs = lowered.tensors, lowered.layers, lowered.jobs
    plans: list[Arena] = []
    for keep in (True,) if keep_all else (True, False):
        buffers = [
            b for b in _buffers(graph, tensors, layers, groups, records, keep, keep_all) if b.name not in scratchpad
        ]
        offsets = planner.place(buffers)
        try:
            located = _locate(graph, jobs, arrays, _extent(buffers, offsets), config)
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


def _locate(graph, jobs, arrays, arena, config) -> tuple[list[planner.Placed], int]:
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

    def located(names):
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


def _accesses(graph, places) -> list[planner.Access]:
    """What every layer reads, defines and writes: a Reshape or Permute nothing, a Concat what is not there yet."""
    accesses = [planner.Access((), v, np.full(places[v].shape, True)) for v in graph.inputs]
    for node in graph.nodes:
        place = places[node.output]
        writes = np.full(place.shape, not shares_storage(graph, node))
        if isinstance(node, ir.Concat):
            writes = np.concatenate([places[v] for v in node.inputs], axis=min(1, place.ndim - 1)) != place
        accesses.append(planner.Access(node.inputs, node.output, writes))
    return accesses


def _buffers(graph, tensors, layers, groups, records, keep_input, keep_all) -> list[planner.Buffer]:
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


def _extent(buffers, offsets) -> int:
    return max(offsets[b.name] + b.size for b in buffers)


def _working_set(layer: Layer) -> int:
    """Bytes that a layer reads and writes; what it overwrites, or joins, counts once."""
    storages: dict[str, int] = {}
    for tensor in (*layer.sources, layer.target):
        storages[tensor.storage] = max(storages.get(tensor.storage, 0), 4 * tensor.size)
    return sum(storages.values())


def _report(graph, layers, arena: Arena, config) -> planner.MemoryReport:
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


def _link(program: Program, profile: bool) -> np.ndarray:
    """All descriptors with addresses, chained up to the next operator on the CPU."""
    chain = []
    by_cpu = {layer.target.storage for layer in program.layers if layer.on_cpu}
    residency.check(program.jobs, program.scratchpad, program.offsets, program.arena_bytes, by_cpu, program.config)
    ends = {step[1] for step in program.steps if isinstance(step, tuple)}
    for index, job in enumerate(program.jobs):
        fields = {k: program.resolve(v) if isinstance(v, Ref) else v for k, v in job.fields.items()}
        fields |= {
            f"{stream}_RING": program.scratchpad[name].ring
            for stream, name in residency.streams(job)
            if name in program.scratchpad
        }
        last = index + 1 in ends
        fields |= {"LAST": int(last), "NEXT": 0 if last else program.descriptor_address(index + 1)}
        if profile:
            offset = program.profile_address(index) - program.arena_address
            fields |= {"PROFILE": 1, "PROFILE_ADDR": address(ARENA, offset)}
        chain.append(fields)
    for before, after in zip(chain, chain[1:]):
        order(before, after)
    return np.concatenate([pack(fields) for fields in chain])

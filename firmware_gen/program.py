"""A compiled network: every descriptor, constant and address, ready to be run or printed as C++."""

from dataclasses import dataclass, field

import numpy as np

from firmware_gen import ir, lower, planner
from firmware_gen.lower import Constants, Job, Ref, Tensor
from firmware_gen.order import order
from firmware_gen.tiling import lower_bound
from hls.config import Config
from hls.descriptor import PROFILE_RECORD, WORDS, address, pack
from hls.errors import HeepgenError

CONSTANTS, ARENA = 0, 1
"""Regions of descriptor addresses."""

DESCRIPTORS, PROFILE = "descriptors", "profile"


@dataclass(frozen=True)
class Layer:
    """A node of the graph on the device. Its descriptors are `first`..`last` - 1; none for a CPU operator."""

    node: ir.Node
    op: str
    in_shape: ir.Shape
    out_shape: ir.Shape
    macs: int
    first: int
    last: int
    bound_cycles: int
    sources: tuple[Tensor, ...]
    target: Tensor

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def on_cpu(self) -> bool:
        return isinstance(self.node, lower.CPU_NODES)


@dataclass(frozen=True)
class Program:
    """Constants by name, each with its address; everything else is derived from addresses."""

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
    report: planner.MemoryReport
    keeps_input: bool

    @property
    def bases(self) -> list[int]:
        """BASE registers; LIMIT registers are `limits`."""
        return [min(p.address for p in self.placed.values()), self.arena_address, 0, 0]

    @property
    def limits(self) -> list[int]:
        return [max(p.address + p.size for p in self.placed.values()), self.arena_address + self.arena_bytes, 0, 0]

    @property
    def input(self) -> Tensor:
        return self.tensors[self.graph.inputs[0]]

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What the network returns, in order, each contiguous and in PyTorch's order; two may be the same."""
        return tuple(self.tensors[value] for value in self.graph.outputs)

    def descriptor_address(self, index: int) -> int:
        """Descriptor address (region and offset) of a descriptor."""
        return address(CONSTANTS, self.placed[DESCRIPTORS].address + 4 * WORDS * index - self.bases[CONSTANTS])

    def tensor_address(self, value: str) -> int:
        """Absolute byte address of a value; it may have been overwritten when the program ends."""
        tensor = self.tensors[value]
        return self.arena_address + self.offsets[tensor.storage] + 4 * tensor.offset

    def profile_address(self, index: int) -> int:
        """Absolute byte address of the profile record of a descriptor."""
        return self.arena_address + self.offsets[PROFILE] + 4 * len(PROFILE_RECORD) * index

    @property
    def steps(self) -> list:
        """What happens in order: (first, last) of a chain of descriptors, or a Layer on the CPU."""
        steps: list = []
        for layer in self.layers:
            if layer.on_cpu:
                steps.append(layer)
            elif layer.last > layer.first:
                if steps and isinstance(steps[-1], tuple):
                    steps[-1] = (steps[-1][0], layer.last)
                else:
                    steps.append((layer.first, layer.last))
        return steps

    def resolve(self, ref: Ref) -> int:
        """Descriptor address of a symbolic one."""
        if ref.name in self.placed:
            return address(CONSTANTS, self.placed[ref.name].address - self.bases[CONSTANTS] + 4 * ref.offset)
        return address(ARENA, self.offsets[ref.name] + 4 * ref.offset)


def compile_graph(graph: ir.Graph, config: Config, profile: bool = True, keep_activations: bool = False) -> Program:
    """Compile a quantised graph.

    profile: every descriptor writes a record. keep_activations: no activation shares its memory with another.
    Raises HeepgenError when a layer or the memory does not fit."""
    if len(graph.inputs) != 1:
        raise HeepgenError(f"{graph.name} has {len(graph.inputs)} inputs; one is supported")
    graph = lower.copy_outputs(graph)
    tensors, constants, jobs, layers = _lowered(graph, config, not keep_activations)
    arrays = {DESCRIPTORS: np.zeros(WORDS * max(len(jobs), 1), np.uint32)} | constants.arrays
    buffers, offsets, keeps_input = _plan_arena(
        graph, tensors, layers, arrays, len(jobs) * profile, keep_activations, config)
    arena = _extent(buffers, offsets)
    placed, arena_address = planner.locate(graph.name, [(n, 4 * len(a)) for n, a in arrays.items()], arena, config,
                                           program_bytes(graph))
    report = _report(graph, layers, buffers, offsets, placed, arena_address, arena, config)
    program = Program(graph, config, tuple(layers), tuple(jobs), tensors, arrays, {p.name: p for p in placed},
                      arena_address, arena, offsets, report, keeps_input)
    if jobs:
        program.constants[DESCRIPTORS][:] = _link(program, profile)
    return program


def program_bytes(graph: ir.Graph) -> int:
    """Room kept for the program, which also holds what the outputs must be."""
    return planner.PROGRAM_BYTES + 4 * sum(graph.values[value].size for value in graph.outputs)


def _lowered(graph: ir.Graph, config: Config, share: bool):
    """Tensors, constants, jobs and layers; a residual that turns out to be needed is not overwritten."""
    separate: set[str] = set()
    while True:
        tensors = lower.tensors(graph, share, separate)
        constants = Constants()
        jobs: list[Job] = []
        layers: list[Layer] = []
        try:
            for node in graph.nodes:
                first = len(jobs)
                sources, target = tuple(tensors[v] for v in node.inputs), tensors[node.output]
                if not lower.shares_storage(graph, node) and not isinstance(node, lower.CPU_NODES):
                    jobs += lower.layer_jobs(node, list(sources), target, constants, config)
                layers.append(_layer(graph, node, sources, target, first, jobs, config))
        except lower.NotInPlace as error:
            separate.add(str(error))
        else:
            return tensors, constants, jobs, layers


def _layer(graph, node, sources, target, first, jobs, config) -> Layer:
    own = jobs[first:]
    bound = 0
    if own:
        weight = node.weight.size if isinstance(node, ir.Conv | ir.Linear) else 0
        residual = sum(t.size for t in sources[1:]) if any(j.fields.get("RESIDUAL") for j in own) else 0
        inputs = sum(t.size for t in sources) - residual
        loaded = min(inputs, sum(j.fields["LOAD_WORDS"] for j in own)) + residual
        streamed = sum(j.vectors for j in own)
        bound = lower_bound(streamed, loaded, target.size, weight, config.ports)
    return Layer(node, node.op, sources[0].shape, target.shape, graph.macs(node), first, len(jobs), bound, sources,
                 target)


def _plan_arena(graph, tensors, layers, arrays, records, keep_all, config):
    """Buffers with lifetimes, their offsets, and whether the input survives a call."""
    for keep in (True,) if keep_all else (True, False):
        buffers = _buffers(graph, tensors, layers, records, keep, keep_all)
        offsets = planner.place(buffers)
        try:
            planner.locate(graph.name, [(n, 4 * len(a)) for n, a in arrays.items()], _extent(buffers, offsets), config,
                           program_bytes(graph))
            break
        except HeepgenError:
            if not keep or keep_all:
                raise
    places = {v: offsets[t.storage] // 4 + t.words() for v, t in tensors.items()}
    kept = {graph.inputs[0]: places[graph.inputs[0]]} if keep else {}
    if records:
        kept[PROFILE] = offsets[PROFILE] // 4 + np.arange(len(PROFILE_RECORD) * records)
    planner.check_overlaps(places, _accesses(graph, places), graph.outputs, kept)
    return buffers, offsets, keep


def _accesses(graph, places) -> list[planner.Access]:
    """What every layer reads, defines and writes: a Reshape or Permute nothing, a Concat what is not there yet."""
    accesses = [planner.Access((), v, np.full(places[v].shape, True)) for v in graph.inputs]
    for node in graph.nodes:
        place = places[node.output]
        writes = np.full(place.shape, not lower.shares_storage(graph, node))
        if isinstance(node, ir.Concat):
            writes = np.concatenate([places[v] for v in node.inputs], axis=min(1, place.ndim - 1)) != place
        accesses.append(planner.Access(node.inputs, node.output, writes))
    return accesses


def _buffers(graph, tensors, layers, records, keep_input, keep_all) -> list[planner.Buffer]:
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
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.storage] = max(sizes.get(tensor.storage, 0), 4 * tensor.extent)
    buffers = [planner.Buffer(n, sizes[n], born[n], dies[n]) for n in born]
    if records:
        buffers.append(planner.Buffer(PROFILE, 4 * len(PROFILE_RECORD) * records, -1, end))
    return buffers


def _extent(buffers, offsets) -> int:
    return max(offsets[b.name] + b.size for b in buffers)


def _working_set(layer: Layer) -> int:
    """Bytes that a layer reads and writes; what it overwrites, or joins, counts once."""
    storages: dict[str, int] = {}
    for tensor in (*layer.sources, layer.target):
        storages[tensor.storage] = max(storages.get(tensor.storage, 0), 4 * tensor.size)
    return sum(storages.values())


def _report(graph, layers, buffers, offsets, placed, arena_address, arena, config) -> planner.MemoryReport:
    steps = tuple(layer.name for layer in layers)
    activations = [b for b in buffers if b.name != PROFILE]
    alive, step = planner.peak(activations, len(steps))
    sizes = [(p.name, p.size) for p in placed]
    return planner.MemoryReport(
        graph.name, planner.memory_map(config)[1], sum(p.size for p in placed),
        sum(p.size for p in placed if "_weights" in p.name), sum(b.size for b in activations), arena,
        program_bytes(graph), alive,
        steps[min(max(step, 0), len(steps) - 1)] if steps else "",
        max((_working_set(layer) for layer in layers), default=0),
        planner.smallest_memory(sizes, arena, config, program_bytes(graph)), steps,
        tuple({"name": b.name, "address": arena_address + offsets[b.name], "size": b.size, "born": b.born,
               "dies": b.dies} for b in buffers),
        tuple({"name": p.name, "address": p.address, "size": p.size} for p in placed))


def _link(program: Program, profile: bool) -> np.ndarray:
    """All descriptors with addresses, chained up to the next operator on the CPU."""
    chain = []
    ends = {step[1] for step in program.steps if isinstance(step, tuple)}
    for index, job in enumerate(program.jobs):
        fields = {k: program.resolve(v) if isinstance(v, Ref) else v for k, v in job.fields.items()}
        last = index + 1 in ends
        fields |= {"LAST": int(last), "NEXT": 0 if last else program.descriptor_address(index + 1)}
        if profile:
            offset = program.profile_address(index) - program.arena_address
            fields |= {"PROFILE": 1, "PROFILE_ADDR": address(ARENA, offset)}
        chain.append(fields)
    for before, after in zip(chain, chain[1:]):
        order(before, after)
    return np.concatenate([pack(fields) for fields in chain])

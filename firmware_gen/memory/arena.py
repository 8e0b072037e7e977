# SPDX-License-Identifier: Apache-2.0
"""Where activations and constants of a network lie in memory, and the report of it."""

import itertools
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from firmware_gen import ir
from firmware_gen.frozen import freeze
from firmware_gen.memory import planner
from firmware_gen.memory.network import Layer
from firmware_gen.operations.tensors import Tensor, shares_storage
from hls.config import System
from hls.errors import HeepgenError


@dataclass(frozen=True)
class Arena:
    """Where buffers lie in the arena, where it lies beside the constants, and whether the inputs survive a call."""

    buffers: tuple[planner.Buffer, ...]
    offsets: Mapping[str, int]
    keeps_input: bool
    constants: tuple[planner.Placed, ...]
    address: int

    def __post_init__(self) -> None:
        freeze(self, "offsets")

    @property
    def bytes(self) -> int:
        return extent(self.buffers, self.offsets)


def program_bytes(graph: ir.Graph) -> int:
    """Room kept for the program, which also holds what the outputs must be, and what uneven states are at first."""
    words = sum(graph.values[value].size for value in graph.results)
    return planner.PROGRAM_BYTES + 4 * (words + sum(s.initial.size for s in graph.state if s.is_uneven))


def plan_arena(
    graph: ir.Graph,
    tensors: Mapping[str, Tensor],
    layers: Sequence[Layer],
    constants: Mapping[str, np.ndarray],
    config: System,
    program: int,
    keep_all: bool = False,
    keep_inputs: bool = True,
) -> Arena:
    """Places for all tensors and constants beside a program of so many bytes; inputs are kept if `keep_inputs` and
    that fits.

    keep_all: no tensor shares its place with another. Raises HeepgenError when the memory does not hold them."""
    sizes = [(name, array.nbytes) for name, array in constants.items()]
    for keep in keeping(keep_all, keep_inputs):
        buffers = buffers_of(graph, tensors, layers, keep, keep_all)
        offsets = planner.allocate(buffers)
        try:
            placed, address = planner.locate(graph.name, sizes, extent(buffers, offsets), config, program)
        except planner.DoesNotFit:
            if not keep or keep_all:
                raise
        else:
            break
    places = places_of(tensors, offsets, graph.constants, extent(buffers, offsets))
    kept = {v: places[v] for v in graph.arguments if keep}
    planner.check_overlaps(places, accesses(graph, places), graph.outputs, kept)
    check_states(graph, places)
    return Arena(tuple(buffers), offsets, keep, tuple(placed), address)


def keeping(keep_all: bool, keep_inputs: bool) -> tuple[bool, ...]:
    """Whether inputs survive an inference, in the order in which plans are tried."""
    return (True,) if keep_all else (True, False) if keep_inputs else (False,)


def buffers_of(
    graph: ir.Graph, tensors: Mapping[str, Tensor], layers: Sequence[Layer], keep_input: bool, keep_all: bool
) -> list[planner.Buffer]:
    """The storages, each alive from the layer that begins it to the last one that reads it."""
    storage = {v: t.storage for v, t in tensors.items()}
    born = {storage[v]: -1 for v in graph.inputs}
    dies = dict(born)
    for step, layer in enumerate(layers):
        born.setdefault(layer.target.storage, step)
        for tensor in (*layer.sources, layer.target):
            dies[tensor.storage] = step
    end = len(layers)
    dies |= dict.fromkeys((storage[v] for v in graph.outputs), end)
    if keep_input:
        dies |= {storage[v]: end for v in graph.arguments}
    if keep_all:
        dies = dict.fromkeys(born, end)
    sizes = sizes_of(tensors)
    return [planner.Buffer(n, sizes[n], born[n], dies[n]) for n in born]


def places_of(
    tensors: Mapping[str, Tensor], offsets: Mapping[str, int], apart: Iterable[str], end: int
) -> dict[str, np.ndarray]:
    """The word of every element of every value, for `planner.check_overlaps`: storages that are `apart`, not in the
    arena, lie one after the other behind its `end`."""
    sizes = sizes_of(tensors)
    apart = [name for name in apart if name in sizes]
    behind = itertools.accumulate((sizes[name] for name in apart), initial=end)
    offsets = dict(offsets) | dict(zip(apart, behind, strict=False))
    return {v: offsets[t.storage] // 4 + t.words() for v, t in tensors.items()}


def accesses(graph: ir.Graph, places: Mapping[str, np.ndarray]) -> list[planner.Access]:
    """What every layer reads, defines and writes: a Reshape or Permute nothing, a Concat what is not there yet."""
    given = (*graph.inputs, *graph.constants)
    accesses = [planner.Access((), v, np.full(places[v].shape, True)) for v in given]
    for node in graph.nodes:
        place = places[node.output]
        writes = np.full(place.shape, not shares_storage(graph, node))
        if isinstance(node, ir.Concat):
            writes = np.concatenate([places[v] for v in node.inputs], axis=node.axis_of(place.shape)) != place
        elif isinstance(node, ir.Append):
            writes = np.concatenate([places[v] for v in node.inputs], axis=node.axis) != place
        accesses.append(planner.Access(node.inputs, node.output, writes))
    return accesses


def check_states(graph: ir.Graph, places: Mapping[str, np.ndarray]) -> None:
    """Prove that an inference leaves every state where the next one finds it."""
    for state, left in graph.updates:
        if not np.array_equal(places[state.value], places[left]):
            raise HeepgenError(f"memory plan: state {state.name} is left somewhere else than where it is read")


def sizes_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes of every storage."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.storage] = max(sizes.get(tensor.storage, 0), 4 * tensor.extent)
    return sizes


def extent(buffers: Sequence[planner.Buffer], offsets: Mapping[str, int]) -> int:
    return max(offsets[b.name] + b.size for b in buffers)


def _working_set(layer: Layer) -> int:
    """Bytes that a layer reads and writes; what it overwrites, or joins, counts once."""
    storages: dict[str, int] = {}
    for tensor in (*layer.sources, layer.target):
        storages[tensor.storage] = max(storages.get(tensor.storage, 0), 4 * tensor.size)
    return sum(storages.values())


def memory_report(
    graph: ir.Graph,
    layers: Sequence[Layer],
    arena: Arena,
    config: System,
    beside: Container[str] = (),
    program: int | None = None,
) -> planner.MemoryReport:
    """`beside`: buffers that hold no activations; `program`: bytes kept for it, else those of `program_bytes`."""
    program = program_bytes(graph) if program is None else program
    steps = tuple(layer.name for layer in layers)
    activations = [b for b in arena.buffers if b.name not in beside]
    alive, step = planner.peak(activations, len(steps))
    sizes = [(p.name, p.size) for p in arena.constants]
    return planner.MemoryReport(
        network=graph.name,
        total_bytes=planner.memory_map(config)[1],
        constant_bytes=sum(p.size for p in arena.constants),
        weight_bytes=sum(p.size for p in arena.constants if "_weights" in p.name),
        activation_bytes=sum(b.size for b in activations),
        arena_bytes=arena.bytes,
        program_bytes=program,
        peak_bytes=alive,
        peak_step=steps[min(max(step, 0), len(steps) - 1)] if steps else "",
        working_set_bytes=max((_working_set(layer) for layer in layers), default=0),
        banks_needed=planner.smallest_memory(sizes, arena.bytes, config, program),
        steps=steps,
        buffers=tuple(
            {
                "name": b.name,
                "address": arena.address + arena.offsets[b.name],
                "size": b.size,
                "born": b.born,
                "dies": b.dies,
            }
            for b in arena.buffers
        ),
        constants=tuple({"name": p.name, "address": p.address, "size": p.size} for p in arena.constants),
    )

# SPDX-License-Identifier: Apache-2.0
"""Lower bounds on what networks take on many configurations at once: never more than the compiler and the cycle model
find, whatever they decide.

Cycles: the array takes a vector a cycle, and every operation streams each of its output pixels once for every block of
columns and of rows at least, more where it is cut; the ports bring a word a cycle each, all weights of every operation
once at least, and without a scratchpad all outputs; the drain finishes a value a cycle and port. Descriptors overlap,
and each of the three is one unit, so that no list is shorter than the longest of the sums. The CPU's layers, and its
turns around lists, come on top.

RAM: weights packed in tiles, a pair of scale and bias for every channel, both once where they occur again; a descriptor
and a record for every operation; the program; and the inputs, the outputs, or what a layer of the CPU reads and writes,
which no scratchpad holds; without one, all tensors that are needed at the same time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from firmware_gen import ir
from firmware_gen.memory.arena import buffers_of, program_bytes
from firmware_gen.operations.operation import Operation
from firmware_gen.passes.hardware.planes import retiled
from firmware_gen.targets.descriptor.compiler import compile_graph
from firmware_gen.targets.descriptor.linked.program import Layer, Program
from firmware_gen.targets.descriptor.lowering.banded import most_outputs
from firmware_gen.targets.descriptor.lowering.folded import rows_of
from firmware_gen.targets.descriptor.lowering.job import DESCRIPTOR_BYTES
from firmware_gen.targets.descriptor.lowering.streams import operations_of
from firmware_gen.targets.descriptor.survey.lanes import Array
from firmware_gen.targets.descriptor.survey.on_cpu import OnCpu
from firmware_gen.targets.descriptor.survey.templates import AMPLE
from hls.config import Config

ROOMY: dict[str, Any] = AMPLE | {
    "activation_words": 65536,
    "accumulator_entries": 1024,
    "scratchpad_words": 0,
    "banded": False,
}
"""A configuration on which no layer is cut, and all tensors are in RAM."""


@dataclass(frozen=True)
class Bounds:
    """(N,) of N configurations: the least cycles of an inference, the least bytes of RAM, and the unit that the former
    come from, as in `limits.LIMITS`; the least cycles for which each of these units is busy, and the CPU."""

    cycles: Array
    ram: Array
    limit: tuple[str, ...]
    busy: Mapping[str, Array]
    on_cpu: Array


@dataclass(frozen=True)
class _Network:
    """operations, with how often each is done; what the CPU does; least bytes of RAM, whatever the configuration, and
    further ones without a scratchpad. fresh: by operation, whether no column of its weights occurs twice, or before."""

    operations: tuple[tuple[Operation, int], ...]
    on_cpu: OnCpu
    ram: int
    off_chip: int
    fresh: tuple[bool, ...]


def bounds(graph: ir.Graph, configs: Sequence[Config]) -> Bounds:
    """Of a network on configurations that take the same form of it; raises `HeepgenError` where it does not compile."""
    known = _network(graph, replace(configs[0], **ROOMY))
    lanes = _Lanes(configs)
    vectors, weights, drained, ram = (np.zeros(len(configs)) for _ in range(4))
    for (operation, times), fresh in zip(known.operations, known.fresh, strict=True):
        vectors += times * _vectors(operation, lanes)
        drained += times * _values(operation)
        words = _weight_words(operation, lanes)
        weights += times * words
        ram += 4 * words * fresh
    stored = np.where(lanes.on_chip, 0, drained)
    sums = {"vectors": vectors, "weights": weights, "bus": weights + stored, "drain": drained}
    sums |= {name: sums[name] / lanes.ports for name in ("weights", "bus", "drain")}
    longest = np.array(list(sums.values()))
    limit = np.array(list(sums))[longest.argmax(axis=0)]
    on_cpu = known.on_cpu.on(configs)
    ram += np.where(lanes.on_chip, 0, known.off_chip)
    return Bounds(
        np.floor(longest.max(axis=0)) + on_cpu, np.floor(ram) + known.ram, tuple(map(str, limit)), sums, on_cpu
    )


class _Lanes:
    """Configurations as arrays."""

    def __init__(self, configs: Sequence[Config]):
        self.configs = configs

        def each(name: str) -> Array:
            return np.array([getattr(config, name) for config in configs], float)

        self.rows, self.cols, self.ports, self.diagonal = map(each, ("rows", "cols", "ports", "diagonal"))
        self.int4, self.on_chip = each("int4_weights") > 0, each("scratchpad_words") > 0


def _pixels(operation: Operation) -> int:
    op = operation.op
    (top, bottom), (left, right) = operation.rectangle or ((0, op.out_height), (0, op.out_width))
    return (bottom - top) * (right - left)


def _reduction(operation: Operation) -> tuple[int, int]:
    """Rows of the window, and lanes of each: the columns of a window may share a vector, and rows that lie side by
    side."""
    op, rows = operation.op, rows_of(operation.op)
    return op.kernel[0] // rows, rows * op.kernel[1] * (op.channels // op.groups)


def _vectors(operation: Operation, lanes: _Lanes) -> Array:
    """Least vectors of an operation that is done once."""
    op = operation.op
    if operation.flat:
        return np.ceil(operation.flat / lanes.diagonal)
    if op.diagonal:
        diagonal: Array = _pixels(operation) * np.ceil(op.channels / lanes.diagonal) * op.kernel[0] * op.kernel[1]
        outputs = np.array([most_outputs(op, config) for config in lanes.configs], float)
        banded = _pixels(operation) * op.channels * op.kernel[0] / np.maximum(outputs, 1)
        return np.where(outputs > 0, np.minimum(diagonal, banded), diagonal)
    rows, run = _reduction(operation)
    return _pixels(operation) * op.groups * np.ceil(op.cout / lanes.cols) * rows * np.ceil(run / lanes.rows)


def _values(operation: Operation) -> int:
    """That leave an operation."""
    op = operation.op
    return operation.flat or _pixels(operation) * (op.channels if op.diagonal else op.groups * op.cout)


def _weight_words(operation: Operation, lanes: _Lanes) -> Array:
    """Least words of weights, in whole tiles but for diagonal ones."""
    op = operation.op
    if op.weight is None or operation.flat:
        return np.zeros(len(lanes.rows))
    per_word = np.where(lanes.int4 & op.has_4_bits, 8, 4)
    if op.diagonal:
        return op.weight.size / per_word
    rows, run = _reduction(operation)
    tiles = op.groups * np.ceil(op.cout / lanes.cols) * rows * np.ceil(run / lanes.rows)
    return tiles * lanes.rows * lanes.cols / per_word


def _network(graph: ir.Graph, config: Config) -> _Network:
    program = compile_graph(graph, config)
    operations = list[tuple[Operation, int]]()
    for layer in program.layers:
        if layer.descriptors:
            found = operations_of(layer.node, list(layer.sources), layer.target)
            operations += [(own, 1 if own.flat else own.images) for own in found]
    seen = set[bytes]()
    fresh = tuple(_is_fresh(operation, seen) for operation, _ in operations)
    ram = program_bytes(program.graph) + sum(times for _, times in operations) * DESCRIPTOR_BYTES
    ram += sum({pair: size for operation, _ in operations for pair, size in _parameters(operation).items()}.values())
    planes = _planes(program)
    least = _arena(program.graph, program.layers, planes)
    buffers = buffers_of(program.graph, program.tensors, program.layers, False, False)
    buffers = [replace(buffer, size=planes.get(buffer.name, buffer.size)) for buffer in buffers]
    live = max(sum(b.size for b in buffers if b.born <= step <= b.dies) for step in range(-1, len(program.layers) + 1))
    on_cpu = OnCpu.of(program.layers, bool(program.jobs))
    return _Network(tuple(operations), on_cpu, ram + least, max(live - least, 0), fresh)


def _planes(program: Program) -> dict[str, int]:
    """Least bytes of storages that lie as an array reads them."""
    plain = retiled(program.graph, ir.Tiles(1, 1, 1))
    own = [layer for layer in program.layers if isinstance(layer.node, ir.Planes)]
    return {layer.target.storage: 4 * plain.values[layer.node.output].size for layer in own}


def _is_fresh(operation: Operation, seen: set[bytes]) -> bool:
    """Whether all of its weights are stored, however they are cut: no column of them occurs twice."""
    op = operation.op
    if op.weight is None or op.diagonal:
        return False
    columns = np.moveaxis(op.weight, 1, -1).reshape(-1, op.cout)
    own = {column.tobytes() for column in columns}
    fresh = len(own) == len(columns) and seen.isdisjoint(own)
    seen |= own
    return fresh


def _parameters(operation: Operation) -> dict[tuple[float, float], int]:
    """Scale and bias of every channel that has its own, and their least bytes."""
    op = operation.op
    if not (isinstance(op.scale, np.ndarray) and isinstance(op.bias, np.ndarray)):
        return {}
    pairs = zip(op.scale.reshape(-1).tolist(), op.bias.reshape(-1).tolist(), strict=True)
    return {pair: 6 if ir.has_16_bits(np.array(pair[0])) else 8 for pair in pairs}


def _arena(graph: ir.Graph, layers: Sequence[Layer], planes: Mapping[str, int]) -> int:
    """Bytes of what is in RAM at once at least, of `planes` so many."""
    inputs, outputs = (4 * sum(graph.values[v].size for v in values) for values in (graph.arguments, graph.results))
    most = max(inputs, outputs)
    for layer in layers:
        if layer.on_cpu:
            sizes: dict[str, int] = {}
            for tensor in (*layer.sources, layer.target):
                size = planes.get(tensor.storage, 4 * tensor.size)
                sizes[tensor.storage] = max(sizes.get(tensor.storage, 0), size)
            most = max(most, sum(sizes.values()))
    return most

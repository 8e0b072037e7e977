# SPDX-License-Identifier: Apache-2.0
"""A network as calls from C++: of the plain kernels (`USE_SOFTWARE_DNN_LAYER_OPERATORS=1`), or of an accelerator that
multiplies matrices, with the plain kernels for the rest."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from firmware_gen import ir
from firmware_gen.frozen import freeze
from firmware_gen.memory import planner
from firmware_gen.memory.arena import memory_report, plan_arena, program_bytes
from firmware_gen.memory.network import Layer, Network
from firmware_gen.models.cpu_model import channels_first
from firmware_gen.operations.functions import table, table_name
from firmware_gen.operations.operation import Operation, operations_of
from firmware_gen.operations.tensors import Tensor, copy_outputs, laid_out, lay_out, shares_storage
from firmware_gen.operations.windows import Windowed
from firmware_gen.targets.calls.product import Product, matrix_of, padded_rows
from hls.config import System

BLOCK = 4
"""kernels::kBlock: output channels whose weights are interleaved."""

PRODUCT = "product"
"""The kernel of a convolution or Linear layer that the accelerator multiplies."""


FACTORS = {"multiply": ir.Product.kernel, "negative": ir.Slopes.kernel}
"""Kernels of copies whose second operand is a factor, by `Windowed.combine`."""


@dataclass(frozen=True)
class Call:
    """One kernel call, for every image of the batch. `constants` names the arrays it reads, by kind.

    kernel: product, dense, depthwise, max_pool, average_pool, activate, one of FACTORS. on_driver: the accelerator's
    driver has it.
    """

    layer: str
    kernel: str
    operation: Operation
    constants: Mapping[str, str] = field(default_factory=dict)
    on_driver: bool = False

    def __post_init__(self) -> None:
        freeze(self, "constants")

    @property
    def op(self) -> Windowed:
        return self.operation.op

    @property
    def channels_first(self) -> bool:
        return channels_first(self.op, self.operation.source.c)


@dataclass(frozen=True)
class CallProgram:
    """Calls in order, int8 and float32 constants by name, and where they and the arena lie.

    network: where activations lie in the arena. product: the accelerator's, None for the CPU alone.
    """

    network: Network
    calls: tuple[Call, ...]
    constants: Mapping[str, np.ndarray]
    placed: tuple[planner.Placed, ...]
    arena_address: int
    product: Product | None = None

    def __post_init__(self) -> None:
        freeze(self, "constants")

    def moved(self, share: planner.Share) -> "CallProgram":
        """The program with its constants and its arena there."""
        report = self.network.report_at(share)
        network = replace(self.network, arena_address=share.arena_address, report=report)
        return replace(self, network=network, placed=share.constants, arena_address=share.arena_address)

    def demand(self) -> planner.Demand:
        """What it needs in a program with others."""
        sizes = tuple((placed.name, placed.size) for placed in self.placed)
        return planner.Demand(self.network.graph.name, sizes, self.network.arena_bytes)

    def calls_of(self, layer: str) -> tuple[Call, ...]:
        """Of a layer, none where the CPU's operator computes it, or where data already lie right."""
        return self._by_layer.get(layer, ())

    @cached_property
    def _by_layer(self) -> dict[str, tuple[Call, ...]]:
        groups = itertools.groupby(self.calls, lambda call: call.layer)
        return {name: tuple(own) for name, own in groups}


def compile_calls(
    graph: ir.Graph, config: System, product: Product | None = None, keep_all: bool = False, keep_inputs: bool = True
) -> CallProgram:
    """A quantised graph as calls, with `product` for convolutions and Linear layers. keep_all: every layer's output
    stays in memory. keep_inputs: inputs survive, where there is room. Raises HeepgenError when the memory does not
    hold it."""
    graph = copy_outputs(graph)
    tensors = lay_out(graph, not keep_all)
    layers = tuple(
        Layer(
            node=node,
            op=node.op,
            in_shape=graph.in_shape(node),
            out_shape=graph.out_shape(node),
            macs=graph.macs(node),
            sources=tuple(tensors[v] for v in node.inputs),
            target=tensors[node.output],
        )
        for node in graph.nodes
    )
    calls, constants = _calls(graph, tensors, layers, product)
    room = program_bytes(graph) + (product.scratch_bytes if product else 0)
    arena = plan_arena(
        graph=graph,
        tensors=tensors,
        layers=layers,
        constants=constants,
        config=config,
        program=room,
        keep_all=keep_all,
        keep_inputs=keep_inputs,
    )
    report = memory_report(graph, layers, arena, config, program=room)
    network = Network(
        graph=graph,
        config=config,
        tensors=tensors,
        arena_address=arena.address,
        arena_bytes=arena.bytes,
        offsets=arena.offsets,
        report=report,
        keeps_input=arena.keeps_input,
        layers=layers,
    )
    return CallProgram(
        network=network,
        calls=calls,
        constants=constants,
        placed=arena.constants,
        arena_address=arena.address,
        product=product,
    )


def software_calls(network: Network) -> CallProgram:
    """A network that another target placed, every tensor in memory, for the CPU alone: in the same arena."""
    network = replace(network, layers=tuple(map(_by_kernels, network.layers)))
    calls, constants = _calls(network.graph, network.tensors, network.layers, None)
    sizes = [(name, array.nbytes) for name, array in constants.items()]
    placed, arena = planner.locate(
        network.graph.name, sizes, network.arena_bytes, network.config, program_bytes(network.graph)
    )
    return CallProgram(network, calls, constants, tuple(placed), arena)


def _by_kernels(layer: Layer) -> Layer:
    """The layer as the CPU's kernels compute it: products of computed matrices at once, without planes."""
    node = layer.node
    if isinstance(node, ir.Planes):
        return replace(layer, node=ir.Reshape(name=node.name, inputs=node.inputs, output=node.output))
    if isinstance(node, ir.PlaneProduct):
        return replace(layer, node=node.product, sources=layer.sources[:2])
    return layer


def _calls(
    graph: ir.Graph, tensors: Mapping[str, Tensor], layers: Iterable[Layer], product: Product | None
) -> tuple[tuple[Call, ...], dict[str, np.ndarray]]:
    calls: list[Call] = []
    constants = laid_out(graph, tensors)
    names: dict[tuple[str, bytes], str] = {}
    for layer in layers:
        if isinstance(layer.node, ir.Apply):
            constants[table_name(layer.node.function)] = table(layer.node.function)
        if not layer.on_cpu and not shares_storage(graph, layer.node):
            for operation in operations_of(layer.node, list(layer.sources), layer.target):
                calls.append(_with_constants(_call(layer.name, operation, product), constants, names))
    return tuple(calls), constants


def _call(layer: str, operation: Operation, product: Product | None) -> Call:
    """The kernel call of an operation; a rectangle of its outputs becomes a smaller window."""
    op, target, aux = operation.op, operation.target, operation.aux
    own = product.kernels if product and op.combine == "add" and not op.act.function else {}  # what drivers know of
    if op.combine in FACTORS and _is_copy(op):
        return Call(layer, FACTORS[op.combine], operation)
    if operation.flat:
        return Call(layer, "activate", operation, on_driver="activate" in own)
    if operation.rectangle:
        (top, bottom), (left, right) = operation.rectangle
        op = replace(
            op,
            out_height=bottom - top,
            out_width=right - left,
            top=op.top - top * op.stride[0],
            left=op.left - left * op.stride[1],
        )
        target = replace(target, base=target.at(x=left, y=top))
        aux = aux and replace(aux, base=aux.at(x=left, y=top))
    kernel = _kernel(op)
    if product and kernel == "dense":
        kernel = PRODUCT
    whole = replace(operation, op=op, target=target, aux=aux, rectangle=None)
    return Call(layer, kernel, whole, on_driver=kernel in own)


def _is_copy(op: Windowed) -> bool:
    """Whether nothing but the second operand changes what is read."""
    pixel = op.kernel == op.stride == (1, 1) and (op.height, op.width) == (op.out_height, op.out_width)
    return pixel and _kernel(op) == "max_pool" and op.act == ir.IDENTITY


def _kernel(op: Windowed) -> str:
    if op.weight is None:
        return "max_pool" if op.maximum else "average_pool"
    return "depthwise" if op.diagonal else "dense"


def _with_constants(call: Call, constants: dict[str, np.ndarray], names: dict[tuple[str, bytes], str]) -> Call:
    """The call with the names of its arrays, each of which is stored once; names: of all, by type and content."""
    own = {}
    if function := call.op.act.function:
        own["table"] = table_name(function)
        constants[own["table"]] = table(function)
    if call.op.weight is None:
        return replace(call, constants=own)
    arrays = {
        "weights": _weights(call),
        "scale": _of_every_output(call.op, call.op.scale),
        "bias": _of_every_output(call.op, call.op.bias),
    }
    for kind, array in arrays.items():
        key = (array.dtype.str, array.tobytes())
        if key not in names:
            base = f"{call.layer}_{kind}"
            free = (f"{base}_{i}" if i else base for i in range(len(constants) + 1))
            names[key] = next(name for name in free if name not in constants)
            constants[names[key]] = np.ascontiguousarray(array)
        own[kind] = names[key]
    return replace(call, constants=own)


def _of_every_output(op: Windowed, values: np.ndarray | float) -> np.ndarray:
    outputs = op.channels if op.diagonal else op.groups * op.cout
    return np.broadcast_to(np.asarray(values, np.float32).reshape(-1), outputs)


def _weights(call: Call) -> np.ndarray:
    """int8 stream of a kernel, see `runtime/kernels.hpp`."""
    op = call.op
    if call.kernel == PRODUCT:
        return padded_rows(matrix_of(op, call.channels_first))
    assert op.weight is not None
    if op.diagonal:
        return _blocks(op.weight.reshape(1, op.channels, -1))
    weight = op.weight  # g, o, ky, kx, c
    if call.channels_first:
        weight = weight.transpose(0, 1, 2, 4, 3)
    return _blocks(weight.reshape(*weight.shape[:2], -1))


def _blocks(weight: np.ndarray) -> np.ndarray:
    """(groups, outputs, taps) -> blocks of BLOCK outputs, tap by tap, the last one filled with zeros."""
    groups, outputs, taps = weight.shape
    padded = np.pad(weight, ((0, 0), (0, -outputs % BLOCK), (0, 0)))
    return padded.reshape(groups, -1, BLOCK, taps).transpose(0, 1, 3, 2).reshape(-1)

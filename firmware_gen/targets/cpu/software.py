# SPDX-License-Identifier: Apache-2.0
"""The network as calls of the plain C++ kernels (`USE_SOFTWARE_DNN_LAYER_OPERATORS=1`), and their bit-exact model."""

import itertools
from dataclasses import dataclass, field, replace

import numpy as np

from firmware_gen.memory import planner
from firmware_gen.memory.arena import program_bytes
from firmware_gen.memory.planner import memory_map
from firmware_gen.models.cpu_model import channels_first, finish_model, window_model
from firmware_gen.models.image import read_outputs, run_on_cpu, write
from firmware_gen.operations.operation import Operation, operations_of
from firmware_gen.operations.tensors import View, shares_storage
from firmware_gen.operations.windows import Windowed
from firmware_gen.targets.descriptor.compiler import in_memory
from firmware_gen.targets.descriptor.program import Program

BLOCK = 4
"""kernels::kBlock: output channels whose weights are interleaved."""


@dataclass(frozen=True)
class Call:
    """One kernel call, for every image of the batch. `constants` names the arrays it reads, by kind.

    kernel: dense, depthwise, max_pool, average_pool, activate.
    """

    layer: str
    kernel: str
    operation: Operation
    constants: dict[str, str] = field(default_factory=dict)

    @property
    def op(self) -> Windowed:
        return self.operation.op

    @property
    def channels_first(self) -> bool:
        return channels_first(self.op, self.operation.source.c)


@dataclass(frozen=True)
class SoftwareProgram:
    """Calls in order, int8 and float32 constants by name, and where they lie (another layout than `Program`'s).

    program: where activations lie, none of them on chip.
    """

    program: Program
    calls: tuple[Call, ...]
    constants: dict[str, np.ndarray]
    placed: tuple[planner.Placed, ...]
    arena_address: int


def compile_software(program: Program) -> SoftwareProgram:
    """The same network for the CPU alone; in the same arena, unless the accelerator keeps something on chip."""
    program = in_memory(program)
    calls: list[Call] = []
    constants: dict[str, np.ndarray] = {}
    for layer in program.layers:
        if not layer.on_cpu and not shares_storage(program.graph, layer.node):
            for operation in operations_of(layer.node, list(layer.sources), layer.target):
                calls.append(_with_constants(_call(layer.name, operation), constants))
    sizes = [(name, array.nbytes) for name, array in constants.items()]
    placed, arena = planner.locate(
        program.graph.name, sizes, program.arena_bytes, program.config, program_bytes(program.graph)
    )
    return SoftwareProgram(program, tuple(calls), constants, tuple(placed), arena)


def _call(layer: str, operation: Operation) -> Call:
    """The kernel call of an operation; a rectangle of its outputs becomes a smaller window."""
    if operation.flat:
        return Call(layer, "activate", operation)
    op, target, aux = operation.op, operation.target, operation.aux
    if operation.rectangle:
        (top, bottom), (left, right) = operation.rectangle
        op = replace(
            op,
            out_height=bottom - top,
            out_width=right - left,
            top=op.top - top * op.stride[0],
            left=op.left - left * op.stride[1],
        )
        target, aux = (v and replace(v, base=v.at(x=left, y=top)) for v in (target, aux))
    return Call(layer, _kernel(op), replace(operation, op=op, target=target, aux=aux, rectangle=None))


def _kernel(op: Windowed) -> str:
    if op.weight is None:
        return "max_pool" if op.maximum else "average_pool"
    return "depthwise" if op.diagonal else "dense"


def _with_constants(call: Call, constants: dict[str, np.ndarray]) -> Call:
    if call.op.weight is None:
        return call
    arrays = {"weights": _weights(call), "scale": call.op.scale.reshape(-1), "bias": call.op.bias.reshape(-1)}
    names = {}
    for kind, array in arrays.items():
        base = f"{call.layer}_{kind}"
        names[kind] = next(n for i in range(len(constants) + 1) if (n := f"{base}_{i}" if i else base) not in constants)
        constants[names[kind]] = np.ascontiguousarray(array)
    return replace(call, constants=names)


def _weights(call: Call) -> np.ndarray:
    """int8 stream of a kernel, see `runtime/kernels.hpp`."""
    op = call.op
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


def run(software: SoftwareProgram, sample: np.ndarray) -> tuple[np.ndarray, ...]:
    """The outputs of the software kernels for one sample, float32 in PyTorch's shapes."""
    program = software.program
    image = np.zeros(memory_map(program.config)[1], np.uint8)
    write(program, image, program.graph.inputs[0], np.asarray(sample, np.float32))
    arena = image[program.arena_address :].view(np.float32)
    calls = {name: list(own) for name, own in itertools.groupby(software.calls, lambda call: call.layer)}
    for layer in program.layers:
        if layer.on_cpu:
            run_on_cpu(program, layer, image)
        for call in calls.get(layer.name, ()):
            _run_call(program, call, arena)
    return read_outputs(program, image)


def _run_call(program: Program, call: Call, arena: np.ndarray) -> None:
    operation, op = call.operation, call.op
    views = (operation.source, operation.target, operation.aux)
    starts = [v and program.offsets[v.base.name] // 4 + v.base.offset for v in views]
    if operation.flat:
        source, target, aux = (None if s is None else arena[s : s + operation.flat] for s in starts)
        target[:] = finish_model(op.act, op.residual, source, aux)
        return
    outputs = op.channels if op.diagonal else op.groups * op.cout
    shapes = ((op.channels, op.height, op.width), *2 * ((outputs, op.out_height, op.out_width),))
    windows = [None if v is None else s + _indices(v, shape) for v, s, shape in zip(views, starts, shapes, strict=True)]
    steps = (operation.source_step, operation.target_step, operation.aux_step)
    for image in range(operation.images):
        source, target, aux = (None if w is None else w + image * step for w, step in zip(windows, steps, strict=True))
        result = window_model(op, arena[source], call.channels_first, None if aux is None else arena[aux])
        arena[target] = result


def _indices(view: View, shape: tuple[int, int, int]) -> np.ndarray:
    """Word of every element of a (C, H, W) map, from the view's first."""
    c, y, x = (np.arange(n) * s for n, s in zip(shape, (view.c, view.y, view.x), strict=True))
    return c[:, None, None] + y[:, None] + x

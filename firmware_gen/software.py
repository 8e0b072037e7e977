"""The network as calls of the plain C++ kernels (`USE_SOFTWARE_DNN_LAYER_OPERATORS=1`), and their bit-exact model."""

from dataclasses import dataclass, field, replace

import numpy as np

from firmware_gen import ir, lower, planner
from firmware_gen.cpu_model import activate_model, channels_first, softmax_model, window_model
from firmware_gen.lower import Tensor, View, Windowed
from firmware_gen.program import Program

BLOCK = 4
"""kernels::kBlock: output channels whose weights are interleaved."""


@dataclass(frozen=True)
class Call:
    """One kernel call on every image of the batch; `view` strides are within an image, offsets in words.

    kernel: dense, depthwise, max_pool, average_pool, activate, or softmax.
    """

    layer: str
    kernel: str
    source: View
    target: View
    op: Windowed | None = field(default=None, repr=False)
    images: int = 1
    source_step: int = 0
    target_step: int = 0
    size: int = 0
    act: ir.Activation = ir.IDENTITY
    constants: dict[str, str] = field(default_factory=dict)

    @property
    def channels_first(self) -> bool:
        return channels_first(self.op, self.source.c)


@dataclass(frozen=True)
class SoftwareProgram:
    """Calls in order, int8 and float32 constants by name, and where they lie (another layout than `Program`'s)."""

    program: Program
    calls: tuple[Call, ...]
    constants: dict[str, np.ndarray]
    placed: tuple[planner.Placed, ...]
    arena_address: int


def compile_software(program: Program) -> SoftwareProgram:
    """The same network and the same arena for the CPU alone."""
    calls: list[Call] = []
    constants: dict[str, np.ndarray] = {}
    for layer in program.layers:
        for call in _calls(program, layer):
            calls.append(_with_constants(call, constants))
    sizes = [(name, array.nbytes) for name, array in constants.items()]
    placed, arena = planner.locate(program.graph.name, sizes, program.arena_bytes, program.config)
    return SoftwareProgram(program, tuple(calls), constants, tuple(placed), arena)


def _calls(program: Program, layer) -> list[Call]:
    node, source, target = layer.node, layer.source, layer.target
    flat = [View(lower.Ref(t.storage), 1, 0, 0) for t in (source, target)]
    if isinstance(node, ir.Softmax):
        return [Call(node.name, "softmax", *flat, size=target.shape[-1], images=target.size // target.shape[-1])]
    if lower.shares_storage(program.graph, node):
        return []
    if isinstance(node, ir.Activate | ir.Reshape) and source.channels_last == target.channels_last:
        act = node.act if isinstance(node, ir.Activate) else ir.IDENTITY
        return [Call(node.name, "activate", *flat, size=source.size, act=act)]
    if isinstance(node, ir.Linear):
        (op, _, _), = lower.windowed_ops(node, source.shape, target.shape, source.channels_last)
        views = [replace(v, x=n) for v, n in zip(flat, (node.in_features, node.out_features), strict=True)]
        return [Call(node.name, "dense", *views, op=op)]
    return _map_calls(node, source, target)


def _map_calls(node, source: Tensor, target: Tensor) -> list[Call]:
    shape = source.channels_last or target.channels_last if isinstance(node, ir.Activate | ir.Reshape) else None
    shapes = [shape or t.shape[1:] for t in (source, target)]
    views = [lower.feature_map(lower.Ref(t.storage), s, t.channels_last is not None)
             for t, s in zip((source, target), shapes, strict=True)]
    steps = [int(np.prod(s)) for s in shapes]
    if shape:
        act = node.act if isinstance(node, ir.Activate) else ir.IDENTITY
        ops = [(Windowed(*shape, *shape[1:], cout=shape[0], diagonal=True, maximum=True, act=act), None, (0, 1))]
    else:
        ops = lower.windowed_ops(node, source.shape, target.shape)
    calls = []
    for op, rectangle, (offset, step) in ops:
        out = replace(views[1], base=views[1].at(offset), c=views[1].c * step)
        if rectangle:
            (top, bottom), (left, right) = rectangle
            op = replace(op, out_height=bottom - top, out_width=right - left, top=op.top - top * op.stride[0],
                         left=op.left - left * op.stride[1])
            out = replace(out, base=out.at(x=left, y=top))
        calls.append(Call(node.name, _kernel(op), views[0], out, op, source.size // steps[0], *steps))
    return calls


def _kernel(op: Windowed) -> str:
    if op.weight is None:
        return "max_pool" if op.maximum else "average_pool"
    return "depthwise" if op.diagonal else "dense"


def _with_constants(call: Call, constants: dict[str, np.ndarray]) -> Call:
    if call.op is None or call.op.weight is None:
        return call
    arrays = {"weights": _weights(call), "scale": call.op.scale.reshape(-1), "bias": call.op.bias.reshape(-1)}
    names = {}
    for kind, array in arrays.items():
        base = f"{call.layer}_{kind}"
        names[kind] = next(n for i in range(len(constants) + 1)
                           if (n := f"{base}_{i}" if i else base) not in constants)
        constants[names[kind]] = np.ascontiguousarray(array)
    return replace(call, constants=names)


def _weights(call: Call) -> np.ndarray:
    """int8 stream of a kernel, see `runtime/kernels.hpp`."""
    op = call.op
    if op.diagonal:
        return op.weight.reshape(-1)
    weight = op.weight  # g, o, ky, kx, c
    if call.channels_first:
        weight = weight.transpose(0, 1, 2, 4, 3)
    groups, outputs = weight.shape[:2]
    padded = np.pad(weight.reshape(groups, outputs, -1), ((0, 0), (0, -outputs % BLOCK), (0, 0)))
    return padded.reshape(groups, -1, BLOCK, padded.shape[-1]).transpose(0, 1, 3, 2).reshape(-1)


def run(software: SoftwareProgram, sample: np.ndarray) -> np.ndarray:
    """The output of the software kernels for one sample, float32 in PyTorch's shape."""
    program = software.program
    arena = np.zeros(program.arena_bytes // 4 + 1, np.float32)

    def words(view: View) -> int:
        return program.offsets[view.base.name] // 4 + view.base.offset

    def window(view: View, shape, image_offset: int) -> np.ndarray:
        start = words(view) + image_offset
        index = [np.arange(n) * s for n, s in zip(shape, (view.c, view.y, view.x), strict=True)]
        return start + index[0][:, None, None] + index[1][:, None] + index[2]

    first = program.offsets[program.input.storage] // 4
    arena[first:first + sample.size] = np.asarray(sample, np.float32).reshape(-1)
    for call in software.calls:
        if call.kernel in ("softmax", "activate"):
            count = call.size * call.images
            x = arena[words(call.source):words(call.source) + count].reshape(call.images, call.size)
            y = softmax_model(x) if call.kernel == "softmax" else activate_model(call.act, x)
            arena[words(call.target):words(call.target) + count] = y.reshape(-1)
            continue
        op = call.op
        channels = op.channels if op.diagonal else op.groups * op.cout
        for image in range(call.images):
            x = arena[window(call.source, (op.channels, op.height, op.width), image * call.source_step)]
            where = window(call.target, (channels, op.out_height, op.out_width), image * call.target_step)
            arena[where] = window_model(op, x, call.channels_first)
    output = program.output
    start = program.offsets[output.storage] // 4
    return arena[start:start + output.size].reshape(output.shape).copy()

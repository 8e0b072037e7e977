# SPDX-License-Identifier: Apache-2.0
"""What every ONNX operator is in PyTorch: one handler each, which says what it understands."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.network import Node

Function = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
Build = Callable[["Node"], Function]

FOLDABLE = frozenset(
    ("Constant", "ConstantOfShape", "Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Split", "Cast", "CastLike",
     "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Log", "Pow", "Mod", "Floor", "Ceil",
     "Round", "Max", "Min", "Sum", "Equal", "Greater", "Less", "Not", "And", "Or", "Where", "Reshape", "Transpose",
     "Flatten", "Expand", "Tile", "Range", "ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "Identity", "MatMul",
     "DequantizeLinear")
)  # fmt: skip
"""Operators that are evaluated when they depend on constants only."""
OF_SHAPE = frozenset(("Shape", "Size"))
"""Operators that look at no value of their input."""


@dataclass(frozen=True)
class Handler:
    """`build` turns a node into a function of tensors.

    newest: the last version of the operator's definition that `build` was written for.
    inputs: one letter per input: x is computed by the model, a may be either, w is a constant; these are what the
        function takes. c is a constant that only `build` looks at. The last one with * stands for any number.
    attributes: those understood, with the values understood, None for any. All others must have ONNX's default.
    """

    build: Build
    newest: int
    inputs: str
    attributes: dict[str, tuple[Any, ...] | None]

    def kinds(self, count: int) -> str:
        """A letter for each of `count` inputs; - for those beyond what is understood."""
        if self.inputs.endswith("*"):
            return self.inputs[:-1].ljust(count, self.inputs[-2])[:count]
        return self.inputs.ljust(count, "-")[:count]


HANDLERS: dict[str, Handler] = {}


def _handles(
    names: str, newest: int, inputs: str = "x", attributes: str = "", **values: tuple[Any, ...]
) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        understood: dict[str, tuple[Any, ...] | None] = {**dict.fromkeys(attributes.split()), **values}
        HANDLERS.update({name: Handler(build, newest, inputs, understood) for name in names.split()})
        return build

    return register


def _plain(names: str, function: Function, newest: int, inputs: str = "x") -> None:
    _handles(names, newest, inputs)(lambda node: function)


_plain("Relu", F.relu, 14)
_plain("Sigmoid", torch.sigmoid, 13)
_plain("Tanh", torch.tanh, 13)
_plain("HardSwish", F.hardswish, 22)
_plain("Neg", torch.neg, 13)
_plain("Identity", torch.clone, 25)
_plain("Add", torch.add, 14, "aa")
_plain("Sub", torch.sub, 14, "aa")
_plain("Mul", torch.mul, 14, "aa")
_plain("Div", torch.div, 14, "aa")
_plain("Sum", lambda first, *others: sum(others, first.clone()), 13, "a*")
_plain("Mean", lambda *inputs: sum(inputs[1:], inputs[0].clone()) / len(inputs), 13, "a*")


@_handles("HardSigmoid", 22, attributes="alpha beta")
def _hard_sigmoid(node: Node) -> Function:
    return lambda x: torch.clamp(x * node.get("alpha") + node.get("beta"), 0, 1)


@_handles("Swish", 24, attributes="alpha")
def _swish(node: Node) -> Function:
    return lambda x: x * torch.sigmoid(x if node.get("alpha") == 1 else x * node.get("alpha"))


@_handles("LeakyRelu", 16, attributes="alpha")
def _leaky_relu(node: Node) -> Function:
    return lambda x: F.leaky_relu(x, node.get("alpha"))


@_handles("PRelu", 16, "xw")
def _prelu(node: Node) -> Function:
    shape, channels = node.constant(1).shape, node.shape()[1:2]
    if math.prod(shape) != 1 and (*channels, *(1,) * (len(node.shape()) - 2)) != shape[-len(node.shape()) + 1 :]:
        raise node.refuse(f"its slope has shape {shape}; one slope, or one per channel, is supported")
    return lambda x, slope: F.prelu(x, slope.reshape(-1))


@_handles("Dropout", 22, "xcc", "seed")
def _dropout(node: Node) -> Function:
    if node.has(2) and node.constant(2):
        raise node.refuse("training_mode is true; export the model in evaluation mode")
    return torch.clone


@_handles("Cast", 28, attributes="to saturate round_mode")
def _cast(node: Node) -> Function:
    if node.get("to") != 1:
        raise node.refuse("the model computes in float32; casting to another type is not supported")
    return torch.clone


@_handles("Max", 13, "a*")
def _max(node: Node) -> Function:
    return _folded(torch.maximum)


@_handles("Min", 13, "a*")
def _min(node: Node) -> Function:
    return _folded(torch.minimum)


def _folded(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Function:
    def run(first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        for other in others:
            first = function(first, other)
        return first if others else first.clone()

    return run


@_handles("Clip", 13, "xcc")
def _clip(node: Node) -> Function:
    low, high = (float(node.constant(i)) if node.has(i) else None for i in (1, 2))
    return lambda x: x.clone() if low is None and high is None else torch.clamp(x, low, high)


@_handles("Pow", 15, "xc")
def _pow(node: Node) -> Function:
    if node.constant(1).size != 1 or node.constant(1).item() != 2:
        raise node.refuse("its exponent is not 2; the square is supported")
    return torch.square


# --- layers with weights ---------------------------------------------------------------------------------------


@_handles("Conv", 22, "xww", "auto_pad dilations group kernel_shape pads strides")
def _conv(node: Node) -> Function:
    kernel, stride, dilation = _window(node, node.constant(1).shape[2:])
    pads = _pads(node, kernel, stride, dilation)
    convolve = F.conv1d if len(kernel) == 1 else F.conv2d
    return lambda x, w, b=None: convolve(_padded(x, pads, 0.0), w, b, stride, 0, dilation, node.get("group"))


@_handles("ConvTranspose", 22, "xww",
          "auto_pad dilations group kernel_shape output_padding output_shape pads strides")  # fmt: skip
def _conv_transpose(node: Node) -> Function:
    kernel, stride, dilation = _window(node, node.constant(1).shape[2:])
    rank, mode = len(kernel), node.get("auto_pad")
    more, size = node.get("output_padding", [0] * rank), node.get("output_shape")
    pads = node.get("pads", [0] * 2 * rank) if mode == "NOTSET" else [0] * 2 * rank
    if mode.startswith("SAME") and size is None:
        size = [n * s for n, s in zip(node.shape()[2:], stride, strict=True)]
    if size is not None:
        total = [s * (n - 1) + m + (k - 1) * d + 1 - out for n, out, k, d, m, s
                 in zip(node.shape()[2:], size[-rank:], kernel, dilation, more, stride, strict=True)]  # fmt: skip
        if min(total) < 0 and "output_shape" in node.given:
            raise node.refuse(f"output_shape={size} is larger than what the kernel reaches; use output_padding")
        pads = _halves([max(0, n) for n in total], larger_first=mode != "SAME_UPPER")
    both = [min(pair) for pair in zip(pads[:rank], pads[rank:], strict=True)]
    rest = [b - a for a, b in zip(pads, both * 2, strict=True)]
    convolve = F.conv_transpose1d if rank == 1 else F.conv_transpose2d
    return lambda x, w, b=None: _padded(convolve(x, w, b, stride, both, more, node.get("group"), dilation), rest, 0.0)


def _window(node: Node, given: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Kernel, strides and dilations."""
    kernel, rank = list(given), len(given)
    if rank not in (1, 2) or len(node.shape()) != rank + 2:
        raise node.refuse(
            f"its input has shape {node.shape()}, its kernel {kernel}; one and two dimensions of space are supported"
        )
    if node.get("kernel_shape", kernel) != kernel:
        raise node.refuse(f"kernel_shape={node.get('kernel_shape')}, but its weight has {kernel}")
    return kernel, node.get("strides", [1] * rank), node.get("dilations", [1] * rank)


def _pads(node: Node, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """In ONNX's order: all beginnings, then all ends."""
    mode = node.get("auto_pad")
    pads = node.get("pads", [0] * 2 * len(kernel)) if mode == "NOTSET" else [0] * 2 * len(kernel)
    if min(pads) < 0:
        raise node.refuse(f"pads={pads}; none below 0 are supported")
    if mode.startswith("SAME"):
        total = [max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
                 for size, k, s, d in zip(node.shape()[2:], kernel, stride, dilation, strict=True)]  # fmt: skip
        pads = _halves(total, larger_first=mode == "SAME_LOWER")
    return list(pads)


def _halves(total: list[int], larger_first: bool) -> list[int]:
    small, large = [n // 2 for n in total], [n - n // 2 for n in total]
    return large + small if larger_first else small + large


def _padded(x: torch.Tensor, pads: list[int], value: float) -> torch.Tensor:
    rank = len(pads) // 2
    amounts = [p for axis in reversed(range(rank)) for p in (pads[axis], pads[rank + axis])]
    return F.pad(x, amounts, value=value) if any(pads) else x


@_handles("Gemm", 13, "xww", "alpha beta transA transB")
def _gemm(node: Node) -> Function:
    outputs = node.constant(1).shape[0 if node.get("transB") else 1]
    if node.get("transA") and min(node.shape()) > 1:
        raise node.refuse("transA=1 moves data; 0 is supported")
    if node.has(2) and node.constant(2).ndim == 2 and (node.constant(2) != node.constant(2)[:1]).any():
        raise node.refuse(f"its C {node.constant(2).shape} differs from row to row; one row is supported")

    def run(x: torch.Tensor, w: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        w = (w if node.get("transB") else w.t()) * node.get("alpha")
        c = None if c is None else ((c[0] if c.ndim == 2 else c) * node.get("beta")).expand(outputs)
        return F.linear(x.t() if node.get("transA") else x, w, c)

    return run


@_handles("MatMul", 13, "xw")
def _matmul(node: Node) -> Function:
    shape = node.constant(1).shape
    if math.prod(shape[:-2]) != 1 or (len(shape) > 2 and len(node.shape()) < len(shape)):
        raise node.refuse(f"its B has shape {shape}; one matrix, or a vector, is supported")

    def run(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        if w.ndim == 1:
            return F.linear(x, w[None]).reshape(x.shape[:-1])
        return F.linear(x, w.reshape(w.shape[-2:]).t())

    return run


@_handles("BatchNormalization", 15, "xwwww", "epsilon momentum")
def _batch_norm(node: Node) -> Function:
    return lambda x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, eps=node.get("epsilon"))


# --- pooling ---------------------------------------------------------------------------------------------------


@_handles("MaxPool AveragePool", 22, "x",
          "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides storage_order")  # fmt: skip
def _pool(node: Node) -> Function:
    """PyTorch pads both ends alike, by at most half a window: some windows more, and what is too much is cut off."""
    kernel, stride, dilation = _window(node, node.get("kernel_shape"))
    rank, average = len(kernel), node.op == "AveragePool"
    pads, counted = _pads(node, kernel, stride, dilation), average and bool(node.get("count_include_pad"))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if average and any(d != 1 for d in dilation):
        raise node.refuse(f"dilations={dilation}; 1 is supported")
    wanted = _pooled_size(node, pads, spans, stride)
    inner = None if counted else pads[:rank]
    if not all(_inside(*axis) for axis in zip(node.shape()[2:], pads, kernel, dilation, stride, wanted, strict=False)):
        raise node.refuse(f"pads={pads} of windows {spans}: some windows lie in the padding, which is not supported")
    if inner and not all(_reached(*axis) for axis in zip(node.shape()[2:], inner, spans, stride, wanted, strict=True)):
        moved = [next((q for q in range(p, k // 2 + 1, s) if _reached(n, q, k, s, out + (q - p) // s)), None)
                 for n, p, k, s, out in zip(node.shape()[2:], inner, spans, stride, wanted, strict=True)]  # fmt: skip
        inner = [q for q in moved if q is not None]
    if not inner or len(inner) < rank:
        if average and not counted and any(pads):
            raise node.refuse(f"pads={pads} of a kernel {kernel} with strides={stride}, not counted; less is supported")
        inner, outer = [0] * rank, pads
    else:
        outer = [0] * 2 * rank
    first = [0 if any(outer) else (q - p) // s for q, p, s in zip(inner, pads, stride, strict=False)]
    room = [n + 2 * q + outer[i] + outer[rank + i] - k
            for i, (n, q, k) in enumerate(zip(node.shape()[2:], inner, spans, strict=True))]  # fmt: skip
    ceil = any(free // s + 1 < low + out for free, s, low, out in zip(room, stride, first, wanted, strict=True))
    pool = getattr(F, f"{'avg' if average else 'max'}_pool{rank}d")

    def run(x: torch.Tensor) -> torch.Tensor:
        x = _padded(x, outer, 0.0 if average else -torch.inf)
        y: torch.Tensor = (
            pool(x, kernel, stride, inner, ceil, counted) if average else pool(x, kernel, stride, inner, dilation, ceil)
        )
        for axis, (low, out) in enumerate(zip(first, wanted, strict=True), 2):
            y = y if y.shape[axis] == out else torch.ops.aten.slice(y, axis, low, low + out)
        return y

    return run


def _inside(size: int, pad: int, kernel: int, dilation: int, step: int, wanted: int) -> bool:
    """Whether every window has a place in the input."""
    places = np.arange(wanted)[:, None] * step - pad + np.arange(kernel) * dilation
    return bool(((places >= 0) & (places < size)).any(1).all())


def _reached(size: int, pad: int, span: int, step: int, wanted: int) -> bool:
    """Whether PyTorch's pooling has `wanted` windows, the last of which it may let run past the padding."""
    return 2 * pad <= span and (wanted - 1) * step < size + pad and -(-(size + 2 * pad - span) // step) + 1 >= wanted


@_handles("GlobalAveragePool GlobalMaxPool", 22)
def _global_pool(node: Node) -> Function:
    space = tuple(range(2, len(node.shape())))
    if not space:
        raise node.refuse(f"its input has shape {node.shape()}, which has no space")
    reduced = torch.amax if node.op == "GlobalMaxPool" else torch.mean
    return lambda x: reduced(x, space, keepdim=True)


def _pooled_size(node: Node, pads: Sequence[int], spans: Sequence[int], stride: Sequence[int]) -> list[int]:
    """With ceil_mode no window begins in the padding at the end."""
    rank, size = len(spans), []
    for i, (n, span, step) in enumerate(zip(node.shape()[2:], spans, stride, strict=True)):
        free = n + pads[i] + pads[rank + i] - span
        if free < 0 or (node.get("ceil_mode") and free % step and node.get("auto_pad") != "NOTSET"):
            raise node.refuse(f"windows of {span} with pads={pads} do not fit into its input {node.shape()}")
        out = (-(-free // step) if node.get("ceil_mode") else free // step) + 1
        size.append(out - 1 if (out - 1) * step >= n + pads[i] else out)
    return size


@_handles("ReduceMean ReduceMax ReduceMin ReduceSum", 20, "xc", "keepdims noop_with_empty_axes")
def _reduce(node: Node) -> Function:
    axes, keep = node.axes(1) or list(range(len(node.shape()))), bool(node.get("keepdims"))
    if not node.axes(1) and node.get("noop_with_empty_axes"):
        return torch.clone
    if node.op == "ReduceMin":
        return lambda x: -torch.amax(-x, axes, keepdim=keep)
    if node.op == "ReduceMax":
        return lambda x: torch.amax(x, axes, keepdim=keep)
    if node.op == "ReduceSum":
        return lambda x: torch.sum(x, axes, keepdim=keep)
    return lambda x: torch.mean(x, axes, keepdim=keep)


@_handles("Softmax LogSoftmax", 13, attributes="axis")
def _softmax(node: Node) -> Function:
    function = F.softmax if node.op == "Softmax" else F.log_softmax
    return lambda x: function(x, node.get("axis"))


# --- shapes ----------------------------------------------------------------------------------------------------


@_handles("Concat", 13, "a*", "axis")
def _concat(node: Node) -> Function:
    return lambda *parts: torch.cat(parts, node.get("axis"))


@_handles("Flatten", 25, attributes="axis")
def _flatten(node: Node) -> Function:
    shape, axis = node.shape(), node.get("axis")
    return lambda x: x.reshape(math.prod(shape[:axis]), math.prod(shape[axis:]))


@_handles("Transpose", 25, attributes="perm")
def _transpose(node: Node) -> Function:
    return lambda x: x.permute(node.get("perm", list(range(x.ndim))[::-1]))


@_handles("Reshape", 25, "xc", "allowzero")
def _reshape(node: Node) -> Function:
    shape = node.numbers(1)
    if not node.get("allowzero"):
        shape = [node.shape()[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return lambda x: x.reshape(shape)


@_handles("Squeeze", 25, "xc")
def _squeeze(node: Node) -> Function:
    axes = node.axes(1)
    return lambda x: x.squeeze() if axes is None else x.squeeze(tuple(axes))


@_handles("Unsqueeze", 25, "xc")
def _unsqueeze(node: Node) -> Function:
    rank, sizes = len(node.shape()) + len(node.numbers(1)), iter(node.shape())
    places = {a % rank for a in node.numbers(1)}
    shape = [1 if axis in places else next(sizes) for axis in range(rank)]
    return lambda x: x.reshape(shape)


@_handles("Expand", 13, "xc")
def _expand(node: Node) -> Function:
    shape = torch.broadcast_shapes(node.shape(), node.numbers(1))  # type: ignore[no-untyped-call]
    return lambda x: x.expand(shape)


@_handles("Split", 18, "xc", "axis num_outputs")
def _split(node: Node) -> Function:
    axis, sizes = node.get("axis"), node.numbers(1)
    if not node.has(1):
        parts, size = node.get("num_outputs"), node.shape()[axis]
        each = -(-size // parts)
        sizes = [each] * (parts - 1) + [size - each * (parts - 1)]
    return lambda x: torch.split(x, sizes, axis)


@_handles("Slice", 13, "xcccc")
def _slice(node: Node) -> Function:
    starts, ends = node.numbers(1), node.numbers(2)
    axes, steps = node.axes(3) or range(len(starts)), node.numbers(4) or [1] * len(starts)
    if min(steps) < 1:
        raise node.refuse(f"steps={steps}; positive steps are supported")

    def run(x: torch.Tensor) -> torch.Tensor:
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
            first, last, step = slice(start, end, step).indices(x.shape[axis])
            x = torch.ops.aten.slice(x, axis, first, last, step)
        return x if starts else x.clone()

    return run


@_handles("Pad", 25, "xccc", "mode", mode=("constant",))
def _pad(node: Node) -> Function:
    rank, given = len(node.shape()), node.numbers(1)
    axes = node.axes(3)
    axes = list(range(rank)) if axes is None else axes
    pads, value = [0] * 2 * rank, float(node.constant(2)) if node.has(2) else 0.0
    for place, axis in enumerate(axes):
        pads[axis], pads[rank + axis] = given[place], given[len(axes) + place]
    return lambda x: _padded(x, pads, value) if any(pads) else x.clone()


@_handles("DepthToSpace", 28, "x", "blocksize", mode=("DCR", "CRD"))
def _depth_to_space(node: Node) -> Function:
    block = node.get("blocksize")
    if node.get("mode") == "CRD":
        return lambda x: F.pixel_shuffle(x, block)
    return lambda x: F.pixel_shuffle(F.channel_shuffle(x, block * block), block)


@_handles("SpaceToDepth", 28, "x", "blocksize", mode=("DCR",))
def _space_to_depth(node: Node) -> Function:
    block = node.get("blocksize")
    return lambda x: torch.cat([x[:, :, i::block, j::block] for i in range(block) for j in range(block)], 1)


@_handles("Resize", 19, "xccc", "axes coordinate_transformation_mode nearest_mode", mode=("nearest",))
def _resize(node: Node) -> Function:
    shape, sizes = node.shape(), node.numbers(3)
    axes = [a % len(shape) for a in node.get("axes", range(len(shape)))]
    factors = [1.0] * len(shape)
    for place, axis in enumerate(axes):
        factors[axis] = sizes[place] / shape[axis] if sizes else float(node.constant(2)[place])
    if factors[:2] != [1, 1] or any(f != int(f) or f < 1 for f in factors):
        raise node.refuse(f"it enlarges by {factors}; integer factors of height and width are supported")
    how, rounding = node.get("coordinate_transformation_mode"), node.get("nearest_mode")
    if not all(_repeats(how, rounding, n, int(f)) for n, f in zip(shape, factors, strict=True)):
        raise node.refuse(
            f"coordinate_transformation_mode={how!r} with nearest_mode={rounding!r} does not repeat "
            "every pixel; 'asymmetric' with 'floor' does, and is supported"
        )
    return lambda x: F.interpolate(x, scale_factor=factors[2:], mode="nearest")


def _repeats(how: str, rounding: str, size: int, factor: int) -> bool:
    """Whether output i is input i // factor."""
    out = np.arange(size * factor)
    half = (out + 0.5) / factor - 0.5
    places = {
        "half_pixel": half, "half_pixel_symmetric": half, "pytorch_half_pixel": half if len(out) > 1 else out * 0.0,
        "asymmetric": out / factor, "align_corners": out * (size - 1) / max(len(out) - 1, 1),
    }.get(how)  # fmt: skip
    if places is None:
        return False
    rounded = {"floor": np.floor(places), "ceil": np.ceil(places), "round_prefer_floor": np.ceil(places - 0.5),
               "round_prefer_ceil": np.floor(places + 0.5)}[rounding]  # fmt: skip
    return bool((np.clip(rounded, 0, size - 1) == out // factor).all())

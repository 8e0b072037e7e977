# SPDX-License-Identifier: Apache-2.0
"""One node of a graph as an nn.Module. What it calls is what the importer reads, so that it can be exported again."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import ir
from firmware_gen.passes.quantise import quantise_node
from hls.errors import HeepgenError


class Layer(nn.Module, ABC):
    """Runs `node`: tensors (N, ...) in, (N, ...) out, for any N and float type. Its constants are those of the node's
    fields that are called so: weight, bias, scale, shift."""

    def __init__(self, node: ir.Node, in_shape: ir.Shape, out_shape: ir.Shape):
        super().__init__()
        self.node, self.in_shape, self.out_shape = node, in_shape, out_shape

    @abstractmethod
    def constant(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """The constant `name`, as the layer computes with it."""

    @abstractmethod
    def quantised_node(self) -> ir.Node:
        """The node of what the layer computes now, as `quantise` leaves it."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        x, node = inputs[0], self.node
        match node:
            case ir.Fused():
                return _epilogue(node, self.accumulate(x), inputs[-1])
            case ir.Activate():
                return node.act.evaluate(x)
            case ir.Combined():
                return node.act.evaluate(_combined(node.combine, x, inputs[1]))
            case ir.Concat():
                return torch.cat(inputs, dim=node.axis_of(tuple(x.shape)))
            case ir.Upsample():
                height, width = node.factor
                return F.interpolate(x, scale_factor=(float(height), float(width)), mode="nearest-exact")
            case ir.Pad():
                return _padded(x, node.pads, node.value)
            case ir.Slice():
                parts = zip(node.start, self.out_shape[1:], node.step, strict=True)
                return x[:, *(slice(first, first + (size - 1) * step + 1, step) for first, size, step in parts)]
            case ir.Reshape():
                return x.reshape(self.out_shape[0] * len(x) // self.in_shape[0], *self.out_shape[1:])
            case ir.Shuffle():
                grouped = x.reshape(len(x), node.groups, -1, *x.shape[2:])
                return grouped.transpose(1, 2).flatten(1, 2)
            case ir.PixelShuffle():
                return F.pixel_shuffle(x, node.factor)
            case ir.PixelUnshuffle():
                return F.pixel_unshuffle(x, node.factor)
            case ir.Permute():
                return x.permute(node.dims)
            case ir.AsStrided():
                places = node.elements(self.in_shape, self.out_shape).reshape(-1)
                taken = x.reshape(-1, math.prod(self.in_shape))[:, torch.from_numpy(places).to(x.device)]
                return taken.reshape(self.out_shape[0] * len(taken), *self.out_shape[1:])
            case ir.MatMul() | ir.PlaneProduct():
                y = (node.product if isinstance(node, ir.PlaneProduct) else node).evaluate(*inputs[:2])
                return y.reshape(self.out_shape[0] * len(y), *self.out_shape[1:])
            case ir.Advance():
                kept = self.out_shape[node.axis]
                return x.narrow(node.axis, x.shape[node.axis] - kept, kept)
            case ir.Append():
                return torch.cat(inputs, node.axis)
            case ir.OnCpu():
                return node.evaluate(*inputs)
            case ir.BatchNorm():
                return _scaled(x, self.constant("scale", x.dtype), self.constant("shift", x.dtype))
            case ir.Identity():
                return x
        raise HeepgenError(f"layer {node.name}: {node.op} cannot run in PyTorch")

    def accumulate(self, x: torch.Tensor) -> torch.Tensor:
        """What a `Fused` computes before residual and activation."""
        node = self.node
        match node:
            case ir.Conv():
                convolution = _transposed_convolution if node.is_transposed else _convolution
                return convolution(node, x, self.constant("weight", x.dtype), self._bias(node, x.dtype))
            case ir.Linear():
                return F.linear(x, self.constant("weight", x.dtype), self._bias(node, x.dtype))
            case ir.Scale():
                return _scaled(x, self.constant("scale", x.dtype), self.constant("bias", x.dtype))
            case ir.Pool():
                return _pool(node, x, self.out_shape)
            case ir.Interpolate():
                return F.interpolate(x, size=self.out_shape[2:], mode="bilinear", align_corners=node.align_corners)
            case ir.Expand():
                batch = -1 if self.in_shape[0] == self.out_shape[0] else self.out_shape[0]
                return x.expand(batch, *self.out_shape[1:])
        raise HeepgenError(f"layer {node.name}: {node.op} cannot run in PyTorch")

    def _bias(self, node: ir.Weighted, dtype: torch.dtype) -> torch.Tensor | None:
        return None if node.bias is None else self.constant("bias", dtype)


class FixedLayer(Layer):
    """A layer whose constants are buffers, of `dtype`; a quantised weight is int8 and times the scale."""

    def __init__(self, node: ir.Node, in_shape: ir.Shape, out_shape: ir.Shape, dtype: type[np.floating]):
        super().__init__(node, in_shape, out_shape)
        for name, array in constants(node).items():
            self.register_buffer(name, torch.from_numpy(np.array(array, np.int8 if array.dtype == np.int8 else dtype)))

    def constant(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        value = self.get_buffer(name)
        return value.to(dtype) if value.is_floating_point() else _times_scale(value, self.get_buffer("scale"), dtype)

    def quantised_node(self) -> ir.Node:
        return self.node


class TrainedLayer(Layer):
    """A layer whose constants are Parameters, in float64. It computes with what `quantise` makes of them: INT8 weights
    times their scale, all else in float32; gradients pass as if nothing was rounded."""

    def __init__(
        self,
        node: ir.Node,
        in_shape: ir.Shape,
        out_shape: ir.Shape,
        per_channel: bool = True,
        calibrate: str = "max",
        bits: int = 8,
    ):
        super().__init__(node, in_shape, out_shape)
        self.per_channel, self.calibrate, self.bits = per_channel, calibrate, bits
        for name, array in constants(node).items():
            self.register_parameter(name, nn.Parameter(torch.from_numpy(array.astype(np.float64))))
        self._last: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None

    def constant(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        parameter = self.get_parameter(name)
        if name != "weight":
            return parameter.to(torch.float32).to(dtype)
        if torch.compiler.is_exporting():
            raise HeepgenError("a module that is trained cannot be exported: export what its frozen() returns")
        rounded = _times_scale(*self._rounded(parameter.detach()), dtype)
        value: torch.Tensor = _StraightThrough.apply(parameter, rounded)  # type: ignore[no-untyped-call]
        return value

    def _rounded(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """INT8 weight and scale (O,) of `weight`; found again when it is another one."""
        if self._last is None or not _same(weight, self._last[0]):
            node = self.quantised_node()
            assert isinstance(node, ir.Weighted)
            found, scale = (torch.tensor(array, device=weight.device) for array in (node.weight, node.parameters[0]))
            self._last = weight.clone(), found, scale
        return self._last[1:]

    def quantised_node(self) -> ir.Node:
        now: dict[str, Any] = {}
        for name, value in self.named_parameters(recurse=False):
            now[name] = value.detach().cpu().double().numpy().copy()
            if not np.isfinite(now[name]).all():
                raise HeepgenError(f"layer {self.node.name}: its {name} holds NaN or infinity; train more slowly")
        return quantise_node(replace(self.node, **now), self.per_channel, self.calibrate, self.bits)


class _StraightThrough(torch.autograd.Function):
    """`value` for `parameter`, whose gradient is that of the value."""

    @staticmethod
    def forward(ctx: Any, parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        ctx.dtype = parameter.dtype
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0].to(ctx.dtype), None


def constants(node: ir.Node) -> Mapping[str, np.ndarray]:
    """The constants of `node`, by their names."""
    found = {name: getattr(node, name) for name in node.learned}
    return {name: array for name, array in found.items() if array is not None}


def channel_dim(x: torch.Tensor) -> int:
    """The dimension of channels, or of features."""
    return min(1, x.ndim - 1)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)


def _times_scale(weight: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return weight.to(dtype) * scale.to(dtype).reshape(-1, *[1] * (weight.ndim - 1))


def _epilogue(node: ir.Fused, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    if node.residual == "before_act":
        x = _combined(node.combine, x, residual)
    x = node.act.evaluate(x)
    return _combined(node.combine, x, residual) if node.residual == "after_act" else x


def _combined(combine: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    match combine:
        case "multiply":
            return x * y
        case "negative":
            return F.relu(x) - F.relu(-x) * y
        case "maximum":
            return torch.maximum(x, y)
    return x + y


def _scaled(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    shape = (-1, *[1] * (x.ndim - 1 - channel_dim(x)))
    return x * scale.reshape(shape) + bias.reshape(shape)


def _padded(x: torch.Tensor, pads: ir.Pads, value: float) -> torch.Tensor:
    top, left, bottom, right = pads
    return F.pad(x, (left, right, top, bottom), value=value) if any(pads) else x


def _both_sides(pads: ir.Pads) -> ir.Pair | None:
    """The padding at either side of height and width, where it is the same."""
    top, left, bottom, right = pads
    return (top, left) if (top, left) == (bottom, right) and min(pads) >= 0 else None


def _convolution(node: ir.Conv, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if (count := math.prod(node.sections)) > 1:
        one, axis = replace(node, sections=(1, 1)), 2 if node.sections[0] > 1 else 3
        own = [slice(number, None, count) for number in range(count)]
        whole = [_convolution(one, x, weight[part], None if bias is None else bias[part]) for part in own]
        size = whole[0].shape[axis] // count
        return torch.cat([y.narrow(axis, n * size, size) for n, y in enumerate(whole)], axis)
    padding = _both_sides(node.pads)
    if padding is None:
        x = _padded(x, node.pads, 0.0)
    return F.conv2d(x, weight, bias, node.stride, padding or (0, 0), node.dilation, node.groups)


def _transposed_convolution(
    node: ir.Conv, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """By PyTorch's own, whose padding is what is missing to (kernel - 1) * dilation, where that has the node's pads."""
    whole = [d * (k - 1) for d, k in zip(node.dilation, node.kernel, strict=True)]
    padding = [full - pad for full, pad in zip(whole, node.pads[:2], strict=True)]
    more = [end - start for start, end in zip(node.pads[:2], node.pads[2:], strict=True)]
    most = [max(pair) for pair in zip(node.input_dilation, node.dilation, strict=True)]
    if min(padding + more) < 0 or any(a >= b for a, b in zip(more, most, strict=True)):
        x = _padded(_spread(x, node.input_dilation), node.pads, 0.0)
        return F.conv2d(x, weight, bias, 1, 0, node.dilation, node.groups)
    inputs = node.in_channels // node.groups
    weight = weight.flip(2, 3).reshape(node.groups, -1, inputs, *node.kernel).transpose(1, 2)
    weight = weight.reshape(node.in_channels, -1, *node.kernel)
    return F.conv_transpose2d(x, weight, bias, node.input_dilation, padding, more, node.groups, node.dilation)


def _spread(x: torch.Tensor, distance: ir.Pair) -> torch.Tensor:
    """Rows and columns at these distances, with zeros between them."""
    *most, height, width = x.shape
    y = x.new_zeros(*most, (height - 1) * distance[0] + 1, (width - 1) * distance[1] + 1)
    y[..., :: distance[0], :: distance[1]] = x
    return y


def _pool(node: ir.Pool, x: torch.Tensor, out_shape: ir.Shape) -> torch.Tensor:
    height, width = out_shape[2:]
    if node.adaptive:
        pool = F.adaptive_max_pool2d if node.kind == "max" else F.adaptive_avg_pool2d
        return pool(x, (height, width))
    out = _max_pool(node, x) if node.kind == "max" else _avg_pool(node, x)
    return out if out.shape[2:] == (height, width) else out[:, :, :height, :width]


def _pool_padding(node: ir.Pool) -> ir.Pair | None:
    """The node's padding where PyTorch's pooling takes it."""
    padding = _both_sides(node.pads)
    fits = padding is not None and all(2 * pad <= size for pad, size in zip(padding, node.kernel, strict=True))
    return padding if fits else None


def _max_pool(node: ir.Pool, x: torch.Tensor) -> torch.Tensor:
    padding = _pool_padding(node)
    if padding is None:
        x = _padded(x, node.pads, -math.inf)
    return F.max_pool2d(x, node.kernel, node.stride, padding or (0, 0), node.dilation, ceil_mode=node.ceil_mode)


def _avg_pool(node: ir.Pool, x: torch.Tensor) -> torch.Tensor:
    """PyTorch's own, or sum over the window / number of counted positions: the second is the first, of ones."""
    padding = _pool_padding(node)
    if padding is not None:
        counted = (node.ceil_mode, node.count_include_pad, node.divisor_override)
        return F.avg_pool2d(x, node.kernel, node.stride, padding, *counted)

    def window_sums(y: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(y, node.kernel, node.stride, 0, ceil_mode=node.ceil_mode, divisor_override=1)

    total = window_sums(_padded(x, node.pads, 0.0))
    if node.divisor_override is not None:
        return total / node.divisor_override
    border = 1.0 if node.count_include_pad else 0.0
    return total / window_sums(_padded(torch.ones_like(x[:1, :1]), node.pads, border))

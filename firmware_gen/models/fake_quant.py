# SPDX-License-Identifier: Apache-2.0
"""The IR run by PyTorch: the quantised network as an ordinary nn.Module, on any device and batch size.

Weights are q * scale in float32. Accuracy is measured with this; the bit-exact model is the hardware's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import ir
from firmware_gen.passes.quantise import quantise
from hls.errors import HeepgenError


def quantized_model(graph: ir.Graph, per_channel: bool = True, calibrate: str = "max") -> GraphModule:
    """The fake-quantised model of a lowered graph, which is quantised first, as `quantise` does, when it is not yet."""
    layers = [n for n in graph.nodes if isinstance(n, ir.Weighted)]
    if any(n.scale is None for n in layers):
        graph = quantise(graph, per_channel, calibrate)
    return GraphModule(graph)


Outputs = torch.Tensor | tuple[torch.Tensor, ...]


class GraphModule(nn.Module):
    """Executes a graph in PyTorch: x (B, ...) float32 -> (B, ...), B any multiple of the graph's batch; a tuple of
    tensors when the graph has several outputs. An input that is a vector has no batch, and outputs that are vectors
    are stacked: (n,) -> (copies, n).

    Works before quantisation too (weights rounded to `dtype`), and straight after import.
    `forward(x, taps)` also stores every layer's output in the dict `taps`, by layer name.
    """

    def __init__(self, graph: ir.Graph, dtype: type[np.floating] = np.float32):
        super().__init__()
        self.graph = graph
        for index, node in enumerate(graph.nodes):
            for field, array in _parameters(node, dtype).items():
                self.register_buffer(f"{field}_{index}", torch.from_numpy(array))

    def forward(self, x: torch.Tensor, taps: dict[str, torch.Tensor] | None = None) -> Outputs:
        expected, got = self.graph.shape(self.graph.inputs[0]), tuple(x.shape)
        if got != expected and (len(expected) < 2 or got[1:] != expected[1:] or got[0] % expected[0]):
            raise HeepgenError(f"the input has shape {got}, the model takes {expected}")
        copies = got[0] // expected[0]
        if copies > 1 and any(len(self.graph.out_shape(node)) == 1 for node in self.graph.nodes):
            return self._one_by_one(torch.split(x, expected[0]), taps)
        values = {self.graph.inputs[0]: x}
        for index, node in enumerate(self.graph.nodes):
            out = self.step(index, node, [values[v] for v in node.inputs], copies)
            values[node.output] = out
            if taps is not None:
                taps[node.name] = out
        outputs = tuple(values[v] for v in self.graph.outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def _one_by_one(self, batches: tuple[torch.Tensor, ...], taps: dict[str, torch.Tensor] | None) -> Outputs:
        """`forward` where some values are vectors, to which a larger batch would be a longer vector."""
        kept: list[dict[str, torch.Tensor]] = [{} for _ in batches]
        results = [self(x, own) for x, own in zip(batches, kept, strict=True)]
        if taps is not None:
            taps |= {name: _joined([own[name] for own in kept]) for name in kept[0]}
        if isinstance(results[0], tuple):
            return tuple(_joined(parts) for parts in zip(*results, strict=True))
        return _joined(results)

    def step(self, index: int, node: ir.Node, inputs: list[torch.Tensor], copies: int) -> torch.Tensor:
        """Output of `node`, the graph's number `index`, for `copies` of the graph's batch at once."""
        x = inputs[0]
        match node:
            case ir.Fused():
                return _epilogue(node, self.accumulate(index, node, x), inputs[-1])
            case ir.Activate():
                return node.act.evaluate(x)
            case ir.Add():
                return node.act.evaluate(x + inputs[1])
            case ir.Concat():
                return torch.cat(inputs, dim=channel_dim(x))
            case ir.Upsample():
                return x.repeat_interleave(node.factor[0], dim=2).repeat_interleave(node.factor[1], dim=3)
            case ir.Pad():
                return _padded(x, node.pads, node.value)
            case ir.Slice():
                sizes = self.graph.out_shape(node)[1:]
                return x[
                    :,
                    *(
                        slice(first, first + (size - 1) * step + 1, step)
                        for first, size, step in zip(node.start, sizes, node.step, strict=True)
                    ),
                ]
            case ir.Reshape():
                first, *rest = self.graph.out_shape(node)
                return x.reshape(first * copies, *rest)
            case ir.Shuffle():
                grouped = x.reshape(len(x), node.groups, -1, *x.shape[2:])
                return grouped.transpose(1, 2).flatten(1, 2)
            case ir.PixelShuffle():
                return F.pixel_shuffle(x, node.factor)
            case ir.Permute():
                return x.permute(node.dims)
            case ir.OnCpu():
                return node.evaluate(*inputs)
            case ir.BatchNorm():
                return _scaled(x, self._parameter(index, "scale"), self._parameter(index, "shift"))
            case ir.Identity():
                return x
        raise HeepgenError(f"layer {node.name}: {node.op} cannot run in PyTorch")

    def accumulate(self, index: int, node: ir.Fused, x: torch.Tensor) -> torch.Tensor:
        """What `node` computes before residual and activation."""
        bias = self._parameter_or_none(index, "bias")
        match node:
            case ir.Conv():
                weight = self._parameter(index, "weight")
                x = _padded(_spread(x, node.input_dilation), node.pads, 0.0)
                return F.conv2d(x, weight, bias, node.stride, 0, node.dilation, node.groups)
            case ir.Linear():
                return F.linear(x, self._parameter(index, "weight"), bias)
            case ir.Scale():
                return _scaled(x, self._parameter(index, "scale"), self._parameter(index, "bias"))
            case ir.Pool(adaptive=True):
                height, width = self.graph.out_shape(node)[2:]
                pool = F.adaptive_max_pool2d if node.kind == "max" else F.adaptive_avg_pool2d
                return pool(x, (height, width))
            case ir.Pool():
                height, width = self.graph.out_shape(node)[2:]
                out = _max_pool(x, node) if node.kind == "max" else _avg_pool(x, node)
                return out[:, :, :height, :width]
        raise HeepgenError(f"layer {node.name}: {node.op} cannot run in PyTorch")

    def _parameter(self, index: int, name: str) -> torch.Tensor:
        return self.get_buffer(f"{name}_{index}")

    def _parameter_or_none(self, index: int, name: str) -> torch.Tensor | None:
        return getattr(self, f"{name}_{index}", None)


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return (torch.cat if parts[0].ndim > 1 else torch.stack)(tuple(parts))


def _parameters(node: ir.Node, dtype: type[np.floating]) -> dict[str, np.ndarray]:
    match node:
        case ir.Weighted():
            weight = node.weight.astype(dtype)
            if node.scale is not None:
                weight = weight * node.scale.reshape(-1, *[1] * (weight.ndim - 1))
            bias = {} if node.bias is None else {"bias": node.bias.astype(dtype)}
            return {"weight": weight} | bias
        case ir.Scale():
            return {"scale": node.scale.astype(dtype), "bias": node.bias.astype(dtype)}
        case ir.BatchNorm():
            return {"scale": node.scale.astype(dtype), "shift": node.shift.astype(dtype)}
    return {}


def _epilogue(node: ir.Fused, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    if node.residual == "before_act":
        x = x + residual
    x = node.act.evaluate(x)
    return x + residual if node.residual == "after_act" else x


def channel_dim(x: torch.Tensor) -> int:
    """The dimension of channels, or of features."""
    return min(1, x.ndim - 1)


def _scaled(x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    shape = (-1, *[1] * (x.ndim - 1 - channel_dim(x)))
    return x * scale.reshape(shape) + bias.reshape(shape)


def _padded(x: torch.Tensor, pads: ir.Pads, value: float) -> torch.Tensor:
    top, left, bottom, right = pads
    return F.pad(x, (left, right, top, bottom), value=value) if any(pads) else x


def _spread(x: torch.Tensor, distance: ir.Pair) -> torch.Tensor:
    """Rows and columns at these distances, with zeros between them."""
    if distance == (1, 1):
        return x
    *most, height, width = x.shape
    y = x.new_zeros(*most, (height - 1) * distance[0] + 1, (width - 1) * distance[1] + 1)
    y[..., :: distance[0], :: distance[1]] = x
    return y


def _max_pool(x: torch.Tensor, node: ir.Pool) -> torch.Tensor:
    x = _padded(x, node.pads, -torch.inf)
    return F.max_pool2d(x, node.kernel, node.stride, 0, node.dilation, ceil_mode=node.ceil_mode)


def _avg_pool(x: torch.Tensor, node: ir.Pool) -> torch.Tensor:
    """Sum over the window / number of counted positions: the second is the first, of a map of ones."""

    def window_sums(y: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(y, node.kernel, node.stride, 0, ceil_mode=node.ceil_mode, divisor_override=1)

    total = window_sums(_padded(x, node.pads, 0.0))
    if node.divisor_override is not None:
        return total / node.divisor_override
    border = 1.0 if node.count_include_pad else 0.0
    return total / window_sums(_padded(torch.ones_like(x[:1, :1]), node.pads, border))

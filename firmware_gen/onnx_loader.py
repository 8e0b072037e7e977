"""An ONNX file as an ExportedProgram: every node becomes a small module of PyTorch operators, and torch.export the
result. So ONNX and PyTorch models share one importer, and messages name the ONNX node as they name a layer.

Needs the package `onnx` (heepgen[onnx]); it parses and checks the file, and nothing in it is executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.export import ExportedProgram

from firmware_gen.refusal import not_one_input, refusal
from hls.errors import HeepgenError

Function = Callable[..., torch.Tensor]


def load_onnx(path: Path) -> ExportedProgram:
    """The network in an .onnx file with one float32 input of fixed shape; a symbolic batch becomes 1.

    Raises HeepgenError, one sentence, for damaged files, and by node name for what is not supported.
    """
    try:
        import onnx
    except ImportError as error:
        raise HeepgenError(f"{path}: reading ONNX files needs the package onnx: pip install heepgen[onnx]") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
        if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
            raise HeepgenError(f"{path} keeps its weights in another file; save it with the weights inside")
        onnx.checker.check_model(model)
    except HeepgenError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise HeepgenError(f"{path} is not a complete ONNX file ({reason}); export it again") from error
    network = _Network(path, model, onnx)
    return torch.export.export(network.eval(), (network.example,))


class _Network(nn.Module):
    """The graph, node by node; `values` are names in the file. `example` is a zero input."""

    def __init__(self, path: Path, model, onnx):
        super().__init__()
        self.graph_name, self.onnx = str(path), onnx
        self.opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
        graph = model.graph
        static = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        inputs = [i for i in graph.input if i.name not in static]
        if len(inputs) != 1:
            raise HeepgenError(f"{path}: {not_one_input(i.name for i in inputs)}")
        self.example = torch.zeros(self._shape(inputs[0]))
        self.source, self.results = inputs[0].name, [o.name for o in graph.output]
        self.plan: list[tuple[str, list[str], str]] = []
        known = {self.source: self.example}
        with torch.no_grad():
            for index, proto in enumerate(graph.node):
                self._add(_Node(self, proto, index, static, known), static, known)
        missing = [name for name in self.results if name not in known]
        if missing:
            raise HeepgenError(f"{path}: output {missing[0]} is a constant: return only what depends on the input")

    def forward(self, x: torch.Tensor):
        values = {self.source: x}
        for name, inputs, output in self.plan:
            values[output] = getattr(self, name)(*(values[v] for v in inputs))
        results = tuple(values[name] for name in self.results)
        return results if len(results) > 1 else results[0]

    def _shape(self, value) -> tuple[int, ...]:
        tensor = value.type.tensor_type
        if tensor.elem_type != self.onnx.TensorProto.FLOAT:
            raise HeepgenError(f"{self.graph_name}: input {value.name} is not float32; export the model in float32")
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in tensor.shape.dim]
        if dims and not dims[0]:
            dims[0] = 1
        if not dims or min(dims) < 1:
            raise HeepgenError(f"{self.graph_name}: input {value.name} has no fixed shape; export it with fixed sizes")
        return tuple(dims)

    def _add(self, node: _Node, static: dict, known: dict):
        constant = node.constant_value()
        if constant is not None:
            static[node.output] = constant
            return
        handler = HANDLERS.get(node.op)
        if handler is None:
            raise node.refuse("this operator is not supported")
        step = _Step(handler(node), node.weights())
        inputs = [v for v in node.inputs if v in known]
        try:
            known[node.output] = step(*(known[v] for v in inputs))
        except HeepgenError:
            raise
        except Exception as error:
            raise node.refuse(f"it does not fit its inputs ({str(error).splitlines()[0].rstrip('.')})") from error
        name = node.unique_name(self)
        self.add_module(name, step)
        self.plan.append((name, inputs, node.output))


class _Step(nn.Module):
    """One node: `weights` by input position (None for an input that is left out), the others are given."""

    def __init__(self, function: Function, weights: list):
        super().__init__()
        self.function, self.given = function, [w is ... for w in weights]
        for index, weight in enumerate(weights):
            if isinstance(weight, np.ndarray):
                self.register_buffer(f"input_{index}", torch.from_numpy(weight.copy()))

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        rest = iter(tensors)
        return self.function(*(next(rest) if given else getattr(self, f"input_{i}", None)
                               for i, given in enumerate(self.given)))  # fmt: skip


class _Node:
    """A node of the file: operator, attributes, inputs, and which of them are constants."""

    def __init__(self, network: _Network, proto, index: int, static: dict, known: dict):
        self.onnx, self.opset, self.proto = network.onnx, network.opset, proto
        self.op, self.inputs, self.output = proto.op_type, list(proto.input), proto.output[0]
        self.name = proto.name or f"{self.op}_{index}"
        self.attributes = {a.name: self.onnx.helper.get_attribute_value(a) for a in proto.attribute}
        self._static, self._known = static, known
        for value in self.inputs:
            if value and value not in static and value not in known:
                raise self.refuse(f"its input {value} is not computed by a supported operator")
        if proto.domain not in ("", "ai.onnx"):
            raise self.refuse(f"domain {proto.domain} is not the standard one")

    def unique_name(self, network: nn.Module) -> str:
        stem = re.sub(r"\W+", "_", self.name).strip("_") or self.op
        name, count = stem, 0
        while hasattr(network, name):
            name, count = f"{stem}_{count}", count + 1
        return name

    def refuse(self, reason: str) -> HeepgenError:
        return refusal(self.name, self.op, reason)

    def get(self, name: str, default=None):
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def shape(self, index: int = 0) -> tuple[int, ...]:
        return tuple(self._known[self.inputs[index]].shape)

    def constant(self, index: int, what: str):
        """Input `index` as a constant array; None when it is left out."""
        if index >= len(self.inputs) or not self.inputs[index]:
            return None
        if self.inputs[index] not in self._static:
            raise self.refuse(f"its {what} is computed by the model; only constants are supported")
        return self._static[self.inputs[index]]

    def numbers(self, name: str, index: int) -> list[int] | None:
        """Integers that older opsets give as an attribute, newer ones as an input."""
        if name in self.attributes:
            return [int(v) for v in self.attributes[name]]
        array = self.constant(index, name)
        return None if array is None else [int(v) for v in array.reshape(-1)]

    def weights(self) -> list:
        """By input: ... for a computed one, an array for a constant, None for one left out."""
        return [... if v in self._known else self._static.get(v) for v in self.inputs]

    def constant_value(self) -> np.ndarray | None:
        """The result, when it depends on constants and shapes only."""
        if self.op == "Shape" and self.inputs[0] in self._known:
            return np.array(self.shape())
        if self.op not in FOLDABLE or any(v in self._known for v in self.inputs):
            return None
        from onnx.reference import ReferenceEvaluator

        feeds = {v: self._static[v] for v in self.inputs if v}
        graph = self.onnx.helper.make_graph(
            [self.proto], "constant", [self.onnx.helper.make_tensor_value_info(v, self._kind(a), a.shape)
                                       for v, a in feeds.items()],
            [self.onnx.helper.make_empty_tensor_value_info(self.output)],
        )  # fmt: skip
        opset = self.onnx.helper.make_opsetid("", self.opset)
        try:
            model = self.onnx.helper.make_model(graph, opset_imports=[opset])
            return np.asarray(ReferenceEvaluator(model).run(None, feeds)[0])
        except Exception as error:
            raise self.refuse(f"its constant inputs cannot be evaluated ({error!r})") from error

    def _kind(self, array: np.ndarray) -> int:
        return self.onnx.helper.np_dtype_to_tensor_dtype(array.dtype)


FOLDABLE = frozenset(
    ("Constant", "Shape", "Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Cast", "Add", "Sub", "Mul", "Div",
     "Reshape", "Transpose", "Identity")
)  # fmt: skip
HANDLERS: dict[str, Callable[[_Node], Function]] = {
    "Relu": lambda n: F.relu,
    "Sigmoid": lambda n: torch.sigmoid,
    "Tanh": lambda n: torch.tanh,
    "HardSigmoid": lambda n: lambda x: torch.clamp(x * n.get("alpha", 0.2) + n.get("beta", 0.5), 0, 1),
    "HardSwish": lambda n: F.hardswish,
    "Neg": lambda n: torch.neg,
    "Identity": lambda n: lambda x: x.clone(),
    "Dropout": lambda n: lambda x, *_: x.clone(),
    "Add": lambda n: torch.add,
    "Sub": lambda n: torch.sub,
    "Mul": lambda n: torch.mul,
    "Div": lambda n: torch.div,
    "PRelu": lambda n: lambda x, slope: F.prelu(x, slope.reshape(-1)),
    "LeakyRelu": lambda n: lambda x: F.leaky_relu(x, n.get("alpha", 0.01)),
    "Concat": lambda n: lambda *parts: torch.cat(parts, n.get("axis")),
    "Flatten": lambda n: lambda x: x.reshape(int(np.prod(x.shape[: n.get("axis", 1)], dtype=int)), -1),
    "Transpose": lambda n: lambda x: x.permute(n.get("perm") or list(range(x.ndim))[::-1]),
    "GlobalAveragePool": lambda n: lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda n: lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True),
}


def _handles(*names: str):
    def register(function):
        HANDLERS.update(dict.fromkeys(names, function))
        return function

    return register


@_handles("Conv")
def _conv(node: _Node) -> Function:
    rank = len(node.shape()) - 2
    if rank not in (1, 2):
        raise node.refuse(f"its input has shape {node.shape()}; (N, C, L) or (N, C, H, W) is supported")
    weight = node.constant(1, "weight")
    stride, dilation = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    pads = _pads(node, weight.shape[2:], stride, dilation)
    convolve = F.conv1d if rank == 1 else F.conv2d

    def run(x, w, b=None):
        return convolve(_padded(x, pads, 0.0), w, b, stride, 0, dilation, node.get("group", 1))

    return run


@_handles("ConvTranspose")
def _conv_transpose(node: _Node) -> Function:
    weight = node.constant(1, "weight")
    rank = weight.ndim - 2
    if rank not in (1, 2):
        raise node.refuse(f"its weight has {weight.ndim} dimensions; one and two dimensions of space are supported")
    if "output_shape" in node.attributes:
        raise node.refuse("output_shape is given; export with pads and output_padding instead")
    stride, dilation = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    more, mode = node.get("output_padding", [0] * rank), node.get("auto_pad", "NOTSET")
    pads = list(node.get("pads", [0] * 2 * rank)) if mode == "NOTSET" else [0] * 2 * rank
    if mode.startswith("SAME"):  # the output is `stride` times as large as the input
        total = [max(0, (k - 1) * d + 1 + m - s)
                 for k, d, m, s in zip(weight.shape[2:], dilation, more, stride, strict=True)]
        small = [n // 2 for n in total]
        large = [n - s for n, s in zip(total, small, strict=True)]
        pads = small + large if mode == "SAME_UPPER" else large + small
    both = [min(pair) for pair in zip(pads[:rank], pads[rank:], strict=True)]
    rest = [a - b for a, b in zip(pads, both * 2, strict=True)]
    convolve = F.conv_transpose1d if rank == 1 else F.conv_transpose2d

    def run(x, w, b=None):
        y = convolve(x, w, b, stride, both, more, node.get("group", 1), dilation)
        return _padded(y, [-n for n in rest], 0.0)

    return run


def _pads(node: _Node, kernel, stride, dilation) -> list[int]:
    """In ONNX's order: all beginnings, then all ends."""
    mode, rank = node.get("auto_pad", "NOTSET"), len(kernel)
    if mode == "NOTSET":
        return list(node.get("pads", [0] * 2 * rank))
    if mode == "VALID":
        return [0] * 2 * rank
    begin, end = [], []
    for size, k, s, d in zip(node.shape()[2:], kernel, stride, dilation, strict=True):
        total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        small, large = total // 2, total - total // 2
        begin.append(small if mode == "SAME_UPPER" else large)
        end.append(large if mode == "SAME_UPPER" else small)
    return begin + end


def _padded(x: torch.Tensor, pads: list[int], value: float) -> torch.Tensor:
    rank = len(pads) // 2
    amounts = [p for axis in reversed(range(rank)) for p in (pads[axis], pads[rank + axis])]
    return F.pad(x, amounts, value=value) if any(pads) else x


@_handles("MaxPool", "AveragePool")
def _pool(node: _Node) -> Function:
    kernel = list(node.get("kernel_shape"))
    rank = len(kernel)
    if rank not in (1, 2):
        raise node.refuse(f"kernel_shape={kernel}; one and two dimensions are supported")
    stride, dilation = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    pads, ceil = _pads(node, kernel, stride, dilation), bool(node.get("ceil_mode", 0))
    equal = pads[:rank] == pads[rank:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False))
    own = pads[:rank] if equal else 0
    outer = [0] * 2 * rank if own else pads
    if node.op == "MaxPool":
        pool = F.max_pool1d if rank == 1 else F.max_pool2d
        return lambda x: pool(_padded(x, outer, -torch.inf), kernel, stride, own, dilation, ceil)
    if any(d != 1 for d in dilation):
        raise node.refuse(f"dilations={dilation}; 1 is supported")
    counted = bool(node.get("count_include_pad", 0))
    if any(outer) and not counted:
        raise node.refuse(f"pads={pads} with count_include_pad=0; equal pads on both sides are supported")
    pool = F.avg_pool1d if rank == 1 else F.avg_pool2d
    return lambda x: pool(_padded(x, outer, 0.0), kernel, stride, own, ceil, counted)


@_handles("Gemm")
def _gemm(node: _Node) -> Function:
    if node.get("transA", 0):
        raise node.refuse("transA=1; 0 is supported")
    alpha, beta, transposed = node.get("alpha", 1.0), node.get("beta", 1.0), node.get("transB", 0)

    def run(x, w, b=None):
        w = w if transposed else w.t()
        return F.linear(x, w if alpha == 1 else w * alpha, b if b is None or beta == 1 else b * beta)

    node.constant(1, "weight")
    return run


@_handles("MatMul")
def _matmul(node: _Node) -> Function:
    node.constant(1, "weight")
    return lambda x, w: F.linear(x, w.t())


@_handles("BatchNormalization")
def _batch_norm(node: _Node) -> Function:
    if node.get("training_mode", 0):
        raise node.refuse("training_mode=1; export the model in evaluation mode")
    return lambda x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, eps=node.get("epsilon", 1e-5))


@_handles("Clip")
def _clip(node: _Node) -> Function:
    low, high = (node.get(name) if name in node.attributes else node.constant(i, name)
                 for i, name in ((1, "min"), (2, "max")))  # fmt: skip
    low, high = (None if bound is None else float(bound) for bound in (low, high))
    return lambda x, *_: x.clone() if low is None and high is None else torch.clamp(x, low, high)


@_handles("DepthToSpace")
def _depth_to_space(node: _Node) -> Function:
    if node.get("mode", "DCR") != "CRD":
        raise node.refuse("mode=DCR; CRD, which is PyTorch's PixelShuffle, is supported")
    return lambda x: F.pixel_shuffle(x, node.get("blocksize"))


@_handles("Softmax", "LogSoftmax")
def _softmax(node: _Node) -> Function:
    axis, rank = node.get("axis", -1 if node.opset >= 13 else 1), len(node.shape())
    if node.opset < 13 and axis % rank != rank - 1:
        raise node.refuse(f"axis={axis} before opset 13 is over several dimensions; export with opset 13 or newer")
    function = F.softmax if node.op == "Softmax" else F.log_softmax
    return lambda x: function(x, axis)


@_handles("ReduceMean", "ReduceMax")
def _reduce(node: _Node) -> Function:
    axes, keep = node.numbers("axes", 1) or list(range(len(node.shape()))), bool(node.get("keepdims", 1))
    reduced = torch.mean if node.op == "ReduceMean" else torch.amax
    return lambda x, *_: reduced(x, axes, keepdim=keep)


@_handles("Reshape")
def _reshape(node: _Node) -> Function:
    shape = [int(v) for v in node.constant(1, "shape")]
    if not node.get("allowzero", 0):
        shape = [node.shape()[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return lambda x, *_: x.reshape(shape)


@_handles("Squeeze")
def _squeeze(node: _Node) -> Function:
    axes = node.numbers("axes", 1)
    return lambda x, *_: x.squeeze() if axes is None else x.squeeze(tuple(axes))


@_handles("Unsqueeze")
def _unsqueeze(node: _Node) -> Function:
    axes = node.numbers("axes", 1)
    rank = len(node.shape()) + len(axes)
    sizes = iter(node.shape())
    places = {a % rank for a in axes}
    shape = [1 if axis in places else next(sizes) for axis in range(rank)]
    return lambda x, *_: x.reshape(shape)


@_handles("Pad")
def _pad(node: _Node) -> Function:
    mode, pads = node.get("mode", "constant"), node.numbers("pads", 1)
    value = node.constant(2, "value")
    value = float(node.get("value", 0.0) if value is None else value)
    if node.constant(3, "axes") is not None:
        raise node.refuse("axes are given; pads for all dimensions are supported")
    if mode != "constant":
        raise node.refuse(f"mode={mode!r}; constant padding is supported")
    return lambda x, *_: _padded(x, pads, value)


@_handles("Resize", "Upsample")
def _resize(node: _Node) -> Function:
    mode, how = node.get("mode", "nearest"), node.get("coordinate_transformation_mode", "half_pixel")
    rounding = node.get("nearest_mode", "round_prefer_floor")
    replicates = node.op == "Upsample" or how in ("half_pixel", "pytorch_half_pixel")
    if mode != "nearest" or not (replicates or (how == "asymmetric" and rounding == "floor")):
        raise node.refuse(
            f"mode={mode!r}, coordinate_transformation_mode={how!r}, nearest_mode={rounding!r}; nearest neighbour that "
            "repeats every pixel is supported"
        )
    shape = node.shape()
    sizes = node.constant(3, "sizes")
    index = 1 if node.op == "Upsample" else 2
    scales = [s / n for s, n in zip(sizes, shape, strict=True)] if sizes is not None else node.constant(index, "scales")
    factors = [float(s) for s in scales]
    if factors[:2] != [1, 1] or any(f != int(f) or f < 1 for f in factors):
        raise node.refuse(f"scales={factors}; integer factors of height and width are supported")
    return lambda x, *_: F.interpolate(x, scale_factor=factors[2:], mode="nearest")

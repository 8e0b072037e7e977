# SPDX-License-Identifier: Apache-2.0
"""The graph of an ONNX model, node by node, as an nn.Module that torch.export can read."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.export import ExportedProgram

from firmware_gen.frontend.onnx.file import LARGEST, graph_inputs, opset_of
from firmware_gen.frontend.onnx.operators import FOLDABLE, HANDLERS, OF_SHAPE, Function, Handler
from hls.errors import HeepgenError


def export(path: Path, model: ModelProto) -> tuple[ExportedProgram, dict[str, str]]:
    """The ExportedProgram of a model prepared by `file`, and by layer the name of the value that it computes."""
    network = _Network(path, model)
    program = torch.export.export(network.eval(), (network.example,))
    return program, {name: outputs[0] for name, _, outputs in network.plan if len(outputs) == 1}


def _constant(path: Path, tensor: TensorProto) -> np.ndarray:
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # of type, shape and data that do not fit each other
        raise HeepgenError(
            f"{path}: constant {tensor.name} is damaged ({_first_line(error)}); export the model again"
        ) from error


class _Network(nn.Module):
    """`values` by name in the file: arrays are constants, tensors what the model computes from a zero `example`."""

    def __init__(self, path: Path, model: ModelProto):
        super().__init__()
        (start,) = graph_inputs(path, model)
        self.example = torch.zeros([d.dim_value for d in start.type.tensor_type.shape.dim])
        self.source, self.results = start.name, [o.name for o in model.graph.output]
        self.plan: list[tuple[str, list[str], list[str]]] = []
        self.left_out: dict[str, HeepgenError] = {}
        values = {t.name: _constant(path, t) for t in model.graph.initializer} | {start.name: self.example}
        with torch.no_grad():
            for index, proto in enumerate(model.graph.node):
                self._check_known(proto.input)
                self._add(Node(proto, index, opset_of(model), values), values)
        self._check_known(self.results)
        if not self.results:
            raise HeepgenError(f"{path}: the graph has no output; export the model again")
        for name in self.results:
            if not isinstance(values.get(name), torch.Tensor):
                raise HeepgenError(f"{path}: output {name} is a constant: return only what depends on the input")

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        values = {self.source: x}
        for name, inputs, outputs in self.plan:
            results = getattr(self, name)(*(values[v] for v in inputs))
            values.update(zip(outputs, results, strict=False))
        results = tuple(values[name] for name in self.results)
        return results if len(results) > 1 else results[0]

    def _check_known(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.left_out:
                raise self.left_out[name]

    def _add(self, node: Node, values: dict[str, Any]) -> None:
        shapes = node.inferred_shapes()
        if node.is_constant():
            values.update(zip(node.outputs, node.fold(), strict=False))
            return
        handler = node.check()
        try:
            step = type(node.op, (_Step,), {"__module__": __package__})(handler.build(node), node.operands(handler))
            inputs = [v for v, kind in zip(node.inputs, handler.kinds(len(node.inputs)), strict=True)
                      if kind in "xa" and isinstance(values[v], torch.Tensor)]  # fmt: skip
            results = step(*(values[v] for v in inputs))
        except HeepgenError:
            raise
        except Exception as error:
            raise node.refuse(f"it does not fit its inputs ({_first_line(error)})") from error
        for output, result in zip(node.outputs, results, strict=False):
            if shapes.get(output, tuple(result.shape)) != tuple(result.shape):
                raise node.refuse(f"its shape is {tuple(result.shape)}, ONNX's is {shapes[output]}")
            if not result.ndim:
                raise node.refuse("its result is one number without dimensions; keep a dimension")
            values[output] = result
        for index in range(len(results), len(node.outputs)):
            self.left_out[node.outputs[index]] = node.refuse(
                f"its output {node.schema.outputs[index].name} is used, which is not supported"
            )
        name = node.unique_name(self)
        self.add_module(name, step)
        self.plan.append((name, inputs, node.outputs))


class _Step(nn.Module):
    """One node: `operands` in order, ... for a tensor that is given, None for one that is left out."""

    def __init__(self, function: Function, operands: list[Any]):
        super().__init__()
        self.function, self.given = function, [operand is ... for operand in operands]
        for index, operand in enumerate(operands):
            if isinstance(operand, np.ndarray):
                self.register_buffer(f"input_{index}", torch.from_numpy(operand.copy()))

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rest = iter(tensors)
        result = self.function(*(next(rest) if given else getattr(self, f"input_{i}", None)
                                 for i, given in enumerate(self.given)))  # fmt: skip
        return result if isinstance(result, tuple) else (result,)


class Node:
    """A node of the file: operator, inputs, outputs, and attributes with ONNX's defaults."""

    def __init__(self, proto: NodeProto, index: int, opset: int, values: dict[str, Any]):
        self.proto, self.opset, self.values = proto, opset, values
        self.op, self.inputs, self.outputs = proto.op_type, list(proto.input), list(proto.output)
        self.name = proto.name or f"{self.op}_{index}"
        while self.inputs and not self.inputs[-1]:
            self.inputs.pop()
        if proto.domain not in ("", "ai.onnx"):
            raise self.refuse(f"domain {proto.domain} is not the standard one")
        for value in self.inputs:
            if value and value not in values:
                raise self.refuse(f"its input {value} is not computed by a supported operator")
        self.schema = defs.get_schema(self.op, opset)
        self.defaults = {name: helper.get_attribute_value(a.default_value) if a.default_value.type else None
                         for name, a in self.schema.attributes.items()}  # fmt: skip
        self.given = {a.name: helper.get_attribute_value(a) for a in proto.attribute}

    def refuse(self, reason: str) -> HeepgenError:
        return HeepgenError(f"layer {self.name}: {self.op}: {reason}. docs/operators.md has what is supported")

    def get(self, name: str, default: Any = None) -> Any:
        value = self.given.get(name, self.defaults.get(name))
        value = default if value is None else value
        return value.decode() if isinstance(value, bytes) else value

    def has(self, index: int) -> bool:
        return index < len(self.inputs) and bool(self.inputs[index])

    def shape(self, index: int = 0) -> tuple[int, ...]:
        return tuple(self.values[self.inputs[index]].shape)

    def constant(self, index: int) -> np.ndarray:
        """Input `index`, which `check` found constant."""
        array: np.ndarray = self.values[self.inputs[index]]
        return array

    def numbers(self, index: int) -> list[int]:
        """Integers of a constant input; none when it is left out, which for what must be given `check` refuses."""
        return [int(v) for v in self.constant(index).reshape(-1)] if self.has(index) else []

    def axes(self, index: int) -> list[int] | None:
        """Axes that a constant input lists, from 0 on; None when it is left out."""
        rank = len(self.shape())
        return [a % rank for a in self.numbers(index)] if self.has(index) else None

    def check(self) -> Handler:
        """The operator's handler, when it understands everything about this node; else a refusal by name."""
        handler = HANDLERS.get(self.op)
        if handler is None:
            raise self.refuse("this operator is not supported")
        if self.schema.since_version > handler.newest:
            raise self.refuse(f"of opset {self.schema.since_version}, {handler.newest} is known; use an older opset")
        for name, value in self.given.items():
            allowed, default = handler.attributes.get(name, ()), self.defaults.get(name)
            if allowed is not None and value != default and self.get(name) not in allowed:
                others = " or ".join(repr(v) for v in allowed)
                raise self.refuse(f"{name}={self.get(name)!r} is not supported" + (f", but {others}" if others else ""))
        for index, kind in enumerate(handler.kinds(len(self.inputs))):
            formal = self.schema.inputs[min(index, len(self.schema.inputs) - 1)].name
            value = self.values.get(self.inputs[index])
            if kind == "-" and value is not None:
                raise self.refuse(f"its input {formal} is not supported; leave it out")
            if kind in "cw" and isinstance(value, torch.Tensor):
                raise self.refuse(f"its input {formal} is computed by the model; a constant is supported")
            if kind == "x" and not isinstance(value, torch.Tensor):
                raise self.refuse(f"its input {formal} is a constant; it must depend on the model's input")
        return handler

    def operands(self, handler: Handler) -> list[Any]:
        """What the handler's function is called with; ... for computed tensors."""
        values = [self.values.get(v) for v in self.inputs]
        kinds = handler.kinds(len(values))
        return [... if isinstance(value, torch.Tensor) else value
                for value, kind in zip(values, kinds, strict=True) if kind in "xwa"]  # fmt: skip

    def unique_name(self, network: nn.Module) -> str:
        stem = re.sub(r"\W+", "_", self.name).strip("_") or self.op
        name, count = stem, 0
        while hasattr(network, name):
            name, count = f"{stem}_{count}", count + 1
        return name

    def inferred_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the outputs by ONNX's inference, as far as it knows them; refused when they fit into no memory."""
        arrays = {v: self.values[v] for v in self.inputs if v}
        types = {v: helper.make_tensor_type_proto(_element_type(a), a.shape) for v, a in arrays.items()}
        data = {v: numpy_helper.from_array(a) for v, a in arrays.items() if isinstance(a, np.ndarray) and a.size < 256}
        opset = [helper.make_opsetid("", self.opset)]
        try:
            inferred = shape_inference.infer_node_outputs(self.schema, self.proto, types, data, opset_imports=opset)
        except Exception as error:
            raise self.refuse(f"it does not fit its inputs ({_first_line(error)})") from error
        shapes = {name: [d.dim_value if d.HasField("dim_value") else None for d in t.tensor_type.shape.dim]
                  for name, t in inferred.items() if t.tensor_type.HasField("shape")}  # fmt: skip
        known = {name: tuple(d for d in dims if d is not None) for name, dims in shapes.items() if None not in dims}
        for name, dims in known.items():
            if math.prod(dims) * 4 > LARGEST:
                raise self.refuse(f"its output {name} has shape {dims}, which fits into no memory")
        return known

    def is_constant(self) -> bool:
        """Whether it depends on constants, or shapes, only and can be evaluated now."""
        computed = any(isinstance(self.values[v], torch.Tensor) for v in self.inputs if v)
        return self.op in OF_SHAPE or (self.op in FOLDABLE and not computed)

    def fold(self) -> list[np.ndarray]:
        feeds = {v: self.values[v] for v in self.inputs if v}
        feeds = {v: np.broadcast_to(np.float32(0), a.shape) if isinstance(a, torch.Tensor) else a
                 for v, a in feeds.items()}  # fmt: skip
        types = [helper.make_tensor_value_info(v, _element_type(a), a.shape) for v, a in feeds.items()]
        ends = [onnx.ValueInfoProto(name=v) for v in self.outputs]
        graph = helper.make_graph([self.proto], "constant", types, ends)
        try:
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
            return [np.asarray(a) for a in ReferenceEvaluator(model).run(None, feeds)]
        except Exception as error:
            raise self.refuse(f"its constant inputs cannot be evaluated ({_first_line(error)})") from error


def _element_type(value: np.ndarray | torch.Tensor) -> int:
    dtype = value.dtype if isinstance(value, np.ndarray) else np.dtype(str(value.dtype).removeprefix("torch."))
    return helper.np_dtype_to_tensor_dtype(dtype)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

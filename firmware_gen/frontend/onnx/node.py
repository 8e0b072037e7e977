# SPDX-License-Identifier: Apache-2.0
"""One node of an ONNX file, and what is known about it before its operator is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto, defs, helper, inliner, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator
from torch import nn

from firmware_gen.frontend.onnx.evaluator import OWN_OPERATORS
from firmware_gen.frontend.onnx.file import LARGEST
from firmware_gen.frontend.onnx.hints import QUANTISING, not_supported
from firmware_gen.frontend.onnx.operators import HANDLERS, OF_SHAPE, RANDOM, Handler
from firmware_gen.refusal import first_line, refusal
from hls.errors import HeepgenError


class Node:
    """A node of the file: operator, inputs, outputs, and attributes with ONNX's defaults."""

    def __init__(self, proto: NodeProto, index: int, opset: int, values: dict[str, Any]):
        self.proto, self.opset, self.values = proto, opset, _single(values, proto.input)
        self.op, self.inputs, self.outputs = proto.op_type, list(proto.input), list(proto.output)
        self.name = proto.name or f"{self.op}_{index}"
        while self.inputs and not self.inputs[-1]:
            self.inputs.pop()
        if proto.domain not in ("", "ai.onnx"):
            raise self.refuse(
                f"its domain {proto.domain} is not ONNX's; export the model without a runtime's own operators"
            )
        for value in self.inputs:
            if value and value not in values:
                raise self.refuse(f"its input {value} is not computed by a supported operator")
        self.schema = defs.get_schema(self.op, opset)
        self.defaults = {name: helper.get_attribute_value(a.default_value) if a.default_value.type else None
                         for name, a in self.schema.attributes.items()}  # fmt: skip
        self.given = {a.name: helper.get_attribute_value(a) for a in proto.attribute}

    def refuse(self, reason: str) -> HeepgenError:
        return refusal(self.name, self.op, reason)

    def get(self, name: str, default: Any = None) -> Any:
        value = self.given.get(name, self.defaults.get(name))
        value = default if value is None else value
        if isinstance(value, list):
            return [_text(v) for v in value]
        return _text(value)

    def has(self, index: int) -> bool:
        return index < len(self.inputs) and bool(self.inputs[index])

    def is_computed(self, index: int) -> bool:
        """Whether input `index` depends on the model's."""
        return self.has(index) and isinstance(self.values[self.inputs[index]], torch.Tensor)

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

    def is_known(self) -> bool:
        """Whether something is said of its operator: how it is imported, or why it is not."""
        return self.op in HANDLERS or self.op in QUANTISING

    def check(self) -> Handler:
        """The operator's handler, when it understands everything about this node; else a refusal by name."""
        handler = HANDLERS.get(self.op)
        if handler is None:
            raise self.refuse(not_supported(self.op))
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

    def operands(self, handler: Handler) -> list[tuple[str, Any]]:
        """What the handler's function is called with, and the names of it; ... for computed tensors."""
        kinds = handler.kinds(len(self.inputs))
        operands = [(v, self.values.get(v)) for v, kind in zip(self.inputs, kinds, strict=True) if kind in "xwa"]
        return [(v, ... if isinstance(value, torch.Tensor) else value) for v, value in operands]

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
            if self.is_constant():  # evaluation decides
                return {}
            raise self.refuse(f"it does not fit its inputs ({first_line(error)})") from error
        shapes = {name: [d.dim_value if d.HasField("dim_value") else None for d in t.tensor_type.shape.dim]
                  for name, t in inferred.items() if t.tensor_type.HasField("shape")}  # fmt: skip
        known = {name: tuple(d for d in dims if d is not None) for name, dims in shapes.items() if None not in dims}
        for name, dims in known.items():
            if math.prod(dims) * 4 > LARGEST:
                raise self.refuse(f"its output {name} has shape {dims}, which fits into no memory")
        return known

    def is_constant(self) -> bool:
        """Whether it depends on constants, or shapes, only and can be evaluated now. A loop may take any time."""
        inputs = self.inputs[:1] if self.op == "CastLike" else self.inputs
        computed = any(isinstance(self.values[v], torch.Tensor) for v in inputs if v)
        looped = any(isinstance(value, GraphProto) for value in self.given.values())
        trained = self.op == "Dropout" and self.has(2) and bool(self.constant(2))
        return self.op in OF_SHAPE or not (computed or looped or trained or self.op in RANDOM)

    def parts(self) -> list[NodeProto]:
        """The nodes that ONNX's standard defines this one by, named after it; none where it does not."""
        model, own = self._alone(self.values), {*self.inputs, *self.outputs, ""}
        defaults = [a.default_value for name, a in self.schema.attributes.items() if name not in self.given]
        model.graph.node[0].attribute.extend(a for a in defaults if a.type)
        try:
            model = inliner.inline_selected_functions(model, [("", self.op)], inline_schema_functions=True)
        except Exception:  # of types that the definition is not for
            return []
        nodes = list(model.graph.node)
        for index, part in enumerate(nodes):
            part.name = f"{self.name}/{part.op_type}_{index}"
            for names in (part.input, part.output):
                names[:] = [v if v in own else f"{self.name}/{v}" for v in names]
        return [] if nodes[0].op_type == self.op else nodes

    def fold(self, instead: Mapping[str, np.ndarray] | None = None) -> list[np.ndarray]:
        """The outputs; `instead` has other arrays for some inputs, by name."""
        feeds = {v: self.values[v] for v in self.inputs if v} | dict(instead or {})
        feeds = {v: np.broadcast_to(np.float32(0), a.shape) if isinstance(a, torch.Tensor) else a
                 for v, a in feeds.items()}  # fmt: skip
        try:
            results = ReferenceEvaluator(self._alone(feeds), new_ops=OWN_OPERATORS).run(None, feeds)
        except Exception as error:
            raise self.refuse(f"its constant inputs cannot be evaluated ({first_line(error)})") from error
        if not all(isinstance(a, np.ndarray | np.generic) for a in results):
            raise self.refuse("its result is no tensor; tensors are supported")
        return [np.asarray(a) for a in results]

    def _alone(self, values: Mapping[str, Any]) -> ModelProto:
        """A model of this node, whose inputs have the types and shapes of `values`."""
        inputs = {v: values[v] for v in self.inputs if v}
        starts = [helper.make_tensor_value_info(v, _element_type(a), a.shape) for v, a in inputs.items()]
        graph = helper.make_graph([self.proto], self.op, starts, [onnx.ValueInfoProto(name=v) for v in self.outputs])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])


def _single(values: dict[str, Any], inputs: Sequence[str]) -> dict[str, Any]:
    """The values, with constants of float64 in float32 where a node has computed inputs too: these are float32, also
    where the file has them cast."""
    own = {v: values[v] for v in inputs if v in values}
    if not any(isinstance(value, torch.Tensor) for value in own.values()):
        return values
    double = {v: a.astype(np.float32) for v, a in own.items() if isinstance(a, np.ndarray) and a.dtype == np.float64}
    return values | double if double else values


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _element_type(value: np.ndarray | torch.Tensor) -> int:
    dtype = value.dtype if isinstance(value, np.ndarray) else np.dtype(str(value.dtype).removeprefix("torch."))
    return helper.np_dtype_to_tensor_dtype(dtype)

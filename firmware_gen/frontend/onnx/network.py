# SPDX-License-Identifier: Apache-2.0
"""The graph of an ONNX model, node by node, as an nn.Module that torch.export can read."""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn
from torch.export import ExportedProgram

from firmware_gen.frontend.onnx.file import graph_inputs, opset_of
from firmware_gen.frontend.onnx.integers import Integers, integers_of
from firmware_gen.frontend.onnx.node import Node
from firmware_gen.frontend.onnx.operators import Function
from firmware_gen.frontend.onnx.sequences import SEQUENCES, tensors_of
from firmware_gen.names import safe_name
from firmware_gen.refusal import first_line
from hls.errors import HeepgenError


def export(path: Path, model: ModelProto) -> tuple[ExportedProgram, dict[str, str]]:
    """The ExportedProgram of a model prepared by `file`, and by layer the name of the value that it computes."""
    network = _Network(path, model)
    if len(network.examples) == 1:
        program = torch.export.export(network.eval(), tuple(network.examples.values()))
    else:
        names = _identifiers(network.examples)
        program = torch.export.export(network.eval(), (), dict(zip(names, network.examples.values(), strict=True)))
    return program, {name: outputs[0] for name, _, outputs in network.plan if len(outputs) == 1}


def _constant(path: Path, tensor: TensorProto) -> np.ndarray:
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # of type, shape and data that do not fit each other
        raise HeepgenError(
            f"{path}: constant {tensor.name} is damaged ({first_line(error)}); export the model again"
        ) from error


def _identifiers(inputs: Iterable[str]) -> list[str]:
    """What inputs are called in Python and C++."""
    found: list[str] = []
    for name in inputs:
        stem = re.sub(r"\W", "_", safe_name(name), flags=re.ASCII)
        stem = stem if stem.isidentifier() and not keyword.iskeyword(stem) and stem != "self" else f"input_{stem}"
        names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(1)))
        found.append(next(name for name in names if name not in found))
    return found


class _Network(nn.Module):
    """`values` by name in the file: arrays are constants, tensors what the model computes from `examples`, zeros."""

    def __init__(self, path: Path, model: ModelProto):
        super().__init__()
        starts = graph_inputs(path, model)
        self.examples = {s.name: torch.zeros([d.dim_value for d in s.type.tensor_type.shape.dim]) for s in starts}
        self.results = [o.name for o in model.graph.output]
        self.plan: list[tuple[str, list[str], list[str]]] = []
        self.left_out: dict[str, HeepgenError] = {}
        self.integers: dict[str, Integers] = {}
        self.sequences: dict[str, list[str]] = {}
        values = {t.name: _constant(path, t) for t in model.graph.initializer} | self.examples
        with torch.no_grad():
            self._add_all(model.graph.node, opset_of(model), values)
        self._check_known(self.results)
        if not self.results:
            raise HeepgenError(f"{path}: the graph has no output; export the model again")
        for name in self.results:
            if name in self.sequences:
                raise HeepgenError(f"{path}: output {name} is a sequence of tensors: return the tensors")
            if not isinstance(values.get(name), torch.Tensor):
                raise HeepgenError(f"{path}: output {name} is a constant: return only what depends on the input")

    def forward(
        self, *tensors: torch.Tensor, **inputs: torch.Tensor
    ) -> torch.Tensor | tuple[torch.Tensor, ...] | dict[str, torch.Tensor]:
        """The outputs, of several inputs by their names in the file."""
        values = dict(zip(self.examples, (*tensors, *inputs.values()), strict=True))
        for name, sources, outputs in self.plan:
            computed = getattr(self, name)(*(values[v] for v in sources))
            values.update(zip(outputs, computed, strict=False))
        if inputs:
            return {name: values[name] for name in self.results}
        results = tuple(values[name] for name in self.results)
        return results if len(results) > 1 else results[0]

    def _check_known(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.left_out:
                raise self.left_out[name]

    def _add_all(self, protos: Iterable[NodeProto], opset: int, values: dict[str, Any]) -> None:
        for index, proto in enumerate(protos):
            self._check_known(proto.input)
            if proto.op_type in SEQUENCES and proto.domain in ("", "ai.onnx"):
                name = proto.name or f"{proto.op_type}_{index}"
                self._add_all(tensors_of(proto, name, self.sequences, values), opset, values)
                continue
            self._add(Node(proto, index, opset, values), values)

    def _add_branch(self, node: Node, values: dict[str, Any]) -> None:
        """The branch of an If whose condition is a constant."""
        branch = node.get("then_branch" if node.constant(0).any() else "else_branch")
        values.update((t.name, numpy_helper.to_array(t)) for t in branch.initializer)
        ends = zip(branch.output, node.outputs, strict=True)
        results = [helper.make_node("Identity", [end.name], [output], f"{node.name}/{output}") for end, output in ends]
        self._add_all([*branch.node, *results], node.opset, values)

    def _add(self, node: Node, values: dict[str, Any]) -> None:
        if node.op == "If" and not node.is_computed(0):
            self._add_branch(node, values)
            return
        shapes = node.inferred_shapes()
        if node.is_constant():
            values.update(zip(node.outputs, node.fold(), strict=False))
            self.integers.update(integers_of(node, self.integers))
            return
        if not node.is_known() and (parts := node.parts()):
            self._add_all(parts, node.opset, values)
            return
        handler = node.check()
        try:
            operands = [self.integers.get(v, value) for v, value in node.operands(handler)]
            step = type(node.op, (_Step,), {"__module__": __package__})(handler.build(node), operands)
            inputs = [v for v, kind in zip(node.inputs, handler.kinds(len(node.inputs)), strict=True)
                      if kind in "xa" and v and isinstance(values[v], torch.Tensor)]  # fmt: skip
            results = step(*(values[v] for v in inputs))
        except HeepgenError:
            raise
        except Exception as error:
            raise node.refuse(f"it does not fit its inputs ({first_line(error)})") from error
        for output, result in zip(node.outputs, results, strict=False):
            if not output:
                continue
            if shapes.get(output, tuple(result.shape)) != tuple(result.shape):
                raise node.refuse(f"its shape is {tuple(result.shape)}, ONNX's is {shapes[output]}")
            values[output] = result
        for index in range(len(results), len(node.outputs)):
            if node.outputs[index]:
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
            if isinstance(operand, Integers):
                self.register_buffer(f"input_{index}", torch.from_numpy(operand.codes.copy()))
                self.register_buffer(f"scale_{index}", torch.from_numpy(operand.scale.copy()))
            elif isinstance(operand, np.ndarray):
                self.register_buffer(f"input_{index}", torch.from_numpy(operand.copy()))

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rest = iter(tensors)
        result = self.function(*(next(rest) if given else self._constant(i) for i, given in enumerate(self.given)))
        return result if isinstance(result, tuple) else (result,)

    def _constant(self, index: int) -> torch.Tensor | None:
        constant: torch.Tensor | None = getattr(self, f"input_{index}", None)
        scale = getattr(self, f"scale_{index}", None)
        return constant if constant is None or scale is None else constant.to(torch.float32) * scale

# SPDX-License-Identifier: Apache-2.0
"""Programs of common operators without in-place ones, as `run_decompositions` makes them, which takes torch seconds,
most of them to import what it needs for any program.

`tests/test_functional.py` compares the two, node by node."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from firmware_gen.frontend.exported.program import constants_of, one_thread

_ATEN = torch.ops.aten
_CONSTANTS = (InputKind.PARAMETER, InputKind.BUFFER)
_KEPT: frozenset[object] = frozenset(
    (
        *(_ATEN.conv1d.default, _ATEN.conv2d.default, _ATEN.linear.default, _ATEN.pad.default),
        *(_ATEN.relu.default, _ATEN.hardtanh.default, _ATEN.leaky_relu.default, _ATEN.softmax.int),
        *(_ATEN.sigmoid.default, _ATEN.tanh.default, _ATEN.silu.default, _ATEN.gelu.default, _ATEN.hardswish.default),
        *(_ATEN.add.Tensor, _ATEN.sub.Tensor, _ATEN.mul.Tensor, _ATEN.cat.default, _ATEN.mean.dim),
        *(_ATEN.avg_pool2d.default, _ATEN.max_pool2d.default, _ATEN.adaptive_avg_pool2d.default),
        *(_ATEN.permute.default, _ATEN.layer_norm.default),
    )
)
"""Operators that stay as they are."""

Call = Callable[..., torch.fx.Node]


def _batch_norm(call: Call, x: Any, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any) -> torch.fx.Node:
    _, momentum, eps, _ = rest
    several = call(_ATEN._native_batch_norm_legit_no_training.default, x, weight, bias, mean, var, momentum, eps)
    results = [call(operator.getitem, several, number) for number in range(3)]
    for statistics in results[1:]:
        statistics.graph.erase_node(statistics)
    return results[0]


def _dropout(call: Call, x: torch.fx.Node, p: float, train: bool) -> torch.fx.Node:
    return call(_ATEN.clone.default, x)


def _flatten(call: Call, x: torch.fx.Node, first: int = 0, last: int = -1) -> torch.fx.Node:
    value = x.meta["val"]
    if value.dim() and first % value.dim() == last % value.dim():
        return x
    return call(_ATEN.view.default, x, list(value.flatten(first, last).shape))


_WRITTEN: dict[object, Callable[..., torch.fx.Node]] = {
    _ATEN.batch_norm.default: _batch_norm,
    _ATEN.dropout.default: _dropout,
    _ATEN.flatten.using_ints: _flatten,
}
"""Those that are written with others."""

COMMON: frozenset[object] = _KEPT | _WRITTEN.keys()


class CommonProgram(ExportedProgram):
    """A program of common operators, whose nodes are tensors. What torch checks besides imports sympy."""

    def validate(self) -> None:
        self.graph.lint()
        inputs, outputs = self.graph_signature.input_specs, self.graph_signature.output_specs
        named = [node.name for node in self.graph.nodes if node.op == "placeholder"]
        returned = [node.name for node in self.graph.output_node().args[0]]
        constants = {spec.target for spec in inputs if spec.kind != InputKind.USER_INPUT}
        if [spec.arg.name for spec in inputs] != named or [spec.arg.name for spec in outputs] != returned:
            raise ValueError("the signature names other values than the graph")
        if missing := constants - self.state_dict.keys() - self.constants.keys():
            raise ValueError(f"no values of {sorted(missing)}")


def functional_form(program: ExportedProgram) -> ExportedProgram | None:
    """What `run_decompositions` makes of a program, or None where that is not known here.
    Shapes are those that it computes, not those that it says."""
    signature = program.graph_signature
    inputs = all(spec.kind in (*_CONSTANTS, InputKind.USER_INPUT) for spec in signature.input_specs)
    outputs = all(spec.kind == OutputKind.USER_OUTPUT for spec in signature.output_specs)
    calls = [node for node in program.graph.nodes if node.op not in ("placeholder", "output")]
    tensors = all(isinstance(spec.arg, TensorArgument) for spec in (*signature.input_specs, *signature.output_specs))
    if not (inputs and outputs and tensors and all(node.target in COMMON and not node.kwargs for node in calls)):
        return None
    try:
        graph, results = _written(program)
    except Exception:  # where flatten copies, or operands do not go together: torch's way has copies, and words
        return None
    specs = zip(signature.output_specs, results, strict=True)
    return CommonProgram(
        root=torch.nn.Module(),
        graph=graph,
        graph_signature=replace(
            signature, output_specs=[replace(spec, arg=TensorArgument(name=node.name)) for spec, node in specs]
        ),
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=[entry for entry in program.module_call_graph if entry.fqn == ""],
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=program.verifiers,
    )


def _written(program: ExportedProgram) -> tuple[torch.fx.Graph, list[torch.fx.Node]]:
    """The functional graph, and what it returns; nodes are called as torch calls them."""
    graph = torch.fx.Graph()
    found: dict[torch.fx.Node, torch.fx.Node] = {}
    values: dict[torch.fx.Node, Any] = {}
    results: list[torch.fx.Node] = []
    constants = iter(constants_of(program))
    with torch.no_grad(), one_thread():
        for node in program.graph.nodes:
            args = torch.fx.map_arg(node.args, found.__getitem__)
            if node.op == "placeholder":
                found[node] = new = graph.placeholder(node.target)
                new.name, new.meta = node.name, dict(node.meta)
                constant = next(constants)
                values[new] = (
                    torch.zeros(node.meta["val"].shape, dtype=node.meta["val"].dtype) if constant is None else constant
                )
            elif node.op == "output":
                results = list(args[0])
                graph.output(tuple(results))
            else:
                call = partial(_call, graph, values, {k: v for k, v in node.meta.items() if k == "nn_module_stack"})
                written = _WRITTEN.get(node.target)
                found[node] = written(call, *args) if written else call(node.target, *args)
    return graph, results


def _call(
    graph: torch.fx.Graph, values: dict[torch.fx.Node, Any], meta: dict[str, Any], target: Any, *args: Any
) -> torch.fx.Node:
    """A node, whose value for zeros tells its shape."""
    name = target.overloadpacket.__name__ if isinstance(target, torch._ops.OpOverload) else target.__name__
    node = graph.create_node("call_function", target, args, {}, name)
    values[node] = target(*torch.fx.map_arg(args, values.__getitem__))
    node.meta = meta | {"val": pytree.tree_map(_shape_of, values[node])}
    return node


def _shape_of(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

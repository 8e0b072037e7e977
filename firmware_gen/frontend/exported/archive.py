# SPDX-License-Identifier: Apache-2.0
"""The program in a checked archive, read without torch's deserialiser, which takes seconds to import; of programs of
common operators only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch._export.serde.schema import SCHEMA_VERSION
from torch._export.verifier import load_verifier
from torch.export import ExportedProgram, ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from firmware_gen.frontend.exported.functional import COMMON, CommonProgram

MAJOR = SCHEMA_VERSION[0]
DIALECT = "TRAINING"
_DTYPES = {5: torch.int64, 7: torch.float32}
_CPU, _STRIDED = {"type": "cpu", "index": None}, 7
_CONSTANTS = {"parameter": InputKind.PARAMETER, "buffer": InputKind.BUFFER}
_PLAIN = ("as_none", "as_int", "as_float", "as_bool", "as_string", "as_ints", "as_floats", "as_bools")
_TARGETS: dict[str, Any] = {f"torch.ops.{target}": target for target in COMMON}


class _NotCommon(Exception):
    """Something that torch has to read."""


def read_program(program: dict[str, Any], weights: dict[str, Any], raw: Mapping[str, bytes]) -> ExportedProgram | None:
    """The ExportedProgram of models/model.json and of the table of weights, whose tensors are in `raw` by path_name;
    None for what it is not made for, and what may be damaged."""
    try:
        known = program["verifiers"] == [DIALECT] and program["schema_version"]["major"] == MAJOR
        return _read(program["graph_module"], weights["config"], raw) if known else None
    except Exception:  # torch says what is wrong, if anything is
        return None


def _read(module: dict[str, Any], weights: dict[str, Any], raw: Mapping[str, bytes]) -> ExportedProgram:
    source, graph, known = module["graph"], torch.fx.Graph(), dict[str, torch.fx.Node]()
    shapes = source["tensor_values"]
    for argument in source["inputs"]:
        name = argument["as_tensor"]["name"]
        known[name] = graph.placeholder(name)
        known[name].name = name
        known[name].meta["val"] = _empty(shapes[name])
    for node in source["nodes"]:
        (output,) = node["outputs"]
        name = output["as_tensor"]["name"]
        target = _TARGETS[node["target"]]
        known[name] = new = graph.create_node(
            "call_function", target, _arguments(target, node["inputs"], known), {}, name
        )
        if new.name != name:
            raise _NotCommon
        new.meta["val"] = _empty(shapes[name])
        if stack := node["metadata"].get("nn_module_stack"):
            new.meta["nn_module_stack"] = _stack(stack)
    graph.output(tuple(known[result["as_tensor"]["name"]] for result in source["outputs"]))
    signature = module["signature"]
    return CommonProgram(
        root=torch.nn.Module(),
        graph=graph,
        graph_signature=ExportGraphSignature(
            [_input_spec(spec) for spec in signature["input_specs"]],
            [_output_spec(spec) for spec in signature["output_specs"]],
        ),
        state_dict={name: _tensor(entry, raw) for name, entry in weights.items()},
        range_constraints={},
        module_call_graph=[_entry(entry) for entry in module["module_call_graph"]],
        constants={},
        verifiers=[load_verifier(DIALECT)],
    )


def _arguments(target: Any, inputs: list[dict[str, Any]], known: Mapping[str, torch.fx.Node]) -> tuple[Any, ...]:
    """All by position, in the order of the operator's schema."""
    given = {entry["name"]: _argument(entry["arg"], known) for entry in inputs}
    names = [argument.name for argument in target._schema.arguments]
    if list(given) != names[: len(given)] or any(entry["kind"] != 1 for entry in inputs):
        raise _NotCommon
    return tuple(given.values())


def _argument(argument: dict[str, Any], known: Mapping[str, torch.fx.Node]) -> Any:
    ((kind, value),) = argument.items()
    if kind == "as_tensor":
        return known[value["name"]]
    if kind == "as_tensors":
        return [known[one["name"]] for one in value]
    if kind not in _PLAIN:
        raise _NotCommon
    return None if kind == "as_none" else value


def _stack(text: str) -> dict[str, tuple[str, str]]:
    entries = [entry.split(",") for entry in text.split(";")]
    return {key: (path, of) for key, path, of in entries}


def _layout(meta: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...], torch.dtype]:
    """Sizes, strides and type of a tensor that begins where its memory does."""
    if meta["device"] != _CPU or meta["layout"] != _STRIDED or meta["storage_offset"] != {"as_int": 0}:
        raise _NotCommon
    sizes, strides = (tuple(int(size["as_int"]) for size in meta[key]) for key in ("sizes", "strides"))
    return sizes, strides, _DTYPES[meta["dtype"]]


def _empty(meta: dict[str, Any]) -> torch.Tensor:
    """A tensor without values; torch's fake ones import its compiler."""
    sizes, strides, dtype = _layout(meta)
    return torch.empty_strided(sizes, strides, dtype=dtype, device="meta")


def _tensor(entry: dict[str, Any], raw: Mapping[str, bytes]) -> torch.Tensor:
    sizes, strides, dtype = _layout(entry["tensor_meta"])
    data = bytearray(raw[entry["path_name"]])
    if len(data) != math.prod(sizes) * dtype.itemsize or not data:
        raise _NotCommon
    tensor = torch.frombuffer(data, dtype=dtype).as_strided(sizes, strides)
    return torch.nn.Parameter(tensor, entry["tensor_meta"]["requires_grad"]) if entry["is_param"] else tensor


def _input_spec(spec: dict[str, Any]) -> InputSpec:
    ((kind, value),) = spec.items()
    if kind == "user_input":
        return InputSpec(InputKind.USER_INPUT, TensorArgument(name=value["arg"]["as_tensor"]["name"]), None)
    persistent = bool(value["persistent"]) if kind == "buffer" else None
    return InputSpec(
        _CONSTANTS[kind], TensorArgument(name=value["arg"]["name"]), value[f"{kind}_name"], persistent=persistent
    )


def _output_spec(spec: dict[str, Any]) -> OutputSpec:
    ((kind, value),) = spec.items()
    if kind != "user_output":
        raise _NotCommon
    return OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name=value["arg"]["as_tensor"]["name"]), None)


def _entry(entry: dict[str, Any]) -> ModuleCallEntry:
    signature = entry["signature"]
    if signature is None:
        return ModuleCallEntry(entry["fqn"])
    if signature["inputs"] or signature["outputs"]:
        raise _NotCommon
    return ModuleCallEntry(
        entry["fqn"],
        ModuleCallSignature(
            [],
            [],
            pytree.treespec_loads(signature["in_spec"]),
            pytree.treespec_loads(signature["out_spec"]),
            signature["forward_arg_names"],
        ),
    )

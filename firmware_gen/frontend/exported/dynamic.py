# SPDX-License-Identifier: Apache-2.0
"""Sizes that an exported program leaves open: a dynamic batch becomes 1 or --batch, others come from --input-shape."""

from __future__ import annotations

import ast
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram

from hls.errors import HeepgenError

SYM_NODES = (
    "torch.ops.aten.sym_size.",
    "torch.ops.aten._assert_scalar.",
    "torch.ops.aten.sym_constrain_range",
    "torch.ops.aten.sym_numel.",
)


def chosen_sizes(
    what: str, sizes: Sequence[int | None], given: tuple[int, ...] | None, batch: int | None
) -> tuple[int, ...]:
    """Sizes of the input of `what`, None where they are open, with `given` (with or without the batch) and `batch`."""
    written = [size if size is not None else "dynamic" for size in sizes]
    if given is not None and len(given) == len(sizes) - 1:
        given = (sizes[0] if sizes[0] is not None and batch is None else batch or 1, *given)
    if given is not None and (
        len(given) != len(sizes) or any(s not in (None, g) for s, g in zip(sizes, given, strict=True))
    ):
        raise HeepgenError(
            f"--input-shape {list(given)}: {what} was exported for {written}; leave the option out, or "
            "export the model again."
        )
    if batch is not None and sizes and sizes[0] not in (None, batch):
        raise HeepgenError(
            f"--batch {batch}: {what} was exported for {written}; leave the option out, or export the model again."
        )
    if given is not None:
        return given
    if None in sizes[1:]:
        raise HeepgenError(f"{what} was exported for {written}: give --input-shape, or export it with fixed shapes")
    if sizes and sizes[0] is None:
        if batch is None:
            logging.getLogger("heepgen").warning(
                "%s: the batch is dynamic, 1 is compiled (--batch gives another)", what
            )
        sizes = [batch or 1, *sizes[1:]]
    return tuple(size for size in sizes if size is not None)


def with_shape(program: ExportedProgram, shape: tuple[int, ...]) -> ExportedProgram:
    """A program with dynamic sizes, exported again for an input of `shape`."""
    try:
        return torch.export.export(program.module(), (torch.zeros(shape),))
    except Exception as error:
        raise HeepgenError(
            f"the model was not exported for an input of shape {list(shape)}: "
            f"{(str(error).splitlines() or ['it does not fit'])[0][:120]}"
        ) from error


def open_sizes(program: dict[str, Any]) -> tuple[str, list[int | str]]:
    """(name, sizes) of the only input in an archive's model.json; a dynamic size is its expression."""
    module = program["graph_module"]
    specs = [s["user_input"] for s in module["signature"]["input_specs"] if "user_input" in s]
    names = [s["arg"]["as_tensor"]["name"] for s in specs if "as_tensor" in s["arg"]]
    if len(names) != 1:
        return "", []
    sizes = module["graph"]["tensor_values"][names[0]]["sizes"]
    return names[0], [s["as_int"] if "as_int" in s else s["as_expr"]["expr_str"] for s in sizes]


def fix_sizes(program: dict[str, Any], symbols: Mapping[str, int]) -> None:
    """Put numbers for the symbols in an archive's model.json, and leave out what computes with sizes.

    Only sums, products, quotients and the like of integers are understood; ValueError for anything else.
    """
    graph = program["graph_module"]["graph"]
    values = {name: _value(entry, symbols) for name, entry in graph.get("sym_int_values", {}).items()}
    graph["nodes"] = [n for n in graph["nodes"] if not _computes_sizes(n)]
    graph["sym_int_values"], graph["sym_bool_values"] = {}, {}
    program["range_constraints"] = {}
    for key, value in program.items():
        program[key] = _fixed(value, symbols, values)


def _computes_sizes(node: dict[str, Any]) -> bool:
    outputs = node["outputs"]
    return (bool(outputs) and all(o.keys() & {"as_sym_int", "as_sym_bool"} for o in outputs)) or (
        not outputs and str(node["target"]).startswith(SYM_NODES)
    )


def _value(entry: dict[str, Any], symbols: Mapping[str, int]) -> int:
    return entry["as_int"] if "as_int" in entry else evaluate(entry["as_expr"]["expr_str"], symbols)


def _fixed(tree: Any, symbols: Mapping[str, int], values: Mapping[str, int]) -> Any:
    if isinstance(tree, list):
        return [_fixed(item, symbols, values) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if tree.keys() == {"as_expr"}:
        return {"as_int": evaluate(tree["as_expr"]["expr_str"], symbols)}
    if tree.keys() == {"as_sym_int"}:
        return {"as_int": _size(tree["as_sym_int"], values)}
    if tree.keys() == {"as_sym_ints"}:
        return {"as_ints": [_size(item, values) for item in tree["as_sym_ints"]]}
    return {key: _fixed(value, symbols, values) for key, value in tree.items()}


def _size(item: dict[str, Any], values: Mapping[str, int]) -> int:
    return item["as_int"] if "as_int" in item else values[item["as_name"]]


_FUNCTIONS: dict[str, Callable[..., int]] = {
    "Integer": lambda a: a,
    "Add": lambda *a: sum(a),
    "Mul": lambda *a: math.prod(a),
    "Max": max,
    "Min": min,
    "FloorDiv": lambda a, b: a // b,
    "CleanDiv": lambda a, b: a // b,
    "Mod": lambda a, b: a % b,
    "PythonMod": lambda a, b: a % b,
}


def evaluate(text: str, symbols: Mapping[str, int]) -> int:
    """The integer that an expression of sympy, as an archive has it, stands for; ValueError when it is anything else
    than arithmetic of `symbols`."""

    def value(node: ast.AST) -> int:
        match node:
            case ast.Constant(value=int(number)):
                return number
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]) if name in symbols:
                return symbols[name]
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and len(args) < 32:
                return _FUNCTIONS[name](*map(value, args))
        raise ValueError(f"the size {text[:60]} is not understood")

    try:
        return value(ast.parse(text[:2000], mode="eval").body)
    except (SyntaxError, TypeError, ZeroDivisionError, RecursionError, MemoryError) as error:
        raise ValueError(f"the size {text[:60]} is not understood") from error


def symbol_of(text: str) -> str | None:
    """The name of the symbol that an expression is, None when it is more than that."""
    try:
        body = ast.parse(text[:200], mode="eval").body
    except (SyntaxError, MemoryError, RecursionError, ValueError):
        return None
    match body:
        case ast.Call(func=ast.Name(id="Symbol"), args=[ast.Constant(value=str(name))]):
            return name
    return None

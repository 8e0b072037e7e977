# SPDX-License-Identifier: Apache-2.0
"""The table of ATen operators: one handler per operator, called by `importer` with the operator's arguments.

A handler gets the importer, the FX node and its arguments by schema name: strings are the values computed by the
model, tensors are constants. It appends IR nodes and returns the name of the value that the operator computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from firmware_gen import ir

if TYPE_CHECKING:
    from firmware_gen.frontend.exported.importer import Importer


Handler = Callable[["Importer", torch.fx.Node, dict[str, Any]], str | list[str]]
"""Returns the name of the value, or those of all parts of a split."""
Function = TypeVar("Function", bound=Handler)
HANDLERS: dict[str, Handler] = {}
READS: dict[str, frozenset[str]] = {}
"""By operator: the arguments that its handler understands. Any other must have its default."""
HARMLESS = frozenset(
    ("memory_format", "non_blocking", "copy", "pin_memory", "device", "implicit", "cudnn_enabled", "momentum")
)
"""Arguments that change no value."""
MOVING_OPERATORS = frozenset(
    (
        *("t", "numpy_T", "mT", "transpose", "permute", "view", "reshape", "flatten", "unflatten", "unsqueeze"),
        *("squeeze", "flip", "clone", "_unsafe_view"),
    )
)
"""Operators that move the elements of a weight, and change none."""
# Pure operators that may prepare a weight.
CONSTANT_OPERATORS = MOVING_OPERATORS | frozenset(
    (
        *("expand", "expand_as", "repeat", "slice", "select", "split", "split_with_sizes", "chunk", "cat"),
        *("stack", "roll", "tril", "triu", "diag", "alias", "detach", "contiguous", "to", "_to_copy"),
        *("lift_fresh_copy", "zeros", "ones", "full", "eye", "arange", "zeros_like", "ones_like", "full_like"),
        *("scalar_tensor", "new_zeros", "new_ones", "new_full", "mul", "div", "add", "sub", "rsub", "neg", "abs"),
        *("index", "index_select", "meshgrid", "linspace", "unbind", "repeat_interleave", "fmod", "remainder"),
        *("sign", "round", "floor", "ceil", "square", "pow", "sqrt", "rsqrt", "reciprocal", "exp", "log", "sigmoid"),
        *("tanh", "sin", "cos", "softplus", "softmax", "relu", "clamp", "clamp_min", "clamp_max", "maximum"),
        *("minimum", "where", "gt", "ge", "lt", "le", "eq", "ne", "mm", "mv", "matmul", "dot", "vdot", "sum", "mean"),
        *("std", "var", "amax", "amin", "norm", "linalg_vector_norm", "linalg_norm", "pad"),
        *("_weight_norm", "_weight_norm_interface"),
    )
)


def handles(*names: str, reads: str = "self") -> Callable[[Function], Function]:
    """Registers the handler of the ATen operators `names`, and the arguments that it reads, separated by blanks."""

    def register(function: Function) -> Function:
        HANDLERS.update(dict.fromkeys(names, function))
        READS.update(dict.fromkeys(names, frozenset(reads.split())))
        return function

    return register


def _pair(value: int | Sequence[int]) -> ir.Pair:
    values = [value, value] if isinstance(value, int) else [int(v) for v in value]
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def window_size(value: int | Sequence[int], one_dimensional: bool, along_height: int) -> ir.Pair:
    """A pair from an argument of a 2-D operator, or from one of a 1-D operator, which works along the width."""
    return (along_height, _pair(value)[0]) if one_dimensional else _pair(value)


def float32(value: float) -> float:
    """`value` as torch uses it on float32 tensors; -0 becomes +0."""
    return float(np.float32(value)) + 0.0


def schema(node: torch.fx.Node) -> torch.FunctionSchema:
    """What ATen says of the operator that a node calls."""
    assert isinstance(node.target, torch._ops.OpOverload)
    return node.target._schema


def arguments_of(node: torch.fx.Node) -> dict[str, Any]:
    """The node's arguments by schema name, defaults filled in."""
    arguments = schema(node).arguments
    bound = {a.name: a.default_value for a in arguments if a.has_default_value()}
    bound |= {a.name: value for a, value in zip(arguments, node.args, strict=False)}
    return bound | node.kwargs


def plain_name(node: torch.fx.Node) -> str:
    return schema(node).name.removeprefix("aten::")


def channel_dim(rank: int) -> int:
    return min(1, rank - 1)


def as_tensor(constant: torch.Tensor | float) -> torch.Tensor:
    """A constant operand; numbers as PyTorch uses them beside float32 tensors."""
    return constant if isinstance(constant, torch.Tensor) else torch.tensor(constant, dtype=torch.float32)

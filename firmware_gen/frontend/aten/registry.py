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


Handler = Callable[["Importer", torch.fx.Node, dict[str, Any]], str | list[str] | list[str | torch.Tensor]]
"""Returns the name of the value, or those of all parts of a split, of which some may be empty constants."""
Function = TypeVar("Function", bound=Handler)
HANDLERS: dict[str, Handler] = {}
READS: dict[str, frozenset[str]] = {}
"""By operator: the arguments that its handler understands. Any other must have its default."""
OF_TRUTHS: set[str] = set()
"""Operators that make of 0 and 1, for false and true, 0 and 1."""
OF_INTEGERS: set[str] = set()
"""Operators that make of integers, up to 2^24, in float32 what they make in integers."""
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
INTEGERS = frozenset((torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64))
OF_SHAPE = frozenset(("full_like", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like"))
"""Operators that look at no value of their input."""
CREATING = frozenset(
    (
        *(
            "arange",
            "bartlett_window",
            "blackman_window",
            "eye",
            "fft_fftfreq",
            "fft_rfftfreq",
            "full",
            "hamming_window",
        ),
        *("hann_window", "kaiser_window", "linspace", "logspace", "ones", "range", "scalar_tensor", "tril_indices"),
        *("triu_indices", "zeros"),
    )
)
"""Operators that make constants of numbers."""
PREPARING = frozenset(("_weight_norm", "_weight_norm_interface", *MOVING_OPERATORS))
"""Operators of torch's own that a weight may be made with."""

CHECKED = ("_linalg_", "_fft_")
"""How the names of torch's helpers begin that decompositions leave of operators whose arguments they have checked."""


def handles(
    *names: str, reads: str = "self", truths: bool = False, integers: bool = False
) -> Callable[[Function], Function]:
    """Registers the handler of the ATen operators `names`, and the arguments that it reads, separated by blanks.
    truths: of true and false they make nothing else. integers: they are of `OF_INTEGERS`, as those of truths are."""

    def register(function: Function) -> Function:
        HANDLERS.update(dict.fromkeys(names, function))
        READS.update(dict.fromkeys(names, frozenset(reads.split())))
        OF_TRUTHS.update(names if truths else ())
        OF_INTEGERS.update(names if truths or integers else ())
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


def is_function(op: torch._ops.OpOverload) -> bool:
    """Whether what an operator returns follows from its arguments, and it does nothing else: it can be evaluated where
    these are constants. torch's own helpers, which check little, only where they are known here."""
    name = op._schema.name.removeprefix("aten::")
    return (
        not op._schema.is_mutable
        and torch.Tag.nondeterministic_seeded not in op.tags
        and (name in CREATING or any("Tensor" in str(a.type) for a in op._schema.arguments))
        and (not name.startswith("_") or name.startswith(CHECKED) or name in HANDLERS or name in PREPARING)
        and "empty" not in name
    )


def plain_name(node: torch.fx.Node) -> str:
    return schema(node).name.removeprefix("aten::")


def channel_dim(rank: int) -> int:
    return min(1, rank - 1)


def as_tensor(constant: torch.Tensor | float) -> torch.Tensor:
    """A constant operand; numbers as PyTorch uses them beside float32 tensors."""
    return constant if isinstance(constant, torch.Tensor) else torch.tensor(constant, dtype=torch.float32)

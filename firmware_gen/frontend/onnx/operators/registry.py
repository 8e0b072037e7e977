# SPDX-License-Identifier: Apache-2.0
"""The table of ONNX operators: one handler each, which says what it understands, and what it is in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

Function = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]
Build = Callable[["Node"], Function]

RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)
"""Operators that constants do not decide."""
OF_SHAPE = frozenset(("EyeLike", "Shape", "Size"))
"""Operators that look at no value of their input."""


@dataclass(frozen=True)
class Handler:
    """`build` turns a node into a function of tensors.

    newest: the last version of the operator's definition that `build` was written for.
    inputs: one letter per input: x is computed by the model, a may be either, w is a constant; these are what the
        function takes. c is a constant that only `build` looks at. The last one with * stands for any number.
    attributes: those understood, with the values understood, None for any. All others must have ONNX's default.
    """

    build: Build
    newest: int
    inputs: str
    attributes: dict[str, tuple[Any, ...] | None]

    def kinds(self, count: int) -> str:
        """A letter for each of `count` inputs; - for those beyond what is understood."""
        if self.inputs.endswith("*"):
            return self.inputs[:-1].ljust(count, self.inputs[-2])[:count]
        return self.inputs.ljust(count, "-")[:count]


HANDLERS: dict[str, Handler] = {}


def handles(
    names: str, newest: int, inputs: str = "x", attributes: str = "", **values: tuple[Any, ...]
) -> Callable[[Build], Build]:
    """Registers the builder of the ONNX operators `names`, separated by blanks, as those of `attributes` are that may
    have any value; `values` are the others understood, each with what it may be. See `Handler`."""

    def register(build: Build) -> Build:
        understood: dict[str, tuple[Any, ...] | None] = {**dict.fromkeys(attributes.split()), **values}
        HANDLERS.update({name: Handler(build, newest, inputs, understood) for name in names.split()})
        return build

    return register


def plain(names: str, function: Function, newest: int, inputs: str = "x") -> None:
    """Registers operators without attributes, each of which is one function of tensors."""
    handles(names, newest, inputs)(lambda node: function)

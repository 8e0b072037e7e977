# SPDX-License-Identifier: Apache-2.0
"""Functions of one element, which hardware and CPU compute from one table (`hls.arithmetic.function_tables`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hls.arithmetic.function import function_model
from hls.arithmetic.function_tables import function_words

if TYPE_CHECKING:
    from torch import Tensor

Evaluate: TypeAlias = Callable[..., Any]
"""(torch.nn.functional, x, *parameters) -> y."""

QUICK = 1.702
"""Of quick GELU, x * sigmoid(1.702 x)."""


@dataclass(frozen=True)
class Function:
    """y = name(x, *parameters), by a name of `LABELS`: that of torch.nn.functional, or "gelu_tanh", which is GELU
    with approximate="tanh", or "quick_gelu"."""

    name: str
    parameters: tuple[float, ...] = ()

    def evaluate(self, x: Tensor) -> Tensor:
        """y in PyTorch, of any float type."""
        import torch.nn.functional

        y: Tensor = _EVALUATE[self.name](torch.nn.functional, x, *self.parameters)
        return y

    def compute(self, x: np.ndarray) -> np.ndarray:
        """y on the CPU, bit for bit: `heepstor::apply_table` on float32, with the function's table."""
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        return function_model(bits, function_words(self.name, self.parameters)).view(np.float32)

    @property
    def key(self) -> str:
        """Name with the parameters, for names of tables."""
        return "_".join([self.name, *(f"{p:g}" for p in self.parameters)])

    def __str__(self) -> str:
        label = LABELS.get(self.name, self.name)
        if not self.parameters or self.parameters == DEFAULTS.get(self.name):
            return label
        return f"{label}({', '.join(f'{p:g}' for p in self.parameters)})"


LABELS = {
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "silu": "SiLU",
    "gelu": "GELU",
    "gelu_tanh": "GELU(tanh)",
    "quick_gelu": "QuickGELU",
    "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid",
    "elu": "ELU",
    "celu": "CELU",
    "selu": "SELU",
    "softplus": "Softplus",
    "mish": "Mish",
    "logsigmoid": "LogSigmoid",
    "softsign": "Softsign",
    "erf": "erf",
    "atan": "atan",
    "decay": "exp(-x)",
}
"""Names for the eye, as in torch.nn."""

COMPARISONS = ("gt", "ge", "lt", "le")
PARTS = ("exp", "log", "reciprocal", "sqrt", "rsqrt", "floor", "ceil", "trunc", "round", "sin", "cos", *COMPARISONS)
"""What models write functions with: `passes.functions` finds these. A part alone has no table: the CPU computes it, or,
of comparisons, nobody."""

DEFAULTS: dict[str, tuple[float, ...]] = {"elu": (1.0,), "celu": (1.0,), "softplus": (1.0, 20.0)}
"""Of those with parameters: alpha; beta and threshold."""


def _plain(name: str) -> Evaluate:
    return lambda F, x: getattr(x, name)()


def _comparison(name: str) -> Evaluate:
    """1 where it holds, else 0."""
    return lambda F, x, bound: getattr(x, name)(bound).to(x.dtype)


_EVALUATE: dict[str, Evaluate] = {
    "sigmoid": _plain("sigmoid"),
    "tanh": _plain("tanh"),
    "silu": lambda F, x: F.silu(x),
    "gelu": lambda F, x: F.gelu(x),
    "gelu_tanh": lambda F, x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda F, x: x * (x * QUICK).sigmoid(),
    "hardswish": lambda F, x: F.hardswish(x),
    "hardsigmoid": lambda F, x: F.hardsigmoid(x),
    "elu": lambda F, x, alpha: F.elu(x, alpha),
    "celu": lambda F, x, alpha: F.celu(x, alpha),
    "selu": lambda F, x: F.selu(x),
    "softplus": lambda F, x, beta, threshold: F.softplus(x, beta, threshold),
    "mish": lambda F, x: F.mish(x),
    "logsigmoid": lambda F, x: F.logsigmoid(x),
    "softsign": lambda F, x: F.softsign(x),
    "erf": _plain("erf"),
    "atan": _plain("atan"),
    "decay": lambda F, x: (-x.clamp(min=0)).exp(),
    **{name: _comparison(name) if name in COMPARISONS else _plain(name) for name in PARTS},
}

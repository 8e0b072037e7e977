# SPDX-License-Identifier: Apache-2.0
"""ONNX's smooth functions, and the parts that models write them with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles, plain

plain("Sigmoid", torch.sigmoid, 13)
plain("Tanh", torch.tanh, 13)
plain("HardSwish", F.hardswish, 22)
plain("Softplus", F.softplus, 22)
plain("Softsign", F.softsign, 22)
plain("Mish", F.mish, 22)
plain("Erf", torch.erf, 13)
plain("Atan", torch.atan, 22)
plain("Asin", torch.asin, 22)
plain("Acos", torch.acos, 22)
plain("Asinh", torch.asinh, 22)
plain("Acosh", torch.acosh, 22)
plain("Atanh", torch.atanh, 22)
plain("Exp", torch.exp, 13)
plain("Log", torch.log, 13)
plain("Sqrt", torch.sqrt, 13)
plain("Reciprocal", torch.reciprocal, 13)
plain("Abs", torch.abs, 13)
plain("Sin", torch.sin, 22)
plain("Cos", torch.cos, 22)
plain("Tan", torch.tan, 22)
plain("Sinh", torch.sinh, 22)
plain("Cosh", torch.cosh, 22)
plain("Floor", torch.floor, 13)
plain("Ceil", torch.ceil, 13)
plain("Round", torch.round, 22)


@handles("HardSigmoid", 22, attributes="alpha beta")
def _hard_sigmoid(node: Node) -> Function:
    return lambda x: torch.clamp(x * node.get("alpha") + node.get("beta"), 0, 1)


@handles("Swish", 24, attributes="alpha")
def _swish(node: Node) -> Function:
    return lambda x: x * torch.sigmoid(x if node.get("alpha") == 1 else x * node.get("alpha"))


@handles("Gelu", 20, approximate=("none", "tanh"))
def _gelu(node: Node) -> Function:
    return lambda x: F.gelu(x, approximate=node.get("approximate"))


@handles("Elu", 22, attributes="alpha")
def _elu(node: Node) -> Function:
    return lambda x: F.elu(x, node.get("alpha"))


@handles("Celu", 28, attributes="alpha")
def _celu(node: Node) -> Function:
    return lambda x: F.celu(x, node.get("alpha"))


@handles("Selu", 22, attributes="alpha gamma")
def _selu(node: Node) -> Function:
    return lambda x: torch.ops.aten.elu(x, node.get("alpha"), node.get("gamma"))


for _name, _function in {"Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt, "LessOrEqual": torch.le,
                         "And": torch.logical_and, "Or": torch.logical_or}.items():  # fmt: skip
    plain(_name, _function, 16, "aa")
plain("Equal", torch.eq, 19, "aa")
plain("Not", torch.logical_not, 1)
plain("Xor", torch.logical_xor, 7, "aa")
plain("IsNaN", torch.isnan, 20)
plain("Sign", torch.sign, 13)
plain("Where", torch.where, 16, "aaa")

# SPDX-License-Identifier: Apache-2.0
"""ONNX's arithmetic, and what leaves every element as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from onnx import TensorProto

if TYPE_CHECKING:
    from firmware_gen.frontend.onnx.node import Node

from firmware_gen.frontend.onnx.operators.registry import Function, handles, plain

plain("Neg", torch.neg, 13)
plain("Identity", torch.clone, 25)
plain("Add", torch.add, 14, "aa")
plain("Sub", torch.sub, 14, "aa")
plain("Mul", torch.mul, 14, "aa")
plain("Sum", lambda first, *others: sum(others, first.clone()), 13, "a*")
plain("Mean", lambda *inputs: sum(inputs[1:], inputs[0].clone()) / len(inputs), 13, "a*")


@handles("Div", 14, "aa")
def _div(node: Node) -> Function:
    if node.values[node.inputs[0]].dtype not in (torch.float32, np.float32):
        raise node.refuse("it divides integers, and rounds; cast them to float before")
    return torch.div


@handles("Mod", 28, "aa", "fmod")
def _mod(node: Node) -> Function:
    return torch.fmod if node.get("fmod") else torch.remainder


@handles("Dropout", 22, "xcc", "seed")
def _dropout(node: Node) -> Function:
    if node.has(2) and node.constant(2):
        raise node.refuse("training_mode is true; export the model in evaluation mode")
    return torch.clone


_INTEGERS = {TensorProto.INT32: torch.int32, TensorProto.INT64: torch.int64}


@handles("Cast", 28, attributes="to saturate round_mode")
def _cast(node: Node) -> Function:
    kind = node.values[node.inputs[0]].dtype
    if node.get("to") == TensorProto.BOOL:
        return torch.clone if kind == torch.bool else lambda x: x != 0
    if node.get("to") in _INTEGERS:
        return lambda x: x.to(_INTEGERS[node.get("to")])
    if node.get("to") not in (TensorProto.FLOAT, TensorProto.DOUBLE):  # more digits than the device has change none
        kind = TensorProto.DataType.Name(node.get("to")).lower()
        raise node.refuse(f"to {kind}, but the device computes in float32; export the model in float32")
    return lambda x: x.clone() if x.dtype == torch.float32 else x.to(torch.float32)


@handles("CastLike", 28, "xa", "saturate round_mode")
def _cast_like(node: Node) -> Function:
    if node.values[node.inputs[1]].dtype not in (torch.float32, np.float32):
        raise node.refuse("the device computes in float32; export the model in float32")
    return lambda x, like: x.clone()


@handles("Pow", 15, "aa")
def _pow(node: Node) -> Function:
    if node.values[node.inputs[0]].dtype not in (torch.float32, np.float32, np.float64):
        raise node.refuse("its base is of integers, as its results are then; cast the base to float32")
    if node.is_computed(1) or node.constant(1).size != 1:
        return torch.pow
    exponent = node.constant(1).item()
    return lambda x, _: torch.pow(x, exponent)

# SPDX-License-Identifier: Apache-2.0
"""Weights that a model holds as INT8 times a scale: written out, as torchao and PT2E store them, or dequantised."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from firmware_gen.frontend.aten.registry import MOVING_OPERATORS, arguments_of, as_tensor, plain_name, schema
from hls.errors import HeepgenError

DEQUANTISERS = frozenset(
    (
        "quantized_decomposed::dequantize_per_tensor",
        "quantized_decomposed::dequantize_per_channel",
        "torchao::dequantize_affine",
    )
)
"""Operators on weights of PT2E and torchao: (integers - zero point) * scale."""
QUANTISERS = frozenset(("quantized_decomposed", "torchao"))
"""Whose other operators quantise activations."""


_DEFINED_IN = {
    "quantized_decomposed": "torch.ao.quantization.fx._decomposed",
    "torchao": "torchao.quantization.quant_primitives",
}


def know_operators(namespaces: Iterable[str]) -> None:
    """Let torch know operators of these namespaces, which modules of their own define. Raises HeepgenError for those
    of a package that is not installed."""
    for namespace in namespaces:
        try:
            importlib.import_module(_DEFINED_IN[namespace])
        except ImportError as error:
            raise HeepgenError(
                f"the model's weights are {namespace}'s, which is not installed: pip install {namespace}"
            ) from error


def scale_of(node: Any, env: Mapping[torch.fx.Node, Any]) -> torch.Tensor | None:
    """What the integers of a constant are multiplied by, in the constant's shape; None where it is no INT8 constant
    times that. `env`: all constants that it is made of."""
    if not isinstance(node, torch.fx.Node) or not isinstance(node.target, torch._ops.OpOverload):
        return None
    arguments = arguments_of(node)
    if schema(node).name in DEQUANTISERS:
        return _dequantised_scale(node.target, torch.fx.map_arg(arguments, env.__getitem__))
    if plain_name(node) == "_to_copy":
        codes = env[arguments["self"]]
        return torch.ones_like(codes, dtype=torch.float32) if codes.dtype == torch.int8 else None
    if plain_name(node) in MOVING_OPERATORS:
        scale = scale_of(node.args[0], env)
        return None if scale is None else node.target(scale, *node.args[1:], **node.kwargs)
    if plain_name(node) != "mul":
        return None
    operands = [arguments["self"], arguments["other"]]
    for codes, scale in (operands, reversed(operands)):
        own = scale_of(codes, env)
        if own is not None:
            factor = as_tensor(env[scale] if isinstance(scale, torch.fx.Node) else scale)
            return (own * factor.detach()).expand(env[node].shape)
    return None


def _dequantised_scale(dequantise: torch._ops.OpOverload, arguments: dict[str, Any]) -> torch.Tensor | None:
    scale, zero = ("scales", "zero_points") if "scales" in arguments else ("scale", "zero_point")
    codes = dequantise(**arguments | {scale: _filled(arguments[scale], 1)})
    if codes.min() < -128 or codes.max() > 127:
        return None
    ones = torch.ones_like(arguments["input"])
    own: torch.Tensor = dequantise(**arguments | {"input": ones, zero: _filled(arguments[zero], 0)})
    return own


def _filled(value: torch.Tensor | float | None, number: int) -> torch.Tensor | float | None:
    if isinstance(value, torch.Tensor):
        return torch.full_like(value, number)
    return None if value is None else type(value)(number)

# SPDX-License-Identifier: Apache-2.0
"""ATen normalisations by statistics of the input itself; their factors and shifts are a BatchNorm's, which the passes
fold into the layer behind them where they can."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from firmware_gen import ir

if TYPE_CHECKING:
    from torch import fx

    from firmware_gen.frontend.exported.importer import Importer

from firmware_gen.frontend.aten.layers import emit_batch_norm
from firmware_gen.frontend.aten.registry import handles


@handles("layer_norm", "native_layer_norm", reads="input normalized_shape weight bias eps cudnn_enable")
def _layer_norm(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _of_rows(imp, node, a, a["eps"], True)


@handles("rms_norm", "_fused_rms_norm", reads="input normalized_shape weight eps")
def _rms_norm(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _of_rows(imp, node, a, torch.finfo(torch.float32).eps if a["eps"] is None else a["eps"], False)


def _of_rows(imp: Importer, node: fx.Node, a: dict[str, Any], eps: float, centred: bool) -> str:
    """Of the last dimensions, `normalized_shape`; factor and shift are of their shape."""
    shape, count = imp.shape(a["input"]), math.prod(a["normalized_shape"])
    rows = (math.prod(shape) // count, count)
    x = imp.inner(node, ir.Reshape, a["input"], shape=rows)
    x = imp.inner(node, ir.Normalise, x, shape=rows, count=count, eps=float(eps), centred=centred)
    x = _scaled(imp, node, a, x, rows)
    return imp.emit(node, ir.Reshape, x)


@handles("group_norm", "native_group_norm", reads="input num_groups weight bias eps cudnn_enabled N C HxW group")
def _group_norm(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    return _of_groups(imp, node, a, a["group"] if "group" in a else a["num_groups"])


@handles("instance_norm", reads="input weight bias running_mean running_var use_input_stats momentum eps")
def _instance_norm(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    if not a["use_input_stats"]:
        return emit_batch_norm(imp, node, a)
    return _of_groups(imp, node, a, imp.shape(a["input"])[1])


@handles("_native_batch_norm_legit", reads="input weight bias running_mean running_var training eps")
def _statistics_of_input(imp: Importer, node: fx.Node, a: dict[str, Any]) -> str:
    """What InstanceNorm is decomposed to."""
    shape = imp.shape(a["input"])
    if "running_mean" in a or shape[0] > 1:
        raise imp.refuse(node, "its statistics are those of a batch; use batch size 1")
    return _of_groups(imp, node, a, shape[1])


def _of_groups(imp: Importer, node: fx.Node, a: dict[str, Any], groups: int) -> str:
    """Of channels that are neighbours, and all of space; factor and shift are per channel."""
    source = a["input"]
    imp.rank(node, source, (2, 3, 4), "(N, F), (N, C, L) or (N, C, H, W)")
    shape = imp.shape(source)
    count = math.prod(shape[1:]) // groups
    x = imp.inner(node, ir.Reshape, source, shape=(shape[0] * groups, count))
    x = imp.inner(node, ir.Normalise, x, shape=(shape[0] * groups, count), count=count, eps=float(a["eps"]))
    x = imp.inner(node, ir.Reshape, x, shape=shape)
    return imp.emit(node, ir.Identity, _scaled(imp, node, a, x, shape))


def _scaled(imp: Importer, node: fx.Node, a: dict[str, Any], x: str, shape: ir.Shape) -> str:
    """x times its weight plus its bias, of dimension 1."""
    weight, bias = (imp.weight_or_none(node, a.get(name), name) for name in ("weight", "bias"))
    if weight is None and bias is None:
        return x
    scale = np.ones(shape[1]) if weight is None else weight.reshape(-1)
    shift = np.zeros(shape[1]) if bias is None else bias.reshape(-1)
    return imp.inner(node, ir.BatchNorm, x, shape=shape, scale=scale, shift=shift)

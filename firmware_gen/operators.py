"""ATen operators as IR nodes: one handler per operator, called by `importer` with the operator's arguments.

A handler gets the importer, the FX node and its arguments by schema name: strings are the values computed by the
model, tensors are constants. It appends IR nodes and returns the name of the value that the operator computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from firmware_gen import ir
from hls.errors import HeepgenError

if TYPE_CHECKING:
    from firmware_gen.importer import _Importer

Handler = Callable[["_Importer", torch.fx.Node, dict], str]
HANDLERS: dict[str, Handler] = {}

# Cheap, pure operators that may prepare a weight.
CONSTANT_OPERATORS = frozenset(
    (
        *("t", "transpose", "permute", "view", "reshape", "unsqueeze", "squeeze", "expand"),
        *("clone", "alias", "detach", "contiguous", "lift_fresh_copy"),
        *("mul", "div", "add", "sub", "neg", "sqrt", "rsqrt", "_weight_norm", "_weight_norm_interface"),
    )
)

_SMOOTH = "use ReLU, ReLU6 or LeakyReLU instead"
_NORM = "use BatchNorm instead"
_RESIZE = "use nearest-neighbour Upsample, followed by Conv2d where it has to learn"
_PART = "give each part its own layer instead"
HINTS = (
    dict.fromkeys(("silu", "gelu", "elu", "selu", "hardswish", "mish", "softplus", "hardsigmoid"), _SMOOTH)
    | dict.fromkeys(("layer_norm", "group_norm", "instance_norm"), _NORM)
    | dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "upsample_bilinear2d", "upsample_bicubic2d"), _RESIZE)
    | dict.fromkeys(("slice", "select", "chunk", "split", "split_with_sizes", "index"), _PART)
    | {
        "log_softmax": "use Softmax, or return the logits",
        "lstm": "use Conv1d over time",
        "gru": "use Conv1d over time",
        "conv3d": "use Conv2d",
        "stack": "use torch.cat over the channels",
        "max": "use MaxPool2d or torch.amax over the space",
        "sum": "use mean over the space",
        "threshold": "use ReLU",
    }
)
"""What to use instead of an unsupported operator."""


def _handles(*names: str):
    def register(function: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, function))
        return function

    return register


def _pair(value) -> ir.Pair:
    values = [value, value] if isinstance(value, int) else [int(v) for v in value]
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def _window(value, one_dimensional: bool, along_height: int) -> ir.Pair:
    """A pair from an argument of a 2-D operator, or from one of a 1-D operator, which works along the width."""
    return (along_height, _pair(value)[0]) if one_dimensional else _pair(value)


# --- layers with weights ---------------------------------------------------------------------------------------


@_handles("conv1d", "conv2d", "convolution")
def _conv(imp: _Importer, node, a: dict) -> str:
    weight = imp.weight(node, a["weight"], "weight")
    if weight.ndim not in (3, 4):
        raise imp.refuse(node, f"its weight has {weight.ndim} dimensions; 1-D and 2-D convolution are supported")
    if a.get("transposed"):
        raise imp.refuse(node, "transposed convolution is not supported; use Upsample, followed by Conv2d")
    flat = weight.ndim == 3
    imp.rank(node, a["input"], (weight.ndim,), "(N, C, L)" if flat else "(N, C, H, W)")
    weight = weight[:, :, None] if flat else weight
    dilation = _window(a["dilation"], flat, 1)
    return imp.emit(
        node,
        ir.Conv,
        a["input"],
        weight=weight,
        bias=imp.weight(node, a["bias"], "bias"),
        stride=_window(a["stride"], flat, 1),
        pads=_conv_pads(a["padding"], weight.shape[2:], dilation, flat),
        dilation=dilation,
        groups=int(a["groups"]),
    )


def _conv_pads(padding, kernel, dilation, flat: bool) -> ir.Pads:
    """'same' puts the odd cell at the bottom and right, as torch does."""
    if padding == "valid":
        return ir.NO_PADS
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    top, left = _window(padding, flat, 0)
    return (top, left, top, left)


def _emit_linear(imp: _Importer, node, source, weight, bias) -> str:
    imp.rank(node, source, (1, 2, 3), "(N, features)")
    shape = imp.shape(source)
    if len(shape) < 3:
        return imp.emit(node, ir.Linear, source, weight=weight, bias=bias)
    rows = shape[0] * shape[1]
    source = imp.step(node, ir.Reshape, source, shape=(rows, shape[2]))
    product = imp.step(node, ir.Linear, source, shape=(rows, len(weight)), weight=weight, bias=bias)
    return imp.emit(node, ir.Reshape, product)


@_handles("linear")
def _linear(imp: _Importer, node, a: dict) -> str:
    weight = imp.weight(node, a["weight"], "weight")
    return _emit_linear(imp, node, a["input"], weight, imp.weight(node, a["bias"], "bias"))


@_handles("addmm")
def _addmm(imp: _Importer, node, a: dict) -> str:
    if a["beta"] != 1 or a["alpha"] != 1:
        raise imp.refuse(node, f"alpha={a['alpha']}, beta={a['beta']}; 1 is supported")
    weight, bias = imp.weight(node, a["mat2"], "weight"), imp.weight(node, a["self"], "bias")
    if bias.ndim != 1 or bias.size != weight.shape[1]:
        raise imp.refuse(node, f"its bias has shape {bias.shape}; ({weight.shape[1]},) is supported")
    return _emit_linear(imp, node, a["mat1"], np.ascontiguousarray(weight.T), bias)


@_handles("mm")
def _mm(imp: _Importer, node, a: dict) -> str:
    weight = imp.weight(node, a["mat2"], "weight")
    return _emit_linear(imp, node, a["self"], np.ascontiguousarray(weight.T), None)


@_handles("batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(imp: _Importer, node, a: dict) -> str:
    imp.rank(node, a["input"], (2, 3, 4), "(N, F), (N, C, L) or (N, C, H, W)")
    mean = imp.weight(node, a["running_mean"], "running mean")
    variance = imp.weight(node, a["running_var"], "running variance")
    if not (variance + a["eps"] > 0).all():
        raise HeepgenError(f"layer {imp.label(node)}: its variance + eps is not positive; train it again")
    gamma, beta = imp.weight(node, a["weight"], "weight"), imp.weight(node, a["bias"], "bias")
    scale = (1.0 if gamma is None else gamma) / np.sqrt(variance + a["eps"])
    shift = (0.0 if beta is None else beta) - mean * scale
    return imp.emit(node, ir.BatchNorm, a["input"], scale=scale, shift=shift)


# --- activations -----------------------------------------------------------------------------------------------


@_handles("relu")
def _relu(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Activate, a["self"], act=ir.RELU)


@_handles("relu6")
def _relu6(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Activate, a["self"], act=ir.RELU6)


@_handles("hardtanh", "clamp", "clamp_min", "clamp_max")
def _clamp(imp: _Importer, node, a: dict) -> str:
    low, high = a.get("min_val", a.get("min")), a.get("max_val", a.get("max"))
    if isinstance(low, str | torch.Tensor) or isinstance(high, str | torch.Tensor):
        raise imp.refuse(node, "a bound is a tensor; numbers are supported")
    act = ir.Activation(
        low=-math.inf if low is None else _float32(low), high=math.inf if high is None else _float32(high)
    )
    if not act.low <= act.high:
        raise imp.refuse(node, f"min={low}, max={high}; min <= max is supported")
    return imp.emit(node, ir.Activate, a["self"], act=act)


@_handles("leaky_relu")
def _leaky_relu(imp: _Importer, node, a: dict) -> str:
    return _emit_leaky(imp, node, a["self"], a["negative_slope"], "negative_slope")


@_handles("prelu")
def _prelu(imp: _Importer, node, a: dict) -> str:
    slope = imp.weight(node, a["weight"], "weight")
    if slope.size != 1:
        raise imp.refuse(node, f"num_parameters={slope.size}; one slope for all channels is supported")
    return _emit_leaky(imp, node, a["self"], slope.item(), "weight")


def _emit_leaky(imp: _Importer, node, source, slope: float, argument: str) -> str:
    if not math.isfinite(slope):
        raise imp.refuse(node, f"{argument}={slope}; a finite slope is supported")
    return imp.emit(node, ir.Activate, source, act=ir.Activation(slope=_float32(slope)))


def _float32(value) -> float:
    """`value` as torch uses it on float32 tensors; -0 becomes +0."""
    return float(np.float32(value)) + 0.0


@_handles("sigmoid")
def _sigmoid(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Sigmoid, a["self"])


@_handles("tanh")
def _tanh(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Tanh, a["self"])


@_handles("softmax", "_softmax")
def _softmax(imp: _Importer, node, a: dict) -> str:
    imp.rank(node, a["self"], (1, 2, 3, 4), "(N, features), (N, C, L) or (N, C, H, W)")
    rank = len(imp.shape(a["self"]))
    axis = _channel_dim(rank)
    if a["dim"] % rank != axis:
        raise imp.refuse(node, f"dim={a['dim']}; the channels, dim={axis}, are supported")
    return imp.emit(node, ir.Softmax, a["self"], axis=-1 if rank < 3 else 1)


# --- pooling ---------------------------------------------------------------------------------------------------


@_handles("max_pool1d", "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices")
def _max_pool(imp: _Importer, node, a: dict) -> str:
    return _pool(imp, node, a, kind="max", dilation=a["dilation"])


@_handles("avg_pool1d", "avg_pool2d")
def _avg_pool(imp: _Importer, node, a: dict) -> str:
    fields = {"count_include_pad": bool(a["count_include_pad"]), "divisor_override": a.get("divisor_override")}
    if fields["divisor_override"] == 0:
        raise imp.refuse(node, "divisor_override=0; use another number")
    return _pool(imp, node, a, kind="avg", dilation=1, **fields)


def _pool(imp: _Importer, node, a: dict, dilation, **fields) -> str:
    flat = "1d" in node.target._schema.name
    imp.rank(node, a["self"], (3,) if flat else (4,), "(N, C, L)" if flat else "(N, C, H, W)")
    kernel = _window(a["kernel_size"], flat, 1)
    top, left = _window(a["padding"], flat, 0)
    return imp.emit(
        node,
        ir.Pool,
        a["self"],
        kernel=kernel,
        stride=_window(a["stride"], flat, 1) if a["stride"] else kernel,
        pads=(top, left, top, left),
        dilation=_window(dilation, flat, 1),
        ceil_mode=bool(a["ceil_mode"]),
        **fields,
    )


@_handles("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d")
def _adaptive_pool(imp: _Importer, node, a: dict) -> str:
    name = node.target._schema.name
    flat = "1d" in name
    imp.rank(node, a["self"], (3,) if flat else (4,), "(N, C, L)" if flat else "(N, C, H, W)")
    size, outputs = imp.ir_shape(a["self"])[2:], _window(a["output_size"], flat, 1)
    if any(s % o for s, o in zip(size, outputs, strict=True)):
        raise imp.refuse(
            node,
            f"output_size={a['output_size']} does not divide the input's {imp.shape(a['self'])[2:]}, so that windows "
            "differ in size; choose one that does, or a pooling layer",
        )
    kernel = (size[0] // outputs[0], size[1] // outputs[1])
    return imp.emit(node, ir.Pool, a["self"], kind="max" if "max" in name else "avg", kernel=kernel, stride=kernel)


@_handles("mean", "amax")
def _reduce(imp: _Importer, node, a: dict) -> str:
    """A reduction over space is a pooling whose window is the whole map."""
    source = a["self"]
    imp.rank(node, source, (3, 4), "(N, C, L) or (N, C, H, W)")
    rank = len(imp.shape(source))
    dims = {d % rank for d in (a.get("dim") or range(rank))}
    if not dims <= set(range(2, rank)):
        raise imp.refuse(node, f"dim={a.get('dim')}; only space, dimensions 2 and above, can be reduced")
    shape = imp.ir_shape(source)
    spatial = {d + 4 - rank for d in dims}
    kernel = tuple(shape[axis] if axis in spatial else 1 for axis in (2, 3))
    out = (*shape[:2], *(1 if axis in spatial else shape[axis] for axis in (2, 3)))
    kind = "max" if "amax" in node.target._schema.name else "avg"
    pooled = imp.step(node, ir.Pool, source, shape=out, kind=kind, kernel=kernel, stride=kernel)
    return imp.emit(node, ir.Reshape, pooled)


# --- arithmetic ------------------------------------------------------------------------------------------------


@_handles("add", "sub", "rsub")
def _add(imp: _Importer, node, a: dict) -> str:
    """`a + alpha * b`: two computed tensors are added, constants become a Scale."""
    first, second, alpha = a["self"], a["other"], float(a.get("alpha", 1))
    if "rsub" in node.target._schema.name:
        first, second, alpha = second, first, -alpha
    elif "sub" in node.target._schema.name:
        alpha = -alpha
    if not isinstance(second, str):
        return _emit_scale(imp, node, first, bias=alpha * _per_channel(imp, node, first, second))
    if not isinstance(first, str):
        return _emit_scale(imp, node, second, scale=alpha, bias=_per_channel(imp, node, second, first))
    if imp.shape(first) != imp.shape(second):
        raise imp.refuse(
            node,
            f"its operands have shapes {imp.shape(first)} and {imp.shape(second)}; computed tensors must have the "
            "same shape",
        )
    if alpha != 1:
        fields = _scale_fields(imp, second, scale=alpha)
        second = imp.step(node, ir.Scale, second, shape=imp.shape(second), **fields)
    return imp.emit(node, ir.Add, first, second)


@_handles("mul")
def _mul(imp: _Importer, node, a: dict) -> str:
    first, second = a["self"], a["other"]
    if isinstance(first, str) and isinstance(second, str):
        raise imp.refuse(node, "both operands are computed; multiplying by a constant is supported")
    source, constant = (first, second) if isinstance(first, str) else (second, first)
    return _emit_scale(imp, node, source, scale=_per_channel(imp, node, source, constant))


@_handles("div")
def _div(imp: _Importer, node, a: dict) -> str:
    source, divisor = a["self"], a["other"]
    if not isinstance(source, str) or isinstance(divisor, str):
        raise imp.refuse(node, "its divisor is computed; dividing by a constant is supported")
    if a.get("rounding_mode") is not None:
        raise imp.refuse(node, f"rounding_mode={a['rounding_mode']!r}; None is supported")
    constant = _per_channel(imp, node, source, divisor)
    if not constant.all():
        raise imp.refuse(node, "its divisor is 0; use another number")
    return _emit_scale(imp, node, source, scale=1 / constant)


@_handles("neg")
def _neg(imp: _Importer, node, a: dict) -> str:
    return _emit_scale(imp, node, a["self"], scale=-1.0)


def _channel_dim(rank: int) -> int:
    return min(1, rank - 1)


def _scale_fields(imp: _Importer, source: str, scale=1.0, bias=0.0) -> dict:
    shape = imp.shape(source)
    channels = shape[_channel_dim(len(shape))]
    return {"scale": np.full(channels, scale, np.float64), "bias": np.full(channels, bias, np.float64)}


def _emit_scale(imp: _Importer, node, source: str, scale=1.0, bias=0.0) -> str:
    imp.rank(node, source, (1, 2, 3, 4), "(N, features), (N, C, L) or (N, C, H, W)")
    return imp.emit(node, ir.Scale, source, **_scale_fields(imp, source, scale, bias))


def _per_channel(imp: _Importer, node, source: str, constant) -> np.ndarray:
    """A number or a constant tensor that has one value per channel of `source`: float64 (C,) or (1,)."""
    tensor = constant if isinstance(constant, torch.Tensor) else torch.tensor(constant, dtype=torch.float64)
    values = imp.weight(node, tensor, "constant operand")
    shape = imp.shape(source)
    aligned = (1,) * (len(shape) - values.ndim) + values.shape
    channel = _channel_dim(len(shape))
    expected = tuple(size if axis == channel else 1 for axis, size in enumerate(shape))
    if aligned not in (expected, (1,) * len(shape)):
        raise imp.refuse(
            node,
            f"its constant operand has shape {values.shape}, its input {shape}; a number, or one value per channel, "
            f"{expected}, is supported",
        )
    return values.reshape(-1)


# --- shapes ----------------------------------------------------------------------------------------------------


@_handles("cat", "concat")
def _cat(imp: _Importer, node, a: dict) -> str:
    sources = list(a["tensors"])
    if any(not isinstance(source, str) for source in sources):
        raise imp.refuse(node, "one of its inputs is a constant; computed tensors are supported")
    rank = len(imp.shape(sources[0]))
    if a["dim"] % rank != _channel_dim(rank) or rank > 4:
        raise imp.refuse(node, f"dim={a['dim']}; the channels, dim={_channel_dim(rank)}, are supported")
    return imp.emit(node, ir.Concat if len(sources) > 1 else ir.Identity, *sources)


@_handles("pad", "constant_pad_nd")
def _pad(imp: _Importer, node, a: dict) -> str:
    mode, value = a.get("mode", "constant"), a.get("value")
    amounts = [int(p) for p in a["pad"]]
    if mode != "constant":
        raise imp.refuse(node, f"mode={mode!r}; constant padding is supported")
    if any(p < 0 for p in amounts):
        raise imp.refuse(node, f"pad={amounts} crops; pads >= 0 are supported")
    if not any(amounts):
        return imp.emit(node, ir.Identity, a["self"])
    imp.rank(node, a["self"], (3, 4), "(N, C, L) or (N, C, H, W)")
    spatial = 2 * (len(imp.shape(a["self"])) - 2)
    if any(amounts[spatial:]):
        raise imp.refuse(node, f"pad={amounts} pads channels or batch; height and width are supported")
    left, right, top, bottom = (amounts[:spatial] + [0, 0, 0, 0])[:4]
    return imp.emit(node, ir.Pad, a["self"], pads=(top, left, bottom, right), value=_float32(value or 0.0))


@_handles("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d")
def _upsample(imp: _Importer, node, a: dict) -> str:
    before, after = imp.ir_shape(a.get("input", a.get("self"))), tuple(node.meta["val"].shape)
    out = (1, after[2]) if len(after) == 3 else after[2:]
    factor = (out[0] // before[2], out[1] // before[3])
    given = a.get("scale_factors") or factor
    if (factor[0] * before[2], factor[1] * before[3]) != out or not set(given) <= set(factor):
        raise imp.refuse(
            node, f"from {before[2:]} to {out}, scale_factor={list(given)}; integer factors are supported"
        )
    return imp.emit(node, ir.Upsample, a.get("input", a.get("self")), factor=factor)


@_handles("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_copy")
def _reshape(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Reshape, a["self"])


@_handles("permute", "transpose", "t")
def _permute(imp: _Importer, node, a: dict) -> str:
    source = a["self"]
    shape = imp.shape(source)
    rank = len(shape)
    dims = list(range(rank))
    if "dims" in a:
        dims = [d % rank for d in a["dims"]]
    else:
        first, second = (a["dim0"] % rank, a["dim1"] % rank) if "dim0" in a else (0, rank - 1)
        dims[first], dims[second] = second, first
    moved = [d for d in dims if shape[d] > 1]
    if moved == sorted(moved):
        return imp.emit(node, ir.Reshape, source)
    if rank == 3 and dims == [0, 2, 1]:
        source = imp.step(node, ir.Reshape, source, shape=(shape[0], 1, *shape[1:]))
        return imp.emit(node, ir.Permute, source, dims=(0, 3, 1, 2))
    if rank != 4:
        raise imp.refuse(node, f"dims={dims} of shape {shape}; moving the channels of (N, C, H, W) is supported")
    return imp.emit(node, ir.Permute, source, dims=tuple(dims))


@_handles("dropout", "feature_dropout", "alpha_dropout", "clone", "alias", "detach", "contiguous")
def _identity(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Identity, a.get("self", a.get("input")))

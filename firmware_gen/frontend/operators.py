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
    from firmware_gen.frontend.importer import _Importer

Handler = Callable[["_Importer", torch.fx.Node, dict], str]
HANDLERS: dict[str, Handler] = {}
READS: dict[str, frozenset[str]] = {}
"""By operator: the arguments that its handler understands. Any other must have its default."""
HARMLESS = frozenset(("memory_format", "non_blocking", "copy", "pin_memory", "device", "implicit", "cudnn_enabled",
                      "momentum"))
"""Arguments that change no value."""

# Pure operators that may prepare a weight.
CONSTANT_OPERATORS = frozenset(
    (
        *("t", "numpy_T", "mT", "transpose", "permute", "view", "reshape", "flatten", "unflatten", "unsqueeze"),
        *("squeeze", "expand", "expand_as", "repeat", "slice", "select", "split", "split_with_sizes", "chunk", "cat"),
        *("stack", "flip", "roll", "tril", "triu", "diag", "clone", "alias", "detach", "contiguous", "to", "_to_copy"),
        *("lift_fresh_copy", "zeros", "ones", "full", "eye", "arange", "zeros_like", "ones_like", "full_like"),
        *("scalar_tensor", "new_zeros", "new_ones", "new_full", "mul", "div", "add", "sub", "rsub", "neg", "abs"),
        *("sign", "round", "floor", "ceil", "square", "pow", "sqrt", "rsqrt", "reciprocal", "exp", "log", "sigmoid"),
        *("tanh", "sin", "cos", "softplus", "softmax", "relu", "clamp", "clamp_min", "clamp_max", "maximum"),
        *("minimum", "where", "gt", "ge", "lt", "le", "eq", "ne", "mm", "mv", "matmul", "dot", "vdot", "sum", "mean"),
        *("std", "var", "amax", "amin", "norm", "linalg_vector_norm", "linalg_norm", "pad"),
        *("_weight_norm", "_weight_norm_interface"),
    )
)

def _handles(*names: str, reads: str = "self"):
    """Registers the handler of the ATen operators `names`, and the arguments that it reads, separated by blanks."""

    def register(function: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, function))
        READS.update(dict.fromkeys(names, frozenset(reads.split())))
        return function

    return register


def _pair(value) -> ir.Pair:
    values = [value, value] if isinstance(value, int) else [int(v) for v in value]
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def _window(value, one_dimensional: bool, along_height: int) -> ir.Pair:
    """A pair from an argument of a 2-D operator, or from one of a 1-D operator, which works along the width."""
    return (along_height, _pair(value)[0]) if one_dimensional else _pair(value)


# --- layers with weights ---------------------------------------------------------------------------------------


@_handles("conv1d", "conv2d", "convolution",
          reads="input weight bias stride padding dilation groups transposed output_padding")
def _conv(imp: _Importer, node, a: dict) -> str:
    weight = imp.weight(node, a["weight"], "weight")
    if weight.ndim not in (3, 4):
        raise imp.refuse(node, f"its weight has {weight.ndim} dimensions; 1-D and 2-D convolution are supported")
    if a.get("transposed"):
        return _conv_transpose(imp, node, a)
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


@_handles("conv_transpose1d", "conv_transpose2d",
          reads="input weight bias stride padding output_padding groups dilation")
def _conv_transpose(imp: _Importer, node, a: dict) -> str:
    """A convolution of the input with zeros between its elements, by the flipped kernel."""
    weight = imp.weight(node, a["weight"], "weight")
    if weight.ndim not in (3, 4):
        raise imp.refuse(node, f"its weight has {weight.ndim} dimensions; 1-D and 2-D convolution are supported")
    flat, groups = weight.ndim == 3, int(a["groups"])
    imp.rank(node, a["input"], (weight.ndim,), "(N, C, L)" if flat else "(N, C, H, W)")
    weight = weight[:, :, None] if flat else weight
    inputs, outputs, *kernel = weight.shape
    weight = weight.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    weight = weight.reshape(groups * outputs, inputs // groups, *kernel)[:, :, ::-1, ::-1]
    stride, dilation = (_window(a[name], flat, 1) for name in ("stride", "dilation"))
    padding, more = (_window(a[name], flat, 0) for name in ("padding", "output_padding"))
    top, left = (d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True))
    bias = imp.weight(node, a["bias"], "bias")
    return imp.emit(node, ir.Conv, a["input"], weight=np.ascontiguousarray(weight), bias=bias,
                    pads=(top, left, top + more[0], left + more[1]), dilation=dilation, groups=groups,
                    input_dilation=stride)


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
    """(..., I) by weight (O, I) to (..., O), or by (I,) to (...)."""
    imp.rank(node, source, tuple(range(1, 9)), "(N, features)")
    if weight.ndim not in (1, 2):
        raise imp.refuse(node, f"its weight has shape {weight.shape}; a matrix or a vector is supported")
    shape, matrix = imp.shape(source), weight.reshape(-1, weight.shape[-1])
    rows = math.prod(shape[:-1])
    bias = _bias_of_rows(imp, node, bias, rows, len(matrix))
    if len(shape) < 3 and weight.ndim == 2:
        return imp.emit(node, ir.Linear, source, weight=matrix, bias=bias)
    if len(shape) != 2:
        source = imp.step(node, ir.Reshape, source, shape=(rows, shape[-1]))
    product = imp.step(node, ir.Linear, source, shape=(rows, len(matrix)), weight=matrix, bias=bias)
    return imp.emit(node, ir.Reshape, product)


def _bias_of_rows(imp: _Importer, node, bias, rows: int, outputs: int) -> np.ndarray | None:
    """One value per output from a bias of any shape that is the same for all rows."""
    shape = tuple(node.meta["val"].shape)
    if not shape:
        raise imp.refuse(node, "it computes a number without dimensions; keep one dimension")
    if bias is None:
        return None
    if math.prod(shape) == rows * outputs:
        every = np.broadcast_to(bias, shape).reshape(rows, outputs)
        if (every == every[0]).all():
            return every[0].copy()
    raise imp.refuse(node, f"its bias of shape {bias.shape} differs from row to row; one value per output, "
                           f"({outputs},), is supported")


@_handles("linear", reads="input weight bias")
def _linear(imp: _Importer, node, a: dict) -> str:
    weight = imp.weight(node, a["weight"], "weight")
    return _emit_linear(imp, node, a["input"], weight, imp.weight(node, a["bias"], "bias"))


@_handles("addmm", "addmv", reads="self mat1 mat2 mat vec beta alpha")
def _addmm(imp: _Importer, node, a: dict) -> str:
    """beta * bias + alpha * x @ weight, or weight @ x with a vector x."""
    first, second = (a["mat1"], a["mat2"]) if "mat1" in a else (a["mat"], a["vec"])
    source, weight = _operands(imp, node, first, second)
    bias = imp.weight(node, a["self"], "bias") * _float32(a["beta"])
    return _emit_linear(imp, node, source, weight * _float32(a["alpha"]), bias)


@_handles("mm", "mv", "matmul", reads="self mat2 vec other")
def _mm(imp: _Importer, node, a: dict) -> str:
    second = next(a[name] for name in ("mat2", "vec", "other") if name in a)
    source, weight = _operands(imp, node, a["self"], second)
    return _emit_linear(imp, node, source, weight, None)


def _operands(imp: _Importer, node, first, second) -> tuple[str, np.ndarray]:
    """The computed operand of a product and the weight, as (O, I) or (I,)."""
    if isinstance(first, str) and isinstance(second, str):
        raise imp.refuse(node, "both operands are computed; x @ weight with a constant weight is supported")
    if isinstance(first, str):
        weight = imp.weight(node, second, "weight")
        return first, np.ascontiguousarray(weight.T) if weight.ndim < 3 else weight
    weight = imp.weight(node, first, "weight")
    if len(imp.shape(second)) != 1 or weight.ndim > 2:
        raise imp.refuse(node, f"a constant of shape {weight.shape} is its first operand; write x @ weight, with the "
                               "constant last")
    return second, weight


@_handles("batch_norm", "_native_batch_norm_legit_no_training",
          reads="input weight bias running_mean running_var training eps")
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


@_handles("hardtanh", "clamp", "clamp_min", "clamp_max", reads="self min_val max_val min max")
def _clamp(imp: _Importer, node, a: dict) -> str:
    return _emit_clamp(imp, node, a["self"], a.get("min_val", a.get("min")), a.get("max_val", a.get("max")))


@_handles("maximum", "minimum", reads="self other")
def _maximum(imp: _Importer, node, a: dict) -> str:
    return _clamp_by(imp, node, a, "low" if _plain_name(node) == "maximum" else "high")


def _clamp_by(imp: _Importer, node, a: dict, bound: str) -> str:
    source, other = (a["self"], a["other"]) if isinstance(a["self"], str) else (a["other"], a["self"])
    return _emit_clamp(imp, node, source, **{bound: other})


@_handles("threshold", reads="self threshold value")
def _threshold(imp: _Importer, node, a: dict) -> str:
    if a["threshold"] != a["value"]:
        raise imp.refuse(node, f"threshold={a['threshold']}, value={a['value']}; equal ones are supported")
    return _emit_clamp(imp, node, a["self"], a["value"])


def _emit_clamp(imp: _Importer, node, source, low=None, high=None) -> str:
    low, high = (_one_number(imp, node, bound) for bound in (low, high))
    act = ir.Activation(
        low=-math.inf if low is None else _float32(low), high=math.inf if high is None else _float32(high)
    )
    if not act.low <= act.high:
        raise imp.refuse(node, f"min={low}, max={high}; min <= max is supported")
    return imp.emit(node, ir.Activate, source, act=act)


def _one_number(imp: _Importer, node, bound):
    if isinstance(bound, str):
        raise imp.refuse(node, "a bound is computed; numbers are supported")
    if not isinstance(bound, torch.Tensor):
        return bound
    values = imp.weight(node, bound, "bound")
    if values.ndim and (values.size == 0 or (values != values.flat[0]).any()):
        raise imp.refuse(node, "a bound differs from place to place; one number is supported")
    return float(values.flat[0])


@_handles("leaky_relu", reads="self negative_slope")
def _leaky_relu(imp: _Importer, node, a: dict) -> str:
    return _emit_leaky(imp, node, a["self"], a["negative_slope"], "negative_slope")


@_handles("prelu", reads="self weight")
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


@_handles("softmax", "_softmax", reads="self dim dtype half_to_float")
def _softmax(imp: _Importer, node, a: dict, log: bool = False) -> str:
    imp.rank(node, a["self"], (1, 2, 3, 4), "(N, features), (N, C, L) or (N, C, H, W)")
    shape = imp.shape(a["self"])
    rank, axis = len(shape), _channel_dim(len(shape))
    dim = a["dim"] % rank
    if dim == axis:
        return imp.emit(node, ir.Softmax, a["self"], axis=-1 if rank < 3 else 1, log=log)
    if dim != rank - 1:
        raise imp.refuse(node, f"dim={a['dim']}; the channels, dim={axis}, and the last dimension are supported")
    rows = (math.prod(shape[:-1]), shape[-1])
    vectors = imp.step(node, ir.Reshape, a["self"], shape=rows)
    return imp.emit(node, ir.Reshape, imp.step(node, ir.Softmax, vectors, shape=rows, axis=-1, log=log))


@_handles("log_softmax", "_log_softmax", reads="self dim dtype half_to_float")
def _log_softmax(imp: _Importer, node, a: dict) -> str:
    return _softmax(imp, node, a, log=True)


# --- pooling ---------------------------------------------------------------------------------------------------


@_handles("max_pool1d", "max_pool1d_with_indices", "max_pool2d", "max_pool2d_with_indices",
          reads="self kernel_size stride padding dilation ceil_mode")
def _max_pool(imp: _Importer, node, a: dict) -> str:
    return _pool(imp, node, a, kind="max", dilation=a["dilation"])


@_handles("avg_pool1d", "avg_pool2d",
          reads="self kernel_size stride padding ceil_mode count_include_pad divisor_override")
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


@_handles("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool1d",
          "adaptive_max_pool2d",
          reads="self output_size")
def _adaptive_pool(imp: _Importer, node, a: dict) -> str:
    name = node.target._schema.name
    flat = "1d" in name
    imp.rank(node, a["self"], (3,) if flat else (4,), "(N, C, L)" if flat else "(N, C, H, W)")
    size, outputs = imp.ir_shape(a["self"])[2:], _window(a["output_size"], flat, 1)
    even = not any(s % o for s, o in zip(size, outputs, strict=True))
    kernel = tuple(s // o if even else max(-(-(i + 1) * s // o) - i * s // o for i in range(o))
                   for s, o in zip(size, outputs, strict=True))
    kind = "max" if "max" in name else "avg"
    return imp.emit(node, ir.Pool, a["self"], kind=kind, kernel=kernel, stride=kernel, adaptive=not even)


@_handles("min", reads="self other")
def _min(imp: _Importer, node, a: dict) -> str:
    if "other" not in a:
        raise imp.refuse(node, "a minimum over dimensions is not supported; use -torch.amax(-x) over the space")
    return _clamp_by(imp, node, a, "high")


@_handles("mean", "amax", "sum", "max", reads="self dim keepdim dtype other")
def _reduce(imp: _Importer, node, a: dict) -> str:
    """A reduction over space is a pooling whose window is the whole map."""
    source, overload = a["self"], node.target._overloadname
    if "other" in a:
        return _clamp_by(imp, node, a, "low")
    if overload == "names_dim":
        raise imp.refuse(node, "named dimensions are not supported; use numbers")
    imp.rank(node, source, (3, 4), "(N, C, L) or (N, C, H, W)")
    rank = len(imp.shape(source))
    given = a.get("dim")
    dims = {d % rank for d in ([given] if isinstance(given, int) else given or range(rank))}
    if not dims <= set(range(2, rank)):
        raise imp.refuse(node, f"dim={given}; only space, dimensions 2 and above, can be reduced")
    shape = imp.ir_shape(source)
    spatial = {d + 4 - rank for d in dims}
    kernel = tuple(shape[axis] if axis in spatial else 1 for axis in (2, 3))
    out = (*shape[:2], *(1 if axis in spatial else shape[axis] for axis in (2, 3)))
    name = _plain_name(node)
    fields = {"kind": "max" if name in ("amax", "max") else "avg", "divisor_override": 1 if name == "sum" else None}
    pooled = imp.step(node, ir.Pool, source, shape=out, kernel=kernel, stride=kernel, **fields)
    return imp.emit(node, ir.Reshape, pooled)


def _plain_name(node) -> str:
    return node.target._schema.name.removeprefix("aten::")


# --- arithmetic ------------------------------------------------------------------------------------------------


@_handles("add", "sub", "rsub", reads="self other alpha")
def _add(imp: _Importer, node, a: dict) -> str:
    """`a + alpha * b`: two computed tensors are added, constants become a Scale."""
    first, second, alpha = a["self"], a["other"], _float32(a.get("alpha", 1))
    if "rsub" in node.target._schema.name:
        first, second, alpha = second, first, -alpha
    elif "sub" in node.target._schema.name:
        alpha = -alpha
    if not isinstance(second, str):
        return _emit_affine(imp, node, first, second, lambda c: (1.0, alpha * c))
    if not isinstance(first, str):
        return _emit_affine(imp, node, second, first, lambda c: (alpha, c))
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


@_handles("mul", reads="self other")
def _mul(imp: _Importer, node, a: dict) -> str:
    first, second = a["self"], a["other"]
    if isinstance(first, str) and isinstance(second, str):
        return _emit_product(imp, node, first, second)
    source, constant = (first, second) if isinstance(first, str) else (second, first)
    return _emit_affine(imp, node, source, constant, lambda c: (c, 0.0))


def _emit_product(imp: _Importer, node, first: str, second: str) -> str:
    if imp.shape(first) != tuple(node.meta["val"].shape):
        first, second = second, first
    whole, gate = imp.shape(first), imp.shape(second)
    matches = whole == gate or (len(whole) == len(gate) > 1 and gate[0] == whole[0] and gate[1] in (1, whole[1])
                                and gate[2:] in (whole[2:], (1,) * len(whole[2:])))
    if not matches or len(whole) > 4:
        raise imp.refuse(node, f"its operands have shapes {whole} and {gate}; computed tensors of one shape, and gates "
                               "with 1 for the channels or for all of space, can be multiplied")
    return imp.emit(node, ir.Mul, first, second)


@_handles("square")
def _square(imp: _Importer, node, a: dict) -> str:
    return _emit_product(imp, node, a["self"], a["self"])


@_handles("hardsigmoid", "hardswish")
def _hardsigmoid(imp: _Importer, node, a: dict) -> str:
    """clamp(x / 6 + 1/2, 0, 1), for Hardswish times x."""
    source, product = a["self"], _plain_name(node).startswith("hardswish")
    imp.rank(node, source, (1, 2, 3, 4), "(N, features), (N, C, L) or (N, C, H, W)")
    shape, act = imp.shape(source), ir.Activation(low=0.0, high=1.0)
    scaled = imp.step(node, ir.Scale, source, shape=shape, **_scale_fields(imp, source, 1 / 6, 0.5))
    if not product:
        return imp.emit(node, ir.Activate, scaled, act=act)
    return imp.emit(node, ir.Mul, source, imp.step(node, ir.Activate, scaled, shape=shape, act=act))


@_handles("silu")
def _silu(imp: _Importer, node, a: dict) -> str:
    gate = imp.step(node, ir.Sigmoid, a["self"], shape=imp.shape(a["self"]))
    return imp.emit(node, ir.Mul, a["self"], gate)


@_handles("div", reads="self other rounding_mode")
def _div(imp: _Importer, node, a: dict) -> str:
    source, divisor = a["self"], a["other"]
    if not isinstance(source, str) or isinstance(divisor, str):
        raise imp.refuse(node, "its divisor is computed; dividing by a constant is supported")
    if a.get("rounding_mode") is not None:
        raise imp.refuse(node, f"rounding_mode={a['rounding_mode']!r}; None is supported")
    if not imp.weight(node, _tensor(divisor), "divisor").all():
        raise imp.refuse(node, "its divisor is 0; use another number")
    return _emit_affine(imp, node, source, divisor, lambda c: (1 / c, 0.0))


@_handles("neg")
def _neg(imp: _Importer, node, a: dict) -> str:
    return _emit_affine(imp, node, a["self"], -1.0, lambda c: (c, 0.0))


def _channel_dim(rank: int) -> int:
    return min(1, rank - 1)


def _scale_fields(imp: _Importer, source: str, scale=1.0, bias=0.0) -> dict:
    shape = imp.shape(source)
    channels = shape[_channel_dim(len(shape))]
    return {"scale": np.full(channels, scale, np.float64), "bias": np.full(channels, bias, np.float64)}


def _emit_affine(imp: _Importer, node, source: str, constant, scale_and_bias: Callable) -> str:
    """x * scale + bias, both functions of a constant: a number, or one per channel or in the last dimension."""
    values = imp.weight(node, _tensor(constant), "constant operand")
    shape = imp.shape(source)
    rank, channel = len(shape), _channel_dim(len(shape))
    aligned = (1,) * (rank - values.ndim) + values.shape
    scale, bias = scale_and_bias(values.reshape(-1))
    per_channel = tuple(size if axis == channel else 1 for axis, size in enumerate(shape))
    if rank <= 4 and aligned in (per_channel, (1,) * rank):
        return imp.emit(node, ir.Scale, source, **_scale_fields(imp, source, scale, bias))
    if aligned == (*(1,) * (rank - 1), shape[-1]):
        rows = (math.prod(shape[:-1]), shape[-1])
        vectors = imp.step(node, ir.Reshape, source, shape=rows)
        scaled = imp.step(node, ir.Scale, vectors, shape=rows, **_scale_fields(imp, vectors, scale, bias))
        return imp.emit(node, ir.Reshape, scaled)
    raise imp.refuse(
        node,
        f"its constant operand has shape {values.shape}, its input {shape}; a number, or one value per channel, "
        f"{per_channel}, is supported",
    )


def _tensor(constant) -> torch.Tensor:
    """A constant operand; numbers as PyTorch uses them beside float32 tensors."""
    return constant if isinstance(constant, torch.Tensor) else torch.tensor(constant, dtype=torch.float32)


# --- shapes ----------------------------------------------------------------------------------------------------


@_handles("cat", "concat", reads="tensors dim")
def _cat(imp: _Importer, node, a: dict) -> str:
    sources = list(a["tensors"])
    if any(not isinstance(source, str) for source in sources):
        raise imp.refuse(node, "one of its inputs is a constant; computed tensors are supported")
    rank = len(imp.shape(sources[0]))
    if a["dim"] % rank != _channel_dim(rank) or rank > 4:
        raise imp.refuse(node, f"dim={a['dim']}; the channels, dim={_channel_dim(rank)}, are supported")
    return imp.emit(node, ir.Concat if len(sources) > 1 else ir.Identity, *sources)


@_handles("pad", "constant_pad_nd", reads="self pad mode value")
def _pad(imp: _Importer, node, a: dict) -> str:
    mode, value = a.get("mode", "constant"), a.get("value")
    amounts = [int(p) for p in a["pad"]]
    if mode != "constant":
        raise imp.refuse(node, f"mode={mode!r}; constant padding is supported")
    if not any(amounts):
        return imp.emit(node, ir.Identity, a["self"])
    imp.rank(node, a["self"], (3, 4), "(N, C, L) or (N, C, H, W)")
    spatial = 2 * (len(imp.shape(a["self"])) - 2)
    if any(amounts[spatial:]):
        raise imp.refuse(node, f"pad={amounts} pads channels or batch; height and width are supported")
    left, right, top, bottom = (amounts[:spatial] + [0, 0, 0, 0])[:4]
    source = _cropped(imp, node, a["self"], top, left, bottom, right)
    pads = tuple(max(p, 0) for p in (top, left, bottom, right))
    return imp.emit(node, ir.Pad, source, pads=pads, value=_float32(value or 0.0))


def _cropped(imp: _Importer, node, source: str, top: int, left: int, bottom: int, right: int) -> str:
    """What is left after negative padding."""
    if min(top, left, bottom, right) >= 0:
        return source
    shape = imp.shape(source)
    batch, channels, height, width = imp.ir_shape(source)
    size = height + min(top, 0) + min(bottom, 0), width + min(left, 0) + min(right, 0)
    if min(size) < 1:
        raise imp.refuse(node, f"it crops everything of an input of shape {shape}; crop less")
    out = (batch, channels, *size[4 - len(shape):])
    return imp.step(node, ir.Slice, source, shape=out, start=(0, max(-top, 0), max(-left, 0)))


@_handles("slice", reads="self dim start end step")
def _slice(imp: _Importer, node, a: dict) -> str:
    size = imp.shape(a["self"])[a["dim"] % len(imp.shape(a["self"]))]
    first, last, step = slice(a["start"], a["end"], a["step"]).indices(size)
    return _emit_slice(imp, node, a["self"], a["dim"], range(first, last, step), imp.emit)


@_handles("select", reads="self dim index")
def _select(imp: _Importer, node, a: dict) -> str:
    index = a["index"] % imp.shape(a["self"])[a["dim"]]
    part = _emit_slice(imp, node, a["self"], a["dim"], range(index, index + 1))
    return imp.emit(node, ir.Reshape, part)


@_handles("split", "split_with_sizes", "chunk", reads="self split_size split_sizes chunks dim")
def _split(imp: _Importer, node, a: dict) -> list[str]:
    parts, first = [], 0
    for part in node.meta["val"]:
        last = first + part.shape[a["dim"]]
        parts.append(_emit_slice(imp, node, a["self"], a["dim"], range(first, last)))
        first = last
    return parts


def _emit_slice(imp: _Importer, node, source, dim: int, kept: range, emit=None) -> str:
    """Positions `kept` of dimension `dim`, by a step on the way or, with `emit`, as the node's result."""
    imp.rank(node, source, (1, 2, 3, 4), "(N, features), (N, C, L) or (N, C, H, W)")
    shape, dim = imp.shape(source), dim % len(imp.shape(source))
    out = (*shape[:dim], len(kept), *shape[dim + 1:])
    if not kept:
        raise imp.refuse(node, f"nothing is left of an input of shape {shape}; keep a part of it")
    if len(shape) > 1 and dim == 0 and out != shape:
        raise imp.refuse(node, "it takes inputs out of the batch; use another batch size instead")
    if out == shape:
        return emit(node, ir.Identity, source) if emit else source
    if len(shape) < 3:
        source = imp.step(node, ir.Reshape, source, shape=(1,) * (2 - len(shape)) + shape + (1, 1))
        dim += 2 - len(shape)
        part = _place_slice(imp, node, source, dim, kept)
        return emit(node, ir.Reshape, part) if emit else imp.step(node, ir.Reshape, part, shape=out)
    return _place_slice(imp, node, source, dim, kept)


def _place_slice(imp: _Importer, node, source: str, dim: int, kept: range) -> str:
    """A Slice of a feature map."""
    shape = imp.shape(source)
    axis = dim - 1 if dim == 1 else dim - 1 + 4 - len(shape)  # among C, H, W
    start, step = ([value if i == axis else other for i in range(3)] for value, other in ((kept[0], 0), (kept.step, 1)))
    out = (*shape[:dim], len(kept), *shape[dim + 1:])
    return imp.step(node, ir.Slice, source, shape=out, start=tuple(start), step=tuple(step))


@_handles("expand", "repeat", reads="self size repeats")
def _repeat(imp: _Importer, node, a: dict) -> str:
    """Copies of the channels; other dimensions stay."""
    shape, out = imp.shape(a["self"]), tuple(node.meta["val"].shape)
    channel = _channel_dim(len(shape))
    copies = out[channel] // shape[channel] if len(out) == len(shape) else 0
    if tuple(s * copies if axis == channel else s for axis, s in enumerate(shape)) != out or len(shape) > 4:
        raise imp.refuse(node, f"from {shape} to {out}; copies of the channels, dimension {channel}, are supported")
    return imp.emit(node, ir.Concat if copies > 1 else ir.Identity, *[a["self"]] * copies)


@_handles("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d",
          reads="self input output_size scales scales_h scales_w scale_factors")
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


@_handles("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_copy",
          reads="self size shape start_dim end_dim dim sizes")
def _reshape(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Reshape, a["self"])


@_handles("channel_shuffle", "native_channel_shuffle", reads="self groups")
def _channel_shuffle(imp: _Importer, node, a: dict) -> str:
    imp.rank(node, a["self"], (3, 4), "(N, C, L) or (N, C, H, W)")
    return imp.emit(node, ir.Shuffle, a["self"], groups=int(a["groups"]))


@_handles("pixel_shuffle", reads="self upscale_factor")
def _pixel_shuffle(imp: _Importer, node, a: dict) -> str:
    imp.rank(node, a["self"], (4,), "(N, C, H, W)")
    return imp.emit(node, ir.PixelShuffle, a["self"], factor=int(a["upscale_factor"]))


@_handles("permute", "transpose", "t", reads="self dims dim0 dim1")
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
    if rank != 4 and not (rank == 5 and dims == [0, 2, 1, 3, 4]):
        raise imp.refuse(node, f"dims={dims} of shape {shape}; moving the channels of (N, C, H, W) is supported")
    return imp.emit(node, ir.Permute, source, dims=tuple(dims))


@_handles("dropout", "feature_dropout", "alpha_dropout", "clone", "alias", "detach", "contiguous", "to", "_to_copy",
          "type_as", reads="self input p train dtype layout other")
def _identity(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Identity, a.get("self", a.get("input")))

"""torch.export graph -> IR.

Only the exported ATen graph is read, never the module tree, so how a model was written does not matter.
One small handler per ATen operator; whatever has no handler is refused by layer name.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from firmware_gen import ir
from firmware_gen.refusal import refusal
from hls.errors import HeepgenError


def import_model(model, example_input=None, name: str = "model") -> ir.Graph:
    """Turn a model into an IR graph with float64 weights.

    model: an nn.Module (exported here, in evaluation mode) or an ExportedProgram.
    example_input: float32 tensor or array, or a shape, batch dimension included; needed for an nn.Module,
        checked against the exported shape for an ExportedProgram.
    Raises HeepgenError naming the layer for whatever is not supported, and for NaN or infinite weights.
    """
    program = model if isinstance(model, ExportedProgram) else export(model, example_input)
    _check_modes(program)
    if isinstance(model, ExportedProgram) and example_input is not None:
        _check_input_shape(program, tuple(_as_tensor(example_input).shape))
    return _Importer(_functionalise(program), name).run()


def export(model: torch.nn.Module, example_input) -> ExportedProgram:
    """torch.export `model` in evaluation mode (its training flags are put back), with fixed shapes."""
    if not isinstance(model, torch.nn.Module):
        raise HeepgenError(
            f"a model must be an nn.Module or an ExportedProgram, this is a {type(model).__name__}"
        )
    if example_input is None:
        raise HeepgenError("a module has no input shape of its own: give an example input or --input-shape")
    example = _as_tensor(example_input)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        _try_forward(model, example)
        return torch.export.export(model, (example,))
    except HeepgenError:
        raise
    except Exception as error:
        raise HeepgenError(
            f"torch.export cannot trace the model: {_first_line(error)}; it must be a fixed graph of "
            "tensor operations with one tensor input"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode


def _as_tensor(example) -> torch.Tensor:
    if isinstance(example, torch.Tensor):
        return example.detach()
    if isinstance(example, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(example))
    return torch.zeros(tuple(int(size) for size in example))


def _try_forward(model, example):
    try:
        with torch.no_grad():
            model(example)
    except Exception as error:
        raise HeepgenError(
            f"the model does not accept an input of shape {tuple(example.shape)} {_dtype(example)}: "
            f"{_first_line(error)}; check the input shape"
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _dtype(tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _functionalise(program: ExportedProgram) -> ExportedProgram:
    """Remove in-place operations; everything else stays as high-level as the program has it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 warns about itself here
            return program.run_decompositions({})
    except Exception as error:
        raise HeepgenError(f"torch cannot make the program functional: {_first_line(error)}") from error


def _check_modes(program: ExportedProgram):
    for node in program.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        args = _bind(node)
        label = f"layer {_module_path(node) or node.name} ({_op_name(node)})"
        if "running_mean" in args and args["running_mean"] is None:
            raise HeepgenError(f"{label} has track_running_stats=False: BatchNorm needs running statistics")
        if args.get("training") is True or args.get("train") is True:
            raise HeepgenError(
                f"{label} was exported in training mode: call model.eval() before torch.export.export"
            )


def _check_input_shape(program: ExportedProgram, shape: tuple[int, ...]):
    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            exported = tuple(node.meta["val"].shape)
            if exported != shape:
                raise HeepgenError(
                    f"the input has shape {shape}, but the model was exported for {exported}: "
                    "use that shape, or export the model again"
                )


def _bind(node) -> dict:
    """The node's arguments by schema name, defaults filled in."""
    arguments = node.target._schema.arguments
    bound = {a.name: a.default_value for a in arguments if a.has_default_value()}
    bound |= {a.name: value for a, value in zip(arguments, node.args, strict=False)}
    return bound | node.kwargs


def _aten_name(node) -> str:
    return node.target._schema.name.removeprefix("aten::")


def _op_name(node) -> str:
    if isinstance(node.target, torch._ops.OpOverload):
        return _aten_name(node).strip("_")
    return getattr(node.target, "__name__", str(node.target))


def _module_stack(node) -> list[tuple[str, str]]:
    """(module path, class or its Python module) from the root to the module that called the operator."""
    stack = (node.meta.get("nn_module_stack") or {}).values()
    return [(path, cls if isinstance(cls, str) else cls.__module__) for path, cls in stack]


def _module_path(node) -> str:
    stack = _module_stack(node)
    return stack[-1][0] if stack else ""


def _is_library_leaf(node) -> bool:
    stack = _module_stack(node)
    return bool(stack) and stack[-1][1].startswith("torch.nn.") and "container" not in stack[-1][1]


class _Names:
    """Unique layer names: the module's path, or a function's name counted within the module that calls it."""

    def __init__(self):
        self.taken: set[str] = set()

    def new(self, node) -> str:
        path = _module_path(node)
        if path and _is_library_leaf(node):
            return self._unique(path, first=path)
        prefix = f"{path}.{_op_name(node)}" if path else _op_name(node)
        return self._unique(prefix, first=f"{prefix}_0")

    def _unique(self, stem: str, first: str) -> str:
        name, count = first, 0
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name


def _pair(value) -> tuple[int, int]:
    values = [value, value] if isinstance(value, int) else [int(v) for v in value]
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


class _Importer:
    """Walks one functional ATen graph; `env` maps FX nodes to value names (str) or to constants (tensors)."""

    def __init__(self, program: ExportedProgram, name: str):
        self.program = program
        self.name = name
        self.names = _Names()
        self.env: dict = {}
        self.values: dict[str, ir.Value] = {}
        self.nodes: list[ir.Node] = []
        self.inputs: list[str] = []

    def run(self) -> ir.Graph:
        constants = self._constants()
        outputs: list[str] = []
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self._placeholder(node, constants)
            elif node.op == "call_function":
                self.env[node] = self._call(node)
            elif node.op == "output":
                outputs = self._outputs(node)
            else:
                raise HeepgenError(f"{node.name}: a {node.op} node in the exported program is not supported")
        return ir.Graph(self.name, tuple(self.inputs), tuple(outputs), tuple(self.nodes), self.values)

    def _constants(self) -> dict[str, torch.Tensor]:
        program, found = self.program, {}
        for spec in program.graph_signature.input_specs:
            if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
                source = program.state_dict if spec.target in program.state_dict else program.constants
                found[spec.arg.name] = source[spec.target].detach()
        return found

    def _placeholder(self, node, constants):
        if node.name in constants:
            self.env[node] = constants[node.name]
            return
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise HeepgenError(f"input {node.name} is not a tensor: a model takes exactly one tensor")
        if self.inputs:
            raise HeepgenError(
                f"the model has more than one input ({self.inputs[0]}, {node.name}): one is supported"
            )
        if value.dtype != torch.float32:
            raise HeepgenError(f"input {node.name} is {_dtype(value)}: use float32, after model.float()")
        self.env[node] = self._declare(node)
        self.inputs.append(node.name)

    def _outputs(self, node) -> list[str]:
        outputs = zip(node.args[0], self.program.graph_signature.output_specs, strict=True)
        wanted = [fx for fx, spec in outputs if spec.kind == OutputKind.USER_OUTPUT]
        if len(wanted) != 1 or not isinstance(self.env.get(wanted[0]), str):
            raise HeepgenError(f"the model returns {len(wanted)} values: one computed tensor is supported")
        return [self.env[wanted[0]]]

    def _declare(self, node) -> str:
        shape = tuple(node.meta["val"].shape)
        if not all(isinstance(size, int) for size in shape):
            raise HeepgenError(f"{node.name} has a dynamic shape {shape}: export the model with fixed shapes")
        if 0 in shape:
            raise HeepgenError(f"{node.name} is empty, its shape is {shape}: check the input shape")
        self.values[node.name] = ir.Value(node.name, shape)
        return node.name

    def _call(self, node):
        if node.target is operator.getitem:
            return self._getitem(node)
        if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
            raise self.refuse(node, f"the operator {node.target} is not an ATen operator")
        read = [self.env[fx] for fx in node.all_input_nodes]
        if not any(isinstance(value, str) for value in read):
            return self._fold_constant(node)
        handler = HANDLERS.get(_aten_name(node))
        if handler is None:
            raise self.refuse(node, "this operator is not supported")
        return handler(self, node, self._resolve(_bind(node)))

    def _getitem(self, node):
        source = self.env[node.args[0]]
        if not isinstance(source, str):
            return source[node.args[1]]
        if node.args[1] != 0:
            raise self.refuse(node, f"its output {node.args[1]} is used; only output 0 is supported")
        return source

    def _fold_constant(self, node):
        """Evaluate an operator of weights only (a transposed or normalised weight)."""
        if _aten_name(node) not in CONSTANT_OPERATORS:
            raise self.refuse(node, "this operator is not supported, not even on weights alone")
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), self.env.__getitem__)
        with torch.no_grad():
            return node.target(*args, **kwargs)

    def _resolve(self, args: dict) -> dict:
        return {key: self.env[v] if isinstance(v, torch.fx.Node) else v for key, v in args.items()}

    # What the handlers use.

    def emit(self, node, cls: type[ir.Node], source, **fields) -> str:
        """Append a node reading `source`; returns the name of its value."""
        if not isinstance(source, str):
            raise self.refuse(node, "its input is a constant")
        shape_of = node
        if isinstance(node.meta["val"], tuple | list):  # operators that also return statistics or indices
            shape_of = _FirstOutput(node)
        name = self.names.new(node)
        self.nodes.append(cls(name=name, inputs=(source,), output=self._declare(shape_of), **fields))
        return node.name

    def weight(self, node, value, what: str) -> np.ndarray | None:
        """A constant as float64; refused by layer name when computed, NaN or infinite."""
        if value is None:
            return None
        if isinstance(value, str):
            raise self.refuse(node, f"its {what} is computed by the model; only constants are supported")
        array = value.detach().cpu().to(torch.float64).numpy().copy()
        if not np.isfinite(array).all():
            bad = "NaN" if np.isnan(array).any() else "infinity"
            raise HeepgenError(
                f"layer {self.label(node)}: its {what} contains {bad}; train or initialise the model again"
            )
        return array

    def rank(self, node, source, allowed: tuple[int, ...], expected: str):
        shape = self.values[source].shape if isinstance(source, str) else ()
        if len(shape) not in allowed:
            raise self.refuse(node, f"its input has shape {shape}; {expected} is supported")

    def shape(self, source: str) -> ir.Shape:
        return self.values[source].shape

    def label(self, node) -> str:
        return _module_path(node) or f"{_op_name(node)} ({node.name})"

    def refuse(self, node, reason: str) -> HeepgenError:
        return refusal(self.label(node), _op_name(node), reason)


class _FirstOutput:
    """The first output of a node with several, seen as a node."""

    def __init__(self, node):
        self.name = node.name
        self.meta = {"val": node.meta["val"][0]}


# Cheap, pure operators that may prepare a weight.
CONSTANT_OPERATORS = frozenset(
    (
        *("t", "transpose", "permute", "view", "reshape", "unsqueeze", "squeeze", "expand"),
        *("clone", "alias", "detach", "contiguous", "lift_fresh_copy"),
        *("mul", "div", "add", "sub", "neg", "sqrt", "rsqrt", "_weight_norm", "_weight_norm_interface"),
    )
)
Handler = Callable[[_Importer, torch.fx.Node, dict], str]
HANDLERS: dict[str, Handler] = {}


def _handles(*names: str):
    def register(function: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, function))
        return function

    return register


@_handles("conv2d", "convolution")
def _conv(imp: _Importer, node, a: dict) -> str:
    imp.rank(node, a["input"], (4,), "(N, C, H, W)")
    weight = imp.weight(node, a["weight"], "weight")
    if weight.ndim != 4:
        raise imp.refuse(node, f"its weight has {weight.ndim} dimensions; 2-D convolution is supported")
    if a.get("transposed"):
        raise imp.refuse(node, "transposed convolution is not supported")
    dilation = _pair(a["dilation"])
    return imp.emit(
        node,
        ir.Conv,
        a["input"],
        weight=weight,
        bias=imp.weight(node, a["bias"], "bias"),
        stride=_pair(a["stride"]),
        pads=_conv_pads(a["padding"], weight.shape[2:], dilation),
        dilation=dilation,
        groups=int(a["groups"]),
    )


def _conv_pads(padding, kernel, dilation) -> ir.Pads:
    """'same' puts the odd cell at the bottom and right, as torch does."""
    if padding == "valid":
        return ir.NO_PADS
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    top, left = _pair(padding)
    return (top, left, top, left)


def _emit_linear(imp: _Importer, node, source, weight, bias) -> str:
    imp.rank(node, source, (1, 2), "(N, features)")
    return imp.emit(node, ir.Linear, source, weight=weight, bias=bias)


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
    imp.rank(node, a["input"], (2, 4), "(N, F) or (N, C, H, W)")
    mean = imp.weight(node, a["running_mean"], "running mean")
    variance = imp.weight(node, a["running_var"], "running variance")
    if not (variance + a["eps"] > 0).all():
        raise HeepgenError(f"layer {imp.label(node)}: its variance + eps is not positive; train it again")
    gamma, beta = imp.weight(node, a["weight"], "weight"), imp.weight(node, a["bias"], "bias")
    scale = (1.0 if gamma is None else gamma) / np.sqrt(variance + a["eps"])
    shift = (0.0 if beta is None else beta) - mean * scale
    return imp.emit(node, ir.BatchNorm, a["input"], scale=scale, shift=shift)


@_handles("relu")
def _relu(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Activate, a["self"], act=ir.RELU)


@_handles("hardtanh", "relu6", "clamp", "clamp_min", "clamp_max")
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


def _float32(value) -> float:
    """`value` as torch uses it on float32 tensors; -0 becomes +0."""
    return float(np.float32(value)) + 0.0


@_handles("max_pool2d", "max_pool2d_with_indices")
def _max_pool(imp: _Importer, node, a: dict) -> str:
    return _pool(imp, node, a, kind="max", dilation=_pair(a["dilation"]))


@_handles("avg_pool2d")
def _avg_pool(imp: _Importer, node, a: dict) -> str:
    return _pool(
        imp,
        node,
        a,
        kind="avg",
        count_include_pad=bool(a["count_include_pad"]),
        divisor_override=a["divisor_override"],
    )


def _pool(imp: _Importer, node, a: dict, **fields) -> str:
    imp.rank(node, a["self"], (4,), "(N, C, H, W)")
    kernel = _pair(a["kernel_size"])
    top, left = _pair(a["padding"])
    return imp.emit(
        node,
        ir.Pool,
        a["self"],
        kernel=kernel,
        stride=_pair(a["stride"]) if a["stride"] else kernel,
        pads=(top, left, top, left),
        ceil_mode=bool(a["ceil_mode"]),
        **fields,
    )


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
    imp.rank(node, a["self"], (4,), "(N, C, H, W)")
    if any(amounts[4:]):
        raise imp.refuse(node, f"pad={amounts} pads channels or batch; height and width are supported")
    left, right, top, bottom = (amounts + [0, 0, 0, 0])[:4]
    return imp.emit(node, ir.Pad, a["self"], pads=(top, left, bottom, right), value=_float32(value or 0.0))


@_handles("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_copy")
def _reshape(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Reshape, a["self"])


@_handles("dropout", "feature_dropout", "alpha_dropout", "clone", "alias", "detach", "contiguous")
def _identity(imp: _Importer, node, a: dict) -> str:
    return imp.emit(node, ir.Identity, a.get("self", a.get("input")))


@_handles("softmax", "_softmax")
def _softmax(imp: _Importer, node, a: dict) -> str:
    imp.rank(node, a["self"], (1, 2), "(N, features)")
    rank = len(imp.shape(a["self"]))
    if a["dim"] % rank != rank - 1:
        raise imp.refuse(node, f"dim={a['dim']}; the last dimension is supported")
    return imp.emit(node, ir.Softmax, a["self"])

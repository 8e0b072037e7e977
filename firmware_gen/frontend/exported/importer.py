# SPDX-License-Identifier: Apache-2.0
"""torch.export graph -> IR.

Only the exported ATen graph is read, never the module tree, so how a model was written does not matter.
`operators` has one small handler per ATen operator; whatever has no handler is refused by layer name.

Tensors of three dimensions, (N, C, L), are (N, C, 1, L) in the IR, but for the graph's input and outputs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind

from firmware_gen import ir
from firmware_gen.frontend.aten import HANDLERS, HARMLESS, OF_SHAPE, READS, is_function
from firmware_gen.frontend.aten.registry import INTEGERS, OF_INTEGERS, OF_TRUTHS, arguments_of, schema
from firmware_gen.frontend.exported.hints import QUANTISED_ACTIVATIONS, not_supported
from firmware_gen.frontend.exported.integers import DEQUANTISERS, QUANTISERS, scale_of
from firmware_gen.frontend.exported.prepare import (
    Example,
    Model,
    as_tensors,
    check_input_shapes,
    check_modes,
    dtype_name,
    export,
    functionalised,
    with_fixed_sizes,
    with_known_constants,
)
from firmware_gen.frontend.exported.program import (
    Interface,
    Pairs,
    aten_name,
    constants_of,
    interface_of,
    module_path,
    module_stack,
    needless,
    op_name,
    user_inputs,
)
from firmware_gen.names import safe_name
from firmware_gen.refusal import first_line, refusal
from hls.errors import HeepgenError

Found = str | torch.Tensor | list[str] | list[str | torch.Tensor] | None
"""What a node is: the name of a value, a constant, the names of its parts, or nothing that counts."""


@dataclass(frozen=True)
class Import:
    """A graph with the program it was read from: `program` as it was given or exported, `functional` without its
    in-place operations. A value of the graph that has the name of a node of `functional` is that node's. `interface`
    says of both what the graph's inputs and outputs are."""

    graph: ir.Graph
    program: ExportedProgram
    functional: ExportedProgram
    interface: Interface


def import_model(
    model: Model, example_input: Example | None = None, name: str = "model", state: Pairs = MappingProxyType({})
) -> ir.Graph:
    """The graph of `import_program`."""
    return import_program(model, example_input, name, state).graph


def import_program(
    model: Model, example_input: Example | None = None, name: str = "model", state: Pairs = MappingProxyType({})
) -> Import:
    """Turn a model into an IR graph with float64 weights.

    model: an nn.Module (exported here, in evaluation mode) or an ExportedProgram.
    example_input: float32 tensor or array, or a shape, batch dimension included, or a tuple of the inputs; needed for
        an nn.Module, checked against the exported shapes for an ExportedProgram.
    state: inputs that are what outputs, by name or number, were in the call before; zeros in the first one. Buffers
        that the model writes are states by themselves.
    Raises HeepgenError naming the layer for whatever is not supported, and for NaN or infinite weights.
    """
    program = model if isinstance(model, ExportedProgram) else export(model, example_input)
    if any(node.op == "get_attr" for node in program.graph.nodes):  # graphs within torch.no_grad()
        program = program.run_decompositions({})
    check_modes(program)
    program = with_known_constants(program)
    shapes = None if example_input is None else [tuple(x.shape) for x in as_tensors(example_input)]
    if not all(isinstance(size, int) for _, node in user_inputs(program) for size in node.meta["val"].shape):
        program = with_fixed_sizes(program, "the model", shapes[0] if shapes else None)
    if shapes is not None:
        check_input_shapes(program, shapes)
    functional = functionalised(program)
    if len(functional.graph_signature.input_specs) != len(program.graph_signature.input_specs):
        program = functional  # a weight of torchao is several tensors there
    interface = interface_of(functional, program, state)
    return Import(Importer(functional, safe_name(name), interface).run(), program, functional, interface)


ONNX = "firmware_gen.frontend.onnx."
LEAVES = ("torch.nn.", "firmware_gen.models.layers.", ONNX)
"""Modules that are layers; all others only hold them."""


def _is_library_leaf(node: torch.fx.Node) -> bool:
    stack = module_stack(node)
    return bool(stack) and stack[-1][1].startswith(LEAVES) and "container" not in stack[-1][1]


def _in_words_of_model(node: torch.fx.Node, reason: str) -> tuple[str, str]:
    """Operator and reason of a refusal; ONNX has other names than ATen."""
    stack = module_stack(node)
    if not stack or not stack[-1][1].startswith(ONNX):
        return op_name(node), reason
    return stack[-1][1].removeprefix(ONNX), reason.replace("dims=", "perm=").replace("dim=", "axis=")


class _Names:
    """Unique layer names: the module's path, or a function's name counted within the module that calls it."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.stems: dict[torch.fx.Node, str] = {}

    def stem(self, node: torch.fx.Node) -> str:
        """The name of the layer that `node` is; not yet taken when first asked for."""
        if node not in self.stems:
            path = module_path(node)
            prefix = f"{path}.{op_name(node)}" if path else op_name(node)
            leaf = path and _is_library_leaf(node)
            if leaf and op_name(node) == "pad" and "Pad" not in module_stack(node)[-1][1]:
                path = f"{path}.pad"  # the layer that it pads for is yet to come
            self.stems[node] = self._free(path, first=path) if leaf else self._free(prefix, first=f"{prefix}_0")
        return self.stems[node]

    def take(self, name: str) -> str:
        name = self._free(name, first=name)
        self.taken.add(name)
        return name

    def _free(self, stem: str, first: str) -> str:
        name, count = first, 0
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        return name


def _ir_shape(shape: ir.Shape) -> ir.Shape:
    """One number without dimensions is a vector of one."""
    if not shape:
        return (1,)
    return (shape[0], shape[1], 1, shape[2]) if len(shape) == 3 else shape


class Importer:
    """Walks one functional ATen graph; `env` maps FX nodes to value names (str) or to constants (tensors), and
    `torch_shapes` value names to the shapes that PyTorch sees."""

    def __init__(self, program: ExportedProgram, name: str, interface: Interface):
        self.program = program
        self.interface = interface
        self.name = name
        self.names = _Names()
        self.in_program = frozenset(node.name for node in program.graph.nodes)
        self.env: dict[torch.fx.Node, Any] = {}
        self.values: dict[str, ir.Value] = {}
        self.operands: dict[str, np.ndarray] = {}
        self.torch_shapes: dict[str, ir.Shape] = {}
        self.nodes: list[ir.Node] = []
        self.inputs: tuple[str, ...] = ()

    def run(self) -> ir.Graph:
        placeholders = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        left_out = needless(self.program, self.interface)
        self.inputs = tuple(placeholders[place].name for place in self.interface.inputs)
        outputs: list[str] = []
        for place, (node, constant) in enumerate(zip(placeholders, constants_of(self.program), strict=True)):
            self._placeholder(node, None if place in self.interface.inputs else constant)
        for node in self.program.graph.nodes:
            if node.op == "placeholder" or node in left_out:
                continue
            if node.op == "call_function":
                self.env[node] = self._call(node)
            elif node.op == "output":
                outputs = self._outputs(node)
            else:
                raise HeepgenError(f"{node.name}: a {node.op} node in the exported program is not supported")
        return self.graph(outputs, tuple(self._states(placeholders)))

    def graph(self, outputs: Sequence[str] = (), state: tuple[ir.State, ...] = ()) -> ir.Graph:
        """What was imported so far."""
        return ir.Graph(
            self.name, self.inputs, tuple(outputs), tuple(self.nodes), self.values, constants=self.operands, state=state
        )

    def _states(self, placeholders: Sequence[torch.fx.Node]) -> Iterator[ir.State]:
        constants = constants_of(self.program)
        for place, name in zip(self.interface.states, self.interface.names, strict=True):
            value, buffer = placeholders[place].name, constants[place]
            initial = np.zeros(self.values[value].shape, np.float32) if buffer is None else buffer.cpu().numpy().copy()
            if not np.isfinite(initial).all():
                raise HeepgenError(f"buffer {name} holds what is not finite; give it another initial value")
            yield ir.State(value, name, initial)

    def _placeholder(self, node: torch.fx.Node, constant: torch.Tensor | None) -> None:
        """A constant, or an input where there is none."""
        if constant is not None:
            self.env[node] = constant
            return
        value = node.meta["val"]
        if value.dtype != torch.float32:
            raise HeepgenError(f"input {node.name} is {dtype_name(value)}: use float32, after model.float()")
        shape = self._fixed_shape(node)
        self.values[node.name] = ir.Value(node.name, shape)
        self.env[node] = self._as_map(node.name, shape)

    def _as_map(self, name: str, shape: ir.Shape) -> str:
        """An input of three dimensions as the feature map that it is in the IR."""
        value = name
        if len(shape) == 3:
            value = self._append(f"{name}.reshape", ir.Reshape, (name,), self._fresh(f"{name}_map"), _ir_shape(shape))
        self.torch_shapes[value] = shape
        return value

    def _outputs(self, node: torch.fx.Node) -> list[str]:
        (results,) = node.args
        assert isinstance(results, (tuple, list))
        specs = self.program.graph_signature.output_specs
        returned = [fx for fx, spec in zip(results, specs, strict=True) if spec.kind == OutputKind.USER_OUTPUT]
        if not returned:
            raise HeepgenError("the model returns nothing: return at least one tensor")
        places = {spec.target: place for place, spec in enumerate(self.program.graph_signature.input_specs)}
        updates = {places[s.target]: fx for fx, s in zip(results, specs, strict=True) if s.target in places}
        names = dict(zip(self.interface.states, self.interface.names, strict=True))
        wanted = [(f"output {number} of the model", returned[number]) for number in self.interface.outputs]
        wanted += [(f"what the model writes to its buffer {names[p]}", updates[p]) for p in self.interface.buffers]
        for what, fx in wanted:
            if not isinstance(fx, torch.fx.Node) or not isinstance(self.env.get(fx), str):
                raise HeepgenError(f"{what} is a constant: return only tensors that it computes from its input")
            kind = getattr(fx.meta.get("val"), "dtype", None)
            if kind == torch.bool or kind in INTEGERS:
                raise HeepgenError(f"{what} is {dtype_name(fx.meta['val'])}: return it as numbers, after .float()")
        return [self._as_torch(self.env[fx]) for _, fx in wanted]

    def _as_torch(self, value: str) -> str:
        shape = self.torch_shapes[value]
        if self.values[value].shape == shape:
            return value
        return self._append(f"{value}.reshape", ir.Reshape, (value,), self._fresh(f"{value}_out"), shape)

    def _fixed_shape(self, node: torch.fx.Node | _FirstOutput) -> ir.Shape:
        shape = tuple(node.meta["val"].shape)
        if not all(isinstance(size, int) for size in shape):
            raise HeepgenError(f"{node.name} has a dynamic shape {shape}: export the model with fixed shapes")
        if 0 in shape:
            raise HeepgenError(f"{node.name} is empty, its shape is {shape}: check the input shape")
        return shape

    def _fresh(self, stem: str) -> str:
        """A value name that neither the exported program nor the graph uses."""
        name, count = stem, 0
        while name in self.in_program or name in self.values:
            name, count = f"{stem}_{count}", count + 1
        return name

    def _append(
        self,
        name: str,
        cls: type[ir.Node],
        inputs: Sequence[str],
        value: str,
        shape: ir.Shape,
        fields: Mapping[str, Any] | None = None,
    ) -> str:
        self.values[value] = ir.Value(value, shape)
        self.nodes.append(cls(name=self.names.take(name), inputs=tuple(inputs), output=value, **(fields or {})))
        return value

    def _call(self, node: torch.fx.Node) -> Found:
        if node.target is operator.getitem:
            return self._getitem(node)
        constant = not any(isinstance(self.env[fx], str) for fx in node.all_input_nodes)
        if not isinstance(node.target, torch._ops.OpOverload):
            raise self.refuse(node, f"the operator {node.target} is not an ATen operator")
        if node.target.namespace != "aten" and not (constant and schema(node).name in DEQUANTISERS):
            if node.target.namespace in QUANTISERS:
                raise self.refuse(node, QUANTISED_ACTIVATIONS)
            raise self.refuse(node, f"the operator {node.target} is not an ATen operator")
        if aten_name(node) == "_assert_tensor_metadata":
            return None
        if constant or aten_name(node) in OF_SHAPE:
            return self._fold_constant(node)
        handler = HANDLERS.get(aten_name(node))
        if handler is None:
            raise self.refuse(node, not_supported(op_name(node)))
        self._check_arguments(node)
        try:
            return handler(self, node, self._resolve(arguments_of(node)))
        except HeepgenError:
            raise
        except Exception as error:
            raise self.refuse(
                node,
                f"heepgen cannot import it as it is used here ({type(error).__name__}: "
                f"{first_line(error)}); write it with other operators",
            ) from error

    def _check_arguments(self, node: torch.fx.Node) -> None:
        """Refuse, by name, what the handler does not read, unless it says nothing."""
        bound, read = arguments_of(node), READS[aten_name(node)] | HARMLESS
        for argument in schema(node).arguments:
            name, value = argument.name, bound.get(argument.name)
            if name in read or (argument.has_default_value() and value == argument.default_value):
                continue
            default = f", {argument.default_value} is" if argument.has_default_value() else ""
            raise self.refuse(node, f"its argument {name}={value} is not supported{default}; leave it out")

    def _getitem(self, node: torch.fx.Node) -> Found:
        several, index = node.args
        assert isinstance(several, torch.fx.Node) and isinstance(index, int)
        source: Found | Sequence[Found] = self.env[several]
        if not isinstance(source, str):  # constants, or the parts of a split
            assert source is not None
            return source[index]
        if index != 0:
            raise self.refuse(node, f"its output {index} is used; only output 0 is supported")
        return source

    def _fold_constant(self, node: torch.fx.Node) -> Found:
        """Evaluate an operator of constants, or of shapes, only (a transposed or normalised weight)."""
        operation = node.target
        assert isinstance(operation, torch._ops.OpOverload)
        if not is_function(operation) and schema(node).name not in DEQUANTISERS:
            raise self.refuse(node, not_supported(op_name(node)))
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), self._known)
        try:
            with torch.no_grad():
                folded: torch.Tensor = operation(*args, **kwargs)
                return folded
        except Exception as error:
            raise self.refuse(node, f"torch cannot compute it ({first_line(error)}); check the model") from error

    def _known(self, fx: torch.fx.Node) -> Any:
        """A constant; of a computed value its shape alone."""
        value = self.env[fx]
        return torch.zeros(()).expand(self.shape(value)) if isinstance(value, str) else value

    def _resolve(self, args: dict[str, Any]) -> dict[str, Any]:
        return {key: torch.fx.map_arg(value, self.env.__getitem__) for key, value in args.items()}

    # What the handlers use.

    def emit(self, node: torch.fx.Node, cls: type[ir.Node], *sources: str, **fields: Any) -> str:
        """Append the node that computes `node` from `sources`; returns the name of its value."""
        shape_of: torch.fx.Node | _FirstOutput = node
        if isinstance(node.meta["val"], tuple | list):  # operators that also return statistics or indices
            shape_of = _FirstOutput(node)
        dtype = shape_of.meta["val"].dtype
        exact = OF_TRUTHS if dtype == torch.bool else OF_INTEGERS if dtype in INTEGERS else ()
        if dtype != torch.float32 and aten_name(node) not in exact:
            raise self.refuse(node, f"it computes {str(dtype).removeprefix('torch.')}; float32 is supported")
        return self._emit(node, cls, sources, node.name, self._fixed_shape(shape_of), fields)

    def inner(
        self,
        node: torch.fx.Node,
        cls: type[ir.Node],
        *sources: str,
        shape: ir.Shape,
        suffix: str | None = None,
        **fields: Any,
    ) -> str:
        """Append a node on the way to computing `node`, with an output of `shape`; returns the name of its value. It is
        called `suffix` of the layer, or as its class where there is none."""
        value = self._fresh(f"{node.name}_{cls.__name__.lower()}")
        return self._emit(node, cls, sources, value, shape, fields, suffix)

    def _emit(
        self,
        node: torch.fx.Node,
        cls: type[ir.Node],
        sources: Sequence[str],
        value: str,
        shape: ir.Shape,
        fields: dict[str, Any],
        suffix: str | None = None,
    ) -> str:
        if not all(isinstance(source, str) for source in sources):
            raise self.refuse(node, "one of its inputs is a constant")
        name = self.names.stem(node)
        if suffix:
            name = f"{name}.{suffix}"
        elif name in self.names.taken or (cls in (ir.Reshape, ir.Slice, ir.AsStrided) and value != node.name):
            name = f"{name}.{cls.__name__.lower()}"
        self.torch_shapes[value] = shape or (1,)
        return self._append(name, cls, sources, value, _ir_shape(shape), fields)

    def constant(self, node: torch.fx.Node, array: np.ndarray) -> str:
        """Name of a constant that a node reads as an operand, float64 of the shape that PyTorch sees."""
        value = self._fresh(f"{node.name}_constant")
        shape = _ir_shape(array.shape)
        self.operands[value] = array.reshape(shape)
        self.values[value], self.torch_shapes[value] = ir.Value(value, shape), array.shape
        return value

    def weight_or_none(self, node: torch.fx.Node, value: str | torch.Tensor | None, what: str) -> np.ndarray | None:
        """`weight`, where there is one."""
        return None if value is None else self.weight(node, value, what)

    def weight(self, node: torch.fx.Node, value: str | torch.Tensor, what: str) -> np.ndarray:
        """A constant as float64; refused by layer name when computed, NaN or infinite."""
        if isinstance(value, str):
            raise self.refuse(node, f"its {what} is computed by the model; only constants are supported")
        array = np.array(value.detach().cpu().to(torch.float64).numpy())
        if not np.isfinite(array).all():
            bad = "NaN" if np.isnan(array).any() else "infinity"
            raise HeepgenError(
                f"layer {self.label(node)}: its {what} contains {bad}; train or initialise the model again"
            )
        return array

    def weight_scale(
        self,
        node: torch.fx.Node,
        ordered: Callable[[np.ndarray], np.ndarray] = lambda array: array,
        argument: str = "weight",
    ) -> np.ndarray | None:
        """(O,) float64 where the weight, output channels first once it is `ordered`, is INT8 constants times a scale:
        that; None elsewhere."""
        scale = scale_of(arguments_of(node)[argument], self.env)
        if scale is None:
            return None
        array = ordered(scale.double().numpy())
        rows = array.reshape(len(array), -1)
        return rows[:, 0].copy() if (rows == rows[:, :1]).all() else None

    def rank(self, node: torch.fx.Node, source: str | torch.Tensor, allowed: tuple[int, ...], expected: str) -> None:
        shape = self.shape(source) if isinstance(source, str) else ()
        if len(shape) not in allowed:
            raise self.refuse(node, f"its input has shape {shape}; {expected} is supported")

    def shape(self, source: str) -> ir.Shape:
        """Shape as PyTorch sees it."""
        return self.torch_shapes[source]

    def ir_shape(self, source: str) -> ir.Shape:
        return self.values[source].shape

    def ir_axis(self, source: str, dim: int) -> int:
        """The dimension of the IR that is PyTorch's `dim` of a value."""
        rank = len(self.torch_shapes[source])
        return dim % rank + (rank == 3 and dim % rank == 2)

    def label(self, node: torch.fx.Node) -> str:
        return module_path(node) or f"{op_name(node)} ({node.name})"

    def refuse(self, node: torch.fx.Node, reason: str) -> HeepgenError:
        return refusal(self.label(node), *_in_words_of_model(node, reason))


class _FirstOutput:
    """The first output of a node with several, seen as a node."""

    def __init__(self, node: torch.fx.Node) -> None:
        self.name = node.name
        self.meta = {"val": node.meta["val"][0]}

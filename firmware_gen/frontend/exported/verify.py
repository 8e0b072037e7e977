# SPDX-License-Identifier: Apache-2.0
"""The imported graph against the program that it came from: tensor by tensor, in double precision.

Both sides compute in float64, with the constants that they have in float32, so what is left is the rounding of double
precision: every layer gets the source's own input, and may differ from the source by

    (K + OPERATIONS) * 2**-52 * M        or 2**-23, where the source computes in float32

where K is the number of terms that one of its outputs sums, and M is the largest magnitude that such a sum can reach:
max(sum |w|) * max |x| + max |b| of a layer with weights. Where one layer of the source is many here, as the steps of a
recurrent one, what they may differ by adds up. A wrong stride, order, constant or argument is far above it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from firmware_gen import ir
from firmware_gen.frontend.aten.registry import INTEGERS, MOVING_OPERATORS, plain_name
from firmware_gen.frontend.exported import program as programs
from firmware_gen.frontend.exported.importer import Import
from firmware_gen.frontend.exported.program import Interface
from firmware_gen.models.fake_quant import GraphModule, layer_of
from firmware_gen.refusal import first_line
from hls.errors import HeepgenError

OPERATIONS = 64
"""Roundings of one layer besides those of its sums; its functions are exact to a few units."""
REWRITTEN = 2.0**-30
"""Difference at the outputs that the passes may make, relative to the largest number in the network: 64 times less
than the rounding of float32 would."""
FOUND = 2.0**-18
"""The same where the passes found a function that the model writes out with constants in float32, or where operators
are written with others that compute constants of constants, in float32."""
DOUBLE, SINGLE = 2.0**-52, 2.0**-23
SEED = 20240229
SPREAD = 4.0
"""Standard deviation of the random input: large enough to reach the bounds of ReLU6 and the like."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Reference:
    """What the source computes for the graph's `inputs`, states among them: `values` by the names that the imported
    graph has for them, `outputs` in order, all in float64; `values` may lack any."""

    inputs: tuple[np.ndarray, ...]
    values: Mapping[str, np.ndarray]
    outputs: tuple[np.ndarray, ...]

    @property
    def magnitude(self) -> float:
        """The largest number anywhere."""
        return max(_magnitude(a) for a in (*self.inputs, *self.values.values(), *self.outputs))


@dataclass(frozen=True)
class Check:
    """An import that was found equal to its source. `largest` is the largest difference of a tensor relative to the
    largest number in it."""

    source: str
    inputs: int
    tensors: int
    largest: float

    def __str__(self) -> str:
        difference = f"{self.largest:.1e}" if self.largest else "none"
        return (
            f"import equals {self.source}'s program on {self.inputs} inputs, {self.tensors} tensors, "
            f"largest difference {difference}"
        )

    def to_dict(self) -> dict[str, str | int | float]:
        """For reports; `text` is the sentence."""
        return asdict(self) | {"text": str(self)}


def check_program(imported: ir.Graph, lowered: ir.Graph, source: Import, sample: Sequence[np.ndarray]) -> Check:
    """Compare a graph as imported from the functional program of `source`, and as the passes left it, with the program
    itself, on `sample` (float32, of the shapes of the graph's arguments) from what states are at first, and on random
    inputs and states. Raises HeepgenError naming the first layer that differs."""
    references = []
    interface, rounds = source.interface, _rounds_otherwise(source.functional, source.program)
    with programs.one_thread():
        for x in inputs_to_try((*sample, *(state.initial for state in imported.state))):
            values, outputs = run_program(source.functional, interface, x, imported.values)
            found = Reference(x, values, run_program(source.program, interface, x, ())[1])
            allowed = (FOUND if rounds else REWRITTEN) * found.magnitude
            for number, (own, other) in enumerate(zip(outputs, found.outputs, strict=True)):
                compare_tensors(f"output {number} of the model", other, own, allowed, "PyTorch")
            references.append(replace(found, outputs=outputs) if rounds else found)
    return check_import(imported, lowered, references, "PyTorch")


def _rounds_otherwise(functional: ExportedProgram, program: ExportedProgram) -> bool:
    """Whether operators are written with others that round constants to float32 on the way, or numbers."""
    return _prepared(functional) > _prepared(program) or bool(_numbers(functional) - _numbers(program))


def _numbers(program: ExportedProgram) -> set[float]:
    """Those in a program that are no integers."""
    leaves = pytree.tree_leaves([(n.args, n.kwargs) for n in program.graph.nodes if n.op == "call_function"])
    return {leaf for leaf in leaves if isinstance(leaf, float) and not leaf.is_integer()}


def _prepared(program: ExportedProgram) -> int:
    """How many operators compute constants of constants."""
    nodes = list(program.graph.nodes)
    places = {place for place, _ in programs.user_inputs(program)}
    constants = {node for place, node in enumerate(n for n in nodes if n.op == "placeholder") if place not in places}
    count = 0
    for node in nodes:
        if node.op == "call_function" and node.all_input_nodes and constants.issuperset(node.all_input_nodes):
            constants.add(node)
            count += isinstance(node.target, torch._ops.OpOverload) and plain_name(node) not in MOVING_OPERATORS
    return count


def check_import(imported: ir.Graph, lowered: ir.Graph, references: Iterable[Reference], source: str) -> Check:
    """Compare a graph as imported, and as the passes left it, with what its source computes.

    imported: every value that a reference names, and the outputs. lowered: the outputs. Raises HeepgenError naming the
    first layer that differs.
    """
    references = list(references)
    check = check_layers(imported, references, source)
    allowed = FOUND if _functions(lowered) - _functions(imported) else REWRITTEN
    with programs.one_thread():
        for reference in references:
            outputs = zip(lowered.outputs, reference.outputs, _run(lowered, reference.inputs), strict=True)
            for value, expected, got in outputs:
                producer = lowered.producer(value)
                name = f"layer {producer.name if producer else value}, as the passes left it"
                compare_tensors(name, expected, got, allowed * reference.magnitude, source)
    return check


def _functions(graph: ir.Graph) -> set[ir.Function | None]:
    return {node.act.function for node in graph.nodes if isinstance(node, ir.Activated)}


def check_layers(imported: ir.Graph, references: Iterable[Reference], source: str, unit: float = DOUBLE) -> Check:
    """Compare every value of a graph as imported that a reference names, and the outputs; `unit` is the rounding of
    the source. Raises HeepgenError naming the first layer that differs."""
    inputs = tensors = 0
    largest = 0.0
    with programs.one_thread():
        for reference in references:
            for name, expected, got, allowed in _layer_by_layer(imported, reference):
                difference = compare_tensors(f"layer {name}", expected, got, allowed * unit, source)
                largest, tensors = max(largest, difference), tensors + 1
            inputs += 1
    return Check(source, inputs, tensors // max(inputs, 1), largest)


def inputs_to_try(sample: Sequence[np.ndarray]) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """The sample's inputs, with 0 for what is not finite, and random ones of their shapes, in float64."""
    random = np.random.default_rng(SEED)
    finite = tuple(np.where(np.isfinite(x), x, 0).astype(np.float64) for x in sample)
    return finite, tuple(SPREAD * random.standard_normal(x.shape) for x in finite)


# --- the source ------------------------------------------------------------------------------------------------


def run_program(
    program: ExportedProgram, interface: Interface, inputs: Sequence[np.ndarray], wanted: Collection[str]
) -> tuple[dict[str, np.ndarray], tuple[np.ndarray, ...]]:
    """(values of the nodes in `wanted` by name, the graph's outputs) of a program for the graph's inputs, in
    float64. Raises HeepgenError where an operator refuses its arguments."""
    interpreter = _InDouble(program, interface, wanted)
    try:
        with torch.no_grad():
            outputs = programs.run(interpreter, program, interface, [torch.from_numpy(x) for x in inputs])
    except Exception as error:  # whatever an operator says of arguments that the file gives it
        raise HeepgenError(
            f"PyTorch cannot run the model's own program: {first_line(error)[:200]}; export the model again"
        ) from error
    return interpreter.values, tuple(_array(output) for output in outputs)


class _InDouble(torch.fx.Interpreter):
    """Runs what depends on the input in float64, and what prepares weights in the precision it was written in, as the
    import does. Numbers are rounded to float32 first, as PyTorch does beside float32 tensors."""

    def __init__(self, program: ExportedProgram, interface: Interface, wanted: Collection[str]):
        super().__init__(torch.nn.Module(), graph=program.graph)
        taken = [n for n in program.graph.nodes if n.op == "placeholder"]
        self.computed = {taken[place] for place in interface.inputs}
        self.wanted = wanted
        self.written = _written(program.graph)
        self.values: dict[str, np.ndarray] = {}

    def run_node(self, node: torch.fx.Node) -> Any:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            if self.computed.intersection(node.all_input_nodes):
                self.computed.add(node)
            return self._kept(node, super().run_node(node))
        if node.target._schema.name == "aten::_assert_tensor_metadata":
            return None
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        if self.computed.intersection(node.all_input_nodes):
            self.computed.add(node)
            args, kwargs = _doubled(node.target, args, kwargs)
            if getattr(node.meta.get("val"), "dtype", None) in FLOATS:
                args = _divided_in_double(args)
        result = _VIEWS.get(node.target, node.target)(*args, **kwargs)
        if node in self.written:
            result = _double(result, False)
            self.computed.add(node)
        return self._kept(node, result)

    def _kept(self, node: torch.fx.Node, result: Any) -> Any:
        first = result[0] if isinstance(result, tuple | list) and result else result
        if node in self.computed and node.name in self.wanted and isinstance(first, torch.Tensor):
            self.values[node.name] = _array(first)
        return result


def _written(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """What makes the tensors that the program writes to: of constants among them a copy in float64 would not be what is
    read later."""
    found = set()
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            source = node.args[0]
            while _shows(source):
                source = source.args[0]
            if isinstance(source, torch.fx.Node) and source.op == "call_function":
                found.add(source)
    return found


def _shows(node: Any) -> bool:
    """Whether an operator returns its first operand, or a view of it."""
    of_torch = isinstance(node, torch.fx.Node) and isinstance(node.target, torch._ops.OpOverload)
    return of_torch and any(returned.alias_info is not None for returned in node.target._schema.returns)


_VIEWS = {torch.ops.aten.view.default: torch.ops.aten.reshape.default}
"""Strides may be others in float64 than in float32: what is a view there is a copy here."""


def _doubled(
    target: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    schema = target._schema.arguments
    added = {"value", *_ADDED.get(target, ())}
    rounded = {a.name for a in schema if a.name in added or str(a.type) in _NUMBERS}
    given = dict(zip((a.name for a in schema), args, strict=False)) | kwargs
    left_out = {
        a.name: a.default_value
        for a in schema
        if a.name in rounded and a.name not in given and isinstance(a.default_value, float)
    }
    defaults = {a.name: a.default_value for a in schema}
    if "eps" in defaults and given.get("eps", defaults["eps"]) is None:  # that of the tensors' type
        kwargs = kwargs | {"eps": torch.finfo(torch.float32).eps}
        args = args[: next(i for i, a in enumerate(schema) if a.name == "eps")]
    positional = tuple(_double(value, a.name in rounded) for a, value in zip(schema, args, strict=False))
    return positional, {name: _double(value, name in rounded) for name, value in (left_out | kwargs).items()}


_ADDED: Mapping[torch._ops.OpOverload, tuple[str, ...]] = {torch.ops.aten.pairwise_distance.default: ("eps",)}
"""What else is added to a tensor, though its type does not say so."""
_NUMBERS = ("number", "Optional[number]", "Tensor", "Optional[Tensor]")


def _divided_in_double(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Integers that give a quotient, which torch computes in float32."""
    tensors = [value for value in args if isinstance(value, torch.Tensor)]
    if not tensors or any(tensor.dtype not in INTEGERS for tensor in tensors):
        return args
    return tuple(value.double() if isinstance(value, torch.Tensor) else value for value in args)


def _double(value: Any, rounded: bool) -> Any:
    if isinstance(value, torch.Tensor):
        return value.double() if value.dtype in FLOATS else value
    if isinstance(value, torch.dtype):
        return torch.float64 if value in FLOATS else value
    if isinstance(value, tuple | list):
        return type(value)(_double(v, rounded) for v in value)
    return float(np.float32(value)) if isinstance(value, float) and rounded else value


# --- the graph -------------------------------------------------------------------------------------------------


def _layer_by_layer(graph: ir.Graph, reference: Reference) -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """(layer, source's value, own value, units of rounding allowed) of every value in the reference, and of the
    outputs. Each layer reads the source's values where there are some, so that differences do not add up."""
    module = GraphModule(graph, np.float64)
    outputs = dict(zip(graph.outputs, reference.outputs, strict=True))
    known = {name: torch.from_numpy(array.astype(np.float64)) for name, array in graph.constants.items()}
    known |= zip(graph.inputs, map(torch.from_numpy, reference.inputs), strict=True)
    since: dict[str, float] = {}  # units allowed by the layers since the last one that the source has
    for node in graph.nodes:
        inputs = [known[v] for v in node.inputs]
        with torch.no_grad():
            own = layer_of(module, node.name)(*inputs)
        known[node.output] = own
        allowed = _rounding(node, inputs, own) + max(since.get(v, 0.0) for v in node.inputs)
        since[node.output] = allowed
        for expected in (reference.values.get(node.output), outputs.get(node.output)):
            if expected is None:
                continue
            yield node.name, expected, _array(own), allowed
            known[node.output] = torch.from_numpy(expected.reshape(own.shape))
            since[node.output] = 0.0


def _run(graph: ir.Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        outputs = GraphModule(graph, np.float64)([torch.from_numpy(x) for x in inputs])
    return [_array(y) for y in pytree.tree_leaves(outputs)]


def _rounding(node: ir.Node, inputs: list[torch.Tensor], output: torch.Tensor) -> float:
    """What rounding can change, in units of it; see above."""
    x = [_magnitude(_array(tensor)) for tensor in inputs]
    terms, reached = 1, max((*x, _magnitude(_array(output))))
    match node:
        case ir.Conv() | ir.Linear():
            terms = math.prod(node.weight.shape[1:])
            reached += _gain(node.weight) * x[0] + _largest(node.bias)
        case ir.Scale():
            reached += _largest(node.scale) * x[0] + _largest(node.bias)
        case ir.BatchNorm():
            reached += _largest(node.scale) * x[0] + _largest(node.shift)
        case ir.Pool():
            terms = math.prod(node.kernel)
            reached *= terms
        case ir.MatMul():
            terms = node.sizes[3]
            reached += terms * x[0] * x[1] * node.scale
        case ir.Normalise():
            terms = node.count
            reached += x[0] / math.sqrt(max(node.eps, 1e-6))
        case ir.Softmax():
            terms = inputs[0].shape[node.axis]
        case ir.Mul() | ir.PReLU():
            reached += x[0] * x[1]
    return (terms + OPERATIONS) * reached


def _gain(weight: np.ndarray) -> float:
    return float(np.abs(weight).reshape(len(weight), -1).sum(axis=1).max(initial=0.0))


def _largest(values: np.ndarray | None) -> float:
    return 0.0 if values is None else float(np.abs(values).max(initial=0.0))


# --- the comparison --------------------------------------------------------------------------------------------


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float64).numpy().copy()


def _magnitude(values: np.ndarray) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def compare_tensors(name: str, expected: np.ndarray, got: np.ndarray, allowed: float, source: str) -> float:
    """Largest difference relative to the largest number; HeepgenError when it is more than `allowed`. NaN equals NaN,
    and infinities are equal when their signs are."""
    if expected.size != got.size:
        raise _unlike(name, source, f"it has {got.size} elements instead of {expected.size}")
    expected, got = expected.reshape(-1), got.reshape(-1)
    with np.errstate(invalid="ignore"):
        difference = np.abs(got - expected)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    difference = np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference))
    worst = int(difference.argmax()) if difference.size else 0
    if difference.size and difference[worst] > allowed:
        if np.isfinite(expected[worst]) and not np.isfinite(got[worst]):
            raise HeepgenError(
                f"{name}: element {worst} is {got[worst]:.9g} here and {expected[worst]:.9g} in {source}: choices and "
                "masks are products here, so what they leave out must be finite; clamp what it is computed from"
            )
        raise _unlike(name, source, f"element {worst} is {got[worst]:.9g} instead of {expected[worst]:.9g}")
    return float(difference.max(initial=0.0)) / (_magnitude(expected) or 1.0)


def _unlike(name: str, source: str, what: str) -> HeepgenError:
    return HeepgenError(
        f"{name}: heepgen's import computes something else than {source}: {what}; please report it "
        "with the model, and use another operator meanwhile"
    )

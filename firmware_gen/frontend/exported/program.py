# SPDX-License-Identifier: Apache-2.0
"""An exported program as something that is fed: what it takes and returns, and what it keeps between calls.

A program keeps what it writes into its buffers. It may also take a state as an input and return it as an output, if
whoever calls it says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from firmware_gen.frontend.aten.registry import schema
from firmware_gen.names import safe_name
from hls.errors import HeepgenError

Pairs = Mapping[str, str]
"""Of states that a program takes and returns: name of the input, and name or number of the output."""


@dataclass(frozen=True)
class Interface:
    """What a graph's inputs and outputs are in the program that it was read from.

    inputs: of every input of the graph, its place among what the program's graph takes, weights included. outputs: of
    its first outputs, their numbers among what the program returns. buffers: its last outputs, the new values of
    buffers, by their places among what the program takes. names: what the program calls the states, in order.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    buffers: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[int, ...]:
        """Those of the inputs that are no state."""
        return self.inputs[: len(self.inputs) - len(self.names)]

    @property
    def states(self) -> tuple[int, ...]:
        """Those that are."""
        return self.inputs[len(self.arguments) :]


def user_inputs(program: ExportedProgram) -> list[tuple[int, torch.fx.Node]]:
    """Place and placeholder of everything that a caller gives; HeepgenError where there is none, or no tensor."""
    specs = program.graph_signature.input_specs
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    found = [(place, nodes[place]) for place, spec in enumerate(specs) if spec.kind == InputKind.USER_INPUT]
    if not found:
        raise HeepgenError("the model has no input: it must take a tensor")
    for _, node in found:
        if not isinstance(node.meta.get("val"), torch.Tensor):
            raise HeepgenError(f"input {safe_name(node.name)} is not a tensor: a model takes tensors only")
    return found


def interface_of(functional: ExportedProgram, original: ExportedProgram, pairs: Pairs) -> Interface:
    """The interface of a program without in-place operations; `original` has the names of its buffers.

    Raises HeepgenError for a pair that names nothing, and for state that cannot be kept.
    """
    specs = functional.graph_signature.input_specs
    names = [str(spec.target) for spec in original.graph_signature.input_specs]
    given = user_inputs(functional)
    outputs = [s for s in functional.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    fed = dict(_resolved(functional, {node.name: place for place, node in given}, pairs))
    if len(fed) == len(given):
        raise HeepgenError("every input of the model is a state: leave one for what changes from call to call")
    rest = [number for number in range(len(outputs)) if number not in fed.values()]
    if not rest:
        raise HeepgenError("every output of the model is a state: let it return something besides")
    targets = {spec.target: place for place, spec in enumerate(specs) if spec.kind == InputKind.BUFFER}
    buffers = [place for place in map(targets.get, _kept_buffers(functional, names)) if place is not None]
    return Interface(
        (*(place for place, _ in given if place not in fed), *fed, *buffers),
        (*rest, *fed.values()),
        tuple(buffers),
        (*(_placeholder(functional, place).name for place in fed), *(safe_name(names[place]) for place in buffers)),
    )


def _placeholder(program: ExportedProgram, place: int) -> torch.fx.Node:
    nodes: list[torch.fx.Node] = [node for node in program.graph.nodes if node.op == "placeholder"]
    return nodes[place]


def _resolved(program: ExportedProgram, inputs: Mapping[str, int], pairs: Pairs) -> Iterator[tuple[int, int]]:
    """(place of the input, number of the output) of every pair."""
    choices = _output_names(program)
    taken: set[int] = set()
    for name, wanted in pairs.items():
        if name not in inputs:
            raise HeepgenError(f"--state {name}={wanted}: no input is called {name}; there are {', '.join(inputs)}")
        number = next((i for i, names in enumerate(choices) if wanted in names), None)
        if number is None:
            known = ", ".join(names[-1] for names in choices)
            raise HeepgenError(f"--state {name}={wanted}: no output is called {wanted}; there are {known}")
        if number in taken:
            raise HeepgenError(f"--state {name}={wanted}: this output is another input's state already")
        taken.add(number)
        yield inputs[name], number


def _output_names(program: ExportedProgram) -> list[list[str]]:
    """What each output may be called: its number, its name in the program, its key where a dictionary is returned."""
    outputs = [s for s in program.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    names = [[str(number), str(getattr(spec.arg, "name", number))] for number, spec in enumerate(outputs)]
    spec = program.module_call_graph[0].signature.out_spec if program.module_call_graph else None
    if spec is not None and spec.type is dict and len(spec.context) == len(names):
        for own, key in zip(names, spec.context, strict=True):
            own.append(str(key))
    return names


def _kept_buffers(functional: ExportedProgram, names: Sequence[str]) -> list[str]:
    """Targets of the buffers whose new value an output, of this call or of a later one, depends on. Raises HeepgenError
    for one that is no float32, and for anything else that is written."""
    specs = functional.graph_signature.output_specs
    (results,) = next(n for n in functional.graph.nodes if n.op == "output").args
    places = {spec.target: place for place, spec in enumerate(functional.graph_signature.input_specs)}
    updates: dict[str, torch.fx.Node] = {}
    needed: set[torch.fx.Node] = set()
    for spec, node in zip(specs, results, strict=True):
        if spec.kind == OutputKind.USER_OUTPUT:
            needed |= _ancestors(node)
        elif spec.kind == OutputKind.BUFFER_MUTATION:
            updates[spec.target] = node
        else:
            what = "parameter" if spec.kind == OutputKind.PARAMETER_MUTATION else "input"
            name = spec.target if what == "input" else names[places[spec.target]]
            raise HeepgenError(
                f"the model writes to its {what} {safe_name(str(name))}: write to a buffer, which lasts from one "
                "inference to the next, or return the new value"
            )
    kept: list[str] = []
    while more := [t for t in updates if t not in kept and _placeholder(functional, places[t]) in needed]:
        for target in more:
            kept.append(target)
            needed |= _ancestors(updates[target])
    for target in kept:
        value = _placeholder(functional, places[target]).meta["val"]
        if value.dtype != torch.float32 or not value.ndim:
            kind = str(value.dtype).removeprefix("torch.")
            raise HeepgenError(
                f"the model keeps its buffer {safe_name(names[places[target]])}, {kind} of shape {tuple(value.shape)}, "
                "from one inference to the next: make it float32 with one dimension or more"
            )
    return sorted(kept, key=lambda target: places[target])


def _ancestors(node: torch.fx.Node | object) -> set[torch.fx.Node]:
    found: set[torch.fx.Node] = set()
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, torch.fx.Node) and one not in found:
            found.add(one)
            pending += one.all_input_nodes
    return found


def needless(functional: ExportedProgram, interface: Interface) -> Collection[torch.fx.Node]:
    """Nodes that only compute the new values of buffers that nothing depends on."""
    specs = functional.graph_signature.output_specs
    (results,) = next(n for n in functional.graph.nodes if n.op == "output").args
    targets = {functional.graph_signature.input_specs[place].target for place in interface.buffers}
    wanted: set[torch.fx.Node] = set()
    left: set[torch.fx.Node] = set()
    for spec, node in zip(specs, results, strict=True):
        kept = spec.kind == OutputKind.USER_OUTPUT or spec.target in targets
        (wanted if kept else left).update(_ancestors(node))
    return left - wanted


def constants_of(program: ExportedProgram) -> list[torch.Tensor | None]:
    """By place, the parameters, buffers and constants that a program reads; None for what a caller gives."""
    found: list[torch.Tensor | None] = []
    for spec in program.graph_signature.input_specs:
        source = program.state_dict if spec.target in program.state_dict else program.constants
        found.append(None if spec.kind == InputKind.USER_INPUT else source[spec.target].detach())
    return found


def run(
    interpreter: torch.fx.Interpreter, program: ExportedProgram, interface: Interface, inputs: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """What the graph's outputs are for its `inputs`, states included, by the program that `interpreter` runs. A number
    without dimensions is a vector of one."""
    fed = constants_of(program)
    for place, tensor in zip(interface.inputs, inputs, strict=True):
        fed[place] = tensor
    taken = [tensor.clone() for tensor in fed if tensor is not None]
    results = pytree.tree_leaves(interpreter.run(*taken))
    places = {spec.target: place for place, spec in enumerate(program.graph_signature.input_specs)}
    returned = []
    for spec, result in zip(program.graph_signature.output_specs, results, strict=True):
        if spec.kind == OutputKind.USER_OUTPUT:
            returned.append(torch.atleast_1d(result))  # type: ignore[no-untyped-call]
        elif spec.kind == OutputKind.BUFFER_MUTATION:  # a program with in-place operations has written what it took
            taken[places[spec.target]] = result
    return [*(returned[number] for number in interface.outputs), *(taken[place] for place in interface.buffers)]


class Stepper:
    """A program in PyTorch, in FP32, called again and again with what it keeps."""

    def __init__(self, program: ExportedProgram, interface: Interface, initial: Sequence[torch.Tensor]):
        self._program, self._interface = program, interface
        self._state = list(initial)

    def step(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What it returns, without states."""
        interpreter = torch.fx.Interpreter(torch.nn.Module(), graph=self._program.graph)
        with torch.no_grad():
            outputs = run(interpreter, self._program, self._interface, [*inputs, *self._state])
        results = len(outputs) - len(self._state)
        self._state = outputs[results:]
        return outputs[:results]


@contextmanager
def one_thread() -> Iterator[None]:
    """Convolutions of small maps, or in float64, take many times as long on several threads whose cores others use."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def aten_name(node: torch.fx.Node) -> str:
    """The operator that a node calls."""
    return schema(node).name.removeprefix("aten::")


def op_name(node: torch.fx.Node) -> str:
    """What messages call it."""
    if isinstance(node.target, torch._ops.OpOverload):
        return aten_name(node).strip("_")
    return getattr(node.target, "__name__", str(node.target))


def module_stack(node: torch.fx.Node) -> list[tuple[str, str]]:
    """(module path, class or its Python module) from the root to the module that called the operator."""
    stack = (node.meta.get("nn_module_stack") or {}).values()
    return [
        (safe_name(path) if path else "", cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}")
        for path, cls in stack
    ]


def module_path(node: torch.fx.Node) -> str:
    """Path of the module that called the operator."""
    stack = module_stack(node)
    return stack[-1][0] if stack else ""

# SPDX-License-Identifier: Apache-2.0
"""Programs ready to be imported: exported, with fixed sizes, without in-place operations."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputSpec, TensorArgument
from torch.utils import _pytree as pytree

from firmware_gen.frontend.aten import KNOWN, is_function
from firmware_gen.frontend.aten.registry import arguments_of, schema
from firmware_gen.frontend.exported.decompositions import WRITTEN
from firmware_gen.frontend.exported.dynamic import chosen_sizes, with_shape
from firmware_gen.frontend.exported.functional import functional_form
from firmware_gen.frontend.exported.hints import hint
from firmware_gen.frontend.exported.program import constants_of, module_path, op_name, user_inputs
from firmware_gen.frontend.exported.written_out import with_whole_layers
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.refusal import first_line, not_one_input, too_few_inputs
from hls.errors import HeepgenError

Model = torch.nn.Module | ExportedProgram
Example = torch.Tensor | np.ndarray | Sequence[int] | Sequence[torch.Tensor | np.ndarray]
"""An input, or its shape; or several inputs."""
Spec = TypeVar("Spec", InputSpec, OutputSpec)
LARGEST = 2**26
"""Elements of a constant that is computed."""
Decompositions = dict[torch._ops.OperatorBase, Callable[..., Any]]


def export(model: torch.nn.Module, example_input: Example | None) -> ExportedProgram:
    """torch.export `model` in evaluation mode (its training flags are put back), with fixed shapes."""
    if isinstance(model, GraphModule):
        model = model.frozen()
    if not isinstance(model, torch.nn.Module):
        raise HeepgenError(f"a model must be an nn.Module or an ExportedProgram, this is a {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise HeepgenError(
            "the model is TorchScript, which says nothing of its layers: give the nn.Module it was made of"
        )
    if example_input is None:
        raise HeepgenError("a module has no input shape of its own: give an example input or --input-shape")
    examples = as_tensors(example_input)
    parameters = inspect.signature(model.forward).parameters.values()
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if len(needed) > len(examples):
        raise too_few_inputs(needed, len(examples))
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        first = _try_forward(model, examples)
        program = torch.export.export(model, examples)
        if not _draws(program) and not _alike(first, _try_forward(model, examples)):
            raise HeepgenError(
                "the model computes something else when it is called again with the same input: keep what lasts from "
                "one inference to the next in buffers (register_buffer), and leave out what is drawn at random"
            )
        return program
    except HeepgenError:
        raise
    except Exception as error:
        raise HeepgenError(
            f"torch.export cannot trace the model: {first_line(error)}; it must be a fixed graph of "
            "tensor operations that takes tensors"
        ) from error
    finally:
        for module, mode in modes:
            module.training = mode


def is_several(example: object) -> bool:
    """Whether an `Example` is several inputs, rather than one or the shape of one."""
    return isinstance(example, tuple | list) and any(isinstance(part, torch.Tensor | np.ndarray) for part in example)


def as_tensors(example: Example) -> tuple[torch.Tensor, ...]:
    """The inputs; zeros where only a shape is given."""
    parts: Sequence[Any] = example if is_several(example) else [example]  # type: ignore[assignment]
    return tuple(_as_tensor(part) for part in parts)


def _as_tensor(example: torch.Tensor | np.ndarray | Sequence[int]) -> torch.Tensor:
    if isinstance(example, torch.Tensor):
        return example.detach()
    if isinstance(example, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(example))
    return torch.zeros(tuple(int(size) for size in example))


def _try_forward(model: torch.nn.Module, examples: Sequence[torch.Tensor]) -> Any:
    buffers = [(m, name, b, b.clone()) for m in model.modules() for name, b in m.named_buffers(recurse=False)]
    try:
        with torch.no_grad():
            return model(*(example.clone() for example in examples))
    except Exception as error:
        tensors = [*model.parameters(), *model.buffers()]
        others = {dtype_name(t) for t in tensors if t.is_floating_point()} - {"float32"}
        if others and all(example.dtype == torch.float32 for example in examples):
            raise HeepgenError(
                f"the model's weights are {', '.join(sorted(others))}: use float32, after model.float()"
            ) from error
        shapes = " and ".join(f"{tuple(example.shape)} {dtype_name(example)}" for example in examples)
        what = "an input of shape" if len(examples) == 1 else "inputs of shapes"
        raise HeepgenError(
            f"the model does not accept {what} {shapes}: {first_line(error)}; check the input shape"
        ) from error
    finally:  # what the model writes is its state, not that of a trial
        for module, name, buffer, value in buffers:
            if getattr(module, name) is not buffer:
                setattr(module, name, buffer)
            if all(step or size < 2 for step, size in zip(buffer.stride(), buffer.shape, strict=True)):
                with torch.no_grad():  # an expanded one can't be written, by the model neither
                    buffer.copy_(value)


def _alike(one: Any, other: Any) -> bool:
    """Whether two calls returned the same, up to what float32 rounds."""
    pairs = list(zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=False))
    tensors = [(a, b) for a, b in pairs if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)]
    return all(a.shape == b.shape and torch.allclose(a, b, 1e-3, 1e-5, equal_nan=True) for a, b in tensors)


def _draws(program: ExportedProgram) -> bool:
    """Whether an operator draws numbers, which is refused by its name."""
    tags = (tag for node in program.graph.nodes for tag in getattr(node.target, "tags", ()))
    return torch.Tag.nondeterministic_seeded in tags


def dtype_name(tensor: torch.Tensor) -> str:
    """As people write it."""
    return str(tensor.dtype).removeprefix("torch.")


def functionalised(program: ExportedProgram) -> ExportedProgram:
    """The program without in-place operations, operators that are not known written with others, as torch does, and
    einsum as products of matrices; everything else stays as high-level as the program has it."""
    if (common := functional_form(program)) is not None:
        return common
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 warns about itself here
            functional: ExportedProgram = _with_plain_targets(program).run_decompositions(_decompositions(program))
            return with_whole_layers(functional)
    except HeepgenError:
        raise
    except Exception as error:
        raise HeepgenError(
            f"torch cannot make the program functional: {first_line(error)}; export the model again "
            "with torch.export.export"
        ) from error


def check_modes(program: ExportedProgram) -> None:
    """Raises HeepgenError for what was exported to be trained, or to check numbers."""
    if any(spec.kind == InputKind.TOKEN for spec in program.graph_signature.input_specs):
        raise HeepgenError("the program checks numbers while it runs: export the model without run_decompositions()")
    for node in program.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        args = arguments_of(node)
        label = f"layer {module_path(node) or node.name} ({op_name(node)})"
        if "batch_norm" in op_name(node) and args.get("running_mean", "") is None:
            raise HeepgenError(f"{label} has track_running_stats=False: BatchNorm needs running statistics")
        of_input = schema(node).overload_name == "no_stats"  # an InstanceNorm's
        if not of_input and (args.get("training") is True or args.get("train") is True):
            raise HeepgenError(
                f"{label} was exported in training mode: call model.eval() before torch.export.export, and give "
                "F.dropout training=self.training"
            )


def with_known_constants(program: ExportedProgram) -> ExportedProgram:
    """The program with the results of operators that are not known, of constants alone, as constants: what torch writes
    them with would round weights otherwise, or check them while it runs."""
    graph, results = torch.fx.Graph(), _unknown_results(program)
    if not results:
        return program
    copied: dict[torch.fx.Node, torch.fx.Node] = {}
    specs: list[InputSpec] = []
    constants = dict(program.constants)
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    pairs = list(zip(placeholders, program.graph_signature.input_specs, strict=True))
    for node, spec in pairs:
        if spec.kind != InputKind.USER_INPUT:
            copied[node] = _copied(graph, node, copied)
            specs.append(spec)
    for number, (node, result) in enumerate(results.items()):
        target = f"known_{number}_{node.name}"
        constants[target] = result
        copied[node] = graph.placeholder(target)
        copied[node].meta = dict(node.meta)
        specs.append(InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(name=copied[node].name), target))
    for node, spec in pairs:
        if spec.kind == InputKind.USER_INPUT:
            copied[node] = _copied(graph, node, copied)
            specs.append(spec)
    for node in program.graph.nodes:
        if node not in copied:
            copied[node] = _copied(graph, node, copied)
    graph.eliminate_dead_code()
    return ExportedProgram(
        root=program.graph_module,
        graph=graph,
        graph_signature=replace(program.graph_signature, input_specs=specs),
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=constants,
        verifiers=program.verifiers,
    )


def _copied(graph: torch.fx.Graph, node: torch.fx.Node, copied: Mapping[torch.fx.Node, torch.fx.Node]) -> torch.fx.Node:
    """With its name, which a graph of its own would not give to one called `input`."""
    new = graph.node_copy(node, copied.__getitem__)
    new.name = node.name
    return new


def _unknown_results(program: ExportedProgram) -> dict[torch.fx.Node, torch.Tensor]:
    """What operators that are not known make of constants, where nothing is written to."""
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    written = any(getattr(getattr(node.target, "_schema", None), "is_mutable", False) for node in calls)
    if written or not any(map(_is_unknown, {node.target for node in calls})):
        return {}
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    known: dict[torch.fx.Node, Any] = {
        node: constant
        for node, constant in zip(placeholders, constants_of(program), strict=True)
        if constant is not None
    }
    results = {}
    for node in calls:
        operation = node.target
        if not isinstance(operation, torch._ops.OpOverload) or not is_function(operation):
            continue
        if not known.keys() >= set(node.all_input_nodes) or _size(node) > LARGEST:
            continue
        args, kwargs = torch.fx.map_arg((node.args, node.kwargs), known.__getitem__)
        try:
            with torch.no_grad():
                result = operation(*args, **kwargs)
        except Exception:  # the import says so
            continue
        if isinstance(result, torch.Tensor):
            known[node] = result
            if _is_unknown(operation):
                results[node] = result
    return results


def _size(node: torch.fx.Node) -> int:
    """Elements of what an operator makes; none of what is no tensor."""
    value = node.meta.get("val")
    return math.prod(value.shape) if isinstance(value, torch.Tensor) else 0


def _decompositions(program: ExportedProgram) -> Decompositions:
    """What einsum, writing into parts, and operators without a handler and without advice, are written with."""
    found: Decompositions = dict(WRITTEN)
    operators = {node.target for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)}
    return _others() | found if any(map(_is_unknown, operators - found.keys())) else found


@functools.cache
def _others() -> Decompositions:
    """It takes torch a second."""
    table: Mapping[torch._ops.OperatorBase, Callable[..., Any]] = torch.export.default_decompositions()
    return {op: how for op, how in table.items() if _is_unknown(op)}


def _is_unknown(op: torch._ops.OperatorBase) -> bool:
    if not isinstance(op, torch._ops.OpOverload) or op.namespace != "aten":
        return False
    name = op._schema.name.removeprefix("aten::")
    return not {name, name.rstrip("_")} & KNOWN and not hint(name)


def _targets(program: ExportedProgram) -> list[str]:
    """Names of the parameters, buffers and constants that the program reads."""
    return list(dict.fromkeys(s.target for s in program.graph_signature.input_specs if s.target is not None))


def _with_plain_targets(program: ExportedProgram) -> ExportedProgram:
    """The program with parameters, buffers and constants called t0, t1, ...: torch writes their names into Python."""
    plain = {target: f"t{index}" for index, target in enumerate(_targets(program))}
    signature = program.graph_signature

    def renamed(spec: Spec) -> Spec:
        return spec if spec.target is None else replace(spec, target=plain.get(spec.target, spec.target))

    tensors = dict(program.state_dict), dict(program.constants)
    state, constants = ({plain[k]: v for k, v in part.items() if k in plain} for part in tensors)
    return ExportedProgram(
        root=program.graph_module,
        graph=program.graph,
        graph_signature=replace(
            signature,
            input_specs=[renamed(s) for s in signature.input_specs],
            output_specs=[renamed(s) for s in signature.output_specs],
        ),
        state_dict=state,
        range_constraints=program.range_constraints,
        module_call_graph=[entry for entry in program.module_call_graph if entry.fqn == ""],
        example_inputs=program.example_inputs,
        constants=constants,
        verifiers=program.verifiers,
    )


def input_node(program: ExportedProgram) -> torch.fx.Node:
    """The placeholder of the program's input; raises HeepgenError naming them all when it is not one tensor."""
    nodes = [node for _, node in user_inputs(program)]
    if len(nodes) != 1:
        raise not_one_input(n.name for n in nodes)
    return nodes[0]


def with_fixed_sizes(
    program: ExportedProgram, what: str, input_shape: tuple[int, ...] | None = None, batch: int | None = None
) -> ExportedProgram:
    """The program, exported again for the sizes of `dynamic.chosen_sizes` where it leaves some open; `what` is its name
    in messages."""
    if len(inputs := user_inputs(program)) > 1:
        return program
    sizes = [size if isinstance(size, int) else None for size in inputs[0][1].meta["val"].shape]
    chosen = chosen_sizes(what, sizes, input_shape, batch)
    return with_shape(program, chosen) if None in sizes else program


def check_input_shapes(program: ExportedProgram, shapes: Sequence[tuple[int, ...]]) -> None:
    """HeepgenError where `shapes` are not those that the program was exported for."""
    exported = [tuple(node.meta["val"].shape) for _, node in user_inputs(program)]
    if len(exported) != len(shapes):
        raise too_few_inputs([node.name for _, node in user_inputs(program)], len(shapes))
    if exported != list(shapes):
        given, known = (str(s[0] if len(s) == 1 else s) for s in (list(shapes), exported))
        raise HeepgenError(
            f"the input has shape {given}, but the model was exported for {known}: "
            "use that shape, or export the model again"
        )

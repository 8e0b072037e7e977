# SPDX-License-Identifier: Apache-2.0
"""What runs where, and why: one row per node of a lowered graph. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from firmware_gen import ir
from firmware_gen.operations.tensors import copy_outputs, shares_storage
from hls.errors import HeepgenError

ARRAY, CPU, MEMORY, MERGED = ir.Place


@dataclass(frozen=True)
class Placement:
    """`where` is "array" (the accelerator), "CPU", "memory" (only names data that already lie right), or "merged"
    (another layer does it, or nothing has to); `why` is a clause; `shape` is that of the output, `macs` its
    multiply-accumulates."""

    name: str
    op: str
    shape: ir.Shape
    where: str
    why: str
    macs: int


def explain(graph: ir.Graph, imported: ir.Graph | None = None) -> list[Placement]:
    """Where every node of a graph after `passes.run_passes` runs, in execution order.

    With the graph `imported` that the passes began with also what they merged, behind the layer that does it.
    """
    graph = copy_outputs(graph)
    merged = _merged(graph, imported) if imported else {}
    result = []
    for node in graph.nodes:
        where, why = place_of(node, graph)
        result.append(
            Placement(node.name, node.op, graph.out_shape(node), where, why + _returned(graph, node), graph.macs(node))
        )
        result += merged.pop(node.name, [])
    return result + [placement for rest in merged.values() for placement in rest]


def _merged(graph: ir.Graph, imported: ir.Graph) -> dict[str, list[Placement]]:
    """Rows of the imported nodes that are no nodes any more, by the name of the one that does their work."""
    known = {node.name for node in graph.nodes}
    result: dict[str, list[Placement]] = {}
    for node in imported.nodes:
        if node.name not in known:
            host = _host(graph, imported, node)
            result.setdefault(host.name if host else "", []).append(
                Placement(
                    node.name, node.op, imported.out_shape(node), MERGED, _why_merged(node, host), imported.macs(node)
                )
            )
    return result


def _host(graph: ir.Graph, imported: ir.Graph, node: ir.Node) -> ir.Node | None:
    """The node whose output is that of `node` or of the nearest one behind it: merging keeps the last value's name.

    Arithmetic is not merged into a node that only moves data, but across it.
    """
    able = ir.Activated if isinstance(node, ir.BatchNorm | ir.Activate | ir.Add) else ir.Node
    pending = [node.output]
    for value in pending:
        if isinstance(producer := graph.producer(value), able):
            return producer
        pending += [reader.output for reader in imported.nodes if value in reader.inputs]
    return None


def _why_merged(node: ir.Node, host: ir.Node | None) -> str:
    match node:
        case ir.Identity():
            return "nothing to do in inference"
        case _ if host is None:
            return "no output needs it"
        case ir.BatchNorm() if isinstance(host, ir.Weighted):
            return f"in the weights and the bias of {host.name}"
        case ir.BatchNorm():
            return f"in the scale and the bias of {host.name}"
        case ir.Activate():
            return f"{host.name} applies it on the way out"
        case ir.Add():
            return f"{host.name} adds it on the way out"
    return f"part of {host.name}"


def _returned(graph: ir.Graph, node: ir.Node) -> str:
    """Which of several outputs a node computes."""
    numbers = [str(i) for i, value in enumerate(graph.outputs) if value == node.output]
    if len(graph.outputs) == 1 or not numbers:
        return ""
    return f"; output{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)} of the model"


@singledispatch
def place_of(node: ir.Node, graph: ir.Graph) -> tuple[str, str]:
    """Where a kind of node runs, and why."""
    raise HeepgenError(f"layer {node.name}: {node.op} cannot be explained; targets/descriptor/explain.py lacks it")


@place_of.register
def _(node: ir.OnCpu, graph: ir.Graph) -> tuple[str, str]:
    return CPU, node.why


@place_of.register
def _(node: ir.Fused, graph: ir.Graph) -> tuple[str, str]:
    return ARRAY, "; ".join([work_of(node), *_epilogue(graph, node)])


@place_of.register
def _(node: ir.Add, graph: ir.Graph) -> tuple[str, str]:
    return ARRAY, f"own pass: {_why_not_fused(graph, node)}" + _with(node.act)


@place_of.register
def _(node: ir.Activate, graph: ir.Graph) -> tuple[str, str]:
    if node.act == ir.IDENTITY:
        return ARRAY, "copy: outputs are in PyTorch's order"
    return ARRAY, f"own pass: {_why_alone(graph, node)}"


@place_of.register
def _(node: ir.Pad, graph: ir.Graph) -> tuple[str, str]:
    return ARRAY, f"copy: the reader cannot pad with {node.value:g} by itself"


@place_of.register
def _(node: ir.Slice, graph: ir.Graph) -> tuple[str, str]:
    return ARRAY, "copy: part of a map"


@place_of.register
def _(node: ir.Upsample, graph: ir.Graph) -> tuple[str, str]:
    return ARRAY, f"copy: every pixel is stored {node.factor[0] * node.factor[1]} times"


@place_of.register
def _(node: ir.Shuffle, graph: ir.Graph) -> tuple[str, str]:
    return ARRAY, "copy: every group to channels that lie apart"


@place_of.register
def _(node: ir.PixelShuffle, graph: ir.Graph) -> tuple[str, str]:
    return ARRAY, "copy: every phase of the output from its own channels"


@place_of.register
def _(node: ir.Concat, graph: ir.Graph) -> tuple[str, str]:
    return MEMORY, "the layers that are joined store side by side"


@place_of.register
def _(node: ir.Reshape, graph: ir.Graph) -> tuple[str, str]:
    if not shares_storage(graph, node):
        return ARRAY, "copy: what it returns is the input"
    if node.in_map:
        return MEMORY, "free: its reader's weights are reordered to the layout in memory"
    return MEMORY, "free: the elements stay in order"


@place_of.register
def _(node: ir.Permute, graph: ir.Graph) -> tuple[str, str]:
    if not shares_storage(graph, node):
        return ARRAY, "copy: what it reads must lie channels first for another reader"
    return MEMORY, "free: the accelerator keeps channels last"


@singledispatch
def work_of(node: ir.Fused) -> str:
    """What a layer does on the array."""
    raise HeepgenError(f"layer {node.name}: {node.op} cannot be explained; targets/descriptor/explain.py lacks it")


@work_of.register
def _(node: ir.Conv) -> str:
    if node.is_transposed:
        return "one convolution per phase of the output, by the taps that meet no inserted zero"
    if node.is_depthwise:
        return "diagonal mode: one channel per column"
    if node.groups > 1:
        return f"{node.groups} groups of channels, one after the other"
    return "windows are read from the activation buffer, without im2col"


@work_of.register
def _(node: ir.Linear) -> str:
    return "matrix product"


@work_of.register
def _(node: ir.Scale) -> str:
    return "diagonal mode with weights 1: no Conv or Linear beside it can take its scale and bias"


@work_of.register
def _(node: ir.Pool) -> str:
    if node.kind == "max":
        return "diagonal mode, accumulators keep the maximum"
    return "diagonal mode with weights 1, divisor as scale"


def _epilogue(graph: ir.Graph, node: ir.Fused) -> list[str]:
    notes = []
    if node.residual != "none":
        source = graph.producer(node.inputs[1])
        order = "before" if node.residual == "before_act" else "after"
        when = "" if node.act == ir.IDENTITY else f" {order} {node.act}"
        notes.append(f"adds {source.name if source else 'the input'}{when}")
    if node.act != ir.IDENTITY:
        notes.append(f"{node.act} on the way out")
    return notes


def _with(act: ir.Activation) -> str:
    return "" if act == ir.IDENTITY else f"; {act} on the way out"


def _why_not_fused(graph: ir.Graph, node: ir.Add) -> str:
    if node.inputs[0] == node.inputs[1]:
        return "both operands are the same"
    producers = [graph.producer(v) for v in node.inputs]
    if not any(isinstance(p, ir.Fused) for p in producers):
        return "no layer with an epilogue computes an operand"
    if not any(isinstance(p, ir.Fused) and graph.read_once_by(p.output) is node for p in producers):
        return "its operands have other readers"
    if any(isinstance(p, ir.Fused) and p.residual != "none" for p in producers):
        return "the layer that computes an operand adds another tensor already"
    return "an activation comes before and after the addition"


def _why_alone(graph: ir.Graph, node: ir.Activate) -> str:
    producer = graph.producer(node.inputs[0])
    if producer is None:
        return "it reads the input"
    if graph.read_once_by(producer.output) is not node:
        return f"the output of {producer.name} is also used without it"
    return f"{producer.name} ({producer.op}) cannot take it"

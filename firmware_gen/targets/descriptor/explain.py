# SPDX-License-Identifier: Apache-2.0
"""What runs where on this architecture, and why. Needs no torch."""

from __future__ import annotations

from functools import singledispatch

from firmware_gen import ir
from firmware_gen.operations import placement
from firmware_gen.operations.placement import ARRAY, CPU, MEMORY, Placement
from firmware_gen.operations.tensors import shares_storage
from firmware_gen.passes.hardware.products import exclude_each_other
from hls.errors import HeepgenError

VERBS = {"add": "adds", "multiply": "times", "negative": "where negative, times"}
"""What a layer does with its second operand, by `ir.Fused.combine`."""


def explain(graph: ir.Graph, imported: ir.Graph | None = None) -> list[Placement]:
    """`placement.explain` for this architecture."""
    return placement.explain(graph, imported, place_of)


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
def _(node: ir.Combined, graph: ir.Graph) -> tuple[str, str]:
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
def _(node: ir.PixelUnshuffle, graph: ir.Graph) -> tuple[str, str]:
    return ARRAY, "copy: every phase of the input to channels of its own"


@place_of.register
def _(node: ir.PlaneProduct, graph: ir.Graph) -> tuple[str, str]:
    return ARRAY, "matrix product by two INT8 planes of its second operand, 16 bits a number"


@place_of.register
def _(node: ir.Concat, graph: ir.Graph) -> tuple[str, str]:
    return MEMORY, "the layers that are joined store side by side"


@place_of.register
def _(node: ir.Advance, graph: ir.Graph) -> tuple[str, str]:
    return ARRAY, "copy: frames of the calls before move up, unless the scratchpad rotates"


@place_of.register
def _(node: ir.Append, graph: ir.Graph) -> tuple[str, str]:
    if isinstance(graph.producer(node.inputs[1]), ir.Activated):
        return MEMORY, "the layer before stores behind the frames of the calls before"
    return ARRAY, "copy: the newest frames behind those of the calls before"


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


@place_of.register
def _(node: ir.AsStrided, graph: ir.Graph) -> tuple[str, str]:
    if not shares_storage(graph, node):
        return ARRAY, "copy: the elements lie in another order"
    return MEMORY, "free: its elements lie side by side in its input"


@singledispatch
def work_of(node: ir.Fused) -> str:
    """What a layer does on the array."""
    raise HeepgenError(f"layer {node.name}: {node.op} cannot be explained; targets/descriptor/explain.py lacks it")


@work_of.register
def _(node: ir.Conv) -> str:
    if node.is_transposed:
        return "one convolution per phase of the output, by the taps that meet no inserted zero"
    if node.is_depthwise:
        return "neighbouring outputs of a channel, or one channel per column"
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
def _(node: ir.Expand) -> str:
    return "copy: elements are read as often as they are repeated"


@work_of.register
def _(node: ir.Interpolate) -> str:
    return "diagonal mode with fixed weights, one pass per phase and border of the output"


@work_of.register
def _(node: ir.Pool) -> str:
    if node.kind == "max":
        return "diagonal mode, accumulators keep the maximum"
    return "diagonal mode with weights 1, divisor as scale"


def _epilogue(graph: ir.Graph, node: ir.Fused) -> list[str]:
    notes = []
    if node.residual != "none":
        source, constant = graph.producer(node.inputs[1]), node.inputs[1] in graph.constants
        order = "before" if node.residual == "before_act" else "after"
        when = "" if node.act == ir.IDENTITY else f" {order} {node.act}"
        notes.append(
            f"{VERBS[node.combine]} {source.name if source else 'a constant' if constant else 'the input'}{when}"
        )
    if node.act != ir.IDENTITY:
        notes.append(f"{node.act} on the way out")
    return notes


def _with(act: ir.Activation) -> str:
    return "" if act == ir.IDENTITY else f"; {act} on the way out"


def _why_not_fused(graph: ir.Graph, node: ir.Combined) -> str:
    if isinstance(node, ir.Maximum):
        return "accumulators begin with one operand, the other streams"
    if node.inputs[0] == node.inputs[1]:
        return "both operands are the same"
    producers = [graph.producer(v) for v in node.inputs if graph.shape(v) == graph.out_shape(node)]
    if not any(isinstance(p, ir.Fused) for p in producers):
        return "no layer with an epilogue computes an operand"
    if not any(isinstance(p, ir.Fused) and graph.read_once_by(p.output) is node for p in producers):
        return "its operands have other readers"
    if any(isinstance(p, ir.Fused) and p.residual != "none" for p in producers):
        return "the layer that computes an operand combines it with another tensor already"
    if any(isinstance(p, ir.Fused) and exclude_each_other(node.combine, p.act) for p in producers):
        return "a slope comes before the product, and there is one multiplier for both"
    return f"an activation comes before and after the {'addition' if node.combine == 'add' else 'product'}"


def _why_alone(graph: ir.Graph, node: ir.Activate) -> str:
    producer = graph.producer(node.inputs[0])
    if producer is None:
        return "it reads the input"
    if graph.read_once_by(producer.output) is not node:
        return f"the output of {producer.name} is also used without it"
    if exclude_each_other(producer.combines, node.act):
        return f"{producer.name} computes a product, and there is one multiplier for that and a slope"
    return f"{producer.name} ({producer.op}) cannot take it"

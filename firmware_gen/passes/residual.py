# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from firmware_gen.ir import IDENTITY, AnyGraph, Combined, Fused, Graph, Linear, Maximum, Node, Reshape, Value
from firmware_gen.operations.tensors import is_read_in_order
from firmware_gen.passes.edits.draft import Draft, edited
from firmware_gen.passes.edits.rewrite import free_name, in_pytorch_order
from firmware_gen.passes.hardware.products import exclude_each_other


def fuse_residuals(graph: Graph) -> Graph:
    """Fuse sums and products into one of the two nodes that produce their operands and that nothing else reads: the one
    that computes more, which hides reading the other operand, or else the later one.

    An activation of the result wants the operation before it, one of the operand after it; with both, the node remains.
    What is smaller than the result cannot take it, nor can the second operand's producer where the order counts, nor, a
    product, one that ends in a slope.
    """
    return edited(graph, _fuse_residual)


def _fuse_residual(graph: Draft, node: Node) -> bool:
    if not isinstance(node, Combined) or isinstance(node, Maximum):
        return False
    for producer in _producers(graph, node):
        if order := _order(graph, producer, node):
            act = node.act if order == "before_act" else producer.act
            first, second = node.inputs
            other = second if producer.output == first else first
            fields = {"inputs": (*producer.inputs, other), "residual": order, "combine": node.combine, "act": act}
            graph.absorb(producer, node, **fields)
            return True
    return False


def combine_rows(graph: Graph) -> Graph:
    """Do a sum or product on the rows that a Linear computes, where its other operand lies in PyTorch's order: before
    the Reshape that separates them, so that the Linear can take it."""
    return edited(graph, _combine_rows)


def _combine_rows(graph: Draft, node: Node) -> bool:
    if not isinstance(node, Combined) or isinstance(node, Maximum) or not node.commutes:
        return False
    for place, value in enumerate(node.inputs):
        reshape, other = graph.producer(value), node.inputs[1 - place]
        if not isinstance(reshape, Reshape) or not _are_rows(graph, reshape, node, other):
            continue
        if is_read_in_order(graph, other) or in_pytorch_order(graph, other):
            _on_rows(graph, node, reshape, other)
            return True
    return False


def _are_rows(graph: AnyGraph, reshape: Reshape, node: Combined, other: str) -> bool:
    source = graph.producer(reshape.inputs[0])
    alone = graph.read_once_by(reshape.output) is node and graph.read_once_by(reshape.inputs[0]) is reshape
    alike = graph.shape(other) == graph.out_shape(node) == graph.out_shape(reshape)
    able = isinstance(source, Linear) and source.residual == "none" and other not in graph.constants
    is_square = other == reshape.output
    return alone and alike and able and not is_square


def _on_rows(graph: Draft, node: Combined, reshape: Reshape, other: str) -> None:
    rows, shape = reshape.inputs[0], graph.in_shape(reshape)
    beside, result = f"{node.output}.rows", f"{node.output}.combined"
    chain = [
        Reshape(name=free_name(graph, f"{node.name}.rows"), inputs=(other,), output=beside),
        replace(node, inputs=(rows, beside), output=result),
        Reshape(name=reshape.name, inputs=(result,), output=node.output),
    ]
    graph.edit({node: chain, reshape: ()}, values=[Value(beside, shape), Value(result, shape)])


def _producers(graph: AnyGraph, node: Combined) -> list[Fused]:
    """Those of the operands: what computes most first, then what is last."""
    operands = node.inputs if node.commutes else node.inputs[:1]
    whole = {v for v in operands if graph.shape(v) == graph.out_shape(node)}
    fused = [n for n in map(graph.producer, whole) if isinstance(n, Fused)]
    return sorted(fused, key=lambda n: (graph.macs(n), graph.place(n)), reverse=True)


def _order(graph: AnyGraph, producer: Fused, node: Combined) -> str | None:
    """The residual order that makes `producer` compute the result; None when it cannot."""
    if producer.residual != "none" or node.inputs[0] == node.inputs[1]:
        return None
    if graph.read_once_by(producer.output) is not node:
        return None
    if producer.act == IDENTITY:
        return "before_act"
    if exclude_each_other(node.combine, producer.act):
        return None
    return "after_act" if node.act == IDENTITY else None

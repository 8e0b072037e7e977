# SPDX-License-Identifier: Apache-2.0
from firmware_gen.ir import IDENTITY, Combined, Fused, Graph, Maximum
from firmware_gen.passes.rewrite import absorb, repeated


@repeated
def fuse_residuals(graph: Graph) -> Graph:
    """Fuse sums and products into one of the two nodes that produce their operands and that nothing else reads: the one
    that computes more, which hides reading the other operand, or else the later one.

    An activation of the result wants the operation before it, one of the operand after it; with both, the node remains.
    What is smaller than the result cannot take it, nor can the second operand's producer where the order counts.
    """
    for node in graph.nodes:
        if not isinstance(node, Combined) or isinstance(node, Maximum):
            continue
        for producer in _producers(graph, node):
            order = _order(graph, producer, node)
            if order:
                act = node.act if order == "before_act" else producer.act
                first, second = node.inputs
                other = second if producer.output == first else first
                fields = {"inputs": (*producer.inputs, other), "residual": order, "combine": node.combine, "act": act}
                return absorb(graph, producer, node, **fields)
    return graph


def _producers(graph: Graph, node: Combined) -> list[Fused]:
    """Those of the operands: what computes most first, then what is last."""
    operands = node.inputs if node.commutes else node.inputs[:1]
    whole = [v for v in operands if graph.shape(v) == graph.out_shape(node)]
    fused = [n for n in reversed(graph.nodes) if isinstance(n, Fused) and n.output in whole]
    return sorted(fused, key=graph.macs, reverse=True)


def _order(graph: Graph, producer: Fused, node: Combined) -> str | None:
    """The residual order that makes `producer` compute the result; None when it cannot."""
    if producer.residual != "none" or node.inputs[0] == node.inputs[1]:
        return None
    if graph.read_once_by(producer.output) is not node:
        return None
    if producer.act == IDENTITY:
        return "before_act"
    return "after_act" if node.act == IDENTITY else None

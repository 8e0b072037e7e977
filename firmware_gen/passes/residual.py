# SPDX-License-Identifier: Apache-2.0
from firmware_gen.ir import IDENTITY, Add, Fused, Graph
from firmware_gen.passes.rewrite import absorb


def fuse_residuals(graph: Graph) -> Graph:
    """Fuse additions into one of the two nodes that produce their operands and that nothing else reads: the one that
    computes more, which hides reading the other operand, or else the later one.

    An activation of the sum wants the addition before it, one of the operand after it; with both, Add remains. What is
    smaller than the sum cannot take it.
    """
    for node in graph.nodes:
        if not isinstance(node, Add):
            continue
        for producer in _producers(graph, node):
            order = _order(graph, producer, node)
            if order:
                act = node.act if order == "before_act" else producer.act
                first, second = node.inputs
                other = second if producer.output == first else first
                inputs = (*producer.inputs, other)
                return fuse_residuals(absorb(graph, producer, node, inputs=inputs, residual=order, act=act))
    return graph


def _producers(graph: Graph, add: Add) -> list[Fused]:
    """Those of the operands: what computes most first, then what is last."""
    whole = [v for v in add.inputs if graph.shape(v) == graph.out_shape(add)]
    fused = [n for n in reversed(graph.nodes) if isinstance(n, Fused) and n.output in whole]
    return sorted(fused, key=graph.macs, reverse=True)


def _order(graph: Graph, producer: Fused, add: Add) -> str | None:
    """The residual order that makes `producer` compute the sum; None when it cannot."""
    if producer.residual != "none" or add.inputs[0] == add.inputs[1]:
        return None
    if graph.read_once_by(producer.output) is not add:
        return None
    if producer.act == IDENTITY:
        return "before_act"
    return "after_act" if add.act == IDENTITY else None

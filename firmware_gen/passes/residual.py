from firmware_gen.ir import IDENTITY, Add, Fused, Graph, Node
from firmware_gen.passes.rewrite import absorb


def fuse_residuals(graph: Graph) -> Graph:
    """Fuse additions into the later of the two nodes that produce their operands and that nothing else reads.

    An activation of the sum wants the addition before it, one of the operand after it; with both, Add remains.
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


def _producers(graph: Graph, add: Add) -> list[Node]:
    """Those of the operands, last first."""
    return [n for n in reversed(graph.nodes) if n.output in add.inputs]


def _order(graph: Graph, producer: Node, add: Add) -> str | None:
    """The residual order that makes `producer` compute the sum; None when it cannot."""
    if not isinstance(producer, Fused) or producer.residual != "none" or add.inputs[0] == add.inputs[1]:
        return None
    if graph.read_once_by(producer.output) is not add:
        return None
    if producer.act == IDENTITY:
        return "before_act"
    return "after_act" if add.act == IDENTITY else None

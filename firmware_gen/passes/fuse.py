from dataclasses import replace

from firmware_gen.ir import IDENTITY, Activate, Activation, Conv, Graph, Linear, Node, Pool, Reshape
from firmware_gen.passes.rewrite import absorb, bypass


def fuse_activations(graph: Graph) -> Graph:
    """Fuse activations into the Conv, Linear or Pool that produces their input, also across reshapes.

    What remains as Activate has a producer that cannot take it, or whose output has other readers."""
    for node in graph.nodes:
        if not isinstance(node, Activate):
            continue
        if node.act == IDENTITY:
            return fuse_activations(bypass(graph, node))
        producer = graph.producer(node.inputs[0])
        if producer is None or graph.read_once_by(producer.output) is not node:
            continue
        if isinstance(producer, Reshape):
            return fuse_activations(_swap(graph, producer, node))
        if isinstance(producer, Conv | Linear | Pool | Activate):
            act = compose(producer.act, node.act)
            if act is not None:
                return fuse_activations(absorb(graph, producer, node, act=act))
    return graph


def compose(first: Activation, then: Activation) -> Activation | None:
    """One activation equal to `first` followed by `then`, None when there is none.

    A clamp after a clamp is a clamp: its bounds are those of the first, clamped by the second."""
    if then.slope != 1:
        return then if first == IDENTITY else None

    def clamp(x: float) -> float:
        return min(max(x, then.low), then.high)

    return replace(first, low=clamp(first.low), high=clamp(first.high))


def _swap(graph: Graph, reshape: Reshape, act: Node) -> Graph:
    """reshape -> act becomes act -> reshape: an activation works on elements in any order."""
    middle = replace(graph.values[reshape.output], shape=graph.in_shape(reshape))
    early = replace(act, inputs=reshape.inputs, output=reshape.output)
    late = replace(reshape, inputs=(reshape.output,), output=act.output)
    swap = {reshape: early, act: late}
    return graph.with_nodes([swap.get(n, n) for n in graph.nodes], values=[middle])

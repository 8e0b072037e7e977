from firmware_gen.ir import Graph, Identity, Reshape
from firmware_gen.passes.rewrite import bypass


def drop_dead(graph: Graph) -> Graph:
    """Remove nodes that no output depends on (an auxiliary head that inference ignores)."""
    needed, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            kept.append(node)
    return graph.with_nodes(reversed(kept))


def drop_identities(graph: Graph) -> Graph:
    """Remove Dropout, Identity and reshapes that keep the shape."""
    for node in graph.nodes:
        if isinstance(node, Identity) or (
            isinstance(node, Reshape) and graph.in_shape(node) == graph.out_shape(node)
        ):
            return drop_identities(bypass(graph, node))
    return graph

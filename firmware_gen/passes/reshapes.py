import math
from dataclasses import replace

from firmware_gen.ir import Activate, Graph, Linear, Reshape, Shape
from firmware_gen.passes.cleanup import drop_identities
from firmware_gen.refusal import refusal

Map = tuple[int, int, int]


def merge_reshapes(graph: Graph) -> Graph:
    """Merge chains of reshapes into one, and drop those that end in the shape they started from."""
    for node in graph.nodes:
        source = graph.producer(node.inputs[0])
        if isinstance(node, Reshape) and isinstance(source, Reshape):
            merged = replace(node, inputs=source.inputs)
            alone = graph.read_once_by(source.output) is node
            nodes = [merged if n is node else n for n in graph.nodes if not (alone and n is source)]
            return merge_reshapes(graph.with_nodes(nodes))
    return drop_identities(graph)


def find_maps(graph: Graph) -> Graph:
    """Set `in_map` of every Flatten that a channels-last layout reorders, and of the Linear that reads it.

    Raises HeepgenError for any other reshape that such a layout would reorder.
    """
    maps: dict[str, Map | None] = {}
    nodes = []
    for node in graph.nodes:
        if isinstance(node, Reshape):
            maps[node.output] = _flattened_map(graph, node)
            node = replace(node, in_map=maps[node.output])
        elif isinstance(node, Linear):
            node = replace(node, in_map=maps.get(node.inputs[0]))
        elif isinstance(node, Activate):
            maps[node.output] = maps.get(node.inputs[0])
        nodes.append(node)
    return graph.with_nodes(nodes)


def _flattened_map(graph: Graph, node: Reshape) -> Map | None:
    before, after = graph.in_shape(node), graph.out_shape(node)
    if _same_in_any_layout(before) and _same_in_any_layout(after):
        return None
    if len(before) == 4 and _flattens(before, after):
        return before[1:]
    raise refusal(
        node.name,
        node.op,
        f"from {before} to {after} reorders a channels-last feature map; only flattening (N, C, H, W) to "
        "(N, C*H*W) does that and is supported",
    )


def _same_in_any_layout(shape: Shape) -> bool:
    """Row-major and channels-last order are the same sequence of elements."""
    return len(shape) != 4 or shape[1] == 1 or shape[2] * shape[3] == 1


def _flattens(before: Shape, after: Shape) -> bool:
    features = math.prod(before[1:])
    return after == (before[0], features) or (before[0] == 1 and after == (features,))

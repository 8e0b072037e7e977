# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from firmware_gen.ir import (
    IDENTITY,
    Activate,
    Activated,
    Activation,
    AnyGraph,
    AsStrided,
    Concat,
    Graph,
    Node,
    Place,
    Value,
)
from firmware_gen.passes.edits.draft import Draft, edited
from firmware_gen.passes.edits.rewrite import is_reshaped_input
from firmware_gen.passes.hardware.products import exclude_each_other


def fuse_activations(graph: Graph) -> Graph:
    """Fuse activations into the nodes that produce their input, also across reshapes, Slice, Upsample and Concat.

    What remains as Activate has a producer that cannot take it, or whose output has other readers."""
    return edited(graph, _fuse_activation)


def _fuse_activation(graph: Draft, node: Node) -> bool:
    if not isinstance(node, Activate):
        return False
    if node.act == IDENTITY:
        graph.bypass(node)
        return True
    producer = graph.producer(node.inputs[0])
    if producer is None or graph.read_once_by(producer.output) is not node:
        return False
    if _passes_through(graph, producer):
        graph.hoist(producer, node)
    elif isinstance(producer, Concat) and _parts_can_take(graph, producer, node.act):
        _distribute(graph, producer, node)
    elif act := _fused(producer, node.act):
        graph.absorb(producer, node, act=act)
    else:
        return False
    return True


def _fused(producer: Node | None, act: Activation) -> Activation | None:
    """The activation of `producer` when it also does `act`; None when it cannot."""
    if not isinstance(producer, Activated) or not producer.ends_in_act:
        return None
    fused = producer.act.then(act)
    if fused and exclude_each_other(producer.combines, fused):
        return None
    return fused


def _passes_through(graph: AnyGraph, producer: Node) -> bool:
    """Reshapes of the graph's input stay next to it, where they are free; a part is less than the whole."""
    if isinstance(producer, AsStrided) and graph.values[producer.output].size < graph.values[producer.inputs[0]].size:
        return False
    if producer.runs_on is Place.MEMORY:
        return not is_reshaped_input(graph, producer.inputs[0])
    return producer.passes_functions


def _parts_can_take(graph: AnyGraph, concat: Concat, act: Activation) -> bool:
    return len(set(concat.inputs)) == len(concat.inputs) and all(
        graph.read_once_by(v) is concat and _fused(graph.producer(v), act) is not None for v in concat.inputs
    )


def _distribute(graph: Draft, concat: Concat, node: Activate) -> None:
    """concat -> act becomes one act per part -> concat."""
    parts = [
        replace(node, name=f"{node.name}.{i}", inputs=(v,), output=f"{node.output}.{i}")
        for i, v in enumerate(concat.inputs)
    ]
    late = replace(concat, inputs=tuple(p.output for p in parts), output=node.output)
    values = [Value(p.output, graph.shape(p.inputs[0])) for p in parts]
    graph.edit({concat: (*parts, late), node: ()}, values)

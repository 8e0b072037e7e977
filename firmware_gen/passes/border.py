# SPDX-License-Identifier: Apache-2.0
"""What a caller adds to a network: a Softmax at its end, and the order in which maps lie that it takes and returns."""

from dataclasses import replace

from firmware_gen.ir import IDENTITY, Activate, Graph, Place, Softmax, Value
from firmware_gen.operations.tensors import channels_last, lay_out, read_in_order
from firmware_gen.passes.edits.rewrite import free_name, in_pytorch_order
from firmware_gen.passes.movement.reshapes import find_maps
from firmware_gen.passes.movement.strides import merge_strides, move_elements
from hls.errors import HeepgenError


def append_softmax(graph: Graph) -> Graph:
    """Add a final Softmax over the last dimension of the output, (N, F) or (F,), unless there is one."""
    if len(graph.results) != 1:
        raise HeepgenError(
            f"the model has {len(graph.results)} outputs: put the Softmax into the model, where it belongs"
        )
    output = graph.results[0]
    match graph.producer(output):
        case Softmax(log=False):
            return graph
    shape = graph.shape(output)
    if len(shape) > 2:
        raise HeepgenError(f"a final Softmax needs an output of shape (N, features); the model's is {shape}")
    value = Value("softmax_out", shape)
    node = Softmax(name="softmax", inputs=(output,), output=value.name)
    return graph.with_nodes((*graph.nodes, node), outputs=(value.name, *graph.outputs[1:]), values=[value])


def with_channels_last(graph: Graph, inputs: bool, outputs: bool) -> Graph:
    """A lowered graph whose inputs that are maps, and outputs that are computed as maps, lie with their channels last.

    What needs an input in PyTorch's order reads a copy of it. Raises HeepgenError where no input is a map."""
    if not inputs and not outputs:
        return graph
    chosen = [v for v in graph.arguments if channels_last(graph.shape(v))] if inputs else []
    if inputs and not any(len(graph.shape(v)) == 4 for v in graph.arguments):
        shapes = " and ".join(str(list(graph.shape(v))) for v in graph.arguments)
        raise HeepgenError(
            f"--input-layout nhwc: {graph.name} takes {shapes}: there are no channels that could be last; leave it out."
        )
    graph = _with_copies(merge_strides(move_elements(replace(graph, channels_last=frozenset(chosen)))))
    if outputs:
        maps = [v for v in graph.results if _is_computed_map(graph, v)]
        lie = lay_out(marked := replace(graph, channels_last=graph.channels_last.union(maps)))
        last = frozenset(v for v in marked.channels_last if lie[v].channels_last)
        graph = replace(graph, channels_last=last)
    return find_maps(graph)


def _is_computed_map(graph: Graph, value: str) -> bool:
    """Whether a layer writes it, with its channels last where nothing speaks against it."""
    producer = graph.producer(value)
    written = producer is not None and producer.runs_on is not Place.MEMORY
    return written and channels_last(graph.shape(value)) is not None and not in_pytorch_order(graph, value)


def _with_copies(graph: Graph) -> Graph:
    """Inputs with their channels last that are read in PyTorch's order are copied."""
    needed = read_in_order(graph)
    copies = {v: f"{v}.in_order" for v in graph.arguments if v in graph.channels_last and v in needed}
    nodes = [replace(n, inputs=tuple(copies.get(v, v) for v in n.inputs)) for n in graph.nodes]
    first = [
        Activate(name=free_name(graph, copy), inputs=(value,), output=copy, act=IDENTITY)
        for value, copy in copies.items()
    ]
    values = [Value(copy, graph.shape(value)) for value, copy in copies.items()]
    return graph.with_nodes([*first, *nodes], values=values)

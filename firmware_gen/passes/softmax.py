# SPDX-License-Identifier: Apache-2.0
from firmware_gen.ir import Graph, Softmax, Value
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

from firmware_gen.ir import Graph, Softmax, Value
from firmware_gen.refusal import refusal
from hls.errors import HeepgenError


def check_softmax(graph: Graph) -> Graph:
    """Softmax runs on the CPU, once, at the end: refuse it anywhere else."""
    for node in graph.nodes:
        if isinstance(node, Softmax) and graph.consumers(node.output):
            reader = graph.consumers(node.output)[0]
            raise refusal(node.name, node.op, f"{reader.name} reads it; it is supported as the last layer")
    return graph


def append_softmax(graph: Graph) -> Graph:
    """Add a final Softmax over the last dimension of the output, (N, F) or (F,), unless there is one."""
    output = graph.outputs[0]
    if isinstance(graph.producer(output), Softmax):
        return graph
    shape = graph.shape(output)
    if len(shape) > 2:
        raise HeepgenError(f"a final Softmax needs an output of shape (N, features); the model's is {shape}")
    value = Value("softmax_out", shape)
    node = Softmax(name="softmax", inputs=(output,), output=value.name)
    return graph.with_nodes((*graph.nodes, node), outputs=(value.name,), values=[value])

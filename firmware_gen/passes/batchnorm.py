from firmware_gen.ir import BatchNorm, Conv, Graph, Linear
from firmware_gen.passes.rewrite import absorb
from firmware_gen.refusal import refusal


def fold_batchnorm(graph: Graph) -> Graph:
    """Fold y = x * scale + shift into the Conv or Linear that produces x, in float64.

    weight' = weight * scale, bias' = bias * scale + shift, per output channel.
    Raises HeepgenError for a BatchNorm in any other place.
    """
    for node in graph.nodes:
        if isinstance(node, BatchNorm):
            return fold_batchnorm(_fold(graph, node))
    return graph


def _fold(graph: Graph, norm: BatchNorm) -> Graph:
    source = norm.inputs[0]
    producer = graph.producer(source)
    if not isinstance(producer, Conv | Linear):
        after = f"{producer.name} ({producer.op})" if producer else "the model's input"
        raise refusal(
            norm.name, norm.op, f"it follows {after}; BatchNorm is supported directly after Conv2d or Linear"
        )
    if graph.read_once_by(source) is not norm:
        raise refusal(norm.name, norm.op, f"the output of {producer.name} is also read by another layer")
    per_channel = norm.scale.reshape(-1, *[1] * (producer.weight.ndim - 1))
    bias = norm.shift if producer.bias is None else producer.bias * norm.scale + norm.shift
    return absorb(graph, producer, norm, weight=producer.weight * per_channel, bias=bias)

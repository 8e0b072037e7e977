from dataclasses import replace

from firmware_gen.ir import Conv, Graph, Node, Pad, Pool


def merge_pads(graph: Graph) -> Graph:
    """Merge zero padding into the Conv or AvgPool that reads it, and a Pad into an equal-valued Pad.

    MaxPool pads with -inf, so a zero Pad in front of it stays. AvgPool takes it where the divisor stays
    right: explicit zeros always count, its own padding only with count_include_pad.
    """
    for pad in graph.nodes:
        reader = graph.read_once_by(pad.output) if isinstance(pad, Pad) else None
        if reader is not None and _mergeable(pad, reader):
            return merge_pads(_merge(graph, pad, reader))
    return graph


def _mergeable(pad: Pad, reader: Node) -> bool:
    if isinstance(reader, Pad):
        return reader.value == pad.value
    if pad.value != 0:
        return False
    if isinstance(reader, Conv):
        return True
    if isinstance(reader, Pool) and reader.kind == "avg" and not reader.ceil_mode:
        return not any(reader.pads) or reader.count_include_pad or reader.divisor_override is not None
    return False


def _merge(graph: Graph, pad: Pad, reader: Node) -> Graph:
    total = tuple(a + b for a, b in zip(pad.pads, reader.pads, strict=True))
    fields = {"count_include_pad": True} if isinstance(reader, Pool) else {}
    merged = replace(reader, inputs=pad.inputs, pads=total, **fields)
    return graph.with_nodes(merged if n is reader else n for n in graph.nodes if n is not pad)

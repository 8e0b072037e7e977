# SPDX-License-Identifier: Apache-2.0
"""What runs where, and why: one row per node of a lowered graph. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from firmware_gen import ir
from firmware_gen.operations.tensors import copy_outputs

ARRAY, CPU, MEMORY, MERGED = ir.Place

PlaceOf = Callable[[ir.Node, ir.Graph], tuple[str, str]]
"""Where a node of a graph runs, and why."""


@dataclass(frozen=True)
class Placement:
    """`where` is "array" (the accelerator), "CPU", "memory" (only names data that already lie right), or "merged"
    (another layer does it, or nothing has to); `why` is a clause; `shape` is that of the output, `macs` its
    multiply-accumulates."""

    name: str
    op: str
    shape: ir.Shape
    where: str
    why: str
    macs: int


def explain(graph: ir.Graph, imported: ir.Graph | None, place_of: PlaceOf) -> list[Placement]:
    """Where every node of a graph after `passes.run_passes` runs, in execution order; `place_of` says where and why.

    With the graph `imported` that the passes began with also what they merged, behind the layer that does it.
    """
    graph = copy_outputs(graph)
    merged = _merged(graph, imported) if imported else {}
    result = []
    for node in graph.nodes:
        where, why = place_of(node, graph)
        result.append(
            Placement(
                name=node.name,
                op=node.op,
                shape=graph.out_shape(node),
                where=where,
                why=why + _returned(graph, node),
                macs=graph.macs(node),
            )
        )
        result += merged.pop(node.name, [])
    return result + [placement for rest in merged.values() for placement in rest]


def _merged(graph: ir.Graph, imported: ir.Graph) -> dict[str, list[Placement]]:
    """Rows of the imported nodes that are no nodes any more, by the name of the one that does their work."""
    known = {node.name for node in graph.nodes}
    result: dict[str, list[Placement]] = {}
    for node in imported.nodes:
        if node.name not in known:
            host = _host(graph, imported, node)
            result.setdefault(host.name if host else "", []).append(
                Placement(
                    name=node.name,
                    op=node.op,
                    shape=imported.out_shape(node),
                    where=MERGED,
                    why=_why_merged(node, host),
                    macs=imported.macs(node),
                )
            )
    return result


def _host(graph: ir.Graph, imported: ir.Graph, node: ir.Node) -> ir.Node | None:
    """The node whose output is that of `node`, since merging into what is before keeps the last value's name, or of the
    nearest one behind it. Arithmetic is not merged into a node that only moves data, but across it."""
    if before := graph.producer(node.output):
        return _across(graph, before) if node.computes else before
    behind = [node.output]
    for value in behind:
        if (producer := graph.producer(value)) and (producer.hosts or not node.computes):
            return producer
        behind += [n.output for n in imported.nodes if value in n.inputs and n.output not in behind]
    return None


def _across(graph: ir.Graph, node: ir.Node) -> ir.Node | None:
    """The nearest node, this one or one before it, that others are merged into."""
    pending = [node]
    for found in pending:
        if found.hosts:
            return found
        pending += [n for value in found.inputs if (n := graph.producer(value)) and n not in pending]
    return None


def _why_merged(node: ir.Node, host: ir.Node | None) -> str:
    if isinstance(node, ir.Identity):
        return "nothing to do in inference"
    return node.why_merged(host) if host else "no output needs it"


def _returned(graph: ir.Graph, node: ir.Node) -> str:
    """Which of several outputs a node computes."""
    numbers = [str(i) for i, value in enumerate(graph.results) if value == node.output]
    if len(graph.results) == 1 or not numbers:
        return ""
    return f"; output{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)} of the model"

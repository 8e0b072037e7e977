# SPDX-License-Identifier: Apache-2.0
"""Which of two graphs of one network is compiled: as it is, or with rows as columns. Needs no torch."""

from collections.abc import Sequence
from typing import Any

from firmware_gen import ir
from firmware_gen.architectures.registry import architecture_of
from firmware_gen.architectures.targets import target_of
from firmware_gen.memory.planner import DoesNotFit
from firmware_gen.passes import turn_maps
from hls.config import System


def graphs_of(graph: ir.Graph, config: System) -> tuple[ir.Graph, ...]:
    """The graph, and that of `turn_maps` where there is one and the architecture computes it."""
    turned = turn_maps(graph) if architecture_of(config).tiles(config) else graph
    return (graph,) if turned is graph else (graph, turned)


def fastest_graph(graphs: Sequence[ir.Graph], config: System, **options: Any) -> tuple[ir.Graph, Any]:
    """That which takes fewest cycles, and its program; options and errors, of the first one, as of `Target.compile`."""
    target = target_of(architecture_of(config))

    def cycles(program: Any) -> int:
        return sum(layer.cycles for layer in target.predict(program).layers if layer)

    best = graphs[0], target.compile(graphs[0], config, **options)
    for graph in graphs[1:]:
        try:
            program = target.compile(graph, config, **options)
        except DoesNotFit:
            continue
        best = min(best, (graph, program), key=lambda own: cycles(own[1]))
    return best

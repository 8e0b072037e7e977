# SPDX-License-Identifier: Apache-2.0
"""A network on several batches at once."""

from dataclasses import replace

from firmware_gen.ir import Graph, Value


def batched(graph: Graph, times: int) -> Graph | None:
    """The same network with a batch so many times as large; None where something else than the batch is first."""
    batches = {graph.shape(value)[0] for value in graph.arguments}
    values = [v for v in graph.values.values() if v.name not in graph.constants]
    if graph.state or len(batches) > 1 or any(node.counts_batch or node.chosen_by_rows for node in graph.nodes):
        return None
    if any(len(v.shape) < 2 or v.shape[0] not in batches for v in values):
        return None
    larger = {v.name: Value(v.name, (times * v.shape[0], *v.shape[1:])) for v in values}
    return replace(graph, values={**graph.values, **larger})

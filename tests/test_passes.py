# SPDX-License-Identifier: Apache-2.0
"""Passes on hand-made graphs, before and after, and equal function: what they share, dead ends, joins."""

import inspect
import sys

import pytest

from firmware_gen.ir import IDENTITY, Activate, Concat, Conv, Graph, Identity, Reshape, Softmax, Value
from firmware_gen.passes import (
    append_softmax,
    drop_dead,
    drop_identities,
    fuse_activations,
    merge_concats,
    merge_reshapes,
)
from hls.errors import HeepgenError
from tests.graphs import ACT, MAP, assert_same_function, chain, conv, dag, kinds


def test_passes_make_more_changes_than_python_nests_calls():
    """A network of many steps has that many activations to fuse, and reshapes to merge."""
    activations = chain((1, 1), *[(Activate, (1, 1), {"act": IDENTITY})] * 150)
    reshapes = chain((1, 1), *[(Reshape, (1, 1, 1, 1), {}), (Reshape, (1, 1), {})] * 75)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert kinds(fuse_activations(activations)) == kinds(merge_reshapes(reshapes)) == []
    finally:
        sys.setrecursionlimit(limit)


def test_drop_dead_keeps_what_outputs_need():
    graph = chain(MAP, (Activate, MAP, ACT), (Identity, MAP, {}))
    graph = Graph("g", ("x",), ("v0",), graph.nodes, graph.values)
    after = drop_dead(graph)
    assert kinds(after) == ["Activate"] and set(after.values) == {"x", "v0"}


def test_drop_identities():
    graph = chain(MAP, (Identity, MAP, {}), (Conv, MAP, conv(2, 2)), (Reshape, MAP, {}), (Identity, MAP, {}))
    after = drop_identities(graph)
    assert kinds(after) == ["Conv"] and after.nodes[0].inputs == ("x",) and after.outputs == ("v1",)
    assert_same_function(graph, after)


def test_merge_concats():
    graph = dag(MAP, (Concat, "x x", (1, 4, 4, 4), {}), (Activate, "x", MAP, ACT),
                (Concat, "v1 v0 x", (1, 8, 4, 4), {}))  # fmt: skip
    after = merge_concats(graph)
    assert kinds(after) == ["Activate", "Concat"] and after.nodes[1].inputs == ("v1", "x", "x", "x")
    assert_same_function(graph, after)


def test_append_softmax():
    graph = append_softmax(chain((1, 4), (Activate, (1, 4), ACT)))
    assert kinds(graph) == ["Activate", "Softmax"] and graph.outputs == (graph.nodes[-1].output,)
    assert append_softmax(graph) is graph
    logarithm = chain((1, 4), (Softmax, (1, 4), {"log": True}))
    assert kinds(append_softmax(logarithm)) == ["Softmax", "Softmax"]  # of the logarithm it is what it is of the logits
    with pytest.raises(HeepgenError, match="shape"):
        append_softmax(chain(MAP, (Activate, MAP, ACT)))
    with pytest.raises(HeepgenError, match="2 outputs"):
        append_softmax(Graph("g", ("x",), (graph.outputs[0], "v0"), graph.nodes, graph.values))


def test_graph_refuses_inconsistency():
    node = Identity(name="a", inputs=("x",), output="y")
    values = {v: Value(v, (1,)) for v in "xyz"}
    for nodes, outputs in [((node, node), ("y",)), ((node,), ("z",)),
                           ((Identity(name="b", inputs=("y",), output="z"), node), ("y",))]:  # fmt: skip
        with pytest.raises(HeepgenError):
            Graph("g", ("x",), outputs, nodes, values)
    graph = Graph("g", ("x",), ("y",), (node,), values)
    with pytest.raises(HeepgenError, match="no layer is called 'fc'; the model has a"):
        graph.node("fc")

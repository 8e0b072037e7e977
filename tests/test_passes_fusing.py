# SPDX-License-Identifier: Apache-2.0
"""Passes that fuse activations and second operands, on hand-made graphs: before and after, and equal function."""

import math
from dataclasses import replace

import pytest

from firmware_gen.ir import (
    IDENTITY,
    RELU,
    RELU6,
    Activate,
    Activation,
    Add,
    AsStrided,
    Concat,
    Conv,
    Graph,
    Linear,
    Mul,
    Pool,
    PReLU,
    Reshape,
    Upsample,
)
from firmware_gen.passes import fuse_activations, fuse_residuals
from tests.graphs import ACT, MAP, RNG, SILU, WIDE, assert_same_function, chain, conv, dag, kinds, two_branches


def test_an_activation_of_a_part_stays_behind_it():
    """The whole has more elements, and other readers."""
    part = (AsStrided, (1, 2), {"strides": (0, 1), "offset": 2})
    graph = chain((1, 8), (Linear, (1, 8), {"weight": RNG.normal(size=(8, 8))}), part, (Activate, (1, 2), ACT))
    assert fuse_activations(graph) is graph


def test_fuse_activation_into_the_branches_of_a_concat():
    graph = two_branches((Activate, WIDE, ACT))
    after = fuse_activations(graph)
    assert kinds(after) == ["Conv", "Conv", "Concat"] and [n.act for n in after.nodes[:2]] == [RELU, RELU]
    assert_same_function(graph, after)
    other = dag(MAP, (Conv, "x", MAP, conv(2, 2)), (Concat, "x v0", (1, 4, 4, 4), {}),
                (Activate, "v1", (1, 4, 4, 4), ACT))  # fmt: skip
    assert kinds(fuse_activations(other)) == ["Conv", "Concat", "Activate"]


def test_fuse_activation_above_upsample():
    graph = chain(MAP, (Conv, MAP, conv(2, 2)), (Upsample, (1, 2, 4, 12), {"factor": (1, 3)}),
                  (Activate, (1, 2, 4, 12), {"act": RELU6}))  # fmt: skip
    after = fuse_activations(graph)
    assert kinds(after) == ["Conv", "Upsample"] and after.nodes[0].act == RELU6
    assert_same_function(graph, after)


def test_activation_stays_below_the_reshape_of_an_input():
    graph = chain((1, 8), (Reshape, (1, 2, 2, 2), {}), (Activate, (1, 2, 2, 2), ACT))
    assert fuse_activations(graph) is graph


LEAKY = {"act": Activation(slope=0.25)}


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("first, last, order", [
    ({}, {}, "before_act"), ({}, ACT, "before_act"), (LEAKY, {}, "after_act"), (ACT, ACT, None),
])  # fmt: skip
def test_fuse_residual(first, last, order, swap):
    same = conv(2, 2, 3, pads=(1,) * 4)
    graph = dag(MAP, (Conv, "x", MAP, same | first), (Add, "x v0" if swap else "v0 x", MAP, last))
    after = fuse_residuals(graph)
    assert kinds(after) == (["Conv"] if order else ["Conv", "Add"])
    if order:
        (node,) = after.nodes
        assert node.inputs == ("x", "x") and node.residual == order and node.residual_input == "x"
        assert node.name == "n0" and node.output == "v1"
        assert node.act == (first or last).get("act", IDENTITY)
    assert_same_function(graph, after)


@pytest.mark.parametrize("kind", [Mul, PReLU])
@pytest.mark.parametrize("act", [LEAKY, ACT])
def test_a_slope_stays_apart_from_a_product(kind, act):
    """There is one multiplier for both; ReLU needs none."""
    layer, product = (Conv, "x", MAP, conv(2, 2)), (kind, "v0 x", MAP, {})
    wide = (1, 4, *MAP[2:])
    before = dag(MAP, (*layer[:3], layer[3] | act), product)
    behind = dag(MAP, layer, product, (Activate, "v1", MAP, act))
    joined = dag(MAP, layer, product, layer, (Concat, "v1 v2", wide, {}), (Activate, "v3", wide, act))
    apart = [["Conv", kind.__name__], ["Conv", "Activate"], ["Conv", "Conv", "Concat", "Activate"]]
    for graph, kept in zip((before, behind, joined), apart, strict=True):
        after = fuse_residuals(fuse_activations(graph))
        assert kinds(after) == (kept if act is LEAKY else [k for k in kept if k in ("Conv", "Concat")])
        assert_same_function(graph, after)


def test_residual_goes_to_the_later_producer_and_moves_it():
    graph = dag(MAP, (Pool, "x", MAP, {"kind": "max", "kernel": (1, 1), "stride": (1, 1)}),
                (Activate, "x", MAP, LEAKY), (Add, "v0 v1", MAP, {}))  # fmt: skip
    after = fuse_residuals(graph)
    assert kinds(after) == ["Activate", "Pool"] and after.nodes[1].inputs == ("x", "v1")
    assert_same_function(graph, after)
    graph = dag(MAP, (Conv, "x", MAP, conv(2, 2)), (Conv, "x", MAP, conv(2, 2)), (Add, "v0 v1", MAP, {}))
    after = fuse_residuals(graph)
    assert [n.name for n in after.nodes] == ["n0", "n1"] and after.nodes[1].residual_input == "v0"
    assert_same_function(graph, after)


def test_residual_goes_to_the_producer_that_computes_more():
    large, small = conv(2, 2, 3, pads=(1,) * 4), conv(2, 2)
    for convs in ((large, small), (small, large)):
        graph = dag(MAP, *((Conv, "x", MAP, c) for c in convs), (Add, "v0 v1", MAP, {}))
        after = fuse_residuals(graph)
        assert [n.kernel for n in after.nodes] == [(1, 1), (3, 3)]
        assert after.nodes[1].inputs == ("x", after.nodes[0].output)
        assert_same_function(graph, after)


def test_residual_stays_where_a_producer_has_other_readers_or_a_residual():
    shared = dag(MAP, (Conv, "x", MAP, conv(2, 2)), (Add, "v0 x", MAP, {}), outputs=("v1", "v0"))
    doubled = dag(MAP, (Conv, "x", MAP, conv(2, 2)), (Add, "v0 v0", MAP, {}))
    for graph in (shared, doubled):
        assert fuse_residuals(graph) is graph
    chained = dag(MAP, (Conv, "x", MAP, conv(2, 2)), (Add, "v0 x", MAP, {}), (Add, "v1 x", MAP, {}))
    after = fuse_residuals(chained)
    assert kinds(after) == ["Conv", "Add"]
    assert_same_function(chained, after)


def test_nothing_is_fused_after_a_residual_that_follows_the_activation():
    graph = dag(MAP, (Conv, "x x", MAP, conv(2, 2) | {"residual": "after_act"}), (Activate, "v0", MAP, ACT))
    assert fuse_activations(graph) is graph


def test_fuse_into_conv_pool_and_across_flatten():
    pooled = (1, 3, 2, 2)
    pool = {"kind": "max", "kernel": (2, 2), "stride": (2, 2)}
    graph = chain(
        MAP,
        (Conv, (1, 3, 4, 4), conv(3, 2)),
        (Activate, (1, 3, 4, 4), ACT),
        (Pool, pooled, pool),
        (Reshape, (1, 12), {}),
        (Activate, (1, 12), {"act": Activation(low=-0.5, high=0.5)}),
    )
    after = fuse_activations(graph)
    assert kinds(after) == ["Conv", "Pool", "Reshape"]
    assert after.nodes[0].act == RELU and after.nodes[1].act == Activation(low=-0.5, high=0.5)
    assert after.shape(after.outputs[0]) == (1, 12)
    assert_same_function(graph, after)


def test_activation_that_cannot_fuse_stays():
    first = chain(MAP, (Activate, MAP, ACT))
    assert fuse_activations(first) is first
    read_twice = chain(MAP, (Conv, MAP, conv(2, 2)), (Activate, MAP, ACT))
    read_twice = Graph("g", ("x",), ("v0", "v1"), read_twice.nodes, read_twice.values)
    assert fuse_activations(read_twice) is read_twice


@pytest.mark.parametrize("first", [IDENTITY, RELU, RELU6, Activation(slope=0.25), Activation(low=2, high=3)])
@pytest.mark.parametrize("then", [RELU, RELU6, Activation(slope=0.5), Activation(low=-1, high=1), IDENTITY])
def test_activations_one_after_the_other_are_one(first, then):
    def run(act, x):
        return min(max(x if x > 0 else act.slope * x, act.low), act.high)

    both = first.then(then)
    if both is None:
        assert then.slope != 1 and first != IDENTITY
        return
    for x in [-math.inf, -7.5, -1, -0.25, 0, 0.5, 2.5, 6, 9, math.inf]:
        assert run(both, x) == run(then, run(first, x))


def test_function_behind_a_clamp_is_one_activation_and_nothing_follows_it():
    assert RELU6.then(SILU) == replace(RELU6, function=SILU.function)
    assert Activation(slope=0.5).then(SILU) == replace(SILU, slope=0.5)
    assert SILU.then(RELU) is None and SILU.then(SILU) is None

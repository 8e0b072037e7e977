# SPDX-License-Identifier: Apache-2.0
"""Passes that put norms, factors and padding into layers, on hand-made graphs: before and after, and equal function."""

import math
from dataclasses import replace

import numpy as np
import pytest

from firmware_gen.ir import RELU, Activate, BatchNorm, Conv, Graph, Linear, Pad, Pool, Reshape, Upsample
from firmware_gen.passes import fold_batchnorm, merge_pads
from firmware_gen.passes.edits.rewrite import substitute
from tests.graphs import ACT, MAP, RNG, WIDE, assert_same_function, chain, conv, kinds, norm, two_branches


@pytest.mark.parametrize("groups, bias", [(1, True), (2, True), (1, False)])
def test_fold_batchnorm_into_conv(groups, bias):
    fields = conv(4, 2 // groups, 3, groups=groups)
    if not bias:
        fields["bias"] = None
    out = (1, 4, 2, 2)
    graph = chain(MAP, (Conv, out, fields), (BatchNorm, out, norm(4)))
    after = fold_batchnorm(graph)
    assert kinds(after) == ["Conv"] and after.nodes[0].name == "n0"
    n0, n1 = graph.nodes
    expected = n1.shift if n0.bias is None else n0.bias * n1.scale + n1.shift
    np.testing.assert_array_equal(after.nodes[0].bias, expected)
    np.testing.assert_array_equal(after.nodes[0].weight[1], n0.weight[1] * n1.scale[1])
    assert after.nodes[0].weight.dtype == np.float64
    assert_same_function(graph, after)


def test_fold_batchnorm_into_linear():
    fields = {"weight": RNG.normal(size=(3, 5)), "bias": RNG.normal(size=3)}
    graph = chain((2, 5), (Linear, (2, 3), fields), (BatchNorm, (2, 3), norm(3)))
    after = fold_batchnorm(graph)
    assert kinds(after) == ["Linear"]
    assert_same_function(graph, after)


def test_batchnorm_that_cannot_be_folded_becomes_a_scale():
    first = chain(MAP, (BatchNorm, MAP, norm(2)), (Activate, MAP, ACT))
    after = fold_batchnorm(first)
    assert kinds(after) == ["Scale", "Activate"] and after.nodes[0].name == "n0"
    assert_same_function(first, after)
    shared = chain(MAP, (Conv, MAP, conv(2, 2)), (BatchNorm, MAP, norm(2)))
    shared = Graph("g", ("x",), ("v1", "v0"), shared.nodes, shared.values)
    after = fold_batchnorm(shared)
    assert kinds(after) == ["Conv", "Scale"]
    assert_same_function(shared, after)


@pytest.mark.parametrize("padding, kinds_after", [(0, ["Activate", "Conv"]), (1, ["Activate", "Scale", "Conv"])])
def test_fold_batchnorm_into_the_next_conv(padding, kinds_after):
    size = 2 + 2 * padding
    out = (1, 6, size, size)
    fields = conv(6, 2, 3, groups=2, pads=(padding,) * 4)
    graph = chain((1, 4, 4, 4), (Activate, (1, 4, 4, 4), ACT), (BatchNorm, (1, 4, 4, 4), norm(4)), (Conv, out, fields))
    after = fold_batchnorm(graph)
    assert kinds(after) == kinds_after
    assert_same_function(graph, after)


def test_fold_batchnorm_into_the_next_linear_across_a_flatten():
    linear = {"weight": RNG.normal(size=(3, 32))}
    steps = (Activate, MAP, ACT), (BatchNorm, MAP, norm(2)), (Reshape, (1, 32), {}), (Linear, (1, 3), linear)
    graph = chain(MAP, *steps)
    after = fold_batchnorm(graph)
    assert kinds(after) == ["Activate", "Reshape", "Linear"]
    assert_same_function(graph, after)


def test_fold_batchnorm_back_through_what_it_commutes_with():
    wide, pooled, half = (1, 3, 8, 8), (1, 3, 3, 3), (1, 3, 2, 2)
    positive = norm(3) | {"scale": np.array([0.5, 1, 2])}
    avg = {"kind": "avg", "kernel": (4, 4), "stride": (2, 2)}
    maximum = {"kind": "max", "kernel": (2, 2), "stride": (1, 1)}
    graph = chain(MAP, (Conv, (1, 3, 4, 4), conv(3, 2)), (Upsample, wide, {"factor": (2, 2)}), (Pool, pooled, avg),
                  (BatchNorm, pooled, norm(3)), (Pool, half, maximum), (BatchNorm, half, positive))  # fmt: skip
    after = fold_batchnorm(graph)
    assert kinds(after) == ["Conv", "Upsample", "Pool", "Pool"]
    assert_same_function(graph, after)
    negative = graph.nodes[-1].scale * [1, -1, 1]
    graph = substitute(graph, {graph.nodes[-1]: replace(graph.nodes[-1], scale=negative)})
    after = fold_batchnorm(graph)
    assert kinds(after) == ["Conv", "Upsample", "Pool", "Pool", "Scale"]
    assert_same_function(graph, after)


def test_average_over_counted_padding_keeps_a_batchnorm_behind_it():
    avg = {"kind": "avg", "kernel": (2, 2), "stride": (1, 1), "pads": (1, 1, 0, 0)}
    graph = chain(MAP, (Conv, MAP, conv(2, 2)), (Pool, MAP, avg), (BatchNorm, MAP, norm(2)))
    after = fold_batchnorm(graph)
    assert kinds(after) == ["Conv", "Pool", "Scale"]
    assert_same_function(graph, after)


def test_merge_minus_infinity_into_max_pool():
    pool = {"kind": "max", "kernel": (3, 3), "stride": (1, 1), "pads": (1, 1, 0, 0)}
    graph = chain(MAP, (Pad, PADDED, PADS | {"value": -math.inf}), (Pool, (1, 2, 6, 7), pool))
    after = merge_pads(graph)
    assert kinds(after) == ["Pool"] and after.nodes[0].pads == (2, 4, 2, 1)
    assert_same_function(graph, after)


def test_nothing_is_folded_across_a_fused_activation():
    graph = chain(MAP, (Conv, MAP, conv(2, 2, act=RELU)), (BatchNorm, MAP, norm(2)))
    after = fold_batchnorm(graph)
    assert kinds(after) == ["Conv", "Scale"]
    assert_same_function(graph, after)


def test_fold_batchnorm_into_the_branches_of_a_concat():
    graph = two_branches((BatchNorm, WIDE, norm(5)))
    after = fold_batchnorm(graph)
    assert kinds(after) == ["Conv", "Conv", "Concat"]
    assert_same_function(graph, after)
    shared = Graph("g", ("x",), (*graph.outputs, "v1"), graph.nodes, graph.values)
    after = fold_batchnorm(shared)
    assert kinds(after) == ["Conv", "Conv", "Concat", "Scale"]
    assert_same_function(shared, after)


PADDED = (1, 2, 7, 8)  # MAP with pads (top 1, left 3, bottom 2, right 1)
PADS = {"pads": (1, 3, 2, 1)}


def test_merge_pads_into_conv():
    graph = chain(MAP, (Pad, PADDED, PADS), (Conv, (1, 3, 7, 8), conv(3, 2, 3, pads=(1, 1, 1, 1))))
    after = merge_pads(graph)
    assert kinds(after) == ["Conv"] and after.nodes[0].pads == (2, 4, 3, 2)
    assert_same_function(graph, after)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("own", [0, 1])
@pytest.mark.parametrize("divisor", [None, 5])
def test_merge_pads_into_avg_pool(include, own, divisor):
    out = (1, 2, 5 + 2 * own, 6 + 2 * own)
    fields = {"kind": "avg", "kernel": (3, 3), "stride": (1, 1), "pads": (own,) * 4}
    fields |= {"count_include_pad": include, "divisor_override": divisor}
    graph = chain(MAP, (Pad, PADDED, PADS), (Pool, out, fields))
    after = merge_pads(graph)
    legal = own == 0 or include or divisor
    assert kinds(after) == (["Pool"] if legal else ["Pad", "Pool"])
    assert_same_function(graph, after)


@pytest.mark.parametrize(
    "value, reader",
    [
        (0.0, (Pool, (1, 2, 6, 7), {"kind": "max", "kernel": (2, 2), "stride": (1, 1)})),
        (1.0, (Conv, (1, 3, 7, 8), conv(3, 2))),
        # Rounded up, whether there is a last window depends on what is padding
        (0.0, (Pool, (1, 2, 3, 3), {"kind": "avg", "kernel": (2, 2), "stride": (3, 3), "ceil_mode": True})),
        (-math.inf, (Pool, (1, 2, 3, 3), {"kind": "max", "kernel": (2, 2), "stride": (3, 3), "ceil_mode": True})),
    ],
)
def test_pads_that_stay(value, reader):
    graph = chain(MAP, (Pad, PADDED, PADS | {"value": value}), reader)
    assert merge_pads(graph) is graph


def test_pads_merge_with_each_other():
    again = (1, 2, 8, 9)
    graph = chain(MAP, (Pad, PADDED, PADS | {"value": 2.0}), (Pad, again, {"pads": (1, 0, 0, 1), "value": 2.0}))
    after = merge_pads(graph)
    assert [n.pads for n in after.nodes] == [(2, 3, 2, 2)]
    assert_same_function(graph, after)

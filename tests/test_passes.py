# SPDX-License-Identifier: Apache-2.0
"""Each pass alone, on hand-made graphs: before and after, and equal function."""

import inspect
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from firmware_gen.ir import (
    IDENTITY,
    RELU,
    RELU6,
    Activate,
    Activation,
    Add,
    AsStrided,
    BatchNorm,
    Concat,
    Conv,
    Function,
    Graph,
    Identity,
    Linear,
    Mul,
    Pad,
    Permute,
    Pool,
    PReLU,
    Reshape,
    Scale,
    Slice,
    Softmax,
    Upsample,
    Value,
)
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.passes import (
    append_softmax,
    drop_dead,
    drop_identities,
    find_maps,
    find_shuffles,
    fold_batchnorm,
    fuse_activations,
    fuse_residuals,
    merge_concats,
    merge_pads,
    merge_permutes,
    merge_reshapes,
    merge_slices,
    merge_strides,
    move_elements,
    raise_permutes,
    sink_reshapes,
)
from firmware_gen.passes.edits.rewrite import substitute
from hls.errors import HeepgenError

RNG = np.random.default_rng(7)


def chain(shape, *steps) -> Graph:
    """A graph of nodes in a row: steps are (class, output shape, fields); nodes are named n0, n1, ..."""
    values, nodes, source = {"x": Value("x", shape)}, [], "x"
    for index, (cls, out_shape, fields) in enumerate(steps):
        out = f"v{index}"
        values[out] = Value(out, out_shape)
        nodes.append(cls(name=f"n{index}", inputs=(source,), output=out, **fields))
        source = out
    return Graph("test", ("x",), (source,), tuple(nodes), values)


def conv(out, channels, kernel=1, **fields):
    weight = RNG.normal(size=(out, channels, kernel, kernel))
    return {"weight": weight, "bias": RNG.normal(size=out)} | fields


def norm(channels):
    return {"scale": RNG.normal(size=channels), "shift": RNG.normal(size=channels)}


POOL = {"kind": "max", "kernel": (1, 1), "stride": (1, 1)}


def kinds(graph: Graph) -> list[str]:
    return [type(n).__name__ for n in graph.nodes]


def assert_same_function(before: Graph, after: Graph):
    x = torch.from_numpy(RNG.normal(size=before.shape(before.inputs[0])).astype(np.float32))
    torch.testing.assert_close(GraphModule(after)(x), GraphModule(before)(x), atol=1e-4, rtol=1e-4)


MAP = (1, 2, 4, 4)
ACT = {"act": RELU}


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


def test_an_activation_of_a_part_stays_behind_it():
    """The whole has more elements, and other readers."""
    part = (AsStrided, (1, 2), {"strides": (0, 1), "offset": 2})
    graph = chain((1, 8), (Linear, (1, 8), {"weight": RNG.normal(size=(8, 8))}), part, (Activate, (1, 2), ACT))
    assert fuse_activations(graph) is graph


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


def dag(inputs, *steps, outputs=None) -> Graph:
    """A graph of steps (class, inputs, output shape, fields); values are "x" and v0, v1, ..."""
    values, nodes = {"x": Value("x", inputs)}, []
    for index, (cls, sources, shape, fields) in enumerate(steps):
        values[f"v{index}"] = Value(f"v{index}", shape)
        nodes.append(cls(name=f"n{index}", inputs=tuple(sources.split()), output=f"v{index}", **fields))
    return Graph("test", ("x",), outputs or (f"v{len(steps) - 1}",), tuple(nodes), values)


WIDE = (1, 5, 4, 4)


def two_branches(*steps) -> Graph:
    """Convolutions to 2 and 3 channels, joined, then steps on the 5 channels in a row."""
    branches = [(Conv, "x", MAP, conv(2, 2)), (Conv, "x", (1, 3, 4, 4), conv(3, 2)), (Concat, "v0 v1", WIDE, {})]
    chained = [(cls, f"v{i + 2}", shape, fields) for i, (cls, shape, fields) in enumerate(steps)]
    return dag(MAP, *branches, *chained)


def test_fold_batchnorm_into_the_branches_of_a_concat():
    graph = two_branches((BatchNorm, WIDE, norm(5)))
    after = fold_batchnorm(graph)
    assert kinds(after) == ["Conv", "Conv", "Concat"]
    assert_same_function(graph, after)
    shared = Graph("g", ("x",), (*graph.outputs, "v1"), graph.nodes, graph.values)
    after = fold_batchnorm(shared)
    assert kinds(after) == ["Conv", "Conv", "Concat", "Scale"]
    assert_same_function(shared, after)


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


def test_merge_concats():
    graph = dag(MAP, (Concat, "x x", (1, 4, 4, 4), {}), (Activate, "x", MAP, ACT),
                (Concat, "v1 v0 x", (1, 8, 4, 4), {}))  # fmt: skip
    after = merge_concats(graph)
    assert kinds(after) == ["Activate", "Concat"] and after.nodes[1].inputs == ("v1", "x", "x", "x")
    assert_same_function(graph, after)


def test_sink_reshapes_below_add_and_concat():
    flat = {"factor": (1, 1)}
    steps = [(Upsample, "x", MAP, flat), (Reshape, "x", (1, 32), {}), (Reshape, "v0", (1, 32), {})]
    added = dag(MAP, *steps, (Add, "v1 v2", (1, 32), {}))
    after = sink_reshapes(added)
    assert kinds(after) == ["Upsample", "Add", "Reshape"] and after.in_shape(after.nodes[1]) == MAP
    assert_same_function(added, after)
    joined = dag(MAP, *steps, (Concat, "v1 v2", (1, 64), {}))
    after = sink_reshapes(joined)
    assert kinds(after) == ["Upsample", "Concat", "Reshape"] and after.out_shape(after.nodes[1]) == (1, 4, 4, 4)
    assert_same_function(joined, after)


LAST = (1, 4, 4, 2)
TO_LAST, TO_FIRST = {"dims": (0, 2, 3, 1)}, {"dims": (0, 3, 1, 2)}


def test_permute_undone_by_the_next():
    graph = chain(MAP, (Conv, MAP, conv(2, 2)), (Permute, LAST, TO_LAST), (Permute, MAP, TO_FIRST))
    after = merge_permutes(graph)
    assert kinds(after) == ["Conv"]
    assert_same_function(graph, after)
    sequence = chain((2, 1, 5, 3), (Permute, (2, 3, 1, 5), TO_FIRST), (Reshape, (2, 1, 3, 5), {}),
                     (Permute, (2, 5, 1, 3), TO_FIRST))  # fmt: skip
    after = merge_permutes(sequence)
    assert kinds(after) == ["Reshape"]
    assert_same_function(sequence, after)
    once = chain(MAP, (Permute, LAST, TO_LAST), (Permute, (1, 4, 2, 4), TO_LAST))
    assert merge_permutes(once) is once


def test_permute_in_front_of_a_flattened_linear_goes_into_its_weights():
    graph = chain(MAP, (Conv, (1, 3, 4, 4), conv(3, 2)), (Permute, (1, 4, 4, 3), TO_LAST), (Reshape, (1, 48), {}),
                  (Linear, (1, 5), {"weight": RNG.normal(size=(5, 48))}))  # fmt: skip
    after = merge_permutes(graph)
    assert kinds(after) == ["Conv", "Reshape", "Linear"]
    assert_same_function(graph, after)
    assert find_maps(after).nodes[2].in_map == (3, 4, 4)


def test_legal_permutes():
    entry = chain((1, 4, 4, 2), (Permute, MAP, TO_FIRST), (Conv, MAP, conv(2, 2)))
    leave = chain(MAP, (Conv, MAP, conv(2, 2)), (Permute, LAST, TO_LAST), (Reshape, (1, 32), {}))
    inside = chain(MAP, (Conv, MAP, conv(2, 2)), (Permute, LAST, TO_LAST), (Activate, LAST, ACT))
    after = chain((1, 4, 4, 2), (Activate, (1, 4, 4, 2), ACT), (Permute, MAP, TO_FIRST), (Conv, MAP, conv(2, 2)))
    for graph in (entry, leave, inside, after):
        assert move_elements(graph) is graph
    swapped = chain((1, 2, 1, 7), (Conv, (1, 3, 1, 7), conv(3, 2)), (Reshape, (1, 1, 3, 7), {}),
                    (Permute, (1, 7, 1, 3), TO_FIRST), (Reshape, (1, 7, 3), {}))  # fmt: skip
    after = move_elements(swapped)
    assert kinds(after) == ["Conv", "Permute", "Reshape"] and after.nodes[1].dims == (0, 2, 3, 1)
    assert_same_function(swapped, after)


@pytest.mark.parametrize("steps", [
    [(Activate, MAP, ACT), (Permute, LAST, TO_LAST)],
    [(Conv, MAP, conv(2, 2)), (Permute, (1, 4, 2, 4), TO_FIRST), (Conv, (1, 2, 2, 4), conv(2, 4))],
    [(Permute, (1, 2, 4, 4), {"dims": (0, 1, 3, 2)}), (Conv, MAP, conv(2, 2))],
])  # fmt: skip
def test_permute_that_moves_data_is_a_copy(steps):
    shape = LAST if steps[0][0] is Permute and steps[0][2] is TO_FIRST else MAP
    graph = chain(shape, *steps)
    after = move_elements(graph)
    assert "AsStrided" in kinds(after) and "Permute" not in kinds(after)
    assert_same_function(graph, after)


def test_permute_of_what_a_reader_needs_in_order_is_a_copy():
    """Channels that are last in memory are no use to who reads channels first."""
    graph = chain((1, 4, 4, 2), (Permute, MAP, TO_FIRST), (Reshape, (1, 8, 2, 2), {}), (Pool, (1, 8, 2, 2), POOL))
    after = move_elements(graph)
    assert kinds(after) == ["AsStrided", "AsStrided", "Pool"]
    assert_same_function(graph, after)


def test_chains_of_moves_are_one_where_they_are_evenly_spaced():
    """Heads of an attention: a view, a permute and a part of it."""
    heads = {"dims": (0, 2, 1, 3)}
    graph = chain((1, 24), (Linear, (1, 24), {"weight": RNG.normal(size=(24, 24))}), (Reshape, (1, 4, 2, 3), {}),
                  (Permute, (1, 2, 4, 3), heads), (Slice, (1, 1, 4, 3), {"start": (1, 0, 0)}),
                  (Reshape, (4, 3), {}), (Linear, (4, 2), {"weight": RNG.normal(size=(2, 3))}))  # fmt: skip
    after = merge_strides(move_elements(graph))
    assert kinds(after) == ["Linear", "Reshape", "AsStrided", "Linear"]
    assert (after.nodes[2].offset, after.nodes[2].strides) == (3, (6, 1))
    assert_same_function(graph, after)
    swap, linear = {"dims": (1, 0, 2)}, {"weight": RNG.normal(size=(2, 4))}
    both = chain((1, 24), (Permute, (24, 1), {"dims": (1, 0)}), (Reshape, (2, 3, 4), {}), (Permute, (3, 2, 4), swap),
                 (Reshape, (6, 4), {}), (Linear, (6, 2), linear))  # fmt: skip
    assert kinds(merge_strides(move_elements(both)))[-3:] == ["AsStrided", "Reshape", "Linear"]
    assert_same_function(both, merge_strides(move_elements(both)))


def test_permutes_rise_to_the_input():
    """Above what treats all elements alike, and not above what knows channels."""
    same = {"scale": np.full(4, 2.0), "bias": np.full(4, -1.0)}
    graph = chain((1, 4, 4, 2), (Scale, (1, 4, 4, 2), same), (Activate, (1, 4, 4, 2), ACT), (Permute, MAP, TO_FIRST))
    after = raise_permutes(graph)
    assert kinds(after) == ["Permute", "Scale", "Activate"]
    assert_same_function(graph, after)
    mixed = {"scale": RNG.normal(size=4), "bias": np.full(4, -1.0)}
    graph = chain((1, 4, 4, 2), (Scale, (1, 4, 4, 2), mixed), (Permute, MAP, TO_FIRST))
    assert raise_permutes(graph) is graph


@pytest.mark.parametrize("start, step, out, fields", [
    ((0, 0, 0), (1, 1, 1), (7, 7), {"pads": (2, 1, 2, 1)}),  # causal
    ((0, 1, 0), (1, 1, 1), (7, 6), {"pads": (2, 1, 2, 1)}),
    ((0, 0, 1), (1, 2, 3), (5, 3), {"pads": (2, 3, 2, 1)}),
    ((0, 0, 0), (1, 1, 1), (3, 4), {"stride": (2, 2), "pads": (1, 1, 1, 1)}),
])  # fmt: skip
def test_slice_of_a_conv_is_a_conv(start, step, out, fields):
    layer = conv(4, 2, 3, **fields)
    size = [(7 + p - 3) // s + 1 for p, s in zip(
        (fields["pads"][0] + fields["pads"][2], fields["pads"][1] + fields["pads"][3]), fields.get("stride", (1, 1)),
        strict=True)]  # fmt: skip
    graph = chain((1, 2, 7, 7), (Conv, (1, 4, *size), layer), (Slice, (1, 4, *out), {"start": start, "step": step}))
    after = merge_slices(graph)
    assert kinds(after) == ["Conv"]
    assert_same_function(graph, after)


def test_slices_that_stay():
    """Channels, more than the padding at the top, and a map with other readers."""
    layer = conv(4, 2, 3, pads=(1, 1, 1, 1))
    for out, start in [((1, 2, 7, 7), (1, 0, 0)), ((1, 4, 5, 7), (0, 2, 0))]:
        graph = chain((1, 2, 7, 7), (Conv, (1, 4, 7, 7), layer), (Slice, out, {"start": start}))
        assert merge_slices(graph) is graph
    graph = chain((1, 2, 7, 7), (Conv, (1, 4, 7, 7), layer), (Slice, (1, 4, 6, 7), {"start": (0, 1, 0)}))
    shared = graph.with_nodes(graph.nodes, outputs=("v0", "v1"))
    assert merge_slices(shared) is shared


def test_slices_in_a_row_are_one():
    graph = chain((1, 9, 9, 9), (Slice, (1, 4, 8, 3), {"start": (1, 0, 0), "step": (2, 1, 3)}),
                  (Slice, (1, 1, 3, 2), {"start": (2, 1, 1), "step": (3, 3, 1)}))  # fmt: skip
    after = merge_slices(graph)
    assert kinds(after) == ["Slice"]
    assert (after.nodes[0].start, after.nodes[0].step) == ((5, 1, 3), (6, 3, 3))
    assert_same_function(graph, after)


def test_slices_of_everything_go():
    graph = chain(MAP, (Slice, MAP, {"start": (0, 0, 0)}), (Conv, MAP, conv(2, 2)))
    assert kinds(drop_identities(graph)) == ["Conv"]


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


SILU, SIGMOID = (Activation(function=Function(name)) for name in ("silu", "sigmoid"))


def test_function_behind_a_clamp_is_one_activation_and_nothing_follows_it():
    assert RELU6.then(SILU) == replace(RELU6, function=SILU.function)
    assert Activation(slope=0.5).then(SILU) == replace(SILU, slope=0.5)
    assert SILU.then(RELU) is None and SILU.then(SILU) is None


def test_merge_reshapes_and_find_maps():
    linear = {"weight": RNG.normal(size=(3, 32))}
    graph = chain(MAP, (Pool, MAP, POOL), (Reshape, (1, 2, 16), {}), (Reshape, (1, 32), {}), (Linear, (1, 3), linear))
    after = find_maps(merge_reshapes(graph))
    assert kinds(after) == ["Pool", "Reshape", "Linear"]
    assert after.nodes[1].in_map == after.nodes[2].in_map == (2, 4, 4)
    assert_same_function(graph, after)


def test_reshape_there_and_back_vanishes():
    graph = chain(MAP, (Reshape, (1, 32), {}), (Reshape, MAP, {}), (Conv, MAP, conv(2, 2)))
    assert kinds(merge_reshapes(graph)) == ["Conv"]


def test_map_is_seen_through_an_activation():
    linear = {"weight": RNG.normal(size=(3, 32))}
    graph = chain(MAP, (Pool, MAP, POOL), (Reshape, (1, 32), {}), (Activate, (1, 32), ACT), (Linear, (1, 3), linear))
    assert find_maps(graph).nodes[3].in_map == (2, 4, 4)


def test_what_lies_in_pytorch_order_is_reshaped_for_free():
    """The input, vectors, and a map in channels-last order, and what is computed from them element by element."""
    vector, map_ = (1, 32), (1, 2, 4, 4)
    linear = (Linear, vector, {"weight": RNG.normal(size=(32, 32))})
    last = [(Pool, map_, POOL), (Permute, LAST, TO_LAST)]
    for shape, steps in [(map_, []), (vector, [linear]), (map_, last)]:
        before = steps[-1][1] if steps else shape
        graph = chain(shape, *steps, (Activate, before, ACT), (Reshape, (1, 8, 2, 2), {}), (Pool, (1, 8, 2, 2), POOL))
        assert find_maps(graph).nodes[-2].in_map is None
    # A map that a layer computes lies channels-last.
    graph = chain(map_, (Pool, map_, POOL), (Activate, map_, ACT), (Reshape, (1, 8, 2, 2), {}),
                  (Pool, (1, 8, 2, 2), POOL))  # fmt: skip
    after = move_elements(graph)
    assert kinds(after) == ["Pool", "Activate", "AsStrided", "Pool"]
    assert_same_function(graph, after)


@pytest.mark.parametrize("before, after", [((1, 1, 4, 4), (1, 16)), ((2, 6, 1, 1), (2, 6)), ((1, 8), (1, 1, 2, 4))])
def test_reshape_free_in_any_layout(before, after):
    assert find_maps(chain(before, (Reshape, after, {}))).nodes[0].in_map is None


@pytest.mark.parametrize("before, after", [(MAP, (1, 4, 2, 4)), ((2, 2, 2, 2), (16,))])
def test_reshape_that_moves_elements_wants_them_in_order_inside(before, after):
    inside = chain(
        before,
        (Pool, before, POOL),
        (Reshape, after, {}),
        (Linear, (*after[:-1], 3), {"weight": RNG.normal(size=(3, after[-1]))}),
    )
    assert kinds(move_elements(inside)) == ["Pool", "AsStrided", "Linear"]
    assert_same_function(inside, move_elements(inside))
    at_input = chain(before, (Reshape, after, {}), (Activate, after, ACT))
    at_output = chain(before, (Pool, before, POOL), (Reshape, after, {}))
    for graph in (at_input, at_output):
        assert all(getattr(n, "in_map", None) is None for n in find_maps(graph).nodes)


def test_reshape_of_space_alone_is_free():
    graph = chain(MAP, (Activate, MAP, ACT), (Reshape, (1, 2, 1, 16), {}), (Activate, (1, 2, 1, 16), ACT))
    assert find_maps(graph).nodes[1].in_map is None


def test_map_of_scale_and_what_reads_a_flattened_map_in_order():
    flat = (1, 32)
    scale = {"scale": RNG.normal(size=32), "bias": RNG.normal(size=32)}
    graph = chain(MAP, (Pool, MAP, POOL), (Reshape, flat, {}), (Scale, flat, scale), (Activate, flat, {"act": SIGMOID}),
                  (Linear, (1, 3), {"weight": RNG.normal(size=(3, 32))}))  # fmt: skip
    assert [n.in_map for n in find_maps(graph).nodes if isinstance(n, Scale | Linear)] == [(2, 4, 4)] * 2
    square = {"weight": RNG.normal(size=(32, 32))}
    for reader in [(Add, "v1 v2", flat, {}), (Concat, "v2 v1", (1, 64), {}),
                   (Linear, "v2 v1", flat, square | {"residual": "before_act"})]:  # fmt: skip
        graph = dag(MAP, (Pool, "x", MAP, POOL), (Reshape, "v0", flat, {}), (Linear, "v1", flat, square), reader)
        after = find_maps(graph)
        assert kinds(after)[1] == "AsStrided" and after.nodes[2].in_map is None
        assert_same_function(graph, after)


def test_find_shuffles():
    whole, parts = (2, 6, 4, 5), (2, 3, 2, 4, 5)
    swap = (Permute, (2, 2, 3, 4, 5), {"dims": (0, 2, 1, 3, 4)})
    graph = find_shuffles(chain(whole, (Activate, whole, ACT), (Reshape, parts, {}), swap, (Reshape, whole, {})))
    assert kinds(graph) == ["Activate", "Shuffle"] and graph.nodes[-1].groups == 3
    flat = find_shuffles(chain(whole, (Activate, whole, ACT), (Reshape, parts, {}), swap, (Reshape, (2, 120), {})))
    assert kinds(flat) == ["Activate", "Shuffle", "Reshape"] and flat.out_shape(flat.nodes[1]) == whole
    space = (Permute, (2, 4, 6, 5), {"dims": (0, 2, 1, 3)})
    assert kinds(find_shuffles(chain(whole, (Activate, whole, ACT), space))) == ["Activate", "Permute"]


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

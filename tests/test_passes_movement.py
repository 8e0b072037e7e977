# SPDX-License-Identifier: Apache-2.0
"""Passes on what moves elements, on hand-made graphs: before and after, and equal function."""

import numpy as np
import pytest

from firmware_gen.ir import Activate, Add, Concat, Conv, Linear, Permute, Pool, Reshape, Scale, Slice, Upsample
from firmware_gen.passes import (
    drop_identities,
    find_maps,
    find_shuffles,
    merge_permutes,
    merge_reshapes,
    merge_slices,
    merge_strides,
    move_elements,
    raise_permutes,
    sink_reshapes,
)
from tests.graphs import ACT, MAP, POOL, RNG, SIGMOID, assert_same_function, chain, conv, dag, kinds


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

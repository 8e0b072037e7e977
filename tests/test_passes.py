"""Each pass alone, on hand-made graphs: before and after, and equal function."""

import math

import numpy as np
import pytest
import torch

from firmware_gen.fake_quant import GraphModule
from firmware_gen.ir import (
    IDENTITY,
    RELU,
    RELU6,
    Activate,
    Activation,
    BatchNorm,
    Conv,
    Graph,
    Identity,
    Linear,
    Pad,
    Pool,
    Reshape,
    Softmax,
    Value,
)
from firmware_gen.passes import (
    append_softmax,
    check_softmax,
    drop_dead,
    drop_identities,
    find_maps,
    fold_batchnorm,
    fuse_activations,
    merge_pads,
    merge_reshapes,
)
from firmware_gen.passes.fuse import compose
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


def kinds(graph: Graph) -> list[str]:
    return [type(n).__name__ for n in graph.nodes]


def assert_same_function(before: Graph, after: Graph):
    x = torch.from_numpy(RNG.normal(size=before.shape(before.inputs[0])).astype(np.float32))
    torch.testing.assert_close(GraphModule(after)(x), GraphModule(before)(x), atol=1e-5, rtol=1e-5)


MAP = (1, 2, 4, 4)
ACT = {"act": RELU}


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


def test_fold_batchnorm_refusals():
    with pytest.raises(HeepgenError, match="layer n0.*model's input"):
        fold_batchnorm(chain(MAP, (BatchNorm, MAP, norm(2))))
    shared = chain(MAP, (Conv, MAP, conv(2, 2)), (BatchNorm, MAP, norm(2)))
    shared = Graph("g", ("x",), ("v1", "v0"), shared.nodes, shared.values)
    with pytest.raises(HeepgenError, match="output of n0 is also read"):
        fold_batchnorm(shared)


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
def test_compose(first, then):
    def run(act, x):
        return min(max(x if x > 0 else act.slope * x, act.low), act.high)

    both = compose(first, then)
    if both is None:
        assert then.slope != 1 and first != IDENTITY
        return
    for x in [-math.inf, -7.5, -1, -0.25, 0, 0.5, 2.5, 6, 9, math.inf]:
        assert run(both, x) == run(then, run(first, x))


def test_merge_reshapes_and_find_maps():
    linear = {"weight": RNG.normal(size=(3, 32))}
    graph = chain(MAP, (Reshape, (1, 2, 16), {}), (Reshape, (1, 32), {}), (Linear, (1, 3), linear))
    after = find_maps(merge_reshapes(graph))
    assert kinds(after) == ["Reshape", "Linear"]
    assert after.nodes[0].in_map == after.nodes[1].in_map == (2, 4, 4)
    assert_same_function(graph, after)


def test_reshape_there_and_back_vanishes():
    graph = chain(MAP, (Reshape, (1, 32), {}), (Reshape, MAP, {}), (Conv, MAP, conv(2, 2)))
    assert kinds(merge_reshapes(graph)) == ["Conv"]


def test_map_is_seen_through_an_activation():
    linear = {"weight": RNG.normal(size=(3, 32))}
    graph = chain(MAP, (Reshape, (1, 32), {}), (Activate, (1, 32), ACT), (Linear, (1, 3), linear))
    assert find_maps(graph).nodes[2].in_map == (2, 4, 4)


@pytest.mark.parametrize("before, after", [((1, 1, 4, 4), (1, 16)), ((2, 6, 1, 1), (2, 6)), ((1, 8), (1, 1, 2, 4))])
def test_reshape_free_in_any_layout(before, after):
    assert find_maps(chain(before, (Reshape, after, {}))).nodes[0].in_map is None


@pytest.mark.parametrize("before, after", [((1, 8), (1, 2, 2, 2)), (MAP, (1, 4, 2, 4)), ((2, 2, 2, 2), (16,))])
def test_reshape_that_moves_elements_is_refused(before, after):
    with pytest.raises(HeepgenError, match="layer n0: Reshape: from .* channels-last"):
        find_maps(chain(before, (Reshape, after, {})))


def test_softmax_only_last():
    good = chain((1, 4), (Activate, (1, 4), ACT), (Softmax, (1, 4), {}))
    assert check_softmax(good) is good
    with pytest.raises(HeepgenError, match="layer n0: Softmax: n1 reads it"):
        check_softmax(chain((1, 4), (Softmax, (1, 4), {}), (Activate, (1, 4), ACT)))


def test_append_softmax():
    graph = append_softmax(chain((1, 4), (Activate, (1, 4), ACT)))
    assert kinds(graph) == ["Activate", "Softmax"] and graph.outputs == (graph.nodes[-1].output,)
    assert append_softmax(graph) is graph
    with pytest.raises(HeepgenError, match="shape"):
        append_softmax(chain(MAP, (Activate, MAP, ACT)))


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

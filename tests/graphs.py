# SPDX-License-Identifier: Apache-2.0
"""Hand-made graphs of a few nodes, and whether two of them are one function."""

import numpy as np
import torch

from firmware_gen.ir import RELU, Activation, Concat, Conv, Function, Graph, Value
from firmware_gen.models.fake_quant import GraphModule

RNG = np.random.default_rng(7)
POOL = {"kind": "max", "kernel": (1, 1), "stride": (1, 1)}
MAP = (1, 2, 4, 4)
ACT = {"act": RELU}
WIDE = (1, 5, 4, 4)
SILU, SIGMOID = (Activation(function=Function(name)) for name in ("silu", "sigmoid"))


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
    torch.testing.assert_close(GraphModule(after)(x), GraphModule(before)(x), atol=1e-4, rtol=1e-4)


def dag(inputs, *steps, outputs=None) -> Graph:
    """A graph of steps (class, inputs, output shape, fields); values are "x" and v0, v1, ..."""
    values, nodes = {"x": Value("x", inputs)}, []
    for index, (cls, sources, shape, fields) in enumerate(steps):
        values[f"v{index}"] = Value(f"v{index}", shape)
        nodes.append(cls(name=f"n{index}", inputs=tuple(sources.split()), output=f"v{index}", **fields))
    return Graph("test", ("x",), outputs or (f"v{len(steps) - 1}",), tuple(nodes), values)


def two_branches(*steps) -> Graph:
    """Convolutions to 2 and 3 channels, joined, then steps on the 5 channels in a row."""
    branches = [(Conv, "x", MAP, conv(2, 2)), (Conv, "x", (1, 3, 4, 4), conv(3, 2)), (Concat, "v0 v1", WIDE, {})]
    chained = [(cls, f"v{i + 2}", shape, fields) for i, (cls, shape, fields) in enumerate(steps)]
    return dag(MAP, *branches, *chained)

# SPDX-License-Identifier: Apache-2.0
"""Functions: those that a model writes out, found by what they compute, and all of them apart from their layers, for
hardware without a function unit.

x * sigmoid(x) and all other forms of SiLU are one Activate. Whether a subgraph is a function of one value is seen from
the graph, which function from its values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from firmware_gen.ir import (
    ELEMENTARY,
    IDENTITY,
    RELU,
    Activate,
    Activated,
    Activation,
    Add,
    AnyGraph,
    Apply,
    Combined,
    Elementary,
    Function,
    Fused,
    Graph,
    Maximum,
    Mul,
    Node,
    PReLU,
    Scale,
    Shape,
    Value,
)
from firmware_gen.passes.edits.cleanup import drop_dead
from firmware_gen.passes.edits.draft import Draft, edited
from firmware_gen.refusal import refusal
from hls.arithmetic.function_tables import function_words
from hls.errors import HeepgenError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 24
"""Nodes that a function may be written with."""
FAR = 30.0
TOLERANCE = 1e-6
"""Of values relative to 1 + |x|, and at -FAR, 0 and FAR to themselves: constants in a model are rounded to float32."""
ENDS = 3
"""Those places, at the beginning of `_grid`."""
NOTHING = 1e-13
"""Added to a function there, it is what keeps a logarithm or a quotient finite, and the result is no such function."""
BEHIND: dict[str, type[Combined]] = {kind.combine: kind for kind in (Add, Mul, PReLU)}
"""By `Fused.combine`: a second operand behind an activation, as a node of its own."""
HARDSIGMOID = Activation(function=Function("hardsigmoid"))
RECIPROCAL, ROOT, INVERSE_ROOT = (Activation(function=Function(name)) for name in ("reciprocal", "sqrt", "rsqrt"))


def find_functions(graph: Graph) -> Graph:
    """Make one Activate of what computes a known function of one value, whatever it is written with; of Hardsigmoid a
    Scale and a clamp."""
    order = {node.output: number for number, node in enumerate(graph.nodes)}
    draft = Draft(graph)
    for node in graph.nodes:
        for source, inside in _cones(draft, node, order):
            act = _recognised(source, inside) if _is_written_out(inside) else None
            if act:
                found = Activate(name=node.name, inputs=(source,), output=node.output, act=act)
                draft.substitute({node: found})
                break
    return drop_dead(_with_straight_lines(draft.graph()))


def fuse_hardsigmoids(graph: Graph) -> Graph:
    """Make one Activate of the Scale and the clamp of a Hardsigmoid, where no layer took the Scale."""
    return edited(graph, _fuse_hardsigmoid)


def _fuse_hardsigmoid(graph: Draft, node: Node) -> bool:
    scale = graph.producer(node.inputs[0])
    if not isinstance(node, Activate) or not isinstance(scale, Scale) or not _is_elementwise(graph, scale):
        return False
    alone = graph.read_once_by(scale.output) is node
    is_whole = alone and _recognised(scale.inputs[0], [scale, node]) == HARDSIGMOID
    if is_whole:
        graph.substitute({node: replace(node, inputs=scale.inputs, act=HARDSIGMOID)})
    return is_whole


def compute_elementary(graph: Graph) -> Graph:
    """Make nodes of their own of what has no table, and the CPU computes; the reciprocal of a square root is one.

    Before activations are fused: then each is a function alone."""
    nodes: list[Node] = []
    for node in _with_inverse_roots(graph).nodes:
        if isinstance(node, Activate) and node.act.function and node.act.function.name in ELEMENTARY:
            assert node.act.linear == IDENTITY
            node = Elementary(name=node.name, inputs=node.inputs, output=node.output, function=node.act.function)
        nodes.append(node)
    return drop_dead(graph.with_nodes(nodes))


def _with_inverse_roots(graph: Graph) -> Graph:
    """1 / sqrt(x) as one function."""
    nodes: list[Node] = []
    for node in graph.nodes:
        root = graph.producer(node.inputs[0]) if isinstance(node, Activate) and node.act == RECIPROCAL else None
        if isinstance(root, Activate) and root.act == ROOT:
            node = replace(root, name=node.name, output=node.output, act=INVERSE_ROOT)
        nodes.append(node)
    return graph.with_nodes(nodes)


def check_functions(graph: Graph) -> Graph:
    """Raises HeepgenError for parameters that no table is exact enough for."""
    for node in graph.nodes:
        function = node.act.function if isinstance(node, Activate) else None
        try:
            if function:
                function_words(function.name, function.parameters)
        except HeepgenError as error:
            raise refusal(node.name, str(function), f"{error}; use other parameters") from None
    return graph


def _cones(graph: AnyGraph, root: Node, order: dict[str, int]) -> Iterator[tuple[str, list[Node]]]:
    """Single values that `root` is an elementwise function of, the nearest first, with the nodes between, in order."""
    frontier = {root.output}
    inside: list[Node] = []
    while len(inside) < LARGEST:
        latest = graph.producer(max(frontier, key=lambda value: order.get(value, -1)))
        if latest is None or not _is_elementwise(graph, latest):
            return
        inside.insert(0, latest)
        frontier = frontier - {latest.output} | set(latest.inputs)
        if len(frontier) == 1:
            yield next(iter(frontier)), inside


def _is_elementwise(graph: AnyGraph, node: Node) -> bool:
    if isinstance(node, Scale):
        return node.is_uniform
    if isinstance(node, Combined) and node.commutes:
        return all(graph.shape(value) == graph.out_shape(node) for value in node.inputs)
    return isinstance(node, Activate)


def _is_written_out(inside: list[Node]) -> bool:
    """Whether nodes are more than an activation with its constants beside it, which layers take."""
    products = sum(isinstance(node, Mul) or (isinstance(node, Activate) and bool(node.act.function)) for node in inside)
    clamped = isinstance(inside[-1], Scale) and any(isinstance(node, Activate) for node in inside)
    return len(inside) > 1 and (products > 0 or clamped)


def _recognised(source: str, inside: list[Node]) -> Activation | None:
    """The activation that nodes are, of `source`."""
    x = _grid()
    known = {source: x}
    for node in inside:
        known[node.output] = _computed(node, [known[value] for value in node.inputs])
    y = known[inside[-1].output]
    for act in (*_FIXED, *_fitted(y)):
        exact, allowed = _values(act)
        near = (y - exact).abs() <= allowed
        if bool((near | ~y.isfinite() & (x.abs() > FAR / 2)).all()):
            return act
    return None


@lru_cache(maxsize=1)
def _grid() -> Tensor:
    """Where functions are compared: first -FAR, 0 and FAR, then many numbers between."""
    import torch

    beyond = np.geomspace(60, 1e9, 24)  # a clamp may be far away
    return torch.from_numpy(
        np.concatenate([[-FAR, 0, FAR], np.linspace(-10, 10, 1999), np.linspace(-25, 25, 26), -beyond, beyond])
    )


@lru_cache(maxsize=64)
def _values(act: Activation) -> tuple[Tensor, Tensor]:
    """An activation's there, and how far from it values may be."""
    x = _grid()
    exact = act.evaluate(x)
    allowed = TOLERANCE * (1 + x.abs())
    allowed[:ENDS] = NOTHING + TOLERANCE * exact[:ENDS].abs()
    return exact, allowed


def _computed(node: Node, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    match node:
        case Scale():
            x = x * float(node.scale[0]) + float(node.bias[0])
        case Mul():
            x = x * inputs[1]
        case Add():
            x = x + inputs[1]
        case Maximum():
            x = x.maximum(inputs[1])
    return node.act.evaluate(x) if isinstance(node, Activated) else x


_FIXED = tuple(
    Activation(function=Function(name))
    for name in ("sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "quick_gelu", "hardswish", "hardsigmoid", "selu",
                 "mish", "logsigmoid", "softsign")
)  # fmt: skip


def _fitted(y: Tensor) -> list[Activation]:
    """Activations with parameters that the values on the grid can be."""
    low, middle = float(y[0]), float(y[1])
    found = []
    if -FAR < low < 0:
        found += [Function(name, (float(np.float32(-low)),)) for name in ("elu", "celu")]
    if middle > 0:
        found.append(Function("softplus", (float(np.float32(np.log(2) / middle)), 20.0)))
    leaky = Activation(slope=float(np.float32(-low / FAR)))
    return [leaky if leaky.slope else RELU, *(Activation(function=function) for function in found)]


def _with_straight_lines(graph: Graph) -> Graph:
    """Every Hardsigmoid as a Scale, which the layer before it may take, and a clamp."""
    nodes: list[Node] = []
    values: list[Value] = []
    for node in graph.nodes:
        if isinstance(node, Activate) and node.act == HARDSIGMOID:
            values.append(Value(f"{node.output}.scaled", graph.out_shape(node)))
            scale = _hardsigmoid(f"{node.name}.scale", node.inputs[0], values[-1].name, values[-1].shape)
            nodes.append(replace(scale, act=IDENTITY))
            node = replace(node, inputs=(scale.output,), act=scale.act)
        nodes.append(node)
    return graph.with_nodes(nodes, values=values)


def _hardsigmoid(name: str, source: str, target: str, shape: Shape) -> Scale:
    """clamp(x / 6 + 1/2, 0, 1)."""
    channels = shape[min(1, len(shape) - 1)]
    scale, bias = np.full(channels, 1 / 6), np.full(channels, 0.5)
    act = Activation(low=0.0, high=1.0)
    return Scale(name=name, inputs=(source,), output=target, scale=scale, bias=bias, act=act)


def split_functions(graph: Graph) -> Graph:
    """Give every function a node of its own, for hardware that has no function unit: Hardsigmoid a Scale with a clamp,
    all others an Apply on the CPU."""
    nodes: list[Node] = []
    values: list[Value] = []
    for node in graph.nodes:
        chain = _split(graph, node) if isinstance(node, Activated) and node.act.function else [node]
        values += [Value(part.output, graph.out_shape(node)) for part in chain[:-1]]
        nodes += chain
    return graph.with_nodes(nodes, values=values)


def _split(graph: Graph, node: Activated) -> list[Node]:
    """The node without its function, the function, and what is added behind it."""
    function = node.act.function
    assert function is not None
    before, late = f"{node.output}.{function.name}.in", not node.ends_in_act
    after = f"{node.output}.{function.name}" if late else node.output
    chain: list[Node] = []
    if isinstance(node, Activate) and node.act.linear == IDENTITY:
        name, before = node.name, node.inputs[0]
    else:
        name, bare = f"{node.name}.{function.name}", replace(node, output=before, act=node.act.linear)
        if late and isinstance(bare, Fused):
            bare = replace(bare, inputs=node.inputs[:1], residual="none", combine="add")
        chain.append(bare)
    if function == HARDSIGMOID.function:
        chain.append(_hardsigmoid(name, before, after, graph.out_shape(node)))
    else:
        chain.append(Apply(name=name, inputs=(before,), output=after, function=function))
    if isinstance(node, Fused) and late:
        kind = BEHIND[node.combine]
        chain.append(kind(name=f"{node.name}.{node.combine}", inputs=(after, node.inputs[1]), output=node.output))
    return chain

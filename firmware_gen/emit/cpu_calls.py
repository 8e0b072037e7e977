# SPDX-License-Identifier: Apache-2.0
"""What only the CPU computes, in C++: calls of the runtime's functions, one for each kind of arguments."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch

import numpy as np

from firmware_gen import ir
from firmware_gen.emit.literals import float_literal
from firmware_gen.memory.network import Layer, Network
from firmware_gen.operations.functions import table_name
from firmware_gen.operations.operation import Operation, elementwise
from firmware_gen.operations.tensors import Tensor
from hls.errors import HeepgenError


def declarations(layers: Iterable[Layer]) -> list[str]:
    """C++ declarations of kernels that take input, output and the numbers that their operators say: those that some
    layers call. No header has them."""
    found = set()
    for layer in layers:
        if isinstance(layer.node, ir.OnCpu):
            numbers = layer.node.arguments(layer.target.size)
            if numbers is not None:
                found.add(declaration(layer.node.called, numbers))
    return sorted(found)


def declaration(kernel: str, numbers: Sequence[float]) -> str:
    """Of one of them."""
    types = ["uint32_t" if isinstance(n, int) else "float" for n in numbers]
    return f"void {kernel}({', '.join(['const float*', 'float*', *types])});"


@singledispatch
def cpu_call(node: ir.OnCpu, layer: Layer, network: Network, constants: Mapping[str, str]) -> str:
    """C++ statement that computes `layer`, whose node is `node`; `constants` are expressions by name. HeepgenError for
    a class that has neither `arguments` nor a call here."""
    numbers = node.arguments(layer.target.size)
    if numbers is None:
        raise HeepgenError(
            f"layer {node.name}: {node.op} has no call in C++; its class says no arguments, and emit/cpu_calls.py none"
        )
    places = _arena(network, layer.sources[0]), _arena(network, layer.target)
    return _text(node.called, *places, *(n if isinstance(n, int) else float_literal(n) for n in numbers))


@cpu_call.register
def _(node: ir.Apply, layer: Layer, network: Network, constants: Mapping[str, str]) -> str:
    places = _arena(network, layer.sources[0]), _arena(network, layer.target)
    return _text(node.kernel, *places, layer.target.size, constants[table_name(node.function)])


@cpu_call.register
def _(node: ir.Softmax, layer: Layer, network: Network, constants: Mapping[str, str]) -> str:
    target = layer.target
    count = target.shape[node.axis]
    stride = 1 if node.axis == -1 or target.channels_last else math.prod(target.shape[2:])
    places = _arena(network, layer.sources[0]), _arena(network, target)
    return _text(node.called, *places, target.size // count, count, stride)


@cpu_call.register
def _(node: ir.Multiplying, layer: Layer, network: Network, constants: Mapping[str, str]) -> str:
    own, sources = network.graph.constants, list(layer.sources)
    places = [constants[t.storage] if t.storage in own else _arena(network, t) for t in (*sources, layer.target)]
    return product_call(node.kernel, elementwise(node, sources, layer.target), places)


def product_call(kernel: str, operation: Operation, places: Sequence[str]) -> str:
    """Of `kernel`, `multiply` or its like, for an elementwise operation on source, aux and target, at `places`."""
    assert operation.aux, "there are two operands"
    images, height, width, channels = (
        operation.images,
        operation.op.out_height,
        operation.op.out_width,
        operation.op.cout,
    )
    views = (
        (operation.source, operation.source_step),
        (operation.aux, operation.aux_step),
        (operation.target, operation.target_step),
    )
    if operation.flat:
        extent, steps = (1, 1, 1, operation.flat), [(0, 0, 0, 1)] * 3
    elif all(view.y == width * view.x for view, _ in views):
        extent, steps = (images, 1, height * width, channels), [(step, 0, view.x, view.c) for view, step in views]
    else:
        extent, steps = (images, height, width, channels), [(step, view.y, view.x, view.c) for view, step in views]
    operands = [f"{place}, {_braced(s)}" for place, s in zip(places, steps, strict=True)]
    return _text(kernel, *operands, _braced(extent))


def _braced(numbers: tuple[int, ...]) -> str:
    return f"{{{', '.join(map(str, numbers))}}}"


@cpu_call.register
def _(node: ir.MatMul, layer: Layer, network: Network, constants: Mapping[str, str]) -> str:
    operands = []
    for tensor, own in zip((*layer.sources, layer.target), (node.a, node.b, node.out), strict=True):
        place = constants.get(tensor.storage) or _arena(network, tensor)
        operands.append(
            f"{place} + {own.offset}, {_braced(own.steps)}" if own.offset else f"{place}, {_braced(own.steps)}"
        )
    return _text(node.kernel, *operands, _braced(node.sizes), float_literal(node.scale))


@cpu_call.register
def _(node: ir.Planes, layer: Layer, network: Network, constants: Mapping[str, str]) -> str:
    own, tiles = node.product, node.tiles
    place = _arena(network, layer.sources[0])
    b = f"{place} + {own.b.offset}" if own.b.offset else place
    counts, target = _braced(own.sizes), _arena(network, layer.target)
    scale = float_literal(float(np.float32(own.scale / ir.PLANE_RANGE)))
    return _text(
        node.kernel, b, _braced(own.b.steps), target, counts, scale, _braced((tiles.rows, tiles.columns, tiles.beat))
    )


def _text(kernel: str, *arguments: object) -> str:
    return f"heepstor::{kernel}({', '.join(map(str, arguments))});"


def _arena(network: Network, tensor: Tensor) -> str:
    return f"arena({network.offsets[tensor.storage] // 4 + tensor.offset})"

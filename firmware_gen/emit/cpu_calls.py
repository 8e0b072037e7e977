# SPDX-License-Identifier: Apache-2.0
"""Calls of the runtime's functions for what only the CPU computes, one for each kind of arguments."""

import math
from functools import singledispatch

from firmware_gen import ir
from firmware_gen.targets.descriptor.lowering.tensors import Tensor, image_steps
from firmware_gen.targets.descriptor.program import Layer, Program
from hls.errors import HeepgenError


@singledispatch
def cpu_call(node: ir.OnCpu, layer: Layer, program: Program) -> str:
    """C++ statement that computes `layer`, whose node is `node`. HeepgenError for a class without one."""
    raise HeepgenError(f"layer {node.name}: {node.op} has no call in C++; emit/cpu_calls.py lacks it")


@cpu_call.register
def _(node: ir.Elementwise, layer: Layer, program: Program) -> str:
    return _text(node, _arena(program, layer.sources[0]), _arena(program, layer.target), layer.target.size)


@cpu_call.register
def _(node: ir.Softmax, layer: Layer, program: Program) -> str:
    target = layer.target
    count = target.shape[node.axis]
    stride = 1 if node.axis == -1 or target.channels_last else math.prod(target.shape[2:])
    places = _arena(program, layer.sources[0]), _arena(program, target)
    return _text(node, *places, target.size // count, count, stride)


@cpu_call.register
def _(node: ir.Mul, layer: Layer, program: Program) -> str:
    whole, tensors = layer.target.shape, (*layer.sources, layer.target)
    counts = whole[0] if len(whole) > 1 else 1, math.prod(whole[2:]), whole[min(1, len(whole) - 1)]
    steps = [image_steps(t, whole) for t in tensors]
    if len({(t.shape, t.channels_last) for t in tensors}) == 1 and not any(t.pitch for t in tensors):
        counts, steps = (1, 1, math.prod(whole)), [(0, 0, 1)] * 3  # alike, and without gaps
    operands = [f"{_arena(program, t)}, {{{', '.join(map(str, s))}}}" for t, s in zip(tensors, steps, strict=True)]
    return _text(node, *operands, *counts)


def _text(node: ir.OnCpu, *arguments: object) -> str:
    return f"heepstor::{node.kernel}({', '.join(map(str, arguments))});"


def _arena(program: Program, tensor: Tensor) -> str:
    return f"arena({program.offsets[tensor.storage] // 4 + tensor.offset})"

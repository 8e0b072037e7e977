# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of a network of calls, from what an accelerator's author says of one product."""

from collections.abc import Callable

from firmware_gen.architectures.contract import LayerCycles, Prediction
from firmware_gen.memory.network import Layer
from firmware_gen.targets.calls.calls import PRODUCT, Call, CallProgram
from firmware_gen.targets.calls.product import Product

Cycles = Callable[[int, int, int], int]
"""Of a product (m, k, n), with the CPU's part in it."""


def predict(program: CallProgram, cycles: Cycles) -> Prediction:
    """Layers of products; those of plain kernels, and what the driver has in their stead, are not predicted."""
    return Prediction(tuple(_layer(program, layer, cycles) for layer in program.network.layers))


def _layer(program: CallProgram, layer: Layer, cycles: Cycles) -> LayerCycles | None:
    calls = program.calls_of(layer.name)
    if layer.on_cpu or any(call.kernel != PRODUCT for call in calls):
        return None
    assert program.product is not None or not calls
    return LayerCycles(sum(_call(program.product, call, cycles) for call in calls if program.product))


def _call(product: Product, call: Call, cycles: Cycles) -> int:
    """A product for every group, columns that fit, and block of K, whose rows are the output pixels of an image."""
    op = call.op
    pixels = op.out_height * op.out_width
    depth = op.kernel[0] * op.kernel[1] * (op.channels // op.groups)
    blocks = sum(
        cycles(pixels, min(product.depth, depth - k), min(product.width, op.cout - n))
        for n in range(0, op.cout, product.width)
        for k in range(0, depth, product.depth)
    )
    return call.operation.images * op.groups * blocks

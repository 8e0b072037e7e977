# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of a network of calls, from what an accelerator's author says of a Linear layer."""

from collections.abc import Callable

from firmware_gen.architectures.contract import LayerCycles, Prediction
from firmware_gen.memory.network import Layer
from firmware_gen.targets.calls.calls import PRODUCT, Call, CallProgram

Cycles = Callable[[int, int, int], int]
"""Of a Linear layer (m, k, n), with the CPU's part in it."""


def predict(program: CallProgram, cycles: Cycles) -> Prediction:
    """Layers of products; those of plain kernels, and what the driver has in their stead, are not predicted."""
    return Prediction(tuple(_layer(program, layer, cycles) for layer in program.network.layers))


def _layer(program: CallProgram, layer: Layer, cycles: Cycles) -> LayerCycles | None:
    calls = program.calls_of(layer.name)
    if layer.on_cpu or any(call.kernel != PRODUCT for call in calls):
        return None
    assert program.product is not None or not calls
    return LayerCycles(sum(_call(call, cycles) for call in calls))


def _call(call: Call, cycles: Cycles) -> int:
    """As a Linear layer for every image and group, whose rows are the output pixels."""
    op = call.op
    depth = op.kernel[0] * op.kernel[1] * (op.channels // op.groups)
    return call.operation.images * op.groups * cycles(op.out_height * op.out_width, depth, op.cout)

# SPDX-License-Identifier: Apache-2.0
"""Estimated cycles of a network of calls: of products from what an accelerator's author says of a Linear layer, of the
CPU's kernels from what their loops were measured to take."""

from collections import Counter
from collections.abc import Callable

from firmware_gen import ir
from firmware_gen.architectures.contract import LayerCycles, Prediction
from firmware_gen.memory.network import Layer
from firmware_gen.models.cpu_cycles import Iterations, cycles_of, iterations_of, row_iterations, window_iterations
from firmware_gen.targets.calls.calls import FACTORS, PRODUCT, Call, CallProgram

Cycles = Callable[[int, int, int], int]
"""Of a Linear layer (m, k, n), with the CPU's part in it."""


def predict(program: CallProgram, cycles: Cycles | None, pushed: bool = False) -> Prediction:
    """Every layer; None of those that a kernel of the driver's computes, which only a run measures. pushed: the driver
    takes rows of A where they lie."""
    return Prediction(tuple(_layer(program, layer, cycles, pushed) for layer in program.network.layers))


def layer_iterations(program: CallProgram, layer: Layer) -> Iterations:
    """Iterations of the CPU's loops for a layer."""
    if isinstance(layer.node, ir.OnCpu):
        return iterations_of(layer.node, layer)
    total: Counter[tuple[str, str]] = Counter()
    for call in program.calls_of(layer.name):
        if call.kernel != PRODUCT:
            total.update(_call_iterations(call))
    return total


def product_iterations(program: CallProgram, layer: Layer, pushed: bool) -> Iterations:
    """Iterations of the CPU's loops for the products of a layer, besides those of Linear layers."""
    total: Counter[tuple[str, str]] = Counter()
    for call in program.calls_of(layer.name):
        if call.kernel == PRODUCT:
            assert program.product is not None, "somebody multiplies"
            size = program.product.depth, program.product.width
            own = row_iterations(call.op, call.channels_first, *size, pushed)
            total.update({loop: call.operation.images * count for loop, count in own.items()})
    return total


def _layer(program: CallProgram, layer: Layer, cycles: Cycles | None, pushed: bool) -> LayerCycles | None:
    calls = program.calls_of(layer.name)
    products = [call for call in calls if call.kernel == PRODUCT]
    by_cpu = cycles_of(layer_iterations(program, layer))
    if by_cpu is None or any(call.on_driver for call in calls if call.kernel != PRODUCT):
        return None
    if not products:
        return LayerCycles(by_cpu, on_cpu=True) if calls or layer.on_cpu else LayerCycles(0)
    assert cycles is not None, "who multiplies says what that takes"
    rows = cycles_of(product_iterations(program, layer, pushed))
    assert rows is not None, "they were measured"
    return LayerCycles(by_cpu + rows + sum(_product(call, cycles) for call in products))


def _call_iterations(call: Call) -> Iterations:
    op, images = call.op, call.operation.images
    if call.operation.flat or call.kernel in FACTORS.values():
        size = call.operation.flat or images * op.out_height * op.out_width * op.cout
        only_function = op.act.function and op.act.linear == ir.IDENTITY and op.residual == "none"
        kernel = "apply_table" if call.kernel == "activate" and only_function else call.kernel
        iterations = {(kernel, "call"): 1, (kernel, "element"): size}
        return iterations | ({("function", "element"): size} if op.act.function and kernel != "apply_table" else {})
    own = window_iterations(call.kernel, op, call.channels_first)
    return {loop: images * count for loop, count in own.items()}


def _product(call: Call, cycles: Cycles) -> int:
    """As a Linear layer for every image and group, whose rows are the output pixels."""
    op = call.op
    depth = op.kernel[0] * op.kernel[1] * (op.channels // op.groups)
    return call.operation.images * op.groups * cycles(op.out_height * op.out_width, depth, op.cout)

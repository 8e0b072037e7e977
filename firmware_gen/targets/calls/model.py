# SPDX-License-Identifier: Apache-2.0
"""Bit-exact model of a network as calls: the memory, and every call's NumPy twin."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from firmware_gen.memory.planner import memory_map
from firmware_gen.models.cpu_model import finish_model, window_model
from firmware_gen.models.image import (
    Result,
    Sample,
    checked_sample,
    checked_samples,
    joined_batches,
    read_outputs,
    reset,
    run_on_cpu,
    tapped,
    write_inputs,
)
from firmware_gen.operations.tensors import View
from firmware_gen.targets.calls.calls import PRODUCT, Call, CallProgram
from firmware_gen.targets.calls.product import product_model


def run(program: CallProgram, sample: Sample, taps: bool = False) -> Result:
    """Run one sample, float32 in the shapes of the graph's inputs. With `taps` keep every layer's output."""
    return next(run_steps(program, [sample], taps))


def run_steps(program: CallProgram, samples: Iterable[Sample], taps: bool = False) -> Iterator[Result]:
    """Run one inference after the other, from what states are at first; see `run`."""
    network = program.network
    image = np.full(memory_map(network.config)[1], 0xA5, np.uint8)
    reset(network, image)
    for sample in samples:
        write_inputs(network, image, checked_sample(network, sample))
        yield _run(program, image, taps)


def _run(program: CallProgram, image: np.ndarray, taps: bool) -> Result:
    network = program.network
    arena = image[network.arena_address :].view(np.float32)
    kept: dict[str, np.ndarray] = {}
    for layer in network.layers:
        if layer.on_cpu:
            run_on_cpu(network, layer, image)
        for call in program.calls_of(layer.name):
            _run_call(program, call, arena)
        if taps:
            kept |= tapped(network, image, layer)
    return Result(read_outputs(network, image), kept, ())


def run_many(
    program: CallProgram, samples: np.ndarray, taps: bool = False, progress: Callable[[int], None] = lambda done: None
) -> Result:
    """Run independent inferences: float32 (N, ...) with N a multiple of the graph's batch, joined along the first
    dimension. `progress` is told how many rows are done."""
    data, batch = checked_samples(program.network, samples), program.network.inputs[0].shape[0]
    results: list[Result] = []
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(lambda sample: run(program, sample, taps), data):
            results.append(result)
            progress(batch * len(results))
    outputs = tuple(joined_batches(np.stack(parts)) for parts in zip(*(r.outputs for r in results), strict=True))
    return Result(outputs, {n: joined_batches(np.stack([r.taps[n] for r in results])) for n in results[0].taps}, ())


def _run_call(program: CallProgram, call: Call, arena: np.ndarray) -> None:
    operation, op, network = call.operation, call.op, program.network
    outputs = op.channels if op.diagonal else op.groups * op.cout
    inner, outer = (op.channels, op.height, op.width), (outputs, op.out_height, op.out_width)

    def words(view: View, shape: tuple[int, int, int], step: int) -> np.ndarray:
        """Of a tensor, for every image, in the arena or in a constant."""
        start = network.offsets.get(view.base.name, 0) // 4 + view.base.offset
        if operation.flat:
            return np.arange(start, start + operation.flat)[None]
        images: np.ndarray = start + step * np.arange(operation.images)[:, None, None, None]
        return np.asarray(images + _indices(view, shape))

    def values(view: View, shape: tuple[int, int, int], step: int) -> np.ndarray:
        constant = view.base.name in network.graph.constants
        array = program.constants[view.base.name] if constant else arena
        return np.asarray(array[words(view, shape, step)])

    sources = values(operation.source, inner, operation.source_step)
    targets = words(operation.target, outer, operation.target_step)
    added = values(operation.aux, outer, operation.aux_step) if operation.aux else [None] * len(targets)
    for source, target, aux in zip(sources, targets, added, strict=True):
        arena[target] = _computed(program, call, source, aux)


def _indices(view: View, shape: tuple[int, int, int]) -> np.ndarray:
    """Word of every element of a (C, H, W) map, from the view's first."""
    c, y, x = (np.arange(n) * s for n, s in zip(shape, (view.c, view.y, view.x), strict=True))
    return c[:, None, None] + y[:, None] + x


def _computed(program: CallProgram, call: Call, x: np.ndarray, aux: np.ndarray | None) -> np.ndarray:
    """One image of a call."""
    op = call.op
    if program.product and call.kernel == PRODUCT:
        return product_model(program.product, op, x, call.channels_first, aux)
    if program.product and call.on_driver:
        y: np.ndarray = program.product.kernels[call.kernel](op, x, call.channels_first, aux)
        return y
    if call.operation.flat:
        return finish_model(op.act, op.residual, x, aux, op.combine)
    return window_model(op, x, call.channels_first, aux)

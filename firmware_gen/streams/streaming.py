# SPDX-License-Identifier: Apache-2.0
"""A network on a window of frames, as one that takes the newest frames only, compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from firmware_gen import ir
from firmware_gen.frontend.exported.program import user_inputs
from firmware_gen.frontend.exported.verify import REWRITTEN, compare_tensors, inputs_to_try
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.streams.frames import stream
from hls.errors import HeepgenError

if TYPE_CHECKING:
    from firmware_gen.api import CheckedModel


def streaming(checked: CheckedModel, frames: int, time: int | None = None) -> tuple[ir.Graph, int]:
    """The lowered graph that takes `frames` new frames a call, and the dimension of the input that is time: `time`, or
    the only one that there can be.

    Compared with the whole network in double precision, window after window, on the sample and on a random input.
    Raises HeepgenError, naming the layer, where it cannot be.
    """
    whole = checked.lowered
    if len(whole.inputs) > 1 or whole.state:
        raise HeepgenError(f"--stream: {whole.name} has several inputs, or state already; a stream has one input")
    shape = whole.shape(whole.inputs[0])
    found, refused = {}, []
    for axis in range(2, len(shape)) if time is None else [time]:
        if time is not None or shape[axis] > 1:
            try:
                found[axis] = stream(whole, axis, frames, lambda x: _taps(whole, x))
            except HeepgenError as error:
                refused.append(error)
    if not found:
        raise refused[0] if refused else HeepgenError(f"--stream: an input of shape {list(shape)} has no frames")
    if len(found) > 1:
        raise HeepgenError(
            f"--stream: dimension 2 or 3 of the input, {list(shape)}, may be time: say which by --time-axis"
        )
    ((axis, graph),) = found.items()
    for x in inputs_to_try(checked.inputs):
        _compare(whole, graph, axis, x[0])
    return graph, axis


def window_of(program: ExportedProgram, example: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """An example of a program's window: as it is, or, of fewer frames, behind frames of zeros."""
    (array,) = [example] if isinstance(example, np.ndarray) else example
    shape = tuple(int(size) for size in user_inputs(program)[0][1].meta["val"].shape)
    if array.ndim != len(shape) or any(own > size for own, size in zip(array.shape, shape, strict=True)):
        return array
    window = np.zeros(shape, np.float32)
    window[tuple(slice(size - own, None) for own, size in zip(array.shape, shape, strict=True))] = array
    return window


def _taps(graph: ir.Graph, x: np.ndarray) -> dict[str, np.ndarray]:
    taps: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        GraphModule(graph)(torch.from_numpy(x), taps)
    return {node.output: taps[node.name].numpy() for node in graph.nodes}


def _compare(whole: ir.Graph, graph: ir.Graph, axis: int, x: np.ndarray) -> None:
    """Feed a window, and half of another, frame by frame; the last outputs must be those of the last window."""
    count = graph.shape(graph.inputs[0])[axis]
    total = x.shape[axis]
    steps = -(-(total + total // 2) // count)
    frames = np.resize(np.moveaxis(x, axis, 0), (steps * count, *np.moveaxis(x, axis, 0).shape[1:]))
    window = torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames[-total:], 0, axis)))
    taps: dict[str, torch.Tensor] = {}
    module, state = (
        GraphModule(graph, np.float64),
        [torch.from_numpy(s.initial.astype(np.float64)) for s in graph.state],
    )
    with torch.no_grad():
        for step in range(steps):
            part = np.ascontiguousarray(np.moveaxis(frames[step * count : (step + 1) * count], 0, axis))
            outputs = pytree.tree_leaves(module([torch.from_numpy(part), *state]))
            state = outputs[len(graph.results) :]
        expected = pytree.tree_leaves(GraphModule(whole, np.float64)(window, taps))
    largest = max(float(tap.abs().max()) for tap in (window, *taps.values()))
    for value, own, other in zip(graph.results, outputs, expected, strict=False):
        newest = other[tuple(slice(a - b, None) for a, b in zip(other.shape, own.shape, strict=True))]
        compare_tensors(f"{value} of the stream", newest.numpy(), own.numpy(), REWRITTEN * largest, "the whole window")

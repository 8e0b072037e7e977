# SPDX-License-Identifier: Apache-2.0
"""Linear interpolation as depthwise windows with fixed integer weights: one for every phase of the output along an
axis, and others at the borders, where the outermost input is repeated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from firmware_gen import ir
from firmware_gen.operations.windows import Range, Windowed, on_maps

LIMIT = 127
"""Largest weight."""


@dataclass(frozen=True)
class Run:
    """Outputs phase + step * k, k in `outputs`, of an axis: the sum of `weights` times inputs, from `start` on for the
    first one and `stride` further on for every other."""

    phase: int
    step: int
    outputs: Range
    start: int
    stride: int
    weights: tuple[int, ...]


def divisor(inputs: int, outputs: int, align_corners: bool) -> int:
    """What the integer weights of an axis are divided by."""
    return math.lcm(*(_place(o, inputs, outputs, align_corners).denominator for o in range(outputs)))


def fits(in_shape: ir.Shape, out_shape: ir.Shape, align_corners: bool) -> bool:
    """Whether all weights of an interpolation of rows and columns at once are INT8."""
    axes = zip(in_shape[2:], out_shape[2:], strict=True)
    return math.prod(divisor(before, after, align_corners) for before, after in axes) <= LIMIT


def _place(output: int, inputs: int, outputs: int, align_corners: bool) -> Fraction:
    """Where an output lies among the inputs."""
    if align_corners:
        return Fraction(output * (inputs - 1), max(outputs - 1, 1))
    return min(
        max(Fraction((2 * output + 1) * inputs, 2 * outputs) - Fraction(1, 2), Fraction(0)), Fraction(inputs - 1)
    )


def runs(inputs: int, outputs: int, align_corners: bool) -> Iterator[Run]:
    """All outputs of an axis. Where the outputs of a phase go on, so does their place among the inputs."""
    whole = divisor(inputs, outputs, align_corners)
    before, after = (inputs - 1, outputs - 1) if align_corners and inputs > 1 < outputs else (inputs, outputs)
    step, stride = after // math.gcd(before, after), before // math.gcd(before, after)
    places = [_place(o, inputs, outputs, align_corners) for o in range(outputs)]
    taps = 1 if whole == 1 else 2
    for phase in range(min(step, outputs)):
        own = places[phase::step]
        first = 0
        while first < len(own):
            start, part = int(own[first]), int(own[first] % 1 * whole)
            last = first + 1
            while last < len(own) and own[last] == own[first] + (last - first) * stride:
                last += 1
            yield Run(
                phase=phase,
                step=step,
                outputs=(first, last),
                start=start,
                stride=stride,
                weights=(whole - part, part)[:taps],
            )
            first = last


def windows(node: ir.Interpolate, in_shape: ir.Shape, out_shape: ir.Shape) -> Iterator[tuple[Windowed, Run, Run]]:
    """One window for every pair of runs of rows and columns, on the outputs of their phases."""
    sizes = list(zip(in_shape[2:], out_shape[2:], strict=True))
    scale = 1 / math.prod(divisor(*size, node.align_corners) for size in sizes)
    channels = in_shape[1]
    for y, x in itertools.product(*(list(runs(*size, node.align_corners)) for size in sizes)):
        weight = np.outer(y.weights, x.weights).astype(np.int8)
        yield (
            replace(
                on_maps(in_shape, out_shape),
                out_height=len(range(y.phase, out_shape[2], y.step)),
                out_width=len(range(x.phase, out_shape[3], x.step)),
                kernel=(len(y.weights), len(x.weights)),
                stride=(y.stride, x.stride),
                top=y.outputs[0] * y.stride - y.start,
                left=x.outputs[0] * x.stride - x.start,
                cout=channels,
                diagonal=True,
                weight=np.broadcast_to(weight, (channels, *weight.shape)),
                scale=float(np.float32(scale)),
                act=node.act,
            ),
            y,
            x,
        )

# SPDX-License-Identifier: Apache-2.0
"""Which cycles of a run are looked at, and what that says of all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOWS = 4
"""Of every phase, unless it is shorter than they are."""
WINDOW_STEPS = 256


@dataclass(frozen=True)
class Phase:
    """Cycles of one layer, or of what else a run does: disjoint (first, last), each first <= c < last."""

    name: str
    intervals: tuple[tuple[int, int], ...]

    @property
    def cycles(self) -> int:
        return sum(last - first for first, last in self.intervals)


@dataclass(frozen=True)
class Window:
    """Steps from one cycle to the next in first <= c < last, of the phase with this number."""

    phase: int
    first: int
    last: int

    @property
    def cycles(self) -> tuple[int, int]:
        """What a recording of it needs: the step of the last cycle leads to the one behind it."""
        return self.first, self.last + 1


@dataclass(frozen=True)
class Estimate:
    """Of a quantity per cycle: its mean over a phase, and the standard error of that for not having seen all of it;
    None for a single window that is not the whole phase."""

    mean: float
    error: float | None


def windows(phases: Sequence[Phase], count: int = WINDOWS, steps: int = WINDOW_STEPS) -> list[Window]:
    """`count` windows of each phase, equally far from each other, or all of it where they would be that."""
    result = []
    for number, phase in enumerate(phases):
        if phase.cycles <= count * steps:
            parts = [(first, min(first + steps, end)) for a, end in phase.intervals for first in range(a, end, steps)]
        else:
            places = ((i + 0.5) * phase.cycles / count - steps / 2 for i in range(count))
            parts = [_window(phase, round(place), steps) for place in places]
        result += [Window(number, first, last) for first, last in parts]
    return result


def _window(phase: Phase, place: int, steps: int) -> tuple[int, int]:
    """The window that begins `place` cycles into a phase, or so far before that it ends with its interval."""
    for first, last in phase.intervals:
        if place < last - first:
            begin = max(first, min(first + place, last - steps))
            return begin, min(begin + steps, last)
        place -= last - first
    raise ValueError(f"{phase.name} has not so many cycles")


def estimate(phase: Phase, totals: NDArray[np.float64], steps: NDArray[np.int64]) -> Estimate:
    """Mean per cycle of a phase from totals over windows of so many steps."""
    seen = int(steps.sum())
    mean = float(totals.sum()) / seen
    if seen >= phase.cycles:
        return Estimate(mean, 0.0)
    if len(totals) < 2:
        return Estimate(mean, None)
    deviations = (totals - mean * steps) / steps.mean()
    variance = float((deviations**2).sum()) / (len(totals) - 1)
    return Estimate(mean, math.sqrt(variance / len(totals) * (1 - seen / phase.cycles)))

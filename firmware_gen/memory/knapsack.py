# SPDX-License-Identifier: Apache-2.0
"""Which things to leave out of a place that does not hold all."""

from collections.abc import Sequence

import numpy as np

STEPS = 1 << 13
"""Sizes that are told apart, of the other place's: so many, or all multiples of `unit`."""


def left_out(sizes: Sequence[int], losses: Sequence[float], room: int, other: int, unit: int) -> list[int] | None:
    """The numbers of those things that lie in the other place, where each loses something: the least in all, so that
    neither `room` nor the other place is too small; None if that is not found. sizes: multiples of `unit`."""
    least = max(0, sum(sizes) - room)
    if least > other:
        return None
    unit *= max(1, -(-other // (STEPS * unit)))
    most = other // unit
    best = np.full(most + 1, np.inf)  # loss, by the size of what is left out
    best[0] = 0
    taken = np.zeros((len(sizes), most + 1), bool)
    for number, (size, loss) in enumerate(zip(sizes, losses, strict=True)):
        steps = -(-size // unit)
        if steps <= most:
            with_it = best[: most + 1 - steps] + loss
            better = with_it < best[steps:]
            taken[number, steps:] = better
            best[steps:] = np.where(better, with_it, best[steps:])
    first = -(-least // unit)
    place = first + int(best[first:].argmin()) if first <= most else most
    if not np.isfinite(best[place]):
        return None
    found = list[int]()
    for number in reversed(range(len(sizes))):
        if taken[number, place]:
            found.append(number)
            place -= -(-sizes[number] // unit)
    return found[::-1] if sum(sizes[number] for number in found) >= least else None

# SPDX-License-Identifier: Apache-2.0
"""How far a sum of `aligned` blocks may be from the exact sum.

K lanes x_r with INT8 weights w_r are summed in B blocks of R lanes. In a block, q = 2**(E - 152) is the unit of the
aligned lanes s_r, and z = q * sum s_r w_r what the column holds before it is rounded.

Alignment: s_r q is x_r rounded to a multiple of q, and x_r itself where e_r >= E - 2, since 4 m has two zeros to lose.
So |s_r q - x_r| <= d_r with d_r = 0 there and min(q / 2, |x_r|) elsewhere: a lane loses at most 2**-26 of the largest
one. Products and their sum are exact, hence |z - sum x_r w_r| <= A = sum d_r |w_r|.
Rounding: the normaliser gives z (1 + t) with |t| <= u = 2**-24. Subnormals are exact: all lanes are multiples of
2**-149, and so is their sum.
Accumulation: B - 1 additions multiply by another 1 + t each, so that no block meets more than B factors. With
g = B u / (1 - B u), which bounds |(1 + t) ... (1 + t) - 1| of B of them,

    |result - sum x_r w_r| <= sum A + g sum |z|        (sums over blocks)

as long as lanes are finite and no partial sum overflows. Nothing in it grows with what cancels outside a block, but
A does not shrink with what cancels, or meets a zero weight, inside one: [2**26, 2**26, 1/4, 1/4] . [1, -1, 100, 100] is
0 in one block of `aligned`, 50 exactly, and A = 50. The arithmetic `fma` rounds every product's addition instead.
"""

from collections.abc import Sequence

import numpy as np

from hls.arithmetic.aligned_model import align_model

UNIT = 2.0**-24
NOTICEABLE = 2.0**-12
"""Share of a channel's largest output: a sixteenth of what rounding a weight to INT8 changes of its own product."""
FP32_UNITS = 4
"""Losses below this many UNIT * sum |x w| are no worse than what sequential FP32 may lose; on average it loses 0.3."""
EXACT_PLACES = 2  # by which a lane moves without losing a bit


def error_bound(x: np.ndarray, weights: np.ndarray, rows: int) -> np.ndarray:
    """The bound above, float64 [N, C], of float32 `x` [N, K] and int8 `weights` [K, C] in blocks of `rows` lanes.

    Infinite where a lane is not finite, or a partial sum might overflow.
    """
    x = np.ascontiguousarray(x, np.float32)
    blocks = -(-x.shape[1] // rows)
    g = blocks * UNIT / (1 - blocks * UNIT)
    aligned_away, sums = (np.zeros((len(x), weights.shape[1])) for _ in range(2))
    finite = np.ones(len(x), bool)
    for first in range(0, x.shape[1], rows):
        vectors, w = x[:, first : first + rows].view(np.uint32), weights[first : first + rows].astype(np.float64)
        lanes, exponent = align_model(vectors)
        q = np.exp2(exponent - 152.0)[:, None]
        places = exponent[:, None] - np.maximum(vectors >> 23 & 255, 1)
        with np.errstate(invalid="ignore"):
            lost = np.minimum(q / 2, np.abs(vectors.view(np.float32).astype(np.float64)))
        lost[(places <= EXACT_PLACES) | (exponent == 255)[:, None]] = 0
        aligned_away = aligned_away + lost @ np.abs(w)
        sums = sums + np.abs(lanes @ w) * q
        finite &= exponent != 255
    bound = (aligned_away + g * sums) * (1 + 2.0**-40)  # float64 rounds, too
    overflow = sums * (1 + g) > np.finfo(np.float32).max
    return np.where(overflow | ~finite[:, None], np.inf, bound)


def alignment_loss(vectors: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sum (s q - x) w, sum |x w|), float64 [N, C], of uint32 `vectors` [N, R] and int8 `weights` [R, C].

    Both to float32's accuracy, and 0 for vectors with a NaN or an infinity.
    """
    loss, magnitude = (np.zeros((len(vectors), weights.shape[1])) for _ in range(2))
    lanes, exponent = align_model(vectors)
    with np.errstate(invalid="ignore"):
        x = vectors.view(np.float32) * np.exp2(152.0 - exponent)[:, None]
        moved = lanes - x
    moving = np.flatnonzero((moved != 0).any(axis=1) & (exponent != 255))
    if len(moving):
        q, w = np.exp2(exponent[moving] - 152.0)[:, None], weights.astype(np.float32)
        loss[moving] = moved[moving].astype(np.float32) @ w * q
        magnitude[moving] = np.abs(x[moving]).astype(np.float32) @ np.abs(w) * q
    return loss, magnitude


class LossMeter:
    """What alignment takes from a layer, as a share of the largest output of the channel that loses most.

    Losses of no more than FP32_UNITS do not count. Channels of several memories (inferences) are looked at one by one.
    """

    def __init__(self) -> None:
        self._sums: tuple[np.ndarray, np.ndarray] | None = None
        self._channels: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by group: largest loss, largest output

    def meet(self, tiles: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """One step: vectors and dense weights of neighbouring columns. Its sums are part of the next outputs."""
        parts = [alignment_loss(vectors, weights) for vectors, weights in tiles]
        loss, magnitude = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        sums = loss, magnitude
        self._sums = sums if self._sums is None else tuple(a + b for a, b in zip(self._sums, sums, strict=True))

    def outputs(self, group: int, acc: np.ndarray, scale: np.ndarray, bias: np.ndarray, memories: int) -> None:
        """Channels acc * scale + bias, acc uint32 [memories * pixels, C], from the steps since the last call."""
        if self._sums is None:
            return
        loss, magnitude = (a[:, : acc.shape[1]] for a in self._sums)
        self._sums = None
        with np.errstate(all="ignore"):
            result = acc.view(np.float32).astype(np.float64)
            largest = np.maximum(np.abs(result * scale + bias), np.abs((result - loss) * scale + bias))
            lost = np.where(np.abs(loss) > FP32_UNITS * UNIT * magnitude, np.abs(loss * scale), 0)
        found = tuple(
            np.where(np.isfinite(a), a, 0).reshape(memories, -1, acc.shape[1]).max(axis=1) for a in (lost, largest)
        )
        before = self._channels.get(group, found)
        self._channels[group] = tuple(np.maximum(a, b) for a, b in zip(before, found, strict=True))

    @property
    def share(self) -> float:
        return max(
            (
                float(np.max(lost / np.where(lost > 0, largest, 1), initial=0))
                for lost, largest in self._channels.values()
            ),
            default=0.0,
        )

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

import numpy as np

from hls.aligned import align_model

UNIT = 2.0**-24
EXACT_PLACES = 2  # by which a lane moves without losing a bit


def error_bound(x: np.ndarray, weights: np.ndarray, rows: int) -> np.ndarray:
    """The bound above, float64 [N, C], of float32 `x` [N, K] and int8 `weights` [K, C] in blocks of `rows` lanes.

    Infinite where a lane is not finite, or a partial sum might overflow.
    """
    x = np.ascontiguousarray(x, np.float32)
    blocks = -(-x.shape[1] // rows)
    g = blocks * UNIT / (1 - blocks * UNIT)
    aligned_away, sums, finite = 0.0, 0.0, np.ones(len(x), bool)
    for first in range(0, x.shape[1], rows):
        vectors, w = x[:, first:first + rows].view(np.uint32), weights[first:first + rows].astype(np.float64)
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

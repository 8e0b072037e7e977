# SPDX-License-Identifier: Apache-2.0
"""NumPy models of `aligned`: lanes of one exponent, and what a column makes of them."""

import numpy as np

from hls.arithmetic.fp32 import NAN, canonical


def align_model(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Aligned lanes s, float64 integers [N, R], and exponents E, int [N], of uint32 `vectors` [N, R]."""
    exponent = np.maximum(vectors >> 23 & 255, 1).max(axis=1).astype(int)
    with np.errstate(invalid="ignore"):
        x = vectors.view(np.float32).astype(np.float64)
    x[exponent == 255] = 0
    x *= np.exp2(152.0 - exponent)[:, None]
    return np.trunc(x + np.copysign(0.5, x)), exponent


def aligned_model(
    vectors: np.ndarray, weights: np.ndarray, diagonal: bool = False, max_mode: bool = False
) -> np.ndarray:
    """Column results, uint32 [N, C], of uint32 `vectors` [N, R] and int8 `weights` [R, C]."""
    vectors = np.ascontiguousarray(vectors, np.uint32)
    if diagonal:
        return _diagonal_model(vectors, weights, max_mode)
    lanes, exponent = align_model(vectors)
    psum = lanes @ weights.astype(np.float64) + 0.0  # integers below 2**53: exact in any order; -0 becomes +0
    with np.errstate(over="ignore"):
        y = (psum * np.exp2(exponent - 152.0)[:, None]).astype(np.float32).view(np.uint32)
    y[exponent == 255] = NAN
    return y


def _diagonal_model(vectors: np.ndarray, weights: np.ndarray, max_mode: bool) -> np.ndarray:
    size = min(weights.shape)
    bits = vectors[:, :size]
    with np.errstate(invalid="ignore", over="ignore"):
        product = bits.view(np.float32).astype(np.float64) * np.diag(weights) + 0.0
        y = canonical(product.astype(np.float32).view(np.uint32))
    if max_mode:
        y = np.where((bits == 1 << 31) & (y == 0), bits, y)
    columns = np.zeros((len(vectors), weights.shape[1]), np.uint32)
    columns[:, :size] = y
    return columns

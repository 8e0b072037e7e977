# SPDX-License-Identifier: Apache-2.0
"""What one call of the streaming accelerator computes, bit by bit."""

import numpy as np

from hls.arithmetic.array import array_model
from hls.streaming.timing import Geometry


def compute(config: Geometry, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Products float32 [M, N] of float32 `a` [M, K] and int8 `b` [K, N], K <= rows and N <= cols."""
    vectors = np.ascontiguousarray(a, np.float32).view(np.uint32)
    return array_model(vectors, np.asarray(b, np.int8), False, False, config.arithmetic).view(np.float32)

# SPDX-License-Identifier: Apache-2.0
"""Convolutions and Linear layers on an accelerator that multiplies matrices: what `runtime/gemm.hpp` does, bit for bit.

The row of A that belongs to an output pixel holds the inputs that its window sees, in the order of the kernel, +0 where
the window leaves the input. K and N larger than one call takes are cut: the products of consecutive blocks of K are
added in FP32, in order; columns of N do not know of each other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from firmware_gen.frozen import freeze
from firmware_gen.models.cpu_model import finish_model
from firmware_gen.operations.windows import Windowed
from hls.arithmetic.fp32 import canonical_float

_F = np.float32

ROW_ALIGN = 4
"""Bytes: rows of B begin at a multiple."""


CHUNK, GATHERED_ROWS, GATHERED_WORDS = 32, 8, 512
"""Of `runtime/gemm/gemm.hpp`: pixels whose sums are collected, and what is gathered of A."""


@dataclass(frozen=True)
class Product:
    """An accelerator's product for one configuration.

    depth, width: the largest K and N of a call. compute: float32 (M, K), int8 (K, N) -> float32 (M, N), bit by bit.
    kernels: NumPy models of those kernels, by name, that its driver has instead of ours; each is called as
    `window_model` is.
    """

    depth: int
    width: int
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray]
    kernels: Mapping[str, Callable[..., np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        freeze(self, "kernels")

    @property
    def scratch_bytes(self) -> int:
        """Of an object of `heepstor::Gemm`, at most; the program's compilation checks it."""
        gathered = max(self.depth, min(GATHERED_ROWS * self.depth, GATHERED_WORDS))
        return 4 * (self.depth + gathered + 2 * CHUNK * self.width + 4)


def matrix_of(op: Windowed, channels_first: bool) -> np.ndarray:
    """int8 (groups, K, cout): B of every group."""
    assert op.weight is not None
    order = (0, 2, 4, 3, 1) if channels_first else (0, 2, 3, 4, 1)  # of g, o, ky, kx, c
    return op.weight.transpose(order).reshape(op.groups, -1, op.cout)


def padded_rows(matrix: np.ndarray) -> np.ndarray:
    """int8 (groups, K, N) as the driver's `load_weights` reads it: rows of a multiple of ROW_ALIGN bytes."""
    return np.pad(matrix, ((0, 0), (0, 0), (0, -matrix.shape[2] % ROW_ALIGN))).reshape(-1)


def rows_of(op: Windowed, x: np.ndarray, channels_first: bool) -> np.ndarray:
    """float32 (C, H, W) -> (groups, M, K): A of every group, one row for every output pixel, row by row."""
    high, wide = op.kernel
    y = np.arange(op.out_height)[:, None] * op.stride[0] - op.top + np.arange(high) * op.dilation[0]
    c = np.arange(op.out_width)[:, None] * op.stride[1] - op.left + np.arange(wide) * op.dilation[1]
    inside = ((y >= 0) & (y < op.height))[:, None, :, None] & ((c >= 0) & (c < op.width))[None, :, None, :]
    at = np.asarray(x, _F)[:, np.clip(y, 0, op.height - 1)[:, None, :, None], np.clip(c, 0, op.width - 1)[:, None]]
    taps = np.where(inside, at, _F(0)).reshape(op.groups, -1, *inside.shape)  # g, c, oy, ox, ky, kx
    order = (0, 2, 3, 4, 1, 5) if channels_first else (0, 2, 3, 4, 5, 1)
    return np.ascontiguousarray(taps.transpose(order)).reshape(op.groups, op.out_height * op.out_width, -1)


def multiply(product: Product, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float32 (M, K), int8 (K, N) of any size -> float32 (M, N)."""
    blocks = [
        np.concatenate(
            [
                product.compute(a[:, k : k + product.depth], b[k : k + product.depth, n : n + product.width])
                for n in range(0, b.shape[1], product.width)
            ],
            axis=1,
        )
        for k in range(0, b.shape[0], product.depth)
    ]
    total = np.asarray(blocks[0], _F)
    for block in blocks[1:]:
        with np.errstate(all="ignore"):
            total = canonical_float(total + np.asarray(block, _F))
    return total


def product_model(
    product: Product, op: Windowed, x: np.ndarray, channels_first: bool, aux: np.ndarray | None = None
) -> np.ndarray:
    """One image of a convolution or Linear: float32 (C, H, W) -> (groups * cout, H', W')."""
    rows, matrices = rows_of(op, x, channels_first), matrix_of(op, channels_first)
    sums = np.stack([multiply(product, a, b).T for a, b in zip(rows, matrices, strict=True)])
    scale, bias = (np.asarray(v, _F).reshape(op.groups, op.cout, 1) for v in (op.scale, op.bias))
    with np.errstate(all="ignore"):
        y = canonical_float(canonical_float(sums * scale) + bias)
    return finish_model(op.act, op.residual, y.reshape(-1, op.out_height, op.out_width), aux, op.combine)

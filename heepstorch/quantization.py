# SPDX-License-Identifier: Apache-2.0
"""Matrices as INT8 times a scale, symmetric, in the arithmetic of the matrix (float32 for weights).

    scale = max|x| / 127
    q     = clip(round(x / scale), -127, 127), ties to even; 0 where x / scale is 0 / 0

The maximum is that of the whole matrix, or with `per_channel_symmetric` of each column: weights lie (inputs, outputs)
here, so that a column is an output channel. These are the bits of HEEPstor, which has the former alone.
"""

from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from heepstorch.errors import HeepstorchError

LIMIT = 127


class QuantizationScheme(Enum):
    per_tensor_symmetric = 1
    per_channel_symmetric = 2

    DEFAULT = per_tensor_symmetric


def quantize(
    matrix_fp32: npt.NDArray[Any], qscheme: QuantizationScheme = QuantizationScheme.DEFAULT
) -> tuple[npt.NDArray[np.int8], Any]:
    """(q, scale) of a matrix: int8 of its shape, and a number of its type, or one for each column.

    Raises HeepstorchError when it is empty, or holds NaN or infinity.
    """
    _check(qscheme)
    matrix = np.asarray(matrix_fp32)
    if not matrix.size:
        raise HeepstorchError(f"a matrix of shape {matrix.shape} has no values to quantise.")
    if matrix.dtype.kind not in "fiu" or not np.isfinite(matrix).all():
        raise HeepstorchError("the matrix to quantise holds NaN, infinity or no numbers; train the model again.")
    per_channel = qscheme is QuantizationScheme.per_channel_symmetric
    scale = np.max(np.abs(matrix), axis=tuple(range(matrix.ndim - 1)) if per_channel else None) / 127.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        codes = np.clip(np.round(matrix / scale), -LIMIT, LIMIT)
    return np.nan_to_num(codes).astype(np.int8), scale


def dequantize(
    matrix_int8: npt.NDArray[np.int8], scale_factor: Any, qscheme: QuantizationScheme = QuantizationScheme.DEFAULT
) -> npt.NDArray[Any]:
    """q * scale; float32 for a float32 scale."""
    _check(qscheme)
    return np.asarray(matrix_int8.astype(np.float32) * scale_factor)


def dequantize_matmult_result(
    res_fp32: npt.NDArray[Any], scale_factor: Any, qscheme: QuantizationScheme = QuantizationScheme.DEFAULT
) -> npt.NDArray[Any]:
    """`a @ (q * scale)` from `a @ q`."""
    _check(qscheme)
    return np.asarray(res_fp32 * scale_factor)


def fake_quantize(
    matrix_fp32: npt.NDArray[Any], qscheme: QuantizationScheme = QuantizationScheme.DEFAULT
) -> npt.NDArray[Any]:
    """The matrix as the device has it: quantised, and back."""
    return dequantize(*quantize(matrix_fp32, qscheme), qscheme)


def _check(qscheme: QuantizationScheme) -> None:
    if not isinstance(qscheme, QuantizationScheme):
        names = " or ".join(QuantizationScheme.__members__)
        raise HeepstorchError(f"qscheme={qscheme!r} is no QuantizationScheme: choose {names}.")

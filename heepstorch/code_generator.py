# SPDX-License-Identifier: Apache-2.0
"""A network as an application that `heepgen run`, `sw` and `xheep` take, and a main that compares with PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from heepstorch.errors import HeepstorchError


def flatten_input_to_matrix(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An image (channels, height, width), or a batch of one, as the matrix (height * width, channels)."""
    array = np.asarray(x)
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3:
        raise HeepstorchError(
            f"an array of shape {array.shape} is no image: give (channels, height, width), or one of these."
        )
    return array.reshape(len(array), -1).T

# SPDX-License-Identifier: Apache-2.0
"""What an architecture of products says of itself, held to the contract: `HeepgenError` with its name for the rest."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from firmware_gen.architectures.contract import Gemm, own_code
from firmware_gen.operations.windows import Windowed
from hls.config import System
from hls.errors import HeepgenError


def compute_of(gemm: Gemm, config: System) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Its product, which leaves its operands alone and returns float32 (M, N)."""

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        with own_code(config.architecture):
            found = gemm.compute(config, _read_only(a), _read_only(b))
        return _float32(
            found,
            (len(a), b.shape[1]),
            f"architecture {config.architecture}: compute",
            f" for a {a.shape} and b {b.shape}",
        )

    return product


def kernels_of(gemm: Gemm, config: System) -> Mapping[str, Callable[..., np.ndarray]]:
    """Models of the kernels that the driver has; each returns float32 of its window's outputs."""
    return {name: _kernel(model, name, config.architecture) for name, model in gemm.kernels.items()}


def _kernel(model: Callable[..., np.ndarray], name: str, architecture: str) -> Callable[..., np.ndarray]:
    def kernel(op: Windowed, x: np.ndarray, channels_first: bool, aux: np.ndarray | None = None) -> np.ndarray:
        with own_code(architecture):
            found = model(op, _read_only(x), channels_first, None if aux is None else _read_only(aux))
        shape = x.shape if name == "activate" else (op.channels, op.out_height, op.out_width)
        return _float32(found, shape, f"architecture {architecture}: the model of kernel {name}")

    return kernel


def cycles_of(gemm: Gemm, config: System) -> Callable[[int, int, int], int] | None:
    """Cycles of a Linear layer (m, k, n), a natural number; None where they are not known."""
    cycles = gemm.cycles
    if cycles is None:
        return None

    def found(m: int, k: int, n: int) -> int:
        with own_code(config.architecture):
            count = operator.index(cycles(config, m, k, n))
        if count < 0:
            raise HeepgenError(
                f"architecture {config.architecture}: cycles of m={m}, k={k}, n={n} are {count}: must not be negative."
            )
        return count

    return found


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def _float32(found: Any, shape: tuple[int, ...], what: str, why: str = "") -> np.ndarray:
    if not (isinstance(found, np.ndarray) and found.dtype == np.float32 and found.shape == shape):
        given = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise HeepgenError(f"{what} gave {given}{why}; it must give an array float32 {shape}.")
    return found

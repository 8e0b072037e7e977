# SPDX-License-Identifier: Apache-2.0
"""What ONNX's evaluator lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv_transpose import ConvTranspose as ConvTransposeOfOnnx
from onnx.reference.ops.op_lp_pool import LpPool as LpPoolOfOnnx
from onnx.reference.ops.op_max_pool import MaxPool as MaxPoolOfOnnx
from onnx.reference.ops.op_pad import Pad_18
from onnx.reference.ops.op_rnn import RNN_14


class ConvTranspose(ConvTransposeOfOnnx):
    """ONNX's evaluator mixes up the groups, unless there is one."""

    def _run(  # type: ignore[override]
        self, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, group: int = 1, **attributes: Any
    ) -> tuple[np.ndarray]:
        biases = [None] * group if b is None else np.split(b, group)
        parts = zip(np.split(x, group, axis=1), np.split(w, group), biases, strict=True)
        run = super()._run
        results = [run(*part, group=1, **attributes)[0] for part in parts]  # type: ignore[no-untyped-call]
        return (np.concatenate(results, axis=1),)


class GlobalMaxPool(OpRun):
    """ONNX's evaluator has it for two dimensions of space only."""

    def _run(self, x: np.ndarray) -> tuple[np.ndarray]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class LRN(OpRun):
    """ONNX's evaluator takes the batch for the channels."""

    def _run(self, x: np.ndarray, alpha: float, beta: float, bias: float, size: int) -> tuple[np.ndarray]:
        before = (size - 1) // 2
        around = ((0, 0), (before, size - 1 - before), *((0, 0),) * (x.ndim - 2))
        squares = np.lib.stride_tricks.sliding_window_view(np.pad(x**2, around), size, axis=1).sum(-1)
        return ((x / (bias + alpha / size * squares) ** beta).astype(x.dtype),)


class LpNormalization(OpRun):
    """ONNX's evaluator sums numbers instead of their magnitudes."""

    def _run(self, x: np.ndarray, axis: int, p: int) -> tuple[np.ndarray]:
        norm = (np.abs(x) ** p).sum(axis=axis, keepdims=True) ** (1 / p)
        return (np.where(norm == 0, 0, x / np.where(norm == 0, 1, norm)).astype(x.dtype),)


class LpPool(LpPoolOfOnnx):
    """ONNX's evaluator takes windows at the border for smaller than they are."""

    def _run(self, x: np.ndarray, **attributes: Any) -> tuple[np.ndarray]:  # type: ignore[override]
        pooled: tuple[np.ndarray] = super()._run(x, **attributes | {"count_include_pad": 1})  # type: ignore[no-untyped-call]
        return pooled


class RNN(RNN_14):
    """ONNX's evaluator has it without Relu."""

    def choose_act(self, name: str, alpha: float, beta: float) -> Callable[[np.ndarray], np.ndarray]:
        if name == "Relu":
            return lambda x: np.maximum(x, 0)
        return super().choose_act(name, alpha, beta)  # type: ignore[no-untyped-call,no-any-return]


class MaxPool(MaxPoolOfOnnx):
    """ONNX's evaluator ignores the padding of one dimension where windows follow each other at every place."""

    def _run(self, x: np.ndarray, **attributes: Any) -> tuple[np.ndarray, ...]:  # type: ignore[override]
        pool = self._max_pool if x.ndim == 3 else super()._run
        found: tuple[np.ndarray, ...] = pool(x, **attributes)  # type: ignore[no-untyped-call]
        return found


class Pad(Pad_18):
    """ONNX's evaluator has it without negative padding, which crops."""

    def _run(
        self, x: np.ndarray, pads: np.ndarray, constant: Any = None, axes: Any = None, mode: Any = None
    ) -> tuple[np.ndarray]:
        kept = [slice(None)] * x.ndim
        for axis, before, after in zip(range(x.ndim) if axes is None else axes, *np.split(pads, 2), strict=True):
            kept[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
        more = np.maximum(pads, 0)
        padded: tuple[np.ndarray] = super()._run(x[tuple(kept)], more, constant, axes, mode)  # type: ignore[no-untyped-call]
        return padded


OWN_OPERATORS: list[type[OpRun]] = [ConvTranspose, GlobalMaxPool, LRN, LpNormalization, LpPool, MaxPool, Pad, RNN]

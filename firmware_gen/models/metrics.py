# SPDX-License-Identifier: Apache-2.0
"""How much quantisation costs: signal-to-noise ratios, accuracy, agreement, area under the ROC curve.

Everything here is a pure function of arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from firmware_gen import ir
from hls.errors import HeepgenError


def sqnr(reference: np.ndarray, quantised: np.ndarray, axis: int | None = None) -> float | np.ndarray:
    """Signal-to-quantisation-noise ratio in dB: 10 log10(sum r^2 / sum (r - q)^2), in float64.

    axis: None for one number, or the axis along which there is one each. Equal arrays give inf, a zero signal with
    noise -inf.
    """
    signal = np.asarray(reference, np.float64)
    noise = signal - np.asarray(quantised, np.float64)
    if axis is not None:
        signal, noise = (np.moveaxis(a, axis, 0).reshape(a.shape[axis], -1) for a in (signal, noise))
    else:
        signal, noise = signal.reshape(1, -1), noise.reshape(1, -1)
    s, n = (signal**2).sum(axis=1), (noise**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(n == 0, np.inf, 10 * np.log10(s / n))
    return ratio if axis is not None else float(ratio[0])


def sqnr_db(signal: Any, result: Any) -> float | None:
    """10 log10(sum signal^2 / sum (result - signal)^2), in float64; inf when equal, None when undefined."""
    signal = np.asarray(signal, np.float64)
    with np.errstate(invalid="ignore"):
        noise = np.asarray(result, np.float64) - signal
    power, error = float(np.sum(signal * signal)), float(np.sum(noise * noise))
    if not math.isfinite(power) or not math.isfinite(error):
        return None
    if error == 0.0:
        return math.inf
    return 10.0 * math.log10(power / error) if power > 0.0 else None


def compare(reference: Any, result: Any) -> dict[str, float | None]:
    """Largest absolute difference (NaNs at the same place are equal) and SQNR in dB."""
    reference, result = (np.asarray(a, np.float64).reshape(-1) for a in (reference, result))
    with np.errstate(invalid="ignore"):
        difference = np.abs(result - reference)
    difference[(result == reference) | (np.isnan(result) & np.isnan(reference))] = 0.0
    return {"max_abs_err": float(difference.max(initial=0.0)), "sqnr_db": sqnr_db(reference, result)}


def weight_sqnr(before: ir.Graph, after: ir.Graph) -> dict[str, np.ndarray]:
    """dB per output channel of every Conv and Linear, by layer name: a lowered graph against itself quantised."""
    result = {}
    for node in before.nodes:
        q = after.node(node.name) if isinstance(node, ir.Weighted) else None
        if isinstance(node, ir.Weighted) and isinstance(q, ir.Weighted) and q.scale is not None:
            per_channel = q.scale.reshape(-1, *[1] * (node.weight.ndim - 1)).astype(np.float64)
            result[node.name] = np.asarray(sqnr(node.weight, q.weight * per_channel, axis=0))
    return result


def activation_sqnr(reference: dict[str, np.ndarray], quantised: dict[str, np.ndarray]) -> dict[str, float]:
    """dB of every layer's output: the taps (`GraphModule.forward`, by layer name) of two models on one input."""
    return {name: float(sqnr(tap, quantised[name])) for name, tap in reference.items() if name in quantised}


def worst_channels(per_channel: dict[str, np.ndarray], count: int = 10) -> list[tuple[str, int, float]]:
    """(layer, channel, dB) of the `count` channels with the lowest ratio, worst first."""
    rows = [(name, c, float(v)) for name, values in per_channel.items() for c, v in enumerate(values)]
    return sorted(rows, key=lambda row: row[2])[:count]


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Fraction, 0..1, of rows of `scores` (N, classes) whose largest entry is at `labels` (N,)."""
    return _mean(np.asarray(scores).argmax(axis=1) == np.asarray(labels))


def agreement(scores: np.ndarray, others: np.ndarray) -> float:
    """Fraction, 0..1, of rows for which two models choose the same class."""
    return _mean(np.asarray(scores).argmax(axis=1) == np.asarray(others).argmax(axis=1))


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a positive (label 1) scores above a negative (label 0), a tie
    counting half (the Mann-Whitney statistic). Raises HeepgenError when one of the two kinds is missing or a score is
    not a number."""
    scores, positive = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    if np.isnan(scores).any():
        raise HeepgenError("the area under the ROC curve is not defined: a score is NaN")
    high, low = scores[positive], np.sort(scores[~positive])
    if not len(high) or not len(low):
        raise HeepgenError("the area under the ROC curve needs samples with label 1 and samples with label 0")
    below = np.searchsorted(low, high, side="left") + np.searchsorted(low, high, side="right")
    return float(below.sum() / (2 * len(high) * len(low)))


def reconstruction_error(inputs: np.ndarray, outputs: np.ndarray, clip: int = 1) -> np.ndarray:
    """Mean squared error of an autoencoder, averaged over `clip` consecutive rows: (N, F) twice -> (N / clip,)."""
    difference = np.asarray(outputs, np.float64) - np.asarray(inputs, np.float64)
    error = (difference.reshape(len(difference), -1) ** 2).mean(axis=1)
    if len(error) % clip:
        raise HeepgenError(f"{len(error)} rows are not a multiple of {clip}, the rows of a clip")
    return np.asarray(error.reshape(-1, clip).mean(axis=1))


def decibels(value: float) -> str:
    """For tables: "43.1 dB", or "exact"."""
    return "exact" if math.isinf(value) and value > 0 else f"{value:.1f} dB"


def _mean(hits: Iterable[bool]) -> float:
    hits = np.asarray(hits)
    if not hits.size:
        raise HeepgenError("there are no samples to measure with")
    return float(hits.mean())

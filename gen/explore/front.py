# SPDX-License-Identifier: Apache-2.0
"""Pareto fronts: what nothing else is at least as good as in everything."""

import numpy as np


def dominated_by(costs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which rows of `costs` (N, axes) some row of `others` (M, axes) is at least as good as on every axis, and better
    on one: (N,) bool. Less is better."""
    result = np.zeros(len(costs), bool)
    for other in others:
        result |= (other <= costs).all(axis=1) & (other < costs).any(axis=1)
    return result


def front(costs: np.ndarray) -> np.ndarray:
    """Indices of the rows of `costs` (N, axes) that no other dominates, by the first axis; of equal ones all."""
    kept: list[int] = []
    for index in np.lexsort(costs.T[::-1]):  # what dominates a row comes before it
        row, best = costs[index], costs[kept]
        if not ((best <= row).all(axis=1) & (best < row).any(axis=1)).any():
            kept.append(int(index))
    return np.array(kept, int)

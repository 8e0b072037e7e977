# SPDX-License-Identifier: Apache-2.0
"""What the contract asks of an architecture's NumPy function, besides that it is what the hardware computes."""

import numpy as np

from gen.flows.check.draw import Draw
from gen.flows.check.subject import Subject
from hls.errors import HeepgenError

CASES = 60


def check(subject: Subject, draw: Draw) -> int:
    """Shape and type; the same result twice, for rows one by one, and for a view; unchanged inputs. Returns the number
    of cases; raises `HeepgenError` for the first that is wrong."""
    for _ in range(CASES):
        k, n = draw.matrix()
        m = draw.rows(k, n)
        a = draw.specials(m, k) if draw.chance(0.5) else draw.activations(m, k)
        b = draw.weights(k, n)
        _check_case(subject, a, b)
    return CASES


def _check_case(subject: Subject, a: np.ndarray, b: np.ndarray) -> None:
    (m, k), n = a.shape, b.shape[1]
    where = f"the NumPy function for m = {m}, k = {k}, n = {n}"
    given = a.copy(), b.copy()
    first = subject.compute(*given).copy()
    for name, before, after in zip("ab", (a, b), given, strict=True):
        if before.tobytes() != after.tobytes():
            raise HeepgenError(f"{where} changes its input {name}; copy it.")
    if _differ(subject.compute(a, b), first):
        raise HeepgenError(f"{where} gives another result the second time.")
    wide = np.zeros((m, k + 3), np.float32)
    wide[:, 2 : 2 + k] = a
    if _differ(subject.compute(wide[:, 2 : 2 + k], b), first):
        raise HeepgenError(f"{where} gives another result where a is a part of a larger array.")
    rows = np.concatenate([subject.compute(a[i : i + 1], b) for i in range(m)])
    if _differ(rows, first):
        raise HeepgenError(f"{where} gives another result for its rows one by one; a row may not depend on the others.")


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    return one.astype(np.float32).tobytes() != other.astype(np.float32).tobytes()

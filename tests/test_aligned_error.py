# SPDX-License-Identifier: Apache-2.0
"""The bound of `aligned`'s error: never exceeded, against exact integers, and reached within a small factor."""

from fractions import Fraction

import numpy as np
import pytest
from array_stimulus import vectors
from fp32_reference import to_exact
from hypothesis import given, settings
from hypothesis import strategies as st

from hls.arithmetic.accumulator import accumulate_model
from hls.arithmetic.aligned_error import error_bound
from hls.arithmetic.aligned_model import aligned_model

LARGEST = np.float32(np.finfo(np.float32).max)


def array_sum(x, w, rows):
    """What the accelerator makes of x [N, K] and w [K, C]: blocks, and FP32 additions over them; uint32."""
    total = None
    for k in range(0, x.shape[1], rows):
        part = aligned_model(x[:, k : k + rows].view(np.uint32), w[k : k + rows])
        total = part if total is None else accumulate_model(total, part, first=False, max_mode=False)
    return total


def exact_error(x, w, result):
    """|result - sum x w| of one output, in units of 2**-149: Python's integers."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return abs(to_exact(int(result)) - sum(to_exact(int(v)) * int(k) for v, k in zip(bits, w, strict=True)))


def ratios(x, w, rows):
    """Error / bound of every output, as floats; raises where the bound is exceeded."""
    result, bound = array_sum(x, w, rows), error_bound(x, w, rows)
    found = np.zeros(bound.shape)
    for n, c in np.ndindex(bound.shape):
        if np.isinf(bound[n, c]):
            continue
        assert result[n, c] & 0x7F800000 != 0x7F800000, (x[n], w[:, c])
        error, limit = exact_error(x[n], w[:, c], result[n, c]), Fraction(bound[n, c]) * 2**149
        assert error <= limit, (x[n].view(np.uint32), w[:, c], float(error), float(limit))
        found[n, c] = error / limit if error else 0
    return found


def one(x, w, rows):
    """(result, ratio) of a single output."""
    x, w = np.array([x], np.float32), np.array(w, np.int8)[:, None]
    return array_sum(x, w, rows).view(np.float32)[0, 0], ratios(x, w, rows)[0, 0]


def lanes_near(window):
    """Lanes whose exponents lie within `window` of a common one, which may be the least or the largest."""
    fraction = st.one_of(st.integers(0, 0x7FFFFF), st.sampled_from([0, 1, 0x400000, 0x7FFFFF]))
    lane = st.tuples(st.booleans(), st.integers(0, window), fraction)
    top = st.sampled_from([1, 3, 26, 28, 29, 127, 200, 250, 253, 254])
    return st.builds(
        lambda top, lanes: [s << 31 | max(top - d, 0) << 23 | f for s, d, f in lanes],
        top,
        st.lists(lane, min_size=1, max_size=9),
    )


@settings(max_examples=600)
@given(st.one_of(lanes_near(2), lanes_near(30), lanes_near(255)), st.integers(1, 9), st.data())
def test_bound_holds(lanes, rows, data):
    w = data.draw(
        st.lists(
            st.one_of(st.sampled_from([-128, -1, 0, 1, 127]), st.integers(-128, 127)),
            min_size=len(lanes),
            max_size=len(lanes),
        )
    )
    ratios(np.array([lanes], np.uint32).view(np.float32), np.array(w, np.int8)[:, None], rows)


@pytest.mark.parametrize("rows, k", [(1, 6), (4, 4), (8, 40), (16, 33)])
def test_bound_holds_on_stimulus_of_the_array(rows, k):
    rng = np.random.default_rng(k)
    x = np.concatenate([vectors(rng, 300, rows) for _ in range(-(-k // rows))], axis=1)[:, :k]
    w = rng.integers(-128, 128, (k, 2)).astype(np.int8)
    w[rng.random(w.shape) < 0.3] = 0
    found = ratios(x.view(np.float32), w, rows)
    assert (found > 0).mean() > 0.2


def test_cancelling_pair_reaches_it():
    result, ratio = one([2**26, 2**26, 0.25, 0.25], [1, -1, 100, 100], 4)
    assert result == 0 and ratio > 0.999999


def test_huge_lane_with_weight_zero_reaches_it():
    result, ratio = one([2**60, 1, -3, 5], [0, 7, -1, 9], 4)
    assert result == 0 and ratio > 0.7  # 55 of 7 + 3 + 45, had the signs been equal
    assert one([2**60, 1, 3, 5], [0, 7, 1, 9], 4)[1] > 0.999999


def test_edge_of_the_window():
    """Below the largest exponent: two places cost nothing, of three half a unit, and 27 are the last to round up."""
    fraction = np.float32(2 - 2**-23)
    assert one([1, fraction * 2**-2], [1, 0], 2) == (1, 0)
    for places in range(3, 26):
        odd = np.float32((1 + 2**-23) * 2.0**-places)
        x = np.array([[1, odd]], np.float32)
        assert error_bound(x, np.array([[0], [1]], np.int8), 2)[0, 0] >= 2.0**-26
    tie = [1, *[np.float32(2**-26)] * 3]  # half a unit of 2**-25, away from zero
    assert one(tie, [0, 127, 127, 127], 4)[1] > 0.999
    assert one([1, np.float32(2**-26 * (1 - 2**-24)), 0, 0], [0, 127, 0, 0], 4)[1] > 0.999


def test_subnormals_lose_nothing():
    rng = np.random.default_rng(1)
    x = rng.integers(0, 1 << 25, (200, 8)).astype(np.uint32) >> rng.integers(0, 25, (200, 8)).astype(np.uint32)
    x |= rng.integers(0, 2, (200, 8)).astype(np.uint32) << 31
    w = rng.integers(-1, 2, (8, 3)).astype(np.int8)
    assert (x >> 23 & 255).max() == 3
    result = array_sum(x.view(np.float32), w, 4)
    for n, c in np.ndindex(result.shape):
        if result[n, c] >> 23 & 255 == 0:
            assert exact_error(x[n].view(np.float32), w[:, c], result[n, c]) == 0
    ratios(x.view(np.float32), w, 4)


def test_rounding_and_additions_reach_it():
    assert one([2**18, 1], [64, 1], 2)[1] > 0.99  # 2**24 + 1, a tie
    tie = [1, *[np.float32(2**-24)] * 7]  # each addition is a tie that goes back to 1
    result, ratio = one(tie, [1] * 8, 1)
    assert result == 1 and ratio > 0.8


def test_no_bound_where_sums_may_overflow_or_lanes_are_not_finite():
    w = np.array([[1], [1]], np.int8)
    for x in ([LARGEST, LARGEST], [np.inf, 1], [np.nan, 1]):
        assert np.isinf(error_bound(np.array([x], np.float32), w, 2)).all()
    assert one([LARGEST, -LARGEST], [1, 1], 2) == (0, 0)
    assert one([LARGEST, LARGEST * np.float32(2**-25)], [1, 0], 2)[0] == LARGEST


@pytest.mark.parametrize("rows, k", [(4, 4), (8, 8), (4, 12)])
def test_search_for_the_largest_ratio(rows, k):
    """Hill climbing over lanes and weights: the bound holds on the way, and the way ends close to it."""
    rng = np.random.default_rng(rows + k)

    def draw(n):
        sign, exponent = rng.integers(0, 2, (n, k)) << 31, rng.integers(100, 140, (n, k)) << 23
        return (sign | exponent | rng.integers(0, 1 << 23, (n, k))).astype(np.uint32)

    x, w = draw(60), rng.integers(-128, 128, (60, k)).astype(np.int8)
    best = np.zeros(60)
    for _ in range(60):
        candidate, weight = x.copy(), w.copy()
        where, new = rng.random(x.shape) < 0.3, draw(60)
        kind = rng.integers(0, 3, x.shape)
        candidate = np.where(where & (kind == 0), new, candidate)
        candidate = np.where(
            where & (kind == 1), (candidate + (rng.integers(-9, 10, x.shape) << 23)).astype(np.uint32), candidate
        )
        candidate = np.where(candidate >> 23 & 255 > 200, new, candidate)
        weight = np.where(rng.random(x.shape) < 0.3, rng.integers(-128, 128, x.shape), weight).astype(np.int8)
        found = np.array([ratios(v[None].view(np.float32), u[:, None], rows)[0, 0] for v, u in zip(candidate, weight)])
        better = found > best
        x, w, best = (
            np.where(better[:, None], candidate, x),
            np.where(better[:, None], weight, w),
            np.maximum(best, found),
        )
    assert best.max() > 0.7

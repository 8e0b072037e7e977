# SPDX-License-Identifier: Apache-2.0
"""`aligned` arithmetic: its NumPy model against exact rational arithmetic, its units against the model."""

from fractions import Fraction

import numpy as np
import pytest
from array_stimulus import fp32_values, vectors, weights
from myhdl import Signal, block, delay, instance, intbv

from hls.arithmetic.accumulator import accumulate_model
from hls.arithmetic.aligned import (
    ALIGN_STAGES,
    META_BITS,
    NORMALISE_LATENCY,
    align_lane,
    edge_latency,
    normaliser,
    precision_loss,
    psum_bits,
)
from hls.arithmetic.aligned_model import align_model, aligned_model
from hls.arithmetic.array import array_model

NAN, INF = 0x7FC00000, 0x7F800000


def round_fp32(x: Fraction) -> int:
    """Bits of x rounded to nearest even: by search for the exponent, no floating point involved."""
    sign, x = (1 << 31, -x) if x < 0 else (0, x)
    exponent = -149
    while x / Fraction(2) ** exponent >= 1 << 24:
        exponent += 1
    scaled = x / Fraction(2) ** exponent
    m = round(scaled)  # Python rounds halves to even
    if m == 1 << 24:
        m, exponent = m >> 1, exponent + 1
    bits = m if m < 1 << 23 else (exponent + 150 << 23) + m - (1 << 23)
    return sign | min(bits, INF)


def significand(bits: int) -> tuple[int, int, int]:
    """Sign, exponent of the last place, 24-bit significand of a finite FP32."""
    field = bits >> 23 & 255
    return (-1 if bits >> 31 else 1), max(field, 1) - 150, (bits & 0x7FFFFF) | (field > 0) << 23


def exact_column(v, w) -> int:
    """The definition in `aligned`, lane by lane in rational numbers."""
    if any(x >> 23 & 255 == 255 for x in v):
        return NAN
    parts = [significand(int(x)) for x in v]
    last_place = Fraction(2) ** (max(e for _, e, _ in parts) - 2)
    total = 0
    for (sign, e, m), weight in zip(parts, w):
        quotient = m * Fraction(2) ** e / last_place
        total += sign * int(quotient + Fraction(1, 2)) * int(weight)  # ties away from zero
    return round_fp32(total * last_place)


@pytest.mark.parametrize("rows", [1, 2, 7, 32])
def test_model_is_the_definition(rows):
    rng = np.random.default_rng(rows)
    v = vectors(rng, 600, rows)
    for _ in range(3):
        w = weights(rng, rows, 2)
        y = aligned_model(v, w)
        for n in range(len(v)):
            for c in range(2):
                assert y[n, c] == exact_column(v[n], w[:, c]), (v[n], w[:, c])


def test_diagonal_is_the_rounded_product():
    rng = np.random.default_rng(2)
    v = vectors(rng, 500, 4)
    w = weights(rng, 4, 3)
    y = aligned_model(v, w, diagonal=True)
    for n in range(len(v)):
        for c in range(3):
            x, k = int(v[n, c]), int(w[c, c])
            if x >> 23 & 255 == 255:
                infinite = x & 0x7FFFFF == 0 and k != 0
                expected = (INF | (k < 0) << 31) ^ (x & 1 << 31) if infinite else NAN
            else:
                sign, e, m = significand(x)
                expected = round_fp32(sign * m * k * Fraction(2) ** e)
            assert y[n, c] == expected, (hex(x), k)


def test_maximum_passes_lanes_unchanged():
    v = fp32_values(np.random.default_rng(3), (5000, 4))
    y = aligned_model(v, np.ones((4, 6), np.int8), diagonal=True, max_mode=True)
    number = (v & 0x7FFFFFFF) <= INF
    np.testing.assert_array_equal(y[:, :4][number], v[number])
    assert (y[:, :4][~number] == NAN).all() and not y[:, 4:].any()


def test_precision_loss_counts():
    def bits(*values):
        return np.array([values], np.float32).view(np.uint32)

    def counts(*values):
        lost, coarse = precision_loss(bits(*values))
        return int(lost[0]), int(coarse[0])

    assert counts(1, 1, 0, -0.0) == (0, 0)
    assert counts(1, 2**-10, 0, 0) == (0, 0) and counts(1, 2**-11, 0, 0) == (0, 1)
    assert counts(1, 2**-26, 0, 0) == (0, 1) and counts(1, -(2**-27), 2**-126, 0) == (2, 2)
    assert counts(np.inf, 2**-40, 0, 0) == (0, 0) and counts(1, np.nan, 2**-40, 0) == (0, 0)


def run(unit, inputs, outputs, latency, params, signals):
    """Outputs of a pipelined unit, `latency` cycles after each row of `inputs` (dict of arrays)."""
    ports = {name: Signal(value) for name, value in signals.items()}
    length = len(next(iter(inputs.values())))
    seen = []

    @block
    def bench():
        dut = unit(**ports, **params)

        @instance
        def drive():
            for t in range(length + latency):
                for name, values in inputs.items():
                    ports[name].next = int(values[min(t, length - 1)])
                yield delay(1)
                if t >= latency:
                    seen.append([int(ports[name]) for name in outputs])
                ports["clk"].next = True
                yield delay(1)
                ports["clk"].next = False
                yield delay(1)

        return dut, drive

    bench().run_sim(quiet=1)
    return np.array(seen)


def test_lanes_in_myhdl():
    rng = np.random.default_rng(4)
    v = vectors(rng, 4000, 2)
    aligned, exponent = align_model(v)
    some = v[:, 0] << np.uint32(1) != 0
    inputs = {"x": v[:, 0], "some": some, "exponent_max": exponent, "diag": rng.random(len(v)) < 0.2}
    signals = {
        "clk": False,
        "some": False,
        "some_out": False,
        "x": intbv(0)[32:],
        "exponent_max": intbv(0)[8:],
        "diag": False,
        "aligned": intbv(0)[27:],
        "lost": False,
        "coarse": False,
    }
    seen, moved = run(align_lane, inputs, ["aligned", "some_out"], ALIGN_STAGES, {}, signals).T
    np.testing.assert_array_equal(moved, some)
    assert not (seen[1:] != seen[:-1])[~some[1:]].any()  # a lane that is 0 stays as it was
    finite = some & (exponent != 255)
    dense = finite & ~inputs["diag"]
    np.testing.assert_array_equal(seen[dense], aligned[dense, 0].astype(int) & (1 << 27) - 1)
    for n in np.flatnonzero(finite & inputs["diag"]):
        sign, _, m = significand(int(v[n, 0]))
        assert seen[n] == 4 * sign * m & (1 << 27) - 1


def normaliser_corners(bits):
    """(sum, exponent, flag): every special exponent with sums at every power of two, ties, extremes and zero."""
    limit = (1 << bits - 1) - 1
    powers = [1 << k for k in range(bits - 1)]
    ties = [odd << k | 1 << k - 1 for k in range(1, bits - 25) for odd in (1 << 23, (1 << 23) + 1, (1 << 24) - 1)]
    sums = {
        0,
        limit,
        *powers,
        *(p - 1 for p in powers),
        *(p + 1 for p in powers if p < limit),
        *(t + d for t in ties for d in (-1, 0, 1)),
    }
    sums |= {-s for s in sums}
    exponents = [*range(1, 40), 127, 152, *range(250, 256)]
    near = [(s, e, f) for s in (0, 1, -limit) for e in exponents for f in (0, 1)]
    return near + [(s, e, f) for s in sorted(sums) for e, f in ((1, 0), (20, 1), (254, 0), (255, 0), (255, 1))]


@pytest.mark.parametrize("rows", [1, 8, 32])
def test_normaliser_in_myhdl(rows):
    """All corners, and random values."""
    rng = np.random.default_rng(rows)
    bits = psum_bits(rows)
    n = 1000
    limit = (1 << bits - 1) - 1
    psum = np.clip(rng.integers(-limit, limit, n) >> rng.integers(0, bits, n), -limit, limit)
    ties = rng.random(n) < 0.3
    psum[ties] = (psum[ties] | 1) << rng.integers(0, 12, ties.sum()) & limit >> 1
    exponent = np.where(rng.random(n) < 0.5, rng.integers(1, 256, n), rng.integers(1, 40, n))
    flag = rng.integers(0, 2, n)
    corners = np.array(normaliser_corners(bits))
    psum, exponent, flag = (np.append(c, d) for c, d in zip(corners.T, (psum, exponent, flag), strict=True))
    limits = intbv(0, min=-(1 << bits - 1), max=1 << bits - 1)
    signals = {
        "clk": False,
        "occupied": intbv(15)[NORMALISE_LATENCY:],
        "psum": limits,
        "meta": intbv(0)[META_BITS:],
        "y": intbv(0)[32:],
    }
    seen = run(
        normaliser, {"psum": psum, "meta": exponent | flag << 8}, ["y"], NORMALISE_LATENCY, {"rows": rows}, signals
    )[:, 0]
    for p, e, f, y in zip(psum.tolist(), exponent.tolist(), flag.tolist(), seen.tolist()):
        if e == 255:
            expected = NAN if p == 0 or not f else INF | (p < 0) << 31
        else:
            expected = f << 31 if p == 0 else round_fp32(p * Fraction(2) ** (e - 152))
        assert y == expected, (p, e, f, hex(y))


def test_latency_grows_with_the_exponent_tree():
    assert [edge_latency(n) for n in (1, 2, 4, 5, 16, 17, 32)] == [4, 4, 4, 5, 5, 6, 6]


# Accuracy of whole dot products, against float64


def errors(x, w, rows):
    """Errors in units of 2**-24 of sum |x w|: mean of the array (blocks of `rows`) and of sequential FP32."""
    exact = x.astype(np.float64) @ w.astype(np.float64)
    scale = np.abs(x).astype(np.float64) @ np.abs(w.astype(np.float64)) * 2.0**-24
    array = sequential = None
    for k in range(0, x.shape[1], rows):
        part = array_model(x[:, k : k + rows].view(np.uint32), w[k : k + rows], False, False, "aligned")
        array = part if array is None else accumulate_model(array, part, first=False, max_mode=False)
    sequential = np.zeros_like(exact, np.float32)
    for k in range(x.shape[1]):
        sequential += x[:, k, None] * w[k].astype(np.float32)
    return (np.mean(np.abs(a - exact) / scale) for a in (array.view(np.float32), sequential))


@pytest.mark.parametrize("kind", ["normal", "relu", "outlier"])
@pytest.mark.parametrize("k", [64, 256, 1024])
@pytest.mark.parametrize("rows", [8, 16])
def test_error_is_no_larger_than_that_of_sequential_fp32(rows, k, kind):
    rng = np.random.default_rng(k)
    x = rng.standard_normal((64, k)).astype(np.float32)
    if kind == "relu":
        x = np.maximum(x, 0)
    if kind == "outlier":
        x[rng.random(x.shape) < 0.01] *= 100
    w = rng.integers(-127, 128, (k, 32)).astype(np.int8)
    array, sequential = errors(x, w, rows)
    assert array <= sequential

# SPDX-License-Identifier: Apache-2.0
"""Metrics against values computed by hand or by other definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.models import metrics
from firmware_gen.passes import run_passes
from firmware_gen.passes.quantise import quantise
from hls.errors import HeepgenError


def test_sqnr_by_hand():
    assert metrics.sqnr([10.0, 0], [9.0, 0]) == pytest.approx(20)
    assert metrics.sqnr([3.0, 4.0], [3.0, 3.95]) == pytest.approx(40)
    assert metrics.sqnr([1.0], [1.0]) == np.inf and metrics.sqnr([0.0], [0.0]) == np.inf
    assert metrics.sqnr([0.0], [1.0]) == -np.inf
    per_column = metrics.sqnr(np.array([[1.0, 10], [1, 10]]), np.array([[1.0, 9], [1, 9]]), axis=1)
    assert per_column[0] == np.inf and per_column[1] == pytest.approx(20)


def test_ratios_of_reports():
    assert metrics.sqnr_db([10.0, 0], [9.0, 0]) == pytest.approx(20)
    assert metrics.sqnr_db([1.0, -2], [1.0, -2]) == np.inf
    assert metrics.sqnr_db([0.0], [1.0]) is metrics.sqnr_db([np.inf], [1.0]) is metrics.sqnr_db([1.0], [np.nan]) is None
    assert metrics.compare([[1.0, -2]], [[1.5, -2]]) == {
        "max_abs_err": 0.5,
        "sqnr_db": pytest.approx(10 * np.log10(5 / 0.25)),
    }


def test_sqnr_of_uniform_noise_is_that_of_the_textbook():
    """A full-scale uniform signal rounded to b bits: 6.02 b dB."""
    x = np.random.default_rng(0).uniform(-1, 1, 200_000)
    step = 2 / 2**8
    assert metrics.sqnr(x, np.round(x / step) * step) == pytest.approx(6.0206 * 8, abs=0.05)


def test_weight_sqnr_and_worst_channels():
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    model[0].weight.data = torch.tensor([[127.0, 1, 2, 3], [1.0, 0.003, 0, 0], [0, 0, 0, 0]])
    before = run_passes(import_model(model, (1, 4)))
    ratios = metrics.weight_sqnr(before, quantise(before))
    assert ratios["0"][0] == np.inf and ratios["0"][2] == np.inf
    scale = 130 / 2**14  # the next bfloat16 above 1 / 127
    error = (1 - 126 * scale) ** 2 + float(np.float32(0.003)) ** 2
    assert ratios["0"][1] == pytest.approx(10 * np.log10((1 + 0.003**2) / error), abs=1e-4)
    assert metrics.worst_channels(ratios, 1) == [("0", 1, float(ratios["0"][1]))]


def test_activation_sqnr():
    taps = {"a": np.array([10.0]), "b": np.array([1.0])}
    assert metrics.activation_sqnr(taps, {"a": np.array([9.0])}) == {"a": pytest.approx(20)}


def test_accuracy_and_agreement():
    scores, others = np.array([[1, 2], [3, 0], [0, 1]]), np.array([[0, 2], [0, 3], [0, 1]])
    assert metrics.accuracy(scores, [1, 1, 1]) == pytest.approx(2 / 3)
    assert metrics.agreement(scores, others) == pytest.approx(2 / 3)
    with pytest.raises(HeepgenError, match="no samples"):
        metrics.accuracy(np.zeros((0, 2)), [])


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_auc_equals_scikit_learns(pairs):
    scores, labels = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    if labels.all() or not labels.any():
        with pytest.raises(HeepgenError, match="label 1 and samples with label 0"):
            metrics.auc(scores, labels)
    else:
        assert metrics.auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))


def test_auc_refuses_nan():
    with pytest.raises(HeepgenError, match="NaN"):
        metrics.auc([np.nan, 1], [0, 1])


def test_reconstruction_error():
    x, y = np.zeros((4, 2)), np.array([[1.0, 1], [3, 3], [0, 0], [0, 2]])
    np.testing.assert_array_equal(metrics.reconstruction_error(x, y), [1, 9, 0, 2])
    np.testing.assert_array_equal(metrics.reconstruction_error(x, y, clip=2), [5, 1])
    with pytest.raises(HeepgenError, match="multiple of 3"):
        metrics.reconstruction_error(x, y, clip=3)


def test_decibels():
    assert metrics.decibels(43.06) == "43.1 dB" and metrics.decibels(np.inf) == "exact"

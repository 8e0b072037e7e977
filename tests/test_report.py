# SPDX-License-Identifier: Apache-2.0
"""Run reports: table and JSON of synthetic measurements, against numbers worked out by hand."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from firmware_gen.models.metrics import sqnr_db
from gen.results.result import to_json
from gen.results.run import LayerReport, OutputReport, RunReport

CONV = LayerReport(
    "features.0",
    "conv2d",
    (1, 16, 11, 11),
    macs=30_976,
    cycles=800,
    bound_cycles=500,
    bus_words=900,
    array_cycles=480,
    load_stall_cycles=120,
    store_stall_cycles=7,
    max_abs_err=1.5e-6,
    sqnr_db=123.4,
)
SOFTMAX = LayerReport("softmax", "softmax", (1, 10), macs=0, cycles=150, cpu_cycles=150)


OUTPUT = OutputReport("softmax", (1, 2), [0.1, 0.9], None, True, 2e-6, 99.9)


def run_report(output=None, **changes):
    """A report, with some fields of its only output and of itself changed."""
    values = {
        "network": "digits",
        "geometry": "8x8 aligned, 2 ports",
        "peak": 64,
        "total_cycles": 1000,
        "results": (replace(OUTPUT, **(output or {})),),
        "layers": (CONV, SOFTMAX),
    }
    return RunReport(**(values | changes))


def rendered(report):
    out = io.StringIO()
    Console(file=out, width=160).print(report.table())
    return out.getvalue()


def row(report, name):
    return next(line for line in rendered(report).splitlines() if line.strip().startswith(name)).split()


def test_row_of_an_accelerated_layer():
    assert row(run_report(), "features.0") == [
        "features.0",
        "conv2d",
        "1x16x11x11",
        "30,976",
        "800",
        "80.0",
        "38.72",
        "60.5",
        "500",
        "1.60",
        "120",
        "7",
        "-",
        "1.50e-06",
        "123.4",
    ]


def test_row_of_a_cpu_layer_shows_no_bound():
    assert row(run_report(), "softmax") == [
        "softmax",
        "softmax",
        "1x10",
        "-",
        "150",
        "15.0",
        *"------",
        "150",
        "-",
        "-",
    ]


def test_totals_count_every_cycle_once():
    report = run_report()
    assert report.cpu_cycles == 200  # 1000 of which the convolution ran 800
    assert row(report, "total") == [
        "total",
        "1x2",
        "30,976",
        "1,000",
        "100.0",
        "30.98",
        "48.4",
        "500",
        "2.00",
        "120",
        "7",
        "200",
        "2.00e-06",
        "99.9",
    ]


def test_verdict_and_warnings():
    assert "every bit equals" in rendered(run_report())
    assert "DIFFERS" in rendered(run_report({"bit_exact": False}))
    quiet, lossy = (
        LayerReport(name, "conv2d", (1,), 1, 1, lanes_lost=9, alignment_loss=loss)
        for name, loss in (("fc", 2.0**-12), ("conv", 2.0**-11))
    )
    report = run_report(layers=(lossy, quiet))
    assert rendered(report).count("conv: aligned arithmetic loses 4.9e-04 of a channel's largest output") == 1
    assert json.loads(to_json(report))["warnings"] == report.warnings and len(report.warnings) == 1
    assert "CPU only, 3 wait states" in rendered(run_report(software=True, wait_states=3))


def test_tapped_tensors_are_shown_and_what_they_cost_is_said():
    taps = {"conv1": [0.5, -2.0, math.nan, *[0.25] * 20], "empty": [math.inf]}
    text = rendered(replace(run_report(), taps=taps))
    assert "tap conv1: 23 values, -2 to 0.5: 0.5, -2, nan, 0.25, 0.25, 0.25, 0.25, 0.25, ..." in text
    assert "tap empty: 1 values: inf" in text and "a run without it takes other cycles" in text
    assert "--tap" not in rendered(run_report())


def test_predictions_are_the_largest_of_every_row():
    report = run_report({"values": [0.1, 0.9, 0.8, 0.2], "reference": [0.2, 0.8, 0.4, 0.6], "shape": (2, 2)})
    assert report.first.predictions == ([1, 0], [1, 1])
    assert "device 1 0, PyTorch 1 1" in rendered(report)
    assert replace(OUTPUT, values=[0.5], reference=[0.5], shape=(1, 1)).predictions is None


def test_several_outputs_each_have_their_line_and_all_must_be_exact():
    second = OutputReport("stem", (1, 2, 1, 2), [4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 1.0, 2.0], False, 1.0, 11.8)
    report = run_report(results=(OUTPUT, second))
    assert not report.bit_exact and [output.shape for output in report.outputs] == [(1, 2), (1, 2, 1, 2)]
    text = rendered(report)
    assert "output 0 (softmax, 1x2): max error 2.00e-06, SQNR 99.9 dB" in text and "1x2, 1x2x1x2" in text
    assert "output 1 (stem, 1x2x1x2): max error 1.00e+00, SQNR 11.8 dB, DIFFERS" in text
    assert "output 1, largest value: device 0 0, PyTorch 0 1" in text and "device's output DIFFERS" in text
    data = json.loads(to_json(report))
    assert data["outputs"] == [0.1, 0.9] and data["output_layer"] == "softmax" and data["bit_exact"] is False
    assert data["further_outputs"] == [
        {
            "layer": "stem",
            "shape": [1, 2, 1, 2],
            "values": [4.0, 3.0, 2.0, 1.0],
            "reference": [4.0, 3.0, 1.0, 2.0],
            "bit_exact": False,
            "max_abs_err": 1.0,
            "sqnr_db": 11.8,
            "predictions": [[0, 0], [0, 1]],
        }
    ]


def test_json_holds_what_other_programs_read():
    data = json.loads(to_json(run_report()))
    assert data["total_cycles"] == 1000
    assert data["bit_exact"] is True
    assert data["outputs"] == [0.1, 0.9]
    assert data["output_shape"] == [1, 2]
    assert data["further_outputs"] == [] and "results" not in data
    assert data["max_abs_err"] == 2e-6
    assert data["layers"][0] == {
        "name": "features.0",
        "op": "conv2d",
        "shape": [1, 16, 11, 11],
        "macs": 30976,
        "cycles": 800,
        "bound_cycles": 500,
        "bus_words": 900,
        "array_cycles": 480,
        "load_stall_cycles": 120,
        "store_stall_cycles": 7,
        "cpu_cycles": 0,
        "lanes_lost": 0,
        "lanes_lossy": 0,
        "max_abs_err": 1.5e-6,
        "sqnr_db": 123.4,
        "alignment_loss": None,
    }


def test_json_is_standard_json_even_with_nan_and_infinity():
    def no_constants(name):
        raise AssertionError(f"{name} is not JSON")

    text = to_json(run_report({"values": [math.nan, math.inf, -math.inf, 1.0]}))
    outputs = json.loads(text, parse_constant=no_constants)["outputs"]
    assert np.array_equal(np.array([float(v) for v in outputs]), [np.nan, np.inf, -np.inf, 1.0], equal_nan=True)


def test_float32_outputs_survive_json_bit_for_bit():
    bits = np.random.default_rng(1).integers(0, 0x7F800000, 200, dtype=np.uint32)
    values = bits.view(np.float32)
    back = json.loads(to_json(run_report({"values": [float(v) for v in values]})))["outputs"]
    assert np.array_equal(np.array(back, np.float32).view(np.uint32), bits)


def test_sqnr():
    signal = np.array([3.0, 4.0])
    assert sqnr_db(signal, signal + [0.05, 0.0]) == pytest.approx(40.0)  # 25 / 0.0025
    assert sqnr_db(signal, signal) == math.inf
    assert sqnr_db(np.zeros(2), np.ones(2)) is None
    assert sqnr_db(signal, [np.nan, 0.0]) is None

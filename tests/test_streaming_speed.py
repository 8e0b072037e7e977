# SPDX-License-Identifier: Apache-2.0
"""Whole inferences on the streaming accelerator: every bit, and how long they may take."""

import pytest
import torch

from examples.networks import NETWORKS
from gen.flows.measure.run import run
from gen.flows.network.estimate import estimate
from hls.streaming.config import StreamingConfig


@pytest.mark.parametrize(
    "name, limit",
    [
        ("mnist-single_layer", 13_800),
        pytest.param("fmnist-conv2d", 200_000, marks=pytest.mark.slow),
        pytest.param("cifar10-conv2d", 2_000_000, marks=pytest.mark.slow),
    ],
)
def test_inference_takes_no_more_cycles(name, limit, tmp_path):
    network = NETWORKS[name]
    torch.export.save(
        torch.export.export(network.build(), (torch.zeros(network.input_shape),)), tmp_path / "network.pt2"
    )
    report = run(tmp_path / "network.pt2", StreamingConfig()).to_dict()
    assert report["bit_exact"]
    assert report["total_cycles"] <= limit
    predicted = estimate(tmp_path / "network.pt2", StreamingConfig()).to_dict()
    for measured, layer in zip(report["layers"], predicted["layers"], strict=True):
        if measured["macs"]:
            assert abs(layer["cycles"] - measured["cycles"]) <= 0.2 * measured["cycles"], (layer, measured)

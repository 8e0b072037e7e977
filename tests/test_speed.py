# SPDX-License-Identifier: Apache-2.0
"""Compiled networks take the cycles that docs/performance.md says were measured: no choice gets worse unnoticed."""

import json
from pathlib import Path

import numpy as np
import pytest

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from firmware_gen.targets.descriptor.estimate import descriptor_cycles
from hls.config import Config

MEASURED = {
    (m["network"], m["geometry"]): m
    for m in json.loads((Path(__file__).parent.parent / "docs" / "performance.json").read_text())["measurements"]
}
OFF = 3
"""Cycles by which the cycle model and a measurement of a whole network may differ."""


@pytest.mark.parametrize(
    "name, config",
    [
        ("fmnist-conv2d", Config()),
        ("ds-cnn", Config()),
        ("resnet8", Config()),
        ("ds-cnn", Config(16, 16, ports=4)),
        ("cifar10-conv2d", Config(4, 4, ports=1)),
        pytest.param("mobilenet-v1-0.25", Config(), marks=pytest.mark.slow),
        pytest.param("fc-autoencoder", Config(16, 16, ports=4), marks=pytest.mark.slow),
    ],
)
def test_cycles_are_those_that_were_measured(name, config):
    network = NETWORKS[name]
    x = np.zeros(network.input_shape, np.float32)
    program = CodeGenerator(network.build().eval(), x, None, config).program()
    measured = MEASURED[name, f"{config.rows}x{config.cols}p{config.ports}"]
    cycles = sum(layer.cycles for layer in descriptor_cycles(program))
    assert abs(cycles - (measured["cycles"] - measured["cpu_cycles"])) <= OFF, "make bench, if this is wanted"

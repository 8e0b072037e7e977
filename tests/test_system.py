# SPDX-License-Identifier: Apache-2.0
"""Random networks on random geometries: bit-exact model against PyTorch, SoC against bit-exact model."""

import numpy as np
import pytest
import torch

from firmware_gen import CodeGenerator
from gen.flows.measure.run import run
from hls.config import Config
from tests import bounds
from tests.random_networks import random_network

# Largest error of an output, in units of the largest output (at least 1): INT8 weights are exact on both sides, so
# only the rounding of sums differs. Twelve layers, each within a few units of 2^-24 of its own largest output.
BOUND = 2.0**-18


def drawn(seed):
    """A network and a configuration for it."""
    rng = np.random.default_rng([seed, 7])
    config = Config(
        int(rng.integers(1, 17)),
        int(rng.integers(1, 17)),
        str(rng.choice(["aligned", "fma"])),
        int(rng.integers(1, 5)),
        activation_words=int(rng.choice([256, 1024, 8192])),
        weight_bytes=int(rng.choice([256, 4096])),
        accumulator_entries=int(rng.choice([16, 64])),
    )
    return random_network(seed), config


def error(got, exact):
    return np.abs(got - exact).max() / max(1.0, np.abs(exact).max())


def bound(generator):
    """And what tables are off: softmax of several rows has one."""
    return BOUND + bounds.of_tables(generator.lowered)


def exact_output(generator, x):
    """What the quantised network computes in float64."""
    with torch.no_grad():
        return generator.quantized_model().double()(x.double()).numpy()


@pytest.mark.parametrize("seed", [*range(16), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(16, 200))])
def test_bit_exact_model_computes_what_pytorch_does(seed):
    network, config = drawn(seed)
    generator = CodeGenerator(network.model, network.x, config=config)
    assert error(generator.reference().output, exact_output(generator, network.x)) < bound(generator), config


SOC = [
    Config(4, 4, ports=2),
    Config(5, 3, "fma", 3, activation_words=256, weight_bytes=256, accumulator_entries=16),
    Config(1, 9, ports=1),
    Config(12, 8, ports=4),
]
QUICK = [(0, 0), (0, 1), (0, 2), (1, 3), (1, 4), (1, 5)]
SLOW = [(index, 6 + 4 * number + index) for index in range(len(SOC)) for number in range(8)]


@pytest.mark.parametrize("index, seed", [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)])
def test_firmware_and_hardware_give_the_models_bits(index, seed, tmp_path):
    network, config = random_network(seed), SOC[index]
    model = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(network.model, (network.x,)), model)
    np.save(tmp_path / "x.npy", network.x.numpy())
    report = run(model, config, input_path=tmp_path / "x.npy")
    assert report.bit_exact
    generator = CodeGenerator(network.model, network.x, config=config)
    exact = exact_output(generator, network.x)
    assert report.outputs[0].shape == exact.shape
    assert error(report.outputs[0], exact) < bound(generator)
    vectors, words = (sum(getattr(layer, name) for layer in report.layers) for name in ("array_cycles", "bus_words"))
    assert report.total_cycles >= max(vectors, words / config.ports)

# SPDX-License-Identifier: Apache-2.0
"""Random networks with branches on random geometries: bit-exact model against PyTorch, shared memory against memory of
its own for every value, software kernels, SoC against bit-exact model. `make fuzz` runs thousands."""

import os

import numpy as np
import pytest
import torch

from firmware_gen import CodeGenerator
from firmware_gen.targets.calls import model
from firmware_gen.targets.calls.calls import software_calls
from firmware_gen.targets.descriptor.compiler import in_memory
from gen.flows.measure.run import run
from hls.config import Config
from tests import bounds
from tests.random_networks import outputs, random_network

# Largest error of an output, in units of the largest output (at least 1). INT8 weights are exact on both sides, so only
# roundings differ: a few units of 2^-24 of the largest value of each of up to 12 steps, which BatchNorms and sums of
# branches may double and Softmax adds one or two to; and what the tables of functions are off.
BOUND = 2.0**-16


def bound(generator):
    return BOUND + bounds.of_tables(generator.lowered)


NETWORKS = int(os.environ.get("HEEPGEN_FUZZ", 200))
QUICK = 30


def drawn(seed):
    """A network and a configuration for it."""
    rng = np.random.default_rng([seed, 11])
    config = Config(
        int(rng.integers(1, 33)),
        int(rng.integers(1, 33)),
        str(rng.choice(["aligned", "fma"])),
        int(rng.integers(1, 5)),
        activation_words=int(rng.choice([256, 1024, 8192])),
        weight_bytes=int(rng.choice([1024, 4096])),
        accumulator_entries=int(rng.choice([16, 64])),
        memory_banks=32,
    )
    return network(seed), config


def network(seed):
    return random_network(seed, "dag", max_depth=10, max_size=9)


def error(got, exact):
    """Largest error of any output."""
    return max(
        np.abs(a.reshape(b.shape) - b).max() / max(1.0, np.abs(b).max()) for a, b in zip(got, exact, strict=True)
    )


def exact_outputs(generator, x):
    """What the quantised network computes in float64."""
    with torch.no_grad():
        return [output.numpy() for output in outputs(generator.quantized_model().double()(x.double()))]


@pytest.mark.parametrize(
    "seed", [*range(QUICK), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(QUICK, NETWORKS))]
)
def test_numpy_models_compute_what_pytorch_does(seed):
    net, config = drawn(seed)
    generator = CodeGenerator(net.model, net.x, config=config)
    exact = exact_outputs(generator, net.x)
    got = generator.reference().outputs
    assert error(got, exact) < bound(generator), config
    program = generator.program()
    assert all(tensor.size == tensor.extent - tensor.offset and not tensor.channels_last for tensor in program.outputs)
    on_cpu = model.run(software_calls(in_memory(program)), net.x.numpy()).outputs
    assert error(on_cpu, exact) < bound(generator)
    alone = CodeGenerator(net.model, net.x, config=config, keep_activations=True).reference().outputs
    assert all(np.array_equal(a.view(np.uint32), b.view(np.uint32)) for a, b in zip(got, alone, strict=True)), config


SOC = [
    Config(4, 4, ports=2),
    Config(5, 3, "fma", 3, activation_words=256, weight_bytes=256, accumulator_entries=16),
    Config(12, 8, ports=4),
]
CASES = [(config, seed) for config in range(len(SOC)) for seed in range(7 * config, 7 * config + 7)]


@pytest.mark.parametrize(
    "index, seed", [case if case[1] in (0, 1, 7, 10) else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]
)
def test_firmware_and_hardware_give_the_models_bits(index, seed, tmp_path):
    net, config = network(10_000 + seed), SOC[index]
    torch.export.save(torch.export.export(net.model, (net.x,)), tmp_path / "net.pt2")
    np.save(tmp_path / "x.npy", net.x.numpy())
    report = run(tmp_path / "net.pt2", config, input_path=tmp_path / "x.npy")
    assert report.bit_exact
    generator = CodeGenerator(net.model, net.x, config=config)
    exact = exact_outputs(generator, net.x)
    assert [result.shape for result in report.results] == [output.shape for output in exact]
    assert error([np.array(result.values) for result in report.results], exact) < bound(generator)

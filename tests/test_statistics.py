# SPDX-License-Identifier: Apache-2.0
"""Softmax and norms whose steps the array computes, against PyTorch and against the CPU's own kernels."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from firmware_gen import CodeGenerator, ir
from firmware_gen.passes.statistics import LONGEST
from gen.flows.measure.run import run
from hls.config import Config


class Part(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x * 2)


def exact_norm(rng: np.random.Generator, *shape: int) -> nn.LayerNorm:
    norm = nn.LayerNorm(shape)
    norm.weight.data = torch.from_numpy(rng.uniform(0.5, 1.5, shape).astype(np.float32))
    norm.bias.data = torch.from_numpy(rng.normal(0, 0.2, shape).astype(np.float32))
    return norm


def drawn(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A softmax or norm of many rows, and the shape of its input."""
    rng = np.random.default_rng(seed)
    a, b, c = (int(n) for n in rng.integers((2, 8, 17), (5, 14, 40)))
    return [
        (Part(lambda x: x.softmax(-1)), (a, b, c)),
        (Part(lambda x: x.softmax(1)), (1, a, b, c)),
        (Part(lambda x: x.softmax(-1)), (1, a, b, c)),
        (Part(lambda x: x.softmax(-1)), (3, 2 * LONGEST + 10)),
        (exact_norm(rng, c), (a, b, c)),
        (exact_norm(rng, b, c), (a, b, c)),
        (nn.RMSNorm(c, eps=1e-3), (b * a, c)),
        (nn.GroupNorm(2, 2 * a), (1, 2 * a, b, c)),
        (nn.InstanceNorm2d(a), (2, a, b, c)),
        (nn.Sequential(nn.Linear(c, 24), exact_norm(rng, 24), nn.Linear(24, 5)), (a * b, c)),
    ][seed % 10]


@pytest.mark.parametrize("seed", range(20))
def test_many_rows_are_the_arrays(seed):
    torch.manual_seed(seed)
    model, shape = drawn(seed)
    x = torch.randn(*shape) * 3 + 1
    config = [Config(), Config(4, 4, ports=1), Config(5, 3, ports=2, activation_words=256)][seed % 3]
    generator = CodeGenerator(model.eval(), x, config=config)
    assert not any(isinstance(node, ir.Softmax | ir.Normalise) for node in generator.lowered.nodes)
    got = generator.reference().output
    with torch.no_grad():
        want = model.double()(x.double()).numpy()
    error = np.abs(got - want).max() / np.abs(want).max()
    assert error < (0.03 if isinstance(model, nn.Sequential) else 2**-14)
    if isinstance(model, Part):
        axis = 1 if seed % 10 == 1 else -1
        np.testing.assert_allclose(got.sum(axis), 1, atol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_channels_wherever_they_lie(seed):
    """Of the input itself, and of what layers before and behind lay out in their own way."""
    torch.manual_seed(seed)
    batch, channels, high, wide = (int(n) for n in np.random.default_rng(seed).integers((1, 3, 3, 4), (4, 9, 8, 9)))
    first = [nn.Identity(), nn.Conv2d(channels, channels, 1), nn.Upsample(scale_factor=2)][seed % 3]
    last = [nn.Identity(), nn.Flatten(), nn.MaxPool2d(2), nn.Softmax(1)][seed % 4]
    model = nn.Sequential(first, nn.Softmax(1), last).eval()
    x = torch.randn(batch, channels, high, wide) * 3
    generator = CodeGenerator(model, x)
    with torch.no_grad():
        want = generator.quantized_model().double()(x.double()).numpy()
    np.testing.assert_allclose(generator.reference().output, want, rtol=0, atol=2**-13)


def test_few_rows_and_plain_hardware_are_the_cpus():
    model, x = nn.Sequential(nn.LayerNorm(20), nn.Softmax(-1)).eval(), torch.randn(1, 20)
    many = torch.randn(40, 20)
    for data, config in ((x, Config()), (many, Config(functions=False)), (many, Config(multiply=False))):
        graph = CodeGenerator(model, data, config=config).lowered
        assert sum(isinstance(node, ir.Softmax | ir.Normalise) for node in graph.nodes) == 2
    logarithm = CodeGenerator(Part(lambda y: y.softmax(-1).log()).eval(), many).lowered
    assert any(isinstance(node, ir.Softmax) for node in logarithm.nodes), "small probabilities stay exact"


def test_special_rows_are_pytorchs():
    """What a mask hides, rows of one number, large and infinite ones, and NaN."""
    x = np.random.default_rng(0).normal(0, 3, (40, 24)).astype(np.float32)
    x[0, 3:], x[1], x[2], x[3, 5], x[4, 7] = -1e30, -1e30, 2e19, np.nan, -np.inf
    x[5] = np.float32(1e30) * np.arange(24)
    data = torch.from_numpy(x)
    for function, relative in ((torch.softmax, 0), (torch.log_softmax, 1e-6)):
        model = Part(partial(function, dim=-1)).eval()
        with torch.no_grad():
            want = model(data).numpy()
        got = CodeGenerator(model, torch.zeros(40, 24)).reference(x).output
        np.testing.assert_allclose(got, want, rtol=relative, atol=2**-14)


@pytest.mark.slow
def test_the_hardware_gives_the_models_bits(tmp_path):
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
    model = nn.Sequential(nn.Linear(6, 16), encoder, nn.LogSoftmax(-1)).eval()
    torch.export.save(torch.export.export(model, (torch.randn(1, 14, 6),)), tmp_path / "net.pt2")
    config = Config(4, 4, ports=2)
    assert run(tmp_path / "net.pt2", config).bit_exact


def test_what_fits_no_other_way_is_the_cpus():
    """Its own kernels need no memory for what the array's passes leave between them."""
    x = torch.randn(320, 102)
    model = Part(nn.LayerNorm(102)).eval()
    configs = (Config(memory_banks=6, memory_banks_interleaved=(groups,)) for groups in (16, 8))
    roomy, tight = (CodeGenerator(model, x, config=config) for config in configs)
    roomy.program()
    tight.program()
    assert not any(isinstance(node, ir.Normalise) for node in roomy.graph.nodes)
    assert any(isinstance(node, ir.Normalise) for node in tight.graph.nodes)
    np.testing.assert_allclose(tight.reference().output, roomy.reference().output, rtol=0, atol=2**-14)


@pytest.mark.parametrize("seed", range(6))
def test_logarithms_of_many_rows_are_the_arrays(seed):
    torch.manual_seed(seed)
    a, b, c = (int(n) for n in np.random.default_rng([seed, 5]).integers((2, 8, 17), (5, 14, 40)))
    axis = 1 if seed % 3 == 1 else -1
    model, x = Part(lambda x: x.log_softmax(axis)).eval(), torch.randn(1, a, b, c) * (1, 3, 30)[seed % 3]
    generator = CodeGenerator(model, x, config=[Config(), Config(4, 4, ports=1)][seed % 2])
    assert not any(isinstance(node, ir.Softmax) for node in generator.lowered.nodes)
    got, want = generator.reference().output, (2 * x.double()).log_softmax(axis).numpy()
    np.testing.assert_allclose(got, want, rtol=2e-7, atol=2**-15)
    few = CodeGenerator(model, x[:, :1, :1, :8], config=Config()).lowered
    assert any(isinstance(node, ir.Softmax) for node in few.nodes) or axis == 1

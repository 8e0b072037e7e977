# SPDX-License-Identifier: Apache-2.0
"""Exponentials, logarithms, roots and quotients that are no function of a table, and what models write with them,
against PyTorch in float64: norms, statistics, softmax, powers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import CodeGenerator, ir
from firmware_gen.architectures.registry import find
from gen.flows.measure.run import run
from hls.config import Config

SMALL = Config(rows=4, cols=4, activation_words=256)


class Written(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def layer_norm(x, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + eps)


def softmax(x):
    powers = torch.exp(x - x.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def energies(x):
    """PCEN without its smoothing."""
    energy = x.abs()
    return (energy / (energy.mean(-1, keepdim=True) + 1e-6) ** 0.98 + 2) ** 0.5 - 2**0.5


ABOVE = 0.1
"""From 0, for what is steep there."""
NETWORKS = {
    "layer norm": (layer_norm, (1, 5, 8)),
    "RMS norm": (lambda x: x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6), (2, 7)),
    "softmax": (softmax, (1, 5, 7)),
    "log-sum-exp": (lambda x: x.exp().sum(1, keepdim=True).log(), (2, 3, 4, 5)),
    "channels of length 1": (F.normalize, (1, 6, 3, 4)),
    "sum of magnitudes 1": (lambda x: F.normalize(x, p=1.0, dim=-1), (2, 6)),
    "largest 1": (lambda x: x / torch.linalg.vector_norm(x, math.inf, -1, keepdim=True), (1, 4, 6)),
    "norm": (lambda x: x / x.norm(dim=1, keepdim=True).clamp(min=1e-3), (2, 5)),
    "statistics": (lambda x: torch.cat([x.mean(2), x.std(2), x.var(2, correction=0.5)], 1), (1, 6, 9)),
    "spread of space": (lambda x: x.std((2, 3), unbiased=False), (2, 3, 4, 3)),
    "five dimensions": (lambda x: x + x.var(-1, keepdim=True), (1, 2, 3, 2, 4)),
    "powers": (lambda x: torch.cat([x**4, x**7, (x + 1) ** 1, (x.abs() + ABOVE) ** -3], 1), (1, 6)),
    "roots": (lambda x: torch.cat([F.relu(x) ** 0.3, (x.abs() + ABOVE) ** -1.5, (x * x) ** 0.5], 1), (1, 3, 3, 3)),
    "quotients": (lambda x: torch.cat([x / (x * x + 1), 2 / (x.abs() + ABOVE)], 1), (2, 3, 4)),
    "whole numbers": (lambda x: torch.cat([x.floor() + (2 * x).ceil(), x.trunc() * x.round()], 1), (1, 7)),
    "waves": (lambda x: torch.cat([torch.sin(32 * x), torch.cos(x), torch.tan(x / 8)], 1), (1, 3, 5)),
    "small numbers": (lambda x: torch.cat([x.expm1(), x.abs().log1p()], 1), (1, 9)),
    "energies": (energies, (1, 4, 7)),
    "behind straight lines": (
        lambda x: torch.cat(
            [F.leaky_relu(x, 0.25).exp(), x.clamp(0.5, 2).log(), F.relu(x).sqrt(), 1 / x.clamp(1, 4)], 1
        ),
        (1, 3, 5, 4),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_models_write_out_is_what_pytorch_computes(name):
    function, shape = NETWORKS[name]
    x = torch.from_numpy(np.random.default_rng(3).normal(0, 2, shape).astype(np.float32))
    generator = CodeGenerator(Written(function), x, config=SMALL)
    got = generator.target.run(generator.program(), x.numpy()).output
    want = function(x.double()).numpy()
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6 * np.abs(want).max())


def test_outside_their_domain_they_are_what_pytorch_says():
    """NaN of negative numbers, infinities of 0, with their signs."""

    def functions(x):
        whole = [x.floor(), x.ceil(), x.trunc(), x.round(), x.sin(), x.cos()]
        parts = [x.exp(), x.log(), x.sqrt(), x.rsqrt(), x.reciprocal(), x.abs() ** 1.5, x**-0.5, x / x]
        return torch.cat(parts + whole, 1)

    x = torch.tensor([[0.0, -0.0, -1.0, 1e-37, 89.0, -110.0, math.inf, -math.inf, math.nan]])
    generator = CodeGenerator(Written(functions), x, config=SMALL)
    got = generator.target.run(generator.program(), x.numpy()).output
    want = functions(x).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=0)
    infinite = np.isinf(want)
    assert infinite.sum() > 10 and np.array_equal(got[infinite], want[infinite])


def test_one_over_a_root_is_one_function():
    model = Written(lambda x: x / torch.sqrt(x.square().mean(-1, keepdim=True) + 1e-6))
    lowered = CodeGenerator(model, (2, 7), config=SMALL).checked.lowered
    assert [str(n.function) for n in lowered.nodes if isinstance(n, ir.Elementary)] == ["rsqrt"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["descriptor", "cpu"])
def test_the_hardware_gives_the_models_bits(architecture, tmp_path):
    def functions(x):
        whole = [f(4 * x) for f in (torch.floor, torch.ceil, torch.trunc, torch.round)]
        return torch.cat(
            [softmax(x), layer_norm(x), F.normalize(x), (x.abs() + ABOVE) ** 1.5, *whole, torch.sin(9e5 * x), x.cos()],
            1,
        )

    x = torch.randn(2, 13, generator=torch.Generator().manual_seed(4))
    torch.export.save(torch.export.export(Written(functions), (x,)), tmp_path / "net.pt2")
    config = Config(4, 4) if architecture == "descriptor" else find(architecture).config()
    assert run(tmp_path / "net.pt2", config).bit_exact

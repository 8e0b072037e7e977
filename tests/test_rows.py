# SPDX-License-Identifier: Apache-2.0
"""Rows that nobody reads: what is not computed, and that the rest stays what it is."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import heepgen
from firmware_gen import CodeGenerator, ir


class Block(nn.Module):
    """A transformer's layer in one of its usual forms."""

    def __init__(self, width, heads, kind):
        super().__init__()
        self.heads, self.kind = heads, kind
        self.norm, self.last = (nn.RMSNorm if kind % 2 else nn.LayerNorm)(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        images, tokens, width = x.shape
        parts = self.project(self.norm(x)).view(images, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        if self.kind == 0:
            mixed = F.scaled_dot_product_attention(query, key, value)
        elif self.kind == 1:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            mixed = (query @ key.mT / math.sqrt(width // self.heads)).softmax(-1) @ value
        x = x + self.out(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.last(x))


class Classifier(nn.Module):
    def __init__(self, width, heads, kind, take):
        super().__init__()
        self.layers = nn.Sequential(Block(width, heads, kind), Block(width, heads, (kind + 1) % 3))
        self.norm, self.head, self.take = nn.LayerNorm(width), nn.Linear(width, 5), take

    def forward(self, x):
        return self.head(self.take(self.norm(self.layers(x))))


TAKES = [
    lambda x: x[:, 0],
    lambda x: x[:, -1],
    lambda x: x[:, 2:5],
    lambda x: x[:, 1::3].flatten(1, 2).reshape(len(x), -1, x.shape[-1]),
    lambda x: x[:, :1],
]


def outputs(model, x, **options):
    generator = CodeGenerator(model.eval(), x, **options)
    with torch.no_grad():
        want = generator.quantized_model().double()(x.double())
    return generator, generator.reference().output, want.numpy()


@pytest.mark.parametrize("seed", range(5))
def test_the_rows_that_are_read_have_their_values(seed):
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    tokens, heads, batch = int(random.integers(6, 14)), int(random.integers(1, 4)), 1 + seed % 2
    width = 8 * heads
    model = Classifier(width, heads, seed % 3, TAKES[seed % 5])
    generator, got, want = outputs(model, torch.randn(batch, tokens, width))
    assert np.abs(got - want).max() < 2e-3 * np.abs(want).max()
    rows = np.arange(batch * tokens).repeat(width).reshape(batch, tokens, width)
    taken = np.unique(TAKES[seed % 5](torch.from_numpy(rows)).numpy())
    graph, spaced = generator.lowered, len(np.unique(np.diff(taken))) < 2
    last = [n for n in graph.nodes if isinstance(n, ir.Linear) and n.weight.shape == (width, 2 * width)]
    assert [graph.out_shape(n)[0] for n in last] == [batch * tokens, len(taken) if spaced else batch * tokens]


@pytest.mark.parametrize(
    "forward",
    [
        lambda own, x: (own(x)[:, 0], own(x).mean(1)),
        lambda own, x: own(x)[:, 0] + own(x)[:, 1],
        lambda own, x: own(x)[:, ::2, ::2],
        lambda own, x: own(x).transpose(1, 2)[:, 0],
        lambda own, x: (y := own(x), y[:, 0]),
        lambda own, x: own(x + torch.arange(42.0).reshape(1, 7, 6))[:, 3],
        lambda own, x: own(x).softmax(1)[:, 3],
        lambda own, x: own(x * x[:, :1])[:, 3],
        lambda own, x: own(x * x[..., :1])[:, 3:6],
        lambda own, x: torch.exp(own(x) * 0.1)[:, [1, 3]],
        lambda own, x: (own(x) @ own(x).mT)[:, 1:3],
        lambda own, x: (own(x).mT @ own(x))[:, 1],
        lambda own, x: (own(x) @ own(x).mT @ own(x))[:, 1],
        lambda own, x: (own(x) @ own(x).mT)[:, :, 2],
    ],
)
def test_what_else_reads_rows(forward):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x):
            return forward(lambda y: self.second(torch.relu(self.first(y))), x)

    torch.manual_seed(3)
    x = torch.randn(2, 7, 6)
    generator = CodeGenerator(Net().eval(), x)
    with torch.no_grad():
        wanted = generator.quantized_model().double()(x.double())
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    for got, want in zip(generator.reference().outputs, wanted, strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=0, atol=2e-4 * float(want.abs().max()))


@pytest.mark.slow
def test_the_hardware_has_the_models_bits():
    torch.manual_seed(1)
    assert heepgen.compile(Classifier(16, 2, 0, TAKES[1]).eval(), torch.randn(1, 9, 16)).run().bit_exact

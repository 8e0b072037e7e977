# SPDX-License-Identifier: Apache-2.0
"""Convolutions of one channel with rows of their input side by side: what the NumPy model computes of them."""

import numpy as np
import pytest
import torch
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.targets.descriptor.compiler import compile_graph
from firmware_gen.targets.descriptor.lowering import folded
from firmware_gen.targets.descriptor.reference import run
from hls.config import Config
from tests.test_order import follow

GEOMETRIES = [(8, 8, 2), (16, 16, 4), (12, 5, 3), (8, 4, 1)]


def drawn(rng, dilation=1):
    """A convolution of one channel, in front of another one, and its input: rows, padding and kernel of any parity."""
    stride = int(rng.integers(2, 4)), int(rng.integers(1, 3))
    kernel = stride[0] * int(rng.integers(1, 5)), int(rng.integers(1, 5))
    padding = stride[0] * int(rng.integers(0, kernel[0] // stride[0])) // 2 * 2, int(rng.integers(0, kernel[1]))
    padding = min(padding[0], kernel[0] // 2), padding[1] // 2
    first = nn.Conv2d(1, int(rng.integers(1, 20)), kernel, stride, padding, (dilation, 1))
    model = nn.Sequential(first, nn.ReLU(), nn.Conv2d(first.out_channels, 3, (2, 1)))
    height, width = (int(n) for n in rng.integers((dilation * kernel[0] + stride[0], kernel[1]), (30, 14)))
    return model.eval(), rng.standard_normal((1, 1, height, width)).astype(np.float32)


@pytest.mark.parametrize("seed, dilation", [*((seed, 1) for seed in range(24)), *((seed, 2) for seed in range(24, 32))])
def test_bits_are_near_pytorch_in_fewer_vectors(seed, dilation, monkeypatch):
    rng = np.random.default_rng([seed, 16])
    torch.manual_seed(seed)
    model, x = drawn(rng, dilation)
    rows, cols, ports = GEOMETRIES[seed % len(GEOMETRIES)]
    config = Config(rows=rows, cols=cols, ports=ports, arithmetic="fma" if seed % 3 == 2 else "aligned")
    generator = CodeGenerator(model, x, config=config)
    graph = generator.graph
    found = compile_graph(graph, config)
    monkeypatch.setattr(folded, "WORTH", 0)
    plain = compile_graph(graph, config)
    with torch.no_grad():
        exact = model.double()(torch.from_numpy(x).double()).numpy()
    results = []
    for program in (found, plain):
        follow(program)
        (y,) = run(program, [x], False).outputs
        results.append(y)
    spread = np.abs(exact).max()
    assert np.abs(results[0] - results[1]).max() < 1e-5 * spread
    assert np.abs(results[0] - exact).max() < 0.1 * spread
    counts = [sum(job.vectors for job in program.jobs) for program in (found, plain)]
    assert counts[0] <= counts[1]


@pytest.mark.parametrize(("height", "vectors"), [(48, 5 * 24), (49, 5 * 25)])
def test_rows_of_the_first_layer_of_keyword_spotting(height, vectors):
    """Of 10x4 taps, 4 of 8 lanes of a vector were used; of 49 rows the last one lies beside the one before it."""
    model = nn.Sequential(nn.ZeroPad2d((1, 1, 4, 4 + height % 2)), nn.Conv2d(1, 8, (10, 4), 2)).eval()
    x = np.zeros((1, 1, height, 10), np.float32)
    config = Config(rows=8, cols=8, ports=2)
    program = compile_graph(CodeGenerator(model, x, config=config).graph, config)
    assert sum(job.vectors for job in program.jobs) == 5 * vectors

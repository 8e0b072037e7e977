# SPDX-License-Identifier: Apache-2.0
"""Scales of 16 bits, two in a word: which layers have them, what they save, and the same numbers without the option."""

import pytest
import torch
from torch import nn

from firmware_gen import CodeGenerator
from gen.flows.measure.run import run
from hls.config import Config
from tests.random_networks import outputs, random_network

GEOMETRIES = [(4, 4, 1), (3, 5, 3), (8, 8, 2), (2, 7, 4), (5, 3, 4)]


def network():
    """A convolution, a grouped one, a depthwise one, and a Linear layer whose weights were rounded to a step of their
    own before."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Conv2d(10, 14, 1, groups=2), nn.Conv2d(14, 14, 3, groups=14)),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(126, 9)),
    ).eval()
    weight = torch.randint(-127, 128, (9, 126)).float()
    weight[:, 5] = 127
    model[6].weight.data = weight * 0.0123
    return model, torch.randn(1, 3, 10, 10)


def compiled(net, x, geometry, held):
    rows, cols, ports = geometry
    return CodeGenerator(net, x, config=Config(rows=rows, cols=cols, ports=ports, packed_scales=held))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_same_numbers_from_fewer_words(geometry):
    model, x = network()
    first, second = (compiled(model, x, geometry, held) for held in (True, False))
    assert first.reference().output.tobytes() == second.reference().output.tobytes()
    _, cols, ports = geometry
    rows = -(-cols // ports)
    packed = set()
    for one, other in zip(first.program().linked, second.program().linked, strict=True):
        assert not other.packed_scales
        if one.packed_scales:
            packed.add(one.cout)
            own = -(-min(geometry[:2]) // ports) if one.diagonal else rows
            assert one.param_words * 2 * own == other.param_words * (own + -(-own // 2))
        else:
            assert one.param_words == other.param_words
    assert {10, 7} <= packed and 9 not in packed


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_compute_the_same_without_the_option(seed):
    net = random_network(seed)
    first, second = (compiled(net.model, net.x, GEOMETRIES[seed], held) for held in (True, False))
    assert any(f.packed_scales for f in first.program().linked)
    for one, other in zip(outputs(first.reference().output), outputs(second.reference().output), strict=True):
        assert one.tobytes() == other.tobytes()


def test_bit_exact_on_the_hardware(tmp_path):
    model, x = network()
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "model.pt2")
    assert run(tmp_path / "model.pt2", Config(rows=4, cols=4, ports=1)).bit_exact

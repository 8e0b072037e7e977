# SPDX-License-Identifier: Apache-2.0
"""Models that hold INT8 weights and their scale: these are what the device computes with."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.ir import Scale


class Integers(nn.Module):
    """A Conv2d or Linear with int8 `codes`, times `scale`: a number, or one per output channel."""

    def __init__(self, codes: torch.Tensor, scale: torch.Tensor, scale_first: bool = False):
        super().__init__()
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.bias = nn.Parameter(torch.randn(len(codes)))
        self.scale_first = scale_first

    def forward(self, x):
        codes = self.codes.to(torch.float32)
        weight = self.scale * codes if self.scale_first else codes * self.scale
        return (F.conv2d if self.codes.ndim == 4 else F.linear)(x, weight, self.bias)


def random_codes(*shape: int, lowest: int = -127) -> torch.Tensor:
    """Not one of them is at the end of the range, so that a range of their own would give others."""
    return torch.randint(lowest, 100, shape, dtype=torch.int8).clamp(max=90)


def norm(channels: int, norm_class=nn.BatchNorm2d) -> nn.Module:
    """With negative factors too."""
    layer = norm_class(channels)
    nn.init.normal_(layer.weight)
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.1, 3)
    return layer


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_integers_stay_and_batchnorm_goes_into_their_scale(seed, per_channel):
    torch.manual_seed(seed)
    conv = Integers(random_codes(6, 2, 3, 3).clamp(min=-90), torch.rand(6, 1, 1, 1) / 50, scale_first=True)
    linear = Integers(random_codes(5, 96).clamp(min=-90), torch.rand(()) / 50)
    batchnorm = norm(6)
    model = nn.Sequential(conv, batchnorm, nn.ReLU(), nn.Flatten(), linear).eval()
    x = torch.randn(2, 2, 6, 6)
    generator = CodeGenerator(model, x, per_channel=per_channel)
    first, _, last = generator.graph.nodes
    np.testing.assert_array_equal(first.weight, conv.codes)
    np.testing.assert_array_equal(last.weight, linear.codes)
    np.testing.assert_array_equal(last.scale, linear.scale.expand(5))
    factor = batchnorm.weight / torch.sqrt(batchnorm.running_var + batchnorm.eps)
    np.testing.assert_allclose(first.scale, (conv.scale.flatten() * factor).detach(), rtol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(generator.reference().outputs[0], model(x), rtol=0, atol=1e-4)


def test_a_batchnorm_before_integers_stays_beside_them():
    torch.manual_seed(0)
    linear = Integers(random_codes(4, 7), torch.tensor(0.02))
    model, x = nn.Sequential(norm(7, nn.BatchNorm1d), linear).eval(), torch.randn(3, 7)
    generator = CodeGenerator(model, x)
    scale, kept = generator.graph.nodes
    assert isinstance(scale, Scale)
    np.testing.assert_array_equal(kept.weight, linear.codes)
    with torch.no_grad():
        np.testing.assert_allclose(generator.reference().outputs[0], model(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    "codes, scale",
    [
        (random_codes(4, 7, lowest=-128).index_fill(1, torch.tensor([3]), -128), torch.tensor(0.02)),
        (random_codes(4, 7), torch.rand(1, 7)),
    ],
)
def test_what_no_int8_weights_with_one_scale_per_channel_are_is_quantised(codes, scale):
    torch.manual_seed(0)
    model, x = nn.Sequential(Integers(codes, scale)), torch.randn(1, 7)
    (node,) = CodeGenerator(model, x).graph.nodes
    weight = codes * scale.double()
    assert (np.abs(node.weight).max(axis=1) == 127).all()
    assert np.abs(node.weight * node.scale[:, None] - weight.numpy()).max() <= node.scale.max() / 2 * 1.001


def test_integers_that_count_for_nothing():
    """A scale of 0 is no range to divide by."""
    torch.manual_seed(0)
    linear = Integers(torch.zeros(4, 7, dtype=torch.int8), torch.tensor(0.0))
    np.testing.assert_array_equal(
        CodeGenerator(nn.Sequential(linear), torch.randn(1, 7)).reference().outputs[0][0], linear.bias.detach()
    )

# SPDX-License-Identifier: Apache-2.0
"""The quick estimate of `heepgen explore` against the cycle model, on configurations from the whole space."""

import numpy as np
import pytest
import torch
from torch import nn

from examples.estimate_error import compared, network
from examples.networks import NETWORKS
from firmware_gen.targets.descriptor.timing.crossbar import stream_cycles
from gen.explore.exact import exactly, program_of
from gen.explore.fast import quickly
from hls.config import Config

SMALL, LARGE, BUS = (0.045, 0.1), (0.02, 0.1), 0.03
"""Mean and largest errors of networks of a few thousand cycles, where every wait counts, and of others; the largest
where the bus bounds nearly all. The goal, 2 % and 10 %, is reached by all but the mean of the small ones."""


def separable():
    """A strided convolution, a depthwise and a pointwise one, a pooling, a Linear."""
    layers = [nn.Conv2d(3, 13, 3, 2, 1), nn.ReLU(), nn.Conv2d(13, 13, 3, padding=1, groups=13), nn.ReLU()]
    layers += [nn.Conv2d(13, 27, 1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(27 * 16, 10)]
    return network("separable", nn.Sequential(*layers), (1, 3, 16, 16))


def residual():
    """Two convolutions added to what they read, and two Linear layers."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = (
                nn.Conv2d(1, 10, 5),
                nn.Conv2d(10, 10, 3, padding=1),
                nn.Conv2d(10, 6, 1),
            )
            self.last, self.end = nn.Linear(6 * 64, 20), nn.Linear(20, 4)

        def forward(self, x):
            x = torch.relu(self.first(x))
            x = self.third(torch.relu(self.second(x) + x))
            return self.end(torch.relu(self.last(x.flatten(1))))

    return network("residual", Block(), (1, 1, 12, 12))


def linear():
    """Two Linear layers, whose weights the bus brings."""
    layers = [nn.Linear(640, 128), nn.ReLU(), nn.Linear(128, 640)]
    return network("linear", nn.Sequential(*layers), (1, 640))


def attention():
    """Products and Softmax, which only the CPU computes."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value = (nn.Linear(12, 10) for _ in range(3))

        def forward(self, x):
            return torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1) @ self.value(x)

    return network("attention", Attention(), (1, 20, 12))


def check(own, points, seed, bounds):
    found = list(compared(own, points, seed))
    assert len(found) == points
    off = np.abs([point.error for point in found])
    assert off.mean() <= bounds[0] and off.max() <= bounds[1], (off.mean(), found[int(off.argmax())])


@pytest.mark.parametrize("build", [separable, residual, attention])
def test_small_networks(build):
    torch.manual_seed(4)
    check(build(), 12, 11, SMALL)


def test_weights_come_by_the_bus():
    torch.manual_seed(4)
    check(linear(), 6, 11, LARGE)


@pytest.mark.parametrize("rows, cols, ports", [(25, 2, 3), (9, 4, 2), (3, 11, 3)])
def test_what_a_beat_has_left_belongs_to_the_next_tile(rows, cols, ports):
    """Tiles that are no whole number of beats take as many on average as they have bytes."""
    torch.manual_seed(4)
    own, config = linear(), Config(rows=rows, cols=cols, ports=ports, weight_bytes=16384)
    (quick,) = quickly(own, [config])
    assert quick.cycles == pytest.approx(exactly(own, config).cycles, rel=BUS)


@pytest.mark.slow
def test_a_larger_network():
    torch.manual_seed(1)
    example = NETWORKS["resnet8"]
    check(network("resnet8", example.build(), example.input_shape), 100, 5, LARGE)


def test_words_of_one_bank_wait_for_each_other():
    """A bank gives a word in a cycle; ports may lag behind each other, so that beats of other banks do not wait."""
    apart = [(0, 1, 2, 3)] * 40
    together = [(5, 5, 5, 5)] * 40
    moving = [(n % 8,) * 4 for n in range(40)]
    assert stream_cycles(apart, 4) == 1 and stream_cycles(together, 4) == pytest.approx(4, rel=0.03)
    assert 1 <= stream_cycles(moving, 4) < 2


def test_banded_layers_whose_rows_do_not_fit_are_cut_along_channels():
    torch.manual_seed(4)
    layers = [nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(), nn.Conv2d(8, 8, 1)]
    own = network("cut", nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1)), (1, 3, 48, 48))
    config = Config(rows=32, cols=23, ports=3, activation_words=2048, weight_bytes=1024, accumulator_entries=16)
    (program,) = {job.layer: job for job in program_of(own, config).jobs if job.descriptor.band}.values()
    assert program.descriptor.ncb < 8
    (quick,) = quickly(own, [config])
    exact = exactly(own, config)
    assert quick.cycles == pytest.approx(exact.cycles, rel=SMALL[1])
    assert quick.ram == exact.ram  # no constants of a part twice

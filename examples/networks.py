# SPDX-License-Identifier: Apache-2.0
"""The example networks by name. The HEEPstor ones have the layers and sizes of HEEPstor's own examples."""

from __future__ import annotations

from torch import nn

from examples import data
from examples.example import Example, images
from examples.mlperf_tiny.networks import EXAMPLES as MLPERF_TINY


def digits() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )


def single_layer() -> nn.Module:
    return nn.Sequential(nn.Linear(12 * 12, 10))


def multi_layer() -> nn.Module:
    return nn.Sequential(nn.Linear(12 * 12, 20), nn.ReLU(), nn.Linear(20, 10))


def two_convolutions(kernels: tuple[int, int], channels: tuple[int, int]) -> nn.Module:
    """Two convolutions with ReLU, and a Linear on the 8 x 8 map that they leave."""
    return nn.Sequential(
        *(nn.Conv2d(1, channels[0], kernels[0]), nn.ReLU()),
        *(nn.Conv2d(channels[0], channels[1], kernels[1]), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(channels[1] * 8 * 8, 10)),
    )


def three_convolutions(in_channels: int, size: int) -> nn.Module:
    """Three convolutions with BatchNorm, one pooling, and a Linear on the `size` x `size` map that they leave."""
    return nn.Sequential(
        *(nn.Conv2d(in_channels, 16, 5), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 24, 3), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(24, 6, 4), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(6 * size * size, 10)),
    )


_EXAMPLES = (
    Example("digits", (5, 1, 8, 8), digits, images(data.DIGITS), epochs=30),
    Example("mnist-single_layer", (5, 144), single_layer, images(data.MNIST)),
    Example("mnist-multi_layer", (5, 144), multi_layer, images(data.MNIST)),
    Example("fmnist-conv2d", (1, 1, 14, 14), lambda: two_convolutions((4, 4), (16, 8)), images(data.FASHION_MNIST)),
    Example("cifar10-conv2d", (1, 3, 26, 26), lambda: three_convolutions(3, 7), images(data.CIFAR10), epochs=30),
    Example("bench-fmnist-small", (1, 144), multi_layer, images(data.FASHION_MNIST)),
    Example(
        "bench-fmnist-medium", (1, 1, 15, 15), lambda: two_convolutions((5, 4), (16, 6)), images(data.FASHION_MNIST)
    ),
    Example("bench-fmnist-large", (1, 1, 28, 28), lambda: three_convolutions(1, 8), images(data.FASHION_MNIST)),
)
NETWORKS: dict[str, Example] = {example.name: example for example in (*_EXAMPLES, *MLPERF_TINY)}

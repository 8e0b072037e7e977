# SPDX-License-Identifier: Apache-2.0
"""The networks of MLPerf Tiny (v1.x reference models), in PyTorch: same layers, paddings and sizes.

A classifier returns logits in training mode and probabilities in evaluation mode.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from examples import common, data
from examples.example import Example, images
from examples.mlperf_tiny import keywords, machines, persons

EPS = 1e-3


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution with bias and BatchNorm, padded as TensorFlow's "same": on even sizes, stride 2 pads the right and
    the bottom only."""
    pad = [nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 and kernel == 3 else []
    padding = 0 if pad else kernel // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
    return [*pad, conv, nn.BatchNorm2d(outputs, eps=EPS)]


def separable(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """Depthwise 3x3 and pointwise convolution, each with BatchNorm and ReLU."""
    depthwise = conv_bn(inputs, inputs, 3, stride, groups=inputs)
    return [*depthwise, nn.ReLU(), *conv_bn(inputs, outputs, 1), nn.ReLU()]


class Classifier(nn.Module):
    def __init__(self, features: list[nn.Module], width: int, classes: int):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(self.features(x).flatten(1))
        return x if self.training else x.softmax(dim=1)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity, or beside a 1x1 convolution without BatchNorm."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.main = nn.Sequential(*conv_bn(inputs, outputs, 3, stride), nn.ReLU(), *conv_bn(outputs, outputs, 3))
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.main(x) + self.shortcut(x))


def resnet8() -> nn.Module:
    """Image classification: 32 x 32 x 3 to 10 classes, 12.50 M multiply-accumulates."""
    blocks = [ResidualBlock(16, 16), ResidualBlock(16, 32, 2), ResidualBlock(32, 64, 2)]
    return Classifier([*conv_bn(3, 16, 3), nn.ReLU(), *blocks, nn.AvgPool2d(8)], 64, 10)


def ds_cnn() -> nn.Module:
    """Keyword spotting: 49 frames of 10 cepstral coefficients to 12 classes, 2.66 M multiply-accumulates."""
    first = [nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, 64, (10, 4), 2), nn.BatchNorm2d(64, eps=EPS), nn.ReLU()]
    blocks = [layer for _ in range(4) for layer in separable(64, 64)]
    return Classifier([*first, nn.Dropout(0.2), *blocks, nn.Dropout(0.4), nn.AvgPool2d((24, 5))], 64, 12)


def mobilenet() -> nn.Module:
    """Visual wake words: MobileNetV1 x 0.25 on 96 x 96 x 3, person or not, 7.49 M multiply-accumulates."""
    widths = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    layers, inputs = [*conv_bn(3, 8, 3, 2), nn.ReLU()], 8
    for outputs, stride in widths:
        layers += separable(inputs, outputs, stride)
        inputs = outputs
    return Classifier([*layers, nn.AvgPool2d(3)], 256, 2)


def autoencoder() -> nn.Module:
    """Anomaly detection: five frames of 128 mel bands, 0.264 M multiply-accumulates."""
    widths = [640, *[128] * 4, 8, *[128] * 4]
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs, eps=EPS), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 640))


def wakeword() -> nn.Module:
    """Streaming wakeword (v1.3): 30 frames of 40 mel bands to 3 classes, 0.83 M multiply-accumulates."""
    layers: list[nn.Module] = []
    for inputs, outputs, kernel in [(40, 128, 3), (128, 128, 5), (128, 128, 10), (128, 32, 15)]:
        layers += [
            nn.Conv1d(inputs, inputs, kernel, groups=inputs, bias=False),
            *(nn.Conv1d(inputs, outputs, 1, bias=False), nn.BatchNorm1d(outputs, eps=EPS), nn.ReLU(), nn.Dropout(0.2)),
        ]
    return Classifier(layers, 32, 3)


WAKEWORD = Example("streaming-wakeword", (1, 40, 30), wakeword)
ANOMALY = partial(Example, layers=autoencoder, load=machines.load, task=common.ANOMALY_DETECTION, epochs=30)
EXAMPLES = (
    Example("resnet8", (1, 3, 32, 32), resnet8, images(data.CIFAR10), epochs=4, batch=16, bundled=640),
    Example("ds-cnn", (1, 1, 49, 10), ds_cnn, keywords.load, epochs=6, batch=32),
    Example("mobilenet-v1-0.25", (1, 3, 96, 96), mobilenet, persons.load, epochs=10, batch=16, rate=5e-3),
    ANOMALY("fc-autoencoder", (1, 640)),
    ANOMALY("fc-autoencoder-clip", (machines.CLIP, 640)),
)

# SPDX-License-Identifier: Apache-2.0
"""Modern networks, from their published descriptions. They are measured, never trained here."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from examples.example import Example


def pair(activation: Callable[[], nn.Module]) -> nn.Module:
    """Two 3x3 convolutions of 8 channels, the first with stride 2, with an activation each."""
    return nn.Sequential(*(nn.Conv2d(3, 8, 3, 2, 1), activation()), *(nn.Conv2d(8, 8, 3, 1, 1), activation()))


def same(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution without bias, padded by half its kernel, and BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class Gate(nn.Module):
    """Squeeze and excitation (Hu et al., 2018) with a hard sigmoid: every channel times what all of them say."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))
        gated: torch.Tensor = x * F.hardsigmoid(self.excite(gate))
        return gated


class InvertedResidual(nn.Module):
    """Expand, depthwise, gate, project (Howard et al., Searching for MobileNetV3, 2019)."""

    def __init__(
        self,
        inputs: int,
        expanded: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        squeezed: int = 0,
        activation: Callable[[], nn.Module] = nn.Hardswish,
    ):
        super().__init__()
        expand = [*same(inputs, expanded, 1), activation()] if expanded != inputs else []
        self.layers = nn.Sequential(
            *expand,
            *(*same(expanded, expanded, kernel, stride, expanded), activation()),
            *([Gate(expanded, squeezed)] if squeezed else []),
            *same(expanded, outputs, 1),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return x + y if self.residual else y


def whole(channels: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to a number of channels, at least 90 % of it (MobileNet's rule)."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest


_SMALL = (
    # kernel, expanded, outputs, gate, activation, stride
    (3, 16, 16, True, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 2),
    (3, 88, 24, False, nn.ReLU, 1),
    (5, 96, 40, True, nn.Hardswish, 2),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 120, 48, True, nn.Hardswish, 1),
    (5, 144, 48, True, nn.Hardswish, 1),
    (5, 288, 96, True, nn.Hardswish, 2),
    (5, 576, 96, True, nn.Hardswish, 1),
    (5, 576, 96, True, nn.Hardswish, 1),
)


def mobilenet_v3_small(width: float = 0.5, classes: int = 10) -> nn.Module:
    """MobileNetV3-small: 64 x 64 x 3 to 10 classes."""
    inputs = whole(16 * width)
    layers: list[nn.Module] = [*same(3, inputs, 3, 2), nn.Hardswish()]
    for kernel, expanded, outputs, gate, activation, stride in _SMALL:
        middle, out = whole(expanded * width), whole(outputs * width)
        squeezed = whole(middle / 4) if gate else 0
        layers.append(
            InvertedResidual(
                inputs=inputs,
                expanded=middle,
                outputs=out,
                kernel=kernel,
                stride=stride,
                squeezed=squeezed,
                activation=activation,
            )
        )
        inputs = out
    last, hidden = 6 * inputs, whole(1024 * width)
    layers += [*same(inputs, last, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(last, hidden), nn.Hardswish(), nn.Linear(hidden, classes))


def dcgan_generator(noise: int = 100, width: int = 16) -> nn.Module:
    """Radford et al., 2016, as in PyTorch's example, cut to three doublings: 100 numbers to 32 x 32 x 3."""
    layers: list[nn.Module] = []
    inputs = noise
    for i, outputs in enumerate((4 * width, 2 * width, width)):
        stride, padding = (1, 0) if i == 0 else (2, 1)
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, stride, padding, bias=False), nn.BatchNorm2d(outputs)]
        layers.append(nn.ReLU())
        inputs = outputs
    return nn.Sequential(*layers, nn.ConvTranspose2d(inputs, 3, 4, 2, 1, bias=False), nn.Tanh())


class SubSpectralNorm(nn.Module):
    """BatchNorm of every channel in `bands` parts of the spectrum (Chang et al., 2021)."""

    def __init__(self, channels: int, bands: int = 5):
        super().__init__()
        self.bands, self.norm = bands, nn.BatchNorm2d(channels * bands)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images, channels, frequency, time = x.shape
        parts = x.view(images, channels * self.bands, frequency // self.bands, time)
        normalised: torch.Tensor = self.norm(parts)
        return normalised.view(images, channels, frequency, time)


class BroadcastedBlock(nn.Module):
    """Frequency by itself, time on the mean over frequency, which is added back to all of it."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int):
        super().__init__()
        self.identity = inputs == outputs
        self.widen = nn.Identity() if self.identity else nn.Sequential(*same(inputs, outputs, 1), nn.ReLU())
        self.frequency = nn.Sequential(
            nn.Conv2d(outputs, outputs, (3, 1), (stride, 1), (1, 0), groups=outputs, bias=False),
            SubSpectralNorm(outputs),
        )
        self.time = nn.Sequential(
            nn.Conv2d(outputs, outputs, (1, 3), 1, (0, dilation), (1, dilation), groups=outputs, bias=False),
            *(nn.BatchNorm2d(outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 1), nn.Dropout(0.1)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.frequency(self.widen(x))
        y = y + self.time(y.mean(2, keepdim=True))
        return F.relu(x + y if self.identity else y)


def bc_resnet(width: int = 8, classes: int = 12) -> nn.Module:
    """BC-ResNet-1 (Kim et al., Broadcasted Residual Learning, 2021): 40 mel bands x 101 frames to 12 words."""
    layers: list[nn.Module] = [
        *(nn.Conv2d(1, 2 * width, 5, (2, 1), 2, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU())
    ]
    inputs = 2 * width
    for i, (blocks, stride) in enumerate(((2, 1), (2, 2), (4, 2), (4, 1))):
        outputs = width * (2 + i) // 2
        for block in range(blocks):
            layers.append(BroadcastedBlock(inputs, outputs, stride if block == 0 else 1, 2**i))
            inputs = outputs
    return nn.Sequential(
        *layers,
        *(nn.Conv2d(inputs, inputs, 5, 1, (0, 2), groups=inputs, bias=False), nn.Conv2d(inputs, 4 * width, 1)),
        *(nn.BatchNorm2d(4 * width), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Conv2d(4 * width, classes, 1), nn.Flatten()),
    )


def eegnet(channels: int = 22, samples: int = 128, classes: int = 4) -> nn.Module:
    """EEGNet-8,2 (Lawhern et al., 2018): filters over time, over electrodes, and over time again."""
    filters, depth = 8, 2
    width = filters * depth
    return nn.Sequential(
        *(nn.ZeroPad2d((31, 32, 0, 0)), nn.Conv2d(1, filters, (1, 64), bias=False), nn.BatchNorm2d(filters)),
        *(nn.Conv2d(filters, width, (channels, 1), groups=filters, bias=False), nn.BatchNorm2d(width)),
        *(nn.ELU(), nn.AvgPool2d((1, 4)), nn.Dropout(0.5)),
        *(nn.ZeroPad2d((7, 8, 0, 0)), nn.Conv2d(width, width, (1, 16), groups=width, bias=False)),
        *(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)),
        *(nn.ELU(), nn.AvgPool2d((1, 8)), nn.Dropout(0.5)),
        *(nn.Flatten(), nn.Linear(width * (samples // 32), classes)),
    )


class Recurrent(nn.Module):
    """Words out of 25 frames of 10 cepstral coefficients, as in Zhang et al., Hello Edge, 2017."""

    def __init__(self, kind: Callable[..., nn.Module], width: int, classes: int = 12):
        super().__init__()
        self.cells, self.head = kind(10, width, batch_first=True), nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        words: torch.Tensor = self.head(self.cells(x)[0][:, -1])
        return words


class Attention(nn.Module):
    """Multi-head self attention (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images, tokens, width = x.shape
        parts = self.project(x).view(images, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        mixed: torch.Tensor = self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(images, tokens, width))
        return mixed


class Encoder(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        attended: torch.Tensor = x + self.attention(self.norm1(x))
        mixed: torch.Tensor = attended + self.mlp(self.norm2(attended))
        return mixed


class VisionTransformer(nn.Module):
    """Dosovitskiy et al., 2021, a small one: 32 x 32 x 3 in patches of 8 x 8, two layers of width 48, 10 classes."""

    def __init__(self, width: int = 48, heads: int = 3, depth: int = 2, classes: int = 10):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width))
        self.layers = nn.Sequential(*(Encoder(width, heads) for _ in range(depth)), nn.LayerNorm(width))
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.positions
        classes: torch.Tensor = self.head(self.layers(tokens)[:, 0])
        return classes


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "hardswish": nn.Hardswish,
    "elu": nn.ELU,
}

_IMAGE = (1, 3, 64, 64)
EXAMPLES = (
    *(Example(f"two-convs-{name}", _IMAGE, partial(pair, act)) for name, act in ACTIVATIONS.items()),
    Example("se-block", (1, 8, 20, 20), lambda: InvertedResidual(8, 24, 8, squeezed=8)),
    Example("mobilenet-v3-small-0.5", _IMAGE, mobilenet_v3_small),
    Example("dcgan-32x32", (1, 100, 1, 1), dcgan_generator),
    Example("bc-resnet-1", (1, 1, 40, 101), bc_resnet),
    Example("eegnet-8-2", (1, 1, 22, 128), eegnet),
    Example("gru-keywords", (1, 25, 10), lambda: Recurrent(nn.GRU, 64)),
    Example("lstm-keywords", (1, 25, 10), lambda: Recurrent(nn.LSTM, 64)),
    Example("vit-32x32", (1, 3, 32, 32), VisionTransformer),
)

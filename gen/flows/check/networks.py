# SPDX-License-Identifier: Apache-2.0
"""Random layers and small networks, end to end: compiled as `heepgen sw` does, run as `heepgen run` does."""

import math
import threading
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gen.flows.check.subject import Bus, Problem, Subject
from hls.errors import HeepgenError


class Sum(nn.Module):
    """What a layer makes of x, and x."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layer(x)
        return x + y


class Drawer:
    """Draws layers for the shape (C, H, W) or (F,) that has been reached."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        image = self.chance(0.75)
        self.shape: tuple[int, ...] = (
            (self.integer(1, 9), self.integer(3, 9), self.integer(3, 9)) if image else (self.integer(1, 40),)
        )
        self.input_shape = (2 if self.chance(0.25) else 1, *self.shape)

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def layer(self) -> nn.Module:
        """The next layer; the shape is that of its output."""
        drawn = self._image() if len(self.shape) == 3 else self._vector()
        with torch.no_grad():
            self.shape = tuple(drawn(torch.zeros(1, *self.shape)).shape[1:])
        return drawn

    def _vector(self) -> nn.Module:
        if self.chance(0.25):
            return self._activation()
        return nn.Linear(self.shape[0], self.integer(1, 40), bias=self.chance(0.8))

    def _image(self) -> nn.Module:
        channels, *size = self.shape
        kind = self.integer(0, 9)
        if kind == 0:
            return self._activation()
        if kind == 1:
            high, wide = (self.integer(1, min(3, s)) for s in size)
            pool: type[nn.MaxPool2d] | type[nn.AvgPool2d] = nn.MaxPool2d if self.chance(0.5) else nn.AvgPool2d
            return pool((high, wide), self.integer(1, 2), (high // 2, wide // 2))
        if kind == 2:
            return nn.Flatten()
        if kind == 3:
            return self._conv(channels, channels * self.integer(1, 2))
        if kind == 4:
            groups = self.integer(2, 3)
            if channels % groups == 0:
                return self._conv(groups, groups * self.integer(1, 4))
        if kind == 5:
            inner = nn.Conv2d(channels, channels, 3, padding=1)
            return Sum(nn.Sequential(inner, self._activation()) if self.chance(0.5) else inner)
        return self._conv(1, self.integer(1, 12))

    def _conv(self, groups: int, outputs: int) -> nn.Module:
        channels, *size = self.shape
        dilation = [self.integer(1, 2) for _ in size]
        kernel = [self.integer(1, max(1, min(3, (s - 1) // d + 1))) for s, d in zip(size, dilation, strict=True)]
        padding = [self.integer(0, k // 2) for k in kernel]
        return nn.Conv2d(
            channels,
            outputs,
            (kernel[0], kernel[1]),
            (self.integer(1, 2), self.integer(1, 2)),
            (padding[0], padding[1]),
            (dilation[0], dilation[1]),
            groups,
            self.chance(0.8),
        )

    def _activation(self) -> nn.Module:
        choices = [nn.ReLU(), nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.Hardtanh(-0.7, 1.3)]
        return choices[self.integer(0, len(choices) - 1)]


def network(seed: int, depth: int) -> tuple[nn.Module, torch.Tensor]:
    """The first `depth` layers of the network of a seed, a convolution or Linear among them, and an input for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawer = Drawer(np.random.default_rng(seed))
        x = torch.randn(drawer.input_shape)
        layers = [drawer.layer() for _ in range(depth)]
        if not any(isinstance(part, nn.Conv2d | nn.Linear) for layer in layers for part in layer.modules()):
            layers += [nn.Flatten(), nn.Linear(math.prod(drawer.shape), 5)]
        return nn.Sequential(*layers).eval(), x


def depth_of(seed: int) -> int:
    """Layers of the network of a seed: 1 to 5."""
    return 1 + seed % 5


_EXPORTING = threading.Lock()
"""torch.export does one thing at a time."""

CYCLES = 8_000_000
"""Of a network, at most: with more the accelerator counts as stuck."""


def run_network(subject: Subject, seed: int, depth: int, bus: Bus, vcd: Path | None = None) -> Problem | None:
    """Compile the network of a seed, run it on the virtual SoC, and compare every bit of its outputs with the model."""
    from firmware_gen.application.options import ImportOptions
    from firmware_gen.frontend.exported.prepare import export
    from gen.flows.measure.run import run
    from gen.flows.network.sw import generate_application

    folder = subject.work / f"network-{seed}-{depth}"
    model, x = network(seed, depth)
    sample = x.numpy()
    with _EXPORTING:
        if not folder.exists():
            generate_application(export(model, sample), sample, subject.config, folder, ImportOptions(), name="network")
    try:
        report = run(
            folder,
            subject.config,
            vcd=vcd,
            withheld=bus.stalls,
            wait_states=bus.wait_states,
            max_cycles=int(CYCLES * bus.slow),
        )
    except HeepgenError as error:
        if "failed after" not in str(error):
            raise
        return Problem(f"{described(model, x)}: {error}", bus="OBI:" in str(error))
    if report.bit_exact:
        return None
    wrong = next(result for result in report.results if not result.bit_exact)
    return Problem(f"{described(model, x)}: output {wrong.layer} differs from the model of the NumPy function.")


def described(model: nn.Module, x: torch.Tensor) -> str:
    """A network in one line."""
    layers = ", ".join(" ".join(str(layer).split()) for layer in model.children())
    return f"{layers} on {'x'.join(map(str, x.shape))}"


def smallest(subject: Subject, seed: int, problem: Problem, bus: Bus) -> tuple[int, Problem]:
    """The fewest layers of a network that fail, and how."""
    for depth in range(1, depth_of(seed)):
        found = run_network(subject, seed, depth, bus)
        if found is not None:
            return depth, found
    return depth_of(seed), problem

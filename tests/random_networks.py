# SPDX-License-Identifier: Apache-2.0
"""Random legal networks as torch modules, for property tests of whole compilations.

A network is drawn operator by operator from a seed; each fits the shape that has been reached. Weights are scaled so
that the signal keeps its size through the network, whatever its depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

CHANNELS = (1, 2, 3, 5, 7, 8, 9, 12, 13, 17)
FUNCTIONS = [
    *(nn.Sigmoid(), nn.Tanh(), nn.GELU(), nn.ELU(0.8), nn.Hardswish(), nn.SiLU(), nn.Hardsigmoid(), nn.Mish()),
    *(nn.GELU("tanh"), nn.Softplus(), nn.SELU(), nn.CELU(1.5), nn.LogSigmoid(), nn.Softsign()),
]
WEIGHTED = nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d


@dataclass(frozen=True)
class RandomNetwork:
    """`model` in eval mode, an input `x` (float32), and the seed that they were drawn from."""

    model: nn.Module
    x: torch.Tensor
    seed: int


def random_network(seed: int, operators: str = "sequential", max_depth: int = 12, max_size: int = 13) -> RandomNetwork:
    """A network of 1..max_depth steps on an image of at most max_size x max_size, or on vectors.

    operators: "sequential" draws chains of Linear, Conv2d, BatchNorm, ReLU/ReLU6/clamp, pooling, padding, Flatten,
    Dropout and a final Softmax; "dag" adds branches (addition, concatenation, several outputs), Conv1d, LeakyReLU,
    unfoldable BatchNorm, arithmetic with constants, global and adaptive pooling, upsampling, slices, permutes, vectors
    that become images, functions, and Softmax of channels.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        drawer = _Drawer(rng, operators == "dag", max_size)
        model = drawer.network(int(rng.integers(1, max_depth + 1))).eval()
        x = torch.randn(drawer.input_shape)
        _calibrate(model, x)
    return RandomNetwork(model, x, seed)


class Gated(nn.Sequential):
    """x times what the layers make of it."""

    def forward(self, x):
        return x * super().forward(x)


class Parallel(nn.Module):
    """Branches of one input, joined by addition or over the channels."""

    def __init__(self, branches: list[nn.Module], add: bool):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.add = add

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [branch(x) for branch in self.branches]
        if not self.add:
            return torch.cat(parts, dim=min(1, x.ndim - 1))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


class Function(nn.Module):
    """A function of one tensor as a module, `name` for messages."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], name: str):
        super().__init__()
        self.function, self.name = function, name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


class Heads(nn.Module):
    """A trunk in parts, and heads on what some of them compute, whose results are returned: as a tuple, or `nested`.

    heads: (part, module). One head may be Identity, so that a value is returned and read by what follows.
    """

    def __init__(self, parts: list[nn.Module], heads: list[tuple[int, nn.Module]], nested: bool):
        super().__init__()
        self.parts, self.nested = nn.ModuleList(parts), nested
        self.heads = nn.ModuleList(head for _, head in heads)
        self.places = [place for place, _ in heads]

    def forward(self, x: torch.Tensor):
        values = []
        for part in self.parts:
            x = part(x)
            values.append(x)
        first, *rest = [head(values[place]) for place, head in zip(self.places, self.heads, strict=True)]
        return {"first": first, "rest": [tuple(rest)]} if self.nested else (first, *rest)


class _Drawer:
    """Draws steps for the shape (C, H, W), (C, L) or (F,) that the network has reached."""

    def __init__(self, rng: np.random.Generator, dag: bool, max_size: int):
        self.rng, self.dag, self.max_size = rng, dag, max_size
        self.batch = int(rng.choice([1, 1, 1, 2, 3]))
        self.shape = self._first_shape()
        self.input_shape = (self.batch, *self.shape)

    def _first_shape(self) -> tuple[int, ...]:
        kind = self._pick(["image"] * 4 + ["vector"] + ["sequence"] * self.dag)
        if kind == "vector":
            return (self._int(1, 40),)
        if kind == "sequence":
            return (self._pick(CHANNELS[:7]), self._int(4, 3 * self.max_size))
        return (self._pick(CHANNELS[:7]), self._int(3, self.max_size), self._int(3, self.max_size))

    def network(self, depth: int) -> nn.Module:
        layers: list[nn.Module] = []
        if self.dag and len(self.shape) == 3 and self._chance(0.1):
            height, width, channels = self.shape[1], self.shape[2], self.shape[0]
            self.input_shape = (self.batch, height, width, channels)
            layers.append(Function(lambda x: x.permute(0, 3, 1, 2), "to channels first"))
        if self.dag and self._chance(0.25):
            return self._with_heads(layers, depth)
        for _ in range(depth):
            layers += self._step()
        return self._finish(nn.Sequential(*layers))

    def _with_heads(self, before: list[nn.Module], depth: int) -> nn.Module:
        """Heads on any parts, several on one perhaps, and always on the last."""
        parts, shapes = [nn.Sequential(*before, *self._weighted())], [self.shape]
        for _ in range(depth - 1):
            parts.append(nn.Sequential(*self._step()))
            shapes.append(self.shape)
        places = [len(parts) - 1, *(self._int(0, len(parts) - 1) for _ in range(self._int(1, 3)))]
        heads = [(place, self._head(shapes[place])) for place in self.rng.permutation(places).tolist()]
        return Heads(parts, heads, self._chance(0.3))

    def _head(self, shape: tuple[int, ...]) -> nn.Module:
        self.shape = shape
        heads = [lambda: [nn.Identity()]] * 3 + [self._weighted, self._cpu, self._activation]
        heads += [lambda: [nn.Flatten()]] * (len(shape) > 1)
        heads += [lambda: [*self._weighted(), Function(lambda x: x.permute(0, 2, 3, 1), "channels last")]] * (
            len(shape) == 3
        )
        return nn.Sequential(*self._pick(heads)())

    def _finish(self, trunk: nn.Sequential) -> nn.Module:
        if self.dag and len(self.shape) == 3 and self._chance(0.1):
            return nn.Sequential(trunk, *self._weighted(), Function(lambda x: x.permute(0, 2, 3, 1), "channels last"))
        if len(self.shape) > 1 and self._chance(0.4):
            trunk.append(self._flatten())
            trunk.append(self._linear())
        if len(self.shape) == 1 and self._chance(0.3):
            trunk.append(self._pick([nn.Softmax, nn.LogSoftmax])(dim=1))
        if not any(True for _ in trunk):
            trunk.append(nn.ReLU())
        return trunk

    # One step: a list of layers that changes self.shape.

    def _step(self) -> list[nn.Module]:
        if len(self.shape) == 1:
            steps = [self._weighted] * 3 + [self._activation]
            steps += [self._branches, self._arithmetic, self._cpu, self._norm, self._slice, self._unflatten] * self.dag
        else:
            steps = [self._weighted] * 4 + [self._pool, self._activation, self._pad]
            steps += [self._flatten_step] if self._chance(0.3) else []
            steps += [self._branches] * 3 * self.dag
            steps += [self._arithmetic, self._cpu, self._norm] * self.dag
            steps += [self._gate, self._shuffle, self._upsample, self._transposed] * self.dag
            steps += [self._global_pool, self._slice] * self.dag
        return self._pick(steps)()

    def _weighted(self) -> list[nn.Module]:
        """A layer with weights, often with BatchNorm and an activation."""
        layers = [self._linear() if len(self.shape) == 1 else self._conv()]
        if self._chance(0.5):
            layers += self._norm()
        if self._chance(0.6):
            layers += self._activation()
        if self._chance(0.1):
            layers.append(self._pick([nn.Dropout(0.5), nn.Identity()]))
        return layers

    def _linear(self) -> nn.Linear:
        outputs = self._int(1, 40)
        layer = nn.Linear(self.shape[0], outputs, bias=self._chance(0.8))
        self.shape = (outputs,)
        return layer

    def _conv(self, outputs: int | None = None, same: bool = False) -> nn.Module:
        channels, *size = self.shape
        kernel = [self._int(1, min(5, s)) for s in size]
        dilation = [self._int(1, 2) if (k - 1) * 2 < s else 1 for k, s in zip(kernel, size, strict=True)]
        stride = [1 if same else self._pick([1, 1, 1, 2, 3]) for _ in size]
        padding = [self._int(0, (k - 1) * d) for k, d in zip(kernel, dilation, strict=True)]
        groups = self._pick([1, 1, channels] + [g for g in (2, 3) if channels % g == 0])
        outputs = outputs or groups * self._pick([1, 2, 3] if groups > 1 else CHANNELS)
        if outputs % groups:
            groups = 1
        cls = nn.Conv2d if len(size) == 2 else nn.Conv1d
        how = {"padding": "same"} if same else {"padding": padding, "stride": stride}
        layer = cls(channels, outputs, kernel, dilation=dilation, groups=groups, bias=self._chance(0.8), **how)
        return self._reach(layer)

    def _norm(self) -> list[nn.Module]:
        norm = nn.BatchNorm2d(self.shape[0]) if len(self.shape) == 3 else nn.BatchNorm1d(self.shape[0])
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(-1.5, 1.5)
        norm.bias.data.normal_(0, 0.3)
        return [norm]

    def _activation(self) -> list[nn.Module]:
        choices = [nn.ReLU(), nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.7, 1.3)]
        return [self._pick(choices + [nn.LeakyReLU(0.1), nn.LeakyReLU(0.3)] * self.dag)]

    def _pool(self) -> list[nn.Module]:
        size = self.shape[1:]
        kernel = [self._int(1, min(4, s)) for s in size]
        padding = [self._int(0, k // 2) for k in kernel]
        stride = [self._int(1, 3) for _ in size]
        how = {"padding": padding, "ceil_mode": self._chance(0.3)}
        if len(size) == 1:
            kernel, stride, how["padding"] = kernel[0], stride[0], padding[0]
        if self._chance(0.5):
            return [self._reach((nn.MaxPool2d if len(size) == 2 else nn.MaxPool1d)(kernel, stride, **how))]
        how["count_include_pad"] = self._chance(0.5)
        return [self._reach((nn.AvgPool2d if len(size) == 2 else nn.AvgPool1d)(kernel, stride, **how))]

    def _pad(self) -> list[nn.Module]:
        amounts = [self._int(0, 2) for _ in range(2 * (len(self.shape) - 1))]
        value = self._pick([0.0, 0.0, 0.0, 0.5])
        return [self._reach((nn.ConstantPad2d if len(amounts) == 4 else nn.ConstantPad1d)(amounts, value))]

    def _flatten(self) -> nn.Module:
        return self._reach(nn.Flatten())

    def _flatten_step(self) -> list[nn.Module]:
        """Flattening is followed by a Linear: what is flattened cannot be joined with anything else."""
        return [self._flatten(), *self._weighted()]

    def _branches(self) -> list[nn.Module]:
        """Two or three branches of the same size; an empty one is the identity."""
        before, add = self.shape, self._chance(0.6)
        outputs = before[0] if self._chance(0.5) else self._pick(CHANNELS)
        branches, channels = [], 0
        for number in range(self._int(2, 3)):
            self.shape = before
            if number and self._chance(0.5) and (not add or outputs == before[0]):
                branches.append(nn.Identity())
            else:
                branches.append(nn.Sequential(*self._same_size(outputs)))
            channels += self.shape[0]
        self.shape = (before[0] if add and outputs == before[0] else outputs if add else channels, *before[1:])
        return [Parallel(branches, add), *(self._activation() if self._chance(0.5) else [])]

    def _same_size(self, outputs: int) -> list[nn.Module]:
        if len(self.shape) == 1:
            layers: list[nn.Module] = [nn.Linear(self.shape[0], outputs)]
            self.shape = (outputs,)
        else:
            layers = [self._conv(outputs, same=True)]
            if self._chance(0.3):
                layers += [*self._activation(), self._conv(outputs, same=True)]
        if self._chance(0.5):
            layers += self._norm()
        return layers + (self._activation() if self._chance(0.4) else [])

    def _arithmetic(self) -> list[nn.Module]:
        shape = (self.shape[0], *[1] * (len(self.shape) - 1))
        constant = torch.from_numpy(self.rng.uniform(0.5, 1.5, shape).astype(np.float32))
        return [self._pick([
            Function(lambda x: x + constant, "bias"), Function(lambda x: x * constant - 0.25, "affine"),
            Function(lambda x: 1 - x / 2, "mirror"), Function(lambda x: x + x, "double"),
        ])]  # fmt: skip

    def _cpu(self) -> list[nn.Module]:
        return [self._pick([*FUNCTIONS[:4], nn.Softmax(dim=1), nn.LogSoftmax(dim=1)])]

    def _gate(self) -> list[nn.Module]:
        """Hardswish, or squeeze and excitation; or a gate for every pixel."""
        channels, *size = self.shape
        cls, space = nn.Conv2d if len(size) == 2 else nn.Conv1d, tuple(range(2, 2 + len(size)))
        if self._chance(0.4):
            return [self._pick(FUNCTIONS)]
        pixels = self._chance(0.3)
        gate = [cls(channels, 1 if pixels else channels, 1), self._pick([nn.Sigmoid(), nn.Hardsigmoid()])]
        return [Gated(*gate if pixels else (Function(lambda x: x.mean(space, keepdim=True), "mean"), *gate))]

    def _shuffle(self) -> list[nn.Module]:
        channels, *size = self.shape
        if len(size) == 2 and max(size) <= self.max_size and self._chance(0.5):
            factor = self._int(2, 3)
            return [self._conv(factor**2 * self._int(1, 3), same=True), self._reach(nn.PixelShuffle(factor))]
        return [nn.ChannelShuffle(self._pick([g for g in range(1, channels + 1) if channels % g == 0]))]

    def _slice(self) -> list[nn.Module]:
        """Part of one dimension, at any step."""
        dim = self._int(0, len(self.shape) - 1)
        first = self._int(0, self.shape[dim] - 1)
        part = slice(first, self._int(first + 1, self.shape[dim]), self._pick([1, 1, 2]))
        index = (slice(None),) * (dim + 1) + (part,)
        return [self._reach(Function(lambda x: x[index], f"part {part} of dimension {dim + 1}"))]

    def _unflatten(self) -> list[nn.Module]:
        """A Linear whose outputs become an image."""
        shape = (self._pick(CHANNELS), self._int(1, 4), self._int(1, 4))
        layer = nn.Linear(self.shape[0], math.prod(shape))
        self.shape = shape
        return [layer, *(self._activation() if self._chance(0.5) else []), nn.Unflatten(1, shape)]

    def _upsample(self) -> list[nn.Module]:
        if max(self.shape[1:]) > self.max_size:
            return self._activation()
        return [self._reach(nn.Upsample(scale_factor=2))]

    def _transposed(self) -> list[nn.Module]:
        if max(self.shape[1:]) > self.max_size:
            return self._activation()
        channels, *size = self.shape
        groups = self._pick([1, 1, 1, channels])
        kernel, stride, dilation = ([self._int(1, high) for _ in size] for high in (4, 3, 2))
        reach = [(s - 1) * t + (k - 1) * d + 1 for s, t, k, d in zip(size, stride, kernel, dilation, strict=True)]
        layer = (nn.ConvTranspose2d if len(size) == 2 else nn.ConvTranspose1d)(
            channels,
            groups * self._pick([1, 2] if groups > 1 else CHANNELS),
            kernel,
            stride,
            [self._int(0, (r - 1) // 2) for r in reach],
            [self._int(0, s - 1) for s in stride],
            groups,
            self._chance(0.8),
            dilation,
        )
        return [
            self._reach(layer),
            *(self._norm() if self._chance(0.4) else []),
            *(self._activation() if self._chance(0.5) else []),
        ]

    def _global_pool(self) -> list[nn.Module]:
        size = self.shape[1:]
        if self._chance(0.5):
            outputs = [self._pick([d for d in range(1, s + 1) if s % d == 0 or self._chance(0.2)]) for s in size]
            cls = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d) if len(size) == 2 else (nn.AdaptiveAvgPool1d,) * 2
            return [self._reach(self._pick(cls)(outputs if len(size) == 2 else outputs[0]))]
        dims = tuple(range(2, 2 + len(size)))
        reduced = self._pick([lambda x: x.mean(dims), lambda x: x.amax(dims)])
        return [self._reach(Function(reduced, "over space")), self._linear()]

    # Helpers.

    def _reach(self, layer: nn.Module) -> nn.Module:
        with torch.no_grad():
            self.shape = tuple(layer(torch.zeros(1, *self.shape)).shape[1:])
        return layer

    def _int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def _chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _pick(self, choices):
        return choices[int(self.rng.integers(len(choices)))]


@torch.no_grad()
def _calibrate(model: nn.Module, x: torch.Tensor):
    """Scale the weights of every Conv and Linear, in order, so that its output has a spread of about 1."""

    def normalise(layer: nn.Module, _inputs, output: torch.Tensor) -> torch.Tensor:
        spread = float(output.std()) if output.numel() > 1 else float(output.abs().max())
        factor = 1 / spread if math.isfinite(spread) and spread > 1e-3 else 1.0
        layer.weight *= factor
        if layer.bias is not None:
            layer.bias *= factor
        return output * factor

    layers = [m for m in model.modules() if isinstance(m, WEIGHTED)]
    hooks = [layer.register_forward_hook(normalise) for layer in layers]
    model(x)
    for hook in hooks:
        hook.remove()


def outputs(result) -> list[torch.Tensor]:
    """The outputs of a model, one or several, nested as they may be, as a list."""
    return tree_leaves(result)

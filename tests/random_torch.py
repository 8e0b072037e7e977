# SPDX-License-Identifier: Apache-2.0
"""Random PyTorch models of one to three operators, whose weights lie on the INT8 grid.

Weights are small integers with 127 in every output channel, so that quantising them changes nothing and what the
accelerator computes can differ from PyTorch by float32's rounding alone: a wrong layout has nowhere to hide.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Case:
    """`model` on the float32 input `x`; `label` names the operators in order."""

    model: nn.Module
    x: torch.Tensor
    label: str


class Holder(nn.Module):
    """A function of the input and of parameters."""

    def __init__(self, function: Callable, *tensors: torch.Tensor | None):
        super().__init__()
        self.function = function
        self.tensors = [None if t is None else f"t{i}" for i, t in enumerate(tensors)]
        for i, tensor in enumerate(tensors):
            if tensor is not None:
                self.register_buffer(f"t{i}", tensor)

    def forward(self, x):
        return self.function(x, *(None if name is None else getattr(self, name) for name in self.tensors))


class Draw:
    """Draws operators for a shape; every method returns a module, or None where the operator does not fit."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def int(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def of(self, *choices):
        return choices[self.int(0, len(choices) - 1)]

    def grid(self, *shape: int, channels: int = 0) -> torch.Tensor:
        """Integers of at most 127 over a power of two, 127 once in every position of dimension `channels`."""
        values = self.rng.integers(-127, 128, shape).astype(np.float32)
        rows = np.moveaxis(values, channels, 0).reshape(shape[channels], -1)
        rows[:, self.int(0, rows.shape[1] - 1)] = 127 * (2 * self.rng.integers(0, 2, len(rows)) - 1)
        moved = tuple(np.moveaxis(values, channels, 0).shape)
        values = np.moveaxis(rows.reshape(moved), 0, channels) * 2.0**-9
        return torch.from_numpy(np.ascontiguousarray(values, np.float32))

    def shape_of(self, size: int) -> tuple[int, ...]:
        """A shape of one to five dimensions with that many elements."""
        shape = [size]
        for _ in range(self.int(0, 4)):
            first = self.of(*[n for n in range(1, shape[-1] + 1) if shape[-1] % n == 0])
            shape[-1:] = [first, shape[-1] // first]
        return tuple(shape)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.from_numpy(self.rng.standard_normal(shape).astype(np.float32))

    def number(self) -> float:
        return float(self.of(-2.5, -1, 0.1, 0.5, 1 / 3, 2, 3))

    # Layers with weights.

    def conv(self, s):
        if len(s) not in (3, 4):
            return None
        rank, groups = len(s) - 2, self.of(*[g for g in range(1, s[1] + 1) if s[1] % g == 0])
        kernel = [self.int(1, min(4, size + 1)) for size in s[2:]]
        stride, dilation = ([self.int(1, 3) for _ in kernel] for _ in range(2))
        padding = self.of("valid", [self.int(0, k) for k in kernel], [self.int(0, 2) for k in kernel])
        if self.int(0, 5) == 0:
            padding, stride = "same", [1] * rank
        outputs = groups * self.int(1, 4)
        weight = self.grid(outputs, s[1] // groups, *kernel)
        bias = self.of(None, self.normal(outputs))
        function = F.conv1d if rank == 1 else F.conv2d
        return Holder(lambda x, w, b: function(x, w, b, stride, padding, dilation, groups), weight, bias)

    def conv_transpose(self, s):
        if len(s) not in (3, 4):
            return None
        rank, groups = len(s) - 2, self.of(*[g for g in range(1, s[1] + 1) if s[1] % g == 0])
        kernel, stride, dilation = ([self.int(1, 3) for _ in range(rank)] for _ in range(3))
        padding = [self.int(0, d * (k - 1)) for k, d in zip(kernel, dilation, strict=True)]
        more = [self.int(0, max(a, b) - 1) for a, b in zip(stride, dilation, strict=True)]
        outputs = self.int(1, 4)
        weight = self.grid(s[1] // groups, groups * outputs, *kernel, channels=1)
        if groups > 1:  # one channel of every group shares an index
            weight = torch.cat([self.grid(s[1] // groups, outputs, *kernel, channels=1) for _ in range(groups)])
        function = F.conv_transpose1d if rank == 1 else F.conv_transpose2d
        bias = self.of(None, self.normal(groups * outputs))
        return Holder(lambda x, w, b: function(x, w, b, stride, padding, more, groups, dilation), weight, bias)

    def linear(self, s):
        outputs = self.int(1, 9)
        shape = self.of(None, (outputs,), (outputs,), (1,), (), (1, outputs))
        bias = None if shape is None else self.normal(*shape)
        if bias is not None and bias.ndim == 2 and len(s) != 2:
            bias = bias[0]
        return Holder(F.linear, self.grid(outputs, s[-1]), bias)

    def matmul(self, s):
        if self.int(0, 3) == 0 and len(s) > 1:
            return Holder(torch.matmul, self.grid(1, s[-1])[0])
        return Holder(torch.matmul, self.grid(s[-1], self.int(1, 9), channels=1))

    def addmm(self, s):
        if len(s) != 2:
            return None
        outputs, beta, alpha = self.int(1, 9), self.of(1, 2, 0.5), self.of(1, 2, 0.5)
        bias = self.normal(*self.of((outputs,), (1, outputs), (1,)))
        return Holder(
            lambda x, b, w: torch.addmm(b, x, w, beta=beta, alpha=alpha), bias, self.grid(s[-1], outputs, channels=1)
        )

    def mv(self, s):
        return Holder(lambda x, w: torch.mv(w, x), self.grid(self.int(1, 9), s[0])) if len(s) == 1 else None

    def batch_norm(self, s):
        if len(s) not in (2, 3, 4):
            return None
        c, eps = s[1], self.of(1e-5, 1e-3, 0.5)
        variance = torch.from_numpy(self.rng.uniform(0.2, 3, c).astype(np.float32))
        gamma, beta = (self.of(None, self.normal(c)) for _ in range(2))
        return Holder(lambda x, m, v, g, b: F.batch_norm(x, m, v, g, b, eps=eps), self.normal(c), variance, gamma, beta)

    # Functions of one element.

    def activation(self, s):
        low = self.of(-1.0, -0.3, 0.0)
        slope = self.of(0.01, 0.2, -0.5, 1.5)
        return Holder(
            self.of(
                F.relu,
                F.relu6,
                torch.sigmoid,
                torch.tanh,
                F.hardswish,
                F.hardsigmoid,
                F.silu,
                F.gelu,
                lambda x: F.gelu(x, approximate="tanh"),
                F.selu,
                F.mish,
                F.logsigmoid,
                F.softsign,
                lambda x: F.elu(x, abs(low) + 0.5),
                lambda x: F.celu(x, abs(low) + 0.5),
                lambda x: F.softplus(x, abs(low) + 0.5),
                torch.square,
                torch.neg,
                lambda x: F.hardtanh(x, low, low + 1),
                lambda x: x.clamp(low, 0.7),
                lambda x: x.clamp(min=low),
                lambda x: x.clamp(max=low),
                lambda x: F.leaky_relu(x, slope),
                lambda x: F.threshold(x, low, low),
                lambda x: torch.clamp_min(x, low),
                lambda x: torch.clamp_max(x, low),
                lambda x: torch.maximum(x, torch.tensor(low)),
                lambda x: torch.minimum(torch.tensor(low), x),
                lambda x: F.prelu(x, torch.tensor([slope], dtype=x.dtype)),
                lambda x: F.relu(x, inplace=True) + 1,
                torch.sign,
                F.hardshrink,
                F.softshrink,
                lambda x: F.threshold(x, low, slope),
                lambda x: (x >= slope).float() + x,
                lambda x: torch.where((x > low) & ~(x < slope), x, x.flip(0)),
                lambda x: x.masked_fill(x <= slope, low),
                lambda x: torch.where(x > torch.relu(-x), x, 2.0),
            )
        )

    def arithmetic(self, s):
        c, k = self.number(), self.number()
        channel = [1] * len(s)
        channel[min(1, len(s) - 1)] = s[min(1, len(s) - 1)]
        constant = self.of(torch.tensor(c), self.normal(*channel), self.normal(s[-1]), self.normal(1))
        function = self.of(
            lambda x, t: x + t,
            lambda x, t: t + x,
            lambda x, t: x - t,
            lambda x, t: t - x,
            lambda x, t: x * t,
            lambda x, t: t * x,
            lambda x, t: x / (t.abs() + 1),
            lambda x, t: x + c,
            lambda x, t: c - x,
            lambda x, t: x * c,
            lambda x, t: x / c,
            lambda x, t: torch.add(x, t, alpha=k),
            lambda x, t: torch.sub(x, t, alpha=k),
            lambda x, t: torch.sub(t, x, alpha=k),
            lambda x, t: torch.rsub(x, t, alpha=k),
        )
        return Holder(function, constant)

    def join(self, s):
        k, axis = self.number(), self.of(min(1, len(s) - 1), self.int(1, max(1, len(s) - 1)) % len(s))
        return Holder(
            self.of(
                lambda x: x + torch.relu(x),
                lambda x: torch.add(torch.relu(x), x, alpha=k),
                lambda x: x * torch.sigmoid(x),
                lambda x: torch.sub(x, torch.relu(x), alpha=k),
                lambda x: torch.cat([x, x], axis),
                lambda x: torch.cat([x * k, torch.relu(x), x], axis),
                lambda x: x - x.relu(),
                lambda x: x * x,
            )
        )

    def gate(self, s):
        if len(s) not in (3, 4):
            return None
        space = tuple(range(2, len(s)))
        return Holder(
            self.of(
                lambda x: x * torch.sigmoid(x.mean(space, keepdim=True)),
                lambda x: torch.sigmoid(x.amax(space, keepdim=True)) * x,
                lambda x: x * torch.sigmoid(x[:, :1]),
            )
        )

    def softmax(self, s):
        dim = self.int(0, len(s) - 1)
        return Holder(self.of(lambda x: F.softmax(x, dim), lambda x: F.log_softmax(x, dim)))

    # Windows.

    def pool(self, s):
        if len(s) not in (3, 4):
            return None
        rank, ceil = len(s) - 2, self.of(False, True)
        kernel = [self.int(1, min(4, size)) for size in s[2:]]
        stride = self.of(None, [self.int(1, 3) for _ in kernel])
        padding = [self.int(0, k // 2) for k in kernel]
        if self.of(True, False):
            dilation = [self.int(1, 2) for _ in kernel]
            pool = F.max_pool1d if rank == 1 else F.max_pool2d
            return Holder(lambda x: pool(x, kernel, stride, padding, dilation, ceil))
        counted, divisor = self.of(False, True), self.of(None, None, 3, -2)
        if rank == 1:
            return Holder(lambda x: F.avg_pool1d(x, kernel, stride, padding, ceil, counted))
        return Holder(lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, counted, divisor))

    def adaptive(self, s):
        if len(s) not in (3, 4):
            return None
        size = [self.int(1, n + 1) for n in s[2:]]
        if len(s) == 3:
            return Holder(
                self.of(lambda x: F.adaptive_avg_pool1d(x, size[0]), lambda x: F.adaptive_max_pool1d(x, size[0]))
            )
        return Holder(self.of(lambda x: F.adaptive_avg_pool2d(x, size), lambda x: F.adaptive_max_pool2d(x, size)))

    def reduce(self, s):
        dims = tuple(d for d in range(len(s)) if self.of(True, False)) or (len(s) - 1,)
        if len(s) in (3, 4):
            dims = self.of(dims, (2,), (1,), tuple(range(2, len(s))))
        keep = self.of(False, True) or len(dims) == len(s)
        return Holder(
            self.of(
                lambda x: x.mean(dims, keepdim=keep),
                lambda x: x.sum(dims, keepdim=keep),
                lambda x: x.amax(dims, keepdim=keep),
                lambda x: x.amin(dims, keepdim=keep),
                lambda x: x.max(dims[0], keepdim=len(s) == 1)[0],
                lambda x: x.min(dims[0], keepdim=len(s) == 1)[0],
            )
        )

    def upsample(self, s):
        if len(s) not in (3, 4):
            return None
        factors = tuple(float(self.int(1, 4)) for _ in s[2:])
        linear, aligned = "linear" if len(s) == 3 else "bilinear", self.of(True, False)
        size = [int(f * n) for f, n in zip(factors, s[2:], strict=True)]
        return Holder(
            self.of(
                lambda x: F.interpolate(x, scale_factor=factors),
                lambda x: F.interpolate(x, size=size, mode="nearest-exact"),
                lambda x: F.interpolate(x, scale_factor=factors, mode=linear),
                lambda x: F.interpolate(x, size=[s + 1 for s in size], mode="nearest"),
                lambda x: F.interpolate(x, size=[s + 1 for s in size], mode=linear, align_corners=aligned),
            )
        )

    # Shapes.

    def pad(self, s):
        if len(s) not in (3, 4):
            return None
        amounts = [self.int(-1, 2) for _ in range(2 * (len(s) - 2))]
        value = self.of(0.0, 0.0, 0.3, -1.5)
        if self.of(True, False):
            amounts = [max(a, 0) for a in amounts]
        return Holder(lambda x: F.pad(x, amounts, value=value))

    def slice(self, s):
        dim = self.int(1, len(s) - 1) if len(s) > 1 else 0
        first = self.int(0, s[dim] - 1)
        part = slice(first, self.int(first + 1, s[dim]), self.int(1, 2))
        index = (slice(None),) * dim
        return Holder(
            self.of(
                lambda x: x[(*index, part)],
                lambda x: x.narrow(dim, first, 1),
                lambda x: x.select(dim, first) if len(s) > 2 else x[(*index, part)],
                lambda x: x[(*index, slice(-1, None))],
            )
        )

    def split(self, s):
        dim = self.int(1, len(s) - 1) if len(s) > 1 else 0
        if s[dim] < 2:
            return None
        cut = self.int(1, s[dim] - 1)
        return Holder(
            self.of(
                lambda x: x.split([cut, s[dim] - cut], dim)[1],
                lambda x: x.chunk(2, dim)[0],
                lambda x: x.split(cut, dim)[0],
            )
        )

    def reshape(self, s):
        batch, rest = s[0], math.prod(s[1:])
        if self.int(0, 3) == 0:
            shape = self.shape_of(math.prod(s))
            return Holder(lambda x: x.reshape(shape))
        if len(s) == 1:
            return Holder(self.of(lambda x: x.unsqueeze(0), lambda x: x.reshape(1, -1)))
        return Holder(
            self.of(
                lambda x: x.flatten(1),
                lambda x: x.reshape(batch, rest),
                lambda x: x.unsqueeze(-1),
                lambda x: x.reshape(batch, rest, 1),
                lambda x: x.squeeze(-1),
                lambda x: x.reshape(*s[:2], -1) if len(s) > 2 else x.reshape(batch, 1, rest),
                lambda x: x.unflatten(1, (s[1], 1)),
                lambda x: x.flatten(2) if len(s) > 2 else x[:],
            )
        )

    def order(self, s):
        dims = tuple(self.rng.permutation(len(s)).tolist())
        if len(s) == 3 and self.of(True, False):
            return Holder(lambda x: x.transpose(1, 2))
        if len(s) == 4 and self.of(True, False):
            return Holder(self.of(lambda x: x.permute(0, 2, 3, 1), lambda x: x.permute(0, 3, 1, 2)))
        return Holder(lambda x: x.permute(dims))

    def shuffle(self, s):
        if len(s) != 4:
            return None
        groups = self.of(*[g for g in range(1, s[1] + 1) if s[1] % g == 0])
        if not (s[2] % 2 or s[3] % 2) and self.of(True, False):
            return Holder(lambda x: F.pixel_unshuffle(x, 2))
        if s[1] % 4 == 0 and self.of(True, False):
            return Holder(lambda x: F.pixel_shuffle(x, 2))
        return Holder(lambda x: F.channel_shuffle(x, groups))

    def repeat(self, s):
        times = [1] * len(s)
        times[self.of(min(1, len(s) - 1), self.int(0, len(s) - 1))] = self.int(1, 3)
        return Holder(self.of(lambda x: x.repeat(*times), lambda x: x.unsqueeze(0).expand(2, *s)))

    def positions(self, s):
        dim = self.int(0, len(s) - 1)
        index = torch.from_numpy(self.rng.integers(0, s[dim], self.int(1, 5)))
        shift = self.int(-3, 3)
        pads = [self.int(0, n - 1) for n in s[:1:-1] for _ in range(2)]
        return Holder(
            self.of(
                lambda x: x.flip(dim),
                lambda x: x.repeat_interleave(2, dim),
                lambda x: x.tile(2),
                lambda x: F.glu(x, dim) if s[dim] % 2 == 0 else x,
                lambda x: x.roll(shift, dim),
                lambda x: x.index_select(dim, index),
                lambda x: x[(*(slice(None),) * dim, index)],
                lambda x: torch.stack([x, x * 2], dim),
                lambda x: x.unbind(dim)[-1] if len(s) > 1 else x,
                lambda x: x.unfold(dim, min(2, s[dim]), 1) if len(s) < 4 else x,
                lambda x: F.pad(x, pads, mode="reflect" if min(s[2:]) > 1 else "replicate") if len(s) > 2 else x,
                lambda x: F.pad(x, pads, mode="replicate") if len(s) > 2 else x,
                lambda x: F.pad(x, (0,) * (2 * (len(s) - 1 - dim)) + (1, 2)),
            )
        )

    def nothing(self, s):
        return Holder(
            self.of(
                lambda x: F.dropout(x, training=False),
                lambda x: x.clone(),
                lambda x: x.contiguous(),
                lambda x: x.to(x.dtype),
                lambda x: x.detach(),
                lambda x: x.type_as(x),
            )
        )


HELPERS = ("int", "of", "grid", "shape_of", "normal", "number")
OPERATORS = tuple(
    name for name, method in vars(Draw).items() if callable(method) and not name.startswith("_") and name not in HELPERS
)


MOVES = {"nothing", "repeat", "reshape", "slice", "split", "pad", "order", "shuffle"}


def draw_case(seed: int) -> Case:
    """One operator for two seeds in three, three operators otherwise, on an input of one to four dimensions."""
    draw = Draw(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rank = draw.of(1, 2, 2, 3, 3, 4, 4, 4, 4)
        shape = (draw.of(1, 1, 1, 2), draw.int(1, 9), *(draw.int(1, 7) for _ in range(2)))[:rank]
        if rank == 1:
            shape = (draw.int(1, 12),)
        x = draw.normal(*shape)
        steps, labels, value = [], [], x
        count = 1 if seed % 3 else 3
        for _ in range(200):
            name = OPERATORS[(seed + len(steps) * 7) % len(OPERATORS)] if not steps else draw.of(*OPERATORS)
            step = getattr(draw, name)(tuple(value.shape))
            name = name if step else draw.of(*OPERATORS)
            step = step or getattr(draw, name)(tuple(value.shape))
            if step is None:
                continue
            try:
                with torch.no_grad():
                    after = step(value.clone())
            except (RuntimeError, IndexError, ValueError):
                continue  # arguments that PyTorch itself refuses
            if not after.numel() or not after.ndim or after.numel() > 3000:
                continue
            steps.append(step)
            labels.append(name)
            value = after
            if len(steps) == count:
                break
        if labels and set(labels) <= MOVES:
            steps.append(Holder(lambda x: x * 1.5))  # a network that computes nothing is refused
        return Case(nn.Sequential(*steps).eval(), x, " ".join(labels))

# SPDX-License-Identifier: Apache-2.0
"""Small networks with branches, for the tests of the back end."""

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    """Additions before and after an activation, a BatchNorm that has no layer to fold into, a Linear."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 3, groups=6, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Linear(6 * 8 * 8, 5)

    def forward(self, x):
        x = self.first(x)
        y = F.relu(self.second(x) + x)
        z = self.norm(F.relu(self.depthwise(y)) + y) + y
        return self.last(z.flatten(1))


class Branches(nn.Module):
    """Concatenated branches, upsampling, Sigmoid at the end."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(3, 6, 3, padding=1)
        self.right = nn.Conv2d(3, 4, 1)
        self.join = nn.Conv2d(10, 3, 1)

    def forward(self, x):
        joined = self.join(torch.cat([self.left(x), self.right(x)], 1))
        return torch.sigmoid(F.interpolate(joined, scale_factor=2, mode="nearest"))


class CpuInBetween(nn.Module):
    """Softmax over channels between convolutions, and at the end; Tanh."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return torch.softmax(self.second(torch.softmax(torch.tanh(self.first(x)), 1)), 1)


class Gates(nn.Module):
    """Hardswish, squeeze and excitation, a gate per pixel, and SiLU of vectors."""

    def __init__(self):
        super().__init__()
        self.first, self.squeeze, self.excite = nn.Conv2d(3, 9, 3, padding=1), nn.Conv2d(9, 2, 1), nn.Conv2d(2, 9, 1)
        self.pixel, self.last = nn.Conv2d(9, 1, 3, padding=1), nn.Linear(9, 4)

    def forward(self, x):
        x = F.hardswish(self.first(x))
        x = x * F.hardsigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = torch.sigmoid(self.pixel(x)) * x
        return F.silu(self.last(x.amax((2, 3))))


class Products(nn.Module):
    """Products before and behind an activation, with constants and computed tensors of other shapes; slopes;
    larger and smaller ones of two tensors."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 9, 3, padding=1), nn.Conv2d(9, 9, 1), nn.Conv2d(9, 6, 3)
        self.slopes, self.behind = nn.PReLU(9), nn.PReLU(6)
        self.rows, self.pixels = nn.Parameter(torch.randn(6, 1)), nn.Parameter(torch.randn(1, 1, 6, 5))

    def forward(self, x):
        x = self.slopes(self.first(x))
        y = torch.relu(self.second(x) * self.rows) + x
        y = torch.minimum(y * self.pixels, x * x).clamp(-2, 2)
        y = torch.relu(self.second(y)) * x[:, :1]
        y = torch.maximum(y, y.amax(3, keepdim=True) * y.mean(2, keepdim=True))
        return self.behind(torch.clamp(self.third(y), -1, 1))

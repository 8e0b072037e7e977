# SPDX-License-Identifier: Apache-2.0
"""Import: any way of writing a model gives the same function; anything unsupported is refused by layer name."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import heepgen
from firmware_gen import ir
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.passes import run_passes
from hls.errors import HeepgenError


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and running statistic away from its default, so that nothing hides."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.dtype == torch.float32:
            fresh = torch.rand(tensor.shape, generator=generator) * 2 - 1
            tensor.data.copy_(fresh.abs() + 0.1 if name.endswith("var") else fresh)
    return model


def check_same(model: nn.Module, shape, tolerance=1e-5) -> ir.Graph:
    """Import and lower `model`, run both: they must agree; returns the lowered graph."""
    randomise(model).eval()
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    lowered = run_passes(import_model(model, x))
    with torch.no_grad():
        expected, got = model(x), GraphModule(lowered)(x)
    assert got.shape == expected.shape == lowered.shape(lowered.outputs[0])
    torch.testing.assert_close(got, expected, atol=tolerance * max(1, expected.abs().max().item()), rtol=0)
    return lowered


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b = nn.Linear(4 * 3 * 3, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.a(x)), 2)
        x = x.view(x.size(0), -1)
        return F.softmax(self.b(F.dropout(x, training=self.training)), dim=1)


class Sampled(nn.Module):
    """Where an affine transformation of its own places the outputs, some of them outside of the input."""

    def __init__(self, batch=1, **options):
        super().__init__()
        self.options = options
        self.register_buffer("transformation", torch.zeros(batch, 2, 3))

    def forward(self, x):
        grid = F.affine_grid(self.transformation, (len(self.transformation), 3, 4, 7), self.options["align_corners"])
        return torch.relu(F.grid_sample(x, grid, **self.options))


class InPlace(nn.Module):
    """relu_ whose result is not used by name."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 7)
        self.b = nn.Linear(7, 3)

    def forward(self, x):
        x = self.a(x)
        F.relu(x, inplace=True)
        return self.b(x)


class Call(nn.Module):
    """An nn.Module around one function, optionally with layers before and after."""

    def __init__(self, function, before=None, after=None):
        super().__init__()
        self.before, self.function, self.after = before or nn.Identity(), function, after or nn.Identity()

    def forward(self, x):
        return self.after(self.function(self.before(x)))


def conv(*args, **kwargs):
    return nn.Conv2d(*args, **kwargs)


MODELS = {
    "functional": (Functional(), (1, 3, 8, 8)),
    "in place": (InPlace(), (1, 6)),
    "nested": (nn.Sequential(nn.Sequential(nn.Sequential(conv(2, 3, 3)), nn.ReLU())), (1, 2, 6, 6)),
    "only relu": (nn.ReLU(), (1, 2, 3, 3)),
    "relu first": (nn.Sequential(nn.ReLU(), nn.Linear(4, 2)), (1, 4)),
    "only pool": (nn.MaxPool2d(2), (1, 2, 4, 4)),
    "flatten first": (nn.Sequential(nn.Flatten(), nn.Linear(18, 2)), (1, 2, 3, 3)),
    "flatten last": (nn.Sequential(conv(1, 3, 2), nn.Flatten()), (1, 1, 4, 4)),
    "no bias": (nn.Sequential(conv(2, 3, 3, bias=False), nn.Flatten(), nn.Linear(48, 3, bias=False)), (1, 2, 6, 6)),
    "linear batch": (nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), (7, 5)),
    "conv batch": (nn.Sequential(conv(2, 3, 3), nn.Flatten(), nn.Linear(12, 2)), (3, 2, 4, 4)),
    "linear vector": (nn.Linear(5, 4), (5,)),
    "flatten all": (Call(torch.flatten, conv(2, 3, 3), nn.Linear(48, 2)), (1, 2, 6, 6)),
    "flatten function": (Call(lambda x: torch.flatten(x, 1), conv(2, 3, 3), nn.Linear(48, 2)), (1, 2, 6, 6)),
    "reshape": (Call(lambda x: x.reshape(x.shape[0], -1), conv(2, 3, 3), nn.Linear(48, 2)), (1, 2, 6, 6)),
    "two reshapes": (Call(lambda x: x.flatten(2).flatten(1), conv(2, 3, 3), nn.Linear(48, 2)), (1, 2, 6, 6)),
    "unflatten": (Call(lambda x: x.view(-1, 1, 4, 4), None, conv(1, 2, 3)), (1, 16)),
    "relu after flatten": (nn.Sequential(conv(2, 3, 2), nn.Flatten(), nn.ReLU(), nn.Linear(12, 2)), (1, 2, 3, 3)),
    "rectangular": (conv(2, 3, (1, 3), stride=(2, 1), padding=(0, 1)), (1, 2, 5, 6)),
    "same odd": (conv(2, 3, 3, padding="same", dilation=2), (1, 2, 7, 6)),
    "same even": (conv(2, 3, (4, 2), padding="same"), (1, 2, 7, 6)),
    "valid": (conv(2, 3, 3, padding="valid"), (1, 2, 7, 6)),
    "groups": (conv(4, 6, 3, groups=2), (1, 4, 5, 5)),
    "depthwise": (conv(4, 8, 3, groups=4, stride=2, padding=1), (1, 4, 6, 5)),
    "zero pad": (nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), conv(2, 3, 3, padding=1)), (1, 2, 5, 5)),
    "pad function": (Call(lambda x: F.pad(x, (0, 1, 2, 0)), None, conv(2, 3, 3)), (1, 2, 5, 5)),
    "pad one": (Call(lambda x: F.pad(x, (0, 1), value=1.0), None, conv(2, 3, 3)), (1, 2, 5, 5)),
    "pad before max": (nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2)), (1, 2, 4, 6)),
    "pad before avg": (
        nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
        (1, 2, 6, 6),
    ),
    "bn after conv": (nn.Sequential(conv(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU()), (1, 2, 5, 5)),
    "bn after linear": (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, eps=1e-3), nn.ReLU()), (2, 4)),
    "bn not affine": (nn.Sequential(conv(2, 3, 3), nn.BatchNorm2d(3, affine=False)), (1, 2, 5, 5)),
    "bn twice": (nn.Sequential(conv(2, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)), (1, 2, 2, 2)),
    "bn after dropout": (nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.BatchNorm1d(3)), (2, 4)),
    "relu6": (nn.Sequential(nn.Linear(4, 9), nn.ReLU6(), nn.Identity()), (1, 4)),
    "clamp methods": (Call(lambda x: x.clamp_min(-0.2).clamp_max(0.3).detach(), nn.Linear(4, 90)), (3, 4)),
    "nearest exact": (nn.Upsample(scale_factor=(3, 2), mode="nearest-exact"), (1, 2, 3, 4)),
    "relu6 function": (Call(F.relu6, nn.Linear(4, 90)), (3, 4)),
    "clamps": (Call(lambda x: F.hardtanh(torch.clamp(x, max=0.3).relu(), -1, 0.2), nn.Linear(4, 9)), (1, 4)),
    "max pool": (nn.MaxPool2d(3, 2, 1), (1, 2, 7, 8)),
    "max pool ceil": (nn.MaxPool2d((2, 3), (3, 2), (1, 1), ceil_mode=True), (1, 2, 7, 8)),
    "max pool dilated": (nn.MaxPool2d(2, 1, dilation=2), (1, 2, 7, 8)),
    "max pool returning indices": (Call(lambda x: F.max_pool2d(x, 2, return_indices=True)[0]), (1, 2, 4, 4)),
    "avg pool": (nn.AvgPool2d(3, 2, 1), (1, 2, 7, 8)),
    "avg pool no border": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (1, 2, 7, 8)),
    "avg pool ceil": (nn.AvgPool2d(3, 2, 1, ceil_mode=True), (1, 2, 8, 8)),
    "avg pool ceil no border": (nn.AvgPool2d(3, 2, 1, True, False), (1, 2, 8, 8)),
    "avg pool divisor": (nn.AvgPool2d(2, divisor_override=3), (1, 2, 8, 8)),
    "padded avg pool ceil": (
        nn.Sequential(nn.ZeroPad2d((0, 3, 0, 1)), nn.AvgPool2d(2, 2, ceil_mode=True)),
        (1, 1, 4, 4),
    ),
    "softmax": (nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1)), (2, 4)),
    "log softmax": (Call(lambda x: F.log_softmax(x, dim=1), nn.Linear(4, 3)), (2, 4)),
    "log softmax of rows": (nn.Sequential(nn.Linear(3, 4), nn.LogSoftmax(-1)), (2, 5, 3)),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), (1, 4)),
    "shared layer": ((lambda fc: nn.Sequential(fc, nn.ReLU(), fc))(nn.Linear(4, 4)), (1, 4)),
    "conv1d": (
        nn.Sequential(
            nn.Conv1d(2, 6, 5, stride=2, padding=3, dilation=2, groups=2),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.MaxPool1d(3, 2, 1),
            nn.ConstantPad1d((2, 1), 0.5),
            nn.Conv1d(6, 3, 3, padding="same"),
            nn.AvgPool1d(2, padding=1),
            nn.Flatten(),
            nn.Linear(18, 2),
        ),
        (2, 2, 32),
    ),
    "transposed": (
        nn.Sequential(
            nn.ConvTranspose2d(2, 6, 3, 2, 1, output_padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.ConvTranspose2d(6, 4, (2, 5), (1, 3), (0, 2), groups=2, bias=False),
            nn.Sigmoid(),
        ),
        (2, 2, 5, 4),
    ),
    "transposed with gaps": (nn.ConvTranspose2d(2, 3, 1, 3), (1, 2, 3, 4)),
    "transposed and dilated": (nn.ConvTranspose2d(2, 4, 3, (2, 4), (1, 5), (1, 3), 2, dilation=(3, 2)), (1, 2, 4, 6)),
    "transposed after norm": (
        nn.Sequential(conv(2, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), nn.ConvTranspose2d(2, 3, 2, 2, bias=False)),
        (1, 2, 7, 7),
    ),
    "transposed, padded and cropped": (
        Call(lambda x: x[:, :, 1:-1, ::2], nn.Sequential(nn.ZeroPad2d(1), nn.ConvTranspose2d(2, 3, 3, 2))),
        (1, 2, 4, 4),
    ),
    "conv1d to maps": (nn.Sequential(nn.Conv1d(2, 3, 3), nn.LeakyReLU(0.2)), (1, 2, 9)),
    "conv1d over (N, L, C)": (
        Call(lambda x: x.transpose(1, 2), Call(lambda x: x.transpose(1, 2), None, nn.Conv1d(4, 3, 3))),
        (2, 9, 4),
    ),
    "leaky": (
        nn.Sequential(conv(2, 3, 3), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(48, 4), nn.LeakyReLU()),
        (1, 2, 6, 6),
    ),
    "prelu": (nn.Sequential(nn.Linear(4, 9), nn.PReLU()), (1, 4)),
    "sigmoid": (nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 3), nn.Tanh()), (2, 4)),
    "softmax inside": (nn.Sequential(nn.Linear(4, 3), nn.Softmax(1), nn.Linear(3, 2)), (1, 4)),
    "softmax of channels": (nn.Sequential(conv(2, 3, 3), nn.Softmax2d()), (1, 2, 6, 6)),
    "global pool": (nn.Sequential(conv(2, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)), (2, 2, 8, 8)),
    "adaptive": (nn.Sequential(nn.AdaptiveAvgPool2d((2, 3)), nn.AdaptiveMaxPool2d((None, 1))), (1, 2, 8, 9)),
    "adaptive 1d": (nn.Sequential(nn.Conv1d(2, 4, 3), nn.AdaptiveAvgPool1d(5), nn.AdaptiveMaxPool1d(1)), (1, 2, 12)),
    "mean": (Call(lambda x: x.mean((2, 3)), conv(2, 3, 3), nn.Linear(3, 2)), (1, 2, 6, 6)),
    "mean keepdim": (Call(lambda x: x.mean((-1, -2), keepdim=True), conv(2, 3, 3), conv(3, 2, 1)), (1, 2, 6, 6)),
    "mean over height": (
        Call(lambda x: x.mean(2), conv(2, 3, 3), nn.Sequential(nn.Conv1d(3, 2, 3), nn.ReLU())),
        (1, 2, 6, 7),
    ),
    "amax": (Call(lambda x: x.amax((2, 3)), conv(2, 3, 3), nn.Linear(3, 2)), (1, 2, 6, 6)),
    "upsample": (nn.Sequential(conv(2, 3, 3), nn.Upsample(scale_factor=2), nn.BatchNorm2d(3), nn.ReLU()), (1, 2, 5, 6)),
    "upsample size": (nn.Upsample((6, 4)), (1, 2, 2, 4)),
    "upsample 1d": (nn.Sequential(nn.Conv1d(2, 3, 3), nn.Upsample(scale_factor=3)), (1, 2, 7)),
    "residual": (Call(lambda x: F.relu(x + F.relu(x)), conv(2, 3, 3)), (1, 2, 6, 6)),
    "double": (Call(lambda x: x + x, conv(2, 3, 3)), (1, 2, 6, 6)),
    "difference": (Call(lambda x: x.relu() - x.tanh(), nn.Linear(4, 3)), (2, 4)),
    "alpha": (Call(lambda x: torch.add(x.relu(), x.tanh(), alpha=0.5), nn.Linear(4, 3)), (2, 4)),
    "product": (Call(lambda x: x * x.sigmoid(), nn.Linear(4, 3)), (2, 4)),
    "square": (Call(torch.square, nn.Linear(4, 3)), (4,)),
    "gates": (
        Call(lambda x: torch.sigmoid(x.mean((2, 3), keepdim=True)) * (x * x[:, :1]), conv(2, 3, 3)),
        (2, 2, 6, 5),
    ),
    "broadcast": (Call(lambda x: F.relu(x.mean(2, keepdim=True) - x), conv(2, 3, 3)), (2, 2, 6, 5)),
    "both broadcast": (Call(lambda x: x.mean(2, keepdim=True) + x.mean(3, keepdim=True), conv(2, 3, 3)), (2, 2, 6, 5)),
    "constant of its own shape": (
        Call(lambda x: (x + torch.eye(4)) * torch.ones(2, 3, 4, 4), conv(2, 3, 3)),
        (2, 2, 6, 6),
    ),
    "ranks": (Call(lambda x: x[0] - x, nn.Linear(4, 3)), (1, 4)),
    "product of a flattened map": (
        Call(lambda x: x * torch.sigmoid(x), nn.Sequential(conv(2, 3, 2), nn.Flatten())),
        (1, 2, 4, 4),
    ),
    "positional": (Call(lambda x: x + torch.tensor([[1.0], [2], [3], [4]])), (1, 2, 4, 4)),
    "slope per channel": (nn.Sequential(conv(2, 3, 3), nn.PReLU(3), nn.Flatten(), nn.PReLU(12)), (2, 2, 4, 4)),
    "larger and smaller": (
        Call(lambda x: torch.minimum(torch.max(x, x[:, :1]), torch.eye(4).abs()), conv(2, 3, 3)),
        (2, 2, 6, 6),
    ),
    "gates of a sequence": (
        Call(lambda x: x * x.mean(2, keepdim=True), nn.Conv1d(2, 3, 3), nn.Conv1d(3, 2, 1)),
        (2, 2, 9),
    ),
    "hardswish": (nn.Sequential(conv(2, 3, 3), nn.Hardswish(), conv(3, 2, 1), nn.Hardsigmoid()), (2, 2, 6, 5)),
    "silu": (nn.Sequential(nn.Linear(4, 3), nn.SiLU()), (4,)),
    "channel shuffle": (
        Call(
            lambda x: x.view(2, 3, 4, 4, 3).transpose(1, 2).reshape(2, 12, 4, 3),
            nn.Conv2d(3, 12, 3, groups=3),
            nn.Conv2d(12, 6, 1, groups=3),
        ),
        (2, 3, 6, 5),
    ),
    "channel shuffle of a sequence": (
        Call(lambda x: x.view(2, 2, 3, 7).transpose(1, 2).reshape(2, 6, 7), nn.Conv1d(2, 6, 3)),
        (2, 2, 9),
    ),
    "channel shuffle as a layer": (nn.Sequential(conv(2, 8, 3), nn.ChannelShuffle(4), nn.ReLU()), (1, 2, 6, 5)),
    "pixel shuffle": (nn.Sequential(conv(2, 18, 3), nn.PixelShuffle(3), conv(2, 2, 3)), (2, 2, 4, 5)),
    "constants": (Call(lambda x: -(3 - (x * 2 + 1) / 4 - 0.5), conv(2, 3, 3)), (1, 2, 6, 6)),
    "constants per channel": (
        Call(
            lambda x: x.relu() * torch.tensor([1.0, -2.0, 3.0]).view(3, 1, 1) + torch.tensor([[[[0.5]]]]), conv(2, 3, 3)
        ),
        (1, 2, 6, 6),
    ),
    "concat": (
        Call(lambda x: torch.cat([x, F.relu(x), F.max_pool2d(x, 3, 1, 1)], dim=1), conv(2, 3, 3), conv(9, 2, 1)),
        (2, 2, 6, 6),
    ),
    "concat vectors": (Call(lambda x: torch.cat([x.relu(), x.tanh()], -1), nn.Linear(4, 3), nn.Linear(6, 2)), (2, 4)),
    "concat of flattened": (
        Call(
            lambda x: torch.cat([x.relu().flatten(1), F.max_pool2d(x, 3, 1, 1).flatten(1)], 1),
            conv(2, 3, 3),
            nn.Linear(96, 2),
        ),
        (2, 2, 6, 6),
    ),
    "bn first": (nn.Sequential(nn.BatchNorm2d(2), conv(2, 4, 3, groups=2, padding=1)), (1, 2, 4, 4)),
    "bn first folded": (nn.Sequential(nn.BatchNorm2d(4), conv(4, 6, 3, groups=2, stride=2)), (1, 4, 5, 5)),
    "bn after relu": (nn.Sequential(conv(2, 3, 1), nn.ReLU(), nn.BatchNorm2d(3), nn.ReLU6()), (2, 2, 4, 4)),
    "bn before linear": (
        nn.Sequential(conv(2, 3, 1), nn.ReLU(), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 2)),
        (1, 2, 4, 4),
    ),
    "bn of flattened": (
        nn.Sequential(conv(2, 3, 1), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 2)),
        (2, 2, 4, 4),
    ),
    "bn 1d over maps": (nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Tanh()), (2, 2, 8)),
    "bn after pools": (
        nn.Sequential(conv(2, 3, 3), nn.AvgPool2d(2), nn.BatchNorm2d(3), nn.MaxPool2d(2), nn.BatchNorm2d(3)),
        (1, 2, 10, 10),
    ),
    "channels last input": (Call(lambda x: x.permute(0, 3, 1, 2), None, conv(3, 4, 3)), (2, 6, 6, 3)),
    "channels last output": (Call(lambda x: x.permute(0, 2, 3, 1).relu(), conv(3, 4, 3)), (2, 3, 6, 6)),
    "channels last flatten": (
        Call(lambda x: x.permute(0, 2, 3, 1).relu().flatten(1), conv(3, 4, 3), nn.Linear(64, 3)),
        (2, 3, 6, 6),
    ),
    "there and back": (
        Call(lambda x: x.permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2), conv(3, 4, 3), conv(4, 2, 3)),
        (2, 3, 6, 6),
    ),
    "height to one side": (Call(lambda x: x.view(1, 2, 2, 18), conv(3, 2, 1), conv(2, 3, (1, 5))), (1, 3, 6, 6)),
    "reshaped input": (nn.Sequential(nn.Unflatten(1, (2, 2, 2)), conv(2, 3, 2)), (1, 8)),
    "reshaped output": (nn.Sequential(nn.Linear(3, 8), nn.Unflatten(1, (2, 2, 2))), (1, 3)),
    "linear over rows": (nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5)), (2, 4, 3)),
    "unflatten inside": (
        nn.Sequential(
            nn.Linear(5, 24), nn.ReLU(), nn.Unflatten(1, (3, 2, 4)), conv(3, 2, 2), nn.Upsample(scale_factor=2)
        ),
        (2, 5),
    ),
    "unflatten of a vector": (Call(lambda x: x.view(1, 3, 2, 4), nn.Linear(5, 24), conv(3, 2, 2)), (5,)),
    "unflatten 1d": (nn.Sequential(nn.Linear(5, 24), nn.Unflatten(1, (3, 8)), nn.Conv1d(3, 2, 3)), (2, 5)),
    "unflatten with two readers": (
        Call(lambda x: x.view(2, 3, 2, 4).mean((2, 3)) + x.view(2, 3, 8).amax(2), nn.Linear(5, 24)),
        (2, 5),
    ),
    "channels last linear": (
        Call(
            lambda x: F.relu(x @ torch.ones(4, 5) + 1).permute(0, 3, 1, 2),
            Call(lambda x: x.permute(0, 2, 3, 1), conv(3, 4, 2)),
            conv(5, 2, 2),
        ),
        (2, 3, 5, 6),
    ),
    "channels last normalised": (
        Call(
            lambda x: ((x - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.1, 0.2, 0.3])).permute(0, 3, 1, 2),
            None,
            conv(3, 2, 2),
        ),
        (2, 5, 6, 3),
    ),
    "channels last bytes": (Call(lambda x: (x / 255 - 0.5).permute(0, 3, 1, 2), None, conv(3, 2, 2)), (2, 5, 6, 3)),
    "channels last relu": (Call(lambda x: x.relu().permute(0, 3, 1, 2), None, conv(3, 2, 2)), (2, 5, 6, 3)),
    "linear over maps": (nn.Sequential(conv(2, 3, 1), nn.Linear(8, 3)), (2, 2, 8, 8)),
    "reshape inside": (Call(lambda x: x.view(2, 2, 4, 8), conv(2, 4, 1), conv(2, 2, 1)), (2, 2, 4, 4)),
    "permute inside": (Call(lambda x: x.permute(0, 2, 1, 3), conv(2, 4, 1), conv(4, 2, 1)), (2, 2, 4, 4)),
    "sequence over channels": (Call(lambda x: x.flatten(2), conv(2, 3, 1), nn.Linear(16, 2)), (1, 2, 4, 4)),
    "detection head": (
        Call(lambda x: x.view(2, 2, 3, 4, 4).permute(0, 1, 3, 4, 2).reshape(2, -1, 3), conv(2, 6, 1), nn.Linear(3, 2)),
        (2, 2, 4, 4),
    ),
    "heads": (
        Call(lambda x: x.view(2, 5, 3, 2, 4)[:, :, 1].transpose(1, 2), nn.Linear(6, 24), nn.Linear(4, 3)),
        (2, 5, 6),
    ),
    "turned sequence": (Call(lambda x: x.permute(2, 0, 1), nn.Linear(6, 4), nn.Linear(5, 3)), (2, 5, 6)),
    "steps of a sequence": (Call(lambda x: x[:, 1] + x[:, -1], nn.Linear(6, 4), nn.Linear(4, 3)), (2, 5, 6)),
    "last of rows": (Call(lambda x: x[-1:], nn.Linear(6, 4), nn.Linear(4, 3)), (5, 6)),
    "last of steps first": (Call(lambda x: x[-1], nn.Linear(6, 4), nn.Linear(4, 3)), (5, 1, 6)),
    "linear over (N, H, W, C)": (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (2, 5, 6, 3)),
    "softmax of rows": (nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1)), (2, 5, 3)),
    "causal": (
        Call(lambda x: x[:, :, :-4].contiguous(), nn.Conv1d(2, 3, 3, padding=4, dilation=2), nn.Conv1d(3, 2, 1)),
        (2, 2, 9),
    ),
    "last step": (Call(lambda x: x[..., -1], nn.Conv1d(2, 3, 3), nn.Linear(3, 2)), (2, 2, 9)),
    "narrow": (Call(lambda x: x.narrow(2, 1, 3).select(1, 2), conv(2, 3, 2)), (2, 2, 6, 6)),
    "slices": (Call(lambda x: x[:, 1:, ::2, 1:5:3], conv(2, 5, 2), conv(4, 2, 1)), (2, 2, 7, 8)),
    "slice of vectors": (Call(lambda x: x[:, 1:6:2], nn.Linear(4, 7), nn.Linear(3, 2)), (2, 4)),
    "slice of a vector": (Call(lambda x: x[2:], nn.Linear(4, 7)), (4,)),
    "split": (
        Call(lambda x: torch.cat([F.relu(p) for p in x.split(2, 1)[:2]], 1), conv(2, 5, 2), conv(4, 2, 1)),
        (2, 2, 7, 8),
    ),
    "split with sizes": (Call(lambda x: x.split([1, 4], 1)[1], conv(2, 5, 2)), (2, 2, 7, 8)),
    "chunk": (Call(lambda x: torch.add(*x.chunk(2, 1)), conv(2, 4, 2)), (2, 2, 7, 8)),
    "crop": (nn.Sequential(nn.ZeroPad2d((-1, 2, 0, -3)), conv(2, 3, 3, padding=1)), (1, 2, 8, 8)),
    "crop 1d": (nn.Sequential(nn.Conv1d(2, 3, 3), nn.ConstantPad1d((-2, -1), 0.5), nn.Conv1d(3, 2, 1)), (1, 2, 9)),
    "bn after a slice": (
        Call(lambda x: x[:, :, 1:], conv(2, 3, 3), nn.Sequential(nn.BatchNorm2d(3), nn.ReLU())),
        (1, 2, 7, 8),
    ),
    "copies of channels": (
        Call(lambda x: x.repeat(1, 3, 1, 1) + x.expand(-1, 3, -1, -1), None, conv(3, 2, 2)),
        (2, 1, 4, 4),
    ),
    "uneven adaptive": (
        nn.Sequential(conv(2, 3, 1), nn.AdaptiveAvgPool2d((3, 4)), nn.AdaptiveMaxPool2d((2, 7))),
        (2, 2, 8, 10),
    ),
    "uneven adaptive 1d": (
        nn.Sequential(nn.AdaptiveAvgPool1d(4), nn.BatchNorm1d(2), nn.AdaptiveMaxPool1d(3)),
        (2, 2, 9),
    ),
    "padded adaptive": (nn.Sequential(nn.ZeroPad2d(1), nn.AdaptiveAvgPool2d(3)), (1, 2, 5, 6)),
    "sum and max": (Call(lambda x: x.sum((2, 3)) + x.max(3).values.max(2)[0], conv(2, 3, 3)), (2, 2, 6, 7)),
    "bounds from tensors": (
        Call(
            lambda x: torch.minimum(torch.max(x, torch.zeros(1)), torch.full((3, 1, 1), 0.5)).clamp(
                torch.tensor(0.1), torch.tensor(0.4)
            ),
            conv(2, 3, 3),
        ),
        (2, 2, 6, 7),
    ),
    "threshold": (nn.Sequential(nn.Linear(4, 9), nn.Threshold(0, 0)), (3, 4)),
    "product with weights": (Call(lambda x: x @ torch.arange(12.0).view(4, 3)), (2, 4)),
    "conversions": (Call(lambda x: x.float().to(torch.float32).type_as(x), nn.Linear(4, 9)), (3, 4)),
    "weights computed": (
        Call(
            lambda x: F.conv2d(
                x,
                torch.stack([torch.arange(8.0).view(2, 2, 2).flip(1)[:, :2].tanh()] * 3)
                - torch.ones(3, 1, 1, 1).mean((1, 2, 3), keepdim=True),
            )
        ),
        (1, 2, 4, 4),
    ),
    "sampled": (Sampled(mode="bilinear", align_corners=False), (1, 3, 6, 5)),
    "sampled at the borders": (Sampled(padding_mode="border", align_corners=True), (1, 3, 6, 5)),
    "nearest, reflected": (Sampled(mode="nearest", padding_mode="reflection", align_corners=False), (1, 3, 6, 5)),
    "sampled cubic, a grid for each": (Sampled(2, mode="bicubic", align_corners=False), (2, 3, 6, 5)),
    "roll of all": (Call(lambda x: x.roll(-3)), (1, 2, 4, 4)),
    "slope of evaluation": (nn.Sequential(nn.Linear(4, 3), nn.RReLU(0.1, 0.35)), (2, 4)),
    "statistics of training": (nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (2, 3, 4, 5)),
    "spectral norm": (nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)), (1, 4)),
    "train mode": (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout(0.9)).train(), (2, 4)),
}


@pytest.mark.parametrize("name", MODELS)
def test_imported_model_computes_the_same(name):
    lowered = check_same(*MODELS[name])
    assert not any(isinstance(node, ir.BatchNorm | ir.Identity) for node in lowered.nodes)


def test_core_aten_program_imports():
    model = randomise(nn.Sequential(conv(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                                    nn.Linear(8, 3), nn.Linear(3, 2, bias=False))).eval()  # fmt: skip
    x = torch.randn(1, 1, 6, 6)
    program = torch.export.export(model, (x,)).run_decompositions()
    torch.testing.assert_close(GraphModule(run_passes(import_model(program)))(x), model(x))


def test_names_are_module_paths_and_unique():
    named = nn.Sequential(
        OrderedDict(conv1=conv(1, 2, 3), act=nn.ReLU(), body=nn.Sequential(nn.Flatten(), nn.Linear(8, 2)))
    )
    graph = import_model(named, (1, 1, 4, 4))
    assert [n.name for n in graph.nodes] == ["conv1", "act", "body.0", "body.1"]
    names = [n.name for n in import_model(Functional(), (1, 3, 8, 8)).nodes]
    assert names[:3] == ["a", "relu_0", "max_pool2d_0"] and "b" in names
    shared = nn.Linear(4, 4)
    assert [n.name for n in import_model(nn.Sequential(shared, nn.ReLU(), shared), (1, 4)).nodes] == ["0", "1", "2"]


def test_training_flags_are_put_back():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[1].eval()
    import_model(model, (1, 2))
    assert model.training and model[0].training and not model[1].training


def test_weights_are_exact_and_read_only():
    model = nn.Linear(3, 2)
    (node,) = import_model(model, (1, 3)).nodes
    assert node.weight.dtype == np.float64
    np.testing.assert_array_equal(node.weight, model.weight.detach().numpy().astype(np.float64))
    with pytest.raises(ValueError):
        node.weight[0, 0] = 1


class Residual(nn.Module):
    """A block of a residual network, its BatchNorm before the addition, and an output taken from the middle."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(conv(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(conv(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.first(x)
        y = F.relu(self.second(x) + x)
        return self.head(y.mean((2, 3))), {"features": y, "stem": x}


def test_residual_block_with_several_outputs():
    model = randomise(Residual()).eval()
    x = torch.randn(2, 3, 6, 6)
    lowered = run_passes(import_model(model, x))
    assert [(n.name, n.op) for n in lowered.nodes[:2]] == [("first.0", "Conv2d"), ("second.0", "Conv2d")]
    assert lowered.nodes[1].residual == "before_act" and lowered.nodes[1].act == ir.RELU
    with torch.no_grad():
        head, rest = model(x)
        got = GraphModule(lowered)(x)
    for a, b in zip(got, (head, rest["features"], rest["stem"]), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


class TwoInputs(nn.Module):
    def forward(self, a, b):
        return a + b


REFUSED = {
    "unbatched conv": (nn.Sequential(conv(2, 3, 3)), (2, 8, 8), ["layer 0", "(2, 8, 8)", "(N, C, H, W)"]),
    "output of integers": (Call(lambda x: (x > 0).sum(1)), (1, 2, 4, 4), ["output 0", "int64", ".float()"]),
    "integers of one byte": (Call(lambda x: x.to(torch.int8).float()), (1, 2), ["_to_copy", "int8", "int64"]),
    "remainder of 0.3": (Call(lambda x: x % 0.3), (1, 2), ["remainder", "power of two"]),
    "mask": (Call(lambda x: x[:, torch.tensor([True, False, True])]), (2, 3), ["by a mask", "mask.nonzero()"]),
    "computed grid": (
        Call(lambda x: F.grid_sample(x, x.transpose(1, 3), align_corners=False)),
        (1, 2, 4, 4),
        ["grid is computed", "buffer"],
    ),
    "many stretches": (Call(lambda x: x.flip(1)), (1, 99), ["flip", "99 stretches", "64 at most"]),
    "odd factor": (nn.Upsample(scale_factor=1.3), (1, 2, 5, 4), ["upsample", "=1.3 makes 5 of 4", "give size"]),
    "crop of everything": (nn.Sequential(nn.ZeroPad2d((-8, 1, 0, 0))), (1, 2, 8, 8), ["layer 0", "crops everything"]),
    "crop of the batch": (Call(lambda x: x[1:]), (3, 2, 4, 4), ["slice", "batch"]),
    "empty slice": (Call(lambda x: x[:, 2:]), (3, 2, 4, 4), ["slice", "nothing is left"]),
    "choice of infinities": (Call(lambda x: torch.where(x > 0.5, x.log(), -x)), (1, 4), ["where", "log", "clamp"]),
    "choice of moved infinities": (
        Call(lambda x: torch.where(x[:, :, 1:] > 0.5, torch.cat([x.log(), x], 1)[:, :2, 1:], 0.0)),
        (1, 2, 3, 3),
        ["where", "log", "clamp"],
    ),
    "truths": (Call(lambda x: x > 0.5), (1, 4), ["output 0", "bool", ".float()"]),
    "truth of numbers": (Call(lambda x: x * torch.logical_not(x)), (1, 4), ["logical_not", "compare them with 0"]),
    "power": (Call(lambda x: x**17), (1, 4), ["pow", "17", "whole numbers from 1 to 16"]),
    "powers": (Call(lambda x: x ** torch.tensor([1.0, 2.0])), (1, 2), ["pow", "exponents differ", "whole ones"]),
    "order": (Call(lambda x: x.norm(3, 1)), (1, 4), ["norm", "order is 3"]),
    "variance of one": (Call(lambda x: x.var(1)), (2, 1), ["var", "correction=0"]),
    "returns a constant": (Call(lambda x: (x.relu(), torch.tensor([1.0]))), (1, 4), ["output 1", "constant"]),
    "bn statistics": (nn.BatchNorm2d(2, track_running_stats=False), (1, 2, 4, 4), ["track_running_stats"]),
    "wrong shape": (nn.Linear(3, 2), (1, 4), ["shape (1, 4)"]),
    "returns its input": (nn.Identity(), (1, 4), ["computes nothing", "returns its input"]),
    "constant": (Call(lambda x: torch.arange(3)), (1, 4), ["output 0", "constant"]),
    "double": (nn.Linear(3, 2).double(), torch.zeros(1, 3, dtype=torch.float64), ["float64", "float32"]),
    "wider mean": (Call(lambda x: x.mean((2, 3), dtype=torch.float64)), (1, 2, 4, 4), ["mean", "float64", "float32"]),
    "seen as integers": (Call(lambda x: x.view(torch.int32)), (1, 4), ["view", "dtype=torch.int32"]),
    "always drops": (nn.Sequential(OrderedDict(d=Call(F.dropout))), (1, 4), ["dropout", "training=self.training"]),
    "data dependent": (Call(lambda x: x if x.sum() > 0 else -x), (1, 4), ["cannot trace"]),
    "no shape": (nn.Linear(3, 2), None, ["shape"]),
    "not a model": ({"a": 1}, (1, 3), ["dict"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    model, shape, words = REFUSED[name]
    with pytest.raises(HeepgenError) as caught:
        run_passes(import_model(model, shape))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize("bad, word", [(float("nan"), "NaN"), (float("inf"), "infinity")])
@pytest.mark.parametrize("field", ["weight", "bias"])
def test_not_finite_weights_are_refused(bad, word, field):
    model = nn.Sequential(OrderedDict(fc0=nn.Linear(3, 3), fc1=nn.Linear(3, 2)))
    getattr(model.fc1, field).data.view(-1)[1] = bad
    with pytest.raises(HeepgenError, match=f"layer fc1: its {field} contains {word}"):
        import_model(model, (1, 3))


def test_bad_variance_is_refused():
    model = nn.Sequential(conv(1, 2, 1), nn.BatchNorm2d(2))
    model[1].running_var[0] = -1
    with pytest.raises(HeepgenError, match="layer 1: its variance"):
        import_model(model, (1, 1, 2, 2))


class ManyInputs(nn.Module):
    def forward(self, first, rest, flag=True):
        return first + rest["left"] + rest["right"][0]


def test_several_inputs_are_taken_in_order_and_missed_by_name():
    x = torch.zeros(1, 2)
    nested = torch.export.export(ManyInputs(), (x, {"left": x, "right": [x]}))
    assert import_model(nested).inputs == ("first", "rest_left", "rest_right_0")
    assert import_model(TwoInputs(), (x, torch.zeros(1, 2))).inputs == ("a", "b")
    with pytest.raises(HeepgenError, match=r"2 inputs \(a, b\), 1 is given: give an example of each"):
        import_model(TwoInputs(), (1, 2))
    program = torch.export.export(TwoInputs(), (x, torch.zeros(1, 2)))
    with pytest.raises(HeepgenError, match=r"2 inputs \(a, b\), 3 are given"):
        import_model(program, (x, x, x))
    with pytest.raises(HeepgenError, match="input flag is not a tensor"):
        import_model(torch.export.export(ManyInputs(), (x, {"left": x, "right": [x]}, False)))


class Constant(nn.Module):
    def forward(self):
        return torch.zeros(3)


def test_a_model_without_input_is_refused():
    with pytest.raises(HeepgenError, match="has no input"):
        import_model(torch.export.export(Constant(), ()))


def test_exported_program_checks():
    program = torch.export.export(nn.Linear(3, 2), (torch.zeros(1, 3),))
    assert import_model(program, (1, 3)).inputs
    with pytest.raises(HeepgenError, match=r"shape \(1, 4\).*exported for \(1, 3\)"):
        import_model(program, (1, 4))
    training = torch.export.export(nn.Sequential(nn.Dropout()).train(), (torch.zeros(1, 3),))
    with pytest.raises(HeepgenError, match=r"layer 0 \(dropout\).*training mode.*eval"):
        import_model(training)
    norm = torch.export.export(nn.Sequential(conv(1, 1, 1), nn.BatchNorm2d(1)).train(), (torch.zeros(2, 1, 2, 2),))
    with pytest.raises(HeepgenError, match="layer 1 .*training mode"):
        import_model(norm)
    dynamic = torch.export.export(nn.Linear(3, 2), (torch.zeros(4, 3),), dynamic_shapes=({0: torch.export.Dim("n")},))
    assert import_model(dynamic).shape("input") == (1, 3) and import_model(dynamic, (4, 3)).shape("input") == (4, 3)


@pytest.mark.parametrize("options", [{}, {"eps": 1e-2, "keepdim": True}, {"p": 1}], ids=str)
def test_distances_have_their_own_epsilon(options):
    """1e-6, which float32 rounds, not that of the tensors' type."""

    class Distance(nn.Module):
        def forward(self, x, y):
            return F.pairwise_distance(x, y, **options)

    torch.manual_seed(0)
    x = torch.randn(3, 8)
    inputs = x, x + 0.03 * torch.randn(3, 8)
    got = heepgen.compile(Distance(), inputs).compiled.generator.reference(inputs).output
    np.testing.assert_allclose(got, Distance()(*inputs).numpy(), rtol=2e-6)


QUERY = nn.Linear(16, 16)


@pytest.mark.parametrize(
    "model, shape, kind",
    [
        (Call(lambda y: y.view(1, 9, 2, 8).transpose(1, 2) * 8**-0.5, QUERY), (1, 9, 16), ir.Linear),
        (Call(lambda y: y.view(1, 2, 3, 4, 4).permute(0, 1, 3, 4, 2) * 2 - 0.5, conv(3, 6, 3)), (1, 3, 6, 6), ir.Conv),
        (Call(lambda y: F.pixel_shuffle(y, 2)[:, :, 1:] / 4, conv(3, 8, 3)), (1, 3, 6, 6), ir.Conv),
        (Call(lambda y: (y @ y.transpose(1, 2)).unsqueeze(1) / 3), (1, 5, 4), ir.MatMul),
        (Call(lambda y: (y * 0.3).view(1, 9, 2, 8).transpose(1, 2) @ y[:, :8]), (1, 9, 16), ir.MatMul),
    ],
)  # fmt: skip
def test_a_number_for_all_elements_is_a_factor_of_the_layer_behind_their_movements(model, shape, kind):
    nodes = check_same(model, shape).nodes
    assert not [n for n in nodes if isinstance(n, ir.Scale | ir.Combined)]
    assert any(isinstance(n, kind) for n in nodes)


def test_numbers_of_channels_do_not_move_with_them():
    """Nor does a sum pass a product of matrices, or a factor what others read too."""
    factors = torch.arange(1.0, 9.0)
    check_same(Call(lambda y: y.view(1, 9, 2, 8).transpose(1, 2) * factors, QUERY), (1, 9, 16))
    check_same(Call(lambda y: F.pixel_shuffle(y, 2) * factors[:2].view(2, 1, 1), conv(3, 8, 3)), (1, 3, 6, 6))
    check_same(
        nn.Sequential(Call(lambda x: F.pixel_shuffle(x * factors.view(8, 1, 1), 2)), conv(2, 3, 3)), (1, 8, 3, 3)
    )
    check_same(Call(lambda y: (y + 0.3).transpose(1, 2) @ y), (1, 9, 6))
    check_same(Call(lambda y: torch.cat([y.view(1, 16, 9) * 3, y.transpose(1, 2)], 2), QUERY), (1, 9, 16))


def test_empty_parts_of_a_split_join_nothing():
    """As ONNX's RotaryEmbedding has them, which may leave features as they are."""

    def rotate(x):
        turned, kept = x.split([6, 0], 2)
        one, other = turned.chunk(2, 2)
        return torch.cat([one * 2 - other, other + one, kept], 2)

    check_same(Call(rotate, nn.Linear(6, 6)), (1, 5, 6))

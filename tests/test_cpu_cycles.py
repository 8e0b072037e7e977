# SPDX-License-Identifier: Apache-2.0
"""Cycles of the CPU's layers: predicted by iterations of its loops, against the RTL, on layers that nobody measured."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import heepgen
from firmware_gen.ir import cpu, sequence
from firmware_gen.ir.costs import COSTS, costs
from firmware_gen.models.cpu_cycles import cycles_of, window_iterations
from firmware_gen.operations.windows import Windowed
from tests.house import ROOT

LARGEST = 0.2
"""Of a layer's prediction, against what it takes, as docs/scheduling.md says."""
AROUND = 400
"""Cycles of a small layer's prediction besides."""


class _Operators(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(24), nn.Linear(24, 24)

    def forward(self, x):
        y = self.norm(self.linear(x))
        heads = y.reshape(1, 9, 3, 8).transpose(1, 2)
        y = (heads @ heads.transpose(2, 3)).softmax(-1) @ heads
        return y.transpose(1, 2).reshape(1, 9, 24).log_softmax(-1)


class _Kernels(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.apart = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 12, 3, stride=2, groups=12)
        self.point, self.linear = nn.Conv2d(12, 10, 1), nn.Linear(10, 7)

    def forward(self, x):
        x = F.relu(self.point(self.apart(F.max_pool2d(F.leaky_relu(self.conv(x)), 2))))
        return self.linear(F.silu(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("model", "shape", "options"),
    [
        (_Operators(), (1, 9, 24), {"rows": 4, "cols": 4, "ports": 1}),
        (_Kernels(), (1, 3, 14, 12), {"architecture": "cpu"}),
    ],
)
def test_layers_take_what_is_predicted(model, shape, options):
    torch.manual_seed(5)
    net = heepgen.compile(model.eval(), torch.randn(shape), **options)
    estimate, report = net.estimate(), net.run()
    assert not estimate.left_out
    measured = {layer.name: layer for layer in report.layers}
    predicted = [layer for layer in estimate.layers if layer.on_cpu and layer.cycles]
    assert len(predicted) > 3
    for layer in predicted:
        taken = measured[layer.name].cycles
        assert abs(layer.cycles - taken) < LARGEST * taken + AROUND, (layer.op, layer.cycles, taken)
    assert abs(estimate.total_cycles - report.total_cycles) < 0.1 * report.total_cycles


class _Windows(nn.Module):
    """Padded and strided, of few channels and many, planar and not."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 12, 3, padding=1), nn.Conv2d(12, 20, 3, padding=1, stride=2)
        self.c, self.d = nn.Conv2d(20, 16, (5, 1), padding=(2, 0)), nn.Conv2d(16, 5, 3)

    def forward(self, x):
        return self.d(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["streaming", str(ROOT / "examples" / "architectures" / "int8_dot")])
def test_products_take_what_is_predicted(architecture):
    torch.manual_seed(7)
    net = heepgen.compile(_Windows().eval(), torch.randn(1, 2, 11, 9), architecture=architecture)
    measured = {layer.name: layer.cycles for layer in net.run().layers}
    for layer in net.estimate().layers:
        if layer.macs:
            taken = measured[layer.name]
            assert abs(layer.cycles - taken) < LARGEST * taken + AROUND, (layer.name, layer.cycles, taken)


def test_every_operator_of_the_cpu_is_known():
    kernels = {kernel for kernel, _ in costs()}
    own = {
        kind.kernel
        for kind in (
            cpu.Apply,
            cpu.Softmax,
            cpu.Product,
            cpu.Slopes,
            sequence.MatMul,
            sequence.Planes,
            sequence.Normalise,
        )
    }
    assert own | {*cpu.ELEMENTARY.values(), "log_softmax", "root_mean_square"} <= kernels
    assert all(cycles >= 0 for cycles in costs().values())


def test_the_document_has_the_errors_that_were_measured():
    found, page = json.loads(COSTS.read_text()), (ROOT / "docs" / "scheduling.md").read_text()
    mean, most = (f"{100 * found[name]:.1f} %" for name in ("mean_error", "largest_error"))
    assert (
        f"Over the {found['layers']} layers that were measured that is {mean} off on average, {most} at most." in page
    )
    assert f"by up to {LARGEST:.0%}".replace("%", " %") in page


def test_what_was_never_measured_is_not_guessed():
    assert cycles_of({("fft", "call"): 1}) is None
    assert cycles_of({}) == 0


@pytest.mark.parametrize("channels_first", [False, True])
def test_every_multiplication_is_counted_once(channels_first):
    """Of 7 x 9 pixels without padding: as many as there are, in blocks of four outputs, pixels that are computed again
    with their neighbours included."""
    op = Windowed(6, 9, 11, 7, 9, kernel=(3, 3), cout=8)
    iterations = window_iterations("dense", op, channels_first)
    groups = 7 * 3  # of 9 pixels in a row, the last four are three that were there, and a new one
    assert iterations["dense", "four"] == 2 * groups and ("dense", "one") not in iterations
    taps = 4 * iterations.get(("dense", "taps of four"), 0) + iterations.get(("dense", "tap of four"), 0)
    assert taps == 2 * groups * 9 * 6
    assert iterations["dense", "run of four"] == 2 * groups * 3 * (6 if channels_first else 1)
    assert iterations["dense", "output"] == 7 * 9 * 8

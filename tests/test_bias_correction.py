# SPDX-License-Identifier: Apache-2.0
"""Bias correction: means of a layer with biased weight error, the whole network, and every way to ask for it."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.emit.folder import GENERATED
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.models.bias_correction import MOST_INPUTS, corrected_biases
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.passes import run_passes
from firmware_gen.passes.quantise import quantise, with_biases
from gen.cli import main
from gen.flows.measure.run import Application, run
from hls.config import Config
from hls.errors import HeepgenError
from hls.output import marker


def mean_errors(lowered, quantised, x):
    """Mean error of every channel of the output, and of its quantised weights alone in float64."""
    with torch.no_grad():
        exact, got = (GraphModule(g).double()(torch.from_numpy(x).double()) for g in (lowered, quantised))
    return (got - exact).movedim(1, 0).flatten(1).mean(1).numpy()


STEP = 2.0**-7


def biased_linear(rng):
    """Every weight but the largest lies a third of a step above a code, so that rounding always takes some away."""
    codes = rng.integers(-100, 100, (6, 20)) + 1 / 3
    codes[:, 0] = 127
    layer = nn.Linear(20, 6)
    layer.weight.data = torch.from_numpy(codes * STEP).float()
    return layer.eval()


def test_mean_error_of_a_layer_with_biased_weights_goes():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 2, (300, 20)).astype(np.float32)
    fresh = rng.uniform(0, 2, (3000, 20)).astype(np.float32)
    lowered = run_passes(import_model(biased_linear(rng), (1, 20)))
    plain = quantise(lowered)
    corrected = with_biases(plain, corrected_biases(lowered, plain, x))
    expected = -19 * STEP / 3  # of inputs with mean 1
    np.testing.assert_allclose(mean_errors(lowered, plain, x), expected, rtol=0.03)
    largest = np.abs(plain.nodes[0].bias).max()
    assert np.abs(mean_errors(lowered, corrected, x)).max() <= (largest + abs(expected)) * 2.0**-24 * 1.001
    # On inputs it has not seen, up to what 300 of them tell about the mean: 4 standard errors.
    spread = STEP / 3 * np.sqrt(19 / 3 / 300)
    assert np.abs(mean_errors(lowered, corrected, fresh)).max() < 4 * spread < abs(expected) / 10
    assert [n.weight.tobytes() for n in corrected.nodes] == [n.weight.tobytes() for n in plain.nodes]


def test_exact_weights_keep_their_biases():
    layer = nn.Conv2d(2, 3, 3, padding=1)
    layer.weight.data = torch.randint(-126, 127, layer.weight.shape).float()
    layer.weight.data[:, 0, 0, 0] = 127
    lowered = run_passes(import_model(nn.Sequential(layer, nn.ReLU()).eval(), (1, 2, 5, 5)))
    quantised = quantise(lowered)
    biases = corrected_biases(lowered, quantised, np.random.default_rng(0).normal(1, 1, (8, 2, 5, 5)))
    np.testing.assert_array_equal(biases["0"], quantised.nodes[0].bias)


class Net(nn.Module):
    """Convolutions with residual, a depthwise one, per-channel scale, Linear."""

    def __init__(self):
        super().__init__()
        self.stem, self.block = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.depthwise, self.norm = nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = self.norm(torch.relu(self.block(x) + x))
        return self.head(torch.relu(self.depthwise(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bias")
    torch.manual_seed(0)
    model = Net().eval()
    torch.export.save(torch.export.export(model, (torch.zeros(2, 2, 6, 6),)), folder / "net.pt2")
    x = np.random.default_rng(0).normal(0.5, 1, (101, 2, 6, 6)).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    return folder, model, x


def test_the_output_of_a_network_is_right_in_the_mean(saved):
    _, model, x = saved
    lowered = run_passes(import_model(model, (2, 2, 6, 6)))
    plain = quantise(lowered, per_channel=False)
    corrected = with_biases(plain, corrected_biases(lowered, plain, x))
    before, after = (np.abs(mean_errors(lowered, g, x[:100])) for g in (plain, corrected))
    assert (after < 1e-6).all() and before.max() > 1e-4


def test_at_most_so_many_inputs_are_used(saved):
    lowered = run_passes(import_model(saved[1], (2, 2, 6, 6)))
    x = np.random.default_rng(1).normal(size=(MOST_INPUTS + 2, 2, 6, 6))
    other = x.copy()
    other[MOST_INPUTS:] = 100
    first, second = (corrected_biases(lowered, quantise(lowered), data) for data in (x, other))
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "x, message",
    [
        (np.zeros((4, 2, 6, 5)), r"\[4, 2, 6, 5\].*takes \[2, 2, 6, 6\]"),
        (np.zeros((1, 2, 6, 6)), r"one batch at least"),
        (np.full((2, 2, 6, 6), np.nan), "NaN or infinity"),
    ],
)
def test_inputs_that_cannot_be_used(saved, x, message):
    lowered = run_passes(import_model(saved[1], (2, 2, 6, 6)))
    with pytest.raises(HeepgenError, match=message):
        corrected_biases(lowered, quantise(lowered), x)


def test_sw_run_and_eval_take_it(saved, tmp_path):
    folder, model, x = saved
    plain, corrected = tmp_path / "plain", tmp_path / "corrected"
    data = ["--bias-correction", str(folder / "x.npz")]
    for out, options in ((plain, []), (corrected, data)):
        done = CliRunner().invoke(main, ["sw", str(folder / "net.pt2"), "-o", str(out), "--calibrate", "mse", *options])
        assert done.exit_code == 0, done.output
    # Off, it changes nothing.
    generator = CodeGenerator(model, np.zeros((2, 2, 6, 6), np.float32), calibrate="mse")
    assert marker(plain / GENERATED)["options"]["biases"] is None
    lowered = run_passes(import_model(model, (2, 2, 6, 6)))
    assert [n.bias.tobytes() for n in generator.graph.nodes if hasattr(n, "weight")] == [
        n.bias.tobytes() for n in quantise(lowered, calibrate="mse").nodes if hasattr(n, "weight")
    ]
    # On, firmware and another input of the same folder have the corrected biases.
    biases = corrected_biases(lowered, quantise(lowered, calibrate="mse"), x)
    assert {k: np.float32(v).tolist() for k, v in marker(corrected / GENERATED)["options"]["biases"].items()} == {
        k: v.tolist() for k, v in biases.items()
    }
    np.save(tmp_path / "other.npy", x[:2])
    got = []
    for app in (plain, corrected):
        report = run(app, Config(), input_path=tmp_path / "other.npy", software=True)
        assert report.bit_exact
        got.append(report.outputs[0].reshape(2, 4))
        assert Application.open(app).options.calibrate == "mse"
    wanted = GraphModule(with_biases(quantise(lowered, calibrate="mse"), biases)).double()
    with torch.no_grad():
        exact = wanted(torch.from_numpy(x[:2]).double()).numpy()
    assert np.abs(got[1] - exact).max() < 1e-5 < np.abs(got[0] - exact).max()
    done = CliRunner().invoke(
        main, ["eval", str(folder / "net.pt2"), "--data", str(folder / "x.npz"), *data, "--json", "-"]
    )
    assert done.exit_code == 0 and json.loads(done.stdout)["largest_error"] < 1e-5


def test_a_file_without_inputs_is_refused(saved, tmp_path):
    np.savez(tmp_path / "empty.npz", y=np.zeros(3))
    done = CliRunner().invoke(
        main,
        [
            "sw",
            str(saved[0] / "net.pt2"),
            "-o",
            str(tmp_path / "app"),
            "--bias-correction",
            str(tmp_path / "empty.npz"),
        ],
    )
    assert done.exit_code == 1 and "--bias-correction" in done.output and "no array called x" in done.output
    assert not (tmp_path / "app").exists()

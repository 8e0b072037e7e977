# SPDX-License-Identifier: Apache-2.0
"""What alignment takes from a layer's outputs: measured against exact integers, told where it matters only."""

import json

import numpy as np
import pytest
import torch
from array_stimulus import vectors
from click.testing import CliRunner
from fp32_reference import to_exact
from torch import nn

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from gen.cli import main
from gen.flows.measure.measured import accelerated_layers
from gen.flows.measure.run import Application
from gen.flows.network.sw import generate_sw
from gen.results.runs.run import RunReport, alignment_warnings
from hls.arithmetic.aligned_error import NOTICEABLE, alignment_loss
from hls.config import Config

CONFIG = Config(rows=4, cols=4)
ROOMY = Config(bank_kib=128, memory_banks=8, memory_banks_interleaved=(8,))


def test_loss_and_magnitude_are_those_of_exact_integers():
    rng = np.random.default_rng(1)
    x = vectors(rng, 400, 6)
    w = rng.integers(-128, 128, (6, 3)).astype(np.int8)
    w[rng.random(w.shape) < 0.3] = 0
    loss, magnitude = alignment_loss(x, w)
    lossy = 0
    for n in range(len(x)):
        e = max(1, int((x[n] >> 23 & 255).max()))
        if e == 255:
            assert not loss[n].any() and not magnitude[n].any()
            continue
        lanes = [to_exact(int(v)) << 3 for v in x[n]]  # in units of 2**-152
        moved = []
        for lane in lanes:  # to a multiple of 2**e, ties away from zero
            down = (abs(lane) + (1 << e - 1)) >> e << e
            moved.append((down if lane >= 0 else -down) - lane)
        for c in range(3):
            exact = sum(m * int(k) for m, k in zip(moved, w[:, c])) * 2.0**-152
            size = sum(abs(v) * abs(int(k)) for v, k in zip(lanes, w[:, c])) * 2.0**-152
            most = sum(abs(m) * abs(int(k)) for m, k in zip(moved, w[:, c])) * 2.0**-152
            assert loss[n, c] == pytest.approx(exact, abs=1e-5 * most + 2.0 ** (e - 250))
            if any(moved):
                assert magnitude[n, c] == pytest.approx(size, rel=1e-5)
            lossy += exact != 0
    assert lossy > 100


def linear(weight):
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight, dtype=torch.float32))
    return layer


def losses(model, x, config=CONFIG):
    x = torch.as_tensor(x, dtype=torch.float32)
    return CodeGenerator(model.eval(), x, config=config).reference(taps=True).losses


@pytest.mark.parametrize(
    "model, x, expected",
    [
        (linear([[1, -1, 127, 127]]), [[2**26, 2**26, 0.25, 0.25]], 1),  # 0 instead of 63.5
        (linear([[0, 127, 5, -9], [1, 2, 3, 127]]), [[1e9, 1, 2, 3]], 1),  # the other channel is right, and huge
        (linear([[0, 127, 5, 9]]), [[1e5, 1, 2, 3]], 0),  # not a 4,096th
        (linear([[127, 1, 1, 1]]), [[1e9, 1, 1, 1]], 0),  # nor may FP32 hold them beside 1e11
    ],
    ids=["cancelling", "weight zero", "large", "beyond FP32"],
)
def test_alarm_where_outputs_are_wrong(model, x, expected):
    (share,) = losses(model, x).values()
    assert bool(alignment_warnings({"layer": share})) == bool(expected)
    if expected:
        assert share == pytest.approx(1)


def test_alarm_for_one_huge_activation_in_an_image():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 1))
    with torch.no_grad():
        model[0].weight[2, 1] = 0
    x = torch.randn(1, 4, 80, 80)  # several strips, and more pixels than the model takes at once
    assert not alignment_warnings(losses(model, x))
    x[0, 1, 70, 70] = 1e10
    found = losses(model, x)
    first = next(iter(found))
    assert alignment_warnings(found)[0].startswith(f"{first}: aligned arithmetic loses")
    assert losses(model, x, Config(rows=4, cols=4, arithmetic="fma")) == {}


def test_each_of_many_inferences_is_looked_at_for_itself():
    from firmware_gen.targets.descriptor import reference

    model = linear([[0, 127, 5, -9]])
    program = CodeGenerator(model.eval(), torch.zeros(1, 4), config=CONFIG).program()
    x = np.ones((40, 4), np.float32)
    x[:, 1:] *= 1e9  # their outputs are large
    assert max(reference.run_many(program, x, taps=True).losses.values()) == 0
    x[7] = [1e9, 1, 2, 3]
    assert max(reference.run_many(program, x, taps=True).losses.values()) == pytest.approx(1)


QUICK = ("digits", "mnist-multi_layer", "resnet8", "fc-autoencoder")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in NETWORKS]
)
def test_no_false_alarm(name):
    """On noise; none of them comes near the threshold."""
    example = NETWORKS[name]
    x = np.random.default_rng(3).standard_normal(example.input_shape, np.float32)
    found = losses(example.build(), x, ROOMY)
    assert found and max(found.values()) < NOTICEABLE / 1000


@pytest.fixture
def files(tmp_path):
    """A model whose input's first channel nobody needs, and a sample where it is huge."""
    model = nn.Sequential(linear([[0, 127, 5, 9], [0, 1, 2, 127]]), nn.ReLU(), linear([[1, 2]]))
    torch.export.save(torch.export.export(model.eval(), (torch.zeros(1, 4),)), tmp_path / "net.pt2")
    x = np.ones((3, 4), np.float32)
    x[:, 0] = 1e10
    np.save(tmp_path / "sample.npy", x[:1])
    np.savez(tmp_path / "data.npz", x=x)
    return tmp_path


def test_eval_tells(files):
    arguments = ["eval", str(files / "net.pt2"), "--data", str(files / "data.npz"), "--device", "cpu"]
    shown = CliRunner().invoke(main, arguments, catch_exceptions=False).output
    assert "0: aligned arithmetic loses 1.0e+00 of a channel's largest output" in shown and "--arith fma" in shown
    data = json.loads(CliRunner().invoke(main, [*arguments, "--json", "-"], catch_exceptions=False).output)
    assert len(data["warnings"]) == 1 and data["layers"][0]["alignment_loss"] == pytest.approx(1)
    fma = json.loads(CliRunner().invoke(main, [*arguments, "--arith", "fma", "--json", "-"]).output)
    assert fma["warnings"] == [] and fma["layers"][0]["alignment_loss"] is None


def test_run_tells_what_its_own_input_loses(files):
    """The figure comes with the application's reference; `run` puts it into layers, table and JSON."""
    for sample, alarms in ((files / "sample.npy", 1), (None, 0)):
        generate_sw(files / "net.pt2", CONFIG, files / "app", sample=sample, force=True)
        application = Application.open(files / "app")
        layers = application.manifest["layers"]
        records = [
            dict.fromkeys(application.manifest["profile"]["words"], 1) for layer in layers for _ in layer["descriptors"]
        ]
        reports = accelerated_layers(layers, [0] * (2 + len(layers)), records, application.reference["layers"])
        run = RunReport("net", "4x4", 16, 1, (), tuple(reports))
        assert len(run.warnings) == alarms

# SPDX-License-Identifier: Apache-2.0
"""heepgen eval: three models on one data set; many inferences of the bit-exact model at once."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.targets.descriptor import reference
from gen.cli import main
from gen.flows.network.data import load_data
from gen.flows.network.eval import evaluate
from hls.config import Config
from hls.errors import HeepgenError
from tests import networks

CONFIG = Config(rows=4, cols=3)


@pytest.mark.parametrize(
    "model, shape, config",
    [
        (networks.Residual(), (2, 3, 8, 8), Config(rows=5, cols=6, arithmetic="fma")),
        (networks.Branches(), (1, 3, 8, 8), Config(rows=3, cols=7, ports=3)),
        (networks.CpuInBetween(), (3, 3, 8, 8), Config()),
        (nn.Sequential(nn.Linear(300, 7), nn.Softmax(-1)), (2, 300), Config(rows=4, cols=4, activation_words=256)),
    ],
    ids=["residual", "branches", "CPU", "K splits"],
)
def test_many_inferences_at_once_have_the_bits_of_each(model, shape, config):
    torch.manual_seed(0)
    program = CodeGenerator(model.eval(), torch.randn(shape), config=config).program()
    samples = np.random.default_rng(1).standard_normal((20 * shape[0], *shape[1:]), np.float32)
    samples[3].reshape(-1)[::7] = np.nan
    done = []
    many = reference.run_many(program, samples, taps=True, progress=done.append)
    assert done[-1] == len(samples)
    for first in range(0, len(samples), 9 * shape[0]):
        part = slice(first, first + shape[0])
        one = reference.run(program, samples[part], taps=True)
        assert np.array_equal(many.output[part].view(np.uint32), one.output.view(np.uint32))
        assert many.vectors == one.vectors and many.taps.keys() == one.taps.keys()
        for name, tap in one.taps.items():
            rows = slice(first // shape[0] * len(tap), (first // shape[0] + 1) * len(tap))
            assert np.array_equal(many.taps[name][rows].view(np.uint32), tap.view(np.uint32))


def save(folder, model, example, **arrays):
    torch.export.save(torch.export.export(model.eval(), (example,)), folder / "net.pt2")
    np.savez(folder / "data.npz", **arrays)
    return folder / "net.pt2", folder / "data.npz"


def classifier():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4))


def test_classifier(tmp_path):
    model, rng = classifier(), np.random.default_rng(0)
    x = rng.standard_normal((41, 1, 6, 6), np.float32)  # not a multiple of the model's batch
    scores = model.eval()(torch.from_numpy(x)).detach().numpy()
    y = scores.argmax(1)
    y[:7] = (y[:7] + 1) % 4
    report = evaluate(*save(tmp_path, model, torch.zeros(2, 1, 6, 6), x=x, y=y), CONFIG, device="cpu", batch=6)
    assert report.metric == "accuracy" and report.samples == 41
    assert report.scores["FP32"] == pytest.approx(34 / 41)
    assert report.agreement["FP32, fake-quantised"] > 0.9 and report.agreement["fake-quantised, bit-exact"] == 1
    assert report.largest_error < 1e-6
    assert [layer.op for layer in report.layers] == ["Conv2d", "Linear"]
    for layer in report.layers:
        assert 30 < layer.worst_channel <= layer.weights < 60
        assert layer.bit_exact == pytest.approx(layer.fake_quantised, abs=0.1)
    assert report.worst_channels[0][2] == min(layer.worst_channel for layer in report.layers)


def test_autoencoder_with_clips(tmp_path):
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(12, 3), nn.Linear(3, 12))
    x = np.random.default_rng(5).standard_normal((60, 12)).astype(np.float32)
    y = np.repeat([0, 1], 10)
    x[30:] *= 3  # the anomalies are larger, so that their error is
    files = save(tmp_path, model, torch.zeros(1, 12), x=x, y=y, clip=3)
    report = evaluate(*files, CONFIG, device="cpu")
    assert report.metric == "AUC" and report.agreement is None
    assert all(0.9 < score <= 1 for score in report.scores.values())
    assert len(load_data(files[1], limit=31).x) == 30


def test_without_labels_only_the_agreement_is_measured(tmp_path):
    x = np.zeros((3, 1, 6, 6), np.uint8)
    report = evaluate(*save(tmp_path, classifier(), torch.zeros(1, 1, 6, 6), x=x), CONFIG, device="cpu")
    assert report.metric is None and report.scores == {}
    assert report.agreement["FP32, bit-exact"] == 1


def test_command(tmp_path):
    model, data = save(tmp_path, classifier(), torch.zeros(1, 1, 6, 6), x=np.ones((4, 1, 6, 6)), y=np.zeros(4, int))
    arguments = ["eval", str(model), "--data", str(data), "--rows", "4", "--cols", "4", "--device", "cpu"]
    shown = CliRunner().invoke(main, [*arguments, "--calibrate", "mse"], catch_exceptions=False)
    assert shown.exit_code == 0
    assert all(text in shown.output for text in ("net for 4x4", "fake-quantised", "bit-exact", "worst channels"))
    result = CliRunner().invoke(main, [*arguments, "--json", "-", "--limit", "2"], catch_exceptions=False)
    assert json.loads(result.output)["samples"] == 2


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"z": np.zeros(3)}, "has no array called x"),
        ({"x": np.array(["a", "b"])}, "numbers, the batch dimension first"),
        ({"x": np.zeros((0, 3))}, "numbers, the batch dimension first"),
        ({"x": np.zeros((4, 3)), "y": np.zeros(3, int)}, r"y is int64 \[3\] and clip 1, x has 4 inputs"),
        ({"x": np.zeros((4, 3)), "y": np.zeros(4)}, "y must be one integer"),
        ({"x": np.zeros((4, 3)), "clip": 3}, "clip 3"),
    ],
)
def test_data_that_cannot_be_used(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(HeepgenError, match=message):
        load_data(tmp_path / "data.npz")


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(HeepgenError, match="No such file"):
        load_data(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(HeepgenError, match="not a complete .npz file"):
        load_data(tmp_path / "text.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(HeepgenError, match="not a complete .npz file"):
        load_data(tmp_path / "one.npy")


def test_data_of_another_shape_or_kind(tmp_path):
    model, data = save(tmp_path, classifier(), torch.zeros(1, 1, 6, 6), x=np.zeros((4, 1, 5, 6)))
    with pytest.raises(HeepgenError, match=r"x has shape \[4, 1, 5, 6\].*takes \[1, 1, 6, 6\]"):
        evaluate(model, data, CONFIG)
    np.savez(data, x=np.zeros((4, 1, 6, 6)), y=np.array([0, 1, 2, 9]))
    with pytest.raises(HeepgenError, match="y holds 0 to 9"):
        evaluate(model, data, CONFIG, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device(tmp_path):
    (tmp_path / "net.pt2").write_bytes(b"")
    np.savez(tmp_path / "data.npz", x=np.zeros((1, 3)))
    with pytest.raises(HeepgenError, match="--device cuda: PyTorch finds no CUDA device"):
        evaluate(tmp_path / "net.pt2", tmp_path / "data.npz", CONFIG, device="cuda")


def test_sw_explains_what_runs_where_even_when_it_does_not_fit(tmp_path):
    model, _ = save(tmp_path, classifier(), torch.zeros(1, 1, 6, 6), x=np.zeros(1))
    arguments = ["sw", str(model), "--explain", "-o", str(tmp_path / "app")]
    shown = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert shown.exit_code == 0 and (tmp_path / "app" / "gen" / "memory.svg").exists()
    assert all(text in shown.output for text in ("what runs where", "array", "smallest memory that would do: 2 banks"))
    large = tmp_path / "large.pt2"
    torch.export.save(torch.export.export(nn.Linear(3000, 1000).eval(), (torch.zeros(1, 3000),)), large)
    refused = CliRunner().invoke(main, ["sw", str(large), "--explain", "-o", str(tmp_path / "app2")])
    assert refused.exit_code == 1 and "what runs where" in refused.output and "does not fit" in refused.output

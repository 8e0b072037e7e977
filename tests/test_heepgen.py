# SPDX-License-Identifier: Apache-2.0
"""heepgen in Python gives what the commands give, of models in memory."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import heepgen
from firmware_gen import CodeGenerator
from gen.cli import main
from gen.flows.network.application import Application
from gen.inputs import load_frames, load_inputs
from hls.config import Config
from hls.errors import HeepgenError
from hls.streaming.config import StreamingConfig
from tests.json_forms import form_errors

SMALL = {"rows": 4, "cols": 3}
FLAGS = ("--rows", "4", "--cols", "3")


class Two(nn.Module):
    """Two outputs, of different shapes."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(2, 3, 3), nn.Linear(27, 4)

    def forward(self, x):
        x = torch.relu(self.conv(x))
        return self.head(x.flatten(1)), torch.softmax(x, 1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    return Two().eval()


@pytest.fixture(scope="module")
def example():
    return torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(6))


@pytest.fixture(scope="module")
def net(model, example):
    return heepgen.compile(model, example, name="two", **SMALL)


@pytest.fixture(scope="module")
def app(net, tmp_path_factory):
    folder = tmp_path_factory.mktemp("python") / "app"
    net.write(folder)
    return folder


def command(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments), "--json", "-"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_run_gives_arrays_of_the_models_shapes(net, model):
    x = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(7))
    run = net.run(x, software=True, taps="conv")
    fake, exact = net.fake_quantised()(x[None]), model(x[None])
    assert run.bit_exact and run.total_cycles > sum(layer.cycles for layer in run.layers) > 0
    assert [output.shape for output in run.outputs] == [(1, 4), (1, 3, 3, 3)]
    for got, quantised, source in zip(run.outputs, fake, exact, strict=True):
        assert (
            np.allclose(got, quantised.detach(), atol=1e-5) and 0 < np.abs(got - source.detach().numpy()).max() < 0.05
        )
    assert np.allclose(run.taps["conv"], torch.relu(model.conv(x)).detach().flatten(), atol=0.05)
    assert run.first.reference == exact[0][0].tolist()


def test_results_are_what_the_commands_write(net, app, tmp_path):
    """An application that was written in Python gives a command what Python says by itself."""
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((9, 2, 5, 5), np.float32), rng.integers(0, 4, 9)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    assert command("estimate", app) == net.estimate().to_dict()
    assert command("eval", app, "--data", tmp_path / "data.npz") == net.evaluate((x, y)).to_dict()
    ours, theirs = net.run(software=True).to_dict(), command("run", app, "--software")
    assert ours.pop("seconds") > 0 and theirs.pop("seconds") > 0 and ours == theirs


def test_a_report_is_that_of_the_firmware_from_a_file(net, model, example, tmp_path):
    torch.export.save(torch.export.export(model, (example,)), tmp_path / "two.pt2")
    np.save(tmp_path / "x.npy", example)
    written = command("sw", tmp_path / "two.pt2", "-o", tmp_path / "app", "--sample", tmp_path / "x.npy", *FLAGS)
    assert written == net.report().to_dict() and written["placements"] == net.explain().to_dict()["placements"]
    assert not form_errors(net.explain().to_dict())
    loaded = heepgen.compile(tmp_path / "two.pt2", example.numpy(), **SMALL)
    assert loaded.name == "two" and loaded.report().to_dict() == written
    assert heepgen.compile(str(tmp_path / "two.pt2")).input_shape == (1, 2, 5, 5)


@pytest.mark.parametrize("form", ["loader", "dataset", "tensors", "pairs", "file"])
def test_data_in_every_form_are_the_same(net, form, tmp_path):
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal((11, 2, 5, 5), np.float32), rng.integers(0, 4, 11)
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    forms = {
        "loader": lambda: DataLoader(TensorDataset(*tensors), batch_size=4),
        "dataset": lambda: TensorDataset(*tensors),
        "tensors": lambda: tensors,
        "pairs": lambda: list(zip(*tensors, strict=True)),
        "file": lambda: tmp_path / "data.npz",
    }
    hits = (net.fake_quantised()(tensors[0])[0].argmax(1) == tensors[1])[:10].double().mean()
    report = net.evaluate(forms[form](), limit=10)
    assert report.samples == 10 and report.scores["fake-quantised"] == pytest.approx(float(hits))
    assert report == net.evaluate((x, y), limit=10)


@pytest.mark.parametrize(
    "data, message",
    [
        ((np.zeros((4, 2, 5, 5)), np.zeros(3, int)), "x has 4 inputs; y must be one integer"),
        ((np.zeros((4, 2, 5, 5)), np.zeros(4)), "y is float64"),
        (np.zeros((4, 2, 5, 4)), r"x has shape \[4, 2, 5, 4\], the model takes \[1, 2, 5, 5\]"),
        ((np.zeros((4, 2, 5, 5)), 1, 2), "3 parts"),
        (np.full((2, 2, 5, 5), 1e300), "beyond the range of float32"),
        (([[1, 2], [3]], [0, 1]), "no array of numbers"),
        (DataLoader(TensorDataset(torch.zeros(0, 2, 5, 5))), "gives nothing"),
        ("nowhere.npz", "nowhere.npz"),
        (None, "is of type NoneType; give an array"),
        ((i for i in range(3)), "is of type generator; give an array"),
    ],
)
def test_wrong_data_are_one_sentence(net, data, message):
    with pytest.raises(HeepgenError, match=message):
        net.evaluate(data)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch": 0}, "--batch 0"),
        ({"limit": -3}, "--limit -3"),
        ({"device": "gpu"}, "--device gpu: must be cpu or cuda"),
        ({"output": 2}, "two returns 2 tensors"),
        ({"output": -1}, "two returns 2 tensors"),
    ],
)
def test_wrong_options_of_an_evaluation_are_one_sentence(net, options, message):
    with pytest.raises(HeepgenError, match=message):
        net.evaluate(np.zeros((2, 2, 5, 5)), **options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"x": np.zeros((2, 2, 5, 5))},
            r"x: has shape \[2, 2, 5, 5\], the model takes \[1, 2, 5, 5\]; give 1 at once, or compile the model for 2",
        ),
        ({"x": np.zeros((1, 2, 5, 4))}, r"the model takes \[1, 2, 5, 5\]\.$"),
        ({"x": {"y": 1}}, "the network takes one input, .*; give a tuple, or a dictionary of these names"),
        ({"x": "x"}, "x: cannot be read"),
        ({"taps": "nope"}, "nope: no such layer"),
        ({"toolchain": "clang"}, "must be one of zig, gcc"),
        ({"software": True, "vcd": "run.vcd"}, "--vcd"),
    ],
)
def test_wrong_runs_are_one_sentence(net, arguments, message):
    with pytest.raises(HeepgenError, match=message):
        net.run(**({"software": "vcd" in arguments or "toolchain" in arguments} | arguments))


def test_code_of_the_generator_is_a_complete_application(model, example, tmp_path):
    x = np.random.default_rng(10).standard_normal((3, 2, 5, 5), np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    net = nn.Sequential(model.conv, nn.ReLU(), nn.Flatten(), model.head)
    config = Config(rows=4, cols=3)
    generator = CodeGenerator(net, example, tmp_path / "app", config, name="own", per_channel=False)
    folder = generator.generate_code(append_final_softmax=True)
    assert Application.open(folder).reference["inputs"] == [example.flatten().tolist()]
    assert command("estimate", folder)["layers"][-1]["op"] == "Softmax"
    np.save(tmp_path / "x.npy", x[:1])
    run = command("run", folder, "--software", "--input", tmp_path / "x.npy")
    fake = torch.softmax(generator.quantized_model()(torch.from_numpy(x[:1])), -1)
    assert run["network"] == "own" and run["bit_exact"] and sum(run["outputs"]) == pytest.approx(1)
    assert run["outputs"] == pytest.approx(fake[0].tolist(), abs=1e-5)
    assert run["reference"] == pytest.approx(torch.softmax(net(torch.from_numpy(x[:1])), -1)[0].tolist())
    assert command("eval", folder, "--data", tmp_path / "data.npz")["agreement"]["fake-quantised, bit-exact"] == 1
    torch.export.save(torch.export.export(net.eval(), (example,)), tmp_path / "own.pt2")
    assert command("sw", tmp_path / "own.pt2", "-o", folder)["network"] == "own"
    with pytest.raises(HeepgenError, match="overwriting|already holds"):
        generator.generate_code(overwrite_existing_generated_files=False)


def test_a_network_that_ends_in_a_softmax_gets_no_second_one(tmp_path):
    torch.manual_seed(13)
    model, x = nn.Sequential(nn.Linear(6, 4), nn.Softmax(-1)).eval(), torch.randn(1, 6)
    heepgen.compile(model, x, append_final_softmax=True, **SMALL).write(tmp_path / "app")
    application = Application.open(tmp_path / "app")
    assert application.reference["outputs"] == [model(x)[0].tolist()]
    assert [layer["op"] for layer in application.manifest["layers"]] == ["Linear", "Softmax"]


@pytest.mark.parametrize("arguments", [("estimate",), ("eval", "--data", "data.npz"), ("run",)])
def test_options_for_model_files_are_refused_beside_an_application(app, arguments):
    result = CliRunner().invoke(main, [arguments[0], str(app), *arguments[1:], "--per-tensor"])
    assert result.exit_code == 1 and "--per-tensor is for a model file" in result.stderr


def test_an_application_is_estimated_for_other_hardware(net, app, model, example):
    assert (
        command("estimate", app, "--rows", "2", "--cols", "2")
        == heepgen.compile(model, example, name="two", rows=2, cols=2).estimate().to_dict()
    )
    assert command("estimate", app)["geometry"] == net.estimate().geometry


def test_an_application_is_a_network_again(model, example, tmp_path):
    net = heepgen.compile(model, example, name="two", per_tensor=True, calibrate="mse", **SMALL)
    net.write(tmp_path / "app")
    again = heepgen.load(tmp_path / "app")
    again.write(tmp_path / "again")
    files = {
        p.relative_to(tmp_path / "app") for p in (tmp_path / "app" / "gen").rglob("*") if p.suffix in (".cpp", ".hpp")
    }
    assert files and all((tmp_path / "app" / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)
    assert again.config == net.config and (again.compiled.generator.sample == example.numpy()).all()
    assert heepgen.load(tmp_path / "app", rows=np.int64(2)).config == Config(2, 3)
    assert heepgen.load(tmp_path / "app", architecture="streaming").config == StreamingConfig()


def test_what_is_no_application_is_one_sentence(tmp_path):
    with pytest.raises(HeepgenError, match="is not an application"):
        heepgen.load(tmp_path)
    with pytest.raises(HeepgenError, match="heepgen.load"):
        (tmp_path / "gen").mkdir()
        (tmp_path / "gen" / "manifest.json").write_text("{}")
        heepgen.compile(tmp_path)
    for folder in (None, 3):
        with pytest.raises(HeepgenError, match="must be a path"):
            heepgen.load(folder)


def test_the_generated_part_of_an_application_is_none(net, tmp_path):
    net.write(tmp_path / "app")
    with pytest.raises(HeepgenError, match="gen is the generated part of an application: name .*app.$"):
        heepgen.load(tmp_path / "app" / "gen")


def test_what_are_no_networks_is_one_sentence(net, tmp_path):
    for networks in (net, ["two", "three"], [net, None]):
        with pytest.raises(HeepgenError, match="give a list of what heepgen.compile returned"):
            heepgen.write(networks, tmp_path / "both")


def test_an_estimate_counts_the_layers_of_the_cpu(net):
    estimate = net.estimate()
    by_cpu = [layer for layer in estimate.layers if layer.on_cpu]
    assert [layer.name for layer in by_cpu] == [p.name for p in net.explain().placements if p.where == "CPU"] != []
    assert estimate.cpu_cycles == sum(layer.cycles for layer in by_cpu) > 0 and not estimate.left_out
    assert estimate.total_cycles == sum(layer.cycles for layer in estimate.layers) + estimate.around_cycles


def test_results_show_themselves(net):
    report = net.evaluate(np.zeros((1, 2, 5, 5)))
    html = report._repr_html_()
    assert "conv" in html and "<script" not in html and html.startswith("<pre")
    assert "worst channels" in str(report) and "\x1b" not in str(report)
    assert repr(net) == "<heepgen.Network two: input 1x2x5x5, for 4x3 aligned, 2 ports>"


# Configurations


@pytest.mark.parametrize(
    "given, values",
    [
        (Config(rows=4, cols=3), {}),
        (Config(rows=4), {"cols": 3}),
        ({"rows": 4, "cols": 3}, {}),
        ({"systolic_array": {"rows": 4, "cols": 3}}, {}),
        ({"systolic_array.rows": 4}, {"cols": 3}),
        ({"rows": 5, "cols": 3}, {"rows": 4}),
        ({"systolic_array": {"rows": np.int64(4)}}, {"cols": np.int8(3)}),
        (None, SMALL),
    ],
)
def test_every_form_of_a_configuration(given, values):
    assert heepgen.configuration(given, **values) == Config(rows=4, cols=3)


def test_other_architectures(tmp_path):
    (tmp_path / "cfg.hjson").write_text("architecture: streaming\nstreaming: { rows: 2 }\n")
    expected = StreamingConfig(rows=2, cols=3)
    assert heepgen.configuration(tmp_path / "cfg.hjson", cols=3) == expected
    assert heepgen.configuration({"architecture": "streaming", "rows": 2}, cols=3) == expected
    assert heepgen.configuration({"rows": 2, "cols": 3}, architecture="streaming") == expected


@pytest.mark.parametrize(
    "given, values, message",
    [
        ({"row": 4}, {}, "unknown option row"),
        ({"rows": 99}, {}, "must be"),
        (None, {"rwos": 4}, "unknown configuration override rwos; did you mean rows"),
        (Config(), {"architecture": "streaming"}, "the configuration is of descriptor"),
        (5, {}, "config is a int"),
        ({4: 4}, {}, "names of options must be texts"),
        ({"systolic_array": {4: 4}}, {}, "names of options must be texts"),
        ("no such.hjson", {}, "no such.hjson"),
    ],
)
def test_wrong_configurations_are_one_sentence(given, values, message):
    with pytest.raises(HeepgenError, match=message):
        heepgen.configuration(given, **values)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "example is missing"),
        ({"example": torch.zeros(1, 6), "calibrate": "best"}, 'must be "max" or "mse"'),
        ({"example": torch.zeros(1, 6), "batch": 2}, "are for model files"),
        ({"example": torch.zeros(1, 5)}, "shape"),
        ({"example": "x.npy"}, "example: holds"),
        ({"example": torch.zeros(1, 6, device="meta")}, "example: is no array of numbers"),
        ({"example": torch.zeros(1, 6), "name": 5}, "name = 5"),
        ({"example": {}}, "missing a required argument: 'input'; name its arguments"),
    ],
)
def test_wrong_calls_are_one_sentence(arguments, message):
    with pytest.raises(HeepgenError, match=message):
        heepgen.compile(nn.Linear(6, 2), **arguments)


class Named(nn.Module):
    def forward(self, a, b, scale=None):
        return a - 2 * b if scale is None else a * scale - b


class ByName(nn.Module):
    def forward(self, a, *, b):
        return a - b


def test_inputs_by_name_are_those_by_place():
    a, b = torch.randn(1, 3), torch.randn(1, 3, dtype=torch.bfloat16)
    net = heepgen.compile(Named(), {"b": b, "a": a}, rows=2, cols=2)
    assert list(net.input_shapes) == ["a", "b"]
    by_name = load_inputs({"b": b, "a": a}, "x", net.input_shapes)
    (frames,) = load_frames({"b": b[None], "a": a[None]}, "x", net.input_shapes, 1)
    for given in (net.compiled.generator.inputs, by_name, frames):
        np.testing.assert_array_equal(given[0], a.numpy())
        np.testing.assert_array_equal(given[1], b.float().numpy())
    with pytest.raises(HeepgenError, match="takes 2 inputs, a, b; give a tuple, or a dictionary of these names"):
        load_inputs({"b": b}, "x", net.input_shapes)


@pytest.mark.parametrize(
    "model, names, message",
    [
        (ByName(), "ba", "b cannot be given by place"),
        (Named(), "a", "missing a required argument: 'b'; name its arguments"),
        (Named(), "abx", "got an unexpected keyword argument 'x'; name its arguments"),
    ],
)
def test_inputs_by_name_that_have_no_place(model, names, message):
    with pytest.raises(HeepgenError, match=message):
        heepgen.compile(model, {name: torch.ones(1, 3) for name in names})


def test_an_exported_program_has_no_names():
    program = torch.export.export(nn.Linear(6, 2), (torch.zeros(1, 6),))
    with pytest.raises(HeepgenError, match="a dictionary is for an nn.Module"):
        heepgen.compile(program, {"input": torch.zeros(1, 6)})


def test_a_traced_module_is_one_sentence():
    with pytest.raises(HeepgenError, match="the model is TorchScript, which says nothing of its layers: give the"):
        heepgen.compile(torch.jit.trace(nn.Linear(6, 2), torch.zeros(1, 6)), torch.zeros(1, 6))


def test_an_exported_program_knows_its_shape_and_a_bias_is_corrected_from_arrays():
    torch.manual_seed(11)
    program = torch.export.export(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)), (torch.zeros(3, 6),))
    x = np.random.default_rng(12).standard_normal((30, 6), np.float32)
    plain = heepgen.compile(program, per_tensor=True)
    corrected = heepgen.compile(program, per_tensor=True, bias_correction=x)
    assert plain.input_shape == (3, 6)
    exact = program.module()(torch.from_numpy(x[:3]))

    def mean_error(net):
        batches = [net.fake_quantised()(torch.from_numpy(x[i : i + 3])) for i in range(0, 30, 3)]
        sources = [program.module()(torch.from_numpy(x[i : i + 3])) for i in range(0, 30, 3)]
        return (torch.cat(batches) - torch.cat(sources)).mean(0).abs().max().item()

    assert exact.shape == (3, 2) and mean_error(corrected) < mean_error(plain) / 10
    with pytest.raises(HeepgenError, match=r"x: has shape \[2, 7\], the model takes \[3, 6\]"):
        plain.run(np.zeros((2, 7)))

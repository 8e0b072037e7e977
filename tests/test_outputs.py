# SPDX-License-Identifier: Apache-2.0
"""Networks that return several tensors: every model, the C++ interface, run, eval and explain against PyTorch."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.targets.calls import model
from firmware_gen.targets.calls.calls import software_calls
from firmware_gen.targets.descriptor.compiler import in_memory
from firmware_gen.targets.descriptor.explain import ARRAY, explain
from gen.cli import main
from gen.flows.measure.run import run
from gen.records.result import to_json
from hls.config import Config
from hls.errors import HeepgenError
from sim.toolchain import host_compiler, run_tool
from tests import bounds
from tests.applications import everything, generated
from tests.random_networks import outputs

CONFIG = Config(4, 4, ports=2)
BOUND = 2.0**-18
"""Largest error in units of the largest output: roundings of at most three layers, a few units of 2^-24 each."""


class Net(nn.Module):
    """`forward(x, *layers)` as a module."""

    def __init__(self, forward, *layers):
        super().__init__()
        self.function, self.layers = forward, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(x, *self.layers)


def conv(inputs=3, channels=4):
    return nn.Conv2d(inputs, channels, 3, padding=1)


def norm(features):
    layer = nn.BatchNorm1d(features)
    layer.running_mean.normal_()
    layer.running_var.uniform_(0.5, 2)
    return layer


def with_middle(after):
    """A network whose convolution's output y goes through `after(y, ...)`."""
    return lambda x, first, *rest: after(first(x), *rest)


def heads(x, stem, fc):
    y = torch.relu(stem(x))
    return {"class": torch.softmax(fc(y.flatten(1)), -1), "features": [y, (y.mean((2, 3)), torch.sigmoid(stem(x)))]}


def joined(x, left, right):
    a, b = left(x), right(x)
    return torch.cat([a, b], 1), a, torch.tanh(b)


NETWORKS = {
    "also read inside": Net(with_middle(lambda y, second: (y, torch.relu(second(y) + y), y + 1)), conv(), conv(4, 4)),
    "with and without activation": Net(with_middle(lambda y: (y, torch.relu(y))), conv()),
    "one tensor twice": Net(with_middle(lambda y: (y, torch.relu(y), y)), conv()),
    "one tensor in two shapes": Net(with_middle(lambda y: (y.flatten(1), y, y.flatten(2))), conv()),
    "nested": Net(heads, conv(), nn.Linear(80, 7)),
    "parts of a concatenation": Net(joined, conv(), conv(3, 2)),
    "both orders": Net(with_middle(lambda y: (torch.sigmoid(y), y.permute(0, 2, 3, 1), y)), conv()),
    "both orders, flat": Net(with_middle(lambda y: (y.permute(0, 2, 3, 1), y.flatten(1))), conv()),
    "scaled and not": Net(with_middle(lambda y, n: (n(torch.relu(y).flatten(1)), y)), conv(), norm(80)),
    "the input flattened": Net(lambda x, fc: (x.flatten(1), fc(x.flatten(1))), nn.Linear(60, 5)),
    # One output each, but in an order that its layer would not choose.
    "scaled after flattening": Net(with_middle(lambda y, n: n(torch.relu(y).flatten(1))), conv(), norm(80)),
    "permuted input": Net(lambda x: torch.sigmoid(x.permute(0, 3, 1, 2))),
}


def compiled(name, **options):
    torch.manual_seed(3)
    x = torch.randn(2, 3, 4, 5)
    return CodeGenerator(NETWORKS[name].eval(), x, config=CONFIG, **options), x


def bits(arrays):
    return [a.view(np.uint32).tolist() for a in arrays]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_model_gives_every_output(name):
    generator, x = compiled(name)
    with torch.no_grad():
        exact = [out.numpy() for out in outputs(generator.quantized_model().double()(x.double()))]
        floating = [out.numpy() for out in outputs(NETWORKS[name](x))]
    got = generator.reference().outputs
    bound = BOUND + bounds.of_tables(generator.graph)
    on_cpu = model.run(software_calls(in_memory(generator.program())), x.numpy()).outputs
    for device, cpu, want, real in zip(got, on_cpu, exact, floating, strict=True):
        assert device.shape == cpu.shape == want.shape == real.shape
        for values in (device, cpu):
            assert np.abs(values - want).max() < bound * max(1, np.abs(want).max())
        assert np.abs(want - real).max() < 0.05 * max(1, np.abs(real).max())
    assert bits(compiled(name, keep_activations=True)[0].reference().outputs) == bits(got)


CHECK = """\
#include "model.hpp"
#include "sample.hpp"
#include "soc.hpp"
int main() {
  if (model_run() != heepstor::Status::ok || model_output() != model_output(0)) return 1;
  for (uint32_t index = 0; index < kModelOutputCount; ++index) {
    for (uint32_t i = 0; i < kModelOutputSizes[index]; ++i) {
      uint32_t bits;
      __builtin_memcpy(&bits, model_output(index) + i, sizeof bits);
      heepstor::print_hex(bits);
      soc_puts(" ");
    }
    heepstor::print_decimal(model_argmax(1, index));
    soc_puts("\\n");
  }
  return 0;
}
"""


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_in_cpp(tmp_path, name):
    """The software kernels, compiled for the host: every bit, and the largest value of the second row."""
    generator, x = compiled(name, out_dir=tmp_path)
    generator.generate_code()
    shutil.copyfile(Path(__file__).parent / "host_soc.hpp", tmp_path / "soc.hpp")
    (tmp_path / "main.cpp").write_text(CHECK)
    sources, folders = everything(generated(tmp_path))
    run_tool(
        [
            *host_compiler(),
            "-std=c++17",
            "-O1",
            "-mfma",
            "-ffp-contract=off",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-DUSE_SOFTWARE_DNN_LAYER_OPERATORS=1",
            "-DENABLE_DEBUG_HEEPSTOR_ASSERTIONS=1",
            *[f"-I{d}" for d in folders],
            *sources,
            "-o",
            tmp_path / "app",
        ],
        "compiling the application",
    )
    lines = run_tool([tmp_path / "app"], "the application").splitlines()
    expected = model.run(software_calls(in_memory(generator.program())), x.numpy()).outputs
    for line, values in zip(lines, expected, strict=True):
        *words, largest = line.split()
        assert [int(word, 16) for word in words] == values.reshape(-1).view(np.uint32).tolist()
        assert int(largest) == values.reshape(-1, values.shape[-1])[1].argmax()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    torch.manual_seed(3)
    x = torch.randn(2, 3, 4, 5)
    model = NETWORKS["nested"].eval()
    torch.export.save(torch.export.export(model, (x,)), folder / "net.pt2")
    np.save(folder / "x.npy", x.numpy())
    return folder, model, x


@pytest.mark.parametrize("on_cpu", [False, True])
def test_run_compares_every_output(saved, on_cpu):
    folder, model, x = saved
    report = run(folder / "net.pt2", CONFIG, input_path=folder / "x.npy", software=on_cpu)
    assert report.bit_exact and "mismatches=0" in report.uart
    data = json.loads(to_json(report))
    first = {"values": data["outputs"], "reference": data["reference"], "shape": data["output_shape"]}
    with torch.no_grad():
        expected = outputs(model(x))
    for result, want in zip([first, *data["further_outputs"]], expected, strict=True):
        assert result["shape"] == list(want.shape) and result["reference"] == want.reshape(-1).tolist()
        assert np.abs(np.array(result["values"]) - want.reshape(-1).numpy()).max() < 0.05
    assert all(result["bit_exact"] for result in data["further_outputs"])


def test_run_notices_a_wrong_bit_of_any_output(saved, tmp_path):
    folder = saved[0]
    app = tmp_path / "app"
    done = CliRunner().invoke(
        main, ["sw", str(folder / "net.pt2"), "--rows", "4", "--cols", "4", "-o", str(app), "--json", "-"]
    )
    assert done.exit_code == 0, done.output
    assert [(output["layer"], output["shape"]) for output in json.loads(done.stdout)["outputs"]] == [
        ("softmax_0", [2, 7]),
        ("layers.0", [2, 4, 4, 5]),
        ("mean_0", [2, 4]),
        ("layers.0_1", [2, 4, 4, 5]),
    ]
    manifest = json.loads((app / "gen" / "manifest.json").read_text())
    sizes = [int(np.prod(output["shape"])) for output in manifest["outputs"]]
    manifest["software"]["expected_bits"][sum(sizes[:3]) - 1] ^= 1  # the last of output 2
    (app / "gen" / "manifest.json").write_text(json.dumps(manifest))
    report = run(app, Config(), software=True)
    assert [result.bit_exact for result in report.results] == [True, True, False, True] and not report.bit_exact


def test_eval_compares_the_output_that_is_named(saved, tmp_path):
    folder, model, _ = saved
    x = np.random.default_rng(0).standard_normal((6, 3, 4, 5)).astype(np.float32)
    with torch.no_grad():
        best = [out.numpy().argmax(1) for out in outputs(model(torch.from_numpy(x))) if out.ndim == 2]
    for number, labels in zip((0, 2), best, strict=True):
        np.savez(tmp_path / "data.npz", x=x, y=labels)
        done = CliRunner().invoke(
            main,
            [
                "eval",
                str(folder / "net.pt2"),
                "--data",
                str(tmp_path / "data.npz"),
                "--output",
                str(number),
                "--json",
                "-",
            ],
        )
        report = json.loads(done.stdout)
        assert report["metric"] == "accuracy" and report["scores"]["FP32"] == 1.0 and report["largest_error"] < BOUND
    wrong = CliRunner().invoke(
        main, ["eval", str(folder / "net.pt2"), "--data", str(tmp_path / "data.npz"), "--output", "4"]
    )
    assert wrong.exit_code == 1 and "--output 4" in wrong.output and "returns 4 tensors" in wrong.output


def test_explain_names_outputs_and_copies():
    placed = {p.name: p for p in explain(compiled("both orders")[0].graph)}
    assert placed["layers.0"].why.endswith("; output 2 of the model")
    assert placed["permute_0"].where == ARRAY and placed["permute_0"].why.startswith("copy")
    twice = explain(compiled("one tensor twice")[0].graph)
    assert twice[0].why.endswith("; outputs 0 and 2 of the model")
    assert not any("of the model" in p.why for p in explain(compiled("permuted input")[0].graph))
    copy = explain(compiled("the input flattened")[0].graph)[0]
    assert copy.where == ARRAY and copy.why == "copy: what it returns is the input; output 0 of the model"


@pytest.mark.parametrize(
    "forward, words",
    [
        (lambda x, c: (c(x), x), ["computes nothing for output 1", "returns its input", "leave that out"]),
        (lambda x, c: (c(x), None), ["output 1", "constant"]),
        (lambda x, c: {"a": c(x), "b": 3}, ["output 1", "constant"]),
    ],
)
def test_what_is_not_computed_is_refused(forward, words):
    with pytest.raises(HeepgenError) as caught:
        CodeGenerator(Net(forward, conv()).eval(), torch.zeros(1, 3, 4, 4))
    assert all(word in str(caught.value) for word in words)


def test_a_final_softmax_needs_a_single_output():
    with pytest.raises(HeepgenError, match="4 outputs: put the Softmax into the model"):
        compiled("nested")[0].program(append_final_softmax=True)


def test_a_number_without_dimensions_is_a_vector_of_one():
    net, x = Net(lambda x, c: (c(x).mean(), c(x).amax() * x.sum()), conv()).eval(), torch.randn(1, 3, 6, 6)
    generator = CodeGenerator(net, x, config=CONFIG)
    (exact,) = generator.exact_steps([x.numpy()])
    with torch.no_grad():
        for got, float32, want in zip(generator.reference().outputs, exact, net(x), strict=True):
            assert got.shape == float32.shape == (1,)
            assert float32[0] == pytest.approx(float(want)) == pytest.approx(float(got[0]), abs=0.05, rel=0.05)

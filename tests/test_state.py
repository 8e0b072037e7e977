# SPDX-License-Identifier: Apache-2.0
"""Networks that keep something from one inference to the next, and networks of several inputs, against PyTorch."""

import random

import numpy as np
import pytest
import torch
from torch import nn

import heepgen
from firmware_gen import CodeGenerator
from firmware_gen.architectures.registry import load_config
from firmware_gen.emit.build import SOFTWARE
from firmware_gen.emit.codegen import steps_program
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.frontend.loader import load_model
from gen.inputs import load_frames, load_inputs
from hls.config import Config
from hls.errors import HeepgenError
from tests.applications import everything, generated
from tests.test_codegen import HERE, host_compiler, run_tool, shutil

SMALL = Config(rows=4, cols=4)


def integer_weights(module):
    """Weights that INT8 holds exactly, one of every row the largest, so that PyTorch computes with the same ones."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            weight = torch.randint(-127, 128, layer.weight.shape)
            weight.reshape(len(weight), -1)[:, 0] = 127
            layer.weight.data = weight / 2**9
            layer.bias.data = torch.randint(-8, 8, layer.bias.shape) / 8
    return module.eval()


class Random(nn.Module):
    """A few states, each written in another way and read before or after; vectors, sequences or maps."""

    def __init__(self, rng, as_buffers):
        super().__init__()
        self.features = int(rng.integers(2, 7))
        self.shape = (1, self.features, *[(), (5,), (3, 4)][rng.integers(3)])
        self.kinds = list(rng.choice(["mean", "recurrent", "delay", "swap"], rng.integers(1, 4)))
        self.as_buffers = as_buffers

        def layer():
            kind = {2: nn.Linear, 3: nn.Conv1d, 4: nn.Conv2d}[len(self.shape)]
            more = {} if kind is nn.Linear else {"kernel_size": 3, "padding": 1}
            return kind(self.features, self.features, **more)

        self.into, self.back, self.out = (nn.ModuleList(layer() for _ in self.kinds) for _ in range(3))
        for number in range(2 * len(self.kinds) if as_buffers else 0):
            initial = torch.randint(-4, 5, self.shape).float() if rng.random() < 0.5 else torch.zeros(self.shape)
            self.register_buffer(f"s{number}", initial)

    def forward(self, x, *states):
        states = list(states) or [getattr(self, f"s{i}").clone() for i in range(2 * len(self.kinds))]
        new, outputs = list(states), []
        for i, kind in enumerate(self.kinds):
            s, t = states[2 * i : 2 * i + 2]
            if kind == "mean":
                new[2 * i] = s * 0.5 + x
            elif kind == "recurrent":
                new[2 * i] = torch.clamp(self.into[i](x) + self.back[i](s), -4, 4)
            elif kind == "delay":
                new[2 * i], new[2 * i + 1] = x * (i + 1), s
            else:
                new[2 * i], new[2 * i + 1] = torch.relu(t + x), s
            outputs.append(self.out[i](new[2 * i] + t))
        if not self.as_buffers:
            return (*outputs, *new)
        for i, value in enumerate(new):
            getattr(self, f"s{i}").copy_(value)
        return tuple(outputs) if len(outputs) > 1 else outputs[0]


def drawn(seed, as_buffers):
    """(model, example inputs, pairs of states)"""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = integer_weights(Random(rng, as_buffers))
    count = len(model.kinds)
    if as_buffers:
        return model, (torch.zeros(model.shape),), {}
    program_inputs = tuple(torch.zeros(model.shape) for _ in range(1 + 2 * count))
    return model, program_inputs, {f"states_{i}": str(count + i) for i in range(2 * count)}


@pytest.mark.parametrize("as_buffers", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_random_states_are_those_of_pytorch_step_by_step(seed, as_buffers):
    model, example, pairs = drawn(seed, as_buffers)
    program = torch.export.export(model, example)
    architecture = ("descriptor", "cpu", "streaming")[seed % 3]
    config = SMALL if architecture == "descriptor" else load_config(None, architecture)
    generator = CodeGenerator(program, tuple(map(torch.clone, example)), config=config, state=pairs)
    frames = torch.randint(-8, 9, (4, *model.shape)).float()
    states = [torch.zeros(model.shape) for _ in example[1:]]
    expected = []
    for frame in frames:  # the module itself, whose buffers a program shares with it
        with torch.no_grad():
            outputs = model(frame, *states)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        expected.append([y.numpy().copy() for y in outputs[: len(outputs) - len(states)]])
        states = list(outputs[len(outputs) - len(states) :])
    results = list(generator.steps([(frame.numpy(),) for frame in frames]))
    for want, result in zip(expected, results, strict=True):
        for a, b in zip(want, result.outputs, strict=True):
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-4, err_msg=f"seed {seed}: {model.kinds}")
    plain = list(generator.steps([(frame.numpy(),) for frame in frames], software=True))
    np.testing.assert_allclose(plain[-1].output, expected[-1][0], rtol=0, atol=1e-4)


class Gru(nn.Module):
    """What a step of a recurrent network looks like when it is written by hand."""

    def __init__(self):
        super().__init__()
        self.x, self.h = nn.Linear(3, 5), nn.Linear(5, 5)

    def forward(self, x, gain, h):
        h = torch.relu(self.x(x) * gain + self.h(h))
        return {"y": h * 2, "h_out": h}


def gru():
    torch.manual_seed(4)
    model = integer_weights(Gru())
    return model, (torch.ones(1, 3), torch.full((1, 5), 0.5), torch.zeros(1, 5))


STEP = """\
#include "model.hpp"
#include "soc.hpp"
int main() {
  for (int round = 0; round < 2; ++round) {
    model_reset();
    for (int step = 0; step < 3; ++step) {
      for (int i = 0; i < 3; ++i) model_input_x()[i] = static_cast<float>(step - i);
      for (int i = 0; i < 5; ++i) model_input(1)[i] = 0.5f;
      if (model_run() != heepstor::Status::ok) return 1;
      heepstor::print_decimal(static_cast<uint64_t>(model_output()[1] * 1024.0f + 0.5f));
      soc_puts(" ");
    }
  }
  soc_puts("\\n");
  return 0;
}
"""


def test_the_firmware_steps_and_begins_again(tmp_path):
    model, example = gru()
    generator = CodeGenerator(model, example, tmp_path, SMALL, name="gru", state={"h": "h_out"})
    generator.generate_code()
    (tmp_path / "main.cpp").write_text(STEP)
    sources, folders = everything(generated(tmp_path))
    shutil.copyfile(HERE / "host_soc.hpp", tmp_path / "soc.hpp")
    flags = ["-std=c++17", "-O1", "-mfma", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", f"-D{SOFTWARE}=1"]
    run_tool([*host_compiler(), *flags, *[f"-I{d}" for d in folders], *sources, "-o", tmp_path / "app"], "compiling")
    h, said = torch.zeros(1, 5), []
    for step in range(3):
        with torch.no_grad():
            out = model(torch.tensor([[step - i for i in range(3)]]).float(), example[1], h)
        h = out["h_out"]
        said.append(f"{int(out['y'][0, 1] * 1024 + 0.5)}")
    assert run_tool([tmp_path / "app"], "the application").split() == 2 * said and len(set(said)) == 3


def test_steps_on_the_virtual_soc_are_compared_with_pytorch(tmp_path):
    model, example = gru()
    network = heepgen.compile(model, example, SMALL, state={"h": 1})
    assert network.input_shapes == {"x": (1, 3), "gain": (1, 5)}
    frames = np.random.default_rng(0).standard_normal((3, 1, 3)).astype(np.float32), np.ones((5, 5), np.float32)
    report = network.run(frames, steps=3)
    h = torch.zeros(1, 5)
    for step, x in enumerate(frames[0]):
        with torch.no_grad():
            out = model(torch.from_numpy(x), torch.ones(1, 5), h)
        h = out["h_out"]
        np.testing.assert_allclose(report.outputs[0][step], out["y"], atol=1e-4)
    assert report.bit_exact and [s.max_abs_err < 1e-4 for s in report.steps] == 3 * [True]
    assert [s["name"] for s in report.to_dict()["states"]] == ["h"] and 0 < report.steps[0].cycles <= report.most_cycles
    with pytest.raises(HeepgenError, match="taps, vcd and trace show one inference"):
        network.run(frames, steps=3, taps="x")
    with pytest.raises(HeepgenError, match=r"has shape \[3, 1, 3\], 4 steps take \[4, 1, 3\]"):
        network.run(frames, steps=4)


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    "write",
    [lambda s, x: s.add_(x), lambda s, x: s.mul_(0.5).add_(x), lambda s, x: s.copy_(x), lambda s, x: s.clamp_(-1, 1)],
)
def test_buffers_that_are_written_are_states(write, saved, tmp_path):
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("my_state", torch.full((1, 4), 2.0))

        def forward(self, x):
            y = torch.relu(self.my_state + x)
            write(self.my_state, x)
            return y

    program = torch.export.export(Writes(), (torch.ones(1, 4),))
    if saved:
        torch.export.save(program, tmp_path / "m.pt2")
        program = load_model(tmp_path / "m.pt2")
    frames = [np.full((1, 4), value, np.float32) for value in (1, -3, 2)]
    model, generator = Writes(), CodeGenerator(program, frames[0], config=SMALL)
    for frame, result in zip(frames, generator.steps(frames), strict=True):
        np.testing.assert_array_equal(result.output, model(torch.from_numpy(frame)))
    assert [s.name for s in generator.graph.state] == ["my_state"]


class Lasts(nn.Module):
    """Something that lasts, or is drawn, that torch.export knows nothing of."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.seen, self.h, self.layer = kind, [], torch.zeros(1, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = self.layer(x)
        if self.kind == "list":
            self.seen.append(1)
            return y * len(self.seen)
        if self.kind == "tensor":
            self.h = self.h + y
            return self.h
        return y * random.random()


@pytest.mark.parametrize("kind", ["list", "tensor", "drawn"])
def test_what_lasts_elsewhere_than_in_buffers_is_refused(kind):
    with pytest.raises(HeepgenError, match="computes something else when it is called again"):
        CodeGenerator(Lasts(kind), torch.ones(1, 4))


def test_neither_model_nor_example_is_written_to():
    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("replaced", torch.zeros(1, 4))
            self.register_buffer("grown", torch.zeros(1, 4))

        def forward(self, x):
            self.replaced = self.replaced + x
            self.grown = torch.cat([self.grown, x])
            return x.add_(1)

    model, x = Writes(), torch.ones(1, 4)
    buffers = dict(model.named_buffers())
    with pytest.raises(HeepgenError):
        CodeGenerator(model, x)
    assert (x == 1).all() and all(b is buffers[name] and not b.any() for name, b in model.named_buffers())


class Counts(nn.Module):
    """A counter that nothing depends on, and one that the output does."""

    def __init__(self, used):
        super().__init__()
        self.used = used
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.seen.add_(1)
        return torch.relu(x + self.seen) if self.used else torch.relu(x)


def test_what_is_no_state_is_left_out_or_refused_by_name():
    x = torch.ones(1, 4)
    assert not import_model(torch.export.export(Counts(False), (x,))).state
    with pytest.raises(HeepgenError, match=r"keeps its buffer seen, int64 of shape \(\)"):
        import_model(torch.export.export(Counts(True), (x,)))
    program = torch.export.export(*gru())
    for state, words in (
        ({"k": "1"}, "no input is called k; there are x, gain, h"),
        ({"h": "z"}, "no output is called z; there are y, h_out"),
        ({"h": "1", "gain": "h_out"}, "another input's state already"),
        ({"h": "1", "gain": "0"}, "every output of the model is a state"),
        ({"x": "1"}, r"state x has shape \(1, 3\) and is left in \(1, 5\)"),
    ):
        with pytest.raises(HeepgenError, match=words):
            import_model(program, state=state)


def test_inputs_come_by_name(tmp_path):
    rng = np.random.default_rng(1)
    a, b = rng.random((4, 2), np.float32), rng.random((4, 3), np.float32)
    shapes = {"a": (1, 2), "b": (1, 3)}
    np.savez(tmp_path / "f.npz", b=b, a=a)
    frames = load_frames(tmp_path / "f.npz", "--input", shapes, 3)
    assert len(frames) == 3 and all(x.shape == s for x, s in zip(frames[2], shapes.values(), strict=True))
    np.testing.assert_array_equal(frames[2][1][0], b[2])
    np.savez(tmp_path / "one.npz", b=b[0], a=a[:1])
    one = load_inputs(tmp_path / "one.npz", "--sample", shapes)
    np.testing.assert_array_equal(one[1][0], b[0])
    np.savez(tmp_path / "bad.npz", b=b[0])
    for path, words in (("bad.npz", "has no array called a; use numpy.savez"), ("f.npz", r"a: has shape \[4, 2\]")):
        with pytest.raises(HeepgenError, match=words):
            load_inputs(tmp_path / path, "--sample", shapes)
    with pytest.raises(HeepgenError, match="takes 2 inputs, a, b; give a tuple"):
        load_inputs((a,), "x", shapes)


def test_many_inferences_at_once_need_one_input_and_no_state():
    model, example = gru()
    generator = CodeGenerator(model, example, config=SMALL, state={"h": "1"})
    with pytest.raises(HeepgenError, match="has 2 inputs: many inferences at once need one input"):
        generator.target.run_many(generator.program(), np.zeros((2, 3), np.float32))
    assert "model_reset" not in steps_program([{}], False)

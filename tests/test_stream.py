# SPDX-License-Identifier: Apache-2.0
"""Networks on windows of frames as streams: every output is PyTorch's on the window that the newest frame ends."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import heepgen
from firmware_gen import CodeGenerator, ir
from firmware_gen.architectures.registry import load_config
from firmware_gen.memory import planner
from firmware_gen.memory.planner import Buffer
from firmware_gen.targets.descriptor import compiler, reference
from firmware_gen.targets.descriptor.compiler import compile_choices
from firmware_gen.targets.descriptor.listing import listing
from firmware_gen.targets.descriptor.scratchpad.homes import Home, check
from firmware_gen.targets.descriptor.scratchpad.rotation import Frames, rotated
from gen.flows.measure.run import hardware
from hls.errors import HeepgenError
from sim.firmware import compile_firmware
from sim.run import run_soc
from tests.applications import everything, generated
from tests.test_state import SMALL, integer_weights


class Causal(nn.Module):
    """Convolutions along time that see frames of the past, padded in front of them or not, beside branches."""

    def __init__(self, rng):
        super().__init__()
        self.space = int(rng.integers(1, 4)) * bool(rng.integers(2))  # 0: a sequence
        self.channels, self.window = int(rng.integers(2, 7)), 24
        self.kinds = list(rng.choice(["plain", "padded", "depthwise", "pool", "residual", "join"], rng.integers(1, 4)))
        self.ends = str(rng.choice(["frames", "last", "all", "mean"]))
        self.sizes = [(int(rng.integers(2, 4)), int(rng.integers(1, 3))) for _ in self.kinds]
        self.convs = nn.ModuleList(
            self._conv(kernel, dilation, self.channels if kind == "depthwise" else 1)
            for kind, (kernel, dilation) in zip(self.kinds, self.sizes, strict=True)
        )
        left = self.window - sum((k - 1) * d for kind, (k, d) in self._seen() if kind not in ("padded", "residual"))
        self.left = left
        self.head = nn.Linear(self.channels * left * max(self.space, 1), 3) if self.ends == "all" else None

    def _seen(self):
        return [(kind, (k, 1 if kind == "pool" else d)) for kind, (k, d) in zip(self.kinds, self.sizes, strict=True)]

    def _conv(self, kernel, dilation, groups):
        if not self.space:
            return nn.Conv1d(self.channels, self.channels, kernel, dilation=dilation, groups=groups)
        shape = {"kernel_size": (kernel, 1), "dilation": (dilation, 1), "groups": groups}
        return nn.Conv2d(self.channels, self.channels, **shape)

    @property
    def shape(self):
        return (1, self.channels, self.window, self.space) if self.space else (1, self.channels, self.window)

    def forward(self, x):
        for kind, (kernel, dilation), conv in zip(self.kinds, self.sizes, self.convs, strict=True):
            before = (kernel - 1) * dilation
            pads = (0, 0, before, 0) if self.space else (before, 0)
            if kind in ("padded", "residual"):
                y = conv(F.pad(x, pads))
                x = torch.relu(y + x) if kind == "residual" else torch.relu(y)
            elif kind == "pool":
                x = F.max_pool2d(x, (kernel, 1), 1) if self.space else F.max_pool1d(x, kernel, 1)
            elif kind == "join":
                x = torch.relu(conv(x)) + x[:, :, before:]
            else:
                x = F.hardtanh(conv(x), -4, 4)
        if self.ends == "last":
            return x[:, :, -1:].flatten(1)
        if self.ends == "all":
            return self.head(x.flatten(1))
        return x.mean(2) if self.ends == "mean" and not self.space else x


def drawn(seed):
    torch.manual_seed(seed)
    return integer_weights(Causal(np.random.default_rng(seed)))


def windows(model, frames, count):
    """PyTorch on every window that ends with `count` more frames, behind zeros."""
    window = torch.zeros(model.shape)
    for first in range(0, len(frames), count):
        window = torch.cat([window, *frames[first : first + count]], 2)[:, :, -model.window :]
        with torch.no_grad():
            yield model(window).numpy()


def compared(model, config, frames, count):
    """How many states a stream has whose every step was compared."""
    example = torch.randn(model.shape)
    generator = CodeGenerator(torch.export.export(model, (example,)), example, config=config, stream=count, time=2)
    taken = [torch.cat(list(frames[i : i + count]), 2).numpy() for i in range(0, len(frames), count)]
    for step, (want, result) in enumerate(zip(windows(model, frames, count), generator.steps(taken), strict=True)):
        newest = want[tuple(slice(a - b, None) for a, b in zip(want.shape, result.output.shape, strict=True))]
        np.testing.assert_allclose(result.output, newest, rtol=0, atol=2e-4, err_msg=f"{model.kinds} {step}")
    return len(generator.graph.state)


def test_an_axis_without_a_stream():
    with pytest.raises(HeepgenError, match="time_axis = 2: says along what a stream goes; give stream,"):
        heepgen.compile(nn.Conv1d(2, 3, 3), torch.zeros(1, 2, 8), time_axis=2)


@pytest.mark.parametrize("seed", range(12))
def test_random_streams_are_pytorch_on_every_window(seed):
    model = drawn(seed)
    count = 1 + seed % 2
    frames = torch.randint(-8, 9, (2 * count * 8, 1, model.channels, 1, *[model.space] * bool(model.space))).float()
    config = (replace(SMALL, scratchpad_words=256), replace(SMALL, scratchpad_words=0), load_config(None, "cpu"))[
        seed % 3
    ]
    try:
        assert compared(model, config, frames, count) >= 1
    except HeepgenError as error:  # padding that a whole window's end needs is no state
        assert "frames before the window" in str(error) and {"padded", "residual"} & set(model.kinds), str(error)
        assert model.ends != "last" or model.window < 24


def test_constants_beside_frames():
    """Slopes and gains per channel, which are the same in every frame, and what PyTorch makes of gates."""

    class Gated(nn.Module):
        window = 24
        shape, kinds = (1, 4, window), ("gated",)

        def __init__(self):
            super().__init__()
            self.filter, self.gate, self.slopes = nn.Conv1d(4, 5, 3), nn.Conv1d(4, 5, 3), nn.PReLU(5)
            self.gain, self.out = nn.Parameter(torch.rand(1, 5, 1)), nn.Conv1d(5, 2, 2)

        def forward(self, x):
            x = self.slopes(self.filter(x)) * self.gain * torch.sigmoid(self.gate(x))
            return self.out(x)[:, :, -2:]

    torch.manual_seed(1)
    model = integer_weights(Gated())
    assert compared(model, SMALL, torch.randn(30, 1, 4, 1), 1)


@pytest.fixture
def keyword():
    """A network of 8 frames whose states are on chip: its three windows lose 8 words in every call."""
    torch.manual_seed(1)
    layers = [nn.Conv1d(8, 8, 3), nn.ReLU(), nn.Conv1d(8, 8, 4, groups=8), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)]
    model = integer_weights(nn.Sequential(*layers))
    model.shape, model.window = (1, 8, 8), 8
    return model


def test_the_scratchpad_rotates_round_itself_and_frames_stay(keyword):
    config = replace(SMALL, scratchpad_words=256)
    network = heepgen.compile(keyword, torch.zeros(keyword.shape), config, stream=1)
    program = network.compiled.program
    states = {s.value for s in program.graph.state}
    assert program.rotation == 8 and len(states) == 3 and states <= program.scratchpad.keys()
    advances = [layer for layer in program.layers if isinstance(layer.node, ir.Advance)]
    assert len(advances) == 3 and not any(layer.descriptors for layer in advances)
    report = network.run(steps=40)  # 320 words
    assert report.bit_exact and all(step.max_abs_err < 1e-4 for step in report.steps)
    assert len({step.cycles for step in report.steps[1:]}) == 1


def test_the_proof_finds_a_state_that_is_overwritten_behind_its_last_reader(keyword):
    """The oldest frame of the first state lies where the newest one of the last state comes."""
    config = replace(SMALL, scratchpad_words=256)
    program = CodeGenerator(keyword, torch.zeros(keyword.shape), config=config, stream=1).program()
    first, second, third = (state.value for state in program.graph.state)
    states = [(program.tensors[state.value], program.tensors[left]) for state, left in program.graph.updates]
    moved = {
        first: replace(program.scratchpad[first], offset=16),
        second: replace(program.scratchpad[second], offset=128),
    }
    homes = {third: replace(program.scratchpad[third], offset=0)} | moved
    rest = program.offsets, program.arena_bytes, (), config, states
    with pytest.raises(HeepgenError, match=f"{first} is overwritten before the next inference has read it"):
        check(program.jobs, homes, *rest)
    check(program.jobs, homes | {first: replace(homes[first], offset=32)}, *rest)


@pytest.mark.parametrize(
    "channels, kernels, rotation, moved, in_memory",
    [
        ((12, 4), (2, 6), 4, [0], []),  # the first state loses more words than the scratchpad rotates by
        ((3, 8), (2, 4), 8, [0], []),  # fewer: its frames move the other way
        ((4, 8), (2, 4), 8, [0], []),  # just beside where they were
        ((3, 8), (4, 4), 8, [0], [0]),  # and would overwrite each other
        ((5, 5), (3, 2), 5, [], []),
    ],
)
def test_states_that_lose_more_or_less_than_the_rotation(channels, kernels, rotation, moved, in_memory):
    torch.manual_seed(2)
    convs = [nn.Conv1d(*pair, k) for *pair, k in zip(channels, (*channels[1:], 4), kernels, strict=True)]
    model = integer_weights(nn.Sequential(*convs, nn.Flatten()))
    model.window = sum(kernels) - len(kernels) + 1
    model.shape, model.kinds = (1, channels[0], model.window), kernels
    config = replace(SMALL, scratchpad_words=256)
    graph = CodeGenerator(model, torch.zeros(model.shape), config=config, stream=1).graph
    program = next(program for program in compile_choices(graph, config) if program.rotation)
    assert program.rotation == rotation
    assert [s.value in program.scratchpad for s in program.graph.state] == [i not in in_memory for i in range(2)]
    advances = [layer for layer in program.layers if isinstance(layer.node, ir.Advance)]
    assert [bool(layer.descriptors) for layer in advances] == [i in moved for i in range(2)]
    for entry in (e for e in listing(program).entries if e.op == "Advance" and e.loads.on_chip):
        (oldest, end, _) = entry.loads.box[3]
        assert (oldest, end) == (1, graph.shape(entry.loads.value)[3]) and entry.stores.box[3] == (0, end - 1, 1)
    frames = torch.randint(-8, 9, (70, 1, channels[0], 1)).float()
    results = reference.run_steps(program, [(frame.numpy(),) for frame in frames])
    for want, result in zip(windows(model, frames, 1), results, strict=True):
        np.testing.assert_allclose(result.output, want, rtol=0, atol=2e-4)


@pytest.mark.parametrize("seed", range(4))
def test_frames_are_moved_only_from_where_nothing_was_written(seed):
    """Random lives and places: word by word, as the steps write them."""
    rng, config = np.random.default_rng(seed), replace(SMALL, scratchpad_words=256)
    for _ in range(250):
        check_rotation(rng, config)


def check_rotation(rng, config):
    states = []
    for step in sorted(rng.choice(6, int(rng.integers(2, 4)), replace=False)):
        states.append(Frames(f"state {step}", int(rng.integers(2, 12)), int(rng.integers(1, 12)), int(step)))
    buffers = [Buffer(own.state, 4 * (own.gone + own.kept), -1, 8) for own in states]
    for number, born in enumerate(rng.integers(0, 6, 3)):
        buffers.append(Buffer(f"{number}", 4 * int(rng.integers(1, 20)), int(born), int(rng.integers(born, 8))))
    homes = {name: Home(offset // 4, 8) for name, offset in planner.allocate(buffers).items()}
    rotation, stay = rotated(states, homes, buffers, config)
    assert rotation in {own.gone for own in states} and homes.keys() - stay.keys() <= {own.state for own in states}
    assert all(own.state in stay for own in states if own.gone == rotation)
    places = {own: stay[own.state].word(np.arange(own.gone + own.kept)) for own in states if own.state in stay}
    words = np.zeros((256, 2), int)  # whose, and which of its words
    for own, place in places.items():
        words[(place - rotation) % 256] = [[own.step + 1, word] for word in range(len(place))]
    for step in range(8):
        for own, place in places.items():
            if own.step == step:
                moved = words[(place[own.gone :] - rotation) % 256].copy()
                assert (moved == [[step + 1, word] for word in range(own.gone, len(place))]).all()
                for word, frame in enumerate(moved):  # one after the other
                    words[place[word]] = words[(place[word] + own.gone - rotation) % 256]
                    assert (words[place[word]] == frame).all()
            elif own.step == step - 1:
                words[place[own.kept :]] = 0
        for buffer in buffers:
            if buffer.name in stay and buffer.born == step:
                words[stay[buffer.name].word(np.arange(buffer.size // 4))] = 0


INTERRUPTED = """\
#include "heepstor.hpp"
#include "model.hpp"
#include "soc.hpp"
using heepstor::Status;
heepstor::Device other({{{base}u, {irq}}});
void step(int number) {{
  for (int i = 0; i < 8; ++i) model_input()[i] = static_cast<float>(number * number % 7 - i);
  const Status status = model_run();
  heepstor::print_decimal(static_cast<uint32_t>(status));
  for (int i = 0; i < 3 && status == Status::ok; ++i) {{
    soc_puts(" ");
    heepstor::print_decimal(static_cast<uint64_t>(model_output()[i] * 16.0f + 1000.25f));
  }}
  soc_puts("\\n");
}}
int main() {{
  for (int number = 0; number < 5; ++number) step(number);
  model_reset();
  for (int number = 5; number < 7; ++number) step(number);
  const heepstor::Region regions[HEEPSTOR_REGIONS] = {{}};
  if (other.open({{HEEPSTOR_VERSION, {rows}, {cols}, {ports}, 0, {hash}u}}, regions, 0) != Status::ok) return 1;
  for (int number = 7; number < 9; ++number) step(number);
  model_reset();
  for (int number = 9; number < 12; ++number) step(number);
  return 0;
}}
"""


@pytest.mark.parametrize("rotates", [True, False])
def test_a_reset_in_mid_stream_and_another_model(keyword, rotates, tmp_path, monkeypatch):
    """On the accelerator: behind a reset frames of zeros come first; what another model may have overwritten is lost,
    until a reset."""
    if not rotates:
        monkeypatch.setattr(compiler, "rotated", lambda *_: (0, {}))
    example = torch.zeros(keyword.shape)
    generator = CodeGenerator(keyword, example, tmp_path, SMALL, name="keyword", stream=1)
    assert {s.value for s in generator.graph.state} <= generator.program().scratchpad.keys()
    assert bool(generator.program().rotation) == rotates
    generator.generate_code()
    hardware_of = {name: getattr(SMALL, name) for name in ("rows", "cols", "ports", "hash")}
    text = INTERRUPTED.format(base=SMALL.slave_base, irq=SMALL.irq_line, **hardware_of)
    (tmp_path / "main.cpp").write_text(text)
    sources, folders = everything(generated(tmp_path))
    elf = compile_firmware(sources, folders, {}, SMALL, tmp_path / "keyword.elf")
    said = []
    for numbers in (range(5), range(5, 7), None, range(9, 12)):
        if numbers is None:
            said += 2 * [["7"]]
            continue
        frames = [torch.tensor([n * n % 7 - i for i in range(8)]).float().reshape(1, 8, 1) for n in numbers]
        said += [["0", *(f"{int(16 * y + 1000.25)}" for y in want[0])] for want in windows(keyword, frames, 1)]
    result = run_soc(elf, hardware(SMALL), SMALL)
    assert result.ok and [line.split() for line in result.uart.splitlines()] == said
    assert len({tuple(line) for line in said}) > 5


def test_a_layer_that_needs_all_frames_gets_them():
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()).eval()
    generator = CodeGenerator(model, torch.zeros(1, 3, 10), config=SMALL, stream=1)
    assert [s.initial.shape for s in generator.graph.state] == [(1, 3, 1, 3), (1, 4, 1, 8)]
    rows = generator.target.explain(generator.graph)
    assert [r.why for r in rows if r.op == "Advance"] == [
        "copy: frames of the calls before move up, unless the scratchpad rotates"
    ] * 2
    assert sum(isinstance(n, ir.Append) for n in generator.graph.nodes) == 2


REFUSED = {
    "both sides": (nn.Sequential(nn.Conv1d(2, 2, 3, padding=1)), (1, 2, 8), 1, "frames that have not come yet"),
    "no window": (nn.Sequential(nn.Linear(4, 4)), (1, 4), 1, r"shape \[1, 4\]"),
    "all of it": (nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), (1, 2, 8), 1, "whole window of the input"),
    "batch": (nn.Sequential(nn.Conv1d(2, 2, 3)), (2, 2, 8), 1, "needs one window"),
    "too many": (nn.Sequential(nn.Conv1d(2, 2, 3)), (1, 2, 8), 8, "a window has 8 frames; give fewer"),
    "columns": (nn.Sequential(nn.Conv2d(2, 2, 3)), (1, 2, 8, 8), 1, "keeps frames that are columns of a map of 8 rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_stream_is_refused(name):
    model, shape, count, words = REFUSED[name]
    with pytest.raises(HeepgenError, match=words) as caught:
        CodeGenerator(
            model.eval(), torch.zeros(shape), config=SMALL, stream=count, time=3 if name == "columns" else None
        )
    assert len(str(caught.value).splitlines()) == 1


def test_padding_that_the_whole_window_has_is_refused():
    layers = nn.Sequential(
        nn.ConstantPad1d((2, 0), 0), nn.Conv1d(2, 2, 3), nn.ConstantPad1d((7, 0), 0), nn.Conv1d(2, 2, 8)
    )
    with pytest.raises(HeepgenError, match="frames before the window, which are padding there"):
        CodeGenerator(nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 2)).eval(), torch.zeros(1, 2, 8), stream=1)
    generator = CodeGenerator(layers.eval(), torch.zeros(1, 2, 12), config=SMALL, stream=1)
    assert generator.graph.shape(generator.graph.results[0]) == (1, 2, 1)

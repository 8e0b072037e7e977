# SPDX-License-Identifier: Apache-2.0
"""Maps that the firmware takes and returns with their channels last: the same numbers, in another order of memory."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import heepgen
from firmware_gen.api import CodeGenerator
from firmware_gen.models.image import read, write
from hls.config import Config
from hls.errors import HeepgenError
from tests.networks import Branches, CpuInBetween, Residual

SMALL = Config(rows=4, cols=4, ports=1)


class _Sequences(nn.Module):
    """Reads the map in PyTorch's order: as a sequence of rows, and by softmax over the columns."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x):
        return self.linear(x.reshape(1, 24, 8)), x.softmax(-1)


class _Flat(nn.Module):
    """Flattens the map for a Linear, and returns part of it, and a convolution of the rest."""

    def __init__(self):
        super().__init__()
        self.linear, self.conv = nn.Linear(3 * 64, 5), nn.Conv2d(2, 4, 3)

    def forward(self, x):
        return self.linear(x.flatten(1)), x[:, :, ::2] + 1, self.conv(x[:, 1:])


class _Moved(nn.Module):
    """Permutes the map, returns it with another shape, and joined with what is computed."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 6)

    def forward(self, x):
        return self.linear(x.permute(0, 2, 3, 1)), x.reshape(1, 3, 64), torch.cat([x, F.relu(x)], 1)


LAYOUTS = (("nchw", None), ("nhwc", None), ("nhwc", "nchw"), ("nchw", "nhwc"))


def _generator(model: nn.Module, x: torch.Tensor, given: str, left: str | None) -> CodeGenerator:
    return CodeGenerator(model.eval(), x, config=SMALL, input_layout=given, output_layout=left)


@pytest.mark.parametrize("network", [Branches, CpuInBetween, _Sequences, _Flat, _Moved])
def test_the_same_numbers(network: type[nn.Module]) -> None:
    torch.manual_seed(len(network.__name__))
    model, x = network().eval(), torch.randn(1, 3, 8, 8)
    expected = model(x)
    expected = expected if isinstance(expected, tuple) else (expected,)
    outputs = _generator(model, x, "nhwc", None).reference().outputs
    for own, exact in zip(outputs, expected, strict=True):
        assert own.shape == exact.shape
        assert np.abs(own - exact.detach().numpy()).max() < 0.05 * float(exact.detach().abs().max())


@pytest.mark.parametrize("batch", [1, 2])
def test_where_channels_lie(batch: int) -> None:
    """A pixel's channels are neighbours in memory, of input and output, and only where that was asked for."""
    model, x = nn.Conv2d(3, 5, 3, padding=1), torch.randn(batch, 3, 6, 7)
    bits = []
    for layouts, last in zip(LAYOUTS, ((0, 0), (1, 1), (1, 0), (0, 1)), strict=True):
        generator = _generator(model, x, *layouts)
        program = generator.program()
        bits.append(generator.reference().output.tobytes())
        network = generator.target.network(program)
        for value, is_last in zip((network.graph.arguments[0], network.graph.results[0]), last, strict=True):
            words = network.words(value)
            n, c, h, w = words.shape
            place = np.arange(words.size).reshape((n, h, w, c) if is_last else (n, c, h, w))
            expected = place.transpose(0, 3, 1, 2) if is_last else place
            assert np.array_equal(words - words.min(), expected)
    assert len(set(bits)) == 1, "the order of memory changes no bit of a convolution"


def test_several_inputs_of_which_one_is_a_map() -> None:
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(4, 4, 1), nn.Linear(5, 4)

        def forward(self, x, y):
            return self.conv(x) * self.linear(y)[:, :, None, None]

    model, given = Two().eval(), (torch.randn(1, 4, 3, 3), torch.randn(1, 5))
    net = heepgen.compile(model, given, rows=4, cols=4, ports=1, input_layout="nhwc")
    program = net.compiled.program
    assert program.graph.channels_last == {program.graph.arguments[0], program.graph.results[0]}
    image = np.zeros(program.config.ram_bytes, np.uint8)
    write(program, image, program.graph.arguments[0], given[0].numpy())
    first = int(program.words(program.graph.arguments[0]).min())
    assert np.array_equal(image.view(np.float32)[first : first + 36], given[0].permute(0, 2, 3, 1).reshape(-1).numpy())
    assert np.array_equal(read(program, image, program.graph.arguments[0]), given[0].numpy())


@pytest.mark.parametrize("architecture", ["cpu", "streaming"])
def test_other_architectures(architecture: str) -> None:
    model, x = Residual(), torch.randn(1, 3, 8, 8)
    net = heepgen.compile(model, x, architecture=architecture, input_layout="nhwc")
    exact = model.eval()(x).detach().numpy()
    (own,) = net.compiled.generator.reference().outputs
    assert np.abs(own - exact).max() < 0.05 * np.abs(exact).max()


def test_what_is_no_map_is_refused() -> None:
    with pytest.raises(HeepgenError, match="takes \\[1, 6\\]: there are no channels"):
        heepgen.compile(nn.Linear(6, 2), torch.randn(1, 6), input_layout="nhwc")
    with pytest.raises(HeepgenError, match="input_layout = 'chw'"):
        heepgen.compile(nn.Conv2d(3, 2, 1), torch.randn(1, 3, 4, 4), input_layout="chw")


def test_no_bank_conflicts() -> None:
    """Channels of 1,024 words lie in one bank of four ports: what takes 2.3 times its bound takes 1.1 times it."""
    model, x = nn.Conv2d(16, 16, 3, padding=1), torch.randn(1, 16, 32, 32)
    config = Config(rows=16, cols=16, ports=4)
    cycles = []
    for layout in ("nchw", "nhwc"):
        generator = CodeGenerator(model, x, config=config, input_layout=layout)
        cycles.append(sum(own.cycles for own in generator.target.predict(generator.program()).layers if own))
    assert cycles[1] < 10_300 < 2 * cycles[1] < cycles[0]


@pytest.mark.parametrize("software", [False, True])
def test_on_the_device(software: bool) -> None:
    """The compiled program takes and leaves them so: C++ compares its outputs, in memory, bit by bit."""
    torch.manual_seed(3)
    model, x = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 1)), torch.randn(1, 3, 6, 5)
    net = heepgen.compile(model, x, rows=4, cols=4, ports=1, input_layout="nhwc")
    other = torch.randn(1, 3, 6, 5)
    report = net.run(other, software=software)
    assert report.bit_exact
    exact = model(other).detach().numpy()
    assert report.outputs[0].shape == exact.shape
    assert np.abs(report.outputs[0] - exact).max() < 0.05 * np.abs(exact).max()

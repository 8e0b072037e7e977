# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions by banded tiles: how they are cut and laid out, and what the NumPy model computes of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.operations.windows import Windowed
from firmware_gen.targets.descriptor.compiler import compile_graph
from firmware_gen.targets.descriptor.linked.link import link
from firmware_gen.targets.descriptor.lowering import banded
from firmware_gen.targets.descriptor.reference import run
from hls.config import Config
from hls.descriptor.interface.table import WORDS, unpack
from tests.test_order import follow

GEOMETRIES = [(8, 8, 2), (4, 4, 1), (5, 3, 3), (16, 16, 4), (6, 12, 2)]


def operator(width, kernel, stride=1, dilation=1, left=0, channels=4):
    """A depthwise convolution of one row with `left` words of padding on both sides."""
    outputs = (width + 2 * left - dilation * (kernel - 1) - 1) // stride + 1
    weight = np.ones((channels, 1, kernel), np.int8)
    shape = {"channels": channels, "height": 1, "width": width, "out_height": 1, "out_width": outputs}
    return Windowed(
        **shape,
        kernel=(1, kernel),
        stride=(1, stride),
        dilation=(1, dilation),
        left=left,
        cout=channels,
        diagonal=True,
        weight=weight,
    )


@pytest.mark.parametrize("channels", range(1, 40))
@pytest.mark.parametrize("rows, cols, ports", GEOMETRIES)
def test_lanes_lie_in_different_banks(channels, rows, cols, ports):
    config = Config(rows=rows, cols=cols, ports=ports)
    pitch = banded.pitch_of(channels, config)
    assert channels <= pitch < channels + config.banks
    assert len({lane * pitch % config.banks for lane in range(rows)}) == rows
    assert len({word * pitch % config.scratchpad_banks for word in range(ports)}) == ports


@pytest.mark.parametrize("seed", range(40))
def test_ranges_of_columns_are_whole_vectors_of_all_outputs(seed):
    rng = np.random.default_rng(seed)
    first, width, most = (int(n) for n in rng.integers((0, 1, 1), (9, 60, 15)))
    ranges = banded.columns_of((first, first + width), most)
    assert ranges[0][0][0] == first and ranges[-1][0][1] == first + width
    assert all(end == start for (_, end), (start, _) in zip([r for r, _ in ranges], [r for r, _ in ranges][1:]))
    assert all((end - start) % outputs == 0 and 1 <= outputs <= most for (start, end), outputs in ranges)


@pytest.mark.parametrize("seed", range(60))
def test_limits_of_lanes_are_where_the_input_is(seed):
    rng = np.random.default_rng(seed)
    kernel, stride, dilation = int(rng.integers(2, 5)), int(rng.integers(1, 3)), int(rng.integers(1, 3))
    left = int(rng.integers(0, (kernel - 1) * dilation + 1))
    op = operator(int(rng.integers(kernel * dilation, 40)), kernel, stride, dilation, left)
    config = Config(rows=int(rng.integers(4, 17)), cols=int(rng.integers(1, 17)))
    most = banded.most_outputs(op, config)
    assert (most > 0) == (banded.taps_of(op) <= config.diagonal)
    for (first, end), outputs in banded.columns_of((0, op.out_width), most) if most else ():
        limits = banded.lane_limits(op, (first, end), outputs)
        run = banded.run_of(op, outputs)
        assert run <= config.rows
        for start in range(first, end, outputs):
            pixels = start * stride - left + np.arange(run)
            inside = (pixels >= 0) & (pixels < op.width)
            low = limits[0] if limits and start == first else 0
            high = limits[1] if limits and start == end - outputs else run
            expected = (np.arange(run) >= low) & (np.arange(run) < high)
            assert limits is None or np.array_equal(inside, expected)


def network(rng, channels, kernel, dilation, stride):
    padding = tuple(int(rng.integers(0, (k - 1) * d + 1)) for k, d in zip(kernel, dilation))
    middle = nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels)
    return nn.Sequential(nn.Conv2d(3, channels, 1), middle, nn.ReLU(), nn.Conv2d(channels, 5, 1)).eval()


@pytest.mark.parametrize("seed", range(12))
def test_bits_are_near_pytorch_and_no_word_is_read_too_early(seed):
    """Random kernels, dilations, strides and geometries, banded wherever it pays; the sums of a dense array."""
    rng = np.random.default_rng([seed, 3])
    torch.manual_seed(seed)
    rows, cols, ports = GEOMETRIES[seed % len(GEOMETRIES)]
    config = Config(rows=rows, cols=cols, ports=ports, arithmetic="fma" if seed % 4 == 3 else "aligned")
    kernel = tuple(int(k) for k in rng.integers(2, 4, 2))
    dilation = (int(rng.integers(1, 3)), 1)
    model = network(rng, int(rng.integers(3, 18)), kernel, dilation, (int(rng.integers(1, 3)), 1))
    x = rng.standard_normal((1, 3, int(rng.integers(8, 15)), int(rng.integers(8, 25)))).astype(np.float32)
    generator = CodeGenerator(model, x, config=config)
    programs = [compile_graph(generator.graph, replace(config, banded=own)) for own in (True, False)]
    assert [any(job.descriptor.band for job in program.jobs) for program in programs] == [True, False]
    results = []
    for program in programs:
        follow(program)
        (y,) = run(program, [x], False).outputs
        results.append(y)
    with torch.no_grad():
        exact = model.double()(torch.from_numpy(x).double()).numpy()
    spread = np.abs(exact).max()
    for y in results:
        assert np.abs(y - results[0]).max() < 1e-5 * spread
        assert np.abs(y - exact).max() < 0.05 * spread


@pytest.mark.parametrize("stride, dilation, words", [(2, 1, 1024), (1, 2, 8192), (2, 2, 1024)])
def test_columns_apart_and_channels_of_several_descriptors(stride, dilation, words):
    """Vectors of every second column, taps that lie apart, and maps of which the buffer holds a few channels only."""
    rng = np.random.default_rng([stride, dilation])
    torch.manual_seed(stride)
    config = Config(rows=16, cols=8, ports=2, activation_words=words)
    middle = nn.Conv2d(40, 40, 3, (1, stride), (1, dilation), (1, dilation), groups=40)
    model = nn.Sequential(nn.Conv2d(3, 40, 1), middle, nn.ReLU(), nn.Conv2d(40, 5, 1)).eval()
    x = rng.standard_normal((1, 3, 9, 45)).astype(np.float32)
    program = compile_graph(CodeGenerator(model, x, config=config).graph, config)
    bands = [job.descriptor for job in program.jobs if job.descriptor.band]
    assert bands and {f.band for f in bands} == {stride}
    assert (len({f.ncb for f in bands}) > 1 or bands[0].ncb < 40) == (words == 1024)
    follow(program)
    (y,) = run(program, [x], False).outputs
    with torch.no_grad():
        exact = model.double()(torch.from_numpy(x).double()).numpy()
    assert np.abs(y - exact).max() < 0.05 * np.abs(exact).max()


class Seen(nn.Module):
    """A depthwise convolution whose map others see too."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first, self.middle = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2d(16 if how == "joined" else 8, 5, 1)

    def forward(self, x):
        x = self.first(x)
        y = self.middle(x)
        if self.how == "returned":
            return y, self.last(y)
        if self.how == "joined":
            return self.last(torch.cat([y, x], 1))
        return self.last(torch.softmax(y, 1) if self.how == "read by the CPU" else y)


@pytest.mark.parametrize("how", ["by the next layer", "returned", "joined", "read by the CPU"])
def test_maps_that_others_see_have_no_words_between_pixels(how):
    torch.manual_seed(1)
    model, x = Seen(how).eval(), torch.randn(1, 3, 12, 24)
    program = compile_graph(CodeGenerator(model, x, config=Config()).graph, Config())
    assert any(job.descriptor.band for job in program.jobs) == (how == "by the next layer")
    follow(program)
    found = run(program, [x.numpy()], False).outputs
    with torch.no_grad():
        exact = model(x)
    for y, want in zip(found, exact if how == "returned" else [exact], strict=True):
        assert np.abs(y - want.numpy()).max() < 0.05 * np.abs(want.numpy()).max()


def test_without_the_option_no_layer_is_banded():
    config = Config(banded=False)
    x = np.ones((1, 3, 9, 12), np.float32)
    model = network(np.random.default_rng(0), 8, (3, 3), (1, 1), 1)
    for own in (config, Config()):
        program = CodeGenerator(model, x, config=own).program()
        assert any(unpack(words).band for words in link(program, True).reshape(-1, WORDS)) == own.banded


@pytest.mark.parametrize("seed", range(3))
def test_bits_are_the_same_where_all_activations_are_kept(seed):
    """Whichever of both programs is the faster one."""
    rng = np.random.default_rng([seed, 7])
    torch.manual_seed(seed)
    rows, cols, ports = GEOMETRIES[seed]
    config = Config(rows=rows, cols=cols, ports=ports, accumulator_entries=16)
    x = rng.standard_normal((1, 3, 9, 14)).astype(np.float32)
    model = network(rng, int(rng.integers(5, 12)), (3, 3), (1, 1), 1)
    whole, kept = (CodeGenerator(model, x, config=config, keep_activations=keep).program() for keep in (False, True))
    bands = [[job.layer for job in program.jobs if job.descriptor.band] for program in (whole, kept)]
    assert set(bands[0]) == set(bands[1])
    (a,), (b,) = (run(program, [x], False).outputs for program in (whole, kept))
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))

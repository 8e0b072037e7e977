# SPDX-License-Identifier: Apache-2.0
"""Descriptors of random layers on random geometries: NumPy model of the accelerator against PyTorch."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.models.fake_quant import GraphModule
from firmware_gen.targets.descriptor import strips
from firmware_gen.targets.descriptor.lowering import layout
from firmware_gen.targets.descriptor.timing.spans import strip_span
from firmware_gen.targets.descriptor.timing.timeline import Work
from hls.config import Config
from hls.descriptor.interface.table import unpack
from hls.errors import HeepgenError
from tests import bounds, networks

SETTINGS = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def configs(draw):
    size = st.sampled_from([1, 2, 3, 5, 8, 12])
    return Config(
        rows=draw(size),
        cols=draw(size),
        ports=draw(st.integers(1, 4)),
        activation_words=draw(st.sampled_from([256, 1024, 8192])),
        accumulator_entries=draw(st.sampled_from([16, 64])),
    )


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    cin, cout = groups * draw(st.integers(1, 5)), groups * draw(st.integers(1, 5))
    if draw(st.booleans()):  # depthwise, maybe with a channel multiplier
        groups = cin
        cout = cin * draw(st.integers(1, 2))
    return nn.Conv2d(
        cin,
        cout,
        draw(pairs(1, 4)),
        draw(pairs(1, 3)),
        draw(pairs(0, 2)),
        draw(pairs(1, 2)),
        groups,
        bias=draw(st.booleans()),
    )


@st.composite
def pools(draw):
    kernel = draw(pairs(1, 4))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    if draw(st.booleans()):
        return nn.MaxPool2d(kernel, draw(pairs(1, 3)), padding, draw(pairs(1, 2)), ceil_mode=draw(st.booleans()))
    return nn.AvgPool2d(
        kernel,
        draw(pairs(1, 3)),
        padding,
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([None, None, 5])),
    )


def assert_close(model, shape, config, seed=0):
    """Every layer's output within the rounding of its sums; returns the compiled program."""
    torch.manual_seed(seed)
    sample = torch.randn(shape)
    generator = CodeGenerator(model, sample, config=config)
    program = generator.program()
    result = generator.reference(taps=True)
    taps = {}
    with torch.no_grad():
        GraphModule(generator.graph).double()(sample.double(), taps)
    bound = 1e-5 + bounds.of_tables(generator.graph)
    for name, tap in result.taps.items():
        if name in taps:
            want = taps[name].numpy()
            assert tap.shape == want.shape
            np.testing.assert_allclose(tap, want, rtol=0, atol=bound * max(1.0, np.abs(want).max()), err_msg=name)
    check_buffers(program, config)
    return program


def check_buffers(program, config):
    """What the hardware relies on, read back from the packed descriptors."""
    table = program.constants["descriptors"].reshape(-1, 52)
    ends = {listed.end for listed in program.lists}
    for index, words in enumerate(table[: len(program.jobs)]):
        f = unpack(words)
        assert f.strip_px * min(f.cbg, f.ncb) <= config.accumulator_entries
        assert 1 <= f.first_px <= f.strip_px
        assert f.load_words == f.load_c_count * f.load_x_count * f.load_y_count == f.in_h * f.in_row
        assert strip_span(f, f.first_px, f.strip_px) <= config.activation_words - config.ports
        assert f.row0 == f.y0 * f.in_row
        assert f.weight_words % config.ports == 0 and f.param_words % config.ports == 0
        assert bool(f.last) == (index + 1 in ends)
        if not f.last:
            assert f.next == program.descriptor_address(index + 1)


@SETTINGS
@given(convolutions(), st.integers(1, 2), pairs(7, 12), configs())
def test_convolutions(conv, batch, size, config):
    try:
        assert_close(nn.Sequential(conv, nn.ReLU()), (batch, conv.in_channels, *size), config)
    except HeepgenError as error:  # the smallest buffers really are too small for a few
        assert "activation_words" in str(error) and config.activation_words == 256


@SETTINGS
@given(pools(), st.integers(1, 9), pairs(7, 12), configs())
def test_pools(pool, channels, size, config):
    assert_close(pool, (1, channels, *size), config)


@SETTINGS
@given(st.integers(1, 4), st.integers(1, 700), st.integers(1, 30), configs())
def test_linear(batch, features, outputs, config):
    assert_close(nn.Linear(features, outputs), (batch, features), config)


@pytest.mark.parametrize(
    "model, shape",
    [
        (
            nn.Sequential(
                nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.Linear(36, 7)
            ),
            (2, 3, 12, 12),
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10)), (2, 3, 8, 8)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), (2, 3, 6, 6)),
        (nn.Flatten(), (2, 3, 6, 6)),
        (nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)), (1, 3, 6, 6)),
        (nn.Sequential(nn.ZeroPad2d((1, 2, 3, 0)), nn.MaxPool2d(2)), (1, 5, 7, 8)),
        (nn.Sequential(nn.ConstantPad2d((1, 0, 2, 1), -3.5), nn.Conv2d(5, 3, 2)), (1, 5, 7, 8)),
        (nn.Sequential(nn.Linear(12, 5), nn.Softmax(-1)), (3, 12)),
        (nn.Softmax(-1), (3, 12)),
        (nn.Linear(12, 5), (12,)),
    ],
)
def test_small_networks(model, shape):
    assert_close(model, shape, Config(rows=5, cols=3, ports=3))


@pytest.mark.parametrize(
    "config",
    [Config(), Config(rows=3, cols=5, ports=3, activation_words=256, accumulator_entries=16)],
    ids=["8x8", "tiny"],
)
@pytest.mark.parametrize("network", [networks.Residual, networks.Branches, networks.CpuInBetween])
def test_graphs_with_branches(network, config):
    assert_close(network(), (2, 3, 8, 8), config)


def test_one_pixel_too_big_for_the_buffer_becomes_a_chain_of_k_splits():
    program = assert_close(nn.Linear(3000, 9), (2, 3000), Config(activation_words=1024))
    inits = [unpack(w).acc_init for w in program.constants["descriptors"].reshape(-1, 52)]
    assert len(inits) > 2 and inits == [0] + [1] * (len(inits) - 1)


@pytest.mark.parametrize("activation", [nn.LeakyReLU(0.3), nn.Hardtanh(-0.5, 0.25)], ids=repr)
@pytest.mark.parametrize(
    "layer, shape",
    [(nn.Linear(3000, 9), (2, 3000)), (nn.Conv2d(48, 5, 5), (1, 48, 6, 7)), (nn.Conv2d(600, 3, 1), (1, 600, 2, 2))],
    ids=["linear", "5x5", "1x1"],
)
def test_an_activation_follows_the_last_of_a_k_split_only(layer, shape, activation):
    program = assert_close(nn.Sequential(layer, activation), shape, Config(rows=4, activation_words=512))
    inits = [job.descriptor.acc_init for job in program.jobs]
    assert 0 in inits and 1 in inits


@pytest.mark.parametrize("ports", [1, 2, 3, 4])
def test_a_pixel_as_large_as_the_load_engine_holds_is_not_split(ports):
    """activation_words - ports is what `memory.load` asks for while nothing is released; its own tests check that."""
    config = Config(ports=ports, activation_words=256)
    for more, jobs in ((0, 1), (1, 2)):
        features = config.activation_words - ports + more
        assert len(assert_close(nn.Linear(features, 3), (1, features), config).jobs) == jobs


@pytest.mark.parametrize("ports", [1, 2, 3, 4])
def test_a_strip_as_large_as_the_load_engine_holds_is_tried(ports):
    """Of one input word per output pixel, so that a strip's pixels are its words."""
    config = Config(ports=ports, activation_words=256, accumulator_entries=512)
    room = config.activation_words - ports
    for pixels, fits in ((room, True), (room + 1, False)):
        program = assert_close(nn.Conv2d(1, 1, 1), (1, 1, 1, pixels), config)
        fields = unpack(program.constants["descriptors"].reshape(-1, 52)[0])
        assert strip_span(fields, pixels, pixels) == pixels
        candidates = strips._candidates(Work(fields, config), config)
        assert ((pixels, pixels) in candidates) == fits
        assert all(strip_span(fields, *candidate) <= room for candidate in candidates)


def test_wide_convolution_becomes_column_tiles():
    program = assert_close(nn.Conv2d(16, 4, 3, padding=1), (1, 16, 8, 60), Config(activation_words=1024))
    assert len(program.jobs) > 1
    assert not any(job.descriptor.acc_init for job in program.jobs)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (3, 3)])
def test_feature_maps_lie_channels_last(size):
    """However flat they are: a pixel's channels are neighbours."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1))
    program = assert_close(model, (1, 3, *size), Config(rows=4, cols=4))
    between = program.tensors[program.graph.nodes[0].output]
    assert between.channels_last == (4, *size)
    assert program.jobs[0].descriptor.store_c_stride == 1 == program.jobs[-1].descriptor.load_c_stride


class Halves(nn.Module):
    """Vectors of a batch, joined."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.last = nn.Linear(6, 5), nn.Linear(6, 3), nn.Linear(8, 2)

    def forward(self, x):
        return self.last(torch.cat((self.one(x), torch.relu(self.two(x))), 1))


@pytest.mark.parametrize("batch", [1, 3])
def test_joined_vectors_of_a_batch(batch):
    assert_close(Halves(), (batch, 6), Config(rows=4, cols=4))


def test_strided_1x1_loads_only_what_it_reads():
    program = assert_close(nn.Conv2d(6, 8, 1, stride=2), (1, 6, 16, 12), Config())
    assert program.jobs[0].descriptor.load_words == 6 * 8 * 6


def test_refusal_names_layer_numbers_and_option():
    with pytest.raises(HeepgenError, match=r"layer .*linear.*: COUT = 70000 is beyond"):
        CodeGenerator(nn.Linear(1, 70000), torch.zeros(1, 1)).program()


def test_strides_beyond_the_descriptor_are_split_by_taps():
    assert_close(nn.Conv2d(1, 2, 2, stride=300), (1, 1, 700, 3), Config())


def test_max_pool_is_bit_exact():
    torch.manual_seed(1)
    sample = torch.randn(1, 9, 13, 11)
    pool = nn.MaxPool2d(3, 2, 1)
    got = CodeGenerator(pool, sample).reference().output
    assert np.array_equal(got.view(np.uint32), pool(sample).numpy().view(np.uint32))


def test_weight_stream_order():
    """Tile (g, cbg, ky, kx, kb, cb), then row, then column, against loops written out."""
    config = Config(rows=3, cols=2, ports=3)
    rng = np.random.default_rng(0)
    weight = rng.integers(-127, 128, (2, 7, 2, 3, 4), dtype=np.int8)
    cbg, ncb, kb_count = 3, 4, 2
    expected = []
    for g in range(2):
        for first in range(0, ncb, cbg):
            for ky in range(2):
                for kx in range(3):
                    for kb in range(kb_count):
                        for cb in range(first, min(first + cbg, ncb)):
                            for r in range(3):
                                for c in range(2):
                                    o, k = cb * 2 + c, kb * 3 + r
                                    expected.append(weight[g, o, ky, kx, k] if o < 7 and k < 4 else 0)
    words = layout.dense_weights(weight, cbg, False, config)
    assert len(words) % 3 == 0
    got = words.view(np.int8)
    assert np.array_equal(got[: len(expected)], expected) and not got[len(expected) :].any()


def test_parameter_stream_order():
    scale = np.arange(1, 15, dtype=np.float32).reshape(2, 7)
    words = layout.parameters(scale, -scale, 5, 2).view(np.float32)
    row = words.reshape(2, 2, 3, 2, 2)  # group, block, row, scale or bias, lane
    assert row[0, 0, 0].tolist() == [[1, 2], [-1, -2]]
    assert row[0, 0, 2].tolist() == [[5, 0], [-5, 0]]
    assert row[1, 1, 0].tolist() == [[13, 14], [-13, -14]]

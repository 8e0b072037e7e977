# SPDX-License-Identifier: Apache-2.0
"""Words that strips need, and bounds, against the loops of the descriptor written out."""

import numpy as np
import pytest
import torch
from test_sequencer import vectors as issued
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.targets.descriptor import reference
from firmware_gen.targets.descriptor.timing.demand import array_or_bus, vectors
from firmware_gen.targets.descriptor.timing.spans import strip_span, window_words
from hls.config import Config
from hls.descriptor.interface.table import Descriptor
from tests.layers import random_geometry


@pytest.mark.parametrize("seed", range(40))
def test_windows_hold_what_the_vectors_read(seed):
    rng = np.random.default_rng(seed)
    config = Config(
        int(rng.integers(1, 7)), int(rng.integers(1, 7)), ports=2, activation_words=256, accumulator_entries=16
    )
    fields = random_geometry(rng, config, large=0.3) | {"acc_init": 0, "halves": 0}
    f = Descriptor(**fields)
    single = fields | {"first_px": 1, "strip_px": 1, "cbg": 1}
    streams, read = list(issued(single, config)), []
    assert vectors(f) == len(streams)
    each = len(streams) // f.out_px
    for pixel in range(f.out_px):
        words = [word for lanes, *_ in streams[each * pixel : each * (pixel + 1)] for word in lanes if word is not None]
        read.append((min(words, default=None), max(words, default=None)))
    start, end = window_words(f)
    assert start[0] == 0 and (np.diff(end) >= 0).all() and end[-1] <= f.load_words
    for pixel, (low, high) in enumerate(read):
        assert low is None or (start[: pixel + 1] <= low).all() and high < end[pixel]
    if not (f.x0 or f.y0) and None not in read[-1] and f.kh <= f.in_h:
        tight = np.maximum.accumulate([-1 if high is None else high for _, high in read])
        inside = [pixel for pixel, (low, _) in enumerate(read) if low is not None]
        assert all(end[pixel] >= tight[pixel] + 1 for pixel in inside)
    for first, strip in ((1, 1), (f.first_px, f.strip_px), (f.out_px, f.out_px)):
        begins = [0, *range(first, f.out_px, strip)]
        spans = [end[stop - 1] - start[begin] for begin, stop in zip(begins, [*begins[1:], f.out_px])]
        assert strip_span(f, first, strip) == max(spans)


def test_the_bound_is_the_array_or_the_bus():
    assert array_or_bus(1000, 10, 10, 10, 2) == 1000
    assert array_or_bus(10, 100, 50, 41, 2) == (100 + 50 + 11 + 1) // 2
    assert array_or_bus(10, 100, 50, 40, 4) == 40


class Bottleneck(nn.Module):
    """A convolution that adds its input, so that the array reads it twice."""

    def __init__(self):
        super().__init__()
        self.before, self.squeeze, self.expand = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)

    def forward(self, x):
        x = self.before(x)
        return self.expand(self.squeeze(x)) + x


def test_the_bound_of_a_layer_counts_every_tensor_once():
    """Vectors, or words of input, residual, weights (four in a word) and output over the ports."""
    program = CodeGenerator(Bottleneck(), np.zeros((2, 3, 6, 7), np.float32), config=Config(4, 16, ports=1)).program()
    bounds = {layer.name: layer.bound_cycles for layer in program.layers}
    pixels = 2 * 6 * 7
    assert bounds["squeeze"] == max(pixels * 4, pixels * 16 + 16 * 4 // 4 + pixels * 4)
    assert bounds["expand"] == max(pixels, pixels * 4 + pixels * 16 + 16 * 4 // 4 + pixels * 16)


@pytest.mark.parametrize("kernel", [(1, 600), (600, 1)])
def test_a_window_longer_than_the_buffer_is_cut_along_its_length(kernel):
    config = Config(4, 4, ports=1, activation_words=256, weight_bytes=256, accumulator_entries=16)
    torch.manual_seed(0)
    model, x = nn.AvgPool2d(kernel), torch.randn(1, 3, max(2, kernel[0]), max(2, kernel[1]))
    program = CodeGenerator(model, x, config=config).program()
    assert len(program.linked) > 2
    (got,) = reference.run(program, x.numpy()).outputs
    np.testing.assert_allclose(got, model(x).numpy(), atol=1e-6)

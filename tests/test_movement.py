# SPDX-License-Identifier: Apache-2.0
"""What moves elements inside a network, and what it costs: the bit-exact model against PyTorch."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import CodeGenerator, ir
from firmware_gen.operations.tensors import lay_out, shares_storage
from hls.config import Config
from tests.fuzz_torch import outcome
from tests.random_torch import Case, Draw, Holder


def network(seed: int, function, channels: int = 4, after=None) -> Case:
    """A convolution that `channels` 5x6 maps come out of, a function of them, and what reads that."""
    draw = Draw(seed)
    first = Holder(lambda x, w: F.conv2d(x, w, padding=1), draw.grid(channels, 3, 3, 3))
    steps = [first, Holder(function)] + ([] if after is None else [Holder(after[0], draw.grid(*after[1]))])
    return Case(nn.Sequential(*steps).eval(), draw.normal(1, 3, 5, 6), "")


POINTWISE, LINEAR = (lambda x, w: F.conv2d(x, w)), (lambda x, w: F.linear(x, w))
MOVES = {
    "concatenation over height": (lambda y: torch.cat([y, y[:, :, 1:]], 2), POINTWISE, (3, 4, 1, 1)),
    "concatenation over width": (lambda y: torch.cat([y * 2, y], 3), POINTWISE, (3, 4, 1, 1)),
    "stacked": (lambda y: torch.stack([y, y.relu()], 1).flatten(1, 2), POINTWISE, (3, 8, 1, 1)),
    "rows as channels": (lambda y: y.transpose(1, 2), POINTWISE, (3, 5, 1, 1)),
    "sequence over channels": (lambda y: y.flatten(2), LINEAR, (3, 30)),
    "features of every row": (lambda y: y.permute(0, 2, 1, 3).flatten(2), LINEAR, (3, 24)),
    "channels and rows together": (lambda y: y.reshape(1, 20, 6), LINEAR, (3, 6)),
    "anchors": (lambda y: y.view(1, 2, 2, 5, 6).permute(0, 1, 3, 4, 2).reshape(1, -1, 2), LINEAR, (3, 2)),
    "vector and flattened map": (lambda y: torch.cat([y.flatten(1), y.mean((2, 3))], 1), LINEAR, (3, 124)),
    "mean of channels": (lambda y: torch.cat([y.mean(1, True), y.amax(1, True)], 1), POINTWISE, (3, 2, 1, 1)),
    "least of channels and rows": (lambda y: y.amin((1, 2)), LINEAR, (3, 6)),
    "windows": (lambda y: F.unfold(y, (2, 3), padding=1, stride=(1, 2), dilation=(2, 1)), LINEAR, (3, 15)),
    "involution": (
        lambda y: (F.unfold(y, 3, padding=1).view(1, 4, 9, 5, 6) * y[:, :1, None]).sum(2),
        POINTWISE,
        (3, 4, 1, 1),
    ),
    "sum of everything": (lambda y: y.sum((1, 2, 3), keepdim=True), POINTWISE, (3, 1, 1, 1)),
    "rolled": (lambda y: y.roll((1, -2), (2, 3)), POINTWISE, (3, 4, 1, 1)),
    "mirrored": (lambda y: y.flip(1, 3), POINTWISE, (3, 4, 1, 1)),
    "reflected": (lambda y: F.pad(y, (1, 2, 3, 0), mode="reflect"), POINTWISE, (3, 4, 1, 1)),
    "shortcut with more channels": (lambda y: F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 2, 1)), POINTWISE, (3, 7, 1, 1)),
    "space to depth": (lambda y: F.pixel_unshuffle(y[:, :, 1:], 2), POINTWISE, (3, 16, 1, 1)),
    "softmax over height": (lambda y: y.softmax(2), POINTWISE, (3, 4, 1, 1)),
}


@pytest.mark.parametrize("name", MOVES)
def test_elements_arrive_where_pytorch_has_them(name):
    function, after, shape = MOVES[name]
    assert outcome(network(3, function, after=(after, shape))).startswith("agrees")


INTERPOLATIONS = {
    "twice": {"scale_factor": 2},
    "eight times, rows and then columns": {"scale_factor": 8},
    "three times, corners aligned": {"scale_factor": 3, "align_corners": True},
    "by fractions": {"size": (7, 9)},
    "smaller": {"size": (3, 2)},
    "smaller, corners aligned": {"size": (3, 2), "align_corners": True},
}


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_bilinear_interpolation_is_exact(name):
    """To the rounding of float32, borders and what is computed on the way out included."""
    arguments = INTERPOLATIONS[name]

    def grown(y):
        return torch.relu(F.interpolate(y, mode="bilinear", **arguments))

    assert outcome(network(7, grown, after=(POINTWISE, (3, 4, 1, 1)))) == "agrees"


DECOMPOSED = {
    "interpolation": lambda y: F.interpolate(y, scale_factor=2, mode="bilinear"),
    "rolled": lambda y: y.roll(1, 2),
    "rolled through all dimensions": lambda y: y.roll(-7),
    "slope of evaluation": lambda y: F.rrelu(y, 0.1, 0.35),
    "sampled": lambda y: F.grid_sample(
        y.float(),
        F.affine_grid(torch.tensor([[[0.9, 0.2, 0.1], [-0.3, 1.1, 0.0]]]), (1, 4, 5, 6), False),
        align_corners=False,
    ).to(y.dtype),
    "statistics of the input": lambda y: F.instance_norm(y),
    "shuffled": lambda y: F.pixel_unshuffle(F.pixel_shuffle(y, 2), 2),
    "gated": lambda y: F.glu(y, 1).repeat(1, 2, 1, 1) * y.mean((2, 3), keepdim=True).expand_as(y),
    "any position": lambda y: y[:, :, torch.tensor([3, 0, 0])],
    "repeated": lambda y: y.tile(1, 1, 2, 1) + y.repeat_interleave(2, 2),
    "windows of maps": lambda y: y.unfold(3, 3, 2).mean(4),
    "windows of vectors": lambda y: y * y.mean((2, 3)).unfold(1, 2, 1).mean((1, 2))[:, None, None, None],
}


@pytest.mark.parametrize("name", DECOMPOSED)
def test_decomposed_programs_compute_the_same(name):
    """The import is compared with the program, and what is compiled with the module."""
    case = network(5, DECOMPOSED[name], after=(POINTWISE, (3, 4, 1, 1)))
    program = torch.export.export(case.model, (case.x,)).run_decompositions()
    output = CodeGenerator(program, case.x, config=Config()).reference().output
    expected = copy.deepcopy(case.model).double()(case.x.double()).numpy()
    assert np.abs(output - expected).max() <= 1e-4 * np.abs(expected).max()


def lowered(function, **fields) -> ir.Graph:
    case = network(4, function, **fields)
    return CodeGenerator(case.model, case.x, config=Config()).graph


def test_heads_of_a_detector_are_permuted_and_joined_without_a_copy():
    """(N, A * K, H, W) to (N, H * W * A, K): channels last is the order of memory already."""

    def head(y):
        small = F.max_pool2d(y, 2)
        return torch.cat([z.permute(0, 2, 3, 1).reshape(1, -1, 2) for z in (y, small)], 1)

    graph = lowered(head)
    permutes = [node for node in graph.nodes if isinstance(node, ir.Permute)]
    assert len(permutes) == 2 and all(shares_storage(graph, node) for node in permutes)


def test_what_is_joined_over_height_is_stored_there():
    graph = lowered(
        lambda y: torch.cat([F.max_pool2d(y, 2, 1), F.avg_pool2d(y, 2, 1)], 2), after=(POINTWISE, (3, 4, 1, 1))
    )
    lie, join = lay_out(graph), next(node for node in graph.nodes if isinstance(node, ir.Concat))
    assert join.axis == 2 and {lie[v].storage for v in join.inputs} == {lie[join.output].storage}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("between", [nn.Identity(), nn.ReLU()])
def test_a_map_may_be_read_in_two_orders(batch, between):
    """As tokens mixed along both dimensions: what needs the order of PyTorch's map fixes it for all that lie so."""

    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.along, self.across = nn.Conv2d(3, 6, 2, 2), nn.Linear(9, 9), nn.Linear(6, 4)
            self.flat = nn.Linear(54, 3)

        def forward(self, x):
            x = self.embed(x)
            y = between(x)
            tokens = y.flatten(2).transpose(1, 2)
            mixed = tokens + self.along(x.flatten(2)).transpose(1, 2)
            return self.across(mixed), self.flat(y.flatten(1))

    torch.manual_seed(6)
    x = torch.randn(batch, 3, 6, 6)
    generator = CodeGenerator(Mixer().eval(), x, config=Config())
    with torch.no_grad():
        expected = generator.quantized_model().double()(x.double())
    for got, right in zip(generator.reference().outputs, expected, strict=True):
        np.testing.assert_allclose(got, right.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_any_permutation_of_any_shape(seed):
    """Of a map that lies channels last, and of one that does not; between networks' layers and at the ends."""
    draw = Draw(100 + seed)
    shape = draw.shape_of(120)
    order = draw.rng.permutation(len(shape)).tolist()
    last = [shape[d] for d in order][-1]
    for before in (lambda y: y, lambda y: y.permute(0, 2, 3, 1).contiguous()):
        case = network(seed, lambda y: before(y).reshape(shape).permute(order), after=(LINEAR, (3, last)))
        assert outcome(case).startswith("agrees"), (shape, order)


def test_a_mean_of_channels_is_exact_in_int8():
    graph = lowered(lambda y: y.mean(1, keepdim=True), channels=7)
    mean = graph.nodes[-1]
    assert isinstance(mean, ir.Conv) and np.array_equal(mean.weight, np.ones((1, 7, 1, 1)))

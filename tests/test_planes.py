# SPDX-License-Identifier: Apache-2.0
"""Products of two computed matrices by planes of INT8: what they are, what they cost, and where they run."""

import numpy as np
import pytest
import torch
from torch import nn

import heepgen
from firmware_gen import ir
from firmware_gen.models.cpu_model import cpu_operator
from firmware_gen.passes.hardware import planes
from firmware_gen.targets.descriptor import reference
from firmware_gen.targets.descriptor.compiler import compile_graph
from firmware_gen.targets.descriptor.survey.templates import templates_of
from hls.config import Config

SIZES = [(1, 9, 5, 9), (2, 12, 7, 3), (3, 4, 17, 10)]
"""(matrices, rows, depth, columns)."""


class Pairs(nn.Module):
    def forward(self, *x):
        pairs = list(zip(x[::2], x[1::2], strict=True))
        return tuple(0.5 * (a @ (b if i % 2 else b.transpose(1, 2))) for i, (a, b) in enumerate(pairs))


def inputs_of(sizes, seed=0):
    random = np.random.default_rng(seed)
    shapes = [
        shape
        for i, (count, rows, depth, columns) in enumerate(sizes)
        for shape in ((count, rows, depth), (count, depth, columns) if i % 2 else (count, columns, depth))
    ]
    return tuple(torch.from_numpy(random.normal(0, 3, shape).astype(np.float32)) for shape in shapes)


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(planes, "_pays", lambda planes: True)


def ratio(got, exact):
    return 10 * np.log10(np.square(exact, dtype=np.float64).sum() / np.square(got - exact, dtype=np.float64).sum())


@pytest.mark.parametrize(
    "config",
    [Config(rows=4, cols=4, ports=1), Config(rows=8, cols=8), Config(rows=5, cols=3, ports=3, arithmetic="fma")],
    ids=str,
)
def test_products_are_those_of_the_matrices(always, config):
    inputs = inputs_of(SIZES)
    net = heepgen.compile(Pairs(), inputs, config=config)
    nodes = net.compiled.generator.graph.nodes
    assert [type(n) for n in nodes if isinstance(n, ir.MatMul | ir.PlaneProduct)] == [ir.PlaneProduct] * len(SIZES)
    got = net.compiled.generator.reference(inputs).outputs
    for y, exact in zip(got, Pairs()(*inputs), strict=True):
        assert ratio(y, exact.numpy()) > 85


class Columns(nn.Module):
    """The first matrix lies column by column."""

    def forward(self, a, b):
        return a.transpose(1, 2) @ b


def test_a_first_matrix_in_columns_stays_with_the_cpu(always):
    inputs = torch.randn(2, 7, 9), torch.randn(2, 7, 3)
    net = heepgen.compile(Columns(), inputs)
    assert [type(n) for n in net.compiled.generator.graph.nodes] == [ir.MatMul]
    assert ratio(net.compiled.generator.reference(inputs).output, Columns()(*inputs).numpy()) > 120


@pytest.mark.slow
@pytest.mark.parametrize("config", [Config(rows=4, cols=4, ports=1), Config(rows=6, cols=5, ports=3)], ids=str)
def test_firmware_and_hardware_have_the_models_bits(always, config):
    inputs = inputs_of(SIZES, 1)
    inputs[1][0, 2] = torch.tensor([np.nan, 1, np.inf, 0, 2])
    inputs[3][1] = 0
    inputs[5][2, 3] = torch.full((17,), -1e-38)
    report = heepgen.compile(Pairs(), inputs, config=config).run(inputs)
    assert report.bit_exact and np.isnan(report.outputs[0][0, :, 2]).all()


def test_attention_goes_to_the_array_where_that_is_faster():
    class Attention(nn.Module):
        def forward(self, q, k, v):
            return nn.functional.scaled_dot_product_attention(q, k, v)

    for steps, kind in ((4, ir.MatMul), (40, ir.PlaneProduct)):
        inputs = tuple(torch.randn(1, 2, steps, 8) for _ in range(3))
        net = heepgen.compile(Attention(), inputs)
        found = [n for n in net.compiled.generator.graph.nodes if isinstance(n, ir.MatMul | ir.PlaneProduct)]
        assert [type(n) for n in found] == [kind, kind]
        said = str(net.explain())
        assert ("INT8 planes" in said) == (kind is ir.PlaneProduct)
        got = net.compiled.generator.reference(inputs).output
        assert ratio(got, Attention()(*inputs).numpy()) > 75
        assert len(net.compiled.generator.quantized_model()(inputs)) == 1
    plain = heepgen.compile(Attention(), inputs, config=Config(multiply=False))
    assert any(isinstance(n, ir.MatMul) for n in plain.compiled.generator.graph.nodes)


def test_special_values_are_those_of_their_column():
    own = ir.MatMul(
        name="n",
        inputs=("a", "b"),
        output="y",
        sizes=(1, 1, 1, 3, 5),
        a=ir.Matrices(3, (3, 3, 3, 1)),
        b=ir.Matrices(15, (15, 15, 5, 1)),
        out=ir.Matrices(5, (5, 5, 5, 1)),
        scale=2.0,
    )
    tiles = ir.Tiles(2, 4, 2)
    node = ir.Planes(name="p", inputs=("b",), output="p", product=own, tiles=tiles)
    b = np.array([[1, 0, np.inf, np.nan, 1e-35], [-2, 0, 1, 1, 0], [0.5, 0, 0, 0, 0]], np.float32)
    words = cpu_operator(node, b)[0]
    factors = words[:5]
    np.testing.assert_array_equal(factors, np.array([2 * 2 / 32512, 0, np.nan, np.nan, 0], np.float32))
    first, size = tiles.factor_words(5), tiles.plane_words(3, 5)
    high, low = (words[first + i * size :][:size].view(np.int8)[tiles.places(3, 5)].astype(int) for i in range(2))
    numbers = 256 * high + (low & 255 ^ 128) - 128
    np.testing.assert_array_equal(numbers[:, 0], [16256, -32512, 8128])
    assert not numbers[:, 1].any() and not numbers[:, 4].any()


def test_arrays_of_other_sizes_have_tiles_of_their_own(always):
    """As `heepgen explore` takes one graph for all."""
    inputs = inputs_of(SIZES[:1])
    graph = heepgen.compile(Pairs(), inputs).compiled.generator.graph
    config = Config(rows=4, cols=5)
    program = compile_graph(graph, config)
    (found,) = (n for n in program.graph.nodes if isinstance(n, ir.Planes))
    assert found.tiles == ir.Tiles(4, 5, 2)
    assert program.tensors[found.output].size == found.tiles.words(5, 9)
    assert ratio(reference.run(program, inputs).output, Pairs()(*inputs)[0].numpy()) > 85
    assert [t.links for t in templates_of(graph, config)]


@pytest.mark.parametrize("tiles", [ir.Tiles(8, 8, 2), ir.Tiles(4, 4, 1), ir.Tiles(5, 3, 3), ir.Tiles(6, 5, 4)], ids=str)
def test_loops_turn_for_every_element_and_all_padding(tiles):
    for depth, columns in ((1, 1), (16, 17), (17, 16), (9, 5), (5, 33)):
        steps = (columns * depth, columns * depth, columns, 1)
        own = ir.MatMul(
            name="n",
            inputs=("a", "b"),
            output="y",
            sizes=(2, 3, 4, depth, columns),
            a=ir.Matrices(4 * depth, (0, 0, depth, 1)),
            b=ir.Matrices(6 * depth * columns, steps),
            out=ir.Matrices(24 * columns, steps),
        )
        iterations = ir.Planes(name="p", inputs=("b",), output="p", product=own, tiles=tiles).iterations
        assert 4 * iterations["step of four"] + iterations["step of one"] == 6 * depth * columns
        assert iterations["step of four"] == iterations["four"] * depth and (tiles.columns > 3) >= (
            iterations["four"] > 0
        )
        empty = 4 * tiles.plane_words(depth, columns) - depth * columns
        assert empty <= 4 * iterations["word"] // 12 <= 4 * tiles.plane_words(depth, columns) or not empty

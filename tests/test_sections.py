# SPDX-License-Identifier: Apache-2.0
"""Convolutions whose channels are scaled by sections of the rows: what they compute, and how they lie for it."""

import numpy as np
import pytest
import torch
from torch import nn

from firmware_gen import CodeGenerator, ir
from firmware_gen.api import read_model
from firmware_gen.application.options import ImportOptions
from firmware_gen.models.bias_correction import corrected_biases
from firmware_gen.passes import turn_maps
from firmware_gen.passes.quantise import quantise
from firmware_gen.targets.descriptor import reference
from firmware_gen.targets.descriptor.compiler import compile_choices
from firmware_gen.targets.descriptor.estimate import predict
from gen.explore.bound import at_least
from gen.explore.exact import exactly
from gen.explore.fast import quickly
from gen.explore.subject import Network
from gen.flows.explore.explored_models import Model
from gen.flows.measure.run import Application, run
from gen.flows.network.estimate import estimate_network
from gen.flows.network.sw import generate_application
from hls.config import Config
from tests.test_order import follow


class Sections(nn.Module):
    """Every channel of (N, C, H, W) in so many parts of its rows, with a BatchNorm of their own."""

    def __init__(self, channels, count):
        super().__init__()
        self.count, self.norm = count, nn.BatchNorm2d(channels * count)

    def forward(self, x):
        images, channels, height, width = x.shape
        parts = x.reshape(images, channels * self.count, height // self.count, width)
        return self.norm(parts).reshape(images, channels, height, width)


class Block(nn.Module):
    """A convolution down the rows, and its mean over them, which comes back through a convolution over the columns."""

    def __init__(self, channels, count, identity, stride=1, dilation=1):
        super().__init__()
        self.identity = identity
        rows = nn.Conv2d(channels, channels, (3, 1), (stride, 1), (1, 0), groups=channels, bias=False)
        self.rows = nn.Sequential(rows, Sections(channels, count))
        columns = nn.Conv2d(channels, channels, (1, 3), 1, (0, dilation), (1, dilation), groups=channels)
        self.columns = nn.Sequential(columns, nn.SiLU(), nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        y = self.rows(x)
        y = y + self.columns(y.mean(2, keepdim=True))
        return torch.relu(x + y if self.identity else y)


def drawn(model, seed):
    """The model with statistics that tell sections apart."""
    generator = torch.Generator().manual_seed(seed)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values, mean in ((norm.running_mean, 0), (norm.bias.data, 0), (norm.weight.data, 1)):
                values.copy_(torch.randn(values.shape, generator=generator) * 0.5 + mean)
            norm.running_var.copy_(torch.rand(norm.running_var.shape, generator=generator) + 0.5)
    return model.eval()


def random_section(rng):
    """A convolution of any kind and sections of its rows, in front of something that cannot be turned, or can."""
    count, part, stride = int(rng.integers(2, 5)), int(rng.integers(1, 4)), int(rng.integers(1, 3))
    inputs = int(rng.choice([1, 3, 8]))
    groups = inputs if rng.random() < 0.5 else 1
    outputs = groups * int(rng.integers(1, 4))
    kernel = int(rng.choice([1, 3])), int(rng.choice([1, 3]))
    pads = kernel[0] // 2, kernel[1] // 2
    conv = nn.Conv2d(inputs, outputs, kernel, (stride, 1), pads, groups=groups, bias=bool(rng.random() < 0.5))
    layers = [conv, *[nn.BatchNorm2d(outputs)] * (rng.random() < 0.5), Sections(outputs, count)]
    layers += [nn.ReLU()] * (rng.random() < 0.5)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if rng.random() < 0.5 else [nn.Flatten()]
    return nn.Sequential(*layers), (1, inputs, count * part * stride, int(rng.integers(1, 9)))


def random_blocks(rng):
    channels, count, part = int(rng.choice([3, 8, 12, 16])), int(rng.integers(2, 5)), int(rng.integers(1, 4))
    stride = int(rng.integers(1, 3))
    layers = [nn.Conv2d(int(rng.choice([1, 3])), channels, 3, padding=1), nn.ReLU()]
    layers.append(Block(channels, count, False, stride))
    layers += [Block(channels, count, True, 1, int(rng.integers(1, 4))) for _ in range(int(rng.integers(1, 3)))]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)]
    model = nn.Sequential(*layers)
    return model, (1, layers[0].in_channels, count * part * stride, int(rng.integers(4, 30)))


def random_config(rng):
    rows, cols = (int(x) for x in rng.choice([4, 5, 8], 2))
    return Config(rows, cols, ports=int(rng.integers(1, 5)), scratchpad_words=int(rng.choice([0, 1024, 4096])))


SEEDS = pytest.mark.parametrize(
    "seeds", [range(2), pytest.param(range(2, 40), marks=pytest.mark.slow)], ids=["few", "many"]
)


def sqnr(got, expected):
    return 10 * np.log10((expected**2).sum() / max(((got - expected) ** 2).sum(), 1e-30))


@SEEDS
def test_sections_are_the_convolutions(seeds):
    for seed in seeds:
        rng = np.random.default_rng([seed, 31])
        torch.manual_seed(seed)
        model, shape = random_section(rng)
        model, x = drawn(model, seed), torch.randn(shape)
        generator = CodeGenerator(model, x, config=random_config(rng))
        convs = [node for node in generator.graph.nodes if isinstance(node, ir.Conv)]
        count = next(layer.count for layer in model if isinstance(layer, Sections))
        few = convs[0].kernel[0] == 1 or shape[2] // count > 1
        scales = any(isinstance(node, ir.Scale) for node in generator.graph.nodes)
        assert len(convs) == 1 and not (few and scales), f"seed {seed}"
        assert scales or sorted(convs[0].sections) == [1, count], f"seed {seed}"
        exact = model(x).detach().numpy()
        fake = generator.quantized_model()(x).detach().numpy()
        for software in (False, True):
            ((got,),) = (result.outputs for result in generator.steps([x.numpy()], software=software))
            assert sqnr(got, fake) > 90 and sqnr(got, exact) > 25, f"seed {seed}, software {software}"


@SEEDS
def test_blocks_are_turned_and_every_choice_has_the_same_bits(seeds):
    again = wide = 0
    for seed in seeds:
        rng = np.random.default_rng([seed, 32])
        torch.manual_seed(seed)
        model, shape = random_blocks(rng)
        model, x, config = drawn(model, seed), torch.randn(shape), random_config(rng)
        generator = CodeGenerator(model, x, config=config)
        graph = turn_maps(generator.graph)
        assert all(node.sections[0] == 1 for node in graph.nodes if isinstance(node, ir.Conv)), f"seed {seed}"
        again += sum(node.name.endswith(".again") for node in graph.nodes)
        fake = generator.quantized_model()(x).detach().numpy()
        expected = None
        for program in compile_choices(graph, config):
            follow(program)
            wide += sum(f.diagonal and f.kx > 1 and f.out_w == 1 and f.cout > 16 for f in program.linked)
            (got,) = reference.run(program, x.numpy()).outputs
            expected = got if expected is None else expected
            np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32), f"seed {seed}, {config}")
        assert sqnr(expected, fake) > 90 and sqnr(expected, model(x).detach().numpy()) > 25, f"seed {seed}"
    assert again and wide


def test_options_by_the_names_of_layers_hold_for_both_computations():
    torch.manual_seed(7)
    model = drawn(nn.Sequential(Block(8, 4, True), nn.AdaptiveAvgPool2d(1), nn.Flatten()), 7)
    x = torch.randn(6, 1, 8, 8, 12)
    plain = CodeGenerator(model, x[0], config=Config())
    biases = corrected_biases(plain.checked.lowered, quantise(plain.checked.lowered), x[:, 0].numpy())
    assert biases["0.rows.0"].shape == (32,)
    graph = turn_maps(CodeGenerator(model, x[0], config=Config(), int4=["0.rows.0"], biases=biases).graph)
    first, again = (graph.node(name) for name in ("0.rows.0", "0.rows.0.again"))
    assert isinstance(first, ir.Conv) and isinstance(again, ir.Conv) and ir.has_4_bits(first.weight)
    for name in ("weight", "scale", "bias"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    np.testing.assert_array_equal(first.bias, biases["0.rows.0"])


@pytest.mark.parametrize("turns", [False, True])
def test_maps_are_turned_where_that_takes_fewer_cycles(turns):
    torch.manual_seed(9)
    blocks = [Block(8, 5, False), Block(8, 5, True)] if turns else [Block(8, 2, False, stride=2)]
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model, x = drawn(nn.Sequential(*layers), 9), torch.randn(1, 1, 5 if turns else 4, 6 if turns else 20)
    generator = CodeGenerator(model, x, config=Config())
    straight = generator.graph
    turned = turn_maps(straight)
    cycles = [
        sum(layer.cycles for layer in predict(generator.target.compile(graph, generator.config)).layers if layer)
        for graph in (straight, turned)
    ]
    program = generator.program()
    assert sum(layer.cycles for layer in predict(program).layers if layer) == min(cycles)
    assert len(program.graph.nodes) >= len((straight, turned)[np.argmin(cycles)].nodes)
    assert (generator.graph is straight) == (cycles[0] <= cycles[1]) != turns, cycles
    fake = generator.quantized_model()(x).detach().numpy()
    assert sqnr(generator.reference(taps=True).output, fake) > 90


@pytest.mark.slow
def test_what_is_chosen_is_explored_and_explained():
    torch.manual_seed(9)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), Block(8, 5, False), Block(8, 5, True)]
    model, x = drawn(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 9), torch.randn(1, 1, 5, 6)
    options = ImportOptions(append_final_softmax=True)
    own, config = Model(read_model(model, x, "net"), options, "net"), Config()
    network = own.network([config])
    compiled, apart = own.compiled(config), Network("net", network.graphs)
    found, straight, (least,) = exactly(network, config), exactly(apart, config), at_least(network, [config])
    assert found.cycles == estimate_network(compiled).total_cycles < straight.cycles
    assert least.cycles <= found.cycles and least.ram <= found.ram
    ((quick,), (usual,)) = (quickly(which, [config]) for which in (network, apart))
    assert quick.cycles < usual.cycles
    again = own.compiled(config)
    explained = {placed.name: placed.shape for placed in again.explanation.placements if placed.where != "merged"}
    assert explained == {node.name: again.program.graph.out_shape(node) for node in again.program.graph.nodes}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_hardware_computes_sections(tmp_path, seed):
    rng = np.random.default_rng([seed, 33])
    torch.manual_seed(seed)
    model, shape = random_blocks(rng) if seed % 2 else random_section(rng)
    config = random_config(rng)
    x = torch.randn(shape)
    program = torch.export.export(drawn(model, seed), (x,))
    generate_application(program, x.numpy(), config, tmp_path / "app", ImportOptions(), name="net")
    assert run(tmp_path / "app", Application.open(tmp_path / "app").config).bit_exact

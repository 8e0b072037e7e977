# SPDX-License-Identifier: Apache-2.0
"""Chains of matrices on several vectors, a few vectors at a time through all of them, each layer storing over what it
has loaded: the same bits as layer by layer, in models and in hardware, and nothing read too early."""

import numpy as np
import pytest
import torch
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.targets.descriptor import reference
from firmware_gen.targets.descriptor.compiler import compile_choices
from firmware_gen.targets.descriptor.estimate import descriptor_cycles
from firmware_gen.targets.descriptor.lowering import depth_first
from firmware_gen.targets.descriptor.strips import choose_strips
from firmware_gen.targets.descriptor.target import DescriptorTarget
from firmware_gen.targets.descriptor.timing.spans import strip_sizes
from gen.flows.measure.run import run
from hls.config import Config
from hls.descriptor.interface.table import on_chip
from tests.test_order import follow


def chain(rng, config):
    """Matrices, mostly of whole slices, with functions of one element between, and several vectors."""
    widths = [
        int(rng.integers(1, 9)) * config.rows if rng.random() < 0.8 else int(rng.integers(1, 40))
        for _ in range(rng.integers(3, 7))
    ]
    layers = []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), *[nn.ReLU()] * (rng.random() < 0.6)]
    return nn.Sequential(*layers), torch.randn(int(rng.integers(2, 70)), widths[0])


def random_config(rng):
    size = int(rng.choice([2, 4, 5, 8]))
    return Config(
        size,
        size if rng.random() < 0.7 else int(rng.integers(1, 9)),
        ports=int(rng.integers(1, 5)),
        activation_words=int(rng.choice([1024, 8192])),
        weight_bytes=int(rng.choice([256, 4096])),
        accumulator_entries=int(rng.choice([16, 64])),
        scratchpad_words=int(rng.choice([512, 4096])),
        memory_banks=16,
    )


def over_input(f):
    """Whether a linked descriptor stores over what it loads."""
    return on_chip(f.load_addr) and f.load_addr == f.store_addr and not f.diagonal


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 30), marks=pytest.mark.slow)], ids=["few", "many"])
def test_every_choice_has_the_bits_of_the_others(seeds):
    in_place = by_blocks = 0
    for seed in seeds:
        torch.manual_seed(seed)
        rng = np.random.default_rng([seed, 16])
        config = random_config(rng)
        model, x = chain(rng, config)
        generator = CodeGenerator(model, x, config=config)
        programs = list(compile_choices(generator.graph, config))
        programs += [choose_strips(program)[0] for program in programs]
        expected = None
        for program in programs:
            follow(program)
            over = [f for f in program.linked if over_input(f)]
            assert all(len(strip_sizes(f.out_px, f.first_px, f.strip_px)) == 1 for f in over)
            in_place += bool(over)
            by_blocks += any(f.mark_blocks for f in program.linked)
            (got,) = reference.run(program, x.numpy()).outputs
            expected = got if expected is None else expected
            np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32), f"seed {seed}, {config}")
    assert in_place > len(seeds) / 2 and by_blocks > len(seeds) / 2


class Sum(nn.Module):
    """Matrices in a row, of which one value is needed elsewhere too."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(4))

    def forward(self, x):
        first, second, third, last = self.layers
        y = second(first(x))
        if self.how == "sum":
            return last(third(y) + y)
        return (last(third(y)), y) if self.how == "returned" else last(third(y))


@pytest.mark.parametrize("how, steps", [("", [(0, 1, 2, 3)]), ("returned", [(0, 1), (2, 3)]), ("sum", [(0, 1)])])
def test_a_chain_ends_where_a_value_is_needed_elsewhere(how, steps):
    torch.manual_seed(1)
    model, x = Sum(how).eval(), torch.randn(20, 16)
    config = Config(scratchpad_words=512)
    generator = CodeGenerator(model, x, config=config)
    graph = generator.graph
    programs = list(compile_choices(graph, config))
    assert list(depth_first.chains(graph, programs[0].tensors)) == steps
    with torch.no_grad():
        exact = model(x)
    for program in programs:
        follow(program)
        found = reference.run(program, x.numpy()).outputs
        for y, want in zip(found, exact if how == "returned" else [exact], strict=True):
            assert np.abs(y - want.numpy()).max() < 0.03 * np.abs(want.numpy()).max()


def test_blocks_are_marked_where_the_next_layer_reads_them_in_order():
    """Not those of a single vector, which the bus is too busy for, nor where the next layer reads them otherwise."""
    config = Config()
    for rows, width, marked in ((20, 64, True), (20, 60, False), (1, 64, False)):
        model = nn.Sequential(nn.Linear(64, width), nn.Linear(width, 20))
        program = CodeGenerator(model, torch.randn(rows, 64), config=config).program()
        before = program.linked[-2]
        assert (before.mark_blocks, before.mark_words == config.cols) == (marked, marked), (rows, width)


def test_vectors_at_a_time_save_cycles():
    """Of a chain whose inner maps do not fit the scratchpad."""
    config = Config(16, 16, ports=4, memory_banks=16, scratchpad_words=4096)
    model = nn.Sequential(*(nn.Linear(128, 128) for _ in range(4)))
    graph = CodeGenerator(model, torch.randn(100, 128), config=config).graph
    programs = [choose_strips(program)[0] for program in compile_choices(graph, config)]
    plain, own = (next(p for p in programs if any(map(over_input, p.linked)) == over) for over in (False, True))
    cycles = [sum(e.cycles for e in descriptor_cycles(program)) for program in (plain, own)]
    assert cycles[1] < 0.85 * cycles[0]
    assert DescriptorTarget().compile(graph, config).linked == own.linked


SOC = Config(4, 4, ports=2)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_hardware_gives_the_models_bits(seed, tmp_path, monkeypatch):
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 17])
    while True:
        model, x = chain(rng, SOC)
        programs = compile_choices(CodeGenerator(model, x, config=SOC).graph, SOC)
        if any(any(map(over_input, program.linked)) for program in programs):
            break

    def in_place(self, graph, config, **options):
        return next(p for p in compile_choices(graph, config, **options) if any(map(over_input, p.linked)))

    monkeypatch.setattr(DescriptorTarget, "compile", in_place)
    torch.export.save(torch.export.export(model, (x,)), tmp_path / "net.pt2")
    np.save(tmp_path / "x.npy", x.numpy())
    assert run(tmp_path / "net.pt2", SOC, input_path=tmp_path / "x.npy").bit_exact

# SPDX-License-Identifier: Apache-2.0
"""Pairs of layers that take turns by channels: the bits of the whole layers, and nothing read before it is there."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from firmware_gen import CodeGenerator
from firmware_gen.application.options import ImportOptions
from firmware_gen.operations.operation import Operation
from firmware_gen.operations.tensors import Ref, View
from firmware_gen.operations.windows import Windowed
from firmware_gen.targets.descriptor import reference
from firmware_gen.targets.descriptor.compiler import in_memory
from firmware_gen.targets.descriptor.estimate import descriptor_cycles
from firmware_gen.targets.descriptor.linked.link import link
from firmware_gen.targets.descriptor.lowering import channels
from firmware_gen.targets.descriptor.scratchpad import residency
from firmware_gen.targets.descriptor.scratchpad.choice import Choice
from gen.flows.measure.run import Application, run
from gen.flows.network.sw import generate_application
from hls.config import Config
from hls.descriptor.interface.table import WORDS, unpack
from tests.test_order import follow


def random_pairs(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """Dense layers and layers of one channel per column in turn, of several blocks of channels; maybe a pooling of
    all that is left."""
    size, width = int(rng.integers(3, 9)), 8 * int(rng.integers(2, 5))
    shape = (1, int(rng.integers(2, 9)), size, int(rng.integers(3, 9)))
    layers, before = [], shape[1]
    for _ in range(int(rng.integers(1, 4))):
        kernel, stride = int(rng.choice([1, 3])), int(rng.integers(1, 3))
        pooled = rng.random() < 0.3
        layers += [nn.Conv2d(before, width, kernel, padding=kernel // 2), nn.ReLU()]
        layers.append(
            nn.MaxPool2d(3, stride, 1) if pooled else nn.Conv2d(width, width, 3, stride, padding=1, groups=width)
        )
        before = width
    if rng.random() < 0.5:
        layers += [nn.Conv2d(width, width, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Conv2d(width, 5, 1)), shape


def random_config(rng: np.random.Generator) -> Config:
    rows, cols = (int(x) for x in rng.choice([4, 8], 2))
    return Config(rows, cols, ports=int(rng.integers(1, 5)), scratchpad_words=16384)


def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs take turns by channels wherever they can, whether that pays or not."""

    def choose(jobs, links, buffers, excluded, arena, config, poolings, lost):
        plan = residency._Planner(jobs, links, buffers, excluded, arena, config)
        choice = plan.with_channels(plan.filled(Choice()))
        return [(choice.groups, plan.places(choice))] if choice.groups else []

    monkeypatch.setattr(residency, "choose", choose)
    monkeypatch.setattr(channels, "pays", lambda jobs, config: True)


def pairs_of(program) -> int:
    """Layers in two ranges of channels of which the others are computed in between."""
    own = [layer.descriptors for layer in program.layers if layer.descriptors]
    return sum(a[0] < a[-1] and len(a) == len(b) == 2 and a[-1] + 1 == b[0] for a, b in zip(own, own[1:]))


def test_bits_are_those_of_whole_layers(monkeypatch):
    everywhere(monkeypatch)
    found = unhindered = marked = 0
    for seed in range(12):
        rng = np.random.default_rng([seed, 21])
        torch.manual_seed(seed)
        model, shape = random_pairs(rng)
        x = rng.standard_normal(shape, np.float32)
        program = CodeGenerator(model, x, config=random_config(rng)).program()
        found += pairs_of(program)
        result, plain = (reference.run(p, x) for p in (program, in_memory(program)))
        assert np.array_equal(result.output.view(np.uint32), plain.output.view(np.uint32)), seed
        marked += follow(program)[0]
        chain = [unpack(words) for words in link(program, True).reshape(-1, WORDS)]
        stores = [f.store_addr for f in chain]
        unhindered += sum(not f.barrier and f.load_addr in stores[:n] for n, f in enumerate(chain))
    assert found >= 8 and unhindered >= 8 and marked >= 8, (found, unhindered, marked)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_on_the_soc(seed, tmp_path, monkeypatch):
    everywhere(monkeypatch)
    rng = np.random.default_rng([seed, 22])
    torch.manual_seed(seed)
    model, shape = random_pairs(rng)
    x = rng.standard_normal(shape, np.float32)
    exported = torch.export.export(model.eval(), (torch.from_numpy(x),))
    config = random_config(rng) if seed else Config(4, 4, ports=2)
    generate_application(exported, x, config, tmp_path / "app", ImportOptions(), name="net")
    assert run(tmp_path / "app", Application.open(tmp_path / "app").config).bit_exact


def test_ranges_are_whole_blocks():
    for rows, cols in ((8, 8), (16, 16), (4, 8), (8, 4)):
        config = Config(rows, cols)
        for blocks, size, kernel in itertools.product(range(2, 20), (1, 3, 12), (1, 3)):
            count = blocks * max(cols, config.diagonal)
            before, after = pair_of(count, size, kernel)
            (zero, middle), (same, end) = channels.ranges(before, after, config)
            assert zero == 0 < middle == same < end == count
            assert middle % cols == middle % config.diagonal == 0


def pair_of(count: int, size: int, kernel: int) -> tuple[Operation, Operation]:
    """A dense layer on a map, and a layer of one channel per column on its output."""
    view = View(Ref("x"), 1, count, count * size)
    dense = Windowed(count, size, size, size, size, cout=count)
    edge = kernel // 2
    own = Windowed(count, size, size, size, size, (kernel, kernel), top=edge, left=edge, cout=count, diagonal=True)
    return Operation(dense, view, view), Operation(own, view, view)


def test_a_pooling_of_the_whole_map_ends_soon_after_the_layer_before_it(monkeypatch):
    """Most of it is loaded while the layer's last channels wait for their weights."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(64, 128, 1), nn.ReLU(), nn.Conv2d(128, 256, 1), nn.ReLU(), nn.AvgPool2d(3)]
    config = Config(16, 16, ports=4, scratchpad_words=32768)

    def cycles() -> int:
        program = CodeGenerator(nn.Sequential(*layers), np.zeros((1, 64, 3, 3), np.float32), config=config).program()
        return sum(e.cycles for e in descriptor_cycles(program))

    turns = cycles()
    monkeypatch.setattr(channels, "may_take_turns", lambda *_: False)
    assert turns < cycles() - 200


def test_room_is_made_for_pairs(monkeypatch):
    """In the place of other tensors: of these, what a pair reads and what it passes on fit, but not what the second
    layer reads and what it writes."""
    monkeypatch.setattr(channels, "pays", lambda jobs, config: True)
    rng = np.random.default_rng(23)
    more = 0

    def choose(**given):
        nonlocal more
        plan = residency._Planner(
            *(given[name] for name in ("jobs", "links", "buffers", "excluded", "arena", "config"))
        )
        for _ in range(20):
            choice = Choice()
            for name in rng.permutation(sorted(plan.lives)):
                grown = choice.grown(str(name))
                choice = choice if plan.places(grown) is None else grown
            before, after = (plan.with_channels(own) for own in (choice, plan.for_channels(choice)))
            assert len(after.groups) >= len(before.groups) and plan.places(after) is not None
            more += len(after.groups) > len(before.groups)
        return []

    monkeypatch.setattr(residency, "choose", choose)
    widths = [16, 32, 16, 32]
    layers = [nn.Conv2d(3, widths[0], 3, padding=1)]
    for width, following in itertools.pairwise(widths):
        layers += [nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Conv2d(width, following, 1)]
    config = Config(4, 8, scratchpad_words=1024)
    CodeGenerator(nn.Sequential(*layers), np.zeros((1, 3, 4, 5), np.float32), config=config).program()
    assert more >= 5, more

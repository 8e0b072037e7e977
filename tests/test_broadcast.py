# SPDX-License-Identifier: Apache-2.0
"""Sums and products of operands whose shapes go together, against PyTorch: whole numbers, so that every bit must be
right."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from firmware_gen import ir
from firmware_gen.frontend.exported.importer import import_program
from firmware_gen.frontend.exported.verify import check_program
from firmware_gen.passes import run_passes, split_products
from firmware_gen.passes.quantise import quantise
from firmware_gen.targets.calls.target import CallsTarget
from firmware_gen.targets.descriptor.compiler import compile_choices
from firmware_gen.targets.descriptor.scratchpad import residency
from firmware_gen.targets.descriptor.scratchpad.choice import Choice
from firmware_gen.targets.descriptor.target import DescriptorTarget
from hls.config import Config

OPERATIONS = (torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum, F.prelu)
TARGETS = (DescriptorTarget(), CallsTarget())


class Maps(nn.Module):
    """Maps meet a part of themselves, or a constant, with 1 in some dimensions, in either order."""

    def __init__(self, seed, shape):
        super().__init__()
        self.random, self.shape = random.Random(seed), shape
        self.steps = [self.draw() for _ in range(3)]

    def draw(self):
        one = [axis for axis in (1, 2, 3) if self.random.random() < 0.5]
        constant = None
        if self.random.random() < 0.5:
            one += [0] * (self.random.random() < 0.8)
            shape = [1 if axis in one else size for axis, size in enumerate(self.shape)]
            while shape and shape[0] == 1 and self.random.random() < 0.5:
                shape = shape[1:]
            constant = torch.randint(-9, 9, shape).float()
        act = self.random.choice([F.relu, lambda y: y, lambda y: y.clamp(-50, 70)])
        return self.random.choice(OPERATIONS), one, constant, self.random.random() < 0.5, act

    def forward(self, x):
        y = F.max_pool2d(x, 1)
        for op, one, constant, swapped, act in self.steps:
            other = constant
            if other is None:
                other = y[:, :1] if 1 in one else y
                spatial = [axis for axis in one if axis > 1]
                other = other.amax(spatial, keepdim=True) if spatial else other.clamp(-8, 8)
            if op is F.prelu:
                other, swapped = torch.arange(y.shape[1]) - 2.0, False
            first, second = (other, y) if swapped else (y, other)
            y = act(op(first, second))
        return y


class Vectors(nn.Module):
    """Flattened maps, and what a Linear makes of them, meet constants and one number per row."""

    def __init__(self, seed, shape):
        super().__init__()
        features = shape[1] * shape[2] * shape[3]
        self.linear = nn.Linear(features, 9)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randint(-3, 4, self.linear.weight.shape))
            self.linear.weight[:, 0] = 127  # so that the scale is 1
            self.linear.bias.zero_()
        self.register_buffer("flat", torch.randint(-9, 9, (1, features)).float())
        self.register_buffer("rows", torch.randint(-9, 9, (shape[0], 1)).float())
        self.register_buffer("whole", torch.randint(-9, 9, (shape[0], 9)).float())

    def forward(self, x):
        y = F.relu(F.max_pool2d(x, 1).flatten(1) - self.flat) + self.rows
        y = self.linear(y)
        return (self.whole - y) + y[:, :1]


def network(model, x):
    imported = import_program(model.eval(), x)
    lowered = run_passes(imported.graph)
    check_program(imported.graph, lowered, imported, [x.numpy()])
    return quantise(lowered)


def assert_exact(model, x, config):
    graph, want = network(model, x), model(x).detach().numpy()
    for target in TARGETS:
        program = target.compile(graph, config)
        assert np.array_equal(target.run(program, x.numpy()).output, want)
    program = TARGETS[0].compile(split_products(graph), replace(config, multiply=False))
    assert np.array_equal(TARGETS[0].run(program, x.numpy()).output, want)
    assert not any(job.descriptor.multiply for job in program.jobs)


SHAPES = ((1, 8, 6, 5), (2, 3, 4, 4), (1, 5, 1, 7), (2, 6, 5, 1), (1, 1, 3, 4), (1, 11, 1, 1))


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(n, marks=pytest.mark.slow) for n in range(6, 48))])
def test_maps(seed):
    torch.manual_seed(seed)
    shape = SHAPES[seed % len(SHAPES)]
    config = Config(rows=4, cols=4, ports=1 + seed % 3, scratchpad_words=seed % 2 * 1024)
    assert_exact(Maps(seed, shape), torch.randint(-5, 6, shape).float(), config)


@pytest.mark.parametrize("shape", [(1, 3, 4, 2), (2, 4, 3, 3)])
def test_vectors(shape):
    torch.manual_seed(0)
    model = Vectors(0, shape)
    assert_exact(model, torch.randint(-5, 6, shape).float(), Config(rows=4, cols=4, ports=2))


class Gated(nn.Module):
    """A gate of channels for what a depthwise convolution computes, all of it in whole numbers."""

    def __init__(self, channels, squeeze):
        super().__init__()
        self.squeeze = squeeze
        self.layers = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups, bias=False)
            for kernel, groups in ((1, 1), (3, channels), (1, 1))
        )
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.copy_(torch.randint(-2, 3, layer.weight.shape))
                layer.weight[:, 0, 0, 0] = 127  # so that the scale is 1

    def forward(self, x):
        expand, depthwise, project = self.layers
        y = F.relu(depthwise(expand(x).clamp(-2, 2))).clamp(max=5)
        return project((y * self.squeeze(y).clamp(max=3)).clamp(max=4)) + x


@pytest.mark.parametrize(
    "squeeze",
    [
        lambda y: y.amax((2, 3), keepdim=True),
        lambda y: y.sum((2, 3), keepdim=True),
        lambda y: F.max_pool2d(y, (13, 16)),  # which leaves out the last rows
    ],
)
@pytest.mark.parametrize("sooner", [False, True])
def test_what_a_gate_pools_is_pooled_while_it_is_computed(squeeze, sooner, monkeypatch):
    def choose(jobs, links, buffers, excluded, arena, config, poolings, lost):
        plan = residency._Planner(jobs, links, buffers, excluded, arena, config)
        options = [plan.with_poolings(option, poolings, sooner) for option in plan.steps_from(Choice())]
        pooled = [option for option in options if any(group.pooled for group in option.groups)]
        return [(option.groups, homes) for option in pooled[-2:] if (homes := plan.places(option)) is not None]

    monkeypatch.setattr(residency, "choose", choose)
    torch.manual_seed(1)
    model, x = Gated(12, squeeze), torch.randint(-2, 3, (1, 12, 16, 16)).float()
    programs = list(compile_choices(network(model, x), Config(scratchpad_words=4096)))
    for program in programs:
        pooling = next(layer for layer in program.layers if isinstance(layer.node, ir.Pool))
        assert len(pooling.descriptors) > 1
        assert np.array_equal(TARGETS[0].run(program, x.numpy()).output, model(x).detach().numpy())
    assert programs

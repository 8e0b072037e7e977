# SPDX-License-Identifier: Apache-2.0
"""Work of the compiler for deep networks: what is done step by step is what doing it all again would give, and twice
the layers are about twice the work."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from examples.networks import NETWORKS
from examples.speed import LARGE, chain
from firmware_gen import CodeGenerator, ir
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.memory import planner
from firmware_gen.memory.planner import Buffer
from firmware_gen.passes import merge_reshapes, run_passes
from firmware_gen.passes.edits.draft import Draft
from firmware_gen.targets.descriptor.compiler import compile_choices, compile_graph
from firmware_gen.targets.descriptor.known import Known
from firmware_gen.targets.descriptor.lowering import depth_first
from firmware_gen.targets.descriptor.scratchpad import overlap, residency
from firmware_gen.targets.descriptor.scratchpad.choice import Choice
from firmware_gen.targets.descriptor.scratchpad.shelf import Shelf
from hls.config import Config


def absolute(uses, wait):
    """The recurrence of `overlap.after`, without matrices."""
    loaded = computed = storing = 0.0
    stored = [0.0, 0.0]
    for use in uses:
        start = max(stored[-2] + wait.fetch, loaded)
        begun = max(computed, start + use.lead + wait.first)
        loaded = max(start + use.load, start + use.bus_in + storing, stored[-1] if use.follows else 0.0)
        computed = max(begun + use.array, loaded + wait.first)
        stored.append(max(max(stored[-1], begun) + use.store, computed + wait.last))
        storing = use.bus_out
    return stored[-1] + overlap.HIDDEN * sum(use.bus_in + use.bus_out for use in uses)


@pytest.mark.parametrize("seed", range(20))
def test_a_line_that_changes_takes_as_long_as_a_new_one(seed):
    rng = random.Random(seed)

    def some():
        return [
            overlap.Use(*(rng.choice((0, 10, 100, 1000)) for _ in range(6)), rng.random() < 0.5)
            for _ in range(rng.randrange(4))
        ]

    uses = [some() for _ in range(rng.randrange(1, 12))]
    wait = overlap.Delays(*(rng.randrange(100) for _ in range(3)))
    line = overlap.Line(len(uses), wait)
    line.change(dict(enumerate(uses)))
    for _ in range(30):
        changed = {step: some() for step in rng.sample(range(len(uses)), rng.randint(0, len(uses)))}
        for step, own in changed.items():
            uses[step] = own
        line.change(changed)
        assert line.cycles == pytest.approx(absolute([use for own in uses for use in own], wait), abs=1e-5)


@pytest.mark.parametrize("seed", range(40))
def test_a_shelf_is_the_plan_of_all_its_buffers(seed):
    rng = random.Random(seed)
    shelf, buffers, limit = Shelf(), [], rng.choice((512, 1024, 1 << 20))
    for number in range(25):
        born, align = rng.randrange(-1, 20), rng.choice((16, 16, 64))
        buffer = Buffer(f"b{number}", rng.randrange(1, 300), born, born + rng.choice((0, 1, 1, 2, 9)), align)
        plan = planner.allocate([*buffers, buffer], 1 << 30)
        fits = all(plan[b.name] + planner.rounded(b.size) <= limit for b in (*buffers, buffer))
        assert shelf.add(buffer, limit) == fits
        if fits:
            buffers.append(buffer)
            assert shelf.offsets == plan


@pytest.mark.parametrize("kind", [ir.Linear, ir.Conv])
def test_twice_the_layers_are_twice_the_work(kind, monkeypatch):
    """Counted are the gains and the steps that the planner estimates, and the buffers that it places."""
    calls = []
    for owner, name in ((residency._Planner, "gain"), (residency._Planner, "use"), (planner, "best_gap")):
        original = getattr(owner, name)

        def counted(*args, original=original, **kwargs):
            calls.append(original)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
    work = []
    for layers in (20, 40, 80):
        calls.clear()
        assert compile_graph(chain(kind, layers), LARGE).scratchpad
        work.append(len(calls))
    assert work[2] - work[1] < 2.2 * (work[1] - work[0])


class Branches(nn.Module):
    """Chains that may take turns beside a tensor that lives long."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.depthwise = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, groups=8) for _ in range(3))
        self.pointwise = nn.ModuleList(nn.Conv2d(8, 8, 1) for _ in range(3))

    def forward(self, x):
        x = early = torch.relu(self.first(x))
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = torch.relu(pointwise(torch.relu(depthwise(x))))
        return self.last(x + early)


@pytest.mark.parametrize("words, least", [(1024, 2), (2048, 2), (8192, 4)])
def test_the_search_takes_what_looking_at_everything_would_take(words, least, monkeypatch):
    met = []

    def choose(jobs, links, buffers, excluded, arena, config, poolings, lost):
        plan = residency._Planner(jobs, links, buffers, excluded, arena, config)
        for weight in residency.WEIGHTS:
            best, found = Choice(), list(plan.search(weight))
            for choice in found:
                assert choice == best
                options = [
                    (plan.gain(best, item), item) for source in plan.sources for item in plan.items(best, source)
                ]
                options = [(g / max(plan.more_bytes(best, part), 1) ** weight, part) for g, part in options if g > 0]
                options.sort(key=lambda option: -option[0])
                taken = (best.grown(part) for _, part in options)
                best = next((grown for grown in taken if plan.places(grown) is not None), None)
            assert best is None
            met.append(len(found))
        return []

    monkeypatch.setattr(residency, "choose", choose)
    CodeGenerator(Branches(), np.zeros((1, 3, 16, 12), np.float32), config=Config(scratchpad_words=words)).program()
    assert max(met) >= least, met


class Views(nn.Module):
    """Layers, each seen in three shapes before and after."""

    def __init__(self, depth: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x.unsqueeze(1).reshape(2, 3, 2).flatten(1)).view(3, 4).reshape(2, 6))
        return x


class Rearranged(nn.Module):
    """Steps of a recurrence that slice, permute, join, add and multiply, as one that is written out does."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps
        self.own, self.gate, self.norm = nn.Linear(6, 6), nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x):
        state, states = x[:, 0], []
        for step in range(self.steps):
            new = torch.relu(self.norm(self.own(x[:, step])) + state)
            turned = new.view(2, 3, 2).transpose(1, 2).reshape(2, 6)
            state = F.silu(turned) * torch.sigmoid(self.gate(state)) + torch.cat([new[:, 3:], state[:, :3]], 1)
            states.append(state.unsqueeze(1))
        return torch.cat(states, 1)


def test_passes_of_twice_the_layers_are_twice_the_work(monkeypatch):
    """Counted are the nodes of all graphs that are made, and who is asked for while one is edited."""
    work, original, producer = [], ir.Graph.__post_init__, Draft.producer
    monkeypatch.setattr(ir.Graph, "__post_init__", lambda self: work.append(len(self.nodes)) or original(self))
    monkeypatch.setattr(Draft, "producer", lambda self, value: work.append(1) or producer(self, value))
    found = []
    for steps in (8, 16, 32):
        graph = import_model(Rearranged(steps).eval(), (2, steps, 6))
        work.clear()
        run_passes(graph)
        found.append(sum(work))
    assert found[2] - found[1] < 2.2 * (found[1] - found[0]), found


def test_reshapes_are_merged_at_once(monkeypatch):
    graph, copies, with_nodes = import_model(Views(12).eval(), (2, 6)), [], ir.Graph.with_nodes
    monkeypatch.setattr(ir.Graph, "with_nodes", lambda self, *a, **k: copies.append(1) or with_nodes(self, *a, **k))
    merged = merge_reshapes(graph)
    assert len(copies) <= 3
    assert [type(n) for n in merged.nodes].count(ir.Reshape) == 0
    assert len(merged.nodes) == 24


@pytest.mark.parametrize("name", ["ds-cnn", "resnet8"])
def test_what_is_lowered_once_is_what_every_program_has(name, monkeypatch):
    """Byte for byte, with small buffers: layers in parts, several searches, shared constants."""
    config = Config(10, 12, scratchpad_words=4096, activation_words=2048, weight_bytes=1024, accumulator_entries=16)
    x = np.zeros(NETWORKS[name].input_shape, np.float32)
    graph = CodeGenerator(NETWORKS[name].build().eval(), x, config=config).graph
    found = list(compile_choices(graph, config))
    tiled, asked = found[0].graph, []

    def anew(known, group, tensors, constants):
        asked.append(group)
        return list(depth_first.jobs(tiled, group, tensors, constants, config))

    monkeypatch.setattr(Known, "jobs", anew)
    every = list(compile_choices(graph, config))
    assert len(found) == len(every) and len(asked) > len(set(asked))
    for one, other in zip(found, every, strict=True):
        assert one.constants.keys() == other.constants.keys()
        assert all(np.array_equal(one.constants[key], other.constants[key]) for key in one.constants)

# SPDX-License-Identifier: Apache-2.0
"""Layers that take turns, and tensors on chip: any choice that the planner may make gives the same bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from firmware_gen.application.options import ImportOptions
from firmware_gen.memory import planner
from firmware_gen.targets.descriptor import reference
from firmware_gen.targets.descriptor.compiler import compile_choices, in_memory
from firmware_gen.targets.descriptor.estimate import descriptor_cycles
from firmware_gen.targets.descriptor.lowering import depth_first
from firmware_gen.targets.descriptor.lowering.depth_first import Group, Rows, ring_rows, turns
from firmware_gen.targets.descriptor.scratchpad import residency, room
from firmware_gen.targets.descriptor.scratchpad.choice import Choice
from firmware_gen.targets.descriptor.scratchpad.homes import Home, check
from firmware_gen.targets.descriptor.scratchpad.residency import choose
from firmware_gen.targets.descriptor.strips import choose_strips
from firmware_gen.targets.descriptor.target import DescriptorTarget
from gen.flows.measure.run import Application, run
from gen.flows.network.sw import generate_application
from hls.config import Config
from hls.errors import HeepgenError


@st.composite
def chains(draw):
    """Layers of which each reads the rows of the one before."""
    layers, inputs = [], draw(st.integers(1, 30))
    for _ in range(draw(st.integers(2, 4))):
        kernel, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        top, bottom = draw(st.integers(0, kernel - 1)), draw(st.integers(0, 2))
        outputs = (inputs + top + bottom - (kernel - 1) * dilation - 1) // stride + 1
        if outputs < 1:
            break
        layers.append(Rows(inputs, outputs, kernel, stride, dilation, top))
        inputs = outputs
    return layers


def holds(layers, pieces, rings):
    """Whether every row is in its ring when a piece reads it."""
    places = [{} for _ in rings]  # place in the ring: row
    for layer, first, end in pieces:
        if layer:
            low, high = layers[layer].needed(first, end)
            if any(places[layer - 1].get(row % rings[layer - 1]) != row for row in range(low, high)):
                return False
        if layer < len(rings):
            places[layer] |= {row % rings[layer]: row for row in range(first, end)}
    return True


@settings(max_examples=300)
@given(layers=chains(), height=st.integers(1, 8), ahead=st.integers(0, 1), early=st.booleans())
def test_rows_are_there_when_they_are_needed(layers, height, ahead, early):
    if len(layers) < 2:
        return
    group = Group(tuple(range(len(layers))), height, ahead, early)
    pieces = turns(layers, group)
    if early and not ahead and len(layers) > 2:  # the last layer's pieces but the last come behind the next first one
        firsts, lasts = ([n for n, p in enumerate(pieces) if p[0] == layer] for layer in (0, len(layers) - 1))
        assert all(last > first for last, first in zip(lasts, firsts[1:]) if len(firsts) == len(lasts))
    rings = ring_rows(layers, pieces)
    assert holds(layers, pieces, rings)
    for number, rows in enumerate(rings):
        assert rows == 1 or not holds(layers, pieces, [*rings[:number], rows - 1, *rings[number + 1 :]])
    done = [0] * len(layers)
    for layer, first, end in pieces:
        assert first == done[layer] < end <= layers[layer].outputs
        if layer:
            low, high = layers[layer].needed(first, end)
            assert high <= done[layer - 1]
        done[layer] = end
    assert done[-1] == layers[-1].outputs
    if ahead:  # no piece needs the one just before it, but where a layer has come to its end
        for before, (layer, first, end) in zip(pieces, pieces[1:]):
            if before[0] == layer - 1 and before[2] < layers[layer - 1].outputs and first > 0:
                needed = layers[layer].needed(first, end)[1]
                assert needed <= before[1] or before[2] == max(e for m, _, e in pieces if m == layer - 1)


def random_network(rng: np.random.Generator) -> tuple[nn.Module, tuple[int, ...]]:
    """A chain of convolutions of all kinds, poolings and crops, large enough for several pieces; maybe a residual."""
    height, width, channels = (int(x) for x in rng.integers((9, 3, 1), (25, 9, 9)))
    shape = (1, channels, height, width)
    layers = []
    for _ in range(int(rng.integers(2, 6))):
        kind = rng.choice(["conv", "depthwise", "pool", "same", "crop", "transposed"])
        kernel, stride = int(rng.integers(1, 4)), int(rng.integers(1, 3))
        if kind == "pool":
            layers.append(nn.MaxPool2d(kernel, stride, kernel // 2))
        elif kind == "same":
            layers.append(Residual(channels))
        elif kind == "crop":
            layers.append(Crop(int(rng.integers(0, 3)), int(rng.integers(0, 2)), int(rng.integers(0, 2))))
        elif kind == "transposed":
            layers.append(nn.ConvTranspose2d(channels, channels, kernel, (1, stride), (kernel // 2, 0)))
        else:
            outputs = channels if kind == "depthwise" else int(rng.integers(1, 20))
            layers += [
                nn.Conv2d(
                    channels, outputs, kernel, stride, kernel // 2, groups=channels if kind == "depthwise" else 1
                ),
                nn.ReLU(),
            ]
            channels = outputs
    return nn.Sequential(*layers), shape


class Crop(nn.Module):
    """Without some rows above and below, and columns at the left; a small map loses none."""

    def __init__(self, above, below, left):
        super().__init__()
        self.above, self.below, self.left = above, below, left

    def forward(self, x):
        if min(x.shape[2:]) < 4:
            return x
        return x[:, :, self.above : x.shape[2] - self.below, self.left :]


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return torch.relu(x + self.two(torch.relu(self.one(x))))


def choose_at_random(rng):
    """Instead of `residency.choose`: steps drawn from those that the planner knows."""

    def choose(jobs, links, buffers, excluded, arena, config, poolings, lost):
        plan = residency._Planner(jobs, links, buffers, excluded, arena, config)
        choice = Choice()
        for _ in range(int(rng.integers(1, 8))):
            options = list(plan.steps_from(choice))
            rng.shuffle(options)
            choice = next((option for option in options if plan.places(option) is not None), choice)
        (drawn,) = rng.spawn(1)
        early = replace(choice, groups=tuple(replace(g, early=bool(drawn.integers(2))) for g in choice.groups))
        choice = choice if plan.places(early) is None else early
        pooled = plan.with_poolings(choice, poolings, sooner=bool(rng.integers(2)))
        choice = choice if plan.places(pooled) is None else pooled
        return [(choice.groups, homes)] if (homes := plan.places(choice)) else []

    return choose


def random_config(rng, **options):
    rows, cols = (int(x) for x in rng.integers(1, 10, 2))
    return Config(
        rows,
        cols,
        str(rng.choice(["aligned", "fma"])),
        int(rng.integers(1, 5)),
        activation_words=int(rng.choice([1024, 4096])),
        accumulator_entries=int(rng.choice([16, 64])),
        scratchpad_words=int(rng.choice([512, 1024, 4096])),
        **options,
    )


@pytest.mark.slow
def test_any_choice_gives_the_same_bits(monkeypatch):
    """Network, geometry and choice come from the seed; the plan's own proof runs along."""
    grouped = whole = 0
    for seed in range(60):
        rng = np.random.default_rng([seed, 7])
        torch.manual_seed(seed)
        model, shape = random_network(rng)
        monkeypatch.setattr(residency, "choose", choose_at_random(rng))
        x = rng.standard_normal(shape, np.float32)
        try:
            program = CodeGenerator(model, x, config=random_config(rng)).program()
        except HeepgenError as error:
            assert "does not fit" in str(error) or "enlarge the buffer" in str(error), error
            continue
        rings = {home.ring for home in program.scratchpad.values()}
        everything = (program.config.scratchpad_words - 1).bit_length()
        grouped += any(ring < everything for ring in rings)
        whole += everything in rings
        result, plain = (reference.run(p, x) for p in (program, in_memory(program)))
        assert np.array_equal(result.output.view(np.uint32), plain.output.view(np.uint32)), seed
    assert grouped >= 15 and whole >= 15, (grouped, whole)


def test_plans_put_together_give_the_same_bits(monkeypatch):
    """Of random choices; what is on chip then is what is on chip in one of them in every step."""
    spliced = residency.splice
    found = []

    def splice(*args, **asked):
        found.append(spliced(*args, **asked))
        return found[-1]

    checked = 0
    for seed in range(20):
        rng = np.random.default_rng([seed, 32])
        torch.manual_seed(seed)
        model, shape = random_network(rng)
        one = choose_at_random(rng)
        monkeypatch.setattr(residency, "choose", lambda one=one, **asked: [c for _ in range(4) for c in one(**asked)])
        monkeypatch.setattr(residency, "splice", splice)
        x = rng.standard_normal(shape, np.float32)
        try:
            code = CodeGenerator(model, x, config=random_config(rng))
            found.clear()
            programs = list(compile_choices(code.graph, code.config))
        except HeepgenError as error:
            assert "does not fit" in str(error) or "enlarge the buffer" in str(error), error
            continue
        own = [p for choice in found if choice for p in programs if p.scratchpad == choice[1]]
        for program in own[:2]:
            result, plain = (reference.run(p, x) for p in (program, in_memory(program)))
            assert np.array_equal(result.output.view(np.uint32), plain.output.view(np.uint32)), seed
        checked += bool(own)
        if checked == 4:
            return
    raise AssertionError(checked)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 12))])
def test_on_the_soc(seed, tmp_path, monkeypatch):
    rng = np.random.default_rng([seed, 8])
    torch.manual_seed(seed)
    model, shape = random_network(rng)
    monkeypatch.setattr(residency, "choose", choose_at_random(rng))
    x = rng.standard_normal(shape, np.float32)
    exported = torch.export.export(model.eval(), (torch.from_numpy(x),))
    generate_application(exported, x, random_config(rng), tmp_path / "app", ImportOptions(), name="net")
    for software in (False, True):
        assert run(tmp_path / "app", Application.open(tmp_path / "app").config, software=software).bit_exact


def test_layers_in_parts_take_turns(monkeypatch):
    """A layer that is cut along its columns, or has banded tiles and a rest, in any group; the bits are those of whole
    layers in memory, and the descriptors not more than memory is kept for."""
    drawn = np.random.default_rng(31)
    seen, counted = [], []

    def choose(jobs, links, buffers, excluded, arena, config, poolings, lost):
        plan = residency._Planner(jobs, links, buffers, excluded, arena, config)
        own = [link for link in links if max(len(jobs[link.step]), len(jobs[link.step + 1])) > 1]
        found = [Choice().grown(item) for link in own for item in plan.items(Choice(), link)]
        placed = [(c.groups, homes) for c in found if (homes := plan.places(c))]
        chosen = [placed[int(drawn.integers(len(placed)))]] if placed else []
        seen.extend(chosen)
        whole = [len(own) for own in jobs]
        counted.extend(sum(plan.rings.more_descriptors(g, whole) for g in groups) for groups, _ in chosen)
        return chosen

    monkeypatch.setattr(residency, "choose", choose)
    checked = 0
    for seed in range(10):
        rng = np.random.default_rng([seed, 31])
        torch.manual_seed(seed)
        channels, width = int(rng.integers(5, 9)), int(rng.integers(40, 60))
        model = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.Conv2d(channels, channels, 1),
        )
        rows, cols = (int(n) for n in rng.integers(6, 14, 2))
        config = Config(rows, cols, "aligned", int(rng.integers(1, 5)), activation_words=2048, scratchpad_words=8192)
        x = rng.standard_normal((1, channels, 24, width), np.float32)
        for program in compile_choices(CodeGenerator(model, x, config=config).graph, config):
            if program.scratchpad:
                assert len(program.jobs) <= len(program.whole.jobs) + counted[-1], seed
                result, plain = (reference.run(p, x) for p in (program, in_memory(program)))
                assert np.array_equal(result.output.view(np.uint32), plain.output.view(np.uint32)), seed
                checked += 1
    assert checked >= 5 and len({groups for groups, _ in seen}) >= 3, (checked, seen)


def test_the_proof_finds_a_ring_that_is_too_short(monkeypatch):
    """Every ring that holds several pieces, made half as long, is refused."""
    found = 0
    for seed in range(20):
        rng = np.random.default_rng([seed, 9])
        torch.manual_seed(seed)
        model, shape = random_network(rng)
        monkeypatch.setattr(residency, "choose", choose_at_random(rng))
        program = CodeGenerator(model, np.zeros(shape, np.float32), config=Config()).program()
        everything = (program.config.scratchpad_words - 1).bit_length()
        for name, home in program.scratchpad.items():
            if home.ring == everything:
                continue
            rows = max(t.size for t in program.tensors.values() if t.storage == name)
            shorter = program.scratchpad | {name: replace(home, ring=home.ring - 1)}
            if rows > 1 << home.ring:
                found += 1
                with pytest.raises(HeepgenError, match=f"memory plan: {name} is overwritten"):
                    check(program.jobs, shorter, program.offsets, program.arena_bytes, (), program.config)
    assert found >= 5


@pytest.mark.parametrize("on_chip", [False, True])
def test_the_proof_finds_two_tensors_in_one_place(on_chip, monkeypatch):
    """Word by word they look the same, but they are not."""
    monkeypatch.setattr(residency, "choose", choose_at_random(np.random.default_rng(3)) if on_chip else lambda **_: [])
    program = CodeGenerator(Around(), np.zeros((1, 4, 6, 6), np.float32), config=Config()).program()
    names = [node.name for node in program.graph.nodes]
    one, two = (program.tensors[program.graph.nodes[names.index(name)].output].storage for name in ("one", "two"))
    offsets, homes = dict(program.offsets), dict(program.scratchpad)
    for name in (one, two):
        offsets.pop(name, None)
        homes.pop(name, None)
    places = ({one: 0, two: 0}, {}) if not on_chip else ({}, dict.fromkeys((one, two), Home(0, 11)))
    arena = program.arena_bytes + 4096
    moved = {name: offset + 4096 for name, offset in offsets.items()}
    with pytest.raises(HeepgenError, match=f"memory plan: {one} is overwritten before"):
        check(program.jobs, homes | places[1], moved | places[0], arena, (), program.config)


class Around(nn.Module):
    """A tensor that is alive while two others are written."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three, self.last = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))

    def forward(self, x):
        one = self.one(x)
        return self.last(self.three(torch.relu(self.two(one))) + one)


def test_a_layer_of_the_group_may_not_overwrite_its_input(monkeypatch):
    """In node order the sum may overwrite x, which nobody reads afterwards; in turns the rows above are still read."""
    model = nn.Sequential(nn.Conv2d(4, 4, 1), Residual(4), nn.Conv2d(4, 4, 1))
    seen = []

    def choose(jobs, links, buffers, excluded, arena, config, poolings, lost):
        plan = residency._Planner(jobs, links, buffers, excluded, arena, config)
        seen.extend(group.steps for option in plan.steps_from(Choice()) for group in option.groups)
        return []

    monkeypatch.setattr(residency, "choose", choose)
    program = CodeGenerator(model, np.zeros((1, 4, 12, 6), np.float32), config=Config()).program()
    one, two = ([n.name for n in program.graph.nodes].index(name) for name in ("1.one", "1.two"))
    nodes = program.graph.nodes
    source, target = program.tensors[nodes[one].inputs[0]], program.tensors[nodes[two].output]
    assert source.storage == target.storage
    jobs = [[program.jobs[i] for i in layer.descriptors] for layer in program.layers]
    assert (one, two) not in seen and depth_first.links(program.graph, program.tensors, jobs, program.config)


class Lower(nn.Module):
    """A tensor is added twice; the second sum overwrites it, two rows ahead of what it reads of the first one."""

    def __init__(self):
        super().__init__()
        self.before, self.one, self.two, self.three, self.after = (nn.Conv2d(4, 4, 1) for _ in range(5))

    def forward(self, x):
        x = self.before(x)
        first = self.two(self.one(x)) + x
        return self.after(self.three(nn.functional.pad(first[:, :, :-2], (0, 0, 2, 0))) + x)


def test_a_layer_of_the_group_may_not_overwrite_what_another_one_adds(monkeypatch):
    offered = set()

    def choose(jobs, links, buffers, excluded, arena, config, poolings, lost):
        plan, choices = residency._Planner(jobs, links, buffers, excluded, arena, config), [Choice()]
        for _ in range(3):
            choices = [
                option
                for choice in choices
                for option in plan.steps_from(choice)
                if len(option.groups) == 1 and not option.whole and option.groups[0].height == 4
            ]
            offered.update(group.steps for choice in choices for group in choice.groups)
            choices = list({choice.groups: choice for choice in choices}.values())
        return []

    monkeypatch.setattr(residency, "choose", choose)
    program = CodeGenerator(Lower(), np.zeros((1, 4, 12, 6), np.float32), config=Config()).program()
    nodes = program.graph.nodes
    two, three = ([n.name for n in nodes].index(name) for name in ("two", "three"))
    assert program.tensors[nodes[two].inputs[1]].storage == program.tensors[nodes[three].output].storage
    assert any(two in steps and three - 1 in steps for steps in offered)
    assert any(three in steps and two + 1 in steps for steps in offered)
    assert not any(two in steps and three in steps for steps in offered)


class Linked(nn.Module):
    """Two convolutions, and what else happens to the map between them."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        channels = 1 if how == "returned" else 4  # lies in memory as the device has it, in PyTorch's order too
        self.one, self.two = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        y = torch.relu(self.one(x))
        if self.how == "returned":
            return self.two(y), y
        if self.how == "added":
            return self.two(y) + y
        return self.two(y[:, :, 2:] if self.how == "cropped" else y)


@pytest.mark.parametrize("how", ["read once", "returned", "added", "cropped"])
def test_a_map_that_is_needed_otherwise_is_in_no_ring(how, monkeypatch):
    seen = []

    def choose(jobs, links, buffers, excluded, arena, config, poolings, lost):
        seen.extend(link.value for link in links)
        return []

    monkeypatch.setattr(residency, "choose", choose)
    generator = CodeGenerator(Linked(how).eval(), np.zeros((1, 3, 12, 6), np.float32), config=Config())
    generator.program()
    assert (generator.graph.nodes[0].output in seen) == (how == "read once")


class Gate(nn.Module):
    """A sum that overwrites the Softmax of the network's input."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.two(torch.relu(self.one(x) + torch.softmax(x, 1)))


def test_a_sum_may_overwrite_what_the_cpu_wrote():
    model, x = Gate(), torch.randn(2, 6)
    generator = CodeGenerator(model, x, config=Config(rows=4, cols=4))
    targets = [layer.target.storage for layer in generator.program().layers]
    assert len(set(targets)) < len(targets)
    with torch.no_grad():
        assert np.abs(generator.reference().output - model(x).numpy()).max() < 0.05


def test_what_fits_without_turns_is_not_refused_for_them():
    """The smallest memory that does without a scratchpad does with one: pieces have more descriptors."""
    model = nn.Sequential(
        *(layer for _ in range(3) for layer in (nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)))
    )
    x = np.zeros((1, 8, 40, 40), np.float32)
    for banks in range(2, 16):
        config = Config(memory_banks=banks, memory_banks_interleaved=())
        try:
            CodeGenerator(model, x, config=replace(config, scratchpad_words=0)).program()
        except HeepgenError:
            continue
        assert CodeGenerator(model, x, config=config).program()
        break
    assert banks < 15


def test_turns_take_no_more_memory_than_they_need():
    """In memory of what the program takes, and one bank for gaps, the same layers take turns."""
    model = nn.Sequential(
        *(layer for _ in range(3) for layer in (nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)))
    )
    x = np.zeros((1, 8, 40, 40), np.float32)
    ample = Config(ports=1, memory_banks=64, memory_banks_interleaved=(), bank_kib=4)
    graph, target = CodeGenerator(model, x, config=ample).graph, DescriptorTarget()
    program = target.compile(graph, ample, keep_inputs=False)
    assert len(program.jobs) > len(program.whole.jobs)
    report = program.report
    banks = -(-(report.constant_bytes + report.arena_bytes + report.program_bytes) // ample.bank_bytes) + 1
    assert banks < ample.memory_banks
    tight = target.compile(graph, replace(ample, memory_banks=banks), keep_inputs=False)
    assert [job.layer for job in tight.jobs] == [job.layer for job in program.jobs]


def test_descriptors_of_layers_that_take_turns_are_counted(monkeypatch):
    """Those for which memory is kept, of random choices of random networks."""
    counted = []

    def choose(jobs, links, buffers, excluded, arena, config, poolings, lost):
        plan = residency._Planner(jobs, links, buffers, excluded, arena, config)
        found = drawn(jobs, links, buffers, excluded, arena, config, poolings, lost)
        whole = [len(own) for own in jobs]
        counted.extend(sum(plan.rings.more_descriptors(group, whole) for group in groups) for groups, _ in found)
        return found

    some = 0
    for seed in range(8):
        rng = np.random.default_rng([seed, 7])
        torch.manual_seed(seed)
        model, shape = random_network(rng)
        drawn = choose_at_random(rng)
        monkeypatch.setattr(residency, "choose", choose)
        config = random_config(rng, memory_banks=64)
        graph = CodeGenerator(model, rng.standard_normal(shape, np.float32), config=config).graph
        counted.clear()
        for number, program in enumerate(compile_choices(graph, config)):
            if number < len(counted):
                assert len(program.jobs) == len(program.whole.jobs) + counted[number], seed
                some += counted[number] > 0
    assert some >= 4, some


def test_groups_become_one_where_that_saves_cycles(monkeypatch):
    """As MobileNet begins: what is between two pairs stays on chip with them, and the first layer's next rows are
    loaded before the last one computes."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 16, 1)]
    model = nn.Sequential(*layers, nn.Conv2d(16, 16, 3, 2, 1), nn.Conv2d(16, 32, 1), nn.AdaptiveAvgPool2d(1))
    config = Config(rows=16, cols=16, ports=4, scratchpad_words=32768)

    def program():
        return CodeGenerator(model, np.zeros((1, 3, 96, 96), np.float32), config=config, input_layout="nhwc").program()

    joined = program()
    monkeypatch.setattr(residency._Planner, "joined", lambda plan, choice: choice)
    apart = program()
    cycles, before = (sum(e.cycles for e in descriptor_cycles(p)) for p in (joined, apart))
    assert cycles < 0.985 * before, (cycles, before)
    numbers = [int(job.layer) for job in joined.jobs if int(job.layer) < 4]
    assert len(numbers) > 4 and numbers[:5] == [0, 1, 2, 0, 3], numbers


def test_turns_are_not_taken_where_whole_maps_are_faster(monkeypatch):
    """The rough estimate says that turns save a little here; they cost a fifth."""
    torch.manual_seed(1)
    example = NETWORKS["ds-cnn"]
    buffers = {"scratchpad_words": 16384, "activation_words": 2048, "weight_bytes": 1024, "accumulator_entries": 16}
    config = Config(rows=27, cols=27, ports=2, **buffers)
    graph = CodeGenerator(example.build(), np.zeros(example.input_shape, np.float32), config=config).graph
    cycles = [min(choose_strips(program)[1] for program in compile_choices(graph, config))]
    monkeypatch.setattr(residency, "choose", lambda **given: choose(**given | {"links": ()}))
    cycles.append(min(choose_strips(program)[1] for program in compile_choices(graph, config)))
    assert cycles[0] <= cycles[1]


def test_places_are_not_sought_in_vain_for_ever(monkeypatch):
    """A long network has thousands of small storages, for which a full scratchpad has no room in whatever order."""
    tried = []

    class Full:
        size, jobs = 1000, range(4)
        lives = {str(n): planner.Buffer(str(n), 8, 0, 1) for n in range(3 * room.PATIENCE)}

        def alive(self, name, buffer, choice):
            return buffer

        def places(self, choice, orders):
            tried.append(orders)

    monkeypatch.setattr(room.Shelf, "add", lambda shelf, buffer, limit: False)
    own = room.Room(Full())
    assert not any(map(own.take, Full.lives))
    assert tried == [planner.PLACEMENTS] * room.PATIENCE + [1] * 2 * room.PATIENCE


@pytest.mark.parametrize("seed", range(4))
def test_what_memory_holds_goes_before_what_is_faster(seed, monkeypatch):
    """Of choices that leave more in memory than there is room for, none is taken where another one fits."""
    asked = []
    monkeypatch.setattr(residency, "choose", lambda **given: asked.append(given) or choose(**given))
    torch.manual_seed(seed)
    layers = [nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 1), nn.Conv2d(12, 12, 3, 2, 1, groups=12)]
    config = Config(rows=4, cols=4 + 8 * seed, ports=1 + seed, memory_banks=64, memory_banks_interleaved=(64,))
    config = replace(config, scratchpad_words=2048 << seed)
    model = nn.Sequential(*layers, nn.Conv2d(12, 8, 1), nn.AdaptiveAvgPool2d(1))
    next(compile_choices(CodeGenerator(model, np.zeros((1, 8, 24, 24), np.float32), config=config).graph, config))
    held = 0
    for options in asked:
        plan = residency._Planner(
            *(options[name] for name in ("jobs", "links", "buffers", "excluded", "arena", "config"))
        )
        needs = sorted({plan._in_memory(c) + plan.more_descriptor_bytes(c) for c in plan.search(1.0)})
        for arena in needs:
            for groups, homes in choose(**options | {"arena": arena}):
                rings = {plan.links[step].value for group in groups for step in group.turning[:-1]}
                choice = Choice(frozenset(homes) - rings, groups)
                held += 1
                assert plan._in_memory(choice) + plan.more_descriptor_bytes(choice) <= arena
    assert held

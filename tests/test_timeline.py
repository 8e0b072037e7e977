# SPDX-License-Identifier: Apache-2.0
"""The timeline against the cycle model, and the strips that are chosen with it."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from firmware_gen.targets.descriptor import strips
from firmware_gen.targets.descriptor.compiler import compile_choices, compile_graph
from firmware_gen.targets.descriptor.estimate import descriptor_cycles
from firmware_gen.targets.descriptor.linked.program import DESCRIPTORS
from firmware_gen.targets.descriptor.lowering import depth_first, pieces
from firmware_gen.targets.descriptor.timing.banks import Sharing
from firmware_gen.targets.descriptor.timing.spans import strip_span
from firmware_gen.targets.descriptor.timing.timeline import Timeline, Work
from hls.config import Config
from hls.descriptor.interface.table import WORDS, unpack
from tests import random_networks

CONFIGS = [Config(), Config(rows=4, cols=4, ports=1), Config(rows=16, cols=16, ports=4)]


def graph_of(name, config):
    data = np.random.default_rng(1).standard_normal(NETWORKS[name].input_shape, np.float32)
    return CodeGenerator(NETWORKS[name].build().eval(), data, None, config).graph


def compiled(name, config):
    """A network's program with the strips of `lowering.tiling`."""
    return compile_graph(graph_of(name, config), config)


def linked(program):
    words = program.constants[DESCRIPTORS].reshape(-1, WORDS)
    return [unpack(row) for row in words[: len(program.jobs)]]


def cycles(program):
    return sum(e.cycles for e in descriptor_cycles(program))


def chosen(program):
    return [(f.first_px, f.strip_px) for f in linked(program)]


@pytest.mark.parametrize("config", CONFIGS, ids=["8x8p2", "4x4p1", "16x16p4"])
@pytest.mark.parametrize("name", ["ds-cnn", "cifar10-conv2d", "fmnist-conv2d"])
def test_timeline_is_near_the_cycle_model(name, config):
    program = compiled(name, config)
    timeline, total = Timeline(), 0
    (listed,) = program.lists
    for fields, estimate in zip(linked(program)[listed.range], descriptor_cycles(program), strict=True):
        total += estimate.cycles
        timeline.add(Work(fields, config), fields.first_px, fields.strip_px)
    assert timeline.done == pytest.approx(total, rel=0.04)


@pytest.mark.parametrize("name, saved", [("ds-cnn", 0.01), ("fmnist-conv2d", 0.015)])
def test_chosen_strips_save_cycles(name, saved):
    program = compiled(name, Config())
    before = cycles(program)
    program = strips.choose_strips(program)[0]
    assert cycles(program) <= (1 - saved) * before


def convolution(channels, outputs, height, width, config):
    layer, x = nn.Conv2d(channels, outputs, 3, padding=1), np.zeros((1, channels, height, width), np.float32)
    return CodeGenerator(layer, x, config=config).program()


def test_weights_are_not_read_once_more_for_a_cycle(monkeypatch):
    """Weights that do not fit their buffer are read for every strip: a fifth less words for a hundredth more cycles."""
    thrifty = descriptor_cycles(convolution(32, 64, 8, 8, Config(weight_bytes=256)))[0]
    monkeypatch.setattr(strips, "READ", 0)
    greedy = descriptor_cycles(convolution(32, 64, 8, 8, Config(weight_bytes=256)))[0]
    assert thrifty.bus_words < 0.8 * greedy.bus_words and thrifty.cycles < 1.02 * greedy.cycles


def test_a_layer_is_not_cut_once_more_for_a_cycle(monkeypatch):
    """What a descriptor costs by itself is in the estimate, and the cycle model agrees."""
    config = Config(4, 8, ports=2, activation_words=256, accumulator_entries=16)
    coarse = convolution(32, 8, 6, 42, config)
    monkeypatch.setattr(pieces, "DESCRIPTOR_COST", 0)
    fine = convolution(32, 8, 6, 42, config)
    assert len(coarse.jobs) < len(fine.jobs) and cycles(coarse) < cycles(fine)


def test_chosen_strips_fit_and_are_those_of_the_jobs():
    config = Config(accumulator_entries=16, activation_words=1024)
    program = compiled("ds-cnn", config)
    before = chosen(program)
    program = strips.choose_strips(program)[0]
    assert chosen(program) != before
    for job, f in zip(program.jobs, linked(program), strict=True):
        first, strip = f.first_px, f.strip_px
        assert (first, strip) == (job.descriptor.first_px, job.descriptor.strip_px)
        assert 1 <= first <= strip and strip * f.cbg <= config.accumulator_entries
        assert strip_span(f, first, strip) <= config.activation_words - config.ports


def test_the_cycle_model_has_the_last_word_on_small_networks(monkeypatch):
    program = compiled("fmnist-conv2d", Config())
    before = chosen(program)
    monkeypatch.setattr(strips, "_choose", lambda works, own, config, found: ([(1, 1)] * len(own), 4000.0))
    program = strips.choose_strips(program)[0]
    assert chosen(program) == before
    monkeypatch.setattr(strips, "CHECKED", 0)
    program = strips.choose_strips(program)[0]
    assert set(chosen(program)) == {(1, 1)}


@pytest.mark.parametrize(
    "name, config, first", [("ds-cnn", Config(), True), ("ds-cnn", replace(CONFIGS[2], scratchpad_words=4096), False)]
)
def test_the_faster_choice_of_what_stays_on_chip_is_taken(name, config, first):
    """More layers that take turns: slower on one array, faster on the other."""
    config = replace(config, banded=False)
    data = np.random.default_rng(1).standard_normal(NETWORKS[name].input_shape, np.float32)
    generator = CodeGenerator(NETWORKS[name].build().eval(), data, None, config)
    choices = list(compile_choices(generator.graph, config))
    assert len({len(p.jobs) for p in choices}) > 1
    choices = [strips.choose_strips(program)[0] for program in choices]
    fewest, most = min(choices, key=lambda p: len(p.jobs)), max(choices, key=lambda p: len(p.jobs))
    assert (cycles(fewest) < cycles(most)) == first
    assert cycles(generator.program()) == min(map(cycles, choices))


@pytest.mark.slow
def test_turns_are_not_taken_where_all_is_faster_without(monkeypatch):
    config = Config(rows=31, cols=8, scratchpad_words=32768, banded=False)
    chosen = compiled("ds-cnn", config)
    monkeypatch.setattr(depth_first, "links", lambda *given: [])
    assert cycles(chosen) <= cycles(compiled("ds-cnn", config))


@pytest.mark.parametrize(
    ("cycles", "fewer", "saved", "taken"),
    [
        (0.9, 0.5, 1, "chosen"),  # the cycle model had the last word already
        (1.1, 1.0, 1, "again"),
        (1.1, 1.0, 0, "chosen"),
        (1.1, 1.1, 1, "chosen"),
        (2.0, 1.0, 0, "chosen"),
        (2.1, 2.0, 0, "again"),  # too long for it: the timeline is trusted with what it can tell
        (2.1, 2.1 * (1 - 2 * strips.TRUSTED), 0, "again"),
        (2.1, 2.1 * (1 - strips.TRUSTED / 2), 1, "chosen"),
    ],
)
def test_who_decides_on_strips_that_are_chosen_once_more(monkeypatch, cycles, fewer, saved, taken):
    """`cycles` and `fewer` in networks for the cycle model, `saved`: cycles less by that."""
    choices = {"worse": ("worse", np.inf), "first": ("chosen", cycles), "chosen": ("again", fewer)}
    choices = {name: (other, strips.CHECKED * many) for name, (other, many) in choices.items()}
    monkeypatch.setattr(strips, "near", list)
    monkeypatch.setattr(strips, "choose_strips", lambda program, found: choices[program])
    monkeypatch.setattr(strips, "_total", {"chosen": 100, "again": 100 - saved}.get)
    assert strips.fastest(["worse", "first"]) == taken


def test_which_programs_have_their_best_strips_chosen(monkeypatch):
    """Those that are hardly slower than the best one by the first few, not more than so many, in their order."""
    rough = {"b": 104.0, "much slower": 106.0, "unknown": np.inf, "a": 100.0, "c": 104.0}
    monkeypatch.setattr(strips.Rough, "cycles", lambda known, program: rough[program])
    assert strips.near(rough) == ["b", "a", "c"]
    assert strips.near(rough, 2) == ["b", "a"]
    rough = {"one": np.inf, "two": np.inf}  # the first is taken
    assert strips.near(rough)[0] == "one"


NEAR = {(10, 18, 2): 4096, (21, 24, 2): 8192, (24, 7, 2): 4096, (5, 11, 3): 2048, (12, 5, 1): 8192, (9, 31, 4): 16384}
"""Words of the scratchpad by rows, columns and ports, beside other buffers of a quarter of their size."""


@pytest.mark.parametrize("array", NEAR, ids=str)
def test_what_has_its_best_strips_chosen_is_the_fastest(array):
    """Beside the best of all programs with their best strips."""
    rows, cols, ports = array
    small = {"activation_words": 2048, "weight_bytes": 1024, "accumulator_entries": 16}
    config = Config(rows=rows, cols=cols, ports=ports, scratchpad_words=NEAR[array], **small)
    programs = list(compile_choices(graph_of("ds-cnn", config), config))
    every = min(strips.choose_strips(program)[1] for program in programs)
    assert min(strips.choose_strips(program)[1] for program in strips.near(programs)) <= 1.01 * every


def test_a_beat_in_one_bank_takes_a_cycle_a_word(monkeypatch):
    """Weights partly in contiguous banks, partly interleaved."""
    seen = []
    shared = Sharing(load=1, weights=((30, 4), (70, 1)), params=4, store=1, aux=1, fetch=1, table=1, record=1)
    monkeypatch.setattr(strips, "sharing", lambda f, places, config: shared)
    monkeypatch.setattr(strips, "Work", lambda f, config, *costs: seen.append(costs))
    program = compiled("fmnist-conv2d", Config(ports=4))
    strips._work(program, 0)
    assert seen == [((30 * 4 + 70) / 100, 4)]


def test_a_program_is_not_changed_by_choosing():
    """Nor can anybody else change it: other strips are another program."""
    program = compiled("fmnist-conv2d", Config())
    before = {name: array.copy() for name, array in program.constants.items()}
    other = strips.choose_strips(program)[0]
    assert chosen(other) != chosen(program)
    assert all((program.constants[name] == array).all() for name, array in before.items())
    for array in (*program.constants.values(), *other.constants.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("config", CONFIGS, ids=["8x8p2", "4x4p1", "16x16p4"])
@pytest.mark.parametrize("seed", range(2))
def test_bounds_leave_out_nothing_that_would_be_chosen(seed, config, monkeypatch):
    found = random_networks.random_network(seed, "dag", max_depth=8)
    program = compile_graph(CodeGenerator(found.model, found.x, None, config).graph, config)
    timeline = Timeline()
    for fields in linked(program) if len(program.lists) == 1 else ():
        work, strip = Work(fields, config), (fields.first_px, fields.strip_px)
        bound = timeline.earliest([(work, *strip)])
        timeline.add(work, *strip)
        assert bound <= timeline.done + strips.ROUNDING
    pruned = strips.choose_strips(program)
    monkeypatch.setattr(Timeline, "earliest", lambda self, works: 0.0)
    every = strips.choose_strips(program)
    assert (chosen(pruned[0]), pruned[1]) == (chosen(every[0]), every[1])

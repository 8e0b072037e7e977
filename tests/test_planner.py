# SPDX-License-Identifier: Apache-2.0
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from firmware_gen.application.picture import picture
from firmware_gen.memory import knapsack, planner
from firmware_gen.memory.knapsack import left_out
from firmware_gen.memory.planner import Access, Buffer, allocate, check_overlaps, life, locate, peak, smallest_memory
from firmware_gen.targets.descriptor import compiler
from firmware_gen.targets.descriptor.estimate import descriptor_cycles
from firmware_gen.targets.descriptor.linked import arena as placing
from firmware_gen.targets.descriptor.linked.arena import program_bytes
from hls.config import Config
from hls.descriptor.interface.table import CONTIGUOUS, INTERLEAVED
from hls.errors import HeepgenError


def chain(rng, steps):
    """Random buffers of a chain: each is written by one step and read until a later one."""
    return [
        Buffer(f"b{i}", 4 * int(rng.integers(1, 400)), i, min(steps, i + int(rng.integers(1, 4)))) for i in range(steps)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_buffers_alive_together_never_share_a_byte(seed):
    rng = np.random.default_rng(seed)
    buffers = chain(rng, int(rng.integers(2, 14)))
    offsets = allocate(buffers)
    for a in buffers:
        for b in buffers:
            if a.name < b.name and a.overlaps(b):
                assert offsets[a.name] + a.size <= offsets[b.name] or offsets[b.name] + b.size <= offsets[a.name]


def test_chain_of_equal_buffers_needs_no_more_than_its_peak():
    buffers = [Buffer(f"b{i}", 1600, i, i + 1) for i in range(10)]
    offsets = allocate(buffers)
    assert max(offsets.values()) + 1600 == peak(buffers, 11)[0] == 3200


def step(reads, defines, size=16):
    return Access(reads, defines, np.full(size, True))


def at(word, size=16):
    return word + np.arange(size)


def test_replay_accepts_a_good_plan_and_names_the_culprit_of_a_bad_one():
    steps = [step((), "in"), step(("in",), "mid"), step(("mid",), "out")]
    check_overlaps({"in": at(0), "mid": at(16), "out": at(0)}, steps, ("out",))
    with pytest.raises(HeepgenError, match="mid is overwritten by out"):
        check_overlaps({"in": at(0), "mid": at(16), "out": at(8), "last": at(40)}, [*steps, step(("mid",), "last")])
    with pytest.raises(HeepgenError, match="in is overwritten by out"):
        check_overlaps({"in": at(0), "mid": at(16), "out": at(0)}, steps, ("out",), {"in": at(0)})


def test_replay_knows_what_is_overwritten_in_place_and_what_is_joined():
    steps = [
        step((), "in"),
        step(("in",), "sum"),
        step(("sum",), "right", 8),
        Access(("sum", "right"), "joined", np.full(24, False)),
        step(("joined",), "out"),
    ]
    places = {"in": at(0), "sum": at(0), "right": at(16, 8), "joined": at(0, 24), "out": at(24)}
    check_overlaps(places, steps, ("out",))
    with pytest.raises(HeepgenError, match="in is overwritten by sum"):
        check_overlaps(places, steps, ("in",))
    with pytest.raises(HeepgenError, match="joined is not whole"):
        check_overlaps(places | {"right": at(20, 8)}, steps, ("out",))
    with pytest.raises(HeepgenError, match="joined is not whole"):
        check_overlaps(places | {"joined": np.zeros(24, int)}, steps, ("out",))


def assert_disjoint(placed, arena_address, arena, config):
    border, end = planner.memory_map(config)
    spans = sorted([(p.address, p.address + p.size) for p in placed] + [(arena_address, arena_address + arena)])
    for (_, last), (first, _) in zip(spans, spans[1:], strict=False):
        assert last <= first
    assert spans[0][0] >= planner.PROGRAM_BYTES and spans[-1][1] <= end
    assert not any(first < border < last for first, last in spans)


@pytest.mark.parametrize(
    "constants, arena",
    [
        ([("a", 1000), ("b", 50_000)], 100_000),  # all in the interleaved banks
        ([("a", 30_000), ("b", 50_000), ("c", 200_000)], 150_000),  # some constants below
        ([("a", 20_000), ("b", 300_000)], 90_000),  # arena and constants on both sides
    ],
)
def test_places_lie_beside_the_program_and_never_across_the_border(constants, arena):
    config = Config()
    placed, address = locate("net", constants, arena, config)
    assert [p.name for p in placed] == [n for n, _ in constants]
    assert_disjoint(placed, address, arena, config)


def test_no_interleaved_banks():
    config = Config(memory_banks=8, memory_banks_interleaved=())
    placed, address = locate("net", [("a", 1000), ("b", 2000)], 5000, config)
    assert_disjoint(placed, address, 5000, config)


def test_refusal_has_the_numbers():
    with pytest.raises(HeepgenError, match=r"1,000,000 bytes of constants and 4,000 bytes of arena.*524,288"):
        locate("net", [("a", 1_000_000)], 4000, Config())


def test_model_too_big_for_memory_is_refused_before_anything_is_written(tmp_path):
    generator = CodeGenerator(nn.Linear(3000, 1000), torch.zeros(1, 3000), tmp_path / "out")
    with pytest.raises(HeepgenError, match="does not fit"):
        generator.generate_code()
    assert not (tmp_path / "out").exists()


def test_report_says_what_lives_when():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(32, 3))
    report = CodeGenerator(model, torch.zeros(1, 1, 8, 8), config=Config(scratchpad_words=0)).memory_report()
    sizes = {b["name"]: b["size"] for b in report.buffers}
    assert sorted(s for n, s in sizes.items() if n != "profile") == [12, 128, 256, 576]
    assert report.peak_bytes == 256 + 576 + 128
    assert report.peak_bytes <= report.arena_bytes <= sum(sizes.values()) + 16 * len(sizes)
    assert all(name in report.to_text() for name in sizes) and '"peak_bytes"' in report.to_json()


def test_a_life_is_a_bar_of_bounded_length():
    assert life({"born": -1, "dies": 1}, 4) == "###.."
    assert life({"born": 2, "dies": 2}, 4) == "...#."
    for steps in (63, 64, 999):
        bars = [life({"born": step, "dies": step}, steps) for step in range(-1, steps)]
        assert {bar.count("#") for bar in bars} == {1} and {len(bar) for bar in bars} == {len(bars[0])}
        assert len(bars[0]) <= planner.LONGEST_BAR and bars == sorted(bars)
    assert set(life({"born": -1, "dies": 998}, 999)) == {"#"}


def test_input_survives_when_there_is_room():
    assert CodeGenerator(nn.Linear(20, 4), torch.zeros(1, 20)).program().keeps_input
    big = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 1, 1))
    config = Config(memory_banks=5, memory_banks_interleaved=(2, 4), bank_kib=16, scratchpad_words=0)
    program = CodeGenerator(big, torch.zeros(1, 1, 96, 96), config=config).program()
    assert not program.keeps_input


def test_expected_outputs_are_part_of_the_program():
    """32 channels of 48 x 48 are 295 kB in the arena, and as much again in what they are compared with."""
    model, sample = nn.Conv2d(1, 32, 1).eval(), torch.zeros(1, 1, 48, 48)
    with pytest.raises(HeepgenError, match=r"beside 319,488 for the program.*524,288"):
        CodeGenerator(model, sample).program()
    config = Config(memory_banks=8, memory_banks_interleaved=(8,), bank_kib=64)
    program = CodeGenerator(model, sample, config=config).program()
    contiguous, groups = program.report.banks_needed
    needed = program.report.constant_bytes + program.report.arena_bytes + 24 * 1024 + 4 * 32 * 48 * 48
    assert contiguous + sum(groups) == -(-needed // 65536)


class Dense(nn.Module):
    """Every layer reads all that came before, as in DenseNet; `x` is joined twice and must be copied once."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.first = nn.Conv2d(5, 4, 3, padding=1)
        self.second = nn.Conv2d(9, 4, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        both = torch.cat([x, self.first(x)], 1)
        return torch.cat([both, self.second(both), x], 1)


class Sums(nn.Module):
    """Residual additions, in one of which the input of the layer is what it adds."""

    def __init__(self, channels, bottleneck):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.down = nn.Conv2d(channels, bottleneck, 1)
        self.up = nn.Conv2d(bottleneck, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(self.up(self.down(x)) + x)
        return self.last(x) + x


def bits_without_sharing(model, shape, config=None):
    """Output with planned memory, and with a place of its own for every value; the program with planned memory."""
    sample = torch.randn(shape)
    generators = [CodeGenerator(model.eval(), sample, config=config, keep_activations=keep) for keep in (False, True)]
    results = [g.reference().output.view(np.uint32) for g in generators]
    assert np.array_equal(*results)
    return generators[0].program()


def test_branches_are_written_where_they_are_joined():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), Dense(), nn.Conv2d(18, 2, 1))
    program = bits_without_sharing(model, (2, 3, 7, 6))
    by_output = {layer.name: layer for layer in program.layers}
    joins = [layer for layer in program.layers if layer.op == "Concat"]
    assert sorted(len(layer.descriptors) for layer in joins) == [0, 1]  # one copy of x, of all images
    assert (
        len(
            {by_output[n].target.storage for n in ("1.stem", "1.first", "1.second")}
            | {layer.target.storage for layer in joins}
        )
        == 1
    )


def test_a_residual_is_overwritten_unless_the_layer_reads_it_too():
    torch.manual_seed(1)
    program = bits_without_sharing(Sums(6, 3), (1, 1, 9, 9))
    layers = {layer.name: layer for layer in program.layers}
    assert layers["up"].target.storage == layers["stem"].target.storage
    assert layers["last"].target.storage not in {t.storage for t in layers["last"].sources}


def test_a_residual_is_kept_where_partial_sums_need_the_output():
    torch.manual_seed(2)
    config = Config(rows=4, cols=4, activation_words=256)
    program = bits_without_sharing(Sums(6, 130), (1, 1, 5, 5), config)
    layers = {layer.name: layer for layer in program.layers}
    assert len(layers["up"].descriptors) > 1
    assert layers["up"].target.storage != layers["stem"].target.storage


@pytest.mark.parametrize("constants, arena", [([("a", 1000)], 5000), ([("a", 90_000), ("b", 70_000)], 120_000)])
def test_smallest_memory_holds_everything_and_one_bank_less_does_not(constants, arena):
    contiguous, groups = smallest_memory(constants, arena, Config())
    banks = Config(memory_banks=contiguous, memory_banks_interleaved=groups)
    placed, address = locate("net", constants, arena, banks)
    assert_disjoint(placed, address, arena, banks)
    needed = planner.PROGRAM_BYTES + arena + sum(size for _, size in constants)
    assert contiguous + sum(groups) == max(2, -(-needed // 32768))


def test_picture_names_the_largest_buffers_of_arena_and_scratchpad():
    program = CodeGenerator(Dense().eval(), torch.zeros(1, 3, 7, 6), name="dense").program()
    layers = [{"name": f"layer.{i}", "scratchpad": {"address": 0, "bytes": 1000 + i}} for i in range(9)]
    text = picture(program.report.to_dict(), [*layers, {"name": "other", "scratchpad": None}, {"name": "cpu"}]).decode()
    assert text.startswith("<?xml") and picture(program.report.to_dict()) == picture(program.report.to_dict())
    for buffer in sorted(program.report.buffers, key=lambda b: -b["size"])[:8]:
        assert f">{buffer['name']}: {buffer['size']:,}</text>" in text
    assert ">bytes in the scratchpad, 8 of 9</text>" in text and ">layer.8: 1,008</text>" in text
    assert "layer.0:" not in text and "other" not in text and "cpu" not in text


def test_interleaved_banks_hold_the_constants_that_gain_by_it(monkeypatch):
    """Most weights of a network that is bound by reading them fit there, if the small ones do not go first."""
    example = NETWORKS["fc-autoencoder"]
    config = Config(memory_banks=8, memory_banks_interleaved=(8,))

    def program():
        return CodeGenerator(example.build().eval(), np.zeros(example.input_shape, np.float32), None, config).program()

    def cycles(compiled):
        return sum(estimate.cycles for estimate in descriptor_cycles(compiled))

    chosen = program()
    regions = [chosen.region(placed) for placed in chosen.placed.values()]
    assert set(regions) == {CONTIGUOUS, INTERLEAVED}
    monkeypatch.setattr(
        placing,
        "locate_all",
        lambda graph, jobs, arrays, arena, config: locate(
            graph.name, [(n, 4 * len(a)) for n, a in arrays.items()], arena, config, program_bytes(graph)
        ),
    )
    assert cycles(chosen) < 0.9 * cycles(program())


@pytest.mark.parametrize("seed", range(40))
def test_what_is_left_out_loses_least(seed):
    """Of all subsets."""
    rng = np.random.default_rng(seed)
    sizes = (16 * rng.integers(0, 40, int(rng.integers(1, 9)))).tolist()
    losses = rng.integers(0, 30, len(sizes)).tolist()
    room, other = rng.integers(0, sum(sizes) + 33, 2).tolist()
    subsets = [[n for n in range(len(sizes)) if bits >> n & 1] for bits in range(1 << len(sizes))]
    fit = [own for own in subsets if sum(sizes) - room <= sum(sizes[n] for n in own) <= other]
    found = left_out(sizes, losses, room, other, 16)
    assert (found in fit) == (found is not None) == bool(fit)
    if found is not None:
        assert sum(losses[n] for n in found) == min(sum(losses[n] for n in own) for own in fit)


def test_what_is_left_out_of_much_fits():
    """Sizes are rounded there."""
    rng = np.random.default_rng(1)
    sizes = (16 * rng.integers(1, 4000, 60)).tolist()
    losses, room, other = rng.random(60).tolist(), sum(sizes) * 2 // 5, sum(sizes) * 61 // 100
    found = left_out(sizes, losses, room, other, 16)
    assert other > 16 * knapsack.STEPS
    assert sum(sizes) - room <= sum(sizes[n] for n in found) <= other


def test_constants_that_do_not_fit_one_by_one(monkeypatch):
    """Where the interleaved banks hold those that gain most, the contiguous ones do not hold the rest."""
    sizes = (64, 136, 168, 64, 200, 56)
    model = nn.Sequential(*(nn.Linear(*pair) for pair in itertools.pairwise(sizes)))
    config = Config(memory_banks=4, memory_banks_interleaved=(2,), bank_kib=16, scratchpad_words=0)
    generator = CodeGenerator(model.eval(), np.zeros((1, 64), np.float32), None, config)
    program = compiler.compile_graph(generator.graph, config)
    assert {program.region(placed) for placed in program.placed.values()} == {CONTIGUOUS, INTERLEAVED}
    monkeypatch.setattr(placing, "left_out", lambda *given: None)
    with pytest.raises(planner.DoesNotFit):
        compiler.compile_graph(generator.graph, config)


@pytest.mark.parametrize("least", [0, 1, 3])
def test_a_program_without_a_scratchpad_is_tried_where_its_constants_lose_less(least, monkeypatch):
    monkeypatch.setattr(compiler, "lost_by_constants", lambda program: least if program.scratchpad else 2)
    example = NETWORKS["digits"]
    graph = CodeGenerator(example.build().eval(), np.zeros(example.input_shape, np.float32)).graph
    choices = list(compiler.compile_choices(graph, Config()))
    assert [bool(program.scratchpad) for program in choices] == [True] * (len(choices) - (least > 2)) + [False] * (
        least > 2
    )


@pytest.mark.parametrize("ports, kept", [(1, True), (2, False)])
def test_the_input_is_not_kept_at_the_expense_of_constants(ports, kept):
    """24 KiB of input, and 16 of another tensor: without the input alive, 27 KiB of weights fit beside them."""
    model = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(6, 16, 1), nn.MaxPool2d(2), nn.Conv2d(16, 64, 5), nn.ReLU())
    config = Config(ports=ports, memory_banks=4, memory_banks_interleaved=(2,), scratchpad_words=0)
    program = CodeGenerator(model, np.zeros((1, 6, 32, 32), np.float32), None, config).program()
    assert program.keeps_input == kept
    low = [name for name, placed in program.placed.items() if program.region(placed) == CONTIGUOUS]
    assert bool(low) == kept


@pytest.mark.parametrize(
    "model, shape",
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(3264, 128), nn.ReLU(), nn.Linear(128, 6)),
            (1, 34, 96),
        ),  # one large array
        (nn.Linear(1000, 700), (1, 1000)),
    ],
)
def test_what_would_do_does(model, shape):
    config = Config(arithmetic="fma")
    with pytest.raises(HeepgenError) as caught:
        CodeGenerator(model, torch.zeros(shape), config=config).program()
    words = str(caught.value)
    numbers = [int(n.replace(",", "")) for n in re.findall(r"[\d,]{6,}", words)]
    if numbers[2] + numbers[3] <= numbers[4]:  # in all, beside the program, memory
        assert "no array may lie in contiguous and in interleaved banks at once" in words
    found = re.search(r"memory\.banks = (\d+) with memory\.banks_interleaved = \[([\d, ]*)\] would do", words)
    groups = tuple(int(n) for n in found[2].split(",") if n.strip())
    CodeGenerator(
        model, torch.zeros(shape), config=replace(config, memory_banks=int(found[1]), memory_banks_interleaved=groups)
    ).program()
    with pytest.raises(HeepgenError, match="does not fit"):
        CodeGenerator(
            model,
            torch.zeros(shape),
            config=replace(config, memory_banks=int(found[1]) - 1, memory_banks_interleaved=groups),
        ).program()

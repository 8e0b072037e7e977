import numpy as np
import pytest
import torch
from torch import nn

from firmware_gen import CodeGenerator, planner
from firmware_gen.planner import Buffer, check_overlaps, locate, peak, place
from hls.config import Config
from hls.errors import HeepgenError


def chain(rng, steps):
    """Random buffers of a chain: each is written by one step and read until a later one."""
    return [Buffer(f"b{i}", 4 * int(rng.integers(1, 400)), i, min(steps, i + int(rng.integers(1, 4))))
            for i in range(steps)]


@pytest.mark.parametrize("seed", range(20))
def test_buffers_alive_together_never_share_a_byte(seed):
    rng = np.random.default_rng(seed)
    buffers = chain(rng, int(rng.integers(2, 14)))
    offsets = place(buffers)
    for a in buffers:
        for b in buffers:
            if a.name < b.name and a.overlaps(b):
                assert offsets[a.name] + a.size <= offsets[b.name] or offsets[b.name] + b.size <= offsets[a.name]


def test_chain_of_equal_buffers_needs_no_more_than_its_peak():
    buffers = [Buffer(f"b{i}", 1600, i, i + 1) for i in range(10)]
    offsets = place(buffers)
    assert max(offsets.values()) + 1600 == peak(buffers, 11)[0] == 3200


def test_replay_accepts_a_good_plan_and_names_the_culprit_of_a_bad_one():
    steps = [((), ("in",)), (("in",), ("mid",)), (("mid",), ("out",)), (("out",), ())]
    sizes = dict.fromkeys(("in", "mid", "out"), 64)
    check_overlaps({"in": 0, "mid": 64, "out": 0}, sizes, steps)
    with pytest.raises(HeepgenError, match="mid is overwritten by out"):
        check_overlaps({"in": 0, "mid": 64, "out": 32}, sizes, steps)
    with pytest.raises(HeepgenError, match="in is overwritten by out"):
        check_overlaps({"in": 0, "mid": 64, "out": 0}, sizes, steps, keep=("in",))


def assert_disjoint(placed, arena_address, arena, config):
    border, end = planner.memory_map(config)
    spans = sorted([(p.address, p.address + p.size) for p in placed] + [(arena_address, arena_address + arena)])
    for (_, last), (first, _) in zip(spans, spans[1:], strict=False):
        assert last <= first
    assert spans[0][0] >= planner.PROGRAM_BYTES and spans[-1][1] <= end
    assert not any(first < border < last for first, last in spans)


@pytest.mark.parametrize("constants, arena", [
    ([("a", 1000), ("b", 50_000)], 100_000),  # all in the interleaved banks
    ([("a", 30_000), ("b", 50_000), ("c", 200_000)], 150_000),  # some constants below
    ([("a", 20_000), ("b", 300_000)], 90_000),  # arena and constants on both sides
])
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
    report = CodeGenerator(model, torch.zeros(1, 1, 8, 8)).memory_report()
    sizes = {b["name"]: b["size"] for b in report.buffers}
    assert sorted(s for n, s in sizes.items() if n != "profile") == [12, 128, 256, 576]
    assert report.peak_bytes == 256 + 576 + 128
    assert report.peak_bytes <= report.arena_bytes <= sum(sizes.values()) + 16 * len(sizes)
    assert all(name in report.to_text() for name in sizes) and '"peak_bytes"' in report.to_json()


def test_input_survives_when_there_is_room():
    assert CodeGenerator(nn.Linear(20, 4), torch.zeros(1, 20)).program().keeps_input
    big = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Conv2d(1, 1, 1))
    config = Config(memory_banks=2, memory_banks_interleaved=(2, 4), bank_kib=16)
    program = CodeGenerator(big, torch.zeros(1, 1, 96, 96), config=config).program()
    assert not program.keeps_input

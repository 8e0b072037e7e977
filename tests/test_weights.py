# SPDX-License-Identifier: Apache-2.0
"""Weight loader against the stream cut up in Python: every geometry, random stalls on both sides, and its rate."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from myhdl import Signal, block, delay, instance, intbv
from obi import BeatMemory

from hls.arithmetic.array import beat_bits
from hls.config import Config
from hls.descriptor.interface.job import job_signals
from hls.descriptor.interface.timing import weight_buffer
from hls.descriptor.memory.arbiter import Request
from hls.descriptor.memory.weights import WEIGHT_JOB, cut_fields, weight_loader

STEPS = ("groups", "ncb", "kh", "kx", "kb")


def passes(f):
    """Number of strips, counted one by one."""
    count, left = 1, f["out_px"] - f["first_px"]
    while left > 0:
        count, left = count + 1, left - f["strip_px"]
    return count


def tiles(memory, f, config):
    """Every tile of the layer in order, as bytes [beat][...]."""
    stream = memory.view(np.uint8)[f["weight_addr"] :]
    if f["int4"]:
        stream = np.stack([(stream & 15 ^ 8) + 248, (stream >> 4 ^ 8) + 248], axis=1).reshape(-1)
    size = config.diagonal if f["diagonal"] or f["band"] else config.rows * config.cols
    step = config.diagonal if f["diagonal"] else config.load_rows * config.cols
    for _ in range(passes(f)):
        for n in range(int(np.prod([f[name] for name in STEPS]))):
            tile = bytes(size * [1]) if f["unit_weights"] else bytes(stream[n * size : n * size + size])
            if f["band"]:
                taps = [[r - f["band"] * c for c in range(config.cols)] for r in range(config.rows)]
                tile = bytes(tile[i] if 0 <= i < size else 0 for row in taps for i in row)
            yield [tile[i : i + step] for i in range(0, len(tile), step)]


@dataclass
class Run:
    """What a simulation saw: its cycles, words read, and the cycles in which each side started each layer."""

    cycles: int = 0
    words: int = 0
    fetches: list = field(default_factory=list)
    cuts: list = field(default_factory=list)
    survivors: int = 0  # cuts begun while a tile waited in the shadow
    urgent: list = field(default_factory=list)  # per cycle: the request's urgency, and words asked for by then
    taken: list = field(default_factory=list)  # cycles in which a tile is taken


def simulate(config, layers, ready=1.0, answer=1.0, take=1.0, begin=1.0, hold=0, seed=0, cycles=12000):
    """Stream the layers; both sides take the next descriptor when they can, with probability ``begin`` per cycle.

    A descriptor goes away when both sides have taken it. No tile is taken before cycle ``hold``.
    """
    rng = np.random.default_rng(seed)
    ports = config.ports
    memory = BeatMemory(rng.integers(0, 1 << 32, 8192, dtype=np.uint64).astype(np.uint32), ports, rng, ready, answer)
    clk, rst, start, cut_start, load_valid, load_diag, tile_ready, tile_take, idle, cut_done, left = (
        Signal(bool(0)) for _ in range(11)
    )
    load_data = Signal(intbv(0)[8 * config.load_rows * config.cols :])
    load_beat = Signal(intbv(0)[beat_bits(config) :])
    job, cut_job, req = job_signals(WEIGHT_JOB), job_signals(cut_fields(config)), Request(ports, urgent=True)
    expected = [(f["diagonal"], tile) for f in layers for tile in tiles(memory.words, f, config)]
    run = Run()

    def take_descriptor(side_job, fields):
        for name in vars(side_job):
            getattr(side_job, name).next = fields[name]

    @block
    def bench():
        dut = weight_loader(
            clk,
            rst,
            start,
            job,
            cut_start,
            cut_job,
            req,
            memory.rsp_valid,
            memory.rsp_data,
            load_valid,
            load_data,
            load_beat,
            load_diag,
            tile_ready,
            tile_take,
            idle,
            cut_done,
            left,
            config=config,
        )

        @instance
        def drive():
            rst.next = 1
            for _ in range(2):
                yield delay(1)
                clk.next = 1
                yield delay(1)
                clk.next = 0
            rst.next = 0
            shadow, taken = [], 0  # beats presented for the next tile
            can_fetch = can_cut = True
            for cycle in range(cycles):
                offered = min(len(run.fetches), len(run.cuts))
                start.next = can_fetch and len(run.fetches) == offered < len(layers) and rng.random() < begin
                cut_start.next = can_cut and len(run.cuts) == offered < len(layers) and rng.random() < begin
                tile_take.next = False
                yield delay(1)
                if start:
                    take_descriptor(job, layers[offered])
                    run.fetches.append(cycle)
                if cut_start:
                    take_descriptor(cut_job, layers[offered])
                    run.cuts.append(cycle)
                    run.survivors += bool(tile_ready)
                full = taken < len(expected) and len(shadow) == len(expected[taken][1])
                assert tile_ready == full
                tile_take.next = bool(full and cycle >= hold and rng.random() < take)
                yield delay(1)
                run.urgent.append((bool(req.urgent), ports * len(memory.log)))
                if tile_take:
                    taken, shadow = taken + 1, []
                    run.taken.append(cycle)
                if load_valid:
                    diagonal, tile = expected[taken]
                    assert load_beat == len(shadow) and load_diag == diagonal
                    beat = tile[len(shadow)]
                    assert int(load_data).to_bytes(len(load_data) // 8, "little")[: len(beat)] == beat
                    shadow.append(beat)
                if taken == len(expected):
                    break
                can_fetch, can_cut = bool(idle and not start), bool(cut_done and not cut_start)
                clk.next = 1
                yield delay(1)
                clk.next = 0
            assert taken == len(expected), f"{taken} of {len(expected)} tiles"
            run.cycles = cycle
            tile_take.next = False
            for _ in range(60):  # padding may still be on its way
                clk.next = 1
                yield delay(1)
                clk.next = 0
                yield delay(1)
                assert not load_valid
            assert idle and cut_done and left == tile_ready

        return dut, memory.bench(clk, req), drive

    test = bench()
    test.run_sim(quiet=1)
    test.quit_sim()
    assert run.cycles
    run.words = ports * len(memory.log)
    return run


def layer(config, rng=None, steps=None, diagonal=0, unit_weights=0, strips=(5, 2, 2), extra=0, int4=0, band=0):
    """Fields of a layer; ``strips`` is out_px, first_px, strip_px; ``extra`` beats of padding more than needed."""
    steps = steps or [int(n) for n in rng.integers(1, 4, 5)]
    size = config.diagonal if diagonal or band else config.rows * config.cols
    chunk = 4 * config.ports * (1 + int4)
    beats = -(-int(np.prod(steps)) * size // chunk) + extra
    return dict(zip(STEPS, steps)) | {
        "weight_addr": 0x20,
        "weight_addr_region": 1,
        "weight_words": 0 if unit_weights else beats * config.ports,
        "diagonal": diagonal,
        "unit_weights": unit_weights,
        "int4": int4,
        "band": band,
        "out_px": strips[0],
        "first_px": strips[1],
        "strip_px": strips[2],
    }


GEOMETRIES = [
    (1, 1, 4),
    (1, 1, 1),
    (5, 3, 1),
    (3, 5, 3),
    (4, 4, 2),
    (8, 8, 2),
    (7, 3, 4),
    (2, 9, 1),
    (5, 8, 1),
    (13, 2, 3),
    (3, 32, 2),
    (6, 11, 3),
]


@pytest.mark.parametrize("rows, cols, ports", GEOMETRIES)
def test_tiles_with_random_stalls(rows, cols, ports):
    config = Config(rows=rows, cols=cols, ports=ports, weight_bytes=256)
    rng = np.random.default_rng(rows * 100 + cols)
    layers = [
        layer(config, rng, [1, 1, 2, 1, 2], extra=1),
        layer(config, steps=[1, 2, 2, 1, 1], diagonal=1),
        layer(config, steps=[1, 1, 1, 2, 1], diagonal=1, unit_weights=1),
        layer(config, steps=[2, 1, 1, 1, 1], strips=(1, 4, 4)),
        layer(config, rng, [1, 2, 1, 1, 3], int4=1, extra=1),
        layer(config, steps=[1, 3, 1, 1, 1], diagonal=1, extra=3),
        layer(config, steps=[1, 1, 3, 1, 1], diagonal=1, int4=1),
        layer(config, steps=[1, 3, 2, 1, 1], band=1, int4=rows % 2, extra=1),
        layer(config, steps=[1, 1, 1, 1, 1], int4=1),
        layer(config, steps=[1, 2, 3, 1, 1], band=2, int4=cols % 2, strips=(1, 4, 4)),
    ]
    simulate(config, layers, ready=0.7, answer=0.7, take=0.5, begin=0.3, seed=rows)


@pytest.mark.parametrize("option, field", [("int4_weights", "int4"), ("banded", "band")])
def test_without(option, field):
    """Weights of 4 bits, or banded tiles."""
    config = Config(rows=4, cols=3, ports=2, weight_bytes=256, **{option: False})
    assert not hasattr(job_signals(cut_fields(config)), field)
    layers = [layer(config, steps=[1, 2, 1, 1, 2], extra=1)]
    if config.banded:
        layers.append(layer(config, steps=[1, 3, 2, 1, 1], band=2))
    simulate(config, layers, ready=0.7, answer=0.7, take=0.5)


@pytest.mark.parametrize("rows, cols, ports", [(8, 8, 2), (4, 4, 1), (5, 3, 4)])
def test_banded_tiles_come_as_fast_as_the_array_takes_them(rows, cols, ports):
    """Where memory gives D bytes in as many cycles: a beat of weights in every cycle."""
    config = Config(rows=rows, cols=cols, ports=ports)
    f = layer(config, steps=[1, 40, 3, 1, 1], strips=(1, 1, 1), band=1)
    beats = -(-rows // config.load_rows)
    assert config.diagonal <= 4 * ports * beats
    assert simulate(config, [f]).cycles < 120 * max(beats, config.diagonal / (4 * ports)) + 40


@pytest.mark.parametrize("rows, cols, ports", GEOMETRIES)
def test_next_layer_is_fetched_while_tiles_are_still_cut(rows, cols, ports):
    config = Config(rows=rows, cols=cols, ports=ports, weight_bytes=1024)
    once = (1, 1, 1)
    run = simulate(
        config,
        [
            layer(config, steps=[1, 2, 1, 1, 1], strips=once),
            layer(config, steps=[1, 1, 2, 1, 1], strips=once, diagonal=1, extra=1),
            layer(config, steps=[1, 1, 1, 2, 1], strips=once),
        ],
        take=0.05,
        hold=300,
    )
    assert run.fetches[1] < 100 and run.fetches[2] > 300  # two layers ahead of the cutting side is not possible
    assert all(fetch < cut for fetch, cut in zip(run.fetches[1:], run.cuts[1:]))
    assert run.survivors  # a tile that nobody has taken yet outlives the start of the next layer


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rows, cols, ports", [(4, 4, 2), (7, 3, 4), (5, 8, 1), (6, 11, 3), (3, 32, 2), (16, 4, 1)])
def test_weights_that_fit_cross_the_bus_once(rows, cols, ports, seed):
    """Layers of all sizes around the buffer's, one behind the other; each must also give the right tiles."""
    config = Config(rows=rows, cols=cols, ports=ports, weight_bytes=1024)
    rng = np.random.default_rng(seed)
    layers, least, most = [], 0, 0
    for _ in range(6):
        n = max(1, int(rng.choice([100, 500, 1024, 1300])) // (rows * cols))
        strip = int(rng.integers(1, 4))
        strips = int(rng.integers(1, 9)), int(rng.integers(1, strip + 1)), strip
        f = layer(config, steps=[1, n, 1, 1, 1], strips=strips)
        layers.append(f)
        # A buffer row is a whole number of beats and their count a power of two: at least half the bytes are usable
        least += f["weight_words"] * (passes(f) if 4 * f["weight_words"] > 1024 else 1)
        most += f["weight_words"] * (passes(f) if 4 * f["weight_words"] > 512 else 1)
    run = simulate(config, layers, ready=0.8, answer=0.8, take=0.8, begin=0.5, seed=seed)
    assert least <= run.words <= most
    if config.load_rows * cols % (4 * ports) == 0 and (4 * ports) & (4 * ports - 1) == 0:
        assert run.words == least


@pytest.mark.parametrize("rows, cols, ports", GEOMETRIES)
def test_the_array_takes_what_a_full_buffer_gives(rows, cols, ports):
    """With the buffer full, tiles are presented without a bubble: tile_take and the next first beat coincide. A row of
    the buffer is as wide as the bus: a beat may need two rows of INT8 weights where it needs one of INT4."""
    config = Config(rows=rows, cols=cols, ports=ports, weight_bytes=1024)
    n = max(1, 512 // (rows * cols))
    for int4 in (0, 1):
        f = layer(config, steps=[1, n, 1, 1, 1], strips=(1, 1, 1), int4=int4)
        cycles = simulate(config, [f], hold=1200).cycles
        tile = max(-(-rows // config.load_rows), rows * cols / weight_buffer(config).row / (1 + int4))
        assert cycles - 1200 <= math.ceil(n * tile) + 1, int4


@pytest.mark.parametrize("rows, cols, ports", [(8, 8, 2), (4, 4, 1), (8, 4, 4), (5, 3, 1)])
def test_weights_are_urgent_while_few_are_there(rows, cols, ports):
    """From the start on, not while the buffer is full, and again before the tiles in it, at least two, are used up."""
    config = Config(rows=rows, cols=cols, ports=ports, weight_bytes=2048)
    tile = rows * cols
    run = simulate(config, [layer(config, steps=[1, 2048 // tile - 4, 1, 1, 1], strips=(1, 1, 1))], hold=1300)
    urgent = [now for now, _ in run.urgent]
    assert all(urgent[:10]) and not any(urgent[1000:1300])
    assert 4 * next(words for now, words in run.urgent[10:] if not now) <= 1024 + 16 * ports
    again = urgent.index(True, 1300)
    left = len(run.taken) - sum(cycle <= again for cycle in run.taken)
    assert left >= 2 and left * tile <= 1024 and all(urgent[again:])


@pytest.mark.parametrize("rows, cols, ports", [(8, 8, 2), (4, 3, 1), (8, 32, 1), (7, 5, 3), (16, 4, 4)])
def test_rate_from_memory(rows, cols, ports):
    config = Config(rows=rows, cols=cols, ports=ports)
    n = max(2, 6000 // (rows * cols))
    f = layer(config, steps=[1, n, 1, 1, 1], strips=(2, 1, 1))
    cycles = simulate(config, [f]).cycles
    bound = 2 * max(f["weight_words"] // ports, n * -(-rows // config.load_rows))
    print(f"R={rows} C={cols} P={ports}: {2 * f['weight_words']} words in {cycles} cycles, bound {bound}")
    assert cycles < 1.02 * bound + 40

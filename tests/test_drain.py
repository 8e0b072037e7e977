# SPDX-License-Identifier: Apache-2.0
"""Drain, aux reader and their walker against the loops of the descriptor, with stalls on all sides."""

from types import SimpleNamespace

import numpy as np
import pytest
from cycle_bench import bus, chance, flag, preset, replay, seeded, simulate
from fp32_reference import random_bits

from hls.arithmetic.accumulator import EntryRead, EntryWrite
from hls.arithmetic.epilogue import epilogue_model
from hls.arithmetic.function import FUNCTION_LATENCY, TableWrite
from hls.arithmetic.function_tables import function_words
from hls.config import Config
from hls.descriptor.drain.aux_reader import aux_job, aux_reader
from hls.descriptor.drain.drain import drain, drain_job
from hls.descriptor.drain.walker import Beat, output_walker, walk_job
from hls.descriptor.interface.job import job_signals
from hls.descriptor.interface.table import LINEAR
from hls.descriptor.interface.timing import AUX_BEATS, table_beat, table_beats
from hls.descriptor.memory.arbiter import Request
from hls.lib.fifo import Stream

GEOMETRIES = [(1, 1, 1), (3, 2, 4), (4, 8, 2), (2, 5, 3), (6, 7, 1), (5, 4, 4), (3, 8, 3)]


def random_layer(rng, config):
    """Descriptor fields of one layer's output side."""
    diagonal = chance(rng, 0.4)
    band = rng.randint(1, 2) if not diagonal and chance(rng, 0.4) else 0
    block = config.diagonal if diagonal else config.cols
    ncb = rng.randint(1, 3)
    cbg = rng.randint(1, 3)
    strip = rng.randint(1, config.accumulator_entries // cbg)
    strip = min(strip, rng.randint(1, 6))
    fields = {
        "diagonal": diagonal,
        "band": band,
        "ncb": ncb,
        "cbg": cbg,
        "cout": rng.randint(1, block) if band else rng.randint((ncb - 1) * block + 1, ncb * block),
        "groups": 1 if diagonal else rng.randint(1, 2),
        "out_w": rng.randint(1, 5),
        "out_px": rng.randint(1, 9),
        "strip_px": strip,
        "first_px": rng.randint(1, strip),
        "acc_init": 0,
        "halves": 2 * strip * cbg <= config.accumulator_entries and chance(rng, 0.7),
        "packed_scales": config.packed_scales and not band and chance(rng, 0.5),
    }
    for side in ("store", "aux"):
        fields[f"{side}_addr"] = 4 * rng.randrange(1 << 28)
        fields[f"{side}_addr_region"] = rng.randrange(4)
        for step in ("c_stride", "x_stride", "y_stride", "cb_step", "g_step"):
            fields[f"{side}_{step}"] = rng.choice([0, 1, -1, rng.randrange(-1 << 31, 1 << 31), rng.randint(-99, 99)])
    fields["mark_words"], fields["mark_blocks"] = rng.randrange(1 << LINEAR), rng.randint(0, 1)
    return fields


def beats(f, config, side, bank=0):
    """What the walker emits: (addr, count, row, bank, entry, block_last, bank_last, mark), from the descriptor.

    The first bank is ``bank``, by memory and half.
    """
    block = config.diagonal if f["diagonal"] else config.cols
    start, length = 0, f["first_px"]
    while start < f["out_px"]:
        pixels = range(start, min(start + length, f["out_px"]))
        for g in range(f["groups"]):
            for first_cb in range(0, f["ncb"], f["cbg"]):
                blocks = range(first_cb, min(first_cb + f["cbg"], f["ncb"]))
                for cb in blocks:
                    channels = f["cout"] if f["band"] else min(block, f["cout"] - cb * block)
                    for px in pixels:
                        oy, ox = divmod(px, f["out_w"])
                        for j in range(0, channels, config.ports):
                            word = (
                                oy * f[f"{side}_y_stride"]
                                + ox * f[f"{side}_x_stride"]
                                + g * f[f"{side}_g_step"]
                                + cb * f[f"{side}_cb_step"]
                                + j * f[f"{side}_c_stride"]
                            )
                            entry = (cb - first_cb) * len(pixels) + px - start
                            entry += f["halves"] * (bank >> 1) * config.accumulator_entries // 2
                            pixel_last = j + config.ports >= channels
                            block_last = px == pixels[-1] and pixel_last
                            last = g == f["groups"] - 1 and cb == f["ncb"] - 1
                            mark = pixel_last and (last or f["mark_blocks"])
                            yield (
                                (f[f"{side}_addr"] + 4 * word) % (1 << 32),
                                min(config.ports, channels - j),
                                j // config.ports,
                                bank & 1,
                                entry,
                                block_last,
                                block_last and cb == blocks[-1],
                                mark,
                            )
                bank = (bank + 1) % 4
        start, length = start + length, f["strip_px"]
    return bank


def make_config(geometry):
    rows, cols, ports = geometry
    return Config(rows=rows, cols=cols, ports=ports, accumulator_entries=16)


def words(value, count):
    return [value >> 32 * i & 0xFFFFFFFF for i in range(count)]


def pack(values):
    return sum(int(v) << 32 * i for i, v in enumerate(values))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("seed", range(2))
def test_walker_follows_the_loops_from_layer_to_layer(geometry, seed):
    """Banks alternate and go on; a layer with ACC_INIT starts at bank 0."""
    rng, config = seeded(geometry, seed), make_config(geometry)
    layers = [random_layer(rng, config) for _ in range(6)]
    layers[3] |= {"acc_init": 1, "halves": 0}
    job = job_signals(drain_job(config))
    clk, rst, start, ready, walking, beat = flag(), flag(), flag(), flag(), flag(), Beat(config)
    unit = output_walker(clk, rst, start, walk_job(job, "store", config), beat, ready, walking, config=config)
    got, expected, bank, waiting = [], [], 0, list(layers)

    def kept(loops):
        nonlocal bank
        bank = yield from loops

    for f in layers:
        expected += kept(beats(f, config, "store", 0 if f["acc_init"] else bank))

    def drive(cycle):
        rst.next = cycle == 0
        start.next = go = cycle > 1 and bool(waiting) and not walking and not start
        for name, value in waiting.pop(0).items() if go else ():
            if hasattr(job, name):
                getattr(job, name).next = value
        ready.next = chance(rng, 0.6)

    def observe(cycle):
        if beat.valid and ready:
            got.append(
                (
                    int(beat.addr),
                    int(beat.count),
                    int(beat.row),
                    int(beat.bank),
                    int(beat.entry),
                    bool(beat.block_last),
                    bool(beat.bank_last),
                    bool(beat.mark),
                )
            )
        return cycle > 2 and not waiting and not walking and not start

    simulate(unit, clk, drive, observe, 8000)
    assert got == expected


class DrainBench:
    """`drain` with accumulators, parameter stream, residual stream and arbiter around it."""

    def __init__(self, config, rng, pace, fields):
        self.config, self.rng, self.pace = config, rng, pace
        ports, cols = config.ports, config.cols
        self.fields = f = fields
        self.beats = list(beats(f, config, "store"))
        self.job = job_signals(drain_job(config))
        preset(self.job, {n: v for n, v in f.items() if hasattr(self.job, n)})
        self.clk, self.rst, self.start, self.bank_done, self.bank_free = (flag() for _ in range(5))
        self.entry, self.param, self.aux = (
            EntryRead(cols, config.accumulator_entries),
            *(Stream(32 * ports) for _ in range(2)),
        )
        self.done, self.left = flag(), flag()
        self.req, self.mark_returned, self.available = Request(ports, data=True, mark=True), flag(), bus(LINEAR)
        self.words = function_words(f["name"]) if f["function"] else np.zeros(0, np.uint32)
        self.table, self.table_ready, self.pair_at = TableWrite(), flag(), 0
        self.marks, self.answered = [], 0
        self.unit = drain(
            self.clk,
            self.rst,
            self.start,
            self.job,
            self.bank_done,
            self.bank_free,
            self.entry,
            self.param,
            self.aux,
            self.table,
            self.table_ready,
            self.req,
            self.mark_returned,
            self.available,
            self.done,
            self.left,
            config=config,
        )
        self.entries = [self.values(16 * cols).reshape(16, cols) for _ in range(sum(b[6] for b in self.beats))]
        self.params = self.parameter_beats()
        self.residuals = [self.values(ports) for _ in self.beats]
        self.stored, self.filled, self.freed, self.param_at, self.aux_at = [], 0, 0, 0, 0
        self.read = 0
        self.cycles = None

    def values(self, count):
        return random_bits(np.random.default_rng(self.rng.randrange(1 << 30)), count)

    def parameter_beats(self):
        block = self.config.diagonal if self.fields["diagonal"] else self.config.cols
        rows = 1 if self.fields["band"] else -(-block // self.config.ports)
        beats = rows + (-(-rows // 2) if self.fields["packed_scales"] else rows)
        return [self.values(self.config.ports) for b in self.beats if b[5] for _ in range(beats)]

    def parameter_rows(self, params, rows):
        """(scales, biases) of the rows of a channel block, from a stream."""
        for row in range(rows):
            if not self.fields["packed_scales"]:
                yield next(params), next(params)
                continue
            if row % 2 == 0:
                both = next(params)
            yield (both & 0xFFFF0000 if row % 2 == 0 else both << 16), next(params)

    def drive(self, cycle):
        rng, pace = self.rng, self.pace
        self.rst.next = cycle == 0
        self.start.next = cycle == 2
        running = cycle > 3
        most = 4 if self.fields["halves"] else 2
        self.bank_done.next = done = (
            running and self.filled < len(self.entries) and self.filled - self.freed < most and chance(rng, pace)
        )
        self.filled += done
        self.entry.data.next = self.read
        self.param.valid.next = valid = (
            running and not self.fields["uniform"] and self.param_at < len(self.params) and chance(rng, pace)
        )
        self.param.data.next = pack(self.params[self.param_at]) if valid else 0
        self.aux.valid.next = valid = (
            running and self.fields["residual"] and self.aux_at < len(self.residuals) and chance(rng, pace)
        )
        self.aux.data.next = pack(self.residuals[self.aux_at]) if valid else 0
        self.table.valid.next = valid = running and self.pair_at < len(self.words) // 2
        self.table.pair.next = self.pair_at if valid else 0
        self.table.data.next = pack(self.words[2 * self.pair_at :][:2]) if valid else 0
        self.pair_at += valid
        self.table_ready.next = self.pair_at == len(self.words) // 2
        self.req.ready.next = chance(rng, pace)
        self.mark_returned.next = returned = self.answered < sum(self.marks) and chance(rng, pace)
        self.answered += returned

    def observe(self, cycle):
        bank = self.freed if self.freed % 2 == self.entry.bank else self.freed + 1
        usable = bank < self.filled and (bank < self.filled - 1 or not self.bank_done)
        if self.entry.valid:
            self.read = pack(self.entries[bank][int(self.entry.addr)]) if usable else 0x7FC00001
        self.freed += bool(self.bank_free)
        self.param_at += bool(self.param.take)
        assert not self.param.take or self.param.valid
        assert not self.aux.take or self.aux.valid
        assert self.table_ready or not self.freed
        self.aux_at += bool(self.aux.take)
        if self.req.valid and self.req.ready:
            assert int(self.req.stride) == self.fields["store_c_stride"]
            assert int(self.req.region) == self.fields["store_addr_region"]
            count = int(self.req.count)
            self.stored.append((int(self.req.addr), count, words(int(self.req.data), count)))
            self.marks.append(bool(self.req.mark))
        if cycle > 3:
            returned = self.answered - bool(self.mark_returned)
            assert self.available == returned * self.fields["mark_words"] % (1 << LINEAR)
        if cycle == 3:
            assert not self.done
        return cycle > 3 and bool(self.done)

    def expected(self):
        f, ports = self.fields, self.config.ports
        block = self.config.diagonal if f["diagonal"] else self.config.cols
        rows = -(-block // ports)
        params = iter(self.params)
        bank, table, fresh = 0, None, True
        for at, (addr, count, row, _, entry, block_last, bank_last, _) in enumerate(self.beats):
            if fresh and not f["uniform"]:
                table = (
                    list(self.parameter_rows(params, 1)) * rows
                    if f["band"]
                    else list(self.parameter_rows(params, rows))
                )
            fresh = block_last
            acc = self.entries[bank][entry][row * ports : row * ports + count]
            scale, bias = (f["scale"], f["bias"]) if f["uniform"] else (part[:count] for part in table[row])
            y = epilogue_model(
                acc,
                np.asarray(scale, np.uint32),
                np.asarray(bias, np.uint32),
                self.residuals[at][:count] if f["residual"] else None,
                f["act_first"],
                np.uint32(f["slope"]) if f["slope_en"] else None,
                np.uint32(f["low"]),
                np.uint32(f["high"]),
                "negative" if f["negative"] else "multiply" if f["multiply"] else "add",
                self.words if f["function"] else None,
            )
            yield addr, count, [int(v) for v in np.broadcast_to(y, count)]
            bank += bank_last


def epilogue_fields(rng):
    bits = random_bits(np.random.default_rng(rng.randrange(1 << 30)), 3)
    residual = chance(rng, 0.5)
    multiply = residual and chance(rng, 0.6)
    return {
        "uniform": chance(rng, 0.4),
        "residual": residual,
        "multiply": multiply,
        "negative": multiply and chance(rng, 0.5),
        "function": chance(rng, 0.5),
        "table_slot": chance(rng, 0.5),
        "name": rng.choice(["elu", "tanh"]),
        "act_first": chance(rng, 0.5),
        "slope_en": not multiply and chance(rng, 0.5),
        "scale": int(bits[0]),
        "bias": int(bits[1]),
        "slope": int(bits[2]),
        "low": rng.choice([0, 0xFF800000]),
        "high": rng.choice([0x40C00000, 0x7F800000]),
    }


@pytest.mark.parametrize(("geometry", "pace"), [(g, (0.5, 0.9)[i % 2]) for i, g in enumerate(GEOMETRIES)])
def test_drain_stores_the_epilogue_of_every_entry(geometry, pace, with_waves):
    def run(vcd=None):
        rng, config = seeded(geometry, pace), make_config(geometry)
        bench = DrainBench(config, rng, pace, random_layer(rng, config) | epilogue_fields(rng))
        simulate(bench.unit, bench.clk, bench.drive, bench.observe, 6000, vcd)
        assert bench.stored == list(bench.expected())
        assert bench.param_at == (0 if bench.fields["uniform"] else len(bench.params))
        assert bench.aux_at == (len(bench.residuals) if bench.fields["residual"] else 0)
        assert bench.freed == len(bench.entries) and not bench.left
        assert bench.marks == [mark for *_, mark in bench.beats]

    with_waves(run)


def full_layer(config, **changes):
    """A layer that keeps a full-rate drain busy: two strips of 16 pixels."""
    f = random_layer(seeded("full"), config) | epilogue_fields(seeded("full"))
    return (
        f
        | {
            "diagonal": 0,
            "ncb": 1,
            "cbg": 1,
            "cout": config.cols,
            "groups": 1,
            "out_px": 32,
            "strip_px": 16,
            "first_px": 16,
            "uniform": 0,
            "residual": 1,
            "function": 0,
        }
        | changes
    )


@pytest.mark.parametrize("function", [0, 1])
def test_drain_stores_a_beat_per_cycle(function):
    """Once the table is there."""
    config = make_config((4, 4, 2))
    bench = DrainBench(config, seeded("rate"), 1.0, full_layer(config, function=function))
    seen = simulate(bench.unit, bench.clk, bench.drive, bench.observe, 400)
    assert bench.stored == list(bench.expected())
    assert len(bench.beats) == 64
    assert len(seen) <= 64 + 30 + function * FUNCTION_LATENCY + len(bench.words) // 2


def test_drain_waits_for_a_bus_that_takes_nothing():
    config = make_config((4, 4, 1))
    bench = DrainBench(config, seeded("blocked"), 1.0, full_layer(config))

    def drive(cycle):
        bench.drive(cycle)
        bench.req.ready.next = cycle > 150

    simulate(bench.unit, bench.clk, drive, bench.observe, 600)
    assert bench.stored == list(bench.expected())


def test_drain_starts_again_after_a_reset_in_the_middle():
    config = make_config((3, 4, 2))
    bench = DrainBench(config, seeded("reset"), 1.0, full_layer(config, out_px=16))
    stop = 22

    def drive(cycle):
        if cycle < stop:
            bench.drive(cycle)
        elif cycle == stop:
            bench.rst.next = True
            bench.stored, bench.filled, bench.freed, bench.param_at, bench.aux_at = [], 0, 0, 0, 0
            bench.marks, bench.answered = [], 0
        else:
            bench.drive(cycle - stop)

    def observe(cycle):
        if cycle == stop:
            return False
        finished = bench.observe(cycle if cycle < stop else cycle - stop)
        return finished and cycle > stop

    simulate(bench.unit, bench.clk, drive, observe, 400)
    assert bench.stored == list(bench.expected())


class AuxBench:
    """`aux_reader` with a memory that answers in order, and accumulator banks that free up at random."""

    def __init__(self, config, rng, pace, fields):
        self.config, self.rng, self.pace, self.fields = config, rng, pace, fields
        ports = config.ports
        self.beats = list(beats(fields, config, "aux"))
        self.job = job_signals(aux_job(config))
        preset(self.job, {n: v for n, v in fields.items() if hasattr(self.job, n)})
        self.clk, self.rst, self.start, self.rsp_valid, self.bank_free, self.bank_ready = (flag() for _ in range(6))
        self.rsp_data, self.aux = bus(32 * ports), Stream(32 * ports)
        self.init = EntryWrite(config.cols, config.accumulator_entries)
        self.req, self.table, self.table_ready = Request(ports), TableWrite(), flag()
        self.unit = aux_reader(
            self.clk,
            self.rst,
            self.start,
            self.job,
            self.req,
            self.rsp_valid,
            self.rsp_data,
            self.bank_free,
            self.init,
            self.bank_ready,
            self.aux,
            self.table,
            self.table_ready,
            config=config,
        )
        self.data = [random_bits(np.random.default_rng(i), ports) for i in range(len(self.beats))]
        self.table_asks, self.table_data, self.pairs = [], [], []
        if fields["load_table"]:
            step = table_beat(config)
            self.table_asks = [(fields["table_addr"] + 4 * i, step) for i in range(0, 8 * fields["table_rows"], step)]
            assert table_beats(SimpleNamespace(**fields), config) == len(self.table_asks)
            self.table_data = [random_bits(np.random.default_rng(~i & 255), ports) for i in range(len(self.table_asks))]
        self.asked, self.answered, self.taken, self.writes, self.readies, self.frees = [], 0, [], [], 0, 0

    def drive(self, cycle):
        rng, pace = self.rng, self.pace
        self.rst.next = cycle == 0
        self.start.next = cycle == 2
        self.req.ready.next = chance(rng, pace)
        self.rsp_valid.next = answer = self.answered < len(self.asked) and chance(rng, pace)
        self.rsp_data.next = pack([*self.table_data, *self.data][self.answered]) if answer else 0
        self.answered += answer
        self.bank_free.next = free = self.frees < self.readies and chance(rng, pace / 4)
        self.frees += free
        self.aux.take.next = False
        self.want = chance(rng, pace)

    def observe(self, cycle):
        f, loads = self.fields, len(self.table_asks)
        if self.req.valid and self.req.ready:
            of_table = len(self.asked) < loads
            self.asked.append((int(self.req.addr), int(self.req.count)))
            assert int(self.req.stride) == (1 if of_table else f["aux_c_stride"])
            assert int(self.req.region) == f["table_addr_region" if of_table else "aux_addr_region"]
            assert of_table or self.answered >= loads
        used = len(self.taken) if f["residual"] else len(self.writes)
        assert len(self.asked) - loads - used <= AUX_BEATS
        if self.table.valid:
            self.pairs.append((int(self.table.pair), words(int(self.table.data), 2)))
        if cycle > 2:
            assert self.table_ready == (self.answered - bool(self.rsp_valid) >= loads)
        if self.init.valid:
            assert self.readies < self.frees + 2 - bool(self.bank_free)
            data = words(int(self.init.data), self.config.cols)
            self.writes.append(
                (
                    int(self.init.bank),
                    int(self.init.addr),
                    {c: data[c] for c in range(self.config.cols) if self.init.valid[c]},
                )
            )
        self.readies += bool(self.bank_ready)
        return False

    def wanted_writes(self):
        for (_, count, row, bank, entry, *_), data in zip(self.beats, self.data, strict=True):
            first = row * self.config.ports
            yield bank, entry, {first + i: int(data[i]) for i in range(count)}

    def wanted_pairs(self):
        values = [int(v) for data in self.table_data for v in data[: table_beat(self.config)]]
        return [(i, values[2 * i : 2 * i + 2]) for i in range(len(values) // 2)]


def aux_fields(rng, config, mode):
    table = {"load_table": chance(rng, 0.6), "table_rows": rng.randint(1, 6), "table_addr_region": rng.randrange(3)}
    table["table_addr"] = 4 * rng.randrange(1 << 28)
    return random_layer(rng, config) | table | {"residual": mode == "residual", "acc_init": mode == "acc_init"}


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("mode", ["residual", "acc_init", "neither"])
def test_aux_reader(geometry, mode):
    rng, config = seeded(geometry, mode), make_config(geometry)
    fields = aux_fields(rng, config, mode)
    bench = AuxBench(config, rng, rng.choice([0.5, 0.95]), fields)
    quiet = 0

    def drive(cycle):
        bench.drive(cycle)
        if bench.aux.valid and bench.want and bench.pending_take:
            bench.aux.take.next = True

    def observe(cycle):
        nonlocal quiet
        bench.observe(cycle)
        if bench.aux.take:
            bench.taken.append(words(int(bench.aux.data), config.ports))
        # aux.valid only falls by a take, so next cycle's take may be decided now
        bench.pending_take = len(bench.taken) < len(bench.beats) and bool(bench.aux.valid) and not bench.aux.take
        complete = {"residual": len(bench.taken), "acc_init": len(bench.writes), "neither": len(bench.beats)}[mode]
        complete += len(bench.pairs) - len(bench.wanted_pairs())
        quiet = quiet + 1 if complete == len(bench.beats) else 0
        return quiet > 20

    bench.pending_take = False
    simulate(bench.unit, bench.clk, drive, observe, 6000)
    assert bench.pairs == bench.wanted_pairs()
    if mode == "neither":
        assert bench.asked == bench.table_asks and not bench.writes and not bench.taken
        return
    assert bench.asked == bench.table_asks + [b[:2] for b in bench.beats]
    if mode == "residual":
        assert bench.taken == [[int(v) for v in data] for data in bench.data] and not bench.writes
    else:
        assert bench.writes == list(bench.wanted_writes())
        assert bench.readies == sum(b[6] for b in bench.beats)


@pytest.mark.parametrize(
    "geometry",
    [(3, 5, 2), pytest.param((2, 3, 4), marks=pytest.mark.slow), pytest.param((1, 1, 1), marks=pytest.mark.slow)],
)
def test_drain_verilog_does_the_same(geometry, tmp_path):
    rng, config = seeded("verilog", geometry), make_config(geometry)
    bench = DrainBench(config, rng, 0.7, random_layer(rng, config) | epilogue_fields(rng))
    replay(bench.unit, simulate(bench.unit, bench.clk, bench.drive, bench.observe, 6000), tmp_path)


@pytest.mark.parametrize("mode", ["acc_init", pytest.param("residual", marks=pytest.mark.slow)])
def test_aux_verilog_does_the_same(mode, tmp_path):
    rng, config = seeded("verilog", mode), make_config((3, 5, 3))
    fields = aux_fields(rng, config, mode) | {"load_table": 1}
    bench = AuxBench(config, rng, 0.7, fields)
    seen = simulate(bench.unit, bench.clk, bench.drive, lambda cycle: bench.observe(cycle) or cycle == 400, 500)
    replay(bench.unit, seen, tmp_path)

# SPDX-License-Identifier: Apache-2.0
"""Sequencer against the loops of its descriptor, written as Python loops; random layers in a row, random stalls."""

from types import SimpleNamespace

import numpy as np
import pytest
from cycle_bench import preset, simulate
from myhdl import Signal, block, delay, instance, intbv

from hls.arithmetic.accumulator import ACC_LATENCY
from hls.config import Config
from hls.descriptor.control.sequencer import sequencer, sequencer_job
from hls.descriptor.interface.job import job_signals
from hls.descriptor.memory.activation_buffer import rows_apart
from tests.layers import random_geometry, random_halves


def vectors(f, config, bank=0):
    """The issued vectors in order: (linear words by lane or None), end of the words that must be there, entry, bank,
    first, last, swap.

    Banks are numbered by memory and half; the first one is ``bank``, or 0 with ACC_INIT.
    """
    strips, done = [], 0
    while done < f["out_px"]:
        size = min(f["strip_px"] if done else f["first_px"], f["out_px"] - done)
        strips.append(range(done, done + size))
        done += size
    bank = 0 if f["acc_init"] else bank
    for strip in strips:
        for g in range(f["groups"]):
            for cb0 in range(0, f["ncb"], f["cbg"]):
                blocks = range(cb0, min(cb0 + f["cbg"], f["ncb"]))
                steps = [(ky, kx, kb) for ky in range(f["kh"]) for kx in range(f["kx"]) for kb in range(f["kb"])]
                for step in steps:
                    ky, kx, kb = step
                    for cb in blocks:
                        offset = cb * config.diagonal if f["diagonal"] else cb if f["band"] else kb * config.rows
                        for px in strip:
                            oy, ox = divmod(px, f["out_w"])
                            p = f["x0"] + ox * f["sx_words"] + kx * f["kx_step"] + g * f["group_in_step"] + offset
                            row = f["row0"] + oy * f["sy_words"] + ky * f["ky_step"]
                            iy = f["y0"] + oy * f["stride_y"] + ky * f["dil_y"]
                            low, high = max(0, -p), min(f["in_row"] - p, f["run"] - offset)
                            if f["band"]:
                                low = f["first_lane"] if ox == 0 else 0
                                high = f["last_lanes"] if ox == f["out_w"] - 1 else f["run"]
                            apart = f["kx_step"] if f["band"] else 1
                            lanes = tuple(
                                row + p + i * apart if 0 <= iy < f["in_h"] and low <= i < high else None
                                for i in range(config.rows)
                            )
                            entry = (cb - cb0) * len(strip) + px - strip[0]
                            entry += f["halves"] * (bank >> 1) * config.accumulator_entries // 2
                            last = step == steps[-1] and cb == blocks[-1] and px == strip[-1]
                            end = max((x + 1 for x in lanes if x is not None), default=0)
                            if end and f["band"]:
                                end = row + f["in_row"]
                            first = step == steps[0] and not f["acc_init"]
                            yield lanes, end, entry, bank & 1, first, last, px == strip[0]
                bank = (bank + 1) % 4
    return bank


def words_read(config, address, apart):
    """Words of the buffer that the lanes get, by their banks and rows."""
    rows, bank = config.activation_words // config.banks, address % config.banks
    first = address // config.banks + bank * apart
    places = [divmod(bank + i, config.banks) for i in range(config.rows)]
    return [(first + carry + i * apart) % rows * config.banks + b for i, (carry, b) in enumerate(places)]


@pytest.mark.parametrize("seed", range(24))
def test_issues_the_descriptors_loops_layer_after_layer(seed):
    """Words and banks go on from layer to layer; a layer with ACC_INIT starts at bank 0, when all is drained. Groups
    that are not drained yet share no entries, and nothing is read where one of them may be."""
    rng = np.random.default_rng(seed)
    rows, cols = (int(x) for x in rng.integers(1, 7, 2))
    config = Config(rows=rows, cols=cols, ports=1, activation_words=256, accumulator_entries=16)
    layers = [random_geometry(rng, config) | {"acc_init": int(rng.random() < 0.25)} for _ in range(4)]
    expected, bank = [], 0
    for f in layers:
        f["halves"] = random_halves(rng, f, config)

    def kept(loops):
        nonlocal bank
        bank = yield from loops

    for f in layers:
        expected.append(list(kept(vectors(f, config, bank))))
    fields_read, apart = sequencer_job(config), rows_apart(config)
    job = job_signals(fields_read)
    bits = [Signal(bool(0)) for _ in range(15)]
    (
        clk,
        rst,
        start,
        tile_ready,
        bank_free,
        bank_ready,
        busy,
        issue,
        tile_take,
        acc_bank,
        acc_first,
        acc_last,
        acc_many,
        load_stall,
        store_stall,
    ) = bits
    loaded, released, rd_addr = (Signal(intbv(0)[n:]) for n in (24, 24, 8))
    lane_lo, lane_hi = (Signal(intbv(0)[rows.bit_length() :]) for _ in range(2))
    acc_entry = Signal(intbv(0)[4:])
    got = [[] for _ in layers]

    @block
    def bench():
        dut = sequencer(
            clk,
            rst,
            start,
            job,
            loaded,
            tile_ready,
            bank_free,
            bank_ready,
            released,
            busy,
            issue,
            tile_take,
            rd_addr,
            apart,
            lane_lo,
            lane_hi,
            acc_entry,
            acc_bank,
            acc_first,
            acc_last,
            acc_many,
            load_stall,
            store_stall,
            config=config,
        )

        def tick():
            clk.next = 1
            yield delay(1)
            clk.next = 0

        @instance
        def drive():
            rst.next = 1
            for _ in range(2):
                yield delay(1)
                yield from tick()
            rst.next = 0
            base, drains, cycle, initialised = 0, [], 0, False
            banks, halved, step = [], [0, 0], 0  # of groups that are not drained; HALVES of the last two
            for fields, wanted, have in zip(layers, expected, got, strict=True):
                acc_init = fields["acc_init"]
                while (acc_init or initialised) and drains:
                    yield delay(1)
                    cycle += 1
                    bank_free.next = free = bool(drains and drains[0] <= cycle)
                    drains, banks = drains[free:], banks[free:]
                    yield from tick()
                bank_free.next = False
                inits, last_use, initialised = 2 if acc_init else 0, {}, acc_init
                for name in fields_read.split():
                    getattr(job, name).next = fields[name]
                start.next = 1
                present = int(loaded)
                began = cycle
                while len(have) < len(wanted) and cycle < began + 40000:
                    yield delay(1)
                    assert released <= base + fields["load_words"], "words of the next layer released"
                    if load_stall:
                        _, end, *_, swap = wanted[len(have)]
                        assert base + end > present or (swap and not tile_ready), "nothing is missing"
                    if store_stall and not acc_init:
                        _, _, entry, _, first, *_ = wanted[len(have)]
                        begins = first and not step
                        most = 4 if begins and fields["halves"] and halved[0] else 2
                        assert len(drains) + bool(bank_free) >= most, "a bank is free"
                    if issue:
                        key = (int(acc_entry), int(acc_bank))
                        if not acc_first and not (acc_init and key not in last_use):
                            assert cycle - last_use[key] >= ACC_LATENCY
                        last_use[key] = cycle
                        group = (int(acc_bank), *([int(acc_entry) // 8] if fields["halves"] else []))
                        if acc_first and not step:
                            assert all(b[: len(group)] != group[: len(b)] for b in banks), "entries are used already"
                            banks.append(group)
                            halved = [halved[1], fields["halves"]]
                        assert acc_first or all(b[0] != group[0] for b in banks[:-1]), "reads while another is drained"
                        step = 0 if acc_last else step + 1
                        have.append(
                            (
                                int(lane_lo),
                                int(lane_hi),
                                words_read(config, int(rd_addr), int(apart or 0)),
                                int(acc_entry),
                                int(acc_bank),
                                bool(acc_first),
                                bool(acc_last),
                                bool(tile_take),
                            )
                        )
                        lanes, end, *_ = wanted[len(have) - 1]
                        needed = [x for x in lanes if x is not None]
                        if needed:
                            assert base + end <= present, "issued before its words were loaded"
                            assert base + min(needed) >= released, "released too early"
                            assert lane_hi - lane_lo == len(needed)
                        assert tile_ready or not tile_take
                        if acc_last:
                            drains.append(max([cycle + int(rng.integers(5, 40)), *(d + 1 for d in drains)]))
                            last_use = {k: v for k, v in last_use.items() if k[1] != int(acc_bank)}
                            entries = int(acc_entry) % (8 if fields["halves"] else 16) + 1
                            assert acc_many == (entries >= ACC_LATENCY)
                    yield from tick()
                    start.next = 0
                    cycle += 1
                    present = int(loaded)
                    tile_ready.next = rng.random() < 0.7
                    loaded.next = min(base + fields["load_words"], int(loaded) + int(rng.integers(0, 3)))
                    free = bool(drains and drains[0] <= cycle)
                    if free:
                        drains.pop(0)
                        del banks[:1]
                    bank_free.next = free and not acc_init
                    bank_ready.next = acc_init and cycle > began + 3 and (free or inits > 0)
                    if inits and cycle > began + 3:
                        inits -= 1
                        if free:
                            drains.insert(0, cycle)
                bank_ready.next = False
                for _ in range(4):
                    yield delay(1)
                    yield from tick()
                    bank_free.next = False
                    assert not issue
                base += fields["load_words"]
                assert not busy and released == base
                loaded.next = base

        return dut, drive

    test = bench()
    test.run_sim(quiet=1)
    test.quit_sim()
    base = 0
    for fields, wanted, have in zip(layers, expected, got, strict=True):
        assert len(have) == len(wanted)
        for (lo, hi, read, *flags), (lanes, _, *rest) in zip(have, wanted):
            words = tuple(read[i] if lo <= i < hi else None for i in range(rows))
            assert words == tuple(None if x is None else (base + x) % 256 for x in lanes)
            assert flags == rest
        base += fields["load_words"]


def earliest(f, config):
    """Cycles after the first vector's in which vectors go, held up by the accumulators' latency alone."""
    cycle, began = -1, 0
    for _, _, entry, _, first, _, _ in vectors(f, config):
        cycle += 1
        if entry % (8 if f["halves"] else 16) == 0:  # of a step
            cycle = began = cycle if first else max(cycle, began + ACC_LATENCY)
        yield cycle


@pytest.mark.parametrize("seed", range(12))
def test_vectors_go_as_early_as_they_may(seed):
    """All words and tiles are there, and a bank is free again at once."""
    rng = np.random.default_rng([seed, 1])
    rows, cols = (int(x) for x in rng.integers(1, 7, 2))
    config = Config(rows=rows, cols=cols, ports=1, activation_words=256, accumulator_entries=16)
    fields = random_geometry(rng, config) | {"acc_init": 0}
    fields["halves"] = random_halves(rng, fields, config)
    job, names = (
        job_signals(sequencer_job(config)),
        "clk rst start tile_ready bank_free bank_ready busy issue tile_take acc_bank "
        "acc_first acc_last acc_many load_stall store_stall",
    )
    s = SimpleNamespace(**{name: Signal(bool(0)) for name in names.split()})
    preset(job, {name: fields[name] for name in sequencer_job(config).split()})
    loaded, released, rd_addr = (Signal(intbv(0)[n:]) for n in (24, 24, 8))
    lane_lo, lane_hi = (Signal(intbv(0)[rows.bit_length() :]) for _ in range(2))
    unit = sequencer(
        s.clk,
        s.rst,
        s.start,
        job,
        loaded,
        s.tile_ready,
        s.bank_free,
        s.bank_ready,
        released,
        s.busy,
        s.issue,
        s.tile_take,
        rd_addr,
        rows_apart(config),
        lane_lo,
        lane_hi,
        Signal(intbv(0)[4:]),
        s.acc_bank,
        s.acc_first,
        s.acc_last,
        s.acc_many,
        s.load_stall,
        s.store_stall,
        config=config,
    )
    issued = []

    def drive(cycle):
        s.rst.next = cycle < 2
        s.start.next = cycle == 3
        s.tile_ready.next = True
        loaded.next = fields["load_words"]
        s.bank_free.next = cycle > 3 and bool(s.issue and s.acc_last)

    def observe(cycle):
        if s.issue:
            issued.append(cycle)
        return cycle > 4 and not s.busy

    simulate(unit, s.clk, drive, observe, 20000)
    assert [cycle - issued[0] for cycle in issued] == list(earliest(fields, config))

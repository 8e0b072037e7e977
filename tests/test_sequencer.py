"""Sequencer against the loops of hls.descriptor, written as Python loops; random layers, random stalls."""

import numpy as np
import pytest
from myhdl import Signal, block, delay, instance, intbv

from hls.accumulator import ACC_LATENCY
from hls.config import Config
from hls.descriptor_hw import job_signals
from hls.sequencer import JOB, sequencer
from tests.layers import random_geometry


def vectors(f, config):
    """The issued vectors in order: (linear words by lane or None), entry, bank, first, last, swap."""
    strips, done = [], 0
    while done < f["out_px"]:
        size = min(f["strip_px"] if done else f["first_px"], f["out_px"] - done)
        strips.append(range(done, done + size))
        done += size
    bank = 0
    for strip in strips:
        for g in range(f["groups"]):
            for cb0 in range(0, f["ncb"], f["cbg"]):
                blocks = range(cb0, min(cb0 + f["cbg"], f["ncb"]))
                steps = [(ky, kx, kb) for ky in range(f["kh"]) for kx in range(f["kx"]) for kb in range(f["kb"])]
                for step in steps:
                    ky, kx, kb = step
                    for cb in blocks:
                        offset = cb * config.diagonal if f["diagonal"] else kb * config.rows
                        for px in strip:
                            oy, ox = divmod(px, f["out_w"])
                            p = f["x0"] + ox * f["sx_words"] + kx * f["kx_step"] + g * f["group_in_step"] + offset
                            row = f["row0"] + oy * f["sy_words"] + ky * f["ky_step"]
                            iy = f["y0"] + oy * f["stride_y"] + ky * f["dil_y"]
                            low, high = max(0, -p), min(f["in_row"] - p, f["run"] - offset)
                            lanes = tuple(row + p + i if 0 <= iy < f["in_h"] and low <= i < high else None
                                          for i in range(config.rows))
                            entry = (cb - cb0) * len(strip) + px - strip[0]
                            last = step == steps[-1] and cb == blocks[-1] and px == strip[-1]
                            yield lanes, entry, bank, step == steps[0] and not f["acc_init"], last, px == strip[0]
                bank ^= 1


@pytest.mark.parametrize("seed", range(24))
def test_issues_the_descriptor_s_loops(seed):
    rng = np.random.default_rng(seed)
    rows, cols = (int(x) for x in rng.integers(1, 7, 2))
    config = Config(rows=rows, cols=cols, ports=1, activation_words=256, accumulator_entries=16)
    fields = random_geometry(rng, config) | {"acc_init": int(rng.integers(0, 2))}
    expected = list(vectors(fields, config))
    job = job_signals(JOB)
    for name in JOB.split():
        value, signal = fields[name], getattr(job, name)
        signal._init = signal._val = type(signal._val)(value) if isinstance(signal._val, bool) else signal._val
        if not isinstance(signal._val, bool):
            signal._val[:] = value
    bits = [Signal(bool(0)) for _ in range(14)]
    (clk, rst, start, tile_ready, bank_free, bank_ready, busy, issue, tile_take, acc_bank, acc_first, acc_last,
     load_stall, store_stall) = bits
    loaded, released, rd_addr = (Signal(intbv(0)[n:]) for n in (24, 24, 8))
    lane_lo, lane_hi = (Signal(intbv(0)[rows.bit_length():]) for _ in range(2))
    acc_entry = Signal(intbv(0)[4:])
    got = []

    @block
    def bench():
        dut = sequencer(clk, rst, start, job, loaded, tile_ready, bank_free, bank_ready, released, busy, issue,
                        tile_take, rd_addr, lane_lo, lane_hi, acc_entry, acc_bank, acc_first, acc_last, load_stall,
                        store_stall, config=config)

        @instance
        def drive():
            in_flight, last_use, drains, cycle = 0, {}, [], 0
            inits = 2 if fields["acc_init"] else 0
            rst.next = 1
            for _ in range(2):
                yield delay(1)
                clk.next = 1
                yield delay(1)
                clk.next = 0
            rst.next = 0
            start.next = 1
            present = 0
            while len(got) < len(expected) and cycle < 40000:
                yield delay(1)
                assert released <= fields["load_words"], "words of the next layer released"
                if issue:
                    used = [int(rd_addr) + i for i in range(int(lane_lo), int(lane_hi))]
                    key = (int(acc_entry), int(acc_bank))
                    if not acc_first and not (fields["acc_init"] and key not in last_use):
                        assert cycle - last_use[key] >= ACC_LATENCY
                    last_use[key] = cycle
                    got.append((int(lane_lo), int(lane_hi), int(rd_addr), int(acc_entry), int(acc_bank),
                                bool(acc_first), bool(acc_last), bool(tile_take)))
                    index = len(got) - 1
                    needed = [x for x in expected[index][0] if x is not None]
                    if needed:
                        assert max(needed) < present, "issued before its words were loaded"
                        assert min(needed) >= released, "released too early"
                        assert len(used) == len(needed)
                    assert tile_ready or not tile_take
                    if acc_last:
                        in_flight += 1
                        drains.append(cycle + int(rng.integers(5, 40)))
                        last_use = {k: v for k, v in last_use.items() if k[1] != int(acc_bank)}
                clk.next = 1
                yield delay(1)
                clk.next = 0
                start.next = 0
                cycle += 1
                present = int(loaded)
                tile_ready.next = rng.random() < 0.7
                loaded.next = min(fields["load_words"], int(loaded) + int(rng.integers(0, 3)))
                free = bool(drains and drains[0] <= cycle)
                if free:
                    drains.pop(0)
                bank_free.next = free and not fields["acc_init"]
                bank_ready.next = (free or inits > 0) and bool(fields["acc_init"]) and cycle > 3
                if inits and cycle > 3:
                    inits -= 1
                    if free:
                        drains.insert(0, cycle)
            for _ in range(4):
                yield delay(1)
                clk.next = 1
                yield delay(1)
                clk.next = 0
                assert not issue
            assert not busy and released == fields["load_words"]

        return dut, drive

    test = bench()
    test.run_sim(quiet=1)
    test.quit_sim()
    assert len(got) == len(expected)
    for have, (lanes, *rest) in zip(got, expected):
        lo, hi, address, *flags = have
        words = tuple((address + i) % 256 if lo <= i < hi else None for i in range(rows))
        assert words == tuple(None if x is None else x % 256 for x in lanes)
        assert flags == rest

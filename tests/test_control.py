# SPDX-License-Identifier: Apache-2.0
"""Control as software and engines see it: registers, descriptor lists, errors, counters, profile records."""

import math
from dataclasses import replace

import numpy as np
import pytest
from cycle_bench import bus, chance, flag, replay, seeded, simulate

from hls.bus.head import MAGIC, VERSION
from hls.bus.obi import Slave
from hls.config import Config
from hls.descriptor.control.control import Events, Stages, control, stage_fields
from hls.descriptor.control.control_stages import LATE
from hls.descriptor.control.slave import Regions
from hls.descriptor.interface.registers import COUNTERS, ERRORS, REGISTER, REGISTERS
from hls.descriptor.interface.rules import contradiction
from hls.descriptor.interface.table import FIELD, FIELDS, PROFILE_RECORD, WORDS, Descriptor, pack
from hls.descriptor.memory.arbiter import Request

BASES = (0x1000, 0x20000, 0xFFFF0000, 0x8)
OVERHEADS = {"doorbell": 6, "fetch": 6, "layer": 1, "irq": 2}
"""Cycles: doorbell and start to next start beyond one per beat of a descriptor; end of layer to start; to interrupt."""

STAGES = tuple(stage_fields(Config()))
LEVELS = {
    "load": "load_done",
    "weights": "weights_idle",
    "cut": "cut_done",
    "params": "params_idle",
    "seq": "seq_busy",
    "drain": "drain_done",
}

BUSY, DONE, ERROR, DRAINING = (1 << bit for bit in range(4))


def legal_descriptor(rng, config, **fixed):
    """A descriptor, random within what the fetch unit accepts; those that follow from others come last."""
    f = {}
    for field in FIELDS:
        if field.kind == "fp32":
            f[field.attribute] = np.uint32(rng.randrange(1, 1 << 32)).view(np.float32)
        elif field.kind == "addr":
            f[field.attribute] = rng.randrange(1 << 30) * 4
        else:
            low, high = field.range
            f[field.attribute] = rng.randint(max(low, 1) if low == 0 else low, high)
    diagonal = f["diagonal"] = fixed.get("diagonal", rng.randint(0, 1))
    band = f["band"] = fixed.get("band", 0 if diagonal or not config.banded else rng.choice([0, 0, 1, 2]))
    block = config.diagonal if diagonal else config.cols
    strip = rng.randint(1, config.accumulator_entries)
    ncb = rng.randint(1, 40)
    most = 1 << 24
    loads = []
    for name, bits in (("load_c_count", 16), ("load_x_count", 8), ("load_y_count", 16)):
        count = rng.randrange(1, 1 << rng.randint(1, min(bits, max(1, most.bit_length() - 1))))
        loads.append(fixed.get(name) or count)
        most = ((1 << 24) - 1) // math.prod(loads)
    in_row = loads[0] * loads[1]
    most = ((1 << 24) - 1) // in_row
    f |= {
        "last": 1,
        "barrier": rng.randint(0, 1),
        "unit_weights": diagonal and rng.randint(0, 1),
        "profile": 0,
        "uniform": rng.randint(0, 1),
        "residual": rng.randint(0, 1),
        "acc_init": 0,
        "max": rng.randint(0, 1),
        "strip_px": strip,
        "first_px": rng.randint(1, strip),
        "cbg": rng.randint(1, config.accumulator_entries // strip),
        "ncb": ncb,
        "cout": rng.randint(1, block) if band else rng.randint((ncb - 1) * block + 1, ncb * block),
        "groups": rng.randint(1, 8),
        "kh": rng.randint(1, 11),
        "kx": rng.randint(1, 11),
        "kb": rng.randint(1, 9),
        "in_row": in_row,
        "y0": rng.randint(-min(2 * most, 1 << 15), min(2 * most, (1 << 15) - 1)),
        "dil_y": rng.randint(0, min(most, 255)),
        "stride_y": rng.randint(1, min(most, 255)),
    }
    f["halves"] = int(2 * strip * f["cbg"] <= config.accumulator_entries and rng.random() < 0.5)
    f["packed_scales"] = int(config.packed_scales and not band and rng.random() < 0.5)
    f |= epilogue_flags(rng, config, f["residual"])
    f |= {f"load_{axis}_count": count for axis, count in zip("cxy", loads, strict=True)} | {"in_h": loads[2]} | fixed
    if diagonal or band:
        f |= {"groups": 1, "kb": 1} | fixed
    if band:
        f |= {"kx": 1, "kx_step": 1 + config.banks * rng.randrange(1 << 20)} | fixed
    run = f["cout"] if diagonal else f["kb"] * config.rows - rng.randrange(config.rows)
    tiles = f["groups"] * f["ncb"] * f["kh"] * f["kx"] * f["kb"]
    int4 = fixed.get("int4", int(config.int4_weights and rng.random() < 0.4))
    weights = tiles * (config.diagonal if diagonal or band else config.rows * config.cols)
    beats = -(-weights // (4 * config.ports * (1 + int4)))
    f |= {
        "int4": int4,
        "load_gap": rng.randint(0, min(f["load_c_count"] - 1, 63)),
        "run": run,
        "first_lane": rng.randint(0, min(run, 63)),
        "last_lanes": rng.randint(0, min(run, 63)),
        "row0": f["in_row"] * f["y0"],
        "ky_step": f["in_row"] * f["dil_y"],
        "sy_words": f["in_row"] * f["stride_y"],
        "load_words": f["load_c_count"] * f["load_x_count"] * f["load_y_count"],
    }
    if not f["unit_weights"]:
        f["weight_words"] = beats * config.ports
    if not f["uniform"]:
        rows = 1 if band else -(-block // config.ports)
        rows += -(-rows // 2) if f["packed_scales"] else rows
        f["param_words"] = f["groups"] * f["ncb"] * rows * config.ports
    if f["kh"] == 1:
        f["ky_step"] = rng.randrange(1 << 24)
    if f["out_px"] <= f["out_w"]:
        f["sy_words"] = rng.randrange(1 << 24)
    return Descriptor(**(f | fixed))


def epilogue_flags(rng, config, residual):
    """Flags of the epilogue, and the table's words and place, as `rules` want them."""
    function = int(config.functions and rng.random() < 0.5)
    multiply = int(config.multiply and residual and rng.random() < 0.7)
    return {
        "function": function,
        "table_slot": function and rng.randint(0, 1),
        "load_table": function and rng.randint(0, 1),
        "table_rows": rng.randint(1, 64),
        "table_addr": rng.randrange(3 << 28) * 4,
        "multiply": multiply,
        "negative": multiply and rng.randint(0, 1),
        "slope_en": int(not multiply and rng.random() < 0.5),
    }


def absolute(address):
    return (BASES[address >> 30] + (address & 0x3FFFFFFF)) % (1 << 32)


def write(name, value, be=15):
    return REGISTER[name].offset, value, be


def read(name):
    return REGISTER[name].offset, None, 15


class Bench:
    """`control` between software (a generator of accesses) and a pretended bus and engines."""

    def __init__(self, config, rng, program, pace=1.0, layer_cycles=6):
        self.config, self.rng, self.program, self.pace, self.layer_cycles = config, rng, program, pace, layer_cycles
        ports = config.ports
        names = (
            "clk rst irq idle load_done weights_idle cut_done params_idle seq_busy drain_done load_open "
            "fetch_rsp_valid store_issued store_returned fault timeout stalled ports_busy late leftover "
            "engine_rst cancel give_up running"
        )
        for name in names.split():
            setattr(self, name, flag())
        for name in ["watchdog", "fault_addr", "timeout_addr"]:
            setattr(self, name, bus(32))
        self.slave, self.windows, self.events, self.stages = Slave(), Regions(), Events(), Stages(config)
        self.fetch_req, self.profile_req, self.rsp_data = Request(ports), Request(ports, data=True), bus(32 * ports)
        self.unit = control(
            self.clk,
            self.rst,
            self.slave,
            self.irq,
            self.idle,
            self.windows,
            self.watchdog,
            self.stages,
            self.load_done,
            self.weights_idle,
            self.cut_done,
            self.params_idle,
            self.seq_busy,
            self.drain_done,
            self.leftover,
            self.load_open,
            self.fetch_req,
            self.fetch_rsp_valid,
            self.rsp_data,
            self.profile_req,
            self.store_issued,
            self.store_returned,
            self.fault,
            self.fault_addr,
            self.timeout,
            self.stalled,
            self.timeout_addr,
            self.ports_busy,
            self.late,
            self.engine_rst,
            self.cancel,
            self.give_up,
            self.running,
            self.events,
            config=config,
        )
        self.memory, self.answers, self.fetched, self.records, self.log = {}, [], [], [], []
        self.jobs, self.just_started = {name: [] for name in STAGES}, []
        self.busy = dict.fromkeys(STAGES, False)
        self.left = dict.fromkeys(STAGES, 0)
        self.held = set()
        self.starts = 0
        self.waiting, self.access, self.result, self.finished = False, None, None, False
        self.stores_left = 0
        self.outstanding = []
        self.raise_fault = self.raise_timeout = None
        self.stuck = 0
        self.expect_error = self.hold_stores = False

    def put(self, address, words):
        for i, word in enumerate(words):
            self.memory[absolute(address) + 4 * i] = int(word)

    def put_list(self, layers):
        """Place descriptors as a list, in which they get their NEXT; returns the doorbell value."""
        regions = [self.rng.randrange(4) for _ in layers]
        places = [r << 30 | (0x24000 + 0x400 * i - BASES[r]) % (1 << 30) for i, r in enumerate(regions)]
        for i, place in enumerate(places):
            if i + 1 < len(places):
                layers[i] = replace(layers[i], last=0, next=places[i + 1])
            self.put(place, pack(layers[i]))
        return places[0]

    def next_access(self):
        try:
            self.access = next(self.program) if self.result is None else self.program.send(self.result)
        except StopIteration:
            self.finished, self.access = True, None
        self.result = None

    def drive(self, cycle):
        rng, pace = self.rng, self.pace
        self.cycle = cycle
        self.rst.next = cycle < 2
        if cycle >= 3 and not self.waiting and not self.finished:
            self.next_access()
        self.slave.req.next = asking = self.access is not None and not self.waiting
        if asking:
            offset, value, be = self.access
            self.slave.we.next = value is not None
            self.slave.be.next = be
            self.slave.addr.next = 0xF0000000 + offset
            self.slave.wdata.next = value or 0
        self.asking = asking
        self.fetch_req.ready.next = chance(rng, pace)
        self.profile_req.ready.next = chance(rng, pace)
        answer = bool(self.answers) and chance(rng, pace)
        self.fetch_rsp_valid.next = answer
        self.rsp_data.next = self.answers.pop(0) if answer else 0
        for name in STAGES:
            self.busy[name] = self.left[name] > 0 or (name == "drain" and self.stores_left > 0)
            getattr(self, LEVELS[name]).next = self.busy[name] == (name == "seq")
        self.returned = bool(self.outstanding) and not self.hold_stores and chance(rng, pace / 2)
        self.store_returned.next = self.returned
        self.storing = self.stores_left > 0 and chance(rng, pace)
        self.ports_busy.next = bool(self.outstanding) or bool(self.answers) or self.stuck > 0
        self.stuck = max(0, self.stuck - 1)
        self.fault.next = self.raise_fault is not None
        self.fault_addr.next = self.raise_fault or 0
        self.timeout.next = self.raise_timeout is not None
        self.timeout_addr.next = self.raise_timeout or 0
        self.raise_timeout = None
        for name, width in (
            ("issue", 1),
            ("load_stall", 1),
            ("store_stall", 1),
            ("words", 3),
            ("lost", 6),
            ("lossy", 6),
        ):
            getattr(self.events, name).next = rng.randrange(1 << width)

    def observe(self, cycle):
        assert self.slave.gnt or cycle == 0
        assert not self.idle or not (self.slave.req or self.slave.rvalid or self.ports_busy)
        self.look_at_bus()
        if self.engine_rst:
            self.left, self.stores_left, self.raise_fault = dict.fromkeys(STAGES, 0), 0, None
            self.jobs, self.just_started = {name: [] for name in STAGES}, []
        else:
            self.look_at_stages(cycle)
        if self.cancel and not self.stuck:
            self.answers, self.outstanding = [], []
        if self.irq:
            self.log.append(("irq", cycle))
        return self.finished

    def look_at_stages(self, cycle):
        started = [name for name in STAGES if getattr(self.stages, name).start]
        for name in STAGES:
            if name not in self.held:
                self.left[name] = max(0, self.left[name] - 1)
        for name in self.just_started:
            job = vars(getattr(self.stages, name).job)
            self.jobs[name][-1] |= {field: int(job[field]) for field in LATE if field in job}
        self.just_started = started
        for name in started:
            assert not self.busy[name]
            job = getattr(self.stages, name).job
            self.jobs[name].append({field: int(signal) for field, signal in vars(job).items()})
            shortest = name not in ("weights", "params") or self.layer_cycles == 1
            self.left[name] = self.rng.randint(shortest, self.layer_cycles)
            self.log.append((name, cycle))
            self.starts += 1
        begun = {name: len(jobs) for name, jobs in self.jobs.items()}
        assert max(begun.values()) - min(begun.values()) <= 1
        if "drain" in started:
            assert not {"store", "mark"} & set(self.outstanding)
            assert len(self.records) == 8 * sum(job["profile"] for job in self.jobs["drain"][:-1])
            self.stores_left = self.rng.randint(0, 3) * (self.layer_cycles > 1)
        assert begun["drain"] >= begun["params"]
        if "seq" in started and any(job["acc_init"] for job in self.jobs["seq"][-2:]):
            assert begun["drain"] == begun["seq"]
        if begun["load"]:
            assert self.load_open == (begun["drain"] >= begun["load"] or not self.jobs["load"][-1]["barrier"])

    def look_at_bus(self):
        self.outstanding = self.outstanding[self.returned :]
        issued = None
        if self.profile_req.valid and self.profile_req.ready:
            count = int(self.profile_req.count)
            data = [int(self.profile_req.data) >> 32 * i & 0xFFFFFFFF for i in range(count)]
            self.records += [(int(self.profile_req.addr) + 4 * i, word) for i, word in enumerate(data)]
            assert int(self.profile_req.stride) == 1
            assert int(self.profile_req.region) == int(self.stages.drain.job.profile_addr_region)
            assert not self.busy["drain"] and "store" not in self.outstanding
            issued = "profile"
        elif self.storing:
            self.stores_left -= 1
            issued = "store"
        self.store_issued.next = issued is not None
        self.outstanding += [issued] * (issued is not None)
        assert self.expect_error or not self.irq or not (self.outstanding or any(self.busy.values()))
        if self.fetch_req.valid and self.fetch_req.ready and not self.engine_rst:
            addr, count = int(self.fetch_req.addr), int(self.fetch_req.count)
            assert int(self.fetch_req.stride) == 1
            self.fetched.append((addr, count, int(self.fetch_req.region)))
            words = [self.memory.get(addr + 4 * i, 0xDEADBEEF) for i in range(count)]
            self.answers.append(sum(w << 32 * i for i, w in enumerate(words)))
        if self.waiting:
            assert self.slave.rvalid
            self.result, self.waiting = int(self.slave.rdata), False
        elif self.asking:
            self.waiting = self.access[1] is None
        else:
            assert not self.slave.rvalid or self.access is not None

    def run(self, cycles=4000, vcd=None):
        return simulate(self.unit, self.clk, self.drive, self.observe, cycles, vcd)

    def trace(self, seen, port):
        """One port's value in every cycle."""
        names = [name for name, s in self.unit.call.signals().items() if s is not self.clk]
        return [row[names.index(port)] for row in seen]


def set_up(enable=3):
    for i, base in enumerate(BASES):
        yield write(f"BASE{i}", base)
        yield write(f"LIMIT{i}", 0xFFFFFFFF)
    yield write("IRQ_ENABLE", enable)


def wait_until(bits):
    while True:
        status = yield read("STATUS")
        if status & bits:
            return status


def make_bench(program, config, key, **options):
    """Bench whose program gets the bench itself."""
    holder = []

    def start():
        yield from program(holder[0])

    bench = Bench(config, seeded(*key), start(), **options)
    holder.append(bench)
    return bench


def expected_jobs(layers, config):
    """What each stage gets of each layer."""
    return {
        stage: [{name: values[name] for name in fields.split()} for values in map(decoded, layers)]
        for stage, fields in stage_fields(config).items()
    }


def decoded(layer):
    job = {}
    for field in FIELDS:
        value, name = layer[field.name], field.attribute
        if field.kind == "addr" and field.name != "NEXT":
            job[f"{name}_region"] = value >> 30
            value = absolute(value)
        job[name] = int(np.float32(value).view(np.uint32)) if field.kind == "fp32" else int(value)
    return job


@pytest.mark.parametrize(("ports", "pace"), [(1, 0.6), (2, 1.0), (3, 0.6), (4, 1.0)])
def test_runs_a_list(ports, pace, with_waves):
    config = Config(rows=3, cols=5, ports=ports, accumulator_entries=32)

    def run(vcd=None):
        layers = []

        def program(bench):
            yield from set_up()
            layers.extend(legal_descriptor(bench.rng, config, profile=profile) for profile in (1, 0, 1))
            layers[1] = replace(layers[1], residual=0, acc_init=1, halves=0, multiply=0, negative=0)
            doorbell = bench.put_list(layers)
            yield write("DOORBELL", doorbell)
            status = yield read("STATUS")
            assert status == BUSY
            status = yield from wait_until(DONE | ERROR)
            assert status == DONE
            assert not bench.outstanding
            assert (yield read("LAYERS")) == len(layers)
            assert (yield read("IRQ_STATUS")) == 1
            assert bench.irq
            yield write("IRQ_STATUS", 1)
            assert (yield read("IRQ_STATUS")) == 0
            assert not bench.irq
            assert (yield read("DOORBELL")) == layers[1].next

        bench = make_bench(program, config, (ports, pace), pace=pace)
        bench.run(vcd=vcd)
        assert bench.jobs == expected_jobs(layers, bench.config)
        assert sum(count for _, count, _ in bench.fetched) == WORDS * len(layers)
        assert [addr for addr, _ in bench.records] == [
            (absolute(layer.profile_addr) + 4 * i) % (1 << 32) for layer in layers[::2] for i in range(8)
        ]
        first, second = ([word for _, word in bench.records[8 * i : 8 * i + 8]] for i in range(2))
        assert all(b > a for a, b in zip(first, second, strict=True))
        busy, cycle = (PROFILE_RECORD.index(name) for name in ("busy", "cycle"))
        assert abs(second[busy] - first[busy] - (second[cycle] - first[cycle])) < 64

    with_waves(run)


def test_constants_and_stored_registers():
    config = Config(rows=3, cols=7, ports=3, arithmetic="fma")
    stored = ["IRQ_ENABLE", "WATCHDOG", *(f"{kind}{i}" for i in range(4) for kind in ("BASE", "LIMIT"))]

    def program(bench):
        assert (yield read("MAGIC")) == MAGIC
        assert (yield read("VERSION")) == VERSION
        assert (yield read("GEOMETRY")) == 3 | 7 << 8 | 3 << 16 | 1 << 20
        assert (yield read("CONFIG_HASH")) == config.hash & 0xFFFFFFFF
        for name in stored:
            assert (yield read(name)) == 0
        values = {}
        for name in stored:
            width = 2 if name == "IRQ_ENABLE" else 32
            for _ in range(2):
                value, be = bench.rng.randrange(1 << 32), bench.rng.randrange(16)
                mask = sum(0xFF << 8 * i for i in range(4) if be >> i & 1) & ((1 << width) - 1)
                values[name] = values.get(name, 0) & ~mask | value & mask
                yield write(name, value, be)
        for register in REGISTERS:
            if register.access == "ro":
                yield write(register.name, 0xFFFFFFFF)
        for name in stored:
            assert (yield read(name)) == values[name]
        assert (yield read("MAGIC")) == MAGIC
        assert (yield read("STATUS")) == 0
        assert (yield read("CTRL")) == 0
        assert (yield 0xFC, None, 15) == 0
        assert int(bench.watchdog) == values["WATCHDOG"]
        assert int(bench.windows.limit2) == values["LIMIT2"]

    make_bench(program, config, ("stored",)).run()


def test_counters():
    config = Config(rows=2, cols=2, ports=1)
    counts = {}

    def program(bench):
        low = yield read("CYCLE_LO")
        at = bench.cycle
        assert (yield read("CYCLE_HI")) == 0
        again = yield read("CYCLE_LO")
        assert again - low == bench.cycle - at
        yield from set_up()
        bench.held = set(STAGES)
        yield write("CTRL", 4)
        counts["from"] = bench.cycle
        for number in range(40):
            yield read("MAGIC")
            if number == 10:
                yield write("DOORBELL", bench.put_list([legal_descriptor(bench.rng, config)]))
        for name in COUNTERS:
            counts[name] = (yield read(name)), bench.cycle

    bench = make_bench(program, config, ("counters",))
    seen = bench.run()
    running = bench.trace(seen, "running")
    events = {
        "BUSY": None,
        "ARRAY_ACTIVE": "issue",
        "LOAD_STALL": "load_stall",
        "STORE_STALL": "store_stall",
        "BUS_WORDS": "words",
        "LANES_LOST": "lost",
        "LANES_LOSSY": "lossy",
    }
    for name, event in events.items():
        value, cycle = counts[name]
        rows = bench.trace(seen, f"events_{event}") if event else running
        if event in ("lost", "lossy"):  # of lists only, not what a reset has left in the pipeline
            rows = [count * run for count, run in zip(rows, running, strict=True)]
        assert value == sum(rows[counts["from"] : cycle - 2]), name  # asked two cycles before the value was there
        assert value


COUNTED = [f for f in FIELDS if f.kind in ("uint", "int") and f.name not in ("LAST", "PROFILE")]
FLAGS = [f for f in COUNTED if f.word == 1 and f.width == 1] + [
    FIELD["TABLE_ROWS"],
    FIELD["HALVES"],
    FIELD["PACKED_SCALES"],
]
ZERO = [
    "load_c_count",
    "load_x_count",
    "load_y_count",
    "load_words",
    "kh",
    "kx",
    "kb",
    "stride_y",
    "out_w",
    "out_px",
    "strip_px",
    "first_px",
    "cbg",
    "groups",
    "ncb",
    "cout",
]


BASE = {
    "diagonal": 0,
    "band": 0,
    "unit_weights": 0,
    "strip_px": 4,
    "first_px": 4,
    "cbg": 1,
    "ncb": 2,
    "cout": 8,
    "kh": 2,
    "kb": 2,
    "out_w": 3,
    "out_px": 6,
    "groups": 2,
    "uniform": 0,
    "residual": 0,
    "halves": 0,
    "packed_scales": 0,
    "function": 0,
    "table_slot": 0,
    "load_table": 0,
    "multiply": 0,
    "negative": 0,
    "slope_en": 0,
}
"""Fields of a descriptor before the one change that makes it a broken one."""

BROKEN = [{name: 0} for name in ZERO] + [
    {"first_px": 5},
    {"strip_px": 17},
    {"cbg": 5},
    {"strip_px": 64},
    {"cbg": 64},
    {"cout": 5},
    {"cout": 11},
    {"diagonal": 1},
    {"residual": 1, "acc_init": 1},
    {"halves": 1, "acc_init": 1},
    {"halves": 1, "cbg": 3},
    {"unit_weights": 1},
    {"table_slot": 1},
    {"load_table": 1},
    {"function": 1, "load_table": 1, "table_rows": 0},
    {"function": 1, "load_table": 1, "table_rows": 65},
    {"function": 1, "load_table": 1, "table_addr": 3 << 30},
    {"multiply": 1},
    {"residual": 1, "negative": 1},
    {"residual": 1, "multiply": 1, "slope_en": 1},
    {"weight_words": 0},
    {"param_words": 0},
    {"packed_scales": 1},
    {"kb": 1},
    {"kb": 3},
    {"groups": 1},
    {"kh": 3},
    {"first_lane": 7},
    {"last_lanes": 7},
    {"load_c_count": 9, "load_gap": 9},
    {"load_c_count": 9, "load_gap": 63},
    {"band": 1},
]

BANDED = BASE | {"band": 2, "groups": 1, "kb": 1, "kx": 1, "kx_step": 9, "ncb": 7, "cout": 5, "run": 3}
"""Fields of a banded one."""

BROKEN_BANDED = [
    {"packed_scales": 1},
    {"band": 3},
    {"diagonal": 1},
    {"kx": 2},
    {"kx_step": 10},
    {"kb": 2},
    {"groups": 2},
    {"cout": 6},
    {"run": 4},
    {"first_lane": 4},
    {"last_lanes": 4},
    {"ncb": 6},
]
FOLLOWING = [
    "load_words",
    "load_x_count",
    "in_h",
    "row0",
    "ky_step",
    "sy_words",
    "run",
    "weight_words",
    "param_words",
    "kx",
]
"""Fields that are broken by any other value, or by one far enough away."""


def verdict(bench, layer, config):
    """Run a descriptor; fails when hardware and `rules` do not agree about it. Returns the doorbell."""
    wrong = contradiction(layer, config)
    doorbell = bench.put_list([layer])
    yield write("DOORBELL", doorbell)
    status = yield from wait_until(DONE | ERROR)
    while status & DRAINING:
        status = yield read("STATUS")
    assert status == (ERROR | ERRORS["DESCRIPTOR"][0] << 8 if wrong else DONE), wrong or "not refused by the rules"
    return doorbell


@pytest.mark.parametrize("ports", [1, 2, 3, 4])
def test_refuses_what_breaks_a_rule(ports):
    """Random descriptors with one field changed a little or at random: exactly those that `rules` refuses."""
    rng = seeded("rules", ports)
    rows, cols = rng.choice([(3, 5), (5, 3), (8, 8), (1, 4)])
    options = {"functions": ports != 3, "multiply": ports != 2, "int4_weights": ports != 1, "packed_scales": ports != 4}
    config = Config(rows=rows, cols=cols, ports=ports, accumulator_entries=16, **options)
    seen = {True: 0, False: 0}

    def program(bench):
        bench.expect_error = True
        yield from set_up()
        for number in range(70):
            layer = legal_descriptor(rng, config)
            assert contradiction(layer, config) is None
            if number % 5:
                field = rng.choice(FLAGS if number % 3 == 1 else COUNTED)
                (low, high), value = field.range, layer[field.name]
                value = rng.choice(
                    [value + rng.choice([-1, 1]), value ^ 1 << rng.randrange(16), rng.randint(low, high)]
                )
                layer = replace(layer, **{field.attribute: min(max(value, low), high)})
            seen[contradiction(layer, config) is None] += 1
            yield from verdict(bench, layer, config)
            yield write("CTRL", 1)
            while (yield read("STATUS")) & DRAINING:
                pass

    make_bench(program, config, ("rules", ports), layer_cycles=1).run(20000)
    assert min(seen.values()) > 10


def broken_descriptor(rng, config, base, change):
    """A legal one with a field changed, and what follows from it, if it is still broken then: each rule alone."""
    layer = legal_descriptor(rng, config, **base)
    if isinstance(change, str):
        return replace(layer, **{change: layer[change] + 12})
    if change.get("load_c_count") != 0:
        alone = legal_descriptor(rng, config, **base | change)
        if contradiction(alone, config):
            return alone
    return replace(layer, **change)


@pytest.mark.parametrize("part", range(4))
def test_refuses_broken_descriptors_and_recovers(part):
    config = Config(rows=3, cols=5, ports=part + 1, accumulator_entries=16)
    code = ERRORS["DESCRIPTOR"][0]

    def program(bench):
        bench.expect_error = True
        yield from set_up()
        changes = [(BASE, change) for change in [*BROKEN, *FOLLOWING]]
        changes += [(BANDED, change) for change in [*BROKEN_BANDED, "weight_words", "param_words"]]
        for base, change in changes[part::4]:
            layer = broken_descriptor(bench.rng, config, base, change)
            doorbell = bench.put_list([layer])
            yield write("DOORBELL", doorbell)
            status = yield from wait_until(DONE | ERROR)
            while status & DRAINING:
                status = yield read("STATUS")
            assert status == ERROR | code << 8, change
            assert (yield read("ERROR_ADDR")) == absolute(doorbell)
            assert (yield read("IRQ_STATUS")) == 2
            assert bench.irq
            assert not bench.starts
            yield write("IRQ_STATUS", 2)
            yield write("DOORBELL", doorbell)
            assert (yield read("STATUS")) == ERROR | code << 8
            assert (yield read("IRQ_STATUS")) == 2
            yield write("CTRL", 1)
            assert (yield read("IRQ_STATUS")) == 0
            status = yield read("STATUS")
            while status & DRAINING:
                status = yield read("STATUS")
            assert status == 0
        good = [legal_descriptor(bench.rng, config) for _ in range(2)]
        yield write("DOORBELL", bench.put_list(good))
        assert (yield from wait_until(DONE | ERROR)) == DONE

    make_bench(program, config, ("broken", part)).run(12000)


JUST_ALLOWED = [
    BASE | change
    for change in (
        {"strip_px": 16, "first_px": 16},
        {"strip_px": 1, "first_px": 1, "cbg": 16},
        {"strip_px": 4, "cbg": 4},
        {"strip_px": 4, "cbg": 2, "halves": 1},
        {"packed_scales": 1},
        {"ncb": 2, "cout": 6},
        {"ncb": 2, "cout": 10},
        {"ncb": 1, "cout": 1},
        {"diagonal": 1, "groups": 1, "kb": 1, "cout": 4},
        {"diagonal": 1, "groups": 1, "kb": 1, "cout": 6},
        BANDED,
        BANDED | {"band": 1, "ncb": 1, "cout": 1, "first_lane": 3, "last_lanes": 3},
        BANDED | {"load_c_count": 9, "load_gap": 8},
    )
]


def test_accepts_what_is_just_allowed():
    config = Config(rows=3, cols=5, ports=2, accumulator_entries=16)

    def program(bench):
        yield from set_up()
        layers = [legal_descriptor(bench.rng, config, **fields) for fields in JUST_ALLOWED]
        yield write("DOORBELL", bench.put_list(layers))
        assert (yield from wait_until(DONE | ERROR)) == DONE

    make_bench(program, config, ("allowed",), layer_cycles=2).run()


def run_error(program, ports=2, key="error", cycles=4000):
    bench = make_bench(program, Config(rows=3, cols=5, ports=ports), (key, ports))
    bench.expect_error = True
    bench.run(cycles)
    return bench


ADDRESS_FIELDS = [f.name for f in FIELDS if f.kind == "addr" and f.held(Config())]


@pytest.mark.parametrize("ports", [1, 3, 4])
def test_unaligned_addresses(ports):
    config = Config(rows=3, cols=5, ports=ports)

    def expect(bench, address):
        status = yield from wait_until(DONE | ERROR)
        assert status >> 8 == ERRORS["UNALIGNED"][0]
        assert (yield read("ERROR_ADDR")) == absolute(address)
        yield write("CTRL", 1)
        while (yield read("STATUS")) & DRAINING:
            pass

    def program(bench):
        yield from set_up()
        yield write("DOORBELL", 0x4002)
        yield from expect(bench, 0x4002)
        for name in ADDRESS_FIELDS:
            layer = legal_descriptor(bench.rng, config)
            layer = replace(layer, last=int(name != "NEXT"), **{name.lower(): layer[name] + bench.rng.randint(1, 3)})
            doorbell = bench.put_list([layer])
            yield write("DOORBELL", doorbell)
            yield from expect(bench, layer[name])

    run_error(program, ports, cycles=8000)


def run_until(bench, what):
    while not what():
        yield read("MAGIC")


@pytest.mark.parametrize(("kind", "code"), [("fault", "WINDOW"), ("timeout", "TIMEOUT"), ("doorbell", "BUSY")])
def test_errors_while_running(kind, code):
    config = Config(rows=3, cols=5, ports=2)

    def program(bench):
        yield from set_up()
        yield write("DOORBELL", bench.put_list([legal_descriptor(bench.rng, config) for _ in range(2)]))
        yield from run_until(bench, lambda: bench.jobs["load"])
        bench.left["load"] = 1000
        yield from run_until(bench, lambda: len(bench.jobs["cut"]) == 2)
        bench.stuck = 10
        if kind == "doorbell":
            yield write("DOORBELL", 0x12345678)
        else:
            setattr(bench, f"raise_{kind}", 0x12345678)
        status = yield from wait_until(ERROR)
        assert status == ERROR | DRAINING | ERRORS[code][0] << 8
        assert not bench.idle
        assert (yield read("ERROR_ADDR")) == 0x12345678
        while (yield read("STATUS")) & DRAINING:
            pass
        assert not bench.stuck
        yield write("CTRL", 1)
        while (yield read("STATUS")) & DRAINING:
            pass
        yield write("DOORBELL", bench.put_list([legal_descriptor(bench.rng, config) for _ in range(2)]))
        assert (yield from wait_until(DONE | ERROR)) == DONE
        assert all(len(jobs) == 2 for jobs in bench.jobs.values())

    run_error(program, key=kind)


def test_a_refused_descriptor_waits_until_a_stage_would_take_it():
    config = Config(rows=3, cols=5, ports=2)

    def program(bench):
        bench.expect_error = True
        yield from set_up()
        layers = [legal_descriptor(bench.rng, config) for _ in range(2)]
        layers[1] = replace(layers[1], kh=0)
        bench.held = set(STAGES)
        yield write("DOORBELL", bench.put_list(layers))
        for _ in range(100):
            yield read("MAGIC")
        assert len(bench.fetched) == 2 * WORDS // config.ports
        assert (yield read("STATUS")) == BUSY
        bench.held.remove("cut")
        status = yield from wait_until(DONE | ERROR)
        assert status >> 8 == ERRORS["DESCRIPTOR"][0]
        assert (yield read("ERROR_ADDR")) == absolute(layers[0].next)
        assert (yield read("LAYERS")) == 0
        assert bench.starts == len(STAGES)

    make_bench(program, config, ("refused late",), layer_cycles=1).run()


def test_an_error_leaves_a_pending_done_interrupt():
    config = Config(rows=3, cols=5, ports=2)

    def program(bench):
        bench.expect_error = True
        yield from set_up(enable=0)
        yield write("DOORBELL", bench.put_list([legal_descriptor(bench.rng, config)]))
        yield from wait_until(DONE | ERROR)
        yield write("DOORBELL", 1)
        yield from wait_until(ERROR)
        assert not bench.irq
        assert (yield read("IRQ_STATUS")) == 3
        yield write("IRQ_ENABLE", 1)
        yield read("MAGIC")
        assert bench.irq
        yield write("IRQ_STATUS", 1)
        assert (yield read("IRQ_STATUS")) == 2
        assert not bench.irq

    make_bench(program, config, ("pending",)).run()


def test_soft_reset_drains_then_force_gives_up():
    config = Config(rows=3, cols=5, ports=2)
    pulses = []

    def program(bench):
        yield from set_up()
        doorbell = bench.put_list([legal_descriptor(bench.rng, config)])
        yield write("DOORBELL", doorbell)
        yield from run_until(bench, lambda: bench.jobs["load"])
        bench.left["load"], bench.stuck = 1000, 10000
        yield write("CTRL", 1)
        assert (yield read("STATUS")) == DRAINING
        assert bench.cancel and not bench.idle and not bench.give_up
        for _ in range(10):
            yield read("MAGIC")
        yield write("DOORBELL", doorbell)
        assert (yield read("STATUS")) == DRAINING | ERROR | ERRORS["BUSY"][0] << 8
        yield write("CTRL", 3)
        pulses.append(bench.cycle)
        yield read("MAGIC")
        bench.stuck = 0
        yield read("MAGIC")
        yield read("MAGIC")
        assert (yield read("STATUS")) == 0

    bench = make_bench(program, config, ("force",))
    bench.expect_error = True
    seen = bench.run()
    force = bench.trace(seen, "give_up")
    assert sum(force) == 1 and force[pulses[0]]
    assert bench.trace(seen, "idle")[-1]


def test_overheads():
    """Cycles from doorbell to start, from one start to the next, and to the interrupt; instant bus, empty layers."""
    config = Config(rows=8, cols=8, ports=2)

    def program(bench):
        yield from set_up()
        doorbell = bench.put_list([legal_descriptor(bench.rng, config) for _ in range(3)])
        yield write("DOORBELL", doorbell)
        bench.log.append(("doorbell", bench.cycle - 1))
        assert (yield from wait_until(DONE | ERROR)) == DONE

    bench = make_bench(program, config, ("overhead",), layer_cycles=1)
    resets = bench.trace(bench.run(), "engine_rst")
    at = {what: [cycle for name, cycle in bench.log if name == what] for what in ("doorbell", *STAGES, "irq")}
    fetch = WORDS // config.ports
    # A list begins where nothing is left of the one before
    assert [cycle for cycle, reset in enumerate(resets) if reset and cycle > 5] == [at["doorbell"][0] + 1]
    for stage in STAGES:
        assert at[stage][0] - at["doorbell"][0] == fetch + OVERHEADS["doorbell"]
        assert list(np.diff(at[stage])) == [fetch + OVERHEADS["fetch"]] * 2  # empty layers wait for the fetch
    assert at["irq"][0] - at["drain"][-1] == 2 + OVERHEADS["irq"]  # an empty layer ends in its second cycle


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_goes_on_at_once_when_the_next_descriptor_is_there(stage):
    config = Config(rows=8, cols=8, ports=2)

    def program(bench):
        yield from set_up()
        bench.held = {stage}
        yield write("DOORBELL", bench.put_list([legal_descriptor(bench.rng, config) for _ in range(2)]))
        for _ in range(60):
            yield read("MAGIC")
        bench.held.clear()
        assert (yield from wait_until(DONE | ERROR)) == DONE

    bench = make_bench(program, config, ("next", stage), layer_cycles=1)
    seen = bench.run()
    start, level = bench.trace(seen, f"stages_{stage}_start"), bench.trace(seen, LEVELS[stage])
    second = [cycle for cycle, high in enumerate(start) if high][1]
    ended = max(cycle for cycle in range(second) if level[cycle] == (stage == "seq")) + 1
    assert second - ended == OVERHEADS["layer"]


@pytest.mark.parametrize("held", [*STAGES, "stores"])
def test_the_others_are_one_layer_ahead_of_a_held_stage(held):
    """Never two layers; parameters wait for the drain stage, with ACC_INIT the sequencer as well."""
    config = Config(rows=8, cols=8, ports=2)

    def program(bench, initialised):
        yield from set_up()
        layers = [legal_descriptor(bench.rng, config) for _ in range(4)]
        if initialised is not None:
            layers[initialised] = replace(layers[initialised], residual=0, acc_init=1, halves=0, multiply=0, negative=0)
        yield write("DOORBELL", bench.put_list(layers))
        yield from run_until(bench, lambda: bench.jobs["load"])
        stage = "drain" if held == "stores" else held
        if held == "stores":
            bench.hold_stores, bench.stores_left = True, 3
        else:
            bench.held, bench.left[held] = {held}, 1
        for _ in range(150):
            yield read("MAGIC")
        behind = {stage}
        if stage == "drain":
            behind |= {"params", "seq"} if initialised is not None else {"params"}
        assert {name: len(jobs) for name, jobs in bench.jobs.items()} == {
            name: 1 if name in behind else 2 for name in STAGES
        }
        assert (yield read("LAYERS")) == (0 if stage == "drain" else 2)
        bench.held, bench.hold_stores = set(), False
        assert (yield from wait_until(DONE | ERROR)) == DONE
        assert bench.jobs == expected_jobs(layers, bench.config)

    for initialised in (None, 0, 1):
        bench = make_bench(lambda bench, i=initialised: program(bench, i), config, (held, initialised), layer_cycles=1)
        bench.run()


@pytest.mark.parametrize("ports", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_verilog_does_the_same(ports, tmp_path):
    config = Config(rows=3, cols=5, ports=ports)

    def program(bench):
        bench.expect_error = True
        yield from set_up()
        yield write("DOORBELL", bench.put_list([legal_descriptor(bench.rng, config, profile=1) for _ in range(3)]))
        yield from wait_until(DONE | ERROR)
        yield write("CTRL", 4)
        for register in REGISTERS:
            yield read(register.name)
        yield write("DOORBELL", 2)
        yield from wait_until(ERROR)
        yield write("CTRL", 1)
        yield read("STATUS")

    bench = make_bench(program, config, ("verilog", ports), pace=0.7)
    replay(bench.unit, bench.run(), tmp_path)

# SPDX-License-Identifier: Apache-2.0
"""What tests of the control unit stand on: legal descriptors, accesses of a CPU, and stages played by the test."""

import math
from dataclasses import replace

import numpy as np
from cycle_bench import bus, chance, flag, seeded, simulate

from hls.bus.obi import Slave
from hls.config import Config
from hls.descriptor.control.control import Events, Stages, control, stage_fields
from hls.descriptor.control.control_stages import LATE
from hls.descriptor.control.slave import Regions
from hls.descriptor.interface.registers import REGISTER
from hls.descriptor.interface.table import FIELDS, Descriptor, pack
from hls.descriptor.memory.arbiter import Request

BASES = (0x1000, 0x20000, 0xFFFF0000, 0x8)


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


def run_error(program, ports=2, key="error", cycles=4000):
    bench = make_bench(program, Config(rows=3, cols=5, ports=ports), (key, ports))
    bench.expect_error = True
    bench.run(cycles)
    return bench


def run_until(bench, what):
    while not what():
        yield read("MAGIC")

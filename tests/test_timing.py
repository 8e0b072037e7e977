# SPDX-License-Identifier: Apache-2.0
"""Every delay of `interface.timing` and `hls.arithmetic`, measured on the unit that it is counted in."""

from types import SimpleNamespace

import numpy as np
import pytest
from cycle_bench import bus, flag, preset, simulate
from myhdl import Signal, StopSimulation, block, delay, instance, intbv

from hls.arithmetic import accumulator, aligned, array, epilogue, fma, fp32, function, pe
from hls.arithmetic.function import TableWrite
from hls.bus.obi import Masters, Slave
from hls.config import Config
from hls.descriptor.control.control import control, profile_writer, stage_fields
from hls.descriptor.control.fetch import descriptor_fetch
from hls.descriptor.control.sequencer import sequencer, sequencer_job
from hls.descriptor.drain.aux_reader import aux_job, aux_reader
from hls.descriptor.drain.drain import drain, drain_job
from hls.descriptor.interface import timing
from hls.descriptor.interface.job import job_signals
from hls.descriptor.interface.registers import REGIONS, REGISTER
from hls.descriptor.interface.table import LINEAR, PROFILE_RECORD, SCRATCHPAD
from hls.descriptor.memory.activation_buffer import Write, activation_buffer, rows_apart
from hls.descriptor.memory.arbiter import Request, arbiter
from hls.descriptor.memory.load import load_engine, load_job
from hls.descriptor.memory.passes import pass_reader
from hls.descriptor.memory.ports import memory_ports
from hls.descriptor.memory.scratchpad import RingStart, scratchpad
from hls.descriptor.top import heepstor
from hls.lib.fifo import Stream
from tests.layers import random_program
from tests.obi import ObiMemory

SETTLED = 40
"""Cycles after which nothing moves any more."""

EARLY = 10
"""Cycle of what must have happened before."""

ONE, TWO = 0x3F800000, 0x40000000


def agree(measured, unit, **names):
    """Nothing but the sum of some numbers of one module can be seen: measured on `unit`, they are named all."""
    value = sum(names.values())
    where = f"hls/{unit.func.__code__.co_filename.rpartition('/hls/')[2]}"
    assert value == measured, f"{where}: {' + '.join(names)} is {value}, measured {measured}"


def response(unit, ports, change, seen, rst=None, pulse=(), params=None, began=False, early=()):
    """Cycles from a ``change`` (signal name: value) of settled inputs to that of output ``seen``.

    Names are those in Verilog. Inputs in ``pulse`` change for one cycle;
    those in ``early``, and start if the layer ``began``, do so before.
    """
    clk = flag()
    instance = unit(clk=clk, **ports, **(params or {}))
    signals = instance.call.signals()
    values = []

    def drive(cycle):
        if rst is not None:
            rst.next = cycle < 2
        for name in (*early, *(["start"] if began else ())):
            signals[name].next = cycle == EARLY
        if cycle == SETTLED:
            for name, value in change.items():
                signals[name].next = value
        if cycle == SETTLED + 1:
            for name in pulse:
                signals[name].next = 0

    def observe(cycle):
        values.append(int(signals[seen]))
        return cycle >= SETTLED and values[-1] != values[SETTLED - 1]

    simulate(instance, clk, drive, observe, 2 * SETTLED)
    return len(values) - 1 - SETTLED


def every(stages):
    """Lets all stages of a pipeline move."""
    return Signal(intbv((1 << stages) - 1)[stages:])


def words(value, count=1):
    """A bus of FP32 words with this value in each."""
    return Signal(intbv(sum(value << 32 * i for i in range(count)))[32 * count :])


_ONES = (
    "in_row in_h kh kx kb run dil_y stride_y ky_step kx_step sx_words sy_words out_w out_px strip_px cbg groups ncb "
    "first_px group_in_step load_words cout uniform load_c_count load_x_count load_y_count"
)
SINGLE = dict.fromkeys(_ONES.split(), 1)
"""A layer of one word, one vector and one output."""

CONFIG = Config(rows=2, cols=3, ports=2, activation_words=256, accumulator_entries=16, scratchpad_words=256)


def job(names, **values):
    signals = job_signals(names)
    preset(signals, {name: value for name, value in (SINGLE | values).items() if hasattr(signals, name)})
    return signals


# Arithmetic


@pytest.mark.parametrize(
    "unit, ports, change, seen, names",
    [
        (fp32.fp32_add, {"en": every(4), "a": words(ONE), "b": words(ONE), "y": words(0)}, "a", "y", "FP32_ADD"),
        (fp32.fp32_mul, {"en": every(3), "a": words(ONE), "b": words(ONE), "y": words(0)}, "a", "y", "FP32_MUL"),
        (
            fma.fp32_int8_fma,
            {"a": words(ONE), "w": Signal(intbv(1)[8:]), "gate": flag(), "acc": words(ONE), "y": words(0)},
            "acc",
            "y",
            "FMA",
        ),
    ],
)
def test_floating_point_units(unit, ports, change, seen, names):
    module = {"FMA": fma}.get(names, fp32)
    measured = response(unit, ports, {change: TWO}, seen)
    agree(measured, unit, **{f"{names}_LATENCY": getattr(module, f"{names}_LATENCY")})


def test_aligned_lane():
    ports = {"x": words(ONE), "exponent_max": Signal(intbv(0x80)[8:]), "diag": flag()}
    ports |= {
        "some": Signal(True),
        "some_out": flag(),
        "aligned": bus(aligned.LANE_BITS),
        "lost": flag(),
        "coarse": flag(),
    }
    measured = response(aligned.align_lane, ports, {"x": TWO}, "aligned")
    agree(measured, aligned.align_lane, ALIGN_STAGES=aligned.ALIGN_STAGES)


def test_normaliser():
    limit = 1 << aligned.psum_bits(2) - 1
    ports = {"psum": Signal(intbv(1, min=-limit, max=limit)), "meta": Signal(intbv(100)[9:]), "y": words(0)}
    ports |= {"occupied": every(aligned.NORMALISE_LATENCY)}
    measured = response(aligned.normaliser, ports, {"psum": 2}, "y", params={"rows": 2})
    agree(measured, aligned.normaliser, NORMALISE_LATENCY=aligned.NORMALISE_LATENCY)


@pytest.mark.parametrize("unit, name", [(pe.aligned_pe, "ALIGNED_STEP"), (pe.fma_pe, "FMA_STEP")])
def test_step_of_a_partial_sum(unit, name):
    value = (lambda x: Signal(intbv(x, min=-(1 << 40), max=1 << 40))) if unit is pe.aligned_pe else words
    width = aligned.LANE_BITS if unit is pe.aligned_pe else 32
    ports = {"a": bus(width), "a_out": bus(width), "weight": bus(8), "diag_weight": None}
    flags = ["some"] * (unit is pe.aligned_pe)
    ports |= {n + out: flag() for n in (*flags, "valid", "swap", "load", "load_diag") for out in ("", "_out")}
    ports["valid"] = Signal(True)
    ports |= {"psum": value(ONE), "psum_out": value(0)}
    ports["diag_weight"] = bus(8)
    agree(response(unit, ports, {"psum": TWO}, "psum_out"), unit, **{name: getattr(pe, name)})


@pytest.mark.parametrize("change", ["valid", "col_data"])
def test_accumulator(change):
    """The sum can be read, one cycle after its address, ACC_LATENCY cycles after the operation, and so can its word."""
    init, drain = accumulator.EntryWrite(1, 16), accumulator.EntryRead(1, 16)
    drain.valid = Signal(True)
    ports = {name: flag() for name in ("rst", "bank", "max_mode", "last", "many", "bank_done")}
    ports |= {"valid": Signal(change != "valid"), "first": Signal(True), "addr": bus(4), "col_data": words(ONE)}
    unit, read, changes = accumulator.accumulators, 1, {"valid": 1, "col_data": TWO}
    measured = response(
        unit,
        ports | {"init": init, "drain": drain},
        {change: changes[change]},
        "drain_data",
        ports["rst"],
        params={"cols": 1, "entries": 16},
    )
    agree(measured - read, unit, ACC_LATENCY=accumulator.ACC_LATENCY)


@pytest.mark.parametrize("seen", ["y", "out_valid"])
def test_epilogue(seen):
    names = "rst in_valid res_en act_before_res slope_en out_valid"
    ports = {name: flag() for name in names.split()} | {name: words(ONE) for name in ("acc", "scale", "slope")}
    ports |= {name: words(0) for name in ("bias", "res", "low", "y")} | {"high": words(0x7F800000)}
    ports |= {"function_en": flag(), "slot": flag(), "table": TableWrite(), "multiply": flag(), "negative": flag()}
    change = {"acc": TWO} if seen == "y" else {"in_valid": 1}
    if seen == "y":
        ports["in_valid"] = Signal(True)
    measured = response(epilogue.epilogue_lane, ports, change, seen, ports["rst"], params={"config": CONFIG})
    agree(measured, epilogue.epilogue_lane, EPILOGUE_LATENCY=epilogue.EPILOGUE_LATENCY)


@pytest.mark.parametrize("arithmetic", ["aligned", "fma"])
@pytest.mark.parametrize("rows, cols, ports", [(1, 1, 1), (3, 2, 2)])
@pytest.mark.parametrize("seen", ["col_data", "col_valid"])
def test_array(rows, cols, ports, arithmetic, seen):
    """A tile of ones: column 0 changes with its vector. What `fma` takes besides its rows is their entry."""
    config = Config(rows=rows, cols=cols, ports=ports, arithmetic=arithmetic)
    flags = "rst vec_valid vec_swap vec_diag vec_max load_valid load_diag"
    signals = {name: flag() for name in flags.split()} | {"vec": words(ONE, rows)}
    ones = Signal(intbv(int.from_bytes(bytes([1] * config.load_rows * cols), "little"))[8 * config.load_rows * cols :])
    signals |= {"load_data": ones, "load_beat": bus(array.beat_bits(config))}
    signals |= {"col_valid": bus(cols), "col_data": words(0, cols)}
    signals |= {name: bus(array.count_bits(config)) for name in ("lost_lanes", "coarse_lanes")}
    clk = flag()
    instance = array.systolic_array(clk=clk, **signals, config=config)
    values, beats = [], array.load_beats(config)

    def drive(cycle):
        signals["rst"].next = cycle < 2
        signals["load_valid"].next = 3 <= cycle < 3 + beats
        signals["load_beat"].next = max(0, min(cycle - 3, beats - 1))
        signals["vec_swap"].next = cycle == 3 + beats
        signals["vec_valid"].next = cycle == 3 + beats or (seen == "col_data" or cycle == SETTLED)
        if cycle == SETTLED:
            signals["vec"].next = int(words(TWO, rows))

    def observe(cycle):
        values.append(int(signals[seen]) & (1 if seen == "col_valid" else 0xFFFFFFFF))
        return cycle >= SETTLED and values[-1] != values[SETTLED - 1]

    simulate(instance, clk, drive, observe, 2 * SETTLED)
    t = array.array_timing(config)
    parts = {"array_timing().front": t.front, "rows * .step": rows * t.step, ".back": t.back}
    agree(len(values) - 1 - SETTLED, array.systolic_array, **parts)


# Memory side


def test_activation_buffer():
    write, vec = Write(2), bus(64)
    ports = {
        "wr": write,
        "read": Signal(True),
        "rd_addr": bus(8),
        "apart": rows_apart(CONFIG),
        "lane_lo": bus(2),
        "lane_hi": bus(2),
        "pad_value": words(ONE),
        "vec": vec,
    }
    measured = response(activation_buffer, ports, {"lane_hi": 2}, "vec", params={"config": CONFIG})
    agree(measured, activation_buffer, ACTIVATION_LATENCY=timing.ACTIVATION_LATENCY)


@pytest.mark.parametrize("stream", ["load", "aux"])
def test_scratchpad(stream):
    agree(answered(stream, f"read_{stream}"), scratchpad, SCRATCHPAD_LATENCY=timing.SCRATCHPAD_LATENCY)


def test_mark_of_the_scratchpad():
    agree(answered("store", "marked"), scratchpad, SCRATCHPAD_MARK=timing.SCRATCHPAD_MARK)


def answered(stream, seen):
    requests = {"load": Request(2), "aux": Request(2), "store": Request(2, data=True, mark=True)}
    ports = requests | {f"bus_{name}": Request(2, data=name == "store", mark=name == "store") for name in requests}
    ports |= {f"{name}_place": RingStart(bus(32), bus(5)) for name in requests}
    ports |= {name: flag() for name in ("rst", "read_load", "read_aux", "marked")}
    ports |= {"rsp_count": bus(3), "rsp_data": bus(64)}
    preset(requests[stream], {"region": SCRATCHPAD, "count": 1} | ({"mark": 1} if stream == "store" else {}))
    change = {f"{stream}_valid": 1}
    return response(scratchpad, ports, change, seen, ports["rst"], change, {"config": CONFIG})


def test_first_load():
    """Through the queue of requests, which takes a cycle."""
    measured = loads({"start": 1}, "req_valid", ["start"])
    agree(measured - 1, load_engine, FIRST_LOAD=timing.FIRST_LOAD)


def loads(change, seen, pulse=(), began=False, fields=None, **inputs):
    """Response of the load engine to a layer of one word, or other ``fields``."""
    widths = {"available": LINEAR, "released": LINEAR, "loaded": LINEAR, "rsp_count": 3, "rsp_data": 64}
    ports = {name: flag() for name in ("rst", "start", "rsp_valid", "load_open", "done", "left")}
    ports |= {name: bus(width) for name, width in widths.items()}
    preset(SimpleNamespace(**ports), {"load_open": 1} | inputs)
    ports |= {"req": Request(2), "wr": Write(2), "job": job(load_job(CONFIG), **(fields or {}))}
    preset(ports["req"], {"ready": 1})
    return response(load_engine, ports, change, seen, ports["rst"], pulse, {"config": CONFIG}, began)


def sequence(change, seen, pulse=(), **inputs):
    """Response of the sequencer to a layer of one vector, whose start is before ``change`` if it is not part of it."""
    names = (
        "rst start tile_ready bank_free bank_ready busy issue tile_take acc_bank acc_first acc_last acc_many load_stall"
    )
    ports = {name: flag() for name in [*names.split(), "load_stall", "store_stall"]}
    ports |= {"loaded": bus(LINEAR), "released": bus(LINEAR), "rd_addr": bus(8), "acc_entry": bus(4)}
    ports |= {"apart": rows_apart(CONFIG), "lane_lo": bus(2), "lane_hi": bus(2)}
    preset(SimpleNamespace(**ports), {"tile_ready": 1, "loaded": 1} | inputs)
    ports["job"] = job(sequencer_job(CONFIG))
    return response(sequencer, ports, change, seen, ports["rst"], pulse, {"config": CONFIG}, "start" not in change)


def test_first_vector():
    agree(sequence({"start": 1}, "issue", ["start"]), sequencer, FIRST_VECTOR=timing.FIRST_VECTOR)


def test_words_that_are_loaded():
    """An answer counts as loaded in its own cycle."""
    assert loads({"rsp_valid": 1}, "loaded", rsp_count=1) == 0
    agree(sequence({"loaded": 1}, "issue", loaded=0), sequencer, LOADED=timing.LOADED)


def test_room_that_is_released():
    """The sequencer's register, and the load engine's, behind which is the queue of requests."""
    register = sequence({"loaded": 1}, "released", loaded=0) - timing.LOADED
    few = (1 << LINEAR) - CONFIG.activation_words + 8  # positions go round: room for some words
    fields = {"load_c_count": 64, "load_words": 64}
    limit = loads({"released": few + 8}, "req_valid", began=True, fields=fields, released=few) - 1
    agree(register + limit, load_engine, RELEASED=timing.RELEASED)


PASSES = [
    ("start", "req_valid", ["FIRST_PASS"]),
    ("rsp_valid", "stored", ["PASS_STORED"]),
    ("rsp_valid", "q_valid", ["PASS_STORED", "PASS_HEAD"]),
]


@pytest.mark.parametrize("change, seen, names", PASSES)
def test_passes(change, seen, names):
    flags = "rst start enable req_valid req_ready rsp_valid q_valid q_take idle"
    widths = {"base": 32, "words": LINEAR, "out_px": LINEAR, "first_px": 16, "strip_px": 16}
    widths |= {"req_addr": 32, "rsp_data": 64, "stored": 4, "q_data": 64}
    ports = {name: flag() for name in flags.split()} | {name: bus(width) for name, width in widths.items()}
    preset(
        SimpleNamespace(**ports),
        {"words": 2} | dict.fromkeys(["enable", "out_px", "first_px", "strip_px", "req_ready"], 1),
    )
    params = {"ports": 2, "depth": 8}
    began = change != "start"
    measured = response(pass_reader, ports, {change: 1}, seen, ports["rst"], [change], params, began)
    agree(measured, pass_reader, **{name: getattr(timing, name) for name in names})


# Drain


def drains(change, seen, pulse=(), began=False, full=True, **fields):
    """Response of the drain to a layer of one output whose bank, if ``full``, is finished before."""
    flags = "rst start bank_done bank_free mark_returned done left"
    ports = {name: flag() for name in flags.split()} | {"available": bus(LINEAR)}
    ports |= {"req": Request(2, data=True, mark=True), "table": TableWrite(), "table_ready": Signal(True)}
    read = accumulator.EntryRead(CONFIG.cols, CONFIG.accumulator_entries)
    ports |= {"drain": read, "param": Stream(64), "aux": Stream(64), "job": job(drain_job(CONFIG), **fields)}
    early = ["bank_done"] if full else []
    return response(drain, ports, change, seen, ports["rst"], pulse, {"config": CONFIG}, began, early)


def test_first_beat():
    agree(drains({"start": 1}, "bank_free", ["start"]), drain, FIRST_BEAT=timing.FIRST_BEAT)


def test_full_bank():
    measured = drains({"bank_done": 1}, "bank_free", ["bank_done"], began=True, full=False)
    agree(measured, drain, BANK_FULL=timing.BANK_FULL)


def test_result():
    """Of an accumulator that is read as soon as the layer has started."""
    measured = drains({"start": 1}, "req_valid", ["start"]) - timing.FIRST_BEAT
    parts = {"ROW_LATENCY": timing.ROW_LATENCY, "EPILOGUE_LATENCY": epilogue.EPILOGUE_LATENCY}
    agree(measured, drain, **parts, RESULT_QUEUE=timing.RESULT_QUEUE)
    assert timing.read_to_store(False) == measured
    with_function = drains({"start": 1}, "req_valid", ["start"], function=1) - timing.FIRST_BEAT
    agree(with_function - measured, drain, FUNCTION_LATENCY=function.FUNCTION_LATENCY)
    assert timing.read_to_store(True) == with_function


def test_answer_to_a_store():
    measured = drains({"mark_returned": 1}, "available", ["mark_returned"], began=True, mark_words=1)
    agree(measured, drain, STORED=timing.STORED)


def aux_reads(change, seen, pulse=(), began=False, **fields):
    """Response of the aux reader to a layer of one output with a residual; with a table, to the last of its answers."""
    ports = {name: flag() for name in ("rst", "start", "rsp_valid", "bank_free", "bank_ready", "table_ready")}
    init = accumulator.EntryWrite(CONFIG.cols, CONFIG.accumulator_entries)
    ports |= {
        "rsp_data": bus(64),
        "req": Request(2),
        "init": init,
        "aux": Stream(64),
        "job": job(aux_job(CONFIG), residual=1, **fields),
        "table": TableWrite(),
    }
    preset(ports["req"], {"ready": 1})
    return response(aux_reader, ports, change, seen, ports["rst"], pulse, {"config": CONFIG}, began)


def test_first_aux():
    agree(aux_reads({"start": 1}, "req_valid", ["start"]), aux_reader, FIRST_AUX=timing.FIRST_AUX)


def test_first_table():
    measured = aux_reads({"start": 1}, "req_valid", ["start"], load_table=1, table_rows=1)
    agree(measured, aux_reader, FIRST_TABLE=timing.FIRST_TABLE)


@pytest.mark.parametrize("seen, names", [("table_ready", ["TABLE_READY"]), ("req_valid", ["FIRST_AUX"])])
def test_last_words_of_a_table(seen, names):
    """Answers come from the change on, in every cycle; the AUX stream begins with the last of them."""
    answers = 8 * 1 // timing.table_beat(CONFIG)
    measured = aux_reads({"rsp_valid": 1}, seen, began=True, load_table=1, table_rows=1)
    agree(measured - (answers - 1), aux_reader, **{name: getattr(timing, name) for name in names})


def test_aux_beat():
    measured = aux_reads({"rsp_valid": 1}, "aux_valid", ["rsp_valid"], began=True)
    agree(measured, aux_reader, AUX_READY=timing.AUX_READY)


def test_record():
    ports = {name: flag() for name in ("rst", "start", "last_accepted")} | {"profile_addr": bus(32), "region": bus(2)}
    ports |= {"record": SimpleNamespace(**{name: bus(32) for name in PROFILE_RECORD}), "req": Request(2, data=True)}
    measured = response(profile_writer, ports, {"start": 1}, "req_valid", ports["rst"], ["start"], {"config": CONFIG})
    agree(measured, profile_writer, RECORD=timing.RECORD)


# Control and bus, in a whole accelerator


STREAMS = ("fetch", "params", "weights", "aux", "store", "profile", "load")


@pytest.fixture(scope="module")
def seen():
    """Ports of `arbiter`, `memory_ports`, `descriptor_fetch` and `control` in every cycle of a random program."""
    config = Config(rows=1, cols=1, ports=1, activation_words=256, accumulator_entries=16)
    program = random_program(np.random.default_rng(78), config, layers=2)
    memory = ObiMemory(program.memory.copy().view(np.uint32), 1, np.random.default_rng(0))
    clk, rst_n, irq, idle = (flag() for _ in range(4))
    slave, masters = Slave(), Masters(1)
    masters.__dict__.update({name: getattr(memory, name) for name in vars(masters)})
    found, cycles = {}, []

    @block
    def bench():
        dut, ram = heepstor(clk, rst_n, slave, masters, irq, idle, config=config), memory.bench(clk)
        found.update(ports_inside(dut))

        @instance
        def run():
            bounds = (("BASE", program.bases), ("LIMIT", program.limits))
            writes = [(f"{kind}{i}", values[i]) for i in range(REGIONS) for kind, values in bounds]
            writes = [*writes, ("IRQ_ENABLE", 3), ("DOORBELL", program.doorbell)]
            while not irq:
                yield delay(1)
                cycles.append({name: int(signal) for name, signal in found.items()})
                clk.next = True
                yield delay(1)
                clk.next = False
                rst_n.next = len(cycles) > 2
                slave.req.next = bool(rst_n and writes)
                if rst_n and writes:
                    name, value = writes.pop(0)
                    slave.we.next, slave.be.next = True, 0xF
                    slave.addr.next, slave.wdata.next = REGISTER[name].offset, value
                assert len(cycles) < 5000
            raise StopSimulation

        return dut, ram, run

    test = bench()
    test.run_sim(quiet=1)
    test.quit_sim()
    return {name: np.array([cycle[name] for cycle in cycles]) for name in found}


def ports_inside(instance):
    """Signals of the ports of some units in an instance, by the unit's name and their own."""
    found = {}
    for part in getattr(instance, "subs", ()):
        call = getattr(part, "call", None)
        if call and call.unit.__name__ in ("arbiter", "memory_ports", "descriptor_fetch", "control"):
            found |= {f"{call.unit.__name__}.{name}": signal for name, signal in call.signals().items()}
        found |= ports_inside(part)
    return found


def times(levels):
    return np.flatnonzero(levels)


def rises(levels):
    return np.flatnonzero(levels[1:] & ~levels[:-1] & 1) + 1


def after(first, second):
    """The shortest time from one of the `first` events to the next of the `second`."""
    place = np.searchsorted(second, first)
    return int((second[place[place < len(second)]] - first[place < len(second)]).min())


def paired(first, second):
    """The shortest time from an event to that of the same number."""
    return int((second[: len(first)] - first[: len(second)]).min())


@pytest.mark.parametrize("name", ["COMMAND", "REQUEST", "MEMORY", "COLLECTED"])
def test_way_of_a_beat(seen, name):
    ports = {name.partition(".")[2]: levels for name, levels in seen.items() if name.startswith("memory_ports")}
    accepted = times(sum(seen[f"arbiter.{name}_valid"] & seen[f"arbiter.{name}_ready"] for name in STREAMS))
    commands = times(ports["cmd_valid"] & ports["cmd_ready"])
    granted = times(ports["m_req"] & ports["m_gnt"])
    arrived, answered = times(ports["m_rvalid"]), times(ports["rsp_valid"])
    assert len(answered) == len(accepted) > 100
    way = {
        "COMMAND": (accepted, commands),
        "REQUEST": (commands, granted),
        "MEMORY": (granted, arrived),
        "COLLECTED": (arrived, answered),
    }
    agree(paired(*way[name]), arbiter if name == "COMMAND" else memory_ports, **{name: getattr(timing, name)})
    assert paired(accepted, answered) == sum(paired(*part) for part in way.values())


@pytest.mark.parametrize("name", ["FETCH_ASKED", "FETCH_CHECKED", "NEXT"])
def test_fetch(seen, name):
    fetch = {name.partition(".")[2]: levels for name, levels in seen.items() if name.startswith("descriptor_fetch")}
    starts = [times(seen[f"control.stages_{stage}_start"]) for stage in stage_fields(Config())]
    go, ready, beats = times(fetch["go"]), rises(fetch["ready"]), timing.fetch_beats(Config(ports=1))
    last = times(fetch["rsp_valid"])[beats - 1 :: beats]
    start = min(after(ready, pulses) for pulses in starts)
    assert start == 1, "a stage of the cycle model starts in the cycle after it has taken a descriptor"
    taken = np.max([pulses[: len(go)] for pulses in starts], axis=0) - start
    found = {
        "FETCH_ASKED": after(go, times(fetch["req_valid"])),
        "FETCH_CHECKED": after(last, ready),
        "NEXT": after(taken, go),
    }
    unit = descriptor_fetch if name.startswith("FETCH") else control
    agree(found[name], unit, **{name: getattr(timing, name)})

# SPDX-License-Identifier: Apache-2.0
"""Control as software and engines see it: registers, descriptor lists, errors, counters, profile records."""

from dataclasses import replace

import numpy as np
import pytest
from control_bench import (
    BUSY,
    DONE,
    DRAINING,
    ERROR,
    LEVELS,
    STAGES,
    absolute,
    expected_jobs,
    legal_descriptor,
    make_bench,
    read,
    run_error,
    run_until,
    set_up,
    wait_until,
    write,
)
from cycle_bench import replay

from hls.bus.head import MAGIC, VERSION
from hls.config import Config
from hls.descriptor.interface.registers import COUNTERS, ERRORS, REGISTERS
from hls.descriptor.interface.table import FIELDS, PROFILE_RECORD, WORDS

OVERHEADS = {"doorbell": 6, "fetch": 6, "layer": 1, "irq": 2}


"""Cycles: doorbell and start to next start beyond one per beat of a descriptor; end of layer to start; to interrupt."""


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

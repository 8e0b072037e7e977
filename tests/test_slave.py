# SPDX-License-Identifier: Apache-2.0
"""The register slave against registers kept in Python: random accesses, random values behind them in every cycle."""

import numpy as np
import pytest
from cycle_bench import bus, flag, simulate

from hls.bus.head import MAGIC, VERSION
from hls.bus.obi import Slave
from hls.config import Config
from hls.descriptor.control.slave import ADDRESS_BITS, Commands, Interrupts, Readings, Regions, register_slave
from hls.descriptor.interface.registers import REGISTER, REGISTERS

STORED = {r.name: 0 for r in REGISTERS if r.name in ("WATCHDOG", "IRQ_ENABLE") or r.name[:-1] in ("BASE", "LIMIT")}


def word(name, values):
    """The register's word from signals by field."""
    return sum(int(values[bits.name]) << bits.lsb for bits in REGISTER[name].fields)


def field(name, field, data):
    """The value of a field of a word."""
    bits = REGISTER[name].bits(field)
    return data >> bits.lsb & ((1 << bits.width) - 1)


@pytest.mark.parametrize("seed", range(2))
def test_every_access_reads_and_writes_what_the_table_says(seed):
    rng = np.random.default_rng(seed)
    config = Config(
        rows=int(rng.integers(1, 33)),
        cols=int(rng.integers(1, 33)),
        ports=int(rng.integers(1, 5)),
        arithmetic=str(rng.choice(["aligned", "fma"])),
    )
    constants = {
        "MAGIC": MAGIC,
        "VERSION": VERSION,
        "CONFIG_HASH": config.hash,
        "ARCHITECTURE0": int.from_bytes(b"desc", "little"),
        "ARCHITECTURE1": int.from_bytes(b"ript", "little"),
        "ARCHITECTURE2": int.from_bytes(b"or", "little"),
        "ARCHITECTURE3": 0,
        "GEOMETRY": word(
            "GEOMETRY",
            {"ROWS": config.rows, "COLS": config.cols, "PORTS": config.ports, "FMA": config.arithmetic == "fma"},
        ),
    }
    clk, rst, slave, windows, commands, readings = flag(), flag(), Slave(), Regions(), Commands(), Readings()
    watchdog, enabled = bus(32), Interrupts()
    unit = register_slave(clk, rst, slave, windows, watchdog, enabled, commands, readings, config=config)
    kept, latched, due = dict(STORED), 0, None
    state, pending = readings.state, readings.pending
    inputs = [
        *vars(state).values(),
        *vars(pending).values(),
        *(signal for name, signal in vars(readings).items() if name not in ("state", "pending")),
    ]

    def held(name):
        if name == "IRQ_ENABLE":
            return word(name, {"DONE": enabled.done, "ERROR": enabled.error})
        return int(getattr(windows, name.lower(), watchdog))

    def value(name):
        if name == "CYCLE_HI":
            return latched
        if name == "STATUS":
            return word(
                name,
                {
                    "BUSY": state.busy,
                    "DONE": state.done,
                    "ERROR": state.failed,
                    "DRAINING": state.draining,
                    "ERROR_CODE": state.error,
                },
            )
        if name == "IRQ_STATUS":
            return word("IRQ_ENABLE", {"DONE": pending.done, "ERROR": pending.error})
        if name in kept:
            return kept[name]
        if name in constants:
            return constants[name]
        return int(getattr(readings, "cycle" if name == "CYCLE_LO" else name.lower()))

    at = {r.offset: r for r in REGISTERS}

    def drive(cycle):
        rst.next = cycle == 0
        for signal in inputs:
            signal.next = int(rng.integers(0, 1 << (len(signal) or 1)))
        slave.req.next = cycle > 1 and rng.random() < 0.8
        slave.we.next = rng.random() < 0.5
        slave.be.next = 15 if rng.random() < 0.5 else int(rng.integers(0, 16))
        word = 4 * int(rng.integers(0, 1 << ADDRESS_BITS - 2)) if rng.random() < 0.2 else int(rng.choice(list(at)))
        slave.addr.next = int(rng.integers(0, 1 << 32 - ADDRESS_BITS)) << ADDRESS_BITS | word | int(rng.integers(0, 4))
        slave.wdata.next = int(rng.integers(0, 1 << 32))

    def observe(cycle):
        nonlocal due, latched
        if cycle < 2:
            return False
        assert slave.gnt
        assert slave.rvalid == (due is not None)
        if due is not None:
            assert slave.rdata == due
        assert {name: held(name) for name in kept} == kept
        register = at.get(int(slave.addr) % (1 << ADDRESS_BITS) & ~3)
        name = register.name if register and slave.req else None
        mask = sum(0xFF << 8 * i for i in range(4) if slave.be[i])
        data = int(slave.wdata) & mask
        control = data if name == "CTRL" and slave.we else 0
        reset, force, clear = (field("CTRL", f, control) for f in ("SOFT_RESET", "FORCE", "CLEAR_COUNTERS"))
        assert (commands.soft_reset, commands.force, commands.clear) == (reset, reset and force, clear)
        assert commands.doorbell == (name == "DOORBELL" and slave.we)
        assert not commands.doorbell or commands.address == slave.wdata
        cleared = data if name == "IRQ_STATUS" and slave.we else 0
        done, error = (field("IRQ_ENABLE", f, cleared) for f in ("DONE", "ERROR"))
        assert (commands.clear_done, commands.clear_error) == (done, error)
        due = None
        if slave.req:
            due = value(name) if name and register.access != "wo" else 0
        if name == "CYCLE_LO" and not slave.we:
            latched = int(readings.cycle_high)
        if name in kept and slave.we:
            kept[name] = kept[name] & ~mask | data
            if name == "IRQ_ENABLE":
                kept[name] = word(
                    name, {bits.name: field(name, bits.name, kept[name]) for bits in REGISTER[name].fields}
                )
        return cycle == 2000

    simulate(unit, clk, drive, observe, 2001)

"""The register slave against registers kept in Python: random accesses, random values behind them in every cycle."""

import numpy as np
import pytest
from cycle_bench import bus, flag, simulate

from hls.config import Config
from hls.registers import MAGIC, REGISTERS, VERSION
from hls.slave import ADDRESS_BITS, Commands, Readings, Slave, Windows, register_slave

STORED = {r.name: 0 for r in REGISTERS if r.name in ("WATCHDOG", "IRQ_ENABLE") or r.name[:-1] in ("BASE", "LIMIT")}


@pytest.mark.parametrize("seed", range(2))
def test_every_access_reads_and_writes_what_the_table_says(seed):
    rng = np.random.default_rng(seed)
    config = Config(rows=int(rng.integers(1, 33)), cols=int(rng.integers(1, 33)), ports=int(rng.integers(1, 5)),
                    arithmetic=str(rng.choice(["aligned", "fma"])))
    constants = {"MAGIC": MAGIC, "VERSION": VERSION, "CONFIG_HASH": config.hash, "GEOMETRY": config.rows
                 | config.cols << 8 | config.ports << 16 | (config.arithmetic == "fma") << 20}
    clk, rst, slave, windows, commands, readings = flag(), flag(), Slave(), Windows(), Commands(), Readings()
    watchdog, irq_enable = bus(32), bus(2)
    unit = register_slave(clk, rst, slave, windows, watchdog, irq_enable, commands, readings, config=config)
    kept, latched, due = dict(STORED), 0, None
    held = {name: getattr(windows, name.lower(), watchdog) for name in STORED} | {"IRQ_ENABLE": irq_enable}

    def value(name):
        if name == "CYCLE_HI":
            return latched
        if name in kept:
            return kept[name]
        if name in constants:
            return constants[name]
        return int(getattr(readings, "cycle" if name == "CYCLE_LO" else name.lower()))

    at = {r.offset: r for r in REGISTERS}

    def drive(cycle):
        rst.next = cycle == 0
        for signal in vars(readings).values():
            signal.next = int(rng.integers(0, 1 << len(signal)))
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
        for name, signal in held.items():
            assert signal == kept[name]
        register = at.get(int(slave.addr) % (1 << ADDRESS_BITS) & ~3)
        name = register.name if register and slave.req else None
        mask = sum(0xFF << 8 * i for i in range(4) if slave.be[i])
        data = int(slave.wdata) & mask
        control = data if name == "CTRL" and slave.we else 0
        assert commands.soft_reset == control & 1
        assert commands.force == (control & 3 == 3)
        assert commands.clear == control >> 2 & 1
        assert commands.doorbell == (name == "DOORBELL" and slave.we)
        assert not commands.doorbell or commands.address == slave.wdata
        assert commands.irq_clear == (data & 3 if name == "IRQ_STATUS" and slave.we else 0)
        due = None
        if slave.req:
            due = value(name) if name and register.access != "wo" else 0
        if name == "CYCLE_LO" and not slave.we:
            latched = int(readings.cycle_high)
        if name in kept and slave.we:
            kept[name] = (kept[name] & ~mask | data) & ((1 << len(held[name])) - 1)
        return cycle == 4000

    simulate(unit, clk, drive, observe, 4001)

# SPDX-License-Identifier: Apache-2.0
"""A field moved in the table of `registers` moves in the hardware."""

import random
from dataclasses import replace

import pytest
from control_bench import legal_descriptor, make_bench, read, run_until, set_up, write

from hls.config import Config
from hls.descriptor.interface.registers import ERRORS, REGISTER

CONFIG = Config(rows=3, cols=5, ports=2, arithmetic="fma")
WIDTHS = {
    name: {b.name: b.width for b in REGISTER[name].fields} for name in ("GEOMETRY", "CTRL", "STATUS", "IRQ_ENABLE")
}


def drawn_places(widths, seed):
    """Bit positions of all fields of a register, in any order with any gaps."""
    rng = random.Random(seed)
    names, gaps = list(widths), 32 - sum(widths.values())
    rng.shuffle(names)
    places, at = {}, 0
    for name in names:
        gap = rng.randint(0, gaps)
        gaps -= gap
        at += gap
        places[name] = at
        at += widths[name]
    return places


@pytest.fixture(params=range(4))
def places(request, monkeypatch):
    """Where every field lies now, by register; the last has SOFT_RESET and FORCE swapped, and nothing else."""
    where = {name: drawn_places(widths, f"{name} {request.param}") for name, widths in WIDTHS.items()}
    if request.param == 3:
        where = {name: {b.name: b.lsb for b in REGISTER[name].fields} for name in WIDTHS}
        where["CTRL"] |= {"SOFT_RESET": 1, "FORCE": 0}
    for name, fields in where.items():
        moved = tuple(replace(b, lsb=fields[b.name]) for b in REGISTER[name].fields)
        monkeypatch.setitem(REGISTER, name, replace(REGISTER[name], fields=moved))
    return where


def test_hardware_follows_the_table(places):
    status = {name: 1 << lsb for name, lsb in places["STATUS"].items()}
    ctrl = {name: 1 << lsb for name, lsb in places["CTRL"].items()}
    irq = {name: 1 << lsb for name, lsb in places["IRQ_ENABLE"].items()}

    def settle():
        while (yield read("STATUS")) & (status["BUSY"] | status["DRAINING"]):
            pass

    def program(bench):
        bench.expect_error = True
        geometry = yield read("GEOMETRY")
        at = places["GEOMETRY"]
        assert geometry == 3 << at["ROWS"] | 5 << at["COLS"] | 2 << at["PORTS"] | 1 << at["FMA"]
        yield write("IRQ_ENABLE", 0xFFFFFFFF)
        assert (yield read("IRQ_ENABLE")) == irq["DONE"] | irq["ERROR"]
        yield from set_up(enable=irq["ERROR"])
        good = bench.put_list([legal_descriptor(bench.rng, CONFIG)])
        yield write("DOORBELL", good)
        assert (yield read("STATUS")) == status["BUSY"]
        yield from settle()
        assert (yield read("STATUS")) == status["DONE"]
        assert (yield read("IRQ_STATUS")) == irq["DONE"]
        assert not bench.irq
        yield write("IRQ_ENABLE", irq["DONE"])
        yield read("MAGIC")
        assert bench.irq
        yield write("IRQ_STATUS", irq["DONE"])
        assert (yield read("IRQ_STATUS")) == 0
        yield write("DOORBELL", good + 2)
        yield from settle()
        code = ERRORS["UNALIGNED"][0] << places["STATUS"]["ERROR_CODE"]
        assert (yield read("STATUS")) == status["ERROR"] | code
        assert (yield read("IRQ_STATUS")) == irq["ERROR"]
        for name, bit in ctrl.items():
            if name != "SOFT_RESET":
                yield write("CTRL", bit)
                assert (yield read("STATUS")) == status["ERROR"] | code
        yield write("CTRL", 0xFFFFFFFF & ~sum(ctrl.values()))
        assert (yield read("STATUS")) == status["ERROR"] | code
        yield write("CTRL", ctrl["SOFT_RESET"])
        yield from settle()
        assert (yield read("STATUS")) == (yield read("IRQ_STATUS")) == 0
        yield write("CTRL", ctrl["CLEAR_COUNTERS"])
        assert (yield read("BUSY")) == 0
        yield write("DOORBELL", good)
        yield from run_until(bench, lambda: bench.jobs["load"])
        bench.stuck = 10000
        yield write("CTRL", ctrl["SOFT_RESET"])
        for _ in range(5):
            assert (yield read("STATUS")) == status["DRAINING"]
        assert not bench.given_up
        yield write("CTRL", ctrl["SOFT_RESET"] | ctrl["FORCE"])
        yield read("MAGIC")
        yield read("MAGIC")
        assert bench.given_up

    bench = make_bench(program, CONFIG, ("moved", str(places)))
    bench.given_up, look = False, bench.observe

    def observe(cycle):
        bench.given_up |= bool(bench.give_up)
        return look(cycle)

    bench.observe = observe
    bench.run()

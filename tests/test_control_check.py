# SPDX-License-Identifier: Apache-2.0
"""The control unit refuses the descriptors that break a rule, and no others."""

from dataclasses import replace

import pytest
from control_bench import DONE, DRAINING, ERROR, absolute, legal_descriptor, make_bench, read, set_up, wait_until, write
from cycle_bench import seeded

from hls.config import Config
from hls.descriptor.interface.registers import ERRORS
from hls.descriptor.interface.rules import contradiction
from hls.descriptor.interface.table import FIELD, FIELDS

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

# SPDX-License-Identifier: Apache-2.0
"""Whole accelerator: random descriptor lists on the converted Verilog leave the memory that hls.descriptor.model says.

Geometries, lists and stalls all come from the numbers in a test's name, so a failure repeats; it leaves its waves.
"""

from dataclasses import replace

import numpy as np
import pytest

from firmware_gen.targets.descriptor.timing.banks import Places
from firmware_gen.targets.descriptor.timing.cycles import simulate
from hls.config import Config
from hls.descriptor.interface.registers import REGIONS
from hls.descriptor.interface.rules import may_halve
from hls.descriptor.interface.table import PROFILE_RECORD, SCRATCHPAD, WORDS, pack
from hls.descriptor.model import resolve
from hls.descriptor.top import generate
from sim.descriptors import read, run_script, start_script, wait_irq, write
from tests.layers import must_be_one_strip, random_program

LISTS, HALVED_LISTS = 24, 8
OFF = 3
"""Cycles by which the cycle model and a list of random descriptors may differ."""


def named(rows, cols, ports, arithmetic):
    return Config(rows, cols, arithmetic, ports, activation_words=1024, weight_bytes=256, accumulator_entries=16)


def drawn(number):
    """Configuration ``number`` of an endless list; one in four is as small as possible somewhere."""
    rng = np.random.default_rng([number, 2])
    rows, cols = (int(x) for x in rng.integers(1, 13, 2))
    if rng.random() < 0.25:
        rows, cols = rng.permutation([1, cols]).tolist()
    return Config(
        rows,
        cols,
        str(rng.choice(["aligned", "fma"])),
        int(rng.integers(1, 5)),
        activation_words=int(rng.choice([256, 512, 1024, 4096])),
        weight_bytes=int(rng.choice([256, 512, 2048])),
        accumulator_entries=int(rng.choice([16, 32, 128])),
        scratchpad_words=int(rng.choice([0, 256, 1024])),
    )


GEOMETRIES = {
    "4x4-p1": named(4, 4, 1, "aligned"),
    "8x8-p2": named(8, 8, 2, "aligned"),
    "3x5-p3": named(3, 5, 3, "aligned"),
    "4x4-p2-fma": named(4, 4, 2, "fma"),
    "1x1-p4": named(1, 1, 4, "aligned"),
    "16x2-p4-fma": named(16, 2, 4, "fma"),
} | {f"drawn{number}": drawn(number) for number in range(24)}
QUICK = {"8x8-p2", "3x5-p3", "4x4-p2-fma", "drawn0"}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in GEOMETRIES]
)
def accelerator(request, tmp_path_factory):
    """Configuration and generated Verilog of one geometry."""
    config = GEOMETRIES[request.param]
    folder = tmp_path_factory.mktemp("rtl")
    generate(config, folder)
    return config, folder


def compare(config, folder, program, **options):
    """Run the program on RTL and model; returns the RTL's cycles. Fails on the first differing word."""
    expected, layers = program.expect(config)
    script = [
        *start_script(program.doorbell, program.bases, program.limits, watchdog=20000),
        wait_irq(2_000_000),
        read("STATUS"),
        read("ERROR_ADDR"),
        read("LAYERS"),
        read("ARRAY_ACTIVE"),
    ]
    run = run_script(folder, program.memory, script, **options)
    cycles, status, error_addr, done, active = run.values
    assert cycles >= 0, "no interrupt"
    assert status & 0b111 == 0b010, f"STATUS {status:#x}, ERROR_ADDR {error_addr:#x}"
    assert done == len(layers)
    check_records(layers, program.bases, run.memory.view(np.uint32), expected.view(np.uint32))
    different = np.flatnonzero(run.memory.view(np.uint32) != expected.view(np.uint32))
    assert different.size == 0, (
        f"{different.size} words differ, first at {4 * different[0]:#x}: "
        f"{run.memory.view(np.uint32)[different[0]]:#010x}, model {expected.view(np.uint32)[different[0]]:#010x}; "
        f"layers {[(hex(layer.address), layer.descriptor) for layer in layers]}"
    )
    assert active == sum(layer.vectors for layer in layers)
    return cycles


def check_records(layers, bases, got, expected):
    """Profile records hold cumulative counts; they are copied to ``expected``, for the model writes none.

    The record of a layer counts what the layers behind it have streamed by then.
    """
    vectors, before = 0, dict.fromkeys(PROFILE_RECORD, 0)
    total = sum(layer.vectors for layer in layers)
    for layer in layers:
        vectors += layer.vectors
        if layer.descriptor.profile:
            place = resolve(layer.descriptor.profile_addr, bases) // 4
            place = slice(place, place + len(PROFILE_RECORD))
            record = dict(zip(PROFILE_RECORD, got[place].tolist(), strict=True))
            assert vectors <= record["array_active"] <= total
            assert all(record[name] >= before[name] for name in PROFILE_RECORD), (before, record)
            assert record["busy"] >= vectors
            before, expected[place] = record, got[place]


def test_random_lists_match_the_model(accelerator, with_waves):
    config, folder = accelerator
    for seed in range(LISTS):
        rng = np.random.default_rng([seed, config.rows, config.cols])
        program = random_program(rng, config, layers=int(rng.integers(1, 4)), profile=0.4, large=0.4)
        stall = [0.0, 0.2, 0.6][seed % 3]
        try:
            with_waves(
                lambda vcd: compare(
                    config, folder, program, stall_probability=stall, seed=seed, outstanding=1 + seed // 3 % 3, vcd=vcd
                )
            )
        except Exception as error:
            error.add_note(f"list {seed} on {config}")
            raise


def test_cycle_model_knows_how_long_lists_take(accelerator):
    """Where memory has no wait states, and no bank is shared."""
    config, folder = accelerator
    for seed in range(6):
        rng = np.random.default_rng([seed, config.rows, config.cols, 9])
        program = random_program(rng, config, layers=int(rng.integers(1, 4)))
        cycles = compare(config, folder, program, outstanding=8)
        estimated = sum(e.cycles for e in simulate([(f, Places()) for f in program.descriptors], config))
        assert abs(estimated - cycles) <= OFF, f"list {seed}"


def in_short_strips(rng, config, program):
    """The program in strips of some pixels, so that all banks are on their way, mostly half ones; by address."""
    words, changed = program.memory.view(np.uint32), []
    for layer in program.expect(config)[1]:
        if must_be_one_strip(layer.descriptor):
            changed.append(layer.descriptor)
            continue
        strip = int(rng.integers(1, max(2, min(layer.descriptor.strip_px, 10) + 1)))
        f = replace(layer.descriptor, strip_px=strip, first_px=int(rng.integers(1, strip + 1)))
        f = replace(f, halves=int(may_halve(f, strip, config) and rng.random() < 0.75))
        words[layer.address // 4 :][:WORDS] = pack(f)
        changed.append(f)
    return replace(program, descriptors=changed)


def test_half_banks_and_whole_ones_in_turn(accelerator):
    config, folder = accelerator
    halves = 0
    for seed in range(HALVED_LISTS):
        rng = np.random.default_rng([seed, config.rows, config.cols, 4])
        program = in_short_strips(rng, config, random_program(rng, config, layers=4))
        halves += sum(f.halves for f in program.descriptors)
        stall = [0.0, 0.5][seed % 2]
        cycles = compare(config, folder, program, stall_probability=stall, seed=seed, outstanding=8)
        if not stall:
            estimated = sum(e.cycles for e in simulate([(f, Places()) for f in program.descriptors], config))
            assert abs(estimated - cycles) <= OFF, f"list {seed}"
    assert halves > HALVED_LISTS


def test_lists_one_after_the_other(accelerator):
    """Without a reset between them, each in a memory of its own: nothing of a list is left for the next one."""
    config, folder = accelerator
    for seed in range(8):
        rng = np.random.default_rng([seed, config.rows, config.cols, 3])
        programs = [random_program(rng, config, layers=int(rng.integers(1, 4)), large=0.3) for _ in range(3)]
        script, start = [], 0
        for program in programs:
            places = np.full(REGIONS, start)
            if config.scratchpad_words:
                places[SCRATCHPAD] = 0
            bases, limits = program.bases + places, program.limits + places
            script += [
                *start_script(program.doorbell, bases, limits, watchdog=20000),
                wait_irq(2_000_000),
                read("STATUS"),
                read("LAYERS"),
                write("IRQ_STATUS", 3),
            ]
            start += len(program.memory)
        run = run_script(
            folder,
            np.concatenate([program.memory for program in programs]),
            script,
            stall_probability=[0.0, 0.3][seed % 2],
            seed=seed,
            outstanding=1 + seed % 3,
        )
        expected = [program.expect(config) for program in programs]
        for number, (_, layers) in enumerate(expected):
            waited, status, done = run.values[3 * number :][:3]
            assert waited >= 0 and status == 2 and done == len(layers), (seed, number, hex(status))
        memory = np.concatenate([words for words, _ in expected])
        assert np.array_equal(run.memory.view(np.uint32), memory.view(np.uint32)), f"seed {seed}"

# SPDX-License-Identifier: Apache-2.0
"""The generated accelerator is stopped anywhere in a list, and then runs it as if nothing had happened."""

import numpy as np
import pytest

from hls.config import Config
from hls.descriptor.interface.registers import ERRORS
from hls.descriptor.top import generate
from sim.descriptors import read, run_script, start_script, wait_irq, write
from tests.layers import random_program

POLLS = 40


@pytest.fixture(scope="module", params=[(4, 4, 2), pytest.param((3, 5, 3), marks=pytest.mark.slow)], ids=str)
def accelerator(request, tmp_path_factory):
    rows, cols, ports = request.param
    config = Config(rows=rows, cols=cols, ports=ports, activation_words=1024, weight_bytes=256, accumulator_entries=16)
    folder = tmp_path_factory.mktemp("rtl")
    generate(config, folder)
    return config, folder


def run_again(config, folder, program, script, seed):
    """Run ``script``, reset, let the bus drain, run the list; returns the values that ``script`` read."""
    expected, _ = program.expect(config)
    limits = [write(f"LIMIT{i}", limit) for i, limit in enumerate(program.limits)]
    again = [
        write("CTRL", 1),
        *[read("STATUS")] * POLLS,
        *limits,
        write("DOORBELL", program.doorbell),
        wait_irq(2_000_000),
        read("STATUS"),
    ]
    run = run_script(
        folder, program.memory, [*script, *again], stall_probability=0.3, seed=seed, outstanding=1 + seed % 3
    )
    *values, cycles, status = run.values
    assert values[-1] == 0, f"still draining after {POLLS} reads"
    assert cycles >= 0 and status == 2
    assert np.array_equal(run.memory.view(np.uint32), expected.view(np.uint32))
    return values[:-POLLS]


@pytest.mark.parametrize("how", ["soft_reset", "doorbell"])
def test_stopped_anywhere(accelerator, how):
    config, folder = accelerator
    for seed in range(12):
        rng = np.random.default_rng([seed, len(how)])
        program = random_program(rng, config, layers=2)
        delay = [read("MAGIC")] * int(rng.integers(1, 150))
        script = [*start_script(program.doorbell, program.bases, program.limits), *delay]
        if how == "doorbell":
            script += [write("DOORBELL", program.doorbell), read("STATUS")]
        values = run_again(config, folder, program, script, seed)
        if how == "doorbell":
            assert values[-1] >> 8 in (0, ERRORS["BUSY"][0])


def test_outside_of_a_window(accelerator):
    config, folder = accelerator
    for seed in range(8):
        rng = np.random.default_rng(seed)
        program = random_program(rng, config, layers=2)
        limits = list(program.limits)
        limits[1] = program.bases[1] + 8
        script = [
            *start_script(program.doorbell, program.bases, limits),
            wait_irq(100_000),
            read("STATUS"),
            read("ERROR_ADDR"),
        ]
        cycles, status, address = run_again(config, folder, program, script, seed)[-3:]
        assert cycles >= 0
        assert status & 0xF07 == 4 | ERRORS["WINDOW"][0] << 8
        assert limits[1] <= address < program.limits[1]

"""Whole accelerator: random descriptor lists on the converted Verilog leave the memory that hls.model says."""

import numpy as np
import pytest

from hls.config import Config
from hls.model import execute
from hls.top import generate
from sim.descriptors import read, run_script, start_script, wait_irq
from tests.layers import random_program

GEOMETRIES = [
    dict(rows=4, cols=4, ports=1, arithmetic="aligned"),
    dict(rows=8, cols=8, ports=2, arithmetic="aligned"),
    dict(rows=3, cols=5, ports=3, arithmetic="aligned"),
    dict(rows=4, cols=4, ports=2, arithmetic="fma"),
    dict(rows=1, cols=1, ports=4, arithmetic="aligned"),
    dict(rows=16, cols=2, ports=4, arithmetic="fma"),
]


def geometry_id(options):
    return "{rows}x{cols}-p{ports}-{arithmetic}".format(**options)


@pytest.fixture(scope="module", params=GEOMETRIES, ids=geometry_id)
def accelerator(request, tmp_path_factory):
    """Configuration and generated Verilog of one geometry."""
    config = Config(**request.param, activation_words=1024, weight_bytes=256, accumulator_entries=16)
    folder = tmp_path_factory.mktemp("rtl")
    generate(config, folder)
    return config, folder


def compare(config, folder, program, **options):
    """Run the program on RTL and model; returns the RTL's cycles. Fails on the first differing word."""
    expected = program.memory.copy()
    layers = execute(expected, program.doorbell, program.bases, config)
    script = [*start_script(program.doorbell, program.bases, program.limits, watchdog=20000), wait_irq(2_000_000),
              read("STATUS"), read("ERROR_ADDR"), read("LAYERS"), read("ARRAY_ACTIVE")]
    run = run_script(folder, program.memory, script, **options)
    cycles, status, error_addr, done, active = run.values
    assert cycles >= 0, "no interrupt"
    assert status & 0b111 == 0b010, f"STATUS {status:#x}, ERROR_ADDR {error_addr:#x}"
    assert done == len(layers)
    different = np.flatnonzero(run.memory.view(np.uint32) != expected.view(np.uint32))
    assert different.size == 0, (
        f"{different.size} words differ, first at {4 * different[0]:#x}: "
        f"{run.memory.view(np.uint32)[different[0]]:#010x}, model {expected.view(np.uint32)[different[0]]:#010x}; "
        f"layers {[(hex(layer.address), layer.fields) for layer in layers]}")
    assert active == sum(layer.vectors for layer in layers)
    return cycles


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_random_lists_match_the_model(accelerator, stall):
    config, folder = accelerator
    for seed in range(30):
        rng = np.random.default_rng([seed, config.rows, config.cols])
        program = random_program(rng, config, layers=int(rng.integers(1, 4)))
        compare(config, folder, program, stall_probability=stall, seed=seed, outstanding=1 + seed % 3)

# SPDX-License-Identifier: Apache-2.0
"""Waves to look at, which stay in waves/ when the tests pass: a PE, tiles in the array, the accelerator at work, an OBI
port. What they show is compared with the models, as everywhere."""

import re

import numpy as np
from myhdl import Signal, intbv

from hls.arithmetic.fma import fma_model
from hls.arithmetic.pe import FMA_STEP, fma_pe
from hls.config import Config
from hls.descriptor.interface.table import PROFILE_RECORD
from sim.waves import end_time, variables, write_save_file
from tests.array_stimulus import schedule
from tests.cycle_bench import bus, flag, simulate
from tests.layers import random_program, random_values
from tests.test_accelerator_myhdl import simulate as simulate_accelerator
from tests.test_array import check, simulate_myhdl
from tests.test_ports import WORDS, Bench

PERIOD = 10
"""Units of time of a clock of the accelerator's bench."""
NARROWEST = 660
"""Pixels of waves in the window that the save files ask for."""


def check_views(path, markers=()):
    """The save files show all of the time, every variable of the outer modules, and the markers."""
    text = write_save_file(path, markers).read_text()
    end = end_time(path)
    assert end > 100
    zoom, cursor, *times = map(float, re.search(r"^\*(.*)$", text, re.M)[1].split())
    assert cursor == -1 and end <= NARROWEST * 2**-zoom / 200 < 1.2 * end
    assert [time for time in times if time >= 0] == [time for time, _ in markers]
    assert re.findall(r"^\[markername\] .(.*)$", text, re.M) == [name for _, name in markers]
    scopes = {v.scopes for v in variables(path) if len(v.scopes) <= 2}
    commands = path.with_suffix(".sucl").read_text().splitlines()
    for scope in scopes:
        name = ".".join(scope)
        assert re.search(rf"^-{re.escape(name)}$", text, re.M) and f"scope_add_as_group {name}" in commands
    assert commands[-1] == "zoom_fit"
    assert [line for line in commands if "marker_set" in line] == [
        f"marker_set {name} {time}" for time, name in markers
    ]


def test_a_processing_element(gallery):
    """Weights swapped in one cycle ahead of the activations that need them."""
    rng = np.random.default_rng(3)
    count = 24
    a = random_values(rng, count)
    w = rng.integers(-128, 128, count).astype(np.int8)
    names = ("a", "psum", "a_out", "psum_out")
    p = {name: bus(32) for name in names} | {name: Signal(intbv(0)[8:]) for name in ("weight", "diag_weight")}
    p |= {name: flag() for name in ("clk", "swap", "load", "load_diag")}
    p |= {f"{name}_out": flag() for name in ("valid", "swap", "load", "load_diag")} | {"valid": Signal(True)}
    seen = []

    def drive(cycle):
        """Cycle t + 2 brings activation t, whose weight is loaded in t and swapped in t + 1."""
        p["load"].next, p["swap"].next = cycle < count, 1 <= cycle <= count
        if cycle < count:
            p["weight"].next = int(w[cycle]) & 0xFF
        if 2 <= cycle < count + 2:
            p["a"].next = int(a[cycle - 2])

    def observe(cycle):
        seen.append(int(p["psum_out"]))
        return cycle == count + 2 + FMA_STEP

    path = gallery("processing_element")
    simulate(fma_pe(**p), p["clk"], drive, observe, 200, path)
    exact = fma_model(a, w, np.zeros(count, np.uint32))
    np.testing.assert_array_equal(np.array(seen[2 + FMA_STEP :][:count], np.uint32), exact)
    check_views(path)


def test_tiles_in_the_array(gallery):
    config = Config(rows=3, cols=2)
    tiles = schedule(config, tiles=4, per_tile=6, gaps=0.2, seed=5)
    path = gallery("array_tiles")
    check(tiles, *simulate_myhdl(config, tiles, path)[:2])
    check_views(path)


def test_the_accelerator_at_work(gallery):
    config = Config(rows=2, cols=2, ports=2, activation_words=256, weight_bytes=256, accumulator_entries=16)
    program = random_program(np.random.default_rng(1232), config, layers=2, profile=1.0)
    expected, _ = program.expect(config)
    path = gallery("accelerator")
    stall = {"grant": 0.9, "answer": 0.9, "single": False}
    words, status, cycles = simulate_accelerator(config, program, 1, stall, vcd=path)
    assert status & 7 == 2 and cycles < 800  # larger ones take long: choose another seed
    records = [(program.bases[0] + descriptor.profile_addr) // 4 for descriptor in program.descriptors]
    others = np.setdiff1d(np.arange(len(words)), np.add.outer(records, np.arange(len(PROFILE_RECORD))))
    np.testing.assert_array_equal(words[others], expected.view(np.uint32)[others])
    ends = [int(words[record]) for record in records]
    assert 0 < ends[0] < ends[1] <= cycles + 100
    check_views(path, [(PERIOD * end, f"layer_{index}") for index, end in enumerate(ends)])


def test_an_obi_port(gallery):
    bench = Bench(1, grant=0.7, answer=0.6)
    words = [int(word) for word in bench.memory.words]
    expected, answers = [], []

    def step(cycle):
        if bench.answered():
            answers.append(bench.answered()[1][0])
        address = cycle * 5 % WORDS
        bench.command(False, [4 * address], [0], 2)
        if bench.cmd.ready:
            expected.append(words[address])

    path = gallery("obi_port")
    bench.run(step, 80, path)
    assert answers == expected[: len(answers)] and len(answers) > 20
    check_views(path)

# SPDX-License-Identifier: Apache-2.0
"""What one list leaves behind does not reach the next: wrong lengths, words that nobody needed, a bus that was slow."""

from dataclasses import replace

import numpy as np
import pytest

from hls.config import Config
from hls.descriptor.interface.registers import ERRORS, REGISTER
from hls.descriptor.interface.table import WORDS, address, pack
from hls.descriptor.top import generate
from sim.descriptors import read, run_script, start_script, wait_irq, write
from tests.layers import copy_layer

CONFIG = Config(4, 4, "aligned", 2, activation_words=1024, weight_bytes=256, accumulator_entries=16, scratchpad_words=0)
N = 40
SOURCE, FIRST, SECOND = 0x1000, 0x1400, 0x1600
REFUSED = 4 | ERRORS["DESCRIPTOR"][0] << 8
SOFT_RESET = REGISTER["CTRL"].word(SOFT_RESET=1)
FORCE = REGISTER["CTRL"].word(SOFT_RESET=1, FORCE=1)


@pytest.fixture(scope="module")
def verilog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rtl")
    generate(CONFIG, folder)
    return folder


def memory(**changes):
    """Two lists that copy N words: the first, with ``changes``, at 0, the second, correct, at 256."""
    image = np.zeros(0x2000, np.uint8)
    words = image.view(np.uint32)
    words[SOURCE // 4 :][: 2 * N] = np.arange(1, 2 * N + 1, dtype=np.float32).view(np.uint32)
    layer = replace(copy_layer(address(0, SOURCE), 0, N, CONFIG), last=1, strip_px=7)
    words[:WORDS] = pack(replace(layer, store_addr=address(0, FIRST), **changes))
    words[64 : 64 + WORDS] = pack(replace(layer, store_addr=address(0, SECOND)))
    return image


def copied(image, at):
    words = image.view(np.float32)
    return np.array_equal(words[at // 4 :][:N], np.arange(1, N + 1))


def start():
    return start_script(0, [0] * 4, [0x2000, 0, 0, 0], 2000)


@pytest.mark.parametrize(
    "changes",
    [
        {"load_words": N + 1},
        {"load_words": N - 1},
        {"load_c_count": N + 1},
        {"run": 2},
        {"ncb": 2},
        {"row0": 4},
        {"cout": 5, "run": 5},
    ],
    ids=str,
)
def test_lengths_that_contradict_each_other_are_refused(verilog, changes):
    script = [
        *start(),
        wait_irq(20_000),
        read("STATUS"),
        write("CTRL", SOFT_RESET),
        "cycles 40",
        write("DOORBELL", 256),
        wait_irq(20_000),
        read("STATUS"),
    ]
    run = run_script(verilog, memory(**changes), script)
    assert run.values[1] & 0xF07 == REFUSED and run.values[3] == 2
    assert not run.memory[FIRST : FIRST + 4 * N].any() and copied(run.memory, SECOND)


@pytest.mark.parametrize("seed", range(4))
def test_words_that_no_vector_needs_may_come_last(verilog, seed):
    image = memory(load_c_count=2 * N, load_words=2 * N, in_h=2)  # the second row is loaded, and not used
    script = [
        *start(),
        wait_irq(20_000),
        read("STATUS"),
        write("IRQ_STATUS", 3),
        write("DOORBELL", 256),
        wait_irq(20_000),
        read("STATUS"),
    ]
    run = run_script(verilog, image, script, stall_probability=0.2 * seed, seed=seed)
    assert run.values[1] == run.values[3] == 2
    assert copied(run.memory, FIRST) and copied(run.memory, SECOND)


@pytest.mark.parametrize("seed", range(6))
def test_answers_that_come_after_a_forced_reset_are_discarded(verilog, seed):
    """The bus stops in mid-list, the list is given up, and the bus answers when the next list runs already."""
    script = [
        *start(),
        f"cycles {40 + 7 * seed:x}",
        "dead 3",
        "cycles 20",
        write("CTRL", FORCE),
        "cycles 2",
        read("STATUS"),
        write("DOORBELL", 256),
        "cycles 30",
        "dead 0",
        wait_irq(20_000),
        read("STATUS"),
    ]
    run = run_script(verilog, memory(), script, outstanding=1 + seed % 3, seed=seed)
    reset, waited, status = run.values
    assert reset == 0 and waited >= 0 and status == 2
    assert copied(run.memory, SECOND)


def test_a_second_forced_reset_gives_late_answers_up(verilog):
    script = [
        *start(),
        "cycles 40",
        "dead 3",
        "cycles 20",
        write("CTRL", FORCE),
        "cycles 2",
        write("DOORBELL", 256),
        wait_irq(20_000),
        read("STATUS"),
        write("CTRL", FORCE),
        "cycles 2",
        read("STATUS"),
    ]
    run = run_script(verilog, memory(), script)
    assert run.values[0] >= 2000 and run.values[1] & 0xF04 == 4 | ERRORS["TIMEOUT"][0] << 8
    assert run.values[2] == 0


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_hard_reset_in_mid_list(verilog, length):
    for seed in range(6):
        script = [
            *start(),
            f"cycles {20 + 25 * seed:x}",
            f"reset {length:x}",
            read("STATUS"),
            read("LANES_LOST"),
            read("LANES_LOSSY"),
            read("BUSY"),
            *start()[:-1],
            write("DOORBELL", 256),
            wait_irq(20_000),
            read("STATUS"),
            read("LANES_LOST"),
            read("LANES_LOSSY"),
        ]
        run = run_script(verilog, memory(), script, stall_probability=0.3, seed=seed, outstanding=1 + seed % 3)
        assert run.values[:4] == (0, 0, 0, 0)
        assert run.values[4] >= 0 and run.values[5:] == (2, 0, 0)
        assert copied(run.memory, SECOND)

# SPDX-License-Identifier: Apache-2.0
"""The runtime's driver, compiled for the host, on registers that behave like the accelerator's."""

import pytest

from firmware_gen.emit.codegen import runtime
from hls.bus.head import MAGIC
from hls.config import INTERFACE_VERSION
from hls.descriptor.interface.registers import ERRORS, REGISTER
from sim.toolchain import host_compiler, run_tool

BUSY, OK, ACCELERATOR_ERROR, TIMEOUT = 4, 0, 5, 6

SOC = """
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "heepstor_regs.h"
inline uint32_t registers[64], begin, ends_after, status_then, drains_after;
inline volatile uint32_t& at(uint32_t offset) { return registers[offset / 4]; }
// Every access takes ten cycles; a list ends ends_after, and a reset list has drained drains_after the first.
inline volatile uint32_t& soc_register(uint32_t address) {
  at(HEEPSTOR_CYCLE_LO_REG) = at(HEEPSTOR_CYCLE_LO_REG) + 10;
  const uint32_t now = at(HEEPSTOR_CYCLE_LO_REG) - begin;
  if (at(HEEPSTOR_CTRL_REG) & HEEPSTOR_CTRL_SOFT_RESET_BIT)
    at(HEEPSTOR_STATUS_REG) = now < drains_after ? HEEPSTOR_STATUS_DRAINING_BIT : 0;
  else if (ends_after && now >= ends_after) {
    at(HEEPSTOR_STATUS_REG) = status_then;
    const bool failed = status_then & HEEPSTOR_STATUS_ERROR_BIT;
    at(HEEPSTOR_IRQ_STATUS_REG) = failed ? HEEPSTOR_IRQ_ENABLE_ERROR_BIT : HEEPSTOR_IRQ_ENABLE_DONE_BIT;
  }
  return at(address & 0xff);
}
inline void soc_putchar(char character) { putchar(character); }
inline void soc_puts(const char* text) { fputs(text, stdout); }
[[noreturn]] inline void soc_exit(int value) { exit(value); }
inline uint64_t soc_cycles() { return 0; }
inline void soc_fast_interrupt_enable(unsigned) {}
inline void soc_fast_interrupt_clear(unsigned) {}
"""

MAIN = """
#include "heepstor.hpp"
#include "soc.hpp"
int main(int, char** argv) {
  const auto number = [argv](int i) { return uint32_t(strtoul(argv[i], nullptr, 0)); };
  registers[HEEPSTOR_CYCLE_LO_REG / 4] = begin = number(1);
  ends_after = number(2);
  status_then = number(3);
  drains_after = number(4);
  heepstor::Device device({0, 0});
  const heepstor::Status status = device.run(0x40, number(5));
  printf("%u %u %u ", uint32_t(status), at(HEEPSTOR_CYCLE_LO_REG) - number(1), at(HEEPSTOR_DOORBELL_REG));
  heepstor::print_status(status, device, {});
}
"""


OPEN = """
#include "heepstor.hpp"
#include "soc.hpp"
int main(int, char** argv) {
  const auto number = [argv](int i) { return uint32_t(strtoul(argv[i], nullptr, 0)); };
  for (int i = 1; argv[i]; i += 2) registers[number(i) / 4] = number(i + 1);
  heepstor::Device device({0, 0}), other({0, 0});
  const heepstor::Hardware expected{HEEPSTOR_VERSION, 3, 5, 2, 1, 0xabc};
  const heepstor::Region regions[HEEPSTOR_REGIONS] = {{16, 32}, {48, 64}, {80, 96}, {112, 128}};
  const heepstor::Status status = device.open(expected, regions, 77);
  printf("%u %d%d", uint32_t(status), device.is_open(), other.is_open());
  for (uint32_t i = 0; i < 64; ++i) printf(" %u", registers[i]);
  puts("");
  heepstor::print_status(status, device, expected);
}
"""


def built(folder, program):
    """The program on these registers."""
    for name, text in runtime("descriptor").items():
        (folder / name).write_text(text)
    (folder / "soc.hpp").write_text(SOC)
    (folder / "main.cpp").write_text(program)
    run_tool(
        [
            *host_compiler(),
            "-std=c++17",
            "-O2",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{folder}",
            folder / "main.cpp",
            folder / "heepstor.cpp",
            folder / "accelerator.cpp",
            "-o",
            folder / "main",
        ],
        "compiling",
    )
    return folder / "main"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Function (first cycle, cycles of the list or 0, STATUS at its end, cycles until drained, limit) -> printed."""
    program = built(tmp_path_factory.mktemp("device"), MAIN)

    def run(*numbers):
        status, cycles, doorbell, text = run_tool([program, *map(str, numbers)], "running").split(" ", 3)
        assert doorbell == "64"
        return int(status), int(cycles), text

    return run


@pytest.mark.parametrize("first", [0, 0xFFFFFF00])  # the counter may wrap meanwhile
def test_a_list_that_ends_in_time(run, first):
    assert run(first, 500, 2, 0, 1000)[0] == OK
    assert run(first, 500, 2, 0, 0)[0] == OK
    assert run(first, 500, 4 | ERRORS["STALL"][0] << 8, 0, 1000)[0] == ACCELERATOR_ERROR


@pytest.mark.parametrize("first", [0, 0xFFFFFF00])
def test_a_list_without_end_is_stopped(run, first):
    status, cycles, text = run(first, 0, 0, 0, 1000)
    assert status == TIMEOUT and "did not end in time" in text
    assert 1000 <= cycles < 1200
    assert run(first, 2000, 2, 0, 1000)[0] == TIMEOUT


def test_a_bus_that_still_owes_answers_after_the_limit(run):
    assert run(0, 0, 0, 3000, 1000)[0] == TIMEOUT
    assert run(0, 0, 0, 10**9, 1000)[0] == BUSY


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Function (registers at first by name) -> (status, registers afterwards by name, what is printed)."""
    program = built(tmp_path_factory.mktemp("open"), OPEN)
    name = int.from_bytes(b"desc", "little"), int.from_bytes(b"ript", "little"), int.from_bytes(b"or", "little")
    right = {"MAGIC": MAGIC, "VERSION": INTERFACE_VERSION, "CONFIG_HASH": 0xABC}
    right |= {f"ARCHITECTURE{i}": word for i, word in enumerate(name)}

    def opened(**first):
        words = [number for key, value in (right | first).items() for number in (REGISTER[key].offset, value)]
        found, text = run_tool([program, *map(str, words)], "running").split("\n", 1)
        status, is_open, *values = found.split()
        assert is_open == ("10" if status == "0" else "00")
        return int(status), {key: int(values[REGISTER[key].offset // 4]) for key in REGISTER}, text

    return opened


@pytest.mark.parametrize("status", ["", "ERROR", "DRAINING"])
def test_an_accelerator_is_opened(opened, status):
    """Windows, watchdog, counters and interrupts are set, and an error of before is gone."""
    STATUS = REGISTER["STATUS"]
    found, registers, text = opened(STATUS=STATUS.word(**{status: 1}) if status else 0)
    assert (found, text, registers["STATUS"]) == (OK, "ok\n", 0)
    windows = [registers[f"{name}{i}"] for i in range(4) for name in ("BASE", "LIMIT")]
    assert windows == [16, 32, 48, 64, 80, 96, 112, 128] and registers["WATCHDOG"] == 77
    assert registers["CTRL"] == REGISTER["CTRL"].word(CLEAR_COUNTERS=1)
    assert registers["IRQ_ENABLE"] == REGISTER["IRQ_ENABLE"].word(DONE=1, ERROR=1)
    assert registers["IRQ_STATUS"] == 0xFFFFFFFF


@pytest.mark.parametrize(
    "first, status, text",
    [
        ({"MAGIC": 1}, 1, "no heepgen accelerator"),
        ({"VERSION": 7}, 2, f"has version 7, this program needs {INTERFACE_VERSION};"),
        (
            {"CONFIG_HASH": 0x123},
            3,
            "4x6 aligned, 3 ports, configuration 00000123; this program was generated for 3x5 fma, 2 ",
        ),
        (
            {"ARCHITECTURE0": 0x33323130},
            3,
            "the accelerator is 0123riptor, configuration 00000abc, this program needs descriptor",
        ),
        ({"ARCHITECTURE2": 0x37726F}, 3, "the accelerator is descriptor7, "),
        ({"STATUS": REGISTER["STATUS"].word(BUSY=1)}, BUSY, "the accelerator is busy"),
    ],
)
def test_what_is_no_such_accelerator_is_left_alone(opened, first, status, text):
    found, registers, printed = opened(**{"GEOMETRY": REGISTER["GEOMETRY"].word(ROWS=4, COLS=6, PORTS=3), **first})
    assert found == status and text in printed
    assert not any(registers[name] for name in ("BASE0", "LIMIT0", "WATCHDOG", "CTRL", "IRQ_ENABLE"))

# SPDX-License-Identifier: Apache-2.0
"""The runtime's driver, compiled for the host, on registers that behave like the accelerator's."""

import pytest

from firmware_gen.emit.codegen import runtime
from hls.descriptor.interface.registers import ERRORS
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


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Function (first cycle, cycles of the list or 0, STATUS at its end, cycles until drained, limit) -> printed."""
    folder = tmp_path_factory.mktemp("device")
    for name, text in runtime("descriptor").items():
        (folder / name).write_text(text)
    (folder / "soc.hpp").write_text(SOC)
    (folder / "main.cpp").write_text(MAIN)
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

    def run(*numbers):
        status, cycles, doorbell, text = run_tool([folder / "main", *map(str, numbers)], "running").split(" ", 3)
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

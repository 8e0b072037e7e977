// SPDX-License-Identifier: Apache-2.0
// Stands in for the SoC when firmware is compiled for the host: registers are plain memory.
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

inline uint32_t fake_registers[64];
inline volatile uint32_t& soc_register(uint32_t address) { return fake_registers[(address & 0xff) / 4]; }
inline void soc_putchar(char character) { putchar(character); }
inline void soc_puts(const char* text) { fputs(text, stdout); }
[[noreturn]] inline void soc_exit(int value) { exit(value); }
inline uint64_t soc_cycles() { return 0; }
inline void soc_fast_interrupt_enable(unsigned) {}
inline void soc_fast_interrupt_clear(unsigned) {}

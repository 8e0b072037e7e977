// SPDX-License-Identifier: Apache-2.0
// The runtime's view of the SoC, on X-HEEP.
#ifndef HEEPGEN_SOC_HPP
#define HEEPGEN_SOC_HPP

#include <stddef.h>
#include <stdint.h>

#include "soc_map.h"

/* Exit value of a run that an exception ended: this plus mcause. */
#define SOC_EXIT_TRAP 0x40000000

inline volatile uint32_t& soc_register(uint32_t address) {
  return *reinterpret_cast<volatile uint32_t*>(static_cast<uintptr_t>(address));
}

extern "C" {
/** Enables the UART's transmitter; the first character does it too. */
void soc_init();
void soc_putchar(char character);
void soc_write(const char* text, size_t length);
/** Writes a string; no newline is added. */
void soc_puts(const char* text);
/** Ends the program; the value is what main returned. */
[[noreturn]] void soc_exit(int value);
/** An exception ends the program; only the start-up code of sw/freestanding calls it. */
[[noreturn]] void soc_trap(uint32_t cause, uint32_t pc, uint32_t value);
/** Cycles while the CPU is awake (mcycle): for the kernels that run on the CPU. */
uint64_t soc_cycles();
/** Lets the accelerator's interrupt reach the CPU's mip. The line is the one of heepstor_soc.sv. */
void soc_fast_interrupt_enable(unsigned line);
void soc_fast_interrupt_clear(unsigned line);
}

/** The accelerator's bit of mie. */
inline uint32_t soc_interrupt_mask(unsigned) { return SOC_INTERRUPT_PLIC ? 1u << 11 : 1u << 31; }

#endif

// SPDX-License-Identifier: Apache-2.0
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
/** Enables the UART's transmitter; called before main. */
void soc_init();
void soc_putchar(char character);
void soc_write(const char* text, size_t length);
/** Writes a string; no newline is added. */
void soc_puts(const char* text);
/** Ends the program; the value is what main returned. */
[[noreturn]] void soc_exit(int value);
/** Called on an exception: prints its cause and ends the program. */
[[noreturn]] void soc_trap(uint32_t cause, uint32_t pc, uint32_t value);
/** Clock cycles since reset. Only the virtual SoC has this counter. */
uint64_t soc_cycles();
}

/** Bit of mie and mip of fast interrupt `line`. */
inline uint32_t soc_interrupt_mask(unsigned line) { return 1u << (16 + line); }

/** Lets fast interrupt `line` (0..15) reach the CPU's mip; whether it is taken is mie's and MIE's matter. */
inline void soc_fast_interrupt_enable(unsigned line) {
  volatile uint32_t& enable = soc_register(SOC_FAST_INTR_BASE + SOC_FAST_INTR_ENABLE);
  enable = enable | 1u << line;
}

/** Clears the pending bit of `line`; the device must have withdrawn its request before. */
inline void soc_fast_interrupt_clear(unsigned line) {
  soc_register(SOC_FAST_INTR_BASE + SOC_FAST_INTR_CLEAR) = 1u << line;
}

#endif

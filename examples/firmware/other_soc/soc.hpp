// SPDX-License-Identifier: Apache-2.0
// All that heepgen asks of a SoC: here one with a 16550 UART, a timer, and the accelerator on an input of its PLIC.
#ifndef OTHER_SOC_HPP
#define OTHER_SOC_HPP

#include <stdint.h>

constexpr uint32_t kAccelerator = 0x40000000, kConfigured = 0xf0000000;  // where it is, and xheep.slave_base
constexpr uint32_t kSource = 37;                                         // of the PLIC
constexpr uint32_t kUart = 0x10000000, kUartLineStatus = 5, kUartEmpty = 0x20;
constexpr uint32_t kPlic = 0x0c000000, kPlicEnable = kPlic + 0x2000, kPlicClaim = kPlic + 0x200004;
constexpr uint32_t kTimerLow = 0x0200bff8, kTimerHigh = 0x0200bffc;
constexpr uint32_t kReset = 0x00100000;

inline volatile uint32_t& device(uint32_t address) {
  return *reinterpret_cast<volatile uint32_t*>(static_cast<uintptr_t>(address));
}

inline volatile uint32_t& soc_register(uint32_t address) { return device(address - kConfigured + kAccelerator); }

inline void soc_putchar(char character) {
  volatile uint8_t* const uart = reinterpret_cast<volatile uint8_t*>(static_cast<uintptr_t>(kUart));
  while (!(uart[kUartLineStatus] & kUartEmpty)) {
  }
  uart[0] = static_cast<uint8_t>(character);
}

inline void soc_puts(const char* text) {
  while (*text) soc_putchar(*text++);
}

[[noreturn]] inline void soc_exit(int) {
  for (;;) device(kReset) = 1;
}

inline uint64_t soc_cycles() {
  for (;;) {
    const uint32_t high = device(kTimerHigh), low = device(kTimerLow);
    if (high == device(kTimerHigh)) return static_cast<uint64_t>(high) << 32 | low;
  }
}

inline void soc_fast_interrupt_enable(unsigned) {
  device(kPlic + 4 * kSource) = 1;  // priority
  volatile uint32_t& enable = device(kPlicEnable + 4 * (kSource / 32));
  enable = enable | 1u << kSource % 32;
}

inline void soc_fast_interrupt_clear(unsigned) {
  const uint32_t claimed = device(kPlicClaim);
  if (claimed) device(kPlicClaim) = claimed;
}

inline uint32_t soc_interrupt_mask(unsigned) { return 1u << 11; }

#endif

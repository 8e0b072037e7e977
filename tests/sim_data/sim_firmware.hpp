// SPDX-License-Identifier: Apache-2.0
// Registers of the tiny test accelerator, and how to wait for it.
#pragma once
#include "soc.hpp"

constexpr uint32_t kSrc = 0, kDst = 4, kCount = 8, kStart = 12, kIrqClear = 16, kDelay = 20, kCycles = 24, kSum = 32;
constexpr uint32_t kCopy = 0, kScan = 2;

inline volatile uint32_t& device(uint32_t offset) { return soc_register(ACCELERATOR + offset); }
inline uint32_t address(const volatile void* p) { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p)); }

inline void start(const void* src, void* dst, uint32_t words_per_port, uint32_t mode) {
  device(kSrc) = address(src);
  device(kDst) = address(dst);
  device(kCount) = words_per_port;
  device(kStart) = mode;
}

/* Check, then sleep: with MIE = 0 a pending interrupt ends wfi without being taken. */
inline void wait_asleep() {
  __asm__ volatile("csrs mie, %0" ::"r"(1u << (16 + IRQ_LINE)));
  soc_fast_interrupt_enable(IRQ_LINE);
  while (!(soc_register(SOC_FAST_INTR_BASE + SOC_FAST_INTR_PENDING) >> IRQ_LINE & 1)) __asm__ volatile("wfi");
}

inline bool acknowledge() {
  device(kIrqClear) = 1;
  static_cast<void>(static_cast<uint32_t>(device(kStart)));  // irq is down when the answer comes
  soc_fast_interrupt_clear(IRQ_LINE);
  uint32_t pending = soc_register(SOC_FAST_INTR_BASE + SOC_FAST_INTR_PENDING);
  pending = soc_register(SOC_FAST_INTR_BASE + SOC_FAST_INTR_PENDING);
  return !(pending >> IRQ_LINE & 1);
}

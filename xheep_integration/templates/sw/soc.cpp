// SPDX-License-Identifier: Apache-2.0
#include "soc.hpp"

namespace {

#if !SOC_INTERRUPT_PLIC
constexpr unsigned kExternalPeripheralLine = 15;  // fast interrupt of X-HEEP's intr_ext_peripheral_i
#endif

bool uart_enabled;

volatile uint32_t& uart(uint32_t offset) { return soc_register(SOC_UART_BASE + offset); }

}  // namespace

extern "C" {

void soc_init() {
  uart(SOC_UART_CTRL) = (UART_NCO & 0xffffu) << 16 | SOC_UART_CTRL_TX;
  uart_enabled = true;
}

void soc_putchar(char character) {
  if (!uart_enabled) soc_init();
  while (uart(SOC_UART_STATUS) & SOC_UART_STATUS_TXFULL) {
  }
  uart(SOC_UART_WDATA) = static_cast<unsigned char>(character);
}

void soc_write(const char* text, size_t length) {
  for (size_t i = 0; i < length; ++i) soc_putchar(text[i]);
}

void soc_puts(const char* text) {
  while (*text) soc_putchar(*text++);
}

void soc_exit(int value) {
  while (uart_enabled && !(uart(SOC_UART_STATUS) & SOC_UART_STATUS_IDLE)) {
  }
  soc_register(SOC_CTRL_BASE + SOC_CTRL_EXIT_VALUE) = static_cast<uint32_t>(value);
  soc_register(SOC_CTRL_BASE + SOC_CTRL_EXIT_VALID) = 1;
  for (;;) __asm__ volatile("wfi");
}

void soc_trap(uint32_t cause, uint32_t, uint32_t) { soc_exit(static_cast<int>(SOC_EXIT_TRAP + (cause & 0xff))); }

uint64_t soc_cycles() {
  uint32_t high, low, again;
  __asm__ volatile("csrwi 0x320, 0");  // mcountinhibit
  do {
    __asm__ volatile("csrr %0, mcycleh\n\tcsrr %1, mcycle\n\tcsrr %2, mcycleh" : "=r"(high), "=r"(low), "=r"(again));
  } while (high != again);
  return static_cast<uint64_t>(high) << 32 | low;
}

#if SOC_INTERRUPT_PLIC

void soc_fast_interrupt_enable(unsigned) {
  soc_register(SOC_PLIC_BASE + SOC_PLIC_PRIORITY + 4 * EXT_INTR_0) = 1;
  volatile uint32_t& enable = soc_register(SOC_PLIC_BASE + SOC_PLIC_ENABLE + EXT_INTR_0 / 32 * 4);
  enable = enable | 1u << EXT_INTR_0 % 32;
}

/** Claim and complete: the PLIC keeps an interrupt pending until then. */
void soc_fast_interrupt_clear(unsigned) {
  volatile uint32_t& claim = soc_register(SOC_PLIC_BASE + SOC_PLIC_CLAIM);
  claim = claim;
}

#else

void soc_fast_interrupt_enable(unsigned) {
  volatile uint32_t& enable = soc_register(SOC_FAST_INTR_BASE + SOC_FAST_INTR_ENABLE);
  enable = enable | 1u << kExternalPeripheralLine;
}

void soc_fast_interrupt_clear(unsigned) {
  soc_register(SOC_FAST_INTR_BASE + SOC_FAST_INTR_CLEAR) = 1u << kExternalPeripheralLine;
}

#endif
}

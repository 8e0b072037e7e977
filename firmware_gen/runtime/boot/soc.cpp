// SPDX-License-Identifier: Apache-2.0
#include "soc.hpp"

namespace {

constexpr uint64_t kBaudRate = 115200;

volatile uint32_t& uart(uint32_t offset) { return soc_register(SOC_UART_BASE + offset); }

void put_hex(uint32_t value) {
  for (int shift = 28; shift >= 0; shift -= 4) soc_putchar("0123456789abcdef"[value >> shift & 15]);
}

}  // namespace

void soc_init() {
  const uint32_t hertz = soc_register(SOC_CTRL_BASE + SOC_CTRL_SYSTEM_FREQUENCY_HZ);
  const uint32_t divider = hertz ? static_cast<uint32_t>((kBaudRate << 20) / hertz) : 0;
  uart(SOC_UART_CTRL) = (divider & 0xffffu) << 16 | SOC_UART_CTRL_TX;
}

void soc_putchar(char character) {
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
  soc_register(SOC_CTRL_BASE + SOC_CTRL_EXIT_VALUE) = static_cast<uint32_t>(value);
  soc_register(SOC_CTRL_BASE + SOC_CTRL_EXIT_VALID) = 1;
  for (;;) __asm__ volatile("wfi");
}

void soc_trap(uint32_t cause, uint32_t pc, uint32_t value) {
  soc_puts("\ntrap: mcause ");
  put_hex(cause);
  soc_puts(", mepc ");
  put_hex(pc);
  soc_puts(", mtval ");
  put_hex(value);
  soc_puts("\n");
  soc_exit(static_cast<int>(SOC_EXIT_TRAP + (cause & 0xff)));
}

uint64_t soc_cycles() {
  const uint32_t low = soc_register(SOC_TESTBENCH_BASE + SOC_TESTBENCH_CYCLES_LOW);
  return static_cast<uint64_t>(soc_register(SOC_TESTBENCH_BASE + SOC_TESTBENCH_CYCLES_HIGH)) << 32 | low;
}

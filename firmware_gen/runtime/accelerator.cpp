// SPDX-License-Identifier: Apache-2.0
#include "accelerator.hpp"

namespace heepstor {

namespace {

constexpr uint32_t kNameLength = HEEPSTOR_ARCHITECTURE3_REG + 4 - HEEPSTOR_ARCHITECTURE0_REG;

char character(const Accelerator& accelerator, uint32_t index) {
  const uint32_t word = accelerator.read(HEEPSTOR_ARCHITECTURE0_REG + (index & ~3u));
  return static_cast<char>(word >> 8 * (index & 3u));
}

void print_configuration(uint32_t hash) {
  soc_puts(", configuration ");
  print_hex(hash);
}

}  // namespace

Status Accelerator::identify(const Identity& expected) const {
  if (read(HEEPSTOR_MAGIC_REG) != HEEPSTOR_MAGIC) return Status::not_found;
  if (read(HEEPSTOR_VERSION_REG) != expected.version) return Status::wrong_version;
  const bool same = is_called(expected.architecture) && read(HEEPSTOR_CONFIG_HASH_REG) == expected.config_hash;
  return same ? Status::ok : Status::wrong_hardware;
}

bool Accelerator::is_called(const char* architecture) const {
  for (uint32_t i = 0; i < kNameLength; ++i) {
    if (character(*this, i) != architecture[i]) return false;
    if (!architecture[i]) break;
  }
  return true;
}

void Accelerator::print_architecture() const {
  for (uint32_t i = 0; i < kNameLength; ++i) {
    const char next = character(*this, i);
    if (!next) return;
    soc_putchar(next);
  }
}

#if defined(HEEPGEN_WAIT) && defined(__riscv)

namespace {
uint32_t interrupt;  // the accelerator's bit of mie
}

void Accelerator::enable_interrupt() const {
  soc_fast_interrupt_enable(connection_.irq_line);
  interrupt = soc_interrupt_mask(connection_.irq_line);
}

void unmask_interrupt() { __asm__ volatile("csrs mie, %0" ::"r"(interrupt) : "memory"); }

void mask_interrupt() { __asm__ volatile("csrc mie, %0" ::"r"(interrupt) : "memory"); }

#else

// The interrupt only has to end wfi: it stays masked in mstatus, so there is no handler and no race.
void Accelerator::enable_interrupt() const {
  soc_fast_interrupt_enable(connection_.irq_line);
#if defined(__riscv)
  __asm__ volatile("csrci mstatus, 8\n\tcsrs mie, %0" ::"r"(soc_interrupt_mask(connection_.irq_line)));
#endif
}

#endif

void print_decimal(uint64_t value) {
  char digits[20];
  uint32_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value);
  while (count) soc_putchar(digits[--count]);
}

void print_hex(uint32_t value) {
  for (uint32_t shift = 32; shift;) {
    shift -= 4;
    soc_putchar("0123456789abcdef"[value >> shift & 15]);
  }
}

void print_status(Status status, const Accelerator& accelerator, const Identity& expected) {
  switch (status) {
    case Status::ok: soc_puts("ok\n"); return;
    case Status::not_found: soc_puts("no heepgen accelerator at the expected address\n"); return;
    case Status::wrong_version:
      soc_puts("the accelerator has version ");
      print_decimal(accelerator.read(HEEPSTOR_VERSION_REG));
      soc_puts(", this program needs ");
      print_decimal(expected.version);
      soc_puts("; generate both with the same heepgen\n");
      return;
    case Status::wrong_hardware:
      soc_puts("the accelerator is ");
      accelerator.print_architecture();
      print_configuration(accelerator.read(HEEPSTOR_CONFIG_HASH_REG));
      soc_puts(", this program needs ");
      soc_puts(expected.architecture);
      print_configuration(expected.config_hash);
      soc_puts("\n");
      return;
    case Status::busy: soc_puts("the accelerator is busy\n"); return;
    case Status::accelerator_error: soc_puts("the accelerator stopped with an error\n"); return;
    case Status::timeout: soc_puts("the accelerator did not end in time\n"); return;
    case Status::state_lost: soc_puts("the state is lost, begin anew with model_reset\n"); return;
  }
}

}  // namespace heepstor

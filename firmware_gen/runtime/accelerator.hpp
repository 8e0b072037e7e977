// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_ACCELERATOR_HPP
#define HEEPSTOR_ACCELERATOR_HPP

#include <stdint.h>

#include "heepstor_regs.h"
#include "soc.hpp"

#ifdef HEEPGEN_WAIT
/** The program's, called instead of wfi while the accelerator works; may return at any time, and is called again. */
extern "C" void HEEPGEN_WAIT();
#endif

namespace heepstor {

enum class Status : uint32_t {
  ok = 0,
  not_found = 1,          // no accelerator answers with the magic number
  wrong_version = 2,      // its registers have another layout
  wrong_hardware = 3,     // another architecture, or generated from another configuration than this program
  busy = 4,               // it works, or answers of aborted work are still due
  accelerator_error = 5,  // it stopped with an error of its own
  timeout = 6,            // it did not end in the cycles that it was given, and was stopped
  state_lost = 7,         // an error, or another model, has overwritten what the last inference left: model_reset
};

/** What the program was generated for; `architecture` is a name of at most 16 characters. */
struct Identity {
  uint32_t version, config_hash;
  const char* architecture;
};

/** Where an accelerator is: slave address, and its fast interrupt line. */
struct Connection {
  uint32_t slave_base;
  uint32_t irq_line;
};

/** The registers that all accelerators have, and its interrupt. */
class Accelerator {
 public:
  constexpr explicit Accelerator(Connection connection) : connection_(connection) {}

  /** Whether the accelerator is the expected one: ok, not_found, wrong_version or wrong_hardware. */
  Status identify(const Identity& expected) const;

  /** Whether its architecture is called so. */
  bool is_called(const char* architecture) const;

  /** Prints the name of its architecture. */
  void print_architecture() const;

  /** Free-running counter. Unlike mcycle it also counts while the CPU sleeps. */
  uint64_t cycles() const {
    const uint32_t low = read(HEEPSTOR_CYCLE_LO_REG);
    return static_cast<uint64_t>(read(HEEPSTOR_CYCLE_HI_REG)) << 32 | low;
  }
  uint32_t cycles_low() const { return read(HEEPSTOR_CYCLE_LO_REG); }

  uint32_t read(uint32_t offset) const { return soc_register(connection_.slave_base + offset); }
  void write(uint32_t offset, uint32_t value) const { soc_register(connection_.slave_base + offset) = value; }

  /** Lets its interrupt end `sleep`; there is no handler. With HEEPGEN_WAIT mie and mstatus are the program's. */
  void enable_interrupt() const;

  /** The CPU stands still until an enabled interrupt is pending, or does what HEEPGEN_WAIT says. */
  static void sleep() {
#if defined(HEEPGEN_WAIT)
    HEEPGEN_WAIT();
#elif defined(__riscv)
    __asm__ volatile("wfi" ::: "memory");
#endif
  }

  /** Clears the pending interrupt; the accelerator must have withdrawn its request before. */
  void clear_interrupt() const { soc_fast_interrupt_clear(connection_.irq_line); }

 private:
  Connection connection_;
};

#if defined(HEEPGEN_WAIT) && defined(__riscv)
/** In HEEPGEN_WAIT: lets the accelerator's interrupt be taken, if mstatus.MIE is set. It is pending until the program
 * has seen that the accelerator is done. */
void unmask_interrupt();
/** In the handler: keeps the interrupt from being taken again. */
void mask_interrupt();
#endif

/** One sentence per status; for wrong_hardware both names follow. */
void print_status(Status status, const Accelerator& accelerator, const Identity& expected);

void print_decimal(uint64_t value);
void print_hex(uint32_t value);

}  // namespace heepstor

#endif

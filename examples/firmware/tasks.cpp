// SPDX-License-Identifier: Apache-2.0
// Two tasks: the network, and one that works while the accelerator does. Build it with HEEPGEN_WAIT=wait_for_accelerator.
#include "accelerator.hpp"
#include "check.hpp"
#include "model.hpp"

static volatile bool woken;  // an RTOS has a semaphore
static uint32_t turns, interrupts;

/** A turn of the other task. */
static void other_task() { ++turns; }

/** Called whenever model_run would let the CPU sleep. */
extern "C" void wait_for_accelerator() {
  woken = false;
  heepstor::unmask_interrupt();
  while (!woken) other_task();
}

/** Where the vectors of heepgen's start-up code lead; with vectors of your own, what they call. */
extern "C" __attribute__((interrupt)) void heepgen_interrupt() {
  heepstor::mask_interrupt();
  woken = true;
  ++interrupts;
}

static void print(const char* name, uint32_t value) {
  soc_puts(name);
  heepstor::print_decimal(value);
  soc_puts("\n");
}

int main() {
  __asm__ volatile("csrsi mstatus, 8");  // interrupts on
  const uint64_t start = model_cycles();
  const heepstor::Status status = model_run();
  const uint64_t cycles = model_cycles() - start;
  print("interrupts ", interrupts);
  print("turns of the other task ", turns);
  return model_check(status, cycles);
}

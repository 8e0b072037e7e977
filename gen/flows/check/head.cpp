// SPDX-License-Identifier: Apache-2.0
// Reads the registers that every accelerator begins with, and its cycle counter against the testbench's.
#include "accelerator.hpp"
#include "soc.hpp"
#include "steps.hpp"

namespace kit = heepstor::kit;

extern "C" {
/** Of kit::kHead; then cycles by the accelerator's counter and by the testbench's. */
extern volatile uint32_t check_head[];
}
volatile uint32_t check_head[sizeof kit::kHead / sizeof kit::kHead[0] + 2];

int main() {
  soc_register(SOC_TESTBENCH_BASE + SOC_TESTBENCH_ALARM) = 20000;
  constexpr heepstor::Connection connection = {SLAVE_BASE, IRQ_LINE};
  const heepstor::Accelerator accelerator(connection);
  volatile uint32_t* to = check_head;
  for (uint32_t offset : kit::kHead) *to++ = accelerator.read(offset);
  const uint64_t counted = accelerator.cycles(), passed = soc_cycles();
  while (soc_cycles() - passed < 5000) {
  }
  *to++ = static_cast<uint32_t>(accelerator.cycles() - counted);
  *to++ = static_cast<uint32_t>(soc_cycles() - passed);
}

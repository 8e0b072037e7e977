// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_HPP
#define HEEPSTOR_HPP

#include <stdint.h>

#include "accelerator.hpp"
#include "assert.hpp"

namespace heepstor {

/** What the program was generated for. */
struct Hardware {
  uint32_t version, rows, cols, ports, fma, config_hash;
};

/** Memory of one descriptor region: first byte, first byte behind. */
struct Region {
  uint32_t base, limit;
};

/** The accelerator: one list of descriptors at a time. */
class Device : public Accelerator {
 public:
  constexpr explicit Device(Connection connection) : Accelerator(connection) {}

  /** Checks that the accelerator is the expected one, clears an error, sets its regions, enables its interrupt. */
  Status open(const Hardware& expected, const Region (&regions)[HEEPSTOR_REGIONS], uint32_t watchdog_cycles) const;

  /** Whether this object, and no other, was the last to open the accelerator, and none of its lists has failed since. */
  bool is_open() const { return opened_ == this; }

  /**
   * Runs the list at a descriptor address and sleeps until it is done. With a watchdog the interrupt comes when nothing
   * moves any more, so only a list without end (NEXT in a circle) would keep the CPU asleep.
   */
  Status run(uint32_t doorbell) const {
    start(doorbell);
    uint32_t pending = read(HEEPSTOR_IRQ_STATUS_REG);
    while (!pending) {
      sleep();
      pending = read(HEEPSTOR_IRQ_STATUS_REG);
    }
    return outcome(pending);
  }

  /**
   * The same, for `limit` cycles at most (0: for ever); a list that is still running then is stopped. Nothing would wake
   * a sleeping CPU, so it stays awake and asks, which may slow the accelerator down where they share a memory bank.
   */
  Status run(uint32_t doorbell, uint32_t limit) const;

  /**
   * Stops whatever runs; busy when the bus still owes answers. With `force` they are given up: for a dead bus. Such
   * answers are discarded when they come, and the next list waits for them; a second forced reset gives them up too.
   */
  Status reset(bool force) const;

  /** One of HEEPSTOR_ERROR_*, and the address that caused it. */
  uint32_t error_code() const {
    return read(HEEPSTOR_STATUS_REG) >> HEEPSTOR_STATUS_ERROR_CODE_LSB & HEEPSTOR_STATUS_ERROR_CODE_MASK;
  }
  uint32_t error_address() const { return read(HEEPSTOR_ERROR_ADDR_REG); }

 private:
  void start(uint32_t doorbell) const {
    HEEPSTOR_ASSERT(doorbell % 4 == 0);
    HEEPSTOR_ASSERT(!(read(HEEPSTOR_STATUS_REG) & HEEPSTOR_STATUS_BUSY_BIT));
    write(HEEPSTOR_DOORBELL_REG, doorbell);
  }

  Status outcome(uint32_t pending) const {
    write(HEEPSTOR_IRQ_STATUS_REG, ~0u);
    clear_interrupt();
    if (!(pending & HEEPSTOR_IRQ_ENABLE_ERROR_BIT)) return Status::ok;
    opened_ = nullptr;
    return error_code() == HEEPSTOR_ERROR_BUSY ? Status::busy : Status::accelerator_error;
  }

  static const Device* opened_;  // whose regions the accelerator has
};

/** One sentence per status; for wrong_hardware both geometries follow. */
void print_status(Status status, const Device& device, const Hardware& expected);

}  // namespace heepstor

#endif

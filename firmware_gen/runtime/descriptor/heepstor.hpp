// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_HPP
#define HEEPSTOR_HPP

#include <stdint.h>

#include "accelerator.hpp"

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
  Status open(const Hardware& expected, const Region (&regions)[HEEPSTOR_REGIONS], uint32_t watchdog_cycles);

  /** Whether this object, and no other, was the last to open the accelerator. */
  bool is_open() const { return opened_ == this; }

  /**
   * Runs the list at a descriptor address and sleeps until it is done. With a watchdog the interrupt comes when nothing
   * moves any more, so only a list without end (NEXT in a circle) would keep the CPU asleep.
   */
  Status run(uint32_t doorbell);

  /**
   * The same, for `limit` cycles at most (0: for ever); a list that is still running then is stopped. Nothing would wake
   * a sleeping CPU, so it stays awake and asks, which may slow the accelerator down where they share a memory bank.
   */
  Status run(uint32_t doorbell, uint32_t limit);

  /**
   * Stops whatever runs; busy when the bus still owes answers. With `force` they are given up: for a dead bus. Such
   * answers are discarded when they come, and the next list waits for them; a second forced reset gives them up too.
   */
  Status reset(bool force) const;

  /** One of HEEPSTOR_ERROR_*, and the address that caused it. */
  uint32_t error_code() const;
  uint32_t error_address() const { return read(HEEPSTOR_ERROR_ADDR_REG); }

 private:
  void start(uint32_t doorbell) const;
  void wait() const;
  void acknowledge() const;
  Status outcome() const;

  static const Device* opened_;  // whose regions the accelerator has
};

/** One sentence per status; for wrong_hardware both geometries follow. */
void print_status(Status status, const Device& device, const Hardware& expected);

}  // namespace heepstor

#endif

// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_HPP
#define HEEPSTOR_HPP

#include <stdint.h>

#include "heepstor_regs.h"

namespace heepstor {

enum class Status : uint32_t {
  ok = 0,
  not_found = 1,         // no accelerator answers with the magic number
  wrong_version = 2,     // its registers or descriptors have another layout
  wrong_hardware = 3,    // generated from another configuration than this program
  busy = 4,              // a list is running, or answers of an aborted one are still due
  accelerator_error = 5, // see Device::error_code and error_address
  timeout = 6,           // the list did not end in the cycles that Device::run was given, and was stopped
};

/** What the program was generated for. */
struct Hardware {
  uint32_t version, rows, cols, ports, fma, config_hash;
};

/** Memory of one descriptor region: first byte, first byte behind. */
struct Region {
  uint32_t base, limit;
};

/** Where the accelerator is: slave address, and its fast interrupt line. */
struct Connection {
  uint32_t slave_base;
  uint32_t irq_line;
};

/** The accelerator: one list of descriptors at a time. */
class Device {
 public:
  constexpr explicit Device(Connection connection) : connection_(connection) {}

  /** Checks that the accelerator is the expected one, clears an error, sets its regions, enables its interrupt. */
  Status open(const Hardware& expected, const Region (&regions)[HEEPSTOR_REGIONS], uint32_t watchdog_cycles);

  /** Whether this object, and no other, was the last to open the accelerator. */
  bool is_open() const;

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

  /** Free-running counter. Unlike mcycle it also counts while the CPU sleeps. */
  uint64_t cycles() const;
  uint32_t cycles_low() const { return read(HEEPSTOR_CYCLE_LO_REG); }

  /** One of HEEPSTOR_ERROR_*, and the address that caused it. */
  uint32_t error_code() const;
  uint32_t error_address() const { return read(HEEPSTOR_ERROR_ADDR_REG); }

  uint32_t read(uint32_t offset) const;
  void write(uint32_t offset, uint32_t value) const;

 private:
  void start(uint32_t doorbell) const;
  void wait() const;
  void acknowledge() const;
  Status outcome() const;

  Connection connection_;
};

/** One sentence per status; for wrong_hardware both geometries follow. */
void print_status(Status status, const Device& device, const Hardware& expected);

void print_decimal(uint64_t value);
void print_hex(uint32_t value);

}  // namespace heepstor

#endif

// SPDX-License-Identifier: Apache-2.0
#include "heepstor.hpp"

#include "soc.hpp"

namespace heepstor {

namespace {

constexpr uint32_t kDrainPolls = 1000;
constexpr const char* kArchitecture = "descriptor";

void print_geometry(uint32_t rows, uint32_t cols, uint32_t fma, uint32_t ports, uint32_t hash) {
  print_decimal(rows);
  soc_puts("x");
  print_decimal(cols);
  soc_puts(fma ? " fma, " : " aligned, ");
  print_decimal(ports);
  soc_puts(" ports, configuration ");
  print_hex(hash);
}

uint32_t bits(uint32_t word, uint32_t lsb, uint32_t mask) { return word >> lsb & mask; }

void print_difference(const Device& device, const Hardware& expected) {
  const uint32_t geometry = device.read(HEEPSTOR_GEOMETRY_REG);
  soc_puts("the accelerator is ");
  print_geometry(
      bits(geometry, HEEPSTOR_GEOMETRY_ROWS_LSB, HEEPSTOR_GEOMETRY_ROWS_MASK),
      bits(geometry, HEEPSTOR_GEOMETRY_COLS_LSB, HEEPSTOR_GEOMETRY_COLS_MASK), geometry & HEEPSTOR_GEOMETRY_FMA_BIT,
      bits(geometry, HEEPSTOR_GEOMETRY_PORTS_LSB, HEEPSTOR_GEOMETRY_PORTS_MASK), device.read(HEEPSTOR_CONFIG_HASH_REG));
  soc_puts("; this program was generated for ");
  print_geometry(expected.rows, expected.cols, expected.fma, expected.ports, expected.config_hash);
  soc_puts("\n");
}

}  // namespace

const Device* Device::opened_;

Status Device::open(const Hardware& expected, const Region (&regions)[HEEPSTOR_REGIONS],
                    uint32_t watchdog_cycles) const {
  if (is_open()) opened_ = nullptr;
  const Status identity = identify({expected.version, expected.config_hash, kArchitecture});
  if (identity != Status::ok) return identity;
  const uint32_t status = read(HEEPSTOR_STATUS_REG);
  if (status & HEEPSTOR_STATUS_BUSY_BIT) return Status::busy;
  if (status & (HEEPSTOR_STATUS_ERROR_BIT | HEEPSTOR_STATUS_DRAINING_BIT)) {
    const Status drained = reset(false);
    if (drained != Status::ok) return drained;
  }
  for (uint32_t i = 0; i < HEEPSTOR_REGIONS; ++i) {
    write(HEEPSTOR_BASE0_REG + 8 * i, regions[i].base);
    write(HEEPSTOR_LIMIT0_REG + 8 * i, regions[i].limit);
  }
  write(HEEPSTOR_WATCHDOG_REG, watchdog_cycles);
  write(HEEPSTOR_CTRL_REG, HEEPSTOR_CTRL_CLEAR_COUNTERS_BIT);
  write(HEEPSTOR_IRQ_STATUS_REG, ~0u);
  write(HEEPSTOR_IRQ_ENABLE_REG, HEEPSTOR_IRQ_ENABLE_DONE_BIT | HEEPSTOR_IRQ_ENABLE_ERROR_BIT);
  enable_interrupt();
  opened_ = this;
  return Status::ok;
}

Status Device::run(uint32_t doorbell, uint32_t limit) const {
  if (limit == 0) return run(doorbell);
  const uint32_t begin = cycles_low();
  start(doorbell);
  uint32_t pending = read(HEEPSTOR_IRQ_STATUS_REG);
  while (!pending) {
    if (cycles_low() - begin >= limit) {
      opened_ = nullptr;
      const Status stopped = reset(false);
      return stopped == Status::ok ? Status::timeout : stopped;
    }
    pending = read(HEEPSTOR_IRQ_STATUS_REG);
  }
  return outcome(pending);
}

Status Device::reset(bool force) const {
  write(HEEPSTOR_CTRL_REG, HEEPSTOR_CTRL_SOFT_RESET_BIT | (force ? HEEPSTOR_CTRL_FORCE_BIT : 0u));
  for (uint32_t polls = 0; read(HEEPSTOR_STATUS_REG) & HEEPSTOR_STATUS_DRAINING_BIT; ++polls)
    if (polls == kDrainPolls) return Status::busy;
  write(HEEPSTOR_IRQ_STATUS_REG, ~0u);
  clear_interrupt();
  return Status::ok;
}

void print_status(Status status, const Device& device, const Hardware& expected) {
  switch (status) {
    case Status::wrong_hardware:
      if (!device.is_called(kArchitecture)) break;
      print_difference(device, expected);
      return;
    case Status::timeout: soc_puts("the accelerator did not end in time and was stopped\n"); return;
    case Status::accelerator_error:
      soc_puts("the accelerator stopped with error ");
      print_decimal(device.error_code());
      soc_puts(" at address ");
      print_hex(device.error_address());
      soc_puts("\n");
      return;
    default: break;
  }
  print_status(status, device, Identity{expected.version, expected.config_hash, kArchitecture});
}

}  // namespace heepstor

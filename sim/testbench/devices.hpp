// SPDX-License-Identifier: Apache-2.0
// What the crossbar reaches: who gets it first, memory, and X-HEEP's peripherals as far as programs use them.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "models.hpp"
#include "options.hpp"
#include "soc_map.h"

// Words at consecutive addresses lie in one bank, or round-robin in the banks of an interleaved group.
class Ram {
 public:
  explicit Ram(const Options& o)
      : bank_bytes_(o.bank_bytes), contiguous_bytes_(o.banks * o.bank_bytes), banks_(o.banks) {
    uint32_t start = contiguous_bytes_;
    for (uint32_t size : o.interleaved) {
      groups_.push_back({start, start + size * bank_bytes_, banks_, size - 1});
      start += size * bank_bytes_;
      banks_ += size;
    }
    // Not zero, so that reading what nobody wrote shows up.
    bytes_.assign(start, 0xa5);
  }

  uint32_t bytes() const { return uint32_t(bytes_.size()); }
  int banks() const { return int(banks_); }
  uint8_t* at(uint32_t address) { return &bytes_[address]; }

  int bank(uint32_t address) const {
    if (address < contiguous_bytes_) return int(address / bank_bytes_);
    for (const Group& group : groups_)
      if (address < group.end) return int(group.first_bank + (address >> 2 & group.mask));
    return -1;
  }

  uint32_t access(const Request& request) {
    uint8_t* word = at(request.addr & ~3u);
    uint32_t value;
    std::memcpy(&value, word, 4);
    if (request.we && request.be == 0xf) std::memcpy(word, &request.wdata, 4);
    else if (request.we)
      for (int i = 0; i < 4; ++i)
        if (request.be >> i & 1) word[i] = uint8_t(request.wdata >> 8 * i);
    return value;
  }

 private:
  struct Group {
    uint32_t start, end, first_bank, mask;
  };
  uint32_t bank_bytes_, contiguous_bytes_, banks_;
  std::vector<Group> groups_;
  std::vector<uint8_t> bytes_;
};

// The platform-level interrupt controller with the accelerator as its only source.
class Plic {
 public:
  bool irq() const { return pending_ && enabled_ && priority_ > threshold_; }

  // A claimed interrupt is not pending again before its completion.
  void clock(bool source) { pending_ = pending_ || (source && !claimed_); }

  uint32_t access(const Request& request, uint32_t offset) {
    switch (offset) {
      case SOC_PLIC_PRIORITY + 4 * SOC_PLIC_SOURCE:
        if (request.we) priority_ = request.wdata & 7;
        return priority_;
      case SOC_PLIC_ENABLE + SOC_PLIC_SOURCE / 32 * 4:
        if (request.we) enabled_ = request.wdata >> SOC_PLIC_SOURCE % 32 & 1;
        return uint32_t(enabled_) << SOC_PLIC_SOURCE % 32;
      case SOC_PLIC_THRESHOLD:
        if (request.we) threshold_ = request.wdata & 7;
        return threshold_;
      case SOC_PLIC_CLAIM:
        if (request.we) {
          if (request.wdata == SOC_PLIC_SOURCE) claimed_ = false;
          return 0;
        }
        if (!irq()) return 0;
        pending_ = false;
        claimed_ = true;
        return SOC_PLIC_SOURCE;
      default: return 0;
    }
  }

 private:
  bool enabled_ = false, pending_ = false, claimed_ = false;
  uint32_t priority_ = 0, threshold_ = 0;
};

// soc_ctrl, UART, interrupt controllers and the testbench's own registers.
class Peripherals {
 public:
  bool exited = false;
  uint32_t exit_value = 0, fault = 0, alarm = 0;
  uint64_t alarm_at = UINT64_MAX, reset_at = UINT64_MAX;

  static bool contains(uint32_t address) {
    for (uint32_t base : {SOC_CTRL_BASE, SOC_FAST_INTR_BASE, SOC_PLIC_BASE, SOC_UART_BASE, SOC_TESTBENCH_BASE})
      if (address - base < 0x10000) return true;
    return false;
  }

  uint32_t access(const Request& request, uint64_t cycle) {
    const uint32_t offset = request.addr & 0xfffc;
    switch (request.addr & 0xffff0000) {
      case SOC_CTRL_BASE: return soc_ctrl(request, offset);
      case SOC_FAST_INTR_BASE: return fast_interrupt(request, offset);
      case SOC_PLIC_BASE: return plic_.access(request, offset);
      case SOC_UART_BASE: return uart(request, offset);
      default: return testbench(request, offset, cycle);
    }
  }

  uint32_t irq(bool timer) const {
    return pending_ << 16 | uint32_t(plic_.irq()) << 11 | uint32_t(timer) << SOC_TIMER_INTERRUPT;
  }

  // Pending bits change only while a source is active or a bit is being cleared, as in X-HEEP.
  void clock(bool accelerator, uint32_t line) {
    plic_.clock(accelerator);
    const uint32_t sources = uint32_t(accelerator) << line;
    if (sources | clear_) pending_ = sources & enable_ & ~clear_;
    clear_ = 0;
  }

 private:
  uint32_t soc_ctrl(const Request& request, uint32_t offset) {
    switch (offset) {
      case SOC_CTRL_EXIT_VALID:
        if (request.we) exited = request.wdata & 1;
        return exited;
      case SOC_CTRL_EXIT_VALUE:
        if (request.we) exit_value = request.wdata;
        return exit_value;
      case SOC_CTRL_SYSTEM_FREQUENCY_HZ: return 100000000;
      default: return 0;
    }
  }

  uint32_t fast_interrupt(const Request& request, uint32_t offset) {
    switch (offset) {
      case SOC_FAST_INTR_PENDING: return pending_;
      case SOC_FAST_INTR_CLEAR:
        if (request.we) clear_ = request.wdata & 0xffff;
        return clear_;
      case SOC_FAST_INTR_ENABLE:
        if (request.we) enable_ = request.wdata & 0xffff;
        return enable_;
      default: return 0;
    }
  }

  uint32_t uart(const Request& request, uint32_t offset) {
    switch (offset) {
      case SOC_UART_CTRL:
        if (request.we) uart_ctrl_ = request.wdata;
        return uart_ctrl_;
      case SOC_UART_STATUS: return SOC_UART_STATUS_IDLE;
      case SOC_UART_WDATA:
        if (request.we && (uart_ctrl_ & SOC_UART_CTRL_TX)) put(char(request.wdata));
        return 0;
      default: return 0;
    }
  }

  uint32_t testbench(const Request& request, uint32_t offset, uint64_t cycle) {
    switch (offset) {
      case SOC_TESTBENCH_CYCLES_LOW: cycles_high_ = uint32_t(cycle >> 32); return uint32_t(cycle);
      case SOC_TESTBENCH_CYCLES_HIGH: return cycles_high_;
      case SOC_TESTBENCH_FAULT:
        if (request.we) fault = request.wdata;
        return fault;
      case SOC_TESTBENCH_ALARM:
        if (request.we) alarm_at = after(alarm = request.wdata, cycle);
        return alarm;
      case SOC_TESTBENCH_RESET:
        if (request.we) reset_at = after(request.wdata, cycle);
        return cycle >= reset_at;
      default: return 0;
    }
  }

  static uint64_t after(uint32_t cycles, uint64_t now) { return cycles ? now + cycles : UINT64_MAX; }

  static void put(char character) {
    std::putchar(character);
    if (character == '\n') std::fflush(stdout);
  }

  Plic plic_;
  uint32_t pending_ = 0, clear_ = 0, enable_ = 0x7fff, uart_ctrl_ = 0, cycles_high_ = 0;
};

// X-HEEP's arbiter of a target: a tree of multiplexers that, where both halves ask, takes the one that the favoured
// master is in. After a grant the next master that asked is favoured.
class Arbiter {
 public:
  int choose(uint32_t wanted) {
    if (!(wanted & (wanted - 1))) return int(favoured_ = uint32_t(__builtin_ctz(wanted)));
    uint32_t chosen = 0;
    for (uint32_t half = kMasters / 2; half; half /= 2) {
      const uint32_t side = (1u << half) - 1;
      const bool lower = wanted >> chosen & side, upper = wanted >> (chosen + half) & side;
      if (!lower || (upper && favoured_ & half)) chosen += half;
    }
    const uint32_t above = wanted & ~((2u << favoured_) - 1);
    favoured_ = uint32_t(__builtin_ctz(above ? above : wanted));
    return int(chosen);
  }

 private:
  static constexpr uint32_t kMasters = 16;
  uint32_t favoured_ = 0;
};

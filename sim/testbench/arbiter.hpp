// SPDX-License-Identifier: Apache-2.0
// Who gets a bank or a peripheral first.
#pragma once

#include <cstdint>

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

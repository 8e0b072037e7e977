// SPDX-License-Identifier: Apache-2.0
#ifndef FETCHER_DRIVER_HPP
#define FETCHER_DRIVER_HPP

#include <stdint.h>

#include "accelerator.hpp"
#include "soc.hpp"

namespace heepstor {

class Driver {
 public:
  explicit constexpr Driver(Connection connection) : accelerator_(connection) {}

  void open() {
    accelerator_.write(0x118, 1);
    accelerator_.clear_interrupt();
    accelerator_.enable_interrupt();
  }

  void load_weights(const int8_t* b, uint32_t k, uint32_t n, uint32_t stride) {
    k_ = k, n_ = n;
    for (uint32_t j = 0; j < k; ++j, b += stride) {
      uint32_t word = 0;
      for (uint32_t c = 0; c < n; ++c) word |= static_cast<uint32_t>(b[c] & 255) << 8 * c;
      accelerator_.write(0x200 + 4 * j, word);
    }
  }

  void multiply(const float* a, uint32_t a_stride, uint32_t m, float* c) {
    c_ = c, count_ = m * n_;
    accelerator_.write(0x100, address(a));
    accelerator_.write(0x104, 4 * a_stride);
    accelerator_.write(0x108, address(c));
    accelerator_.write(0x10c, k_);
    accelerator_.write(0x110, n_);
    accelerator_.write(0x114, m);
  }

  void wait() {
    while (!accelerator_.read(0x118)) Accelerator::sleep();
    accelerator_.write(0x118, 1);
    accelerator_.clear_interrupt();
    for (uint32_t i = 0; i < count_; ++i) {
      int32_t sum;
      __builtin_memcpy(&sum, c_ + i, sizeof sum);
      c_[i] = static_cast<float>(sum) * 0.00390625f;
    }
  }

 private:
  static uint32_t address(const void* p) { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(p)); }

  Accelerator accelerator_;
  uint32_t k_ = 0, n_ = 0, count_ = 0;
  float* c_ = nullptr;
};

}  // namespace heepstor

#endif

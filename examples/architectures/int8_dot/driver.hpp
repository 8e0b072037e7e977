// SPDX-License-Identifier: Apache-2.0
#ifndef INT8_DOT_DRIVER_HPP
#define INT8_DOT_DRIVER_HPP

#include <stdint.h>

#include "accelerator.hpp"
#include "soc.hpp"

namespace heepstor {

/** Quantises rows of A and has them multiplied; `compute` of architecture.py says every bit, int8_dot.sv the registers. */
class Driver {
 public:
  explicit constexpr Driver(Connection connection) : base_(connection.slave_base) {}

  void open() {}

  void load_weights(const int8_t* b, uint32_t k, uint32_t n, uint32_t stride) {
    k_ = k, n_ = n;
    for (uint32_t row = 0; row < k; ++row, b += stride) {
      soc_register(base_ + kRow) = row;
      if ((reinterpret_cast<uintptr_t>(b) | stride) % 4) write_bytes(b, n);
      else write_words(reinterpret_cast<const uint32_t*>(b), n);
    }
  }

  void multiply(const float* a, uint32_t a_stride, uint32_t m, float* c) {
    const uint32_t k = k_, n = n_;
    for (; m; --m, a += a_stride, c += n) {
      const uint32_t magnitude = largest(a, k);
      const uint32_t rounded = (magnitude + 0x20000) >> 24, exponent = rounded < 7 ? 7 : rounded;
      const float inverse = float_of((260 - exponent) << 23);
      const float scale = float_of(magnitude < kInfinity ? (exponent - 6) << 23 : kNan);
      volatile uint32_t* element = &soc_register(base_ + kElements);
#pragma GCC unroll 4
      for (uint32_t j = 0; j < k; ++j) *element++ = bits_of(a[j] * inverse + kRounder);
      const volatile uint32_t* sum = &soc_register(base_ + kSums);
#pragma GCC unroll 4
      for (uint32_t i = 0; i < n; ++i) c[i] = static_cast<float>(static_cast<int32_t>(*sum++)) * scale;
    }
  }

  void wait() {}  // reading the sums has waited for them

 private:
  static constexpr uint32_t kSums = 0x100, kRow = 0x200, kWeights = 0x300, kElements = 0x800;
  static constexpr uint32_t kInfinity = 0xff000000, kNan = 0x7fc00000;
  /** 1.5 * 2^23: added to a small number, it leaves the nearest integer in the low bits. */
  static constexpr float kRounder = 12582912.0f;

  static uint32_t bits_of(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    return bits;
  }

  static float float_of(uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  }

  /** The largest magnitude: its bits, moved up by one in place of the sign. */
  static uint32_t largest(const float* a, uint32_t k) {
    uint32_t most = 0;
#pragma GCC unroll 4
    for (uint32_t j = 0; j < k; ++j) {
      const uint32_t magnitude = bits_of(a[j]) << 1;
      if (__builtin_expect(magnitude > most, 0)) most = magnitude;
    }
    return most;
  }

  void write_words(const uint32_t* words, uint32_t n) const {  // a row is filled up to words
    for (uint32_t c = 0; c < n; c += 4) soc_register(base_ + kWeights + c) = *words++;
  }

  void write_bytes(const int8_t* b, uint32_t n) const {
    for (uint32_t c = 0; c < n; c += 4) {
      uint32_t word = 0;
      for (uint32_t i = 0; i < 4 && c + i < n; ++i) word |= static_cast<uint32_t>(b[c + i] & 255) << 8 * i;
      soc_register(base_ + kWeights + c) = word;
    }
  }

  uint32_t base_;
  uint32_t k_ = 0, n_ = 0;
};

}  // namespace heepstor

#endif

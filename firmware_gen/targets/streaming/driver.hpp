// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_STREAMING_DRIVER_HPP
#define HEEPSTOR_STREAMING_DRIVER_HPP

#include <stdint.h>

#include "accelerator.hpp"
#include "options.hpp"
#include "soc.hpp"
#include "streaming_regs.h"

namespace heepstor {

namespace streaming {

constexpr uint32_t kRows = options::rows, kCols = options::cols;
constexpr uint32_t kWordWeights = 4, kRowWords = (kCols + 3) / kWordWeights, kRowPitch = 8;

/** Values that are loaded before the first one is stored, so that no store waits for its load. */
constexpr uint32_t kGroup = 8;

/** What both forms have: weights and lanes go out, sums come back, each a plain store or load that waits in the bus. */
class Port {
 public:
  explicit Port(Connection connection) : registers_(&soc_register(connection.slave_base)) {}

  void open() {}

  /** k rows of n weights; rows `stride` bytes apart. */
  [[gnu::always_inline]] inline void load_weights(const int8_t* b, uint32_t k, uint32_t n, uint32_t stride) {
    rows_ = static_cast<uint16_t>(k);
    columns_ = static_cast<uint16_t>(n);
    if ((reinterpret_cast<uintptr_t>(b) | stride) % kWordWeights != 0) return load_bytes(b, stride);
    const uint32_t* from = reinterpret_cast<const uint32_t*>(b);
    const uint32_t words = (n + 3) / kWordWeights;
    if (words == kRowWords) load_words<kRowWords>(from, stride / kWordWeights);
    else load_narrow<kRowWords - 1>(from, words, stride / kWordWeights);
  }

 protected:
  void choose(uint32_t slot, bool first) {
    registers_[HEEPSTOR_SLOT_REG / 4] = slot | (first ? HEEPSTOR_SLOT_FIRST_BIT : 0u);
  }

  /** `count` vectors: a[j] are the lanes of one, a.next() goes on to the next. */
  template <class Rows>
  [[gnu::always_inline]] inline void send(Rows a, uint32_t count) const {
    constexpr uint32_t group = kRows < kGroup ? kRows : kGroup;
    const uint32_t before = kRows > kGroup ? (rows_ - 1) / kGroup * kGroup : 0;
    send<Rows, group>(a, count, before, rows_ - before);
  }

  /** The sums of the chosen slot. */
  const volatile float* sums() const {
    return reinterpret_cast<const volatile float*>(registers_ + HEEPSTOR_SUM_REG / 4);
  }

 private:
  static constexpr uint32_t kLast = (HEEPSTOR_LAST_REG - HEEPSTOR_LANE_REG) / 4;

  volatile uint32_t* weights() const { return registers_ + HEEPSTOR_WEIGHT_REG / 4; }

  /** Rows of kWords words, `stride` words apart. */
  template <uint32_t kWords>
  [[gnu::always_inline]] inline void load_words(const uint32_t* from, uint32_t stride) const {
    constexpr uint32_t rows = kWords < kGroup ? kGroup / kWords : 1;
    volatile uint32_t* to = weights();
    uint32_t k = rows_;
    for (; k >= rows; k -= rows, to += rows * kRowPitch) from = load_rows<rows, kWords>(to, from, stride);
    for (; k; --k, to += kRowPitch) from = load_rows<1, kWords>(to, from, stride);
  }

  /** Rows of less words than the array has, kMost at most. */
  template <uint32_t kMost>
  [[gnu::noinline]] void load_narrow(const uint32_t* from, uint32_t words, uint32_t stride) const {
    if constexpr (kMost > 0) {
      if (words == kMost) load_words<kMost>(from, stride);
      else load_narrow<kMost - 1>(from, words, stride);
    }
  }

  template <uint32_t kCount, uint32_t kWords>
  [[gnu::always_inline]] static inline const uint32_t* load_rows(volatile uint32_t* to, const uint32_t* from,
                                                                 uint32_t stride) {
    uint32_t words[kCount][kWords];
#pragma GCC unroll 8
    for (uint32_t r = 0; r < kCount; ++r, from += stride)
#pragma GCC unroll 8
      for (uint32_t i = 0; i < kWords; ++i) words[r][i] = from[i];
#pragma GCC unroll 8
    for (uint32_t r = 0; r < kCount; ++r)
#pragma GCC unroll 8
      for (uint32_t i = 0; i < kWords; ++i) to[r * kRowPitch + i] = words[r][i];
    return from;
  }

  /** Weights that do not lie in words; nothing behind a row is read. */
  [[gnu::noinline]] void load_bytes(const int8_t* from, uint32_t stride) const {
    volatile uint32_t* to = weights();
    for (uint32_t r = 0; r < rows_; ++r, from += stride, to += kRowPitch) {
      uint32_t word = 0;
      for (uint32_t c = 0; c < columns_; ++c) {
        word |= static_cast<uint32_t>(static_cast<uint8_t>(from[c])) << 8 * (c % kWordWeights);
        if (c % kWordWeights == kWordWeights - 1 || c + 1 == columns_) {
          to[c / kWordWeights] = word;
          word = 0;
        }
      }
    }
  }

  template <uint32_t kCount, bool kEnds, class Row>
  [[gnu::always_inline]] static inline void lanes(volatile float* lane, const Row& a, uint32_t j) {
    float values[kCount];
#pragma GCC unroll 8
    for (uint32_t i = 0; i < kCount; ++i) values[i] = a[j + i];
#pragma GCC unroll 8
    for (uint32_t i = 0; i < kCount; ++i) lane[j + i + (kEnds && i + 1 == kCount ? kLast : 0)] = values[i];
  }

  /** Vectors of `before` lanes in whole groups, and `last` more, which are kCount at most. */
  template <class Rows, uint32_t kCount>
  [[gnu::always_inline]] inline void send(Rows& a, uint32_t count, uint32_t before, uint32_t last) const {
    if constexpr (kCount > 0) {
      if (last < kCount) return send<Rows, kCount - 1>(a, count, before, last);
      volatile float* const lane = reinterpret_cast<volatile float*>(registers_ + HEEPSTOR_LANE_REG / 4);
      for (; count; --count, a.next()) {
        uint32_t j = 0;
        if constexpr (kRows > kGroup)
          for (; j < before; j += kGroup) lanes<kGroup, false>(lane, a, j);
        lanes<kCount, true>(lane, a, j);
      }
    }
  }

  volatile uint32_t* registers_;

  // Of the loaded tile. Registers have another type, so that no access of theirs may change these.
  uint16_t rows_ = 0;

 protected:
  uint16_t columns_ = 0;
};

/** The accelerator keeps rows of sums. */
template <int32_t kKept>
class Form : public Port {
 public:
  using Port::Port;

  static constexpr uint32_t kSums = kKept;

  /** `count` rows of a x weights are added to the sums of `slot` and those behind it, or with `first` become them. */
  template <class Rows>
  [[gnu::always_inline]] inline void push(uint32_t slot, bool first, uint32_t count, const Rows& a) {
    choose(slot, first);
    send(a, count);
  }

  /** The n sums of `slot`, until the next call. */
  const volatile float* pull(uint32_t slot) {
    choose(slot, false);
    return sums();
  }
};

/** It does not: every product is read before the next one comes. */
template <>
class Form<0> : public Port {
 public:
  using Port::Port;

  /** m rows of k floats, `a_stride` words apart; c dense, m rows of n. */
  void multiply(const float* a, uint32_t a_stride, uint32_t m, float* c) {
    for (; m; --m, a += a_stride, c += columns_) {
      send(Row{a}, 1);
      for (uint32_t i = 0; i < columns_; ++i) c[i] = sums()[i];
    }
  }

  void wait() {}

 private:
  struct Row {
    const float* at;
    [[gnu::always_inline]] inline float operator[](uint32_t j) const { return at[j]; }
    void next() {}
  };
};

}  // namespace streaming

class Driver : public streaming::Form<options::sums> {
 public:
  using Form::Form;
};

}  // namespace heepstor

#endif

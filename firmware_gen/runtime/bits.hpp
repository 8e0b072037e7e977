// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_BITS_HPP
#define HEEPSTOR_BITS_HPP

#include <stdint.h>

namespace heepstor {

// Static: gcc 12 makes a softmax of ten classes 70 cycles slower of functions that other files might share
constexpr uint32_t kLeastNormal = 0x00800000u, kInfinity = 0x7f800000u, kNan = 0x7fc00000u, kSign = 0x80000000u;

/** The binary32 number with these bits. */
static inline float from_bits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

}  // namespace heepstor

#endif

// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_EPILOGUE_HPP
#define HEEPSTOR_EPILOGUE_HPP

#include "kernels.hpp"
#include "math.hpp"

namespace heepstor {
namespace kernels {

inline float clamped(const Activation& a, float y) {
  if (y <= a.low) y = a.low;
  if (y >= a.high) y = a.high;
  return y;
}

/** Slope and clamp; what they are is left to the function, if there is one. */
inline float bent(const Activation& a, float y) {
  if (a.slope != 1.0f && !(y > 0.0f)) y = y * a.slope;
  return clamped(a, y);
}

inline float activated(const Activation& a, float y) {
  y = bent(a, y);
  if (a.table) apply_table(&y, &y, 1, a.table);
  return y;
}

/** y and the second operand, without an activation. */
inline float combined(Add how, float y, float aux) {
  switch (how) {
    case Add::none: return y;
    case Add::before_activation:
    case Add::after_activation: return y + aux;
    case Add::factor_before_activation:
    case Add::factor_after_activation: return y * aux;
    case Add::slope_before_activation:
    case Add::slope_after_activation: return __builtin_signbit(y) ? y * aux : y;
    case Add::maximum_before_activation: return aux > y || !(aux == aux) ? aux : y;
  }
  return y;
}

/** `finished`, for all there is. Not within the loops of kernels, whose registers it would take. */
[[gnu::noinline, gnu::cold]] inline float finished_by_call(const Activation& a, Add how, float y, const float* aux) {
  switch (how) {
    case Add::none: return activated(a, y);
    case Add::after_activation:
    case Add::factor_after_activation:
    case Add::slope_after_activation: return combined(how, activated(a, y), *aux);
    default: return activated(a, combined(how, y, *aux));
  }
}

/** Activation, and the second operand before or after it. */
inline float finished(const Activation& a, Add how, float y, const float* aux) {
  if (__builtin_expect(a.table || how > Add::after_activation, false)) return finished_by_call(a, how, y, aux);
  if (how == Add::before_activation) y += *aux;
  y = bent(a, y);
  return how == Add::after_activation ? y + *aux : y;
}

}  // namespace kernels
}  // namespace heepstor

#endif

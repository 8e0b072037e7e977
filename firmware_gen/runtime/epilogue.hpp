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

inline float activated(const Activation& a, float y) {
  if (a.slope != 1.0f && !(y > 0.0f)) y = y * a.slope;
  y = clamped(a, y);
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

/** Activation, and the second operand before or after it. */
inline float finished(const Activation& a, Add residual, float y, const float* aux) {
  if (residual == Add::none) return activated(a, y);
  if (residual == Add::before_activation) return activated(a, y + *aux);
  if (residual == Add::after_activation) return activated(a, y) + *aux;
  if (residual == Add::factor_after_activation || residual == Add::slope_after_activation)
    return combined(residual, activated(a, y), *aux);
  return activated(a, combined(residual, y, *aux));
}

}  // namespace kernels
}  // namespace heepstor

#endif

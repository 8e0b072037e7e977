// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_EPILOGUE_HPP
#define HEEPSTOR_EPILOGUE_HPP

#include "kernels.hpp"

namespace heepstor {
namespace kernels {

inline float clamped(const Activation& a, float y) {
  if (y <= a.low) y = a.low;
  if (y >= a.high) y = a.high;
  return y;
}

inline float activated(const Activation& a, float y) {
  if (a.slope != 1.0f && !(y > 0.0f)) y = y * a.slope;
  return clamped(a, y);
}

/** Activation, and the residual before or after it. */
inline float finished(const Activation& a, Add residual, float y, const float* aux) {
  switch (residual) {
    case Add::none: return activated(a, y);
    case Add::before_activation: return activated(a, y + *aux);
    case Add::after_activation: break;
  }
  return activated(a, y) + *aux;
}

}  // namespace kernels
}  // namespace heepstor

#endif

// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_EPILOGUE_HPP
#define HEEPSTOR_EPILOGUE_HPP

#include "kernels.hpp"
#include "math.hpp"

namespace heepstor {
namespace kernels {

inline float activated(const Activation& a, float y) {
  y = a.bent(y);
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

/** `finished`, for all there is. */
[[gnu::noinline, gnu::cold]] inline float finished_rarely(const Activation& a, Add how, float y, const float* aux) {
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
  if (a.table || how > Add::after_activation) return finished_rarely(a, how, y, aux);
  if (how == Add::before_activation) y += *aux;
  y = a.bent(y);
  return how == Add::after_activation ? y + *aux : y;
}

[[gnu::noinline]] inline float finished_by_call(const Activation& a, Add how, float y, const float* aux) {
  return finished(a, how, y, aux);
}

/** `finished` in the loops of kernels. Most layers have a clamp and nothing else, which leaves them their registers. */
class Epilogue {
 public:
  Epilogue(const Activation& a, Add how)
      : activation_(a), how_(how), low_(a.low), high_(a.high), clamps_(how == Add::none && a.clamps() && !a.table) {}

  [[gnu::always_inline]] inline float operator()(float y, const float* aux) const {
    return __builtin_expect(clamps_, true) ? clamped(y) : finished_by_call(activation_, how_, y, aux);
  }

  /** out = finished(sum * scale + bias), of `count` channels; steps in words. */
  template <class Sums>
  [[gnu::always_inline]] inline void channels(const Sums& sums, int32_t count, const float* scale, const float* bias,
                                              const float* aux, int32_t aux_step, float* out, int32_t out_step) const {
    if (clamps_) {
      for (int32_t c = 0; c < count; ++c, out += out_step) {
        const float scaled = sums[c] * scale[c];
        *out = clamped(scaled + bias[c]);
      }
      return;
    }
    for (int32_t c = 0; c < count; ++c, aux += aux_step, out += out_step) {
      const float scaled = sums[c] * scale[c];
      *out = finished(activation_, how_, scaled + bias[c], aux);
    }
  }

 private:
  [[gnu::always_inline]] inline float clamped(float y) const {
    if (y <= low_) y = low_;
    return y >= high_ ? high_ : y;
  }

  const Activation& activation_;
  Add how_;
  float low_, high_;
  bool clamps_;
};

}  // namespace kernels
}  // namespace heepstor

#endif

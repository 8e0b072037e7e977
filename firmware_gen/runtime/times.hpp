// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_TIMES_HPP
#define HEEPSTOR_TIMES_HPP

namespace heepstor {

/** Calls f(0), ..., f(N - 1); unrolled by every compiler at every optimisation level, so that arrays stay in registers. */
template <int N>
struct Times {
  template <class F>
  [[gnu::always_inline]] static inline void call(const F& f) {
    Times<N - 1>::call(f);
    f(N - 1);
  }
};

template <>
struct Times<0> {
  template <class F>
  [[gnu::always_inline]] static inline void call(const F&) {}
};

}  // namespace heepstor

#define HEEPSTOR_INLINE __attribute__((always_inline))

#endif

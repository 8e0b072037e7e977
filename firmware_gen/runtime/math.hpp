// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_MATH_HPP
#define HEEPSTOR_MATH_HPP

#include <stdint.h>

namespace heepstor {

/**
 * e^x in binary32, within 2 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial of degree 7 in r (that of
 * Cephes' expf) by fused multiply-adds, then 2^n. Nothing else may be contracted, here as below.
 */
float exp(float x);

/**
 * Natural logarithm in binary32, within 2 ulp: x = 2^n m with sqrt(1/2) <= m < sqrt(2), n ln 2 and a polynomial of
 * degree 11 in m - 1 (that of Cephes' logf). Minus infinity for 0, NaN below.
 */
float log(float x);

/**
 * out[i] = e^(in[i] - max) * (1 / sum), for each of `rows` rows of `count` values, `stride` apart in rows that interleave
 * (stride 1: one row after the other); the sum is taken in order. In place is fine, as for the functions below.
 */
void softmax(const float* in, float* out, uint32_t rows, uint32_t count, uint32_t stride = 1);

/** out[i] = in[i] - max - log(sum), with rows, maximum and sum as in `softmax`. */
void log_softmax(const float* in, float* out, uint32_t rows, uint32_t count, uint32_t stride = 1);

/** Of maps: how many there are of each. */
struct Extent {
  uint32_t images, rows, columns, channels;
};

/** Words from one to the next; 0 where one element serves all. */
struct Steps {
  uint32_t image, row, column, channel;
};

/** out = a * b, element by element. */
void multiply(const float* a, Steps a_steps, const float* b, Steps b_steps, float* out, Steps out_steps, Extent extent);

/** out = a * b where the sign of a is set, else a. */
void multiply_negative(const float* a, Steps a_steps, const float* b, Steps b_steps, float* out, Steps out_steps,
                       Extent extent);

/** out[i] = f(in[i]), for the function f of a table of the function unit, bit for bit what that computes. */
void apply_table(const float* in, float* out, uint32_t count, const uint32_t* table);

/** 1 / sqrt(x) in binary32, within 2 ulp, by Newton's method: an infinity of its sign for 0, NaN below. */
float inverse_sqrt(float x);

/** The square root in binary32, x * inverse_sqrt(x): NaN below 0. */
float square_root(float x);

/** Index of the largest of `count` values, the first one when several are; NaN is never larger. */
uint32_t argmax(const float* values, uint32_t count);

}  // namespace heepstor

#endif

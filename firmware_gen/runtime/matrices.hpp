// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_MATRICES_HPP
#define HEEPSTOR_MATRICES_HPP

#include <stdint.h>

namespace heepstor {

/** Words from matrix to matrix, outer and inner, and from row to row and column to column. */
struct MatrixSteps {
  uint32_t outer, inner, row, column;
};

/** Outer times inner products of matrices (rows, depth) and (depth, columns). */
struct MatrixCounts {
  uint32_t outer, inner, rows, depth, columns;
};

/** out = scale * a @ b: every sum is a chain of fused multiply-adds from +0. `out` is none of the operands. */
void matmul(const float* a, MatrixSteps a_steps, const float* b, MatrixSteps b_steps, float* out, MatrixSteps out_steps,
            MatrixCounts counts, float scale);

/** How the array reads weights: tiles of rows times columns bytes, in beats of so many words. */
struct WeightTiles {
  uint32_t rows, columns, beat;
};

/**
 * Every b as two planes of bytes with a factor for every column, factor * (256 * high + low): its factors, planes in
 * tiles, and the next b behind them. `scale`, over 32512, is in the factors. A column with an element that is infinite
 * or NaN has factor NaN, one whose elements are all below 2^-100 is 0.
 */
void to_planes(const float* b, MatrixSteps b_steps, float* out, MatrixCounts counts, float scale, WeightTiles tiles);

}  // namespace heepstor

#endif

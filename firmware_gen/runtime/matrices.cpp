// SPDX-License-Identifier: Apache-2.0
#include "matrices.hpp"

#include "bits.hpp"
#include "times.hpp"

namespace heepstor {

namespace {

/** A step of one word, which the compiler knows. */
struct One {
  constexpr operator uint32_t() const { return 1; }
};

/** Words from column to column of a, row to row of b and column to column of b: numbers, or One. */
template <class AColumn, class BRow, class BColumn>
struct Inner {
  AColumn a_column;
  BRow b_row;
  BColumn b_column;
};

/** ROWS rows of a by COLUMNS columns of b: every number that is loaded meets several. */
template <int ROWS, int COLUMNS, class Inner>
[[gnu::always_inline]] inline void multiply_block(const float* a, uint32_t a_row, const float* b, Inner inner,
                                                  float* out, const MatrixSteps& out_steps, uint32_t depth,
                                                  float scale) {
  float sum[ROWS][COLUMNS];
  const float *x[ROWS], *y[COLUMNS];
  Times<ROWS>::call([&](int r) HEEPSTOR_INLINE {
    x[r] = a + static_cast<uint32_t>(r) * a_row;
    Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE { sum[r][c] = 0.0f; });
  });
  Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE { y[c] = b + static_cast<uint32_t>(c) * inner.b_column; });
  const auto add_products = [&](uint32_t k) HEEPSTOR_INLINE {
    float factor[COLUMNS];
    Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE { factor[c] = y[c][k * inner.b_row]; });
    Times<ROWS>::call([&](int r) HEEPSTOR_INLINE {
      const float value = x[r][k * inner.a_column];
      Times<COLUMNS>::call(
          [&](int c) HEEPSTOR_INLINE { sum[r][c] = __builtin_fmaf(value, factor[c], sum[r][c]); });
    });
  };
  const auto advance = [&](uint32_t count) HEEPSTOR_INLINE {
    Times<ROWS>::call([&](int r) HEEPSTOR_INLINE { x[r] += count * inner.a_column; });
    Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE { y[c] += count * inner.b_row; });
  };
  for (; depth >= 4; depth -= 4, advance(4))
    Times<4>::call([&](int k) HEEPSTOR_INLINE {
      add_products(static_cast<uint32_t>(k));
      __asm__ volatile("" ::: "memory");  // or all is loaded first, into more registers than there are
    });
  for (; depth > 0; --depth, advance(1)) add_products(0);
  Times<ROWS>::call([&](int r) HEEPSTOR_INLINE {
    float* to = out + static_cast<uint32_t>(r) * out_steps.row;
    Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE {
      to[static_cast<uint32_t>(c) * out_steps.column] = sum[r][c] * scale;
    });
  });
}

/** ROWS rows of a by all columns of b. */
template <int ROWS, class Inner>
void multiply_rows(const float* a, uint32_t a_row, const float* b, Inner inner, float* out,
                   const MatrixSteps& out_steps, const MatrixCounts& counts, float scale) {
  uint32_t column = 0;
  for (; column + 4 <= counts.columns; column += 4)
    multiply_block<ROWS, 4>(a, a_row, b + column * inner.b_column, inner, out + column * out_steps.column, out_steps,
                            counts.depth, scale);
  for (; column < counts.columns; ++column)
    multiply_block<ROWS, 1>(a, a_row, b + column * inner.b_column, inner, out + column * out_steps.column, out_steps,
                            counts.depth, scale);
}

/** All rows of a, ROWS at a time. */
template <int ROWS, class Inner>
void multiply_matrices(const float* a, uint32_t a_row, const float* b, Inner inner, float* out,
                       const MatrixSteps& out_steps, const MatrixCounts& counts, float scale) {
  uint32_t row = 0;
  for (; row + ROWS <= counts.rows; row += ROWS, a += ROWS * a_row, out += ROWS * out_steps.row)
    multiply_rows<ROWS>(a, a_row, b, inner, out, out_steps, counts, scale);
  for (; row < counts.rows; ++row, a += a_row, out += out_steps.row)
    multiply_rows<1>(a, a_row, b, inner, out, out_steps, counts, scale);
}

inline void clear(float* words, uint32_t count) {
  for (; count >= 4; count -= 4, words += 4)
    Times<4>::call([&](int i) HEEPSTOR_INLINE { words[i] = 0.0f; });
  for (; count > 0; --count) *words++ = 0.0f;
}

/** The largest magnitude of a column, NaN left out; four at a time, which hide each other's latency. */
inline float largest_magnitude(const float* x, uint32_t row, uint32_t depth) {
  float largest[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (; depth >= 4; depth -= 4) {
    float part[4];
    Times<4>::call([&](int i) HEEPSTOR_INLINE {
      part[i] = *x;
      x += row;
    });
    Times<4>::call([&](int i) HEEPSTOR_INLINE {
      largest[i] = __builtin_fmaxf(largest[i], __builtin_fabsf(part[i]));
    });
  }
  for (; depth > 0; --depth, x += row) largest[0] = __builtin_fmaxf(largest[0], __builtin_fabsf(*x));
  return __builtin_fmaxf(__builtin_fmaxf(largest[0], largest[1]), __builtin_fmaxf(largest[2], largest[3]));
}

/** The bytes of a column in both planes, whose rows lie `next` bytes apart; returns its factor. */
inline float column_planes(const float* x, uint32_t row, unsigned char* high, unsigned char* low, uint32_t next,
                           uint32_t depth, float scale) {
  constexpr float kOne = 12582912.0f;  // added to a small number, it leaves the nearest integer in the lowest bits
  const float largest = largest_magnitude(x, row, depth);
  const float inverse = largest >= 7.88860905e-31f ? 32512.0f / largest : 0.0f;
  uint32_t all = 0;
  const auto store = [&](uint32_t bits) HEEPSTOR_INLINE {
    *high = static_cast<unsigned char>((bits + 128) >> 8);
    *low = static_cast<unsigned char>(bits);
    high += next, low += next;
    all |= bits;
  };
  for (; depth >= 4; depth -= 4) {
    float part[4];
    uint32_t bits[4];
    Times<4>::call([&](int i) HEEPSTOR_INLINE {
      part[i] = *x;
      x += row;
    });
    Times<4>::call([&](int i) HEEPSTOR_INLINE { part[i] = __builtin_fmaf(part[i], inverse, kOne); });
    Times<4>::call([&](int i) HEEPSTOR_INLINE { bits[i] = bits_of(part[i]); });
    __asm__ volatile("" : : "r"(bits[0]), "r"(bits[1]), "r"(bits[2]), "r"(bits[3]) : "memory");  // before any is stored
    Times<4>::call([&](int i) HEEPSTOR_INLINE { store(bits[i]); });
  }
  for (; depth > 0; --depth, x += row) store(bits_of(__builtin_fmaf(*x, inverse, kOne)));
  if (all >> 28 != 4) return from_bits(kNan);  // all sums of numbers begin so
  return inverse == 0.0f ? 0.0f : largest * scale;
}

}  // namespace

// Aligned: an instruction that lies across two words costs the CPU a cycle more, which is 400 of a small transformer
[[gnu::aligned(4)]] void matmul(const float* a, MatrixSteps a_steps, const float* b, MatrixSteps b_steps, float* out,
                                MatrixSteps out_steps, MatrixCounts counts, float scale) {
  for (uint32_t matrix = 0; matrix < counts.outer * counts.inner; ++matrix) {
    const uint32_t outer = matrix / counts.inner, inner = matrix % counts.inner;
    const float* x = a + outer * a_steps.outer + inner * a_steps.inner;
    const float* y = b + outer * b_steps.outer + inner * b_steps.inner;
    float* z = out + outer * out_steps.outer + inner * out_steps.inner;
    if (a_steps.column == 1 && b_steps.row == 1)
      multiply_matrices<4>(x, a_steps.row, y, Inner<One, One, uint32_t>{{}, {}, b_steps.column}, z, out_steps, counts,
                           scale);
    else if (a_steps.column == 1 && b_steps.column == 1)
      multiply_matrices<4>(x, a_steps.row, y, Inner<One, uint32_t, One>{{}, b_steps.row, {}}, z, out_steps, counts,
                           scale);
    else
      multiply_matrices<1>(x, a_steps.row, y,
                           Inner<uint32_t, uint32_t, uint32_t>{a_steps.column, b_steps.row, b_steps.column}, z,
                           out_steps, counts, scale);
  }
}

[[gnu::aligned(4)]] void to_planes(const float* b, MatrixSteps b_steps, float* out, MatrixCounts counts, float scale,
                                   WeightTiles tiles) {
  const uint32_t depth = counts.depth, columns = counts.columns;
  const uint32_t block = (depth + tiles.rows - 1) / tiles.rows * tiles.rows * tiles.columns;
  const uint32_t blocks = (columns + tiles.columns - 1) / tiles.columns;
  const auto beats = [&](uint32_t words) HEEPSTOR_INLINE { return (words + tiles.beat - 1) / tiles.beat * tiles.beat; };
  const uint32_t factors = beats(columns), words = beats((blocks * block + 3) / 4);
  for (uint32_t matrix = 0; matrix < counts.outer * counts.inner; ++matrix, out += factors + 2 * words) {
    const float* x = b + matrix / counts.inner * b_steps.outer + matrix % counts.inner * b_steps.inner;
    if (depth % tiles.rows > 0 || columns % tiles.columns > 0) clear(out + factors, 2 * words);
    unsigned char* first = reinterpret_cast<unsigned char*>(out + factors);
    uint32_t lane = 0;
    for (uint32_t column = 0; column < columns; ++column, x += b_steps.column) {
      out[column] = column_planes(x, b_steps.row, first + lane, first + lane + 4 * words, tiles.columns, depth, scale);
      if (++lane == tiles.columns) {
        lane = 0;
        first += block;
      }
    }
  }
}

}  // namespace heepstor

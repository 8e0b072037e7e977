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

/** Words that hold the bytes from `begin` to `end`. */
inline void clear(unsigned char* bytes, uint32_t begin, uint32_t end) {
  uint32_t* word = reinterpret_cast<uint32_t*>(bytes + begin / 4 * 4);
  for (uint32_t left = (end + 3) / 4 - begin / 4; left > 0; --left) *word++ = 0;
}

/** The largest magnitudes of COLUMNS columns, NaN left out. */
template <int COLUMNS, class Row, class Column>
[[gnu::always_inline]] inline void largest_magnitudes(const float* b, Row row, Column column, uint32_t depth,
                                                      float (&largest)[COLUMNS]) {
  const float* x[COLUMNS];
  Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE {
    largest[c] = 0.0f;
    x[c] = b + static_cast<uint32_t>(c) * column;
  });
  const auto take_row = [&](int) HEEPSTOR_INLINE {
    float part[COLUMNS];
    Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE { part[c] = *x[c]; });
    Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE {
      largest[c] = __builtin_fmaxf(largest[c], __builtin_fabsf(part[c]));
      x[c] += row;
    });
  };
  for (; depth >= 4; depth -= 4) Times<4>::call(take_row);
  for (; depth > 0; --depth) take_row(0);
}

/** The bytes of COLUMNS columns, which are neighbours in both planes; rows lie `next` bytes apart there. Returns whether
 * all elements are numbers; factors are those of columns that are. */
template <int COLUMNS, class Row, class Column>
[[gnu::always_inline]] inline bool column_planes(const float* b, Row row, Column column, unsigned char* high,
                                                 unsigned char* low, uint32_t next, uint32_t depth, float scale,
                                                 float* factors) {
  constexpr float kOne = 12583040.0f;  // 128 more than what, added to a number, leaves its integer in the lowest bits
  float inverse[COLUMNS];
  largest_magnitudes(b, row, column, depth, inverse);
  const float* x[COLUMNS];
  Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE {
    const float largest = inverse[c];
    const bool counts = largest >= 7.88860905e-31f;
    inverse[c] = counts ? 32512.0f / largest : 0.0f;
    factors[c] = counts ? largest * scale : 0.0f;
    x[c] = b + static_cast<uint32_t>(c) * column;
  });
  uint32_t all = 0;
  const auto take_row = [&](int) HEEPSTOR_INLINE {
    float part[COLUMNS];
    uint32_t bits[COLUMNS];
    Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE { part[c] = *x[c]; });
    Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE {
      bits[c] = bits_of(__builtin_fmaf(part[c], inverse[c], kOne));
      x[c] += row;
    });
    Times<COLUMNS>::call([&](int c) HEEPSTOR_INLINE {
      high[c] = static_cast<unsigned char>(bits[c] >> 8);
      low[c] = static_cast<unsigned char>(bits[c] ^ 128);
      all |= bits[c];
    });
    high += next, low += next;
  };
  for (; depth >= 4; depth -= 4) Times<4>::call(take_row);
  for (; depth > 0; --depth) take_row(0);
  return all >> 28 == 4;  // all sums of numbers begin so
}

/** Of one column, wherever its elements lie; infinities and NaN give it factor NaN. */
[[gnu::noinline]] void single_planes(const float* b, uint32_t row, unsigned char* high, unsigned char* low,
                                     uint32_t next, uint32_t depth, float scale, float* factor) {
  if (!column_planes<1>(b, row, One{}, high, low, next, depth, scale, factor)) *factor = from_bits(kNan);
}

/** A matrix in tiles: COLUMNS columns at a time where they are neighbours there. */
template <int COLUMNS, class Row, class Column>
void matrix_planes(const float* x, Row row, Column column, unsigned char* high, unsigned char* low,
                   const WeightTiles& tiles, const MatrixCounts& counts, float scale, float* factors) {
  const uint32_t next = tiles.columns, depth = counts.depth;
  const uint32_t to_block = (depth + tiles.rows - 1) / tiles.rows * tiles.rows * next - next;
  uint32_t lane = 0, alone = 0;
  for (uint32_t left = counts.columns; left > 0;) {
    uint32_t taken = 1;
    if (COLUMNS > 1 && alone == 0 && left >= COLUMNS && lane + COLUMNS <= next) {
      if (column_planes<COLUMNS>(x, row, column, high, low, next, depth, scale, factors)) taken = COLUMNS;
      else alone = COLUMNS;  // to tell which are not numbers
    }
    if (taken == 1) {
      single_planes(x, row, high, low, next, depth, scale, factors);
      alone -= alone > 0;
    }
    left -= taken, lane += taken, high += taken, low += taken, factors += taken, x += taken * column;
    if (lane == next) {
      lane = 0;
      high += to_block, low += to_block;
    }
  }
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
    unsigned char* high = reinterpret_cast<unsigned char*>(out + factors);
    unsigned char* low = high + 4 * words;
    for (uint32_t begin = 0, left = blocks; left > 0; --left, begin += block) {  // where no element goes
      const bool last = left == 1, cut = last && columns % tiles.columns > 0;
      const uint32_t from = begin + (cut ? 0 : depth * tiles.columns), to = last ? 4 * words : begin + block;
      clear(high, from, to);
      clear(low, from, to);
    }
    if (b_steps.row == 1) matrix_planes<4>(x, One{}, b_steps.column, high, low, tiles, counts, scale, out);
    else if (b_steps.column == 1) matrix_planes<4>(x, b_steps.row, One{}, high, low, tiles, counts, scale, out);
    else matrix_planes<1>(x, b_steps.row, b_steps.column, high, low, tiles, counts, scale, out);
  }
}

}  // namespace heepstor

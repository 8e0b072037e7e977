// SPDX-License-Identifier: Apache-2.0
#include "math.hpp"

#include "assert.hpp"
#include "times.hpp"

namespace heepstor {

namespace {

/** z = x * y, of neighbouring words. */
void multiply_row(const float* x, const float* y, float* z, uint32_t count) {
  uint32_t i = 0;
  for (; i + 4 <= count; i += 4) {  // the products of one round hide each other's latency
    const float product[4] = {x[i] * y[i], x[i + 1] * y[i + 1], x[i + 2] * y[i + 2], x[i + 3] * y[i + 3]};
    for (uint32_t k = 0; k < 4; ++k) z[i + k] = product[k];
  }
  for (; i < count; ++i) z[i] = x[i] * y[i];
}

/** Calls f(x, y, z) with the first channels of every pixel of a, b and out. */
template <class Function>
inline void each_pixel(const float* a, Steps a_steps, const float* b, Steps b_steps, float* out, Steps out_steps,
                       Extent extent, const Function& f) {
  for (uint32_t image = 0; image < extent.images; ++image) {
    for (uint32_t row = 0; row < extent.rows; ++row) {
      const float* x = a + image * a_steps.image + row * a_steps.row;
      const float* y = b + image * b_steps.image + row * b_steps.row;
      float* z = out + image * out_steps.image + row * out_steps.row;
      for (uint32_t column = 0; column < extent.columns; ++column) {
        f(x, y, z);
        x += a_steps.column, y += b_steps.column, z += out_steps.column;
      }
    }
  }
}

float from_bits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

uint32_t bits_of(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

/** 2^n for -126 <= n <= 127. */
float power_of_two(int32_t n) { return from_bits(static_cast<uint32_t>(n + 127) << 23); }

constexpr uint32_t kLeastNormal = 0x00800000u, kInfinity = 0x7f800000u, kNan = 0x7fc00000u, kSign = 0x80000000u;

/**
 * f(x) on bit patterns, as hls/arithmetic/function.py describes tables, segments and their kinds; `lowest` is the
 * biased exponent of the table's first octave. `normal`: x is not 0, subnormal, infinite or NaN.
 */
template <bool normal>
inline uint32_t look_up(uint32_t x, const uint32_t* table, int32_t lowest) {
  enum Kind : uint32_t { kAbsolute, kNanAtInfinity, kRelative, kIdentity };
  if (!normal && (x & ~kSign) > kInfinity) return kNan;
  const int32_t exponent = x >> 23 & 255;
  const uint32_t negative = x >> 31, fraction = (negative ? ~x : x) & 0x7fffffu;

  uint32_t octave = static_cast<uint32_t>(exponent - lowest);
  if (octave > 31) octave = exponent < lowest ? 0 : 31;
  const uint32_t entry = table[16 * negative + octave / 2] >> octave % 2 * 16;
  const uint32_t k = entry >> 8 & 7;
  const uint32_t* segment = table + 2 * ((entry + (fraction >> (23 - k))) & 255);
  const int32_t t = (fraction << k & 0x7fffffu) >> 6;

  const uint32_t kind = segment[0] >> 8 & 3;
  if (kind == kIdentity) return x;
  if (!normal && kind == kNanAtInfinity && exponent == 255) return kNan;
  const int32_t c0 = static_cast<int32_t>(segment[0]) >> 10;
  const int32_t c2 = static_cast<int32_t>(segment[1] << 18) >> 18;
  const uint32_t curve = static_cast<uint32_t>(c2 * t >> 15) << 14;  // c1 lies from bit 14 on
  const int32_t slope = static_cast<int32_t>((segment[1] & ~0x3fffu) + curve);
  const int32_t p = c0 + static_cast<int32_t>(static_cast<int64_t>(slope) * (t << 4) >> 32);
  if (p == 0) return 0;

  const uint32_t bits = bits_of(static_cast<float>(p));  // exact
  int32_t shift = static_cast<int32_t>(segment[0] & 255) - 127 - 20;
  if (kind == kRelative) {
    if (!normal) return (bits & kSign) | (exponent == 0 ? 0 : kInfinity);
    shift += exponent - 127;
  }
  const int32_t power = static_cast<int32_t>(bits >> 23 & 255) + shift;
  if (power > 0 && power < 255) return bits + (static_cast<uint32_t>(shift) << 23);
  return (bits & kSign) | (power <= 0 ? 0 : kInfinity);
}

/** out[i] = f(in[i]). */
template <class Function>
[[gnu::always_inline]] inline void each(const float* in, float* out, uint32_t count, const Function& f) {
  for (uint32_t i = 0; i < count; ++i) out[i] = f(in[i]);
}

/** The largest of the values first, first + stride, ... before end, if none of them is NaN. */
float largest_of(const float* values, uint32_t first, uint32_t end, uint32_t stride) {
  float largest = values[first];
  for (uint32_t i = first + stride; i < end; i += stride)
    if (__builtin_expect(values[i] > largest, 0)) largest = values[i];
  return largest;
}

constexpr float kExpNormalBelow = 88.0f, kExpNormalAbove = -86.0f;

/** e^x = 2^n p for |x| < 128; n is the integer nearest to x / ln 2, and p from 0.7 to 1.42 the result. */
[[gnu::always_inline]] inline float exp_significand(float x, int32_t& n) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23, where float32 has integers only
  const float rounded = __builtin_fmaf(x, 1.44269504f, kRound);
  n = static_cast<int32_t>(bits_of(rounded) - bits_of(kRound));
  const float k = rounded - kRound;
  float r = __builtin_fmaf(k, -0.693359375f, x);
  r = __builtin_fmaf(k, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = __builtin_fmaf(p, r, 1.3981999507e-3f);
  p = __builtin_fmaf(p, r, 8.3334519073e-3f);
  p = __builtin_fmaf(p, r, 4.1665795894e-2f);
  p = __builtin_fmaf(p, r, 1.6666665459e-1f);
  p = __builtin_fmaf(p, r, 5.0000001201e-1f);
  p = __builtin_fmaf(p, r * r, r);
  return p + 1.0f;
}

/** exp(x) for kExpNormalAbove < x < kExpNormalBelow, where it is a normal number. */
[[gnu::always_inline]] inline float normal_exp(float x) {
  int32_t n;
  const float p = exp_significand(x, n);
  return from_bits(bits_of(p) + (static_cast<uint32_t>(n) << 23));
}

/** exp(x) for x that is not above 0. */
[[gnu::always_inline]] inline float exp_below(float x) { return x > kExpNormalAbove ? normal_exp(x) : exp(x); }

/** Calls term(lane, i) for i = 0 to count - 1, lanes in turn, and returns what the four sums give over the count. */
template <class Term>
[[gnu::always_inline]] inline float mean_of(uint32_t count, const Term& term) {
  float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  uint32_t i = 0;
  for (; i + 4 <= count; i += 4)
    Times<4>::call([&](int k) HEEPSTOR_INLINE { sum[k] = term(i + static_cast<uint32_t>(k), sum[k]); });
  for (uint32_t k = 0; i < count; ++i, ++k) sum[k] = term(i, sum[k]);
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) / static_cast<float>(count);
}

void scale_row(const float* in, float* out, uint32_t count, float factor) {
  uint32_t i = 0;
  for (; i + 4 <= count; i += 4) {
    float y[4];
    Times<4>::call([&](int k) HEEPSTOR_INLINE { y[k] = in[i + static_cast<uint32_t>(k)] * factor; });
    Times<4>::call([&](int k) HEEPSTOR_INLINE { out[i + static_cast<uint32_t>(k)] = y[k]; });
  }
  for (; i < count; ++i) out[i] = in[i] * factor;
}

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

/** heepstor::log, for loops. */
[[gnu::always_inline]] inline float log_of(float x) {
  uint32_t bits = bits_of(x);
  int32_t n = -126;
  if (bits - kLeastNormal >= kInfinity - kLeastNormal) {  // neither positive nor normal
    if (bits == kInfinity) return x;
    if (x == 0.0f) return from_bits(kSign | kInfinity);
    if (!(x > 0.0f)) return from_bits(kNan);
    bits = bits_of(x * 8388608.0f);
    n = -149;
  }
  n = n + static_cast<int32_t>(bits >> 23);
  float m = from_bits((bits & 0x7fffffu) | 0x3f000000u);  // 0.5 <= m < 1
  if (m < 0.707106781f) {
    n = n - 1;
    m = m + m;
  }
  const float r = m - 1.0f;
  const float square = r * r;
  float p = 7.0376836292e-2f;
  p = p * r + -1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r + -1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r + -1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r + -2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  p = p * r * square;
  const float k = static_cast<float>(n);
  p = p + k * -2.12194440e-4f;
  p = p - square * 0.5f;
  return r + p + k * 0.693359375f;
}

}  // namespace

float exp(float x) {
  if (!(x == x)) return from_bits(kNan);
  if (x > 88.72283f) return from_bits(kInfinity);
  if (x < -103.97208f) return 0.0f;
  int32_t n;
  const float p = exp_significand(x, n);
  return p * power_of_two(n / 2) * power_of_two(n - n / 2);
}

void softmax(const float* in, float* out, uint32_t rows, uint32_t count, uint32_t stride) {
  HEEPSTOR_ASSERT(count > 0 && stride > 0 && rows % stride == 0);
  const uint32_t length = count * stride;
  for (uint32_t row = 0; row < rows; ++row) {
    const uint32_t first = row / stride * length + row % stride;
    const uint32_t end = first + length;
    const float largest = largest_of(in, first, end, stride);
    float sum = 0.0f;
    for (uint32_t i = first; i < end; i += stride) {
      const float power = exp_below(in[i] - largest);
      out[i] = power;
      sum = sum + power;
    }
    const float factor = 1.0f / sum;
    if (stride == 1) scale_row(out + first, out + first, count, factor);
    else
      for (uint32_t i = first; i < end; i += stride) out[i] = out[i] * factor;
  }
}

void log_softmax(const float* in, float* out, uint32_t rows, uint32_t count, uint32_t stride) {
  HEEPSTOR_ASSERT(count > 0 && stride > 0 && rows % stride == 0);
  const uint32_t length = count * stride;
  for (uint32_t row = 0; row < rows; ++row) {
    const uint32_t first = row / stride * length + row % stride;
    const uint32_t end = first + length;
    const float largest = largest_of(in, first, end, stride);
    float sum = 0.0f;
    for (uint32_t i = first; i < end; i += stride) sum = sum + exp_below(in[i] - largest);
    const float part = log(sum);
    for (uint32_t i = first; i < end; i += stride) out[i] = in[i] - largest - part;
  }
}

void multiply(const float* a, Steps a_steps, const float* b, Steps b_steps, float* out, Steps out_steps,
              Extent extent) {
  if (a_steps.channel == 1 && b_steps.channel == 1 && out_steps.channel == 1)
    each_pixel(a, a_steps, b, b_steps, out, out_steps, extent,
               [&](const float* x, const float* y, float* z) { multiply_row(x, y, z, extent.channels); });
  else
    each_pixel(a, a_steps, b, b_steps, out, out_steps, extent, [&](const float* x, const float* y, float* z) {
      for (uint32_t c = 0; c < extent.channels; ++c)
        z[c * out_steps.channel] = x[c * a_steps.channel] * y[c * b_steps.channel];
    });
}

void multiply_negative(const float* a, Steps a_steps, const float* b, Steps b_steps, float* out, Steps out_steps,
                       Extent extent) {
  each_pixel(a, a_steps, b, b_steps, out, out_steps, extent, [&](const float* x, const float* y, float* z) {
    for (uint32_t c = 0; c < extent.channels; ++c) {
      const float value = x[c * a_steps.channel];
      z[c * out_steps.channel] = __builtin_signbit(value) ? value * y[c * b_steps.channel] : value;
    }
  });
}

void apply_table(const float* in, float* out, uint32_t count, const uint32_t* table) {
  const int32_t lowest = 96 + static_cast<int32_t>(table[0] >> 11 & 31);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t x = bits_of(in[i]);
    const bool normal = (x & ~kSign) - kLeastNormal < kInfinity - kLeastNormal;
    out[i] = from_bits(normal ? look_up<true>(x, table, lowest) : look_up<false>(x, table, lowest));
  }
}

float log(float x) { return log_of(x); }

float inverse_sqrt(float x) {
  uint32_t bits = bits_of(x);
  if (!(x > 0.0f) || bits == kInfinity) {
    return from_bits(x == 0.0f ? kInfinity | (bits & kSign) : x > 0.0f ? 0u : kNan);
  }
  if (bits < kLeastNormal) return inverse_sqrt(x * 16777216.0f) * 4096.0f;
  bits = 0x5f3759dfu - (bits >> 1);
  float y = from_bits(bits);
  const float half = x * 0.5f;
  for (uint32_t step = 0; step < 4; ++step) y = y + y * (0.5f - half * y * y);
  return y;
}

float square_root(float x) { return x == 0.0f || x == from_bits(kInfinity) ? x : x * inverse_sqrt(x); }

void exp(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE {
    return x > kExpNormalAbove && x < kExpNormalBelow ? normal_exp(x) : exp(x);
  });
}

void log(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE { return log_of(x); });
}

void inverse_sqrt(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE { return inverse_sqrt(x); });
}

void square_root(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE { return square_root(x); });
}

void reciprocal(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE { return 1.0f / x; });
}

void normalise(const float* in, float* out, uint32_t rows, uint32_t count, float eps) {
  for (uint32_t row = 0; row < rows; ++row, in += count, out += count) {
    const float mean = mean_of(count, [&](uint32_t i, float sum) HEEPSTOR_INLINE { return sum + in[i]; });
    const float variance = mean_of(count, [&](uint32_t i, float sum) HEEPSTOR_INLINE {
      const float difference = in[i] - mean;
      out[i] = difference;
      return __builtin_fmaf(difference, difference, sum);
    });
    scale_row(out, out, count, inverse_sqrt(variance + eps));
  }
}

void root_mean_square(const float* in, float* out, uint32_t rows, uint32_t count, float eps) {
  for (uint32_t row = 0; row < rows; ++row, in += count, out += count) {
    const float square = mean_of(
        count, [&](uint32_t i, float sum) HEEPSTOR_INLINE { return __builtin_fmaf(in[i], in[i], sum); });
    scale_row(in, out, count, inverse_sqrt(square + eps));
  }
}

void matmul(const float* a, MatrixSteps a_steps, const float* b, MatrixSteps b_steps, float* out, MatrixSteps out_steps,
            MatrixCounts counts, float scale) {
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

void to_planes(const float* b, MatrixSteps b_steps, float* out, MatrixCounts counts, float scale, WeightTiles tiles) {
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

uint32_t argmax(const float* values, uint32_t count) {
  uint32_t best = 0;
  for (uint32_t i = 1; i < count; ++i)
    if (values[i] > values[best]) best = i;
  return best;
}

}  // namespace heepstor

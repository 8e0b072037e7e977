// SPDX-License-Identifier: Apache-2.0
#include "math.hpp"

#include "assert.hpp"
#include "bits.hpp"
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

/** 2^n for -126 <= n <= 127. */
float power_of_two(int32_t n) { return from_bits(static_cast<uint32_t>(n + 127) << 23); }

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

/** The integer nearest to x, the even one of two, with the sign of x. */
inline float nearest(float x) {
  constexpr float kWhole = 8388608.0f;  // 2^23, from which on float32 has integers only
  const uint32_t sign = bits_of(x) & kSign;
  const float size = from_bits(bits_of(x) ^ sign);
  if (!(size < kWhole)) return x + 0.0f;
  return from_bits(bits_of(size + kWhole - kWhole) | sign);
}

/** The integer nearest to x of those not above it, or where `negative` not below; both have the sign of x. */
inline float bounded(float x, bool negative) {
  const float y = nearest(x);
  const float step = negative ? 1.0f : -1.0f;
  return (negative ? y < x : y > x) ? from_bits(bits_of(y + step) | (bits_of(x) & kSign)) : y;
}

/** Bits of 1 / (2 pi), from the 32 before its binary point on. */
constexpr uint32_t kTurns[] = {0x00000000u, 0x28be60dbu, 0x9391054au, 0x7f09d5f4u,
                               0x7d4d3770u, 0x36d8a566u, 0x4f10e410u, 0x7f9458eau};

/** |x| as a multiple of pi / 2, which is returned modulo 4, and a remainder; 2^17 <= |x|, finite. */
uint32_t far_quadrant(float x, float& rest) {
  const uint32_t bits = bits_of(x);
  const uint32_t significand = (bits & 0x7fffffu) << 8 | kSign, power = (bits >> 23 & 255) - 126;
  const uint32_t word = power >> 5, shift = power & 31;
  uint32_t part[3];  // 2^power turns, of which whole ones do not count
  for (uint32_t i = 0; i < 3; ++i) {
    const uint64_t two = static_cast<uint64_t>(kTurns[word + i]) << 32 | kTurns[word + i + 1];
    part[i] = static_cast<uint32_t>(two >> (32 - shift));
  }
  uint64_t product =
      (static_cast<uint64_t>(significand) * part[2] >> 32) + static_cast<uint64_t>(significand) * part[1];
  product += static_cast<uint64_t>(significand * part[0]) << 32;  // turns * 2^64: two bits are the quadrant
  const uint32_t quadrant = static_cast<uint32_t>((product + (1ull << 61)) >> 62);
  product <<= 2;
  const bool below = product >> 63;
  product = below ? 0 - product : product;
  int32_t scale = -64;
  for (; product != 0 && !(product >> 63); --scale) product <<= 1;
  const float size = static_cast<float>(static_cast<uint32_t>(product >> 32));
  const float turned = __builtin_fmaf(size, 1.57079637f, size * -4.37113883e-8f) * power_of_two(scale + 32);
  rest = below ? -turned : turned;
  return quadrant;
}

/** The sine of x, or of a quarter of a turn more. */
float sine(float x, uint32_t quarter) {
  const uint32_t sign = bits_of(x) & kSign;
  if ((bits_of(x) ^ sign) >= kInfinity) return from_bits(kNan);
  uint32_t quadrant;
  float r;
  if ((bits_of(x) ^ sign) < 0x48000000u) {  // 2^17
    constexpr float kRound = 12582912.0f;
    const float rounded = __builtin_fmaf(x, 0.636619747f, kRound);
    const float k = rounded - kRound;
    quadrant = bits_of(rounded) - bits_of(kRound);
    r = __builtin_fmaf(k, -1.57079601f, x);
    r = __builtin_fmaf(k, -3.13916473e-7f, r);
    r = __builtin_fmaf(k, -5.39030253e-15f, r);
  } else {
    quadrant = far_quadrant(from_bits(bits_of(x) ^ sign), r);
    if (sign) quadrant = 0 - quadrant, r = -r;
  }
  quadrant += quarter;
  const float square = r * r;
  float y;
  if (quadrant & 1) {
    y = __builtin_fmaf(2.44677067e-5f, square, -1.38877297e-3f);
    y = __builtin_fmaf(y, square, 4.16666567e-2f);
    y = __builtin_fmaf(y, square, -0.5f);
    y = __builtin_fmaf(y, square, 1.0f);
  } else {
    y = __builtin_fmaf(2.86567956e-6f, square, -1.98559923e-4f);
    y = __builtin_fmaf(y, square, 8.33338592e-3f);
    y = __builtin_fmaf(y, square, -1.66666672e-1f);
    y = __builtin_fmaf(y, r * square + 0.0f, r);  // -0 stays -0
  }
  return quadrant & 2 ? -y : y;
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

// Kernels that take input, output and numbers alone; a program that calls one declares it (emit/cpu_calls.py). In place
// is fine.

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

void floor(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE { return bounded(x, false); });
}

void ceil(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE { return bounded(x, true); });
}

void trunc(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE { return bounded(x, x < 0.0f); });
}

void round(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE { return nearest(x); });
}

void sin(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE { return sine(x, 0); });
}

void cos(const float* in, float* out, uint32_t count) {
  each(in, out, count, [](float x) HEEPSTOR_INLINE { return sine(x, 1); });
}

/** out = (in - mean) / sqrt(variance + eps), of each of `rows` rows of `count` values. In place is fine. */
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

/** out = in / sqrt(mean of squares + eps), as `normalise`. */
void root_mean_square(const float* in, float* out, uint32_t rows, uint32_t count, float eps) {
  for (uint32_t row = 0; row < rows; ++row, in += count, out += count) {
    const float square = mean_of(
        count, [&](uint32_t i, float sum) HEEPSTOR_INLINE { return __builtin_fmaf(in[i], in[i], sum); });
    scale_row(in, out, count, inverse_sqrt(square + eps));
  }
}

uint32_t argmax(const float* values, uint32_t count) {
  uint32_t best = 0;
  for (uint32_t i = 1; i < count; ++i)
    if (values[i] > values[best]) best = i;
  return best;
}

}  // namespace heepstor

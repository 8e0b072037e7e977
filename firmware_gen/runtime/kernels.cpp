#include "kernels.hpp"

#include "assert.hpp"

namespace heepstor {
namespace kernels {

namespace {

constexpr int32_t kPixels = 4;

struct Taps {
  int32_t first, last;
};

/** Taps whose input position start + tap * step lies inside 0..size. */
inline Taps inside(int32_t start, int32_t step, int32_t taps, int32_t size) {
  Taps result{0, taps};
  if (start < 0) result.first = (-start + step - 1) / step;
  if (start + (taps - 1) * step >= size) result.last = size <= start ? 0 : (size - start + step - 1) / step;
  if (result.first > result.last) result.first = result.last;
  return result;
}

inline float activated(const Activation& a, float y) {
  if (a.slope != 1.0f && !(y > 0.0f)) y = y * a.slope;
  if (y <= a.low) y = a.low;
  if (y >= a.high) y = a.high;
  return y;
}

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

#define HEEPSTOR_INLINE __attribute__((always_inline))

template <int PX>
struct Sums {
  float at[PX][kBlock];
};

/** Activation, and the residual before or after it. */
inline float finished(const Activation& a, Add residual, float y, const float* aux) {
  switch (residual) {
    case Add::none:
      return activated(a, y);
    case Add::before_activation:
      return activated(a, y + *aux);
    case Add::after_activation:
      break;
  }
  return activated(a, y) + *aux;
}

/** One tap of PX pixels and kBlock outputs: the weights are converted once for all pixels. */
template <int PX>
[[gnu::always_inline]] inline void tap(Sums<PX>& sum, const float* const (&x)[PX], int32_t at, const int8_t* w) {
  float weight[kBlock];
  Times<kBlock>::call([&](int c) HEEPSTOR_INLINE { weight[c] = static_cast<float>(w[c]); });
  Times<PX>::call([&](int p) HEEPSTOR_INLINE {
    const float value = x[p][at];
    Times<kBlock>::call([&](int c) HEEPSTOR_INLINE {
      sum.at[p][c] = __builtin_fmaf(value, weight[c], sum.at[p][c]);
    });
  });
}

/** `count` taps, `step` input words apart; STEP is `step` when it is known. */
template <int PX, int STEP>
[[gnu::always_inline]] inline void run(Sums<PX>& sum, const float* start, int32_t pixel_step, int32_t count,
                                       int32_t step, const int8_t* w) {
  const float* x[PX];
  Times<PX>::call([&](int p) HEEPSTOR_INLINE { x[p] = start + p * pixel_step; });
  const int32_t by = STEP ? STEP : step;
  for (; count >= 4; count -= 4) {
    Times<4>::call([&](int i) HEEPSTOR_INLINE { tap<PX>(sum, x, i * by, w + i * kBlock); });
    Times<PX>::call([&](int p) HEEPSTOR_INLINE { x[p] += 4 * by; });
    w += 4 * kBlock;
  }
  for (; count > 0; --count) {
    tap<PX>(sum, x, 0, w);
    Times<PX>::call([&](int p) HEEPSTOR_INLINE { x[p] += by; });
    w += kBlock;
  }
}

/** How the taps of one kernel row lie: `segments` runs of `length` taps. */
struct Rows {
  int32_t segments, length;
  int32_t segment_step, tap_step;  // input words
};

inline Rows rows_of(const Window& w) {
  const int32_t group_channels = w.channels / w.groups;
  const int32_t column = w.dilation_x * w.in.column;
  if (w.channels_first) return {group_channels, w.kernel_width, w.in.channel, column};
  if (column == group_channels * w.in.channel) return {1, w.kernel_width * group_channels, 0, w.in.channel};
  return {w.kernel_width, group_channels, column, w.in.channel};
}

/** The taps of a kernel row that lie inside the input: some segments, some taps of each. */
struct Part {
  int32_t first_segment, last_segment, first_tap, taps;
};

inline Part part_of(const Window& w, const Rows& rows, Taps kx) {
  const int32_t columns = kx.last - kx.first;
  if (w.channels_first) return {0, rows.segments, kx.first, columns};
  const int32_t group_channels = w.channels / w.groups;
  if (rows.segments == 1) return {0, 1, kx.first * group_channels, columns * group_channels};
  return {kx.first, kx.last, 0, rows.length};
}

/** Sums of PX pixels, `pixel_step` input words apart, over kernel rows ky and columns kx. */
template <int PX, int STEP>
[[gnu::noinline]] void sums(const Window& w, const Rows& rows, Taps ky, Taps kx, const float* origin,
                            int32_t pixel_step, const int8_t* weights, Sums<PX>& result) {
  const Part part = part_of(w, rows, kx);
  Sums<PX> sum;
  Times<PX>::call([&](int p) HEEPSTOR_INLINE {
    Times<kBlock>::call([&](int c) HEEPSTOR_INLINE { sum.at[p][c] = 0.0f; });
  });
  for (int32_t y = ky.first; y < ky.last; ++y) {
    const float* row = origin + y * w.dilation_y * w.in.row + part.first_tap * rows.tap_step;
    const int8_t* tiles = weights + (y * rows.segments * rows.length + part.first_tap) * kBlock;
    for (int32_t s = part.first_segment; s < part.last_segment; ++s)
      run<PX, STEP>(sum, row + s * rows.segment_step, pixel_step, part.taps, rows.tap_step,
                    tiles + s * rows.length * kBlock);
  }
  Times<PX>::call([&](int p) HEEPSTOR_INLINE {
    Times<kBlock>::call([&](int c) HEEPSTOR_INLINE { result.at[p][c] = sum.at[p][c]; });
  });
}

inline void finish(const Window& w, const float (&sum)[kBlock], int32_t outputs, const float* scale, const float* bias,
                   const float* aux, float* out) {
  for (int32_t c = 0; c < outputs; ++c) {
    const float scaled = sum[c] * scale[c];
    out[c * w.out.channel] = finished(w.activation, w.residual, scaled + bias[c], aux + c * w.aux.channel);
  }
}

/** One output row of one block of outputs. */
template <int STEP>
void dense_row(const Window& w, const Rows& rows, int32_t oy, const int8_t* weights, const float* scale,
               const float* bias, int32_t outputs, const float* in, const float* aux, float* out) {
  const int32_t iy = oy * w.stride_y - w.top;
  const Taps ky = inside(iy, w.dilation_y, w.kernel_height, w.height);
  const int32_t reach = (kPixels - 1) * w.stride_x + (w.kernel_width - 1) * w.dilation_x;
  for (int32_t ox = 0; ox < w.out_width;) {
    // The last group of pixels may overlap the one before: the same sums again, but in registers. Each pixel is
    // written once, as it may overwrite its residual.
    const int32_t behind = w.out_width - kPixels;
    const int32_t first = behind >= 0 && ox > behind ? behind : ox;
    const int32_t ix = first * w.stride_x - w.left;
    if (behind >= 0 && ix >= 0 && ix + reach < w.width) {
      Sums<kPixels> sum;
      sums<kPixels, STEP>(w, rows, ky, {0, w.kernel_width}, in + iy * w.in.row + ix * w.in.column,
                          w.stride_x * w.in.column, weights, sum);
      for (; ox < first + kPixels; ++ox)
        finish(w, sum.at[ox - first], outputs, scale, bias, aux + oy * w.aux.row + ox * w.aux.column,
               out + oy * w.out.row + ox * w.out.column);
    } else {
      const int32_t x = ox * w.stride_x - w.left;
      Sums<1> sum;
      sums<1, STEP>(w, rows, ky, inside(x, w.dilation_x, w.kernel_width, w.width),
                    in + iy * w.in.row + x * w.in.column, 0, weights, sum);
      finish(w, sum.at[0], outputs, scale, bias, aux + oy * w.aux.row + ox * w.aux.column,
             out + oy * w.out.row + ox * w.out.column);
      ++ox;
    }
  }
}

/** Sums of PX pixels of one channel; a weight is converted once for all of them. */
template <int PX>
[[gnu::always_inline]] inline void depthwise_sums(const Window& w, Taps ky, Taps kx, const float* origin,
                                                  int32_t pixel_step, const int8_t* weights, float (&result)[PX]) {
  const int32_t column = w.dilation_x * w.in.column;
  const int32_t line = w.dilation_y * w.in.row;
  float sum[PX];
  Times<PX>::call([&](int p) HEEPSTOR_INLINE { sum[p] = 0.0f; });
  for (int32_t y = ky.first; y < ky.last; ++y) {
    const float* x = origin + y * line + kx.first * column;
    const int8_t* tile = weights + y * w.kernel_width + kx.first;
    for (int32_t n = kx.last - kx.first; n > 0; --n, x += column, ++tile) {
      const float weight = static_cast<float>(*tile);
      Times<PX>::call([&](int p) HEEPSTOR_INLINE { sum[p] = __builtin_fmaf(x[p * pixel_step], weight, sum[p]); });
    }
  }
  Times<PX>::call([&](int p) HEEPSTOR_INLINE { result[p] = sum[p]; });
}

/** One output row of one channel. */
void depthwise_row(const Window& w, int32_t oy, const int8_t* weights, float scale, float bias, const float* in,
                   const float* aux, float* out) {
  const int32_t iy = oy * w.stride_y - w.top;
  const Taps ky = inside(iy, w.dilation_y, w.kernel_height, w.height);
  const int32_t reach = (kPixels - 1) * w.stride_x + (w.kernel_width - 1) * w.dilation_x;
  const float* row = in + iy * w.in.row;
  for (int32_t ox = 0; ox < w.out_width;) {
    const int32_t ix = ox * w.stride_x - w.left;
    const bool block = ix >= 0 && ix + reach < w.width && ox + kPixels <= w.out_width;
    float sum[kPixels];
    if (block) {
      depthwise_sums<kPixels>(w, ky, {0, w.kernel_width}, row + ix * w.in.column, w.stride_x * w.in.column, weights,
                              sum);
    } else {
      float one[1];
      depthwise_sums<1>(w, ky, inside(ix, w.dilation_x, w.kernel_width, w.width), row + ix * w.in.column, 0, weights,
                        one);
      sum[0] = one[0];
    }
    for (int32_t p = 0; p < (block ? kPixels : 1); ++p, ++ox) {
      const float scaled = sum[p] * scale;
      out[oy * w.out.row + ox * w.out.column] = finished(w.activation, w.residual, scaled + bias,
                                                         aux + oy * w.aux.row + ox * w.aux.column);
    }
  }
}

/** Calls f(first input word, residual word, output word, ky, kx) for every output pixel of every channel. */
template <class Function>
[[gnu::always_inline]] inline void each_window(const Window& w, const float* in, const float* aux, float* out,
                                               Function f) {
  for (int32_t oy = 0; oy < w.out_height; ++oy) {
    const int32_t iy = oy * w.stride_y - w.top;
    const Taps ky = inside(iy, w.dilation_y, w.kernel_height, w.height);
    for (int32_t ox = 0; ox < w.out_width; ++ox) {
      const int32_t ix = ox * w.stride_x - w.left;
      f(in + iy * w.in.row + ix * w.in.column, aux + oy * w.aux.row + ox * w.aux.column, out + oy * w.out.row + ox * w.out.column, ky,
        inside(ix, w.dilation_x, w.kernel_width, w.width));
    }
  }
}

}  // namespace

void dense(const Window& w, const int8_t* weights, const float* scale, const float* bias, const float* in,
           const float* aux, float* out) {
  HEEPSTOR_ASSERT(w.groups > 0 && w.channels % w.groups == 0);
  const Rows rows = rows_of(w);
  const int32_t group_channels = w.channels / w.groups;
  const int32_t block_bytes = w.kernel_height * w.kernel_width * group_channels * kBlock;
  for (int32_t g = 0; g < w.groups; ++g) {
    for (int32_t first = 0; first < w.group_outputs; first += kBlock) {
      const int32_t left = w.group_outputs - first;
      const int32_t channel = g * w.group_outputs + first;
      const auto row = rows.tap_step == 1 ? dense_row<1> : dense_row<0>;
      for (int32_t oy = 0; oy < w.out_height; ++oy)
        row(w, rows, oy, weights, scale + channel, bias + channel, left < kBlock ? left : kBlock,
            in + g * group_channels * w.in.channel, aux + channel * w.aux.channel, out + channel * w.out.channel);
      weights += block_bytes;
    }
  }
}

void depthwise(const Window& w, const int8_t* weights, const float* scale, const float* bias, const float* in,
               const float* aux, float* out) {
  const int32_t taps = w.kernel_height * w.kernel_width;
  for (int32_t c = 0; c < w.channels; ++c, weights += taps, in += w.in.channel, out += w.out.channel,
               aux += w.aux.channel)
    for (int32_t oy = 0; oy < w.out_height; ++oy) depthwise_row(w, oy, weights, scale[c], bias[c], in, aux, out);
}

void max_pool(const Window& w, float pad, const float* in, const float* aux, float* out) {
  for (int32_t c = 0; c < w.channels; ++c, in += w.in.channel, out += w.out.channel, aux += w.aux.channel) {
    each_window(w, in, aux, out, [&](const float* origin, const float* add, float* pixel, Taps ky, Taps kx) {
      const bool cut = ky.last - ky.first < w.kernel_height || kx.last - kx.first < w.kernel_width;
      bool empty = !cut;
      float largest = pad;
      for (int32_t y = ky.first; y < ky.last; ++y) {
        const float* x = origin + y * w.dilation_y * w.in.row + kx.first * w.dilation_x * w.in.column;
        for (int32_t n = kx.last - kx.first; n > 0; --n, x += w.dilation_x * w.in.column) {
          const float value = *x;
          if (empty || value > largest || !(value == value)) largest = value;
          empty = false;
        }
      }
      *pixel = finished(w.activation, w.residual, largest, add);
    });
  }
}

void average_pool(const Window& w, float scale, const float* in, const float* aux, float* out) {
  for (int32_t c = 0; c < w.channels; ++c, in += w.in.channel, out += w.out.channel, aux += w.aux.channel) {
    each_window(w, in, aux, out, [&](const float* origin, const float* add, float* pixel, Taps ky, Taps kx) {
      float sum = 0.0f;
      for (int32_t y = ky.first; y < ky.last; ++y) {
        const float* x = origin + y * w.dilation_y * w.in.row + kx.first * w.dilation_x * w.in.column;
        for (int32_t n = kx.last - kx.first; n > 0; --n, x += w.dilation_x * w.in.column) sum = sum + *x;
      }
      *pixel = finished(w.activation, w.residual, sum * scale, add);
    });
  }
}

void activate(const Activation& activation, Add residual, uint32_t count, const float* in, const float* aux,
              float* out) {
  for (uint32_t i = 0; i < count; ++i)
    out[i] = finished(activation, residual, in[i], residual == Add::none ? aux : aux + i);
}

}  // namespace kernels
}  // namespace heepstor

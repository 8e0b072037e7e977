// SPDX-License-Identifier: Apache-2.0
#include "kernels.hpp"

#include "assert.hpp"
#include "epilogue.hpp"
#include "times.hpp"

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
  // A division costs up to 35 cycles.
  if (start < 0) result.first = step == 1 ? -start : (-start + step - 1) / step;
  if (start + (taps - 1) * step >= size)
    result.last = size <= start ? 0 : step == 1 ? size - start : (size - start + step - 1) / step;
  if (result.first > result.last) result.first = result.last;
  return result;
}

/** Neighbouring output pixels, along x or y, that see the same taps. */
struct Group {
  int32_t oy, ox;
  int32_t skip;  // of its first pixels another group takes care
  bool down;     // along y
  Taps ky, kx;

  int32_t input_step(const Window& w) const { return down ? w.stride_y * w.in.row : w.stride_x * w.in.column; }
  int32_t word(const Strides& s, int32_t pixel) const {
    return oy * s.row + ox * s.column + pixel * (down ? s.row : s.column);
  }
};

inline int32_t first_word(const Window& w, const Group& group) {
  return (group.oy * w.stride_y - w.top) * w.in.row + (group.ox * w.stride_x - w.left) * w.in.column;
}

/** Outputs along an axis whose windows, `reach` beyond their first position, lie inside the input. */
inline Taps interior(int32_t outputs, int32_t stride, int32_t before, int32_t reach, int32_t size) {
  const int32_t room = size - 1 - reach + before;
  Taps result{before > 0 ? (before + stride - 1) / stride : 0, room < 0 ? 0 : room / stride + 1};
  if (result.last > outputs) result.last = outputs;
  if (result.first > result.last) result.first = result.last;
  return result;
}

/**
 * Calls four(group) for groups of kPixels pixels and one(group) for what remains, so that every pixel is dealt with
 * once: it may overwrite its residual. Rows of whole windows first, then the columns beside them.
 */
template <class Four, class One>
[[gnu::always_inline]] inline void each_group(const Window& w, const Four& four, const One& one) {
  const Taps rows = interior(w.out_height, w.stride_y, w.top, (w.kernel_height - 1) * w.dilation_y, w.height);
  const Taps columns = interior(w.out_width, w.stride_x, w.left, (w.kernel_width - 1) * w.dilation_x, w.width);
  const bool wide = columns.last - columns.first >= kPixels, high = rows.last - rows.first >= kPixels;
  const Taps whole_ky{0, w.kernel_height}, whole_kx{0, w.kernel_width};
  for (int32_t oy = 0; wide && oy < w.out_height; ++oy) {
    const Taps ky = inside(oy * w.stride_y - w.top, w.dilation_y, w.kernel_height, w.height);
    for (int32_t ox = columns.first; ox < columns.last; ox += kPixels) {
      const int32_t first = ox < columns.last - kPixels ? ox : columns.last - kPixels;
      four(Group{oy, first, ox - first, false, ky, whole_kx});
    }
  }
  for (int32_t ox = 0; ox < w.out_width; ++ox) {
    if (wide && ox == columns.first) ox = columns.last;
    if (ox == w.out_width) return;
    const Taps kx = inside(ox * w.stride_x - w.left, w.dilation_x, w.kernel_width, w.width);
    for (int32_t oy = rows.first; high && oy < rows.last; oy += kPixels) {
      const int32_t first = oy < rows.last - kPixels ? oy : rows.last - kPixels;
      four(Group{first, ox, oy - first, true, whole_ky, kx});
    }
    for (int32_t oy = 0; oy < w.out_height; ++oy) {
      if (high && oy == rows.first) oy = rows.last;
      if (oy == w.out_height) break;
      one(Group{oy, ox, 0, false, inside(oy * w.stride_y - w.top, w.dilation_y, w.kernel_height, w.height), kx});
    }
  }
}

template <int PX>
struct Sums {
  float at[PX][kBlock];
};

/** One tap of PX pixels and kBlock outputs: the weights are converted once for all pixels. */
template <int PX>
[[gnu::always_inline]] inline void tap(Sums<PX>& sum, const float* const (&x)[PX], int32_t at, const int8_t* w) {
  float weight[kBlock];
  Times<kBlock>::call([&](int c) HEEPSTOR_INLINE { weight[c] = static_cast<float>(w[c]); });
  Times<PX>::call([&](int p) HEEPSTOR_INLINE {
    const float value = x[p][at];
    Times<kBlock>::call(
        [&](int c) HEEPSTOR_INLINE { sum.at[p][c] = __builtin_fmaf(value, weight[c], sum.at[p][c]); });
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

/** One group of pixels of one block of outputs. */
template <int PX, int STEP>
void dense_group(const Window& w, const Rows& rows, const Group& group, const int8_t* weights, const float* scale,
                 const float* bias, int32_t outputs, const float* in, const float* aux, float* out) {
  Sums<PX> sum;
  sums<PX, STEP>(w, rows, group.ky, group.kx, in + first_word(w, group), group.input_step(w), weights, sum);
  for (int32_t p = group.skip; p < PX; ++p)
    finish(w, sum.at[p], outputs, scale, bias, aux + group.word(w.aux, p), out + group.word(w.out, p));
}

/** All pixels of one block of outputs. */
template <int STEP>
void dense_block(const Window& w, const Rows& rows, const int8_t* weights, const float* scale, const float* bias,
                 int32_t outputs, const float* in, const float* aux, float* out) {
  each_group(
      w, [&](const Group& g) { dense_group<kPixels, STEP>(w, rows, g, weights, scale, bias, outputs, in, aux, out); },
      [&](const Group& g) { dense_group<1, STEP>(w, rows, g, weights, scale, bias, outputs, in, aux, out); });
}

/** One output pixel of CH channels, whose taps lie inside the input alike; STEP is the channel stride when known. */
template <int CH, int STEP>
[[gnu::always_inline]] inline void depthwise_pixel(const Window& w, Taps ky, Taps kx, const float* origin,
                                                   const int8_t* weights, const float* scale, const float* bias,
                                                   const float* aux, float* out) {
  const int32_t column = w.dilation_x * w.in.column;
  const int32_t line = w.dilation_y * w.in.row;
  const int32_t by = STEP ? STEP : w.in.channel;
  float sum[CH];
  Times<CH>::call([&](int c) HEEPSTOR_INLINE { sum[c] = 0.0f; });
  for (int32_t y = ky.first; y < ky.last; ++y) {
    const float* x = origin + y * line + kx.first * column;
    const int8_t* tile = weights + (y * w.kernel_width + kx.first) * kBlock;
    for (int32_t n = kx.last - kx.first; n > 0; --n, x += column, tile += kBlock)
      Times<CH>::call([&](int c) HEEPSTOR_INLINE {
        sum[c] = __builtin_fmaf(x[c * by], static_cast<float>(tile[c]), sum[c]);
      });
  }
  Times<CH>::call([&](int c) HEEPSTOR_INLINE {
    const float scaled = sum[c] * scale[c];
    out[c * w.out.channel] = finished(w.activation, w.residual, scaled + bias[c], aux + c * w.aux.channel);
  });
}

template <int STEP>
void depthwise_map(const Window& w, const int8_t* weights, const float* scale, const float* bias, const float* in,
                   const float* aux, float* out) {
  const int32_t taps = w.kernel_height * w.kernel_width;
  const int32_t blocked = w.channels - w.channels % kBlock;
  for (int32_t oy = 0; oy < w.out_height; ++oy) {
    const int32_t iy = oy * w.stride_y - w.top;
    const Taps ky = inside(iy, w.dilation_y, w.kernel_height, w.height);
    for (int32_t ox = 0; ox < w.out_width; ++ox) {
      const int32_t ix = ox * w.stride_x - w.left;
      const Taps kx = inside(ix, w.dilation_x, w.kernel_width, w.width);
      const float* origin = in + iy * w.in.row + ix * w.in.column;
      const float* add = aux + oy * w.aux.row + ox * w.aux.column;
      float* pixel = out + oy * w.out.row + ox * w.out.column;
      for (int32_t c = 0; c < blocked; c += kBlock)
        depthwise_pixel<kBlock, STEP>(w, ky, kx, origin + c * w.in.channel, weights + c * taps, scale + c, bias + c,
                                      add + c * w.aux.channel, pixel + c * w.out.channel);
      for (int32_t c = blocked; c < w.channels; ++c)
        depthwise_pixel<1, STEP>(w, ky, kx, origin + c * w.in.channel, weights + blocked * taps + c - blocked,
                                 scale + c, bias + c, add + c * w.aux.channel, pixel + c * w.out.channel);
    }
  }
}

/** Calls f(first input word, residual word, output word, ky, kx) for every channel of every output pixel. */
template <class Function>
[[gnu::always_inline]] inline void each_window(const Window& w, const float* in, const float* aux, float* out,
                                               Function f) {
  for (int32_t oy = 0; oy < w.out_height; ++oy) {
    const int32_t iy = oy * w.stride_y - w.top;
    const Taps ky = inside(iy, w.dilation_y, w.kernel_height, w.height);
    for (int32_t ox = 0; ox < w.out_width; ++ox) {
      const int32_t ix = ox * w.stride_x - w.left;
      const Taps kx = inside(ix, w.dilation_x, w.kernel_width, w.width);
      const float* origin = in + iy * w.in.row + ix * w.in.column;
      const float* add = aux + oy * w.aux.row + ox * w.aux.column;
      float* pixel = out + oy * w.out.row + ox * w.out.column;
      for (int32_t c = 0; c < w.channels; ++c) {
        f(origin, add, pixel, ky, kx);
        origin += w.in.channel, add += w.aux.channel, pixel += w.out.channel;
      }
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
      const auto block = rows.tap_step == 1 ? dense_block<1> : dense_block<0>;
      block(w, rows, weights, scale + channel, bias + channel, left < kBlock ? left : kBlock,
            in + g * group_channels * w.in.channel, aux + channel * w.aux.channel, out + channel * w.out.channel);
      weights += block_bytes;
    }
  }
}

void depthwise(const Window& w, const int8_t* weights, const float* scale, const float* bias, const float* in,
               const float* aux, float* out) {
  (w.in.channel == 1 ? depthwise_map<1> : depthwise_map<0>)(w, weights, scale, bias, in, aux, out);
}

void max_pool(const Window& w, float pad, const float* in, const float* aux, float* out) {
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

void average_pool(const Window& w, float scale, const float* in, const float* aux, float* out) {
  each_window(w, in, aux, out, [&](const float* origin, const float* add, float* pixel, Taps ky, Taps kx) {
    float sum = 0.0f;
    for (int32_t y = ky.first; y < ky.last; ++y) {
      const float* x = origin + y * w.dilation_y * w.in.row + kx.first * w.dilation_x * w.in.column;
      for (int32_t n = kx.last - kx.first; n > 0; --n, x += w.dilation_x * w.in.column) sum = sum + *x;
    }
    *pixel = finished(w.activation, w.residual, sum * scale, add);
  });
}

void activate(const Activation& activation, Add residual, uint32_t count, const float* in, const float* aux,
              float* out) {
  const float infinity = __builtin_inff();
  if (activation.table && residual == Add::none && activation.slope == 1.0f && activation.low == -infinity &&
      activation.high == infinity)
    return apply_table(in, out, count, activation.table);
  for (uint32_t i = 0; i < count; ++i)
    out[i] = finished(activation, residual, in[i], residual == Add::none ? aux : aux + i);
}

}  // namespace kernels
}  // namespace heepstor

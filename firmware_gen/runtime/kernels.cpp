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
  int32_t step(const Strides& s) const { return down ? s.row : s.column; }
  int32_t word(const Strides& s, int32_t pixel) const { return oy * s.row + ox * s.column + pixel * step(s); }
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

/** Outputs whose windows lie inside the input. */
struct Whole {
  Taps rows, columns;

  explicit Whole(const Window& w)
      : rows(interior(w.out_height, w.stride_y, w.top, (w.kernel_height - 1) * w.dilation_y, w.height)),
        columns(interior(w.out_width, w.stride_x, w.left, (w.kernel_width - 1) * w.dilation_x, w.width)) {}
};

/**
 * Calls four(group) for groups of kPixels pixels and one(group) for what remains, so that every pixel is dealt with
 * once: it may overwrite its residual. Rows of whole windows first, then the columns beside them.
 */
template <class Four, class One>
[[gnu::always_inline]] inline void each_group(const Window& w, const Whole& whole, const Four& four, const One& one) {
  const Taps rows = whole.rows, columns = whole.columns;
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
  int32_t channels;  // of the input, in a group
  int32_t segments, length;
  int32_t segment_step, tap_step;  // input words
};

inline Rows rows_of(const Window& w) {
  const int32_t group_channels = w.channels / w.groups;
  const int32_t column = w.dilation_x * w.in.column;
  if (w.channels_first) return {group_channels, group_channels, w.kernel_width, w.in.channel, column};
  if (column == group_channels * w.in.channel)
    return {group_channels, 1, w.kernel_width * group_channels, 0, w.in.channel};
  return {group_channels, w.kernel_width, group_channels, column, w.in.channel};
}

/** The taps of a kernel row that lie inside the input: some segments, some taps of each. */
struct Part {
  int32_t first_segment, last_segment, first_tap, taps;
};

inline Part part_of(const Window& w, const Rows& rows, Taps kx) {
  const int32_t columns = kx.last - kx.first;
  if (w.channels_first) return {0, rows.segments, kx.first, columns};
  if (rows.segments == 1) return {0, 1, kx.first * rows.channels, columns * rows.channels};
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

/** One group of pixels of one block of outputs. */
template <int PX, int STEP>
void dense_group(const Window& w, const Rows& rows, const Group& group, const int8_t* weights, const float* scale,
                 const float* bias, int32_t outputs, const float* in, const float* aux, float* out) {
  Sums<PX> sum;
  sums<PX, STEP>(w, rows, group.ky, group.kx, in + first_word(w, group), group.input_step(w), weights, sum);
  const Epilogue epilogue(w.activation, w.residual);
  const int32_t aux_step = group.step(w.aux), out_step = group.step(w.out);
  aux += group.word(w.aux, group.skip);
  out += group.word(w.out, group.skip);
  for (int32_t p = group.skip; p < PX; ++p, aux += aux_step, out += out_step)
    epilogue.channels(sum.at[p], outputs, scale, bias, aux, w.aux.channel, out, w.out.channel);
}

/** All pixels of one block of outputs. */
template <int STEP>
void dense_block(const Window& w, const Whole& whole, const Rows& rows, const int8_t* weights, const float* scale,
                 const float* bias, int32_t outputs, const float* in, const float* aux, float* out) {
  each_group(
      w, whole,
      [&](const Group& g) { dense_group<kPixels, STEP>(w, rows, g, weights, scale, bias, outputs, in, aux, out); },
      [&](const Group& g) { dense_group<1, STEP>(w, rows, g, weights, scale, bias, outputs, in, aux, out); });
}

/** The taps that an output pixel sees, in rows; steps in input words. */
struct Patch {
  Taps ky, kx;
  const float* first;  // of channel 0
  int32_t row_step, column_step;

  int32_t rows() const { return ky.last - ky.first; }
  int32_t columns() const { return kx.last - kx.first; }
};

/** Calls f(patch, residual, output) for every pixel. */
template <class Function>
[[gnu::always_inline]] inline void each_pixel(const Window& w, const float* in, const float* aux, float* out,
                                              const Function& f) {
  const int32_t row_step = w.dilation_y * w.in.row, column_step = w.dilation_x * w.in.column;
  for (int32_t oy = 0; oy < w.out_height; ++oy) {
    const int32_t iy = oy * w.stride_y - w.top;
    const Taps ky = inside(iy, w.dilation_y, w.kernel_height, w.height);
    for (int32_t ox = 0; ox < w.out_width; ++ox) {
      const int32_t ix = ox * w.stride_x - w.left;
      const Taps kx = inside(ix, w.dilation_x, w.kernel_width, w.width);
      const float* origin = in + iy * w.in.row + ix * w.in.column;
      f(Patch{ky, kx, origin + ky.first * row_step + kx.first * column_step, row_step, column_step},
        aux + oy * w.aux.row + ox * w.aux.column, out + oy * w.out.row + ox * w.out.column);
    }
  }
}

/** CH channels of an output pixel; `line`: bytes of weights from a kernel row to the next; STEP is `step` when known. */
template <int CH, int STEP>
[[gnu::always_inline]] inline void depthwise_sums(const Patch& patch, const float* first, int32_t step,
                                                  const int8_t* weights, int32_t line, float (&sum)[CH]) {
  const int32_t by = STEP ? STEP : step;
  Times<CH>::call([&](int c) HEEPSTOR_INLINE { sum[c] = 0.0f; });
  for (int32_t y = patch.rows(); y > 0; --y, first += patch.row_step, weights += line) {
    const float* x = first;
    const int8_t* tile = weights;
    for (int32_t n = patch.columns(); n > 0; --n, x += patch.column_step, tile += kBlock)
      Times<CH>::call([&](int c) HEEPSTOR_INLINE {
        sum[c] = __builtin_fmaf(x[c * by], static_cast<float>(tile[c]), sum[c]);
      });
  }
}

template <int STEP>
void depthwise_map(const Window& w, const int8_t* weights, const float* scale, const float* bias, const float* in,
                   const float* aux, float* out) {
  const Epilogue epilogue(w.activation, w.residual);
  const int32_t in_channel = w.in.channel, aux_channel = w.aux.channel, out_channel = w.out.channel;
  const int32_t line = w.kernel_width * kBlock, block = w.kernel_height * line;
  const int32_t blocked = w.channels - w.channels % kBlock;
  each_pixel(w, in, aux, out, [&](const Patch& patch, const float* add, float* pixel) HEEPSTOR_INLINE {
    const int8_t* tiles = weights + patch.ky.first * line + patch.kx.first * kBlock;
    const float* first = patch.first;
    const auto finish = [&](int32_t channel, float sum) HEEPSTOR_INLINE {
      const float scaled = sum * scale[channel];
      *pixel = epilogue(scaled + bias[channel], add);
      first += in_channel, add += aux_channel, pixel += out_channel;
    };
    for (int32_t c = 0; c < blocked; c += kBlock, tiles += block) {
      float sum[kBlock];
      depthwise_sums<kBlock, STEP>(patch, first, in_channel, tiles, line, sum);
      Times<kBlock>::call([&](int i) HEEPSTOR_INLINE { finish(c + i, sum[i]); });
    }
    for (int32_t c = blocked; c < w.channels; ++c, ++tiles) {
      float sum[1];
      depthwise_sums<1, STEP>(patch, first, in_channel, tiles, line, sum);
      finish(c, sum[0]);
    }
  });
}

/** Every channel of every output pixel becomes value(patch, its first tap), finished. */
template <class Value>
[[gnu::always_inline]] inline void each_window(const Window& w, const float* in, const float* aux, float* out,
                                               const Value& value) {
  const Epilogue epilogue(w.activation, w.residual);
  const int32_t in_channel = w.in.channel, aux_channel = w.aux.channel, out_channel = w.out.channel;
  each_pixel(w, in, aux, out, [&](const Patch& patch, const float* add, float* pixel) HEEPSTOR_INLINE {
    const float* first = patch.first;
    for (int32_t c = w.channels; c > 0; --c, first += in_channel, add += aux_channel, pixel += out_channel)
      *pixel = epilogue(value(patch, first), add);
  });
}

/** Calls f(x) for the taps of a patch, in their order. */
template <class Function>
[[gnu::always_inline]] inline void each_tap(const Patch& patch, const float* first, const Function& f) {
  for (int32_t y = patch.rows(); y > 0; --y, first += patch.row_step) {
    const float* x = first;
    for (int32_t n = patch.columns(); n > 0; --n, x += patch.column_step) f(*x);
  }
}

}  // namespace

void dense(const Window& w, const int8_t* weights, const float* scale, const float* bias, const float* in,
           const float* aux, float* out) {
  HEEPSTOR_ASSERT(w.groups > 0 && w.channels % w.groups == 0);
  const Whole whole(w);
  const Rows rows = rows_of(w);
  const int32_t block_bytes = w.kernel_height * w.kernel_width * rows.channels * kBlock;
  for (int32_t g = 0; g < w.groups; ++g) {
    for (int32_t first = 0; first < w.group_outputs; first += kBlock) {
      const int32_t left = w.group_outputs - first;
      const int32_t channel = g * w.group_outputs + first;
      const auto block = rows.tap_step == 1 ? dense_block<1> : dense_block<0>;
      block(w, whole, rows, weights, scale + channel, bias + channel, left < kBlock ? left : kBlock,
            in + g * rows.channels * w.in.channel, aux + channel * w.aux.channel, out + channel * w.out.channel);
      weights += block_bytes;
    }
  }
}

void depthwise(const Window& w, const int8_t* weights, const float* scale, const float* bias, const float* in,
               const float* aux, float* out) {
  (w.in.channel == 1 ? depthwise_map<1> : depthwise_map<0>)(w, weights, scale, bias, in, aux, out);
}

void max_pool(const Window& w, float pad, const float* in, const float* aux, float* out) {
  each_window(w, in, aux, out, [&](const Patch& patch, const float* first) HEEPSTOR_INLINE {
    const bool whole = patch.rows() == w.kernel_height && patch.columns() == w.kernel_width;
    float largest = whole ? *first : pad;
    each_tap(patch, first, [&](float x) HEEPSTOR_INLINE {
      if (x > largest || !(x == x)) largest = x;
    });
    return largest;
  });
}

void average_pool(const Window& w, float scale, const float* in, const float* aux, float* out) {
  each_window(w, in, aux, out, [&](const Patch& patch, const float* first) HEEPSTOR_INLINE {
    float sum = 0.0f;
    each_tap(patch, first, [&](float x) HEEPSTOR_INLINE { sum = sum + x; });
    return sum * scale;
  });
}

void activate(const Activation& activation, Add residual, uint32_t count, const float* in, const float* aux,
              float* out) {
  const float infinity = __builtin_inff();
  if (activation.table && residual == Add::none && activation.clamps() && activation.low == -infinity &&
      activation.high == infinity)
    return apply_table(in, out, count, activation.table);
  for (uint32_t i = 0; i < count; ++i)
    out[i] = finished(activation, residual, in[i], residual == Add::none ? aux : aux + i);
}

}  // namespace kernels
}  // namespace heepstor

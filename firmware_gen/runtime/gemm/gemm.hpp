// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_GEMM_HPP
#define HEEPSTOR_GEMM_HPP

#include <stdint.h>

#include "epilogue.hpp"
#include "kernels.hpp"

#define HEEPSTOR_GEMM_INLINE __attribute__((always_inline))

namespace heepstor {

namespace detail {

constexpr int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

template <class...>
using Void = void;

/** Driver::kSums, or 0 where there is none. */
template <class Driver, class = void>
struct Sums {
  static constexpr int32_t kCount = 0;
};
template <class Driver>
struct Sums<Driver, Void<decltype(Driver::kSums)>> {
  static constexpr int32_t kCount = Driver::kSums;
};

template <bool kFirst, class First, class Second>
struct Choose {
  using Type = First;
};
template <class First, class Second>
struct Choose<false, First, Second> {
  using Type = Second;
};

}  // namespace detail

/** Output pixels whose sums are collected, for a driver that keeps none. */
constexpr int32_t kChunk = 32;
/** Rows of A that are gathered for such a driver at most, and words of them, if that is more than one row. */
constexpr int32_t kGatheredRows = 8, kGatheredWords = 512;

/**
 * Convolutions and Linear layers on an accelerator that multiplies matrices, without a matrix of windows in memory: a
 * row of A is what the window of an output pixel sees, in the order of the kernel, and is read where it lies; taps
 * outside the input are +0. Products of consecutive blocks of K are added in FP32, in order.
 *
 * Driver: open, load_weights, and either multiply and wait, or where the accelerator keeps kSums rows of sums
 *   push(slot, first, count, rows)  rows of A times the weights are added to the sums of `slot` and those behind it, or
 *                                   with `first` become them; rows[j] is a word of the first one, rows.next() goes on
 *   pull(slot)                      the sums of a slot, to be indexed until the next call
 * kDepth, kWidth: the largest K and N of one of its calls.
 */
template <class Driver, int32_t kDepth, int32_t kWidth>
class Gemm {
 public:
  constexpr explicit Gemm(Driver& driver) : driver_(driver) {}

  /**
   * The layer `w`; weights: per group K rows of B, each filled up to a multiple of 4 bytes. scale, bias and everything
   * behind the sums are those of kernels::dense.
   */
  void convolution(const kernels::Window& w, const int8_t* weights, const float* scale, const float* bias,
                   const float* in, const float* aux, float* out) {
    const int32_t depth = w.kernel_height * w.kernel_width * (w.channels / w.groups);
    const int32_t stride = (w.group_outputs + 3) & ~3;
    const kernels::Epilogue epilogue(w.activation, w.residual);
    for (int32_t g = 0; g < w.groups; ++g) {
      const int32_t first = g * w.group_outputs;
      product(w, depth, w.group_outputs, weights + g * depth * stride, stride,
              in + g * (w.channels / w.groups) * w.in.channel,
              [&](int32_t y, int32_t x, int32_t n, int32_t count, const auto& sums) HEEPSTOR_GEMM_INLINE {
                const int32_t channel = first + n;
                const float* add = aux + channel * w.aux.channel + y * w.aux.row + x * w.aux.column;
                float* pixel = out + channel * w.out.channel + y * w.out.row + x * w.out.column;
                epilogue.channels(sums, count, scale + channel, bias + channel, add, w.aux.channel, pixel,
                                  w.out.channel);
              });
    }
  }

  /** A Linear layer of `rows` vectors, one after the other, as a window; without residual, y = x behind the sums. */
  static kernels::Window linear(int32_t rows, int32_t depth, int32_t width) {
    kernels::Window w{};
    w.channels = depth;
    w.height = w.out_height = w.kernel_height = w.kernel_width = w.stride_y = w.stride_x = 1;
    w.dilation_y = w.dilation_x = w.groups = 1;
    w.width = w.out_width = rows;
    w.group_outputs = width;
    w.in = {1, depth, depth * rows};
    w.out = {1, width, width * rows};
    w.activation = {1, -__builtin_inff(), __builtin_inff(), nullptr};
    return w;
  }

  /** c = a * b: m x k floats, k x n bytes, m x n floats, rows one after the other. */
  void multiply(const float* a, const int8_t* b, float* c, uint32_t m, uint32_t k, uint32_t n) {
    const int32_t rows = static_cast<int32_t>(m), depth = static_cast<int32_t>(k), width = static_cast<int32_t>(n);
    const kernels::Window w = linear(rows, depth, width);
    product(w, depth, width, b, width, a,
            [&](int32_t, int32_t x, int32_t first, int32_t count, const auto& sums) HEEPSTOR_GEMM_INLINE {
              for (int32_t i = 0; i < count; ++i) c[x * width + first + i] = sums[i];
            });
  }

 private:
  /** Output pixels whose sums are collected before they are finished; as many rows of A are gathered at most. */
  static constexpr int32_t kSums = detail::Sums<Driver>::kCount;
  static constexpr bool kStreamed = kSums > 0;
  static constexpr int32_t kPixels = kStreamed ? kSums : kChunk;
  static constexpr int32_t kGathered =
      kStreamed || kDepth >= kGatheredWords ? 1 : detail::least(kGatheredRows, kGatheredWords / kDepth);

  /** The kernel's axes within a row, in its order (channels innermost, or columns), with their steps in words and, in
   * columns, x; and the step of a kernel row. */
  struct Axes {
    int32_t middle, inner;
    int32_t row_step, middle_step, inner_step;
    int32_t middle_x, inner_x;

    explicit Axes(const kernels::Window& w) {
      const int32_t column = w.dilation_x * w.in.column, channels = w.channels / w.groups;
      row_step = w.dilation_y * w.in.row;
      if (w.channels_first || channels == 1) {
        middle = channels, middle_step = w.in.channel, middle_x = 0;
        inner = w.kernel_width, inner_step = column, inner_x = w.dilation_x;
      } else {
        middle = w.kernel_width, middle_step = column, middle_x = w.dilation_x;
        inner = channels, inner_step = w.in.channel, inner_x = 0;
      }
    }
  };

  struct Tap {
    int32_t ky, middle, inner;
  };

  /** Words of a window from its first position on: neighbours from `offset` on, or those that offset_ lists. */
  struct Words {
    int32_t offset;
    bool contiguous;
  };

  /** Consecutive taps of the kernel, in its order: a block of K. */
  struct Block {
    Tap first;
    int32_t taps;
    Words words;
  };

  /** The first word of a window; those of the next pixels follow, of which `left` are in its row of `width`; `wrap` is
   * what a step into the next row is longer. */
  struct Place {
    const float* at;
    int32_t step, left, width, wrap;
    [[gnu::always_inline]] inline void next() {
      at += step;
      if (__builtin_expect(--left == 0, 0)) {
        left = width;
        at += wrap;
      }
    }
  };

  struct Inside {
    int32_t first, last;
  };

  /** Outputs along an axis whose windows lie inside the input. */
  static Inside inside(int32_t outputs, int32_t stride, int32_t before, int32_t reach, int32_t size) {
    const int32_t room = size - 1 - reach + before;
    Inside result{before > 0 ? (before + stride - 1) / stride : 0, room < 0 ? 0 : room / stride + 1};
    if (result.last > outputs) result.last = outputs;
    if (result.first > result.last) result.first = result.last;
    return result;
  }

  template <class Finish>
  [[gnu::always_inline]] inline void product(const kernels::Window& w, int32_t depth, int32_t width, const int8_t* b,
                                             int32_t stride, const float* in, const Finish& finish) {
    const Axes axes(w);
    const Inside rows = inside(w.out_height, w.stride_y, w.top, (w.kernel_height - 1) * w.dilation_y, w.height);
    const Inside columns = inside(w.out_width, w.stride_x, w.left, (w.kernel_width - 1) * w.dilation_x, w.width);
    const int32_t pixels = w.out_height * w.out_width;
    Place place{in, w.stride_x * w.in.column, 0, w.out_width, 0};
    place.wrap = w.stride_y * w.in.row - w.out_width * place.step;
    const bool all_inside = rows.last - rows.first == w.out_height && columns.last - columns.first == w.out_width;
    const bool one_run = all_inside && (kStreamed || place.wrap == 0);
    const bool flat = one_run && axes.inner_step == 1 && (axes.middle == 1 || axes.middle_step == axes.inner) &&
                      (w.kernel_height == 1 || axes.row_step == axes.middle * axes.inner);
    for (int32_t n = 0; n < width; n += kWidth) {
      const int32_t count = detail::least(width - n, kWidth);
      int32_t y = 0, x = 0;
      Block block{};
      for (int32_t done = 0; done < pixels; done += kPixels) {
        const int32_t chunk = detail::least(pixels - done, kPixels);
        const int8_t* tile = b + n;
        Tap tap{};
        place.at = in + (y * w.stride_y - w.top) * w.in.row + (x * w.stride_x - w.left) * w.in.column;
        place.left = w.out_width - x;
        const bool keeps = depth <= kDepth && done > 0;  // one block stays loaded
        if (flat) {
          for (int32_t left = depth; left > 0; left -= kDepth, tile += kDepth * stride) {
            if (!keeps) load(tile, detail::least(left, kDepth), count, stride);
            whole({depth - left, true}, place, 0, left == depth, chunk, count);
          }
        } else {
          for (int32_t left = depth; left > 0; left -= kDepth, tile += kDepth * stride) {
            if (!keeps) {
              next_block(axes, tap, detail::least(left, kDepth), block);
              load(tile, block.taps, count, stride);
            }
            if (one_run && (kStreamed || block.words.contiguous))
              whole(block.words, place, 0, left == depth, chunk, count);
            else each_run(w, axes, rows, columns, block, place, in, y, x, left == depth, chunk, count);
          }
        }
        for (int32_t slot = 0; slot < chunk; ++slot) {
          if constexpr (kStreamed) finish(y, x, n, count, driver_.pull(static_cast<uint32_t>(slot)));
          else finish(y, x, n, count, buffers_.sums + slot * count);
          if (++x == w.out_width) x = 0, ++y;
        }
      }
    }
  }

  /** The products of a block with pixels from (y, x) on, whose window begins at `place`; some leave the input. */
  [[gnu::noinline]] void each_run(const kernels::Window& w, const Axes& axes, Inside rows, Inside columns,
                                  const Block& block, Place place, const float* in, int32_t y, int32_t x, bool first,
                                  int32_t pixels, int32_t count) {
    const bool one_position = block.first.inner + block.taps <= axes.inner && axes.inner_x == 0;  // of the kernel
    if (one_position) {
      rows = inside(w.out_height, w.stride_y, w.top - block.first.ky * w.dilation_y, 0, w.height);
      columns = inside(w.out_width, w.stride_x, w.left - block.first.middle * axes.middle_x, 0, w.width);
    }
    const bool whole_rows = columns.last - columns.first == w.out_width;
    for (int32_t slot = 0; slot < pixels;) {
      const bool middle = y >= rows.first && y < rows.last;
      const bool inside = middle && x >= columns.first && x < columns.last;
      int32_t end = inside ? columns.last : middle && x < columns.first ? columns.first : w.out_width;
      if (kStreamed && inside && whole_rows) end += (rows.last - 1 - y) * w.out_width;
      const int32_t run = detail::least(end - x, pixels - slot);
      if (inside && (kStreamed || block.words.contiguous)) whole(block.words, place, slot, first, run, count);
      else if (kStreamed && one_position && !inside) zeros(block.taps, slot, first, run, count);
      else gathered(w, axes, block, in, y, x, slot, first, run, count);
      slot += run;
      for (x += run; x >= w.out_width; x -= w.out_width, ++y) place.at += place.wrap;
      place.at += run * place.step;
      place.left = w.out_width - x;
    }
  }

  /** The products of a block with a run of pixels whose windows lie inside the input join the sums. */
  [[gnu::always_inline]] inline void whole(const Words& words, const Place& place, int32_t slot, bool first,
                                           int32_t run, int32_t count) {
    if constexpr (kStreamed) {
      if (words.contiguous) push_contiguous(place, words.offset, slot, first, run);
      else push_indexed(place, slot, first, run);
    } else {
      multiply_rows(place.at + words.offset, place.step, slot, run, first, count);
    }
  }

  [[gnu::always_inline]] inline void load(const int8_t* tile, int32_t taps, int32_t count, int32_t stride) {
    driver_.load_weights(tile, static_cast<uint32_t>(taps), static_cast<uint32_t>(count),
                         static_cast<uint32_t>(stride));
  }

  [[gnu::noinline]] void push_contiguous(const Place& place, int32_t offset, int32_t slot, bool first, int32_t count) {
    const Contiguous rows({place.at + offset, place.step, place.left, place.width, place.wrap});
    driver_.push(static_cast<uint32_t>(slot), first, static_cast<uint32_t>(count), rows);
  }

  [[gnu::noinline]] void push_indexed(const Place& place, int32_t slot, bool first, int32_t count) {
    driver_.push(static_cast<uint32_t>(slot), first, static_cast<uint32_t>(count), Indexed(place, offset_));
  }

  /** The same of pixels of one row whose windows leave the input, or which the driver cannot read where they lie. */
  void gathered(const kernels::Window& w, const Axes& axes, const Block& block, const float* in, int32_t oy, int32_t ox,
                int32_t slot, bool first, int32_t run, int32_t count) {
    const int32_t y = oy * w.stride_y - w.top;
    int32_t x = ox * w.stride_x - w.left;
    while (run) {
      const int32_t rows = detail::least(run, kGathered);
      for (int32_t i = 0; i < rows; ++i, x += w.stride_x)
        gather(w, axes, block, in, y, x, buffers_.row + i * block.taps);
      whole({0, true}, {buffers_.row, block.taps, rows, rows, 0}, slot, first, rows, count);
      slot += rows;
      run -= rows;
    }
  }

  /** The products of zeros, for pixels whose windows have nothing else of a block. */
  void zeros(int32_t taps, int32_t slot, bool first, int32_t run, int32_t count) {
    for (int32_t i = 0; i < taps; ++i) buffers_.row[i] = 0.0f;
    whole({0, true}, {buffers_.row, 0, run, run, 0}, slot, first, run, count);
  }

  void multiply_rows(const float* a, int32_t a_stride, int32_t slot, int32_t rows, bool first, int32_t count) {
    float* sums = buffers_.sums + slot * count;
    driver_.multiply(a, static_cast<uint32_t>(a_stride), static_cast<uint32_t>(rows), first ? sums : buffers_.result);
    driver_.wait();
    if (first) return;
    for (int32_t i = 0; i < rows * count; ++i) sums[i] = sums[i] + buffers_.result[i];
  }

  /** The block of `taps` taps from `tap` on, which becomes the first one behind it. */
  [[gnu::always_inline]] inline void next_block(const Axes& axes, Tap& tap, int32_t taps, Block& block) {
    block = {tap, taps, {offset_of(axes, tap), true}};
    if (axes.inner_step == 1 && taps < axes.inner - tap.inner) tap.inner += taps;
    else list_taps(axes, tap, taps, block);
  }

  [[gnu::noinline]] void list_taps(const Axes& axes, Tap& tap, int32_t taps, Block& block) {
    int32_t expected = block.words.offset;
    int32_t* to = offset_;
    tap = each_tap(axes, tap, taps, [&](const Tap& t, int32_t run) HEEPSTOR_GEMM_INLINE {
      int32_t offset = offset_of(axes, t);
      block.words.contiguous &= offset == expected && (run == 1 || axes.inner_step == 1);
      expected = offset + run;
      if (run == taps && block.words.contiguous) return;
      for (; run; --run, offset += axes.inner_step) *to++ = offset;
    });
  }

  [[gnu::always_inline]] static inline int32_t offset_of(const Axes& axes, const Tap& tap) {
    return tap.ky * axes.row_step + tap.middle * axes.middle_step + tap.inner * axes.inner_step;
  }

  /** Calls f(tap, count) for `taps` taps from `tap` on, with neighbours on the inner axis at once; returns the tap
   * behind them. */
  template <class F>
  [[gnu::always_inline]] static inline Tap each_tap(const Axes& axes, Tap tap, int32_t taps, const F& f) {
    while (taps > 0) {
      const int32_t run = detail::least(axes.inner - tap.inner, taps);
      f(tap, run);
      taps -= run;
      tap.inner += run;
      if (tap.inner == axes.inner) {
        tap.inner = 0;
        if (++tap.middle == axes.middle) tap.middle = 0, ++tap.ky;
      }
    }
    return tap;
  }

  /** What the window at input row y and column x sees of a block; +0 where it leaves the input. */
  static void gather(const kernels::Window& w, const Axes& axes, const Block& block, const float* in, int32_t y,
                     int32_t x, float* row) {
    const int32_t start = y * w.in.row + x * w.in.column;
    each_tap(axes, block.first, block.taps, [&](const Tap& tap, int32_t run) HEEPSTOR_GEMM_INLINE {
      const uint32_t iy = static_cast<uint32_t>(y + tap.ky * w.dilation_y);
      const uint32_t width = iy < static_cast<uint32_t>(w.height) ? static_cast<uint32_t>(w.width) : 0;
      uint32_t ix = static_cast<uint32_t>(x + tap.middle * axes.middle_x + tap.inner * axes.inner_x);
      int32_t offset = start + offset_of(axes, tap);
      for (; run; --run, ix += static_cast<uint32_t>(axes.inner_x), offset += axes.inner_step)
        *row++ = ix < width ? in[offset] : 0.0f;
    });
  }

  /** Rows of A, the first one to begin with. */
  struct Contiguous : Place {
    explicit Contiguous(const Place& place) : Place(place) {}
    [[gnu::always_inline]] inline float operator[](uint32_t j) const { return this->at[j]; }
  };

  struct Indexed : Place {
    const int32_t* offset;
    Indexed(const Place& place, const int32_t* list) : Place(place), offset(list) {}
    [[gnu::always_inline]] inline float operator[](uint32_t j) const { return this->at[offset[j]]; }
  };

  /** Of a driver that keeps sums, and of one that does not. */
  struct Streamed {
    float row[kDepth];
  };
  struct Collected {
    float row[kGathered * kDepth], sums[kChunk * kWidth], result[kChunk * kWidth];
  };

  Driver& driver_;
  int32_t offset_[kDepth];  // of the taps of a block that is not contiguous
  typename detail::Choose<kStreamed, Streamed, Collected>::Type buffers_;
};

}  // namespace heepstor

#endif

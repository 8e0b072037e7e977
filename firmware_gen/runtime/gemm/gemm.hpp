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
/** Words of A that are gathered for such a driver, or one row. */
constexpr int32_t kGatheredWords = 512;

/**
 * Convolutions and Linear layers on an accelerator that multiplies matrices, without a matrix of windows in memory: a
 * row of A is what the window of an output pixel sees, in the order of the kernel, and is read where it lies; taps
 * outside the input are +0. Products of consecutive blocks of K are added in FP32, in order.
 *
 * Driver: see docs/architectures.md. kDepth, kWidth: the largest K and N of one of its calls.
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
    const bool plain = w.residual == kernels::Add::none && w.activation.slope == 1.0f;
    for (int32_t g = 0; g < w.groups; ++g) {
      const int32_t first = g * w.group_outputs;
      product(w, depth, w.group_outputs, weights + g * depth * stride, stride,
              in + g * (w.channels / w.groups) * w.in.channel,
              [&](int32_t y, int32_t x, int32_t n, int32_t count, const float* sums) HEEPSTOR_GEMM_INLINE {
                const int32_t channel = first + n;
                const float* add = aux + channel * w.aux.channel + y * w.aux.row + x * w.aux.column;
                float* pixel = out + channel * w.out.channel + y * w.out.row + x * w.out.column;
                if (plain) {
                  for (int32_t c = 0; c < count; ++c, pixel += w.out.channel) {
                    const float scaled = sums[c] * scale[channel + c];
                    *pixel = kernels::clamped(w.activation, scaled + bias[channel + c]);
                  }
                  return;
                }
                for (int32_t c = 0; c < count; ++c) {
                  const float scaled = sums[c] * scale[channel + c];
                  *pixel = kernels::finished(w.activation, w.residual, scaled + bias[channel + c], add);
                  pixel += w.out.channel;
                  add += w.aux.channel;
                }
              });
    }
  }

  /** c = a * b: m x k floats, k x n bytes, m x n floats, rows one after the other. */
  void multiply(const float* a, const int8_t* b, float* c, uint32_t m, uint32_t k, uint32_t n) {
    const int32_t rows = static_cast<int32_t>(m), depth = static_cast<int32_t>(k), width = static_cast<int32_t>(n);
    kernels::Window w{};
    w.channels = depth;
    w.height = w.out_height = w.kernel_height = w.kernel_width = w.stride_y = w.stride_x = 1;
    w.dilation_y = w.dilation_x = w.groups = 1;
    w.width = w.out_width = rows;
    w.group_outputs = width;
    w.in = {1, depth, depth * rows};
    product(w, depth, width, b, width, a,
            [&](int32_t, int32_t x, int32_t first, int32_t count, const float* sums) HEEPSTOR_GEMM_INLINE {
              for (int32_t i = 0; i < count; ++i) c[x * width + first + i] = sums[i];
            });
  }

 private:
  /** Output pixels whose sums are collected before they are finished; as many rows of A are gathered at most. */
  static constexpr int32_t kSums = detail::Sums<Driver>::kCount;
  static constexpr bool kStreamed = kSums > 0;
  static constexpr int32_t kPixels = kStreamed ? kSums : kChunk;
  static constexpr int32_t kGathered =
      kStreamed || kDepth >= kGatheredWords ? 1 : detail::least(8, kGatheredWords / kDepth);

  /** Consecutive taps of the kernel, in its order: a block of K. */
  struct Tap {
    int32_t ky, kx, channel;
  };

  struct Block {
    Tap first;
    int32_t taps;
    int32_t offset;   // of the first one, from the window's first position
    bool contiguous;  // one word after the other in the input
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
    const Inside rows = inside(w.out_height, w.stride_y, w.top, (w.kernel_height - 1) * w.dilation_y, w.height);
    const Inside columns = inside(w.out_width, w.stride_x, w.left, (w.kernel_width - 1) * w.dilation_x, w.width);
    const int32_t pixels = w.out_height * w.out_width;
    for (int32_t n = 0; n < width; n += kWidth) {
      const int32_t count = detail::least(width - n, kWidth);
      int32_t y = 0, x = 0;
      Block block{};
      for (int32_t done = 0; done < pixels; done += kPixels) {
        const int32_t chunk = detail::least(pixels - done, kPixels);
        Tap tap{};
        for (int32_t k = 0; k < depth; k += kDepth) {
          if (depth > kDepth || done == 0) {  // one block stays loaded
            block = next_block(w, tap, detail::least(depth - k, kDepth));
            driver_.load_weights(b + k * stride + n, static_cast<uint32_t>(block.taps), static_cast<uint32_t>(count),
                                 static_cast<uint32_t>(stride));
          }
          each_run(w, rows, columns, y, x, chunk,
                   [&](int32_t slot, int32_t oy, int32_t ox, int32_t run, bool whole) HEEPSTOR_GEMM_INLINE {
                     add(w, block, k == 0, in, slot, oy * w.stride_y - w.top, ox * w.stride_x - w.left, run, whole,
                         count);
                   });
        }
        for (int32_t slot = 0; slot < chunk; ++slot) {
          if constexpr (kStreamed) {
            driver_.pull(static_cast<uint32_t>(slot), buffers_.sums);
            finish(y, x, n, count, buffers_.sums);
          } else {
            finish(y, x, n, count, buffers_.sums + slot * count);
          }
          if (++x == w.out_width) x = 0, ++y;
        }
      }
    }
  }

  /** Calls f(slot, y, x, count, whether the windows lie inside the input) for runs of pixels of a row, from (y, x) on. */
  template <class Run>
  [[gnu::always_inline]] static inline void each_run(const kernels::Window& w, Inside rows, Inside columns, int32_t y,
                                                     int32_t x, int32_t pixels, const Run& f) {
    for (int32_t slot = 0; slot < pixels;) {
      const bool middle = y >= rows.first && y < rows.last;
      const bool whole = middle && x >= columns.first && x < columns.last;
      const int32_t end = whole ? columns.last : middle && x < columns.first ? columns.first : w.out_width;
      const int32_t run = detail::least(end - x, pixels - slot);
      f(slot, y, x, run, whole);
      slot += run;
      x += run;
      if (x == w.out_width) x = 0, ++y;
    }
  }

  /** The products of a run of pixels, whose first window begins at input row y and column x, join the sums. */
  [[gnu::always_inline]] inline void add(const kernels::Window& w, const Block& block, bool first, const float* in,
                                         int32_t slot, int32_t y, int32_t x, int32_t run, bool whole, int32_t count) {
    const int32_t step = w.stride_x * w.in.column;
    const float* at = in + y * w.in.row + x * w.in.column;
    if constexpr (kStreamed) {
      const auto push = [&](int32_t count, const auto& rows) HEEPSTOR_GEMM_INLINE {
        driver_.push(static_cast<uint32_t>(slot), first, static_cast<uint32_t>(count), rows);
        slot += count;
      };
      if (!whole) {
        for (; run; --run, x += w.stride_x) {
          gather(w, block, in, y, x, buffers_.row);
          push(1, Contiguous{buffers_.row, 0});
        }
      } else if (block.contiguous) {
        push(run, Contiguous{at + block.offset, step});
      } else {
        push(run, Indexed{at, step, offset_});
      }
    } else if (whole && block.contiguous) {
      multiply_rows(at + block.offset, step, slot, run, first, count);
    } else {
      while (run) {
        const int32_t rows = detail::least(run, kGathered);
        for (int32_t i = 0; i < rows; ++i, x += w.stride_x) gather(w, block, in, y, x, buffers_.row + i * block.taps);
        multiply_rows(buffers_.row, block.taps, slot, rows, first, count);
        slot += rows;
        run -= rows;
      }
    }
  }

  void multiply_rows(const float* a, int32_t a_stride, int32_t slot, int32_t rows, bool first, int32_t count) {
    float* sums = buffers_.sums + slot * count;
    driver_.multiply(a, static_cast<uint32_t>(a_stride), static_cast<uint32_t>(rows), first ? sums : buffers_.result);
    driver_.wait();
    if (first) return;
    for (int32_t i = 0; i < rows * count; ++i) sums[i] = sums[i] + buffers_.result[i];
  }

  /** The block of `taps` taps from `tap` on, which becomes the first one behind it. */
  Block next_block(const kernels::Window& w, Tap& tap, int32_t taps) {
    Block block{tap, taps, offset_of(w, tap), true};
    int32_t expected = block.offset;
    const Tap behind = each_tap(w, tap, taps, [&](const Tap& t, int32_t run) HEEPSTOR_GEMM_INLINE {
      const int32_t offset = offset_of(w, t);
      block.contiguous &= offset == expected && (run == 1 || w.in.channel == 1);
      expected = offset + run;
    });
    if (!block.contiguous) {
      int32_t* to = offset_;
      each_tap(w, tap, taps, [&](const Tap& t, int32_t run) HEEPSTOR_GEMM_INLINE {
        for (int32_t offset = offset_of(w, t); run; --run, offset += w.in.channel) *to++ = offset;
      });
    }
    tap = behind;
    return block;
  }

  [[gnu::always_inline]] static inline int32_t offset_of(const kernels::Window& w, const Tap& tap) {
    return tap.ky * w.dilation_y * w.in.row + tap.kx * w.dilation_x * w.in.column + tap.channel * w.in.channel;
  }

  /** Calls f(tap, count) for `taps` taps from `tap` on, with those neighbours of a window's position at once that are
   * channels in order; returns the tap behind them. */
  template <class F>
  [[gnu::always_inline]] static inline Tap each_tap(const kernels::Window& w, Tap tap, int32_t taps, const F& f) {
    const int32_t channels = w.channels / w.groups;
    while (taps > 0) {
      const int32_t run = w.channels_first ? 1 : detail::least(channels - tap.channel, taps);
      f(tap, run);
      taps -= run;
      if (w.channels_first) {
        if (++tap.kx == w.kernel_width) {
          tap.kx = 0;
          if (++tap.channel == channels) tap.channel = 0, ++tap.ky;
        }
      } else {
        tap.channel += run;
        if (tap.channel == channels) {
          tap.channel = 0;
          if (++tap.kx == w.kernel_width) tap.kx = 0, ++tap.ky;
        }
      }
    }
    return tap;
  }

  /** What the window at input row y and column x sees of a block; +0 where it leaves the input. */
  static void gather(const kernels::Window& w, const Block& block, const float* in, int32_t y, int32_t x, float* row) {
    each_tap(w, block.first, block.taps, [&](const Tap& tap, int32_t run) HEEPSTOR_GEMM_INLINE {
      const int32_t iy = y + tap.ky * w.dilation_y, ix = x + tap.kx * w.dilation_x;
      if (iy < 0 || iy >= w.height || ix < 0 || ix >= w.width) {
        for (; run; --run) *row++ = 0.0f;
        return;
      }
      const float* at = in + iy * w.in.row + ix * w.in.column + tap.channel * w.in.channel;
      for (; run; --run, at += w.in.channel) *row++ = *at;
    });
  }

  /** Rows of A, the first one to begin with. */
  struct Contiguous {
    const float* at;
    int32_t step;
    [[gnu::always_inline]] inline float operator[](uint32_t j) const { return at[j]; }
    [[gnu::always_inline]] inline void next() { at += step; }
  };

  struct Indexed {
    const float* at;
    int32_t step;
    const int32_t* offset;
    [[gnu::always_inline]] inline float operator[](uint32_t j) const { return at[offset[j]]; }
    [[gnu::always_inline]] inline void next() { at += step; }
  };

  /** Of a driver that keeps sums, and of one that does not. */
  struct Streamed {
    float row[kDepth], sums[kWidth];
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

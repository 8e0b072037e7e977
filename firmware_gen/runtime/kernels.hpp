// SPDX-License-Identifier: Apache-2.0
#ifndef HEEPSTOR_KERNELS_HPP
#define HEEPSTOR_KERNELS_HPP

#include <stdint.h>

namespace heepstor {
/** Plain C++ operators for the CPU, the baseline the accelerator is compared with. `aux` is the residual or null. */
namespace kernels {

/**
 * y = f(clamp(x > 0 ? x : slope * x, low, high)); NaN passes through the clamp. The product is skipped when slope is 1,
 * and f, which has this table, where that is null.
 */
struct Activation {
  float slope, low, high;
  const uint32_t* table = nullptr;

  /** y without f. */
  float bent(float y) const {
    if (slope != 1.0f && !(y > 0.0f)) y = y * slope;
    if (y <= low) y = low;
    if (y >= high) y = high;
    return y;
  }
  /** Whether `bent` is the clamp alone. */
  bool clamps() const { return slope == 1.0f; }
};

/**
 * Where a second operand is added, if there is one; or is the factor of what the kernel computes, or of what is negative
 * of it, or the other one of a maximum.
 */
enum class Add : uint8_t {
  none,
  before_activation,
  after_activation,
  factor_before_activation,
  factor_after_activation,
  slope_before_activation,
  slope_after_activation,
  maximum_before_activation
};

/** One step through a feature map, in words. */
struct Strides {
  int32_t channel, column, row;
};

/** A window moving over one image; all counts are positive, paddings may be negative. */
struct Window {
  int32_t channels, height, width;
  int32_t out_height, out_width;
  int32_t kernel_height, kernel_width, stride_y, stride_x, dilation_y, dilation_x;
  int32_t top, left;
  int32_t groups, group_outputs;
  Strides in, out, aux;
  Activation activation;
  Add residual;
  bool channels_first;  // order of `dense` weights and sums: channel, column instead of column, channel
};

/** Output channels that `dense` and `depthwise` compute together. */
constexpr int32_t kBlock = 4;

/**
 * Convolution and Linear. weights: per group and block of kBlock outputs, in the order of the sum, kBlock bytes per
 * tap. Every output is a chain of fused multiply-adds from +0 over the taps inside the input, in the order ky, kx, c
 * (ky, c, kx with `channels_first`); then y = act(sum * scale + bias), each operation rounded.
 */
void dense(const Window& w, const int8_t* weights, const float* scale, const float* bias, const float* in,
           const float* aux, float* out);

/** Depthwise convolution: weights [block][ky][kx][kBlock channels]; the chain and epilogue of `dense`. */
void depthwise(const Window& w, const int8_t* weights, const float* scale, const float* bias, const float* in,
               const float* aux, float* out);

/** Maximum over the window, positions outside the input count as `pad`; a NaN stays. */
void max_pool(const Window& w, float pad, const float* in, const float* aux, float* out);

/** Sum from +0 over the positions inside the input, in the order ky, kx, times `scale`. */
void average_pool(const Window& w, float scale, const float* in, const float* aux, float* out);

/** y = act(x), or with a residual, element by element. */
void activate(const Activation& activation, Add residual, uint32_t count, const float* in, const float* aux,
              float* out);

}  // namespace kernels
}  // namespace heepstor

#endif

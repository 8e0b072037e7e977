# SPDX-License-Identifier: Apache-2.0
"""The loops around an accelerator's product, compiled for the host, against their NumPy model bit for bit; and that
against PyTorch."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import firmware_gen
from firmware_gen import ir
from firmware_gen.operations.windows import Windowed
from firmware_gen.targets.calls.product import Product, matrix_of, multiply, padded_rows, product_model, rows_of
from hls.arithmetic.fma import fma_model
from sim.toolchain import host_compiler, run_tool

RUNTIME = Path(firmware_gen.__file__).parent / "runtime"
DEPTH, WIDTH = 7, 5
SUMS = 9

DRIVERS = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gemm.hpp"

namespace heepstor {

// A chain of fused multiply-adds from +0 for every column; calls out of order end the program.
class Plain {
 public:
  void load_weights(const int8_t* b, uint32_t k, uint32_t n, uint32_t stride) {
    if (k > DEPTH || n > WIDTH || !k || !n || busy_) abort();
    k_ = k, n_ = n;
    for (uint32_t i = 0; i < k; ++i) memcpy(b_[i], b + i * stride, n);
  }
  void multiply(const float* a, uint32_t a_stride, uint32_t m, float* c) {
    if (!m || busy_) abort();
    busy_ = true;
    for (uint32_t i = 0; i < m; ++i)
      for (uint32_t n = 0; n < n_; ++n) c[i * n_ + n] = chain([&](uint32_t j) { return a[i * a_stride + j]; }, n);
  }
  void wait() { busy_ = false; }

 protected:
  template <class Row>
  float chain(const Row& a, uint32_t n) const {
    float sum = 0;
    for (uint32_t j = 0; j < k_; ++j) sum = __builtin_fmaf(a(j), b_[j][n], sum);
    return sum;
  }
  uint32_t k_ = 0, n_ = 0;
  int8_t b_[DEPTH][WIDTH];
  bool busy_ = false;
};

class Streamed : public Plain {
 public:
  static constexpr uint32_t kSums = SUMS;
  template <class Rows>
  void push(uint32_t slot, bool first, uint32_t count, Rows a) {
    if (slot + count > kSums) abort();
    for (; count; --count, ++slot, a.next())
      for (uint32_t n = 0; n < n_; ++n) {
        const float sum = chain([&](uint32_t j) { return a[j]; }, n);
        sums_[slot][n] = first ? sum : sums_[slot][n] + sum;
      }
  }
  const float* pull(uint32_t slot) {
    if (slot >= kSums) abort();
    memcpy(pulled_, sums_[slot], 4 * n_);
    for (uint32_t n = 0; n < n_; ++n) sums_[slot][n] = __builtin_nanf("");
    return pulled_;
  }

 private:
  float sums_[kSums][WIDTH], pulled_[WIDTH];
};

}  // namespace heepstor
"""

PROGRAM = (
    DRIVERS
    + """
static FILE* file;
template <class T>
static T* take(uint32_t count) {
  T* values = static_cast<T*>(malloc(sizeof(T) * count + 16));
  if (fread(values, sizeof(T), count, file) != count) abort();
  return values;
}

int main(int, char** argv) {
  file = fopen(argv[1], "rb");
  FILE* results = fopen(argv[2], "wb");
  heepstor::DRIVER driver;
  static heepstor::Gemm<heepstor::DRIVER, DEPTH, WIDTH> gemm(driver);
  static_assert(sizeof gemm <= SCRATCH, "planned");
  for (int32_t kind; fread(&kind, 4, 1, file) == 1;) {
    const int32_t* sizes = take<int32_t>(5);
    const int8_t* weights = take<int8_t>(sizes[0]);
    float *scale = take<float>(sizes[1]), *bias = take<float>(sizes[1]), *in = take<float>(sizes[2]);
    float *aux = take<float>(sizes[3]), *out = take<float>(sizes[4]);
    if (kind == 0) {
      const int32_t* i = take<int32_t>(26);
      const float* f = take<float>(3);
      const heepstor::kernels::Window w = {i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9], i[10], i[11],
          i[12], i[13], i[14], {i[15], i[16], i[17]}, {i[18], i[19], i[20]}, {i[21], i[22], i[23]}, {f[0], f[1], f[2]},
          heepstor::kernels::Add(i[24]), i[25] != 0};
      gemm.convolution(w, weights, scale, bias, in, aux, out);
    } else {
      const uint32_t* i = take<uint32_t>(3);
      gemm.multiply(in, weights, out, i[0], i[1], i[2]);
    }
    fwrite(out, 4, sizes[4], results);
  }
}
"""
)

_ADD = {"none": 0, "before_act": 1, "after_act": 2}


def chain(a, b):
    """The drivers' product."""
    total = np.zeros((len(a), b.shape[1]), np.uint32)
    for j in range(b.shape[0]):
        total = fma_model(np.ascontiguousarray(a[:, j, None]).view(np.uint32), b[j][None], total)
    return total.view(np.float32)


PRODUCT = Product(DEPTH, WIDTH, chain)


@pytest.fixture(scope="module", params=["Plain", "Streamed"])
def calls(request, tmp_path_factory):
    """Function (list of cases as bytes, sizes of their outputs) -> float32 outputs."""
    folder = tmp_path_factory.mktemp("gemm")
    (folder / "main.cpp").write_text(PROGRAM)
    defines = {
        "DRIVER": request.param,
        "DEPTH": DEPTH,
        "WIDTH": WIDTH,
        "SUMS": SUMS,
        "SCRATCH": PRODUCT.scratch_bytes + 16,  # pointers have eight bytes here
    }
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined"]
    flags += ["-fno-sanitize-recover=all", *(f"-D{name}={value}" for name, value in defines.items())]
    includes = [f"-I{RUNTIME}", f"-I{RUNTIME / 'gemm'}"]
    run_tool(
        [*host_compiler(), *flags, *includes, folder / "main.cpp", RUNTIME / "math.cpp", "-o", folder / "main"],
        "compiling",
    )

    def run(cases, counts):
        (folder / "in").write_bytes(b"".join(cases))
        run_tool([folder / "main", folder / "in", folder / "out"], "gemm")
        return np.split(np.fromfile(folder / "out", np.float32), np.cumsum(counts)[:-1])

    return run


def _case(kind, weights, scale, bias, x, aux, out, numbers, floats=()):
    arrays = [np.asarray(a, t) for a, t in ((scale, np.float32), (bias, np.float32), (x, np.float32))]
    sizes = np.int32([weights.size, arrays[0].size, x.size, aux.size, out.size])
    parts = [np.int32([kind]), sizes, weights, *arrays, np.float32(aux), np.float32(out), np.int32(numbers)]
    return b"".join(np.ascontiguousarray(p).tobytes() for p in (*parts, np.float32(floats)))


def random_layer(rng, generator):
    """A convolution on one image with its input, residual, strides in memory and channel order."""
    groups = rng.choice([1, 1, 2, 3])
    size, cout = rng.randint(1, 6), rng.randint(1, 12)
    kernel = rng.randint(1, 4), rng.randint(1, 4)
    stride, dilation = (rng.randint(1, 3), rng.randint(1, 3)), (rng.randint(1, 2), rng.randint(1, 3))
    top, left = rng.randint(-1, 3), rng.randint(-1, 3)
    high, wide = rng.randint(1, 9), rng.randint(1, 9)
    outputs = rng.randint(1, 6), rng.randint(1, 14)
    if rng.random() < 0.3:  # every window lies inside
        top, left, outputs = 0, 0, (rng.randint(1, 5), rng.randint(1, 7))
        high, wide = (
            (count - 1) * s + (k - 1) * d + 1 + rng.randint(0, 2)
            for count, s, k, d in zip(outputs, stride, kernel, dilation, strict=True)
        )
    op = Windowed(
        groups * size,
        high,
        wide,
        *outputs,
        kernel,
        stride,
        dilation,
        top,
        left,
        groups,
        cout,
        weight=generator.integers(-127, 128, (groups, cout, *kernel, size)).astype(np.int8),
        scale=generator.normal(0, 0.01, (groups, cout)).astype(np.float32),
        bias=generator.normal(0, 1, (groups, cout)).astype(np.float32),
        act=ir.Activation(*rng.choice([(1.0, -np.inf, np.inf), (0.0, -np.inf, np.inf), (0.25, -1.0, 2.0)])),
        residual=rng.choice(list(_ADD)),
    )
    x = generator.normal(0, 1, (op.channels, high, wide)).astype(np.float32)
    if rng.random() < 0.2:
        x[generator.random(x.shape) < 0.1] = rng.choice([np.nan, np.inf, -0.0, 1e-42])
    aux = generator.normal(0, 1, (groups * cout, op.out_height, op.out_width)).astype(np.float32)
    return op, x, aux, rng.random() < 0.4


def strides(shape, plain):
    """(channel, column, row) in words, with and without channels last."""
    c, h, w = shape
    return (h * w, 1, w) if plain else (1, c, w * c)


def placed(x, plain):
    return x if plain else x.transpose(1, 2, 0)


def layer_case(op, x, aux, plain):
    """One case of the program; `plain`: in PyTorch's order."""
    weights = padded_rows(matrix_of(op, plain))
    numbers = [op.channels, op.height, op.width, op.out_height, op.out_width, *op.kernel, *op.stride, *op.dilation]
    numbers += [op.top, op.left, op.groups, op.cout, *strides(x.shape, plain)]
    numbers += 2 * [*strides(aux.shape, plain)] + [_ADD[op.residual], plain]
    floats = (op.act.slope, op.act.low, op.act.high)
    return _case(0, weights, op.scale, op.bias, placed(x, plain), placed(aux, plain), aux, numbers, floats)


def same_bits(got, want):
    """Equal in every bit; the host has several NaNs."""
    return np.array_equal(np.where(np.isnan(got), np.float32(np.nan), got).view(np.uint32), want.view(np.uint32))


def test_convolutions_equal_their_model_bit_for_bit(calls):
    rng, generator = random.Random(5), np.random.default_rng(5)
    layers = [random_layer(rng, generator) for _ in range(150)]
    results = calls([layer_case(*layer) for layer in layers], [layer[2].size for layer in layers])
    for (op, x, aux, plain), got in zip(layers, results, strict=True):
        want = product_model(PRODUCT, op, x, plain, aux)
        assert same_bits(got, np.ascontiguousarray(placed(want, plain)).reshape(-1)), op


def test_products_of_any_size_equal_their_model_bit_for_bit(calls):
    rng, generator = random.Random(6), np.random.default_rng(6)
    cases, wanted = [], []
    for _ in range(40):
        m, k, n = rng.randint(1, 70), rng.randint(1, 40), rng.randint(1, 23)
        a, b = generator.normal(0, 1, (m, k)).astype(np.float32), generator.integers(-128, 128, (k, n)).astype(np.int8)
        nothing = np.zeros(0, np.float32)
        cases.append(_case(1, b, nothing, nothing, a, nothing, np.zeros((m, n)), [m, k, n]))
        wanted.append(multiply(PRODUCT, a, b))
    for got, want in zip(calls(cases, [w.size for w in wanted]), wanted, strict=True):
        assert same_bits(got, want.reshape(-1))


def test_taps_outside_the_input_are_plus_zero():
    op = Windowed(1, 2, 2, 4, 4, (2, 3), (1, 1), (1, 1), 1, 2, 1, 1, weight=np.ones((1, 1, 2, 3, 1), np.int8))
    rows = rows_of(op, np.full((1, 2, 2), -1, np.float32), False)
    assert set(rows.view(np.uint32).flat) == {0, 0xBF800000}


@pytest.mark.parametrize("seed", range(30))
def test_the_model_is_a_convolution(seed):
    """With an exact product, against PyTorch in double precision."""
    rng, generator = random.Random(seed), np.random.default_rng(seed)
    op, x, _, plain = random_layer(rng, generator)
    op = replace(op, act=ir.IDENTITY, residual="none", top=abs(op.top), left=abs(op.left))
    x = np.where(np.isfinite(x), x, 1).astype(np.float32)
    reach = [(k - 1) * d for k, d in zip(op.kernel, op.dilation, strict=True)]
    bottom = max(0, (op.out_height - 1) * op.stride[0] + reach[0] + 1 - op.top - op.height)
    right = max(0, (op.out_width - 1) * op.stride[1] + reach[1] + 1 - op.left - op.width)
    data = torch.nn.functional.pad(torch.from_numpy(x).double(), (op.left, right, op.top, bottom))[None]
    weight = torch.from_numpy(op.weight.reshape(-1, *op.weight.shape[2:])).double().permute(0, 3, 1, 2)
    want = torch.nn.functional.conv2d(data, weight, None, op.stride, 0, op.dilation, op.groups)[0].numpy()
    want = want[:, : op.out_height, : op.out_width] * op.scale.reshape(-1, 1, 1) + op.bias.reshape(-1, 1, 1)
    exact = Product(DEPTH, WIDTH, lambda a, b: (a.astype(np.float64) @ b).astype(np.float32))
    np.testing.assert_allclose(product_model(exact, op, x, plain), want, rtol=1e-4, atol=1e-4)

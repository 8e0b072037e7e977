# SPDX-License-Identifier: Apache-2.0
"""The runtime's mathematics, compiled for the host, against its NumPy twin; and the twin against float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import firmware_gen
from firmware_gen import ir
from firmware_gen.emit.cpu_calls import declaration
from firmware_gen.ir.cpu import ELEMENTARY
from firmware_gen.models.cpu_model import cpu_operator, log_softmax_model, softmax_model
from hls.arithmetic.fp32 import canonical_float
from hls.arithmetic.function import TABLE_WORDS, function_model
from hls.arithmetic.function_tables import function_words
from sim.toolchain import host_compiler, run_tool

RUNTIME = Path(firmware_gen.__file__).parent / "runtime"

PROGRAM = """
#include <stdio.h>
#include "math.hpp"
#include "matrices.hpp"
namespace heepstor {
KERNELS
}
static float in[1 << 20], out[1 << 20];
static uint32_t table[512];
int main(int, char** argv) {
  FILE* file = fopen(argv[1], "rb");
  const uint32_t count = fread(in, 4, 1 << 20, file);
  fclose(file);
  const char kind = argv[3][0];
  const uint32_t columns = 13;
  if (kind == 's') heepstor::softmax(in, out, count / columns, columns);
  if (kind == 'g') heepstor::log_softmax(in, out, count / columns, columns);
  if (kind == 'e') heepstor::exp(in, out, count);
  if (kind == 'l') heepstor::log(in, out, count);
  if (kind == 'i') heepstor::inverse_sqrt(in, out, count);
  if (kind == 'q') heepstor::square_root(in, out, count);
  if (kind == 'c') heepstor::reciprocal(in, out, count);
  if (kind == 'F') heepstor::floor(in, out, count);
  if (kind == 'C') heepstor::ceil(in, out, count);
  if (kind == 'T') heepstor::trunc(in, out, count);
  if (kind == 'R') heepstor::round(in, out, count);
  if (kind == 'S') heepstor::sin(in, out, count);
  if (kind == 'K') heepstor::cos(in, out, count);
  if (kind == 'n') heepstor::normalise(in, out, count / columns, columns, 1e-5f);
  if (kind == 'r') heepstor::root_mean_square(in, out, count / columns, columns, 0.25f);
  // 2 x 3 matrices of 5 x 7 and, one for all outer ones, of 7 x 6: columns, rows or neither side by side
  const heepstor::MatrixCounts counts = {2, 3, 5, 7, 6};
  const heepstor::MatrixSteps result = {90, 1, 18, 3};
  if (kind == 'm') heepstor::matmul(in, {105, 7, 21, 1}, in + 210, {0, 42, 1, 7}, out, result, counts, 0.3f);
  if (kind == 'o') heepstor::matmul(in, {105, 7, 21, 1}, in + 210, {0, 42, 6, 1}, out, result, counts, 0.3f);
  if (kind == 'p') heepstor::matmul(in, {105, 35, 1, 5}, in + 210, {0, 42, 1, 7}, out, result, counts, 0.3f);
  if (kind == 't') {
    file = fopen(argv[4], "rb");
    if (fread(table, 4, 512, file) == 0) return 1;
    fclose(file);
    heepstor::apply_table(in, out, count, table);
  }
  file = fopen(argv[2], "wb");
  fwrite(out, 4, count, file);
  fclose(file);
  return heepstor::argmax(in, count);
}
"""


@pytest.fixture(scope="module")
def math(tmp_path_factory):
    """Function (kind, float32 array, table of a function) -> what the C++ computed."""
    folder = tmp_path_factory.mktemp("math")
    kernels = [declaration(name, [1]) for name in ELEMENTARY.values()]
    kernels += [declaration(name, [1, 1, 1.0]) for name in ("normalise", "root_mean_square")]
    (folder / "main.cpp").write_text(PROGRAM.replace("KERNELS", "\n".join(kernels)))
    run_tool(
        [
            *host_compiler(),
            "-std=c++17",
            "-O2",
            "-ffp-contract=off",
            "-Wall",
            "-Wextra",
            "-Werror",
            f"-I{RUNTIME}",
            folder / "main.cpp",
            RUNTIME / "math.cpp",
            RUNTIME / "matrices.cpp",
            "-o",
            folder / "main",
        ],
        "compiling",
    )

    def run(kind, values, table=()):
        np.asarray(values, np.float32).tofile(folder / "in")
        np.asarray(table, np.uint32).tofile(folder / "table")
        run_tool(["sh", "-c", f"{folder}/main {folder}/in {folder}/out {kind} {folder}/table || true"], "math")
        return np.fromfile(folder / "out", np.float32)

    return run


def special():
    return np.array(
        [0, -0.0, np.inf, -np.inf, np.nan, 88.7228, 88.73, -87.4, -103.9, -104, 1e-45, -1e-45, 1e38], np.float32
    )


HALVES = np.arange(-4001, 4002) / 2
TURNS = np.pi / 2 * np.concatenate([np.arange(-9000, 9000), 2.0 ** np.arange(13, 120, 0.01)])
"""Where a sine or a cosine is nearly 0, and one beyond what a multiplication by 2 / pi can tell."""
ELEMENTARY_KINDS = {
    "e": "exp",
    "l": "log",
    "i": "rsqrt",
    "q": "sqrt",
    "c": "reciprocal",
    "F": "floor",
    "C": "ceil",
    "T": "trunc",
    "R": "round",
    "S": "sin",
    "K": "cos",
}


@pytest.mark.parametrize("kind, name", ELEMENTARY_KINDS.items())
def test_functions_without_a_table_equal_their_twins_and_pytorch(math, kind, name):
    """To the bit, within 3 units in the last place of float64, and where PyTorch has infinities, zeros and NaN."""
    rng = np.random.default_rng(9)
    bits = rng.integers(0, 2**32, 300_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([special(), rng.uniform(-104, 89, 200_000), np.linspace(0.5, 4, 200_001), HALVES, TURNS]).astype(
        np.float32
    )
    x = np.concatenate([x, bits])
    function = ir.Function(name)
    got = canonical_float(math(kind, x))
    twin = cpu_operator(ir.Elementary(name="n", inputs=("x",), output="y", function=function), x)
    assert np.array_equal(got.view(np.uint32), twin.view(np.uint32))
    exact = function.evaluate(torch.from_numpy(x.astype(np.float64))).numpy()
    want = function.evaluate(torch.from_numpy(x)).numpy()
    assert np.array_equal(np.isfinite(got), np.isfinite(want)) and np.array_equal(got == 0, want == 0)
    same = ~np.isfinite(want) | (want == 0)
    assert np.array_equal(got[same], want[same], equal_nan=True)
    assert np.array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))
    error = np.abs(got[~same] - exact[~same]) / np.spacing(np.abs(want[~same])).astype(np.float64)
    assert error.max() < (3 if name in ("sqrt", "sin", "cos") else 2)


@pytest.mark.parametrize("kind, model", [("s", softmax_model), ("g", log_softmax_model)])
def test_softmax_equals_its_twin_bit_for_bit(math, kind, model):
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0, 5, (2000, 13)), rng.normal(0, 90, (500, 13))]).astype(np.float32)
    x[:4, :3] = np.float32([[np.nan, 1, 2], [1, np.nan, 2], [np.inf, 1, 2], [-np.inf, 1, 2]])
    got = math(kind, x).reshape(x.shape)
    assert np.array_equal(got[4:].view(np.uint32), model(x)[4:].view(np.uint32))
    assert np.array_equal(got, model(x), equal_nan=True)  # the host has several NaNs


def test_softmax_is_a_distribution_and_nan_poisons_its_row():
    x = np.float32([[1, 2, 3], [1000, 0, -1000], [0, np.nan, 1], [np.inf, 0, 0]])
    y = softmax_model(x)
    want = np.exp(x[0].astype(np.float64)) / np.exp(x[0].astype(np.float64)).sum()
    np.testing.assert_allclose(y[0], want, rtol=1e-6)
    assert y[1].tolist() == [1, 0, 0]
    assert np.isnan(y[2:]).all() and set(y[2:].view(np.uint32).reshape(-1)) == {0x7FC00000}


def test_log_softmax_is_the_logarithm_of_softmax():
    x = np.random.default_rng(3).normal(0, 20, (500, 10)).astype(np.float32)
    exact = x.astype(np.float64) - x.max(1, keepdims=True)
    exact -= np.log(np.exp(exact).sum(1, keepdims=True))
    np.testing.assert_allclose(log_softmax_model(x), exact, rtol=4e-7, atol=2e-7)
    y = log_softmax_model(np.float32([[1000, 0, -1000], [0, np.nan, 1], [np.inf, 0, 0]]))
    assert y[0].tolist() == [0, -1000, -2000]  # softmax itself gives 0 there, whose logarithm is lost
    assert set(y[1:].view(np.uint32).reshape(-1)) == {0x7FC00000}


def test_a_table_is_applied_as_the_function_unit_does(math):
    """On tables of functions, and on tables of random bits, which reach every overflow and every kind."""
    rng = np.random.default_rng(4)
    bits = rng.integers(0, 2**32, 300_000, dtype=np.uint32)
    x = np.concatenate([special(), rng.normal(0, 4, 100_000).astype(np.float32), bits.view(np.float32)])
    random = [rng.integers(0, 2**32, TABLE_WORDS, dtype=np.uint32) for _ in range(6)]
    for table in [function_words("silu"), function_words("softplus", (100.0, 20.0)), *random]:
        want = function_model(x.view(np.uint32), table)
        assert np.array_equal(math("t", x, table).view(np.uint32), want)


@pytest.mark.parametrize("kind, eps, centred", [("n", 1e-5, True), ("r", 0.25, False)])
def test_normalise_equals_its_twin_and_pytorch(math, kind, eps, centred):
    rng = np.random.default_rng(7)
    x = (rng.normal(0, 1, (3000, 13)) * 2.0 ** rng.integers(-9, 9, (3000, 1)) + 3).astype(np.float32)
    node = ir.Normalise(name="n", inputs=("x",), output="y", count=13, eps=eps, centred=centred)
    want, got = cpu_operator(node, x), math(kind, x).reshape(x.shape)
    assert np.array_equal(got.view(np.uint32), want.view(np.uint32))
    function = F.layer_norm if centred else F.rms_norm
    exact = function(torch.from_numpy(x).double(), (13,), eps=eps).numpy()
    lost = 2.0**-22 * np.abs(x).max(1, keepdims=True) / np.sqrt(x.astype(np.float64).var(1, keepdims=True) + eps)
    assert (np.abs(got - exact) <= 4 * (lost + 2.0**-22)).all()
    x[:3, 2] = np.nan, np.inf, -np.inf
    assert (
        np.isnan(math(kind, x).reshape(x.shape)[:2]).any(1).all() and np.isnan(cpu_operator(node, x)[:2]).any(1).all()
    )


@pytest.mark.parametrize("kind, a, b", [
    ("m", (105, 7, 21, 1), (0, 42, 1, 7)), ("o", (105, 7, 21, 1), (0, 42, 6, 1)), ("p", (105, 35, 1, 5), (0, 42, 1, 7))
])  # fmt: skip
def test_matmul_equals_its_twin_and_numpy(math, kind, a, b):
    x = np.random.default_rng(8).normal(0, 2, 210 + 126).astype(np.float32)
    node = ir.MatMul(
        name="n",
        inputs=("a", "b"),
        output="y",
        sizes=(2, 3, 5, 7, 6),
        a=ir.Matrices(210, a),
        b=ir.Matrices(126, b),
        out=ir.Matrices(180, (90, 1, 18, 3)),
        scale=0.3,
    )
    shapes = zip(((2, 3, 5, 7), (2, 3, 7, 6)), (a, b), (x[:210], x[210:]), strict=True)
    first, second = (
        np.lib.stride_tricks.as_strided(part.astype(np.float64), shape, [8 * step for step in steps])
        for shape, steps, part in shapes
    )
    got = math(kind, x)[:180]
    assert np.array_equal(got.view(np.uint32), cpu_operator(node, x[:210], x[210:])[0].view(np.uint32))
    exact = 0.3 * (first @ second).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(got, exact.reshape(-1), rtol=0, atol=1e-5)

# SPDX-License-Identifier: Apache-2.0
"""NumPy twins, bit for bit, of what the CPU computes: `runtime/math.cpp`, `matrices.cpp` and `kernels.cpp`."""

from collections.abc import Callable
from functools import singledispatch

import numpy as np

from firmware_gen import ir
from firmware_gen.ir import Activation
from firmware_gen.operations.windows import Windowed
from hls.arithmetic.fma import fma_float_model, fma_model
from hls.arithmetic.fp32 import canonical_float
from hls.errors import HeepgenError

_F = np.float32
Twin = Callable[..., np.ndarray]


def exp_model(x: np.ndarray) -> np.ndarray:
    """heepstor::exp on float32, element by element."""
    x = np.asarray(x, _F)
    with np.errstate(all="ignore"):
        low, high, nan = x < _F(-103.97208), x > _F(88.72283), np.isnan(x)
        safe = np.where(low | high | nan, _F(0), x)
        rounded = fma_float_model(safe, _F(1.44269504), _F(12582912))
        n = rounded.view(np.int32) - _F(12582912).view(np.int32)
        k = rounded - _F(12582912)
        r = fma_float_model(k, _F(2.12194440e-4), fma_float_model(k, _F(-0.693359375), safe))
        p = np.full_like(r, 1.9875691500e-4)
        for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
            p = fma_float_model(p, r, _F(c))
        p = fma_float_model(p, r * r, r) + _F(1)
        half = (np.abs(n) // 2) * np.sign(n)  # C++ division truncates
        y = p * _power_of_two(half) * _power_of_two(n - half)
        return np.select([nan, high, low], [_F(np.nan), _F(np.inf), _F(0)], y).astype(_F)


def log_model(x: np.ndarray) -> np.ndarray:
    """heepstor::log on float32, element by element."""
    x = np.asarray(x, _F)
    subnormal = np.abs(x) < np.finfo(_F).tiny
    with np.errstate(invalid="ignore"):  # signalling NaN
        bits = (x * np.where(subnormal, _F(2.0**23), _F(1))).view(np.uint32)
    n = (bits >> np.uint32(23)).astype(np.int32) - np.where(subnormal, 149, 126)
    m = (bits & np.uint32(0x7FFFFF) | np.uint32(0x3F000000)).view(_F)
    small = m < _F(0.707106781)
    k = (n - small).astype(_F)
    r = np.where(small, m + m, m) - _F(1)
    square = r * r
    p = np.full_like(r, 7.0376836292e-2)
    for c in (
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ):
        p = p * r + _F(c)
    p = p * r * square
    p = p + k * _F(-2.12194440e-4)
    p = p - square * _F(0.5)
    special = [x == 0, x == np.inf, ~(x > 0)]
    return np.select(special, [_F(-np.inf), _F(np.inf), _F(np.nan)], r + p + k * _F(0.693359375)).astype(_F)


def _power_of_two(n: np.ndarray) -> np.ndarray:
    return ((n + 127).astype(np.uint32) << np.uint32(23)).view(_F)


@singledispatch
def cpu_operator(node: ir.OnCpu, *inputs: np.ndarray) -> np.ndarray:
    """What the CPU computes for a node, float32 in PyTorch's order. HeepgenError for a class without a twin."""
    raise HeepgenError(f"layer {node.name}: {node.op} has no bit-exact model; models/cpu_model.py lacks it")


def _twin(kind: type[ir.OnCpu]) -> Callable[[Twin], Twin]:
    """Registers a function of the inputs alone as the twin of a class."""

    def register(function: Twin) -> Twin:
        cpu_operator.register(kind, lambda node, *inputs: function(*inputs))
        return function

    return register


@_twin(ir.Product)
def multiply_model(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """heepstor::multiply on float32 of matching shapes."""
    with np.errstate(all="ignore"):
        return canonical_float(np.asarray(x, _F) * np.asarray(y, _F))


@_twin(ir.Slopes)
def multiply_negative_model(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """heepstor::multiply_negative on float32 of matching shapes."""
    return np.where(np.signbit(x), multiply_model(x, y), x)


@cpu_operator.register
def _(node: ir.Apply, x: np.ndarray) -> np.ndarray:
    return node.function.compute(x)


@cpu_operator.register
def _(node: ir.Softmax, x: np.ndarray) -> np.ndarray:
    model = log_softmax_model if node.log else softmax_model
    return np.ascontiguousarray(np.moveaxis(model(np.moveaxis(x, node.axis, -1)), -1, node.axis))


def softmax_model(x: np.ndarray) -> np.ndarray:
    """heepstor::softmax over the last dimension of float32 x."""
    x = np.ascontiguousarray(x, _F)
    with np.errstate(all="ignore"):
        _, e, total = _exponentials(x.reshape(-1, x.shape[-1]))
        return canonical_float(e * (_F(1) / total)).reshape(x.shape)


def log_softmax_model(x: np.ndarray) -> np.ndarray:
    """heepstor::log_softmax over the last dimension of float32 x."""
    x = np.ascontiguousarray(x, _F)
    with np.errstate(all="ignore"):
        below, _, total = _exponentials(x.reshape(-1, x.shape[-1]))
        return canonical_float(below - log_model(total)).reshape(x.shape)


def _exponentials(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows less their largest element, the exponentials of that, and their sums, each taken in order."""
    largest = rows[:, 0].copy()
    for column in rows.T[1:]:
        largest = np.where(column > largest, column, largest)
    below = rows - largest[:, None]
    e = exp_model(below)
    total = np.zeros(len(rows), _F)
    for column in e.T:
        total = total + column
    return below, e, total[:, None]


@cpu_operator.register
def matmul_model(node: ir.MatMul, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """heepstor::matmul, of any number of copies of the tensors: (copies, elements of the output): every element a chain
    of fused multiply-adds from +0 over the columns of a, times the scale."""
    x, y = (
        np.asarray(tensor, _F).reshape(-1, own.size)[:, own.elements(shape)]
        for tensor, own, shape in zip((a, b), (node.a, node.b), node.shapes, strict=False)
    )
    acc = np.zeros((max(len(x), len(y)), *node.shapes[2]), _F)
    for k in range(node.sizes[3]):
        acc = fma_float_model(x[..., :, k, None], y[..., k, None, :], acc)
    out = np.empty((len(acc), node.out.size), _F)
    with np.errstate(all="ignore"):
        out[:, node.out.elements(node.shapes[2])] = canonical_float(acc * _F(node.scale))
    return out


@cpu_operator.register
def planes_model(node: ir.Planes, b: np.ndarray) -> np.ndarray:
    """heepstor::to_planes, of any number of copies of the tensor: (copies, words of the output)."""
    own, tiles = node.product, node.tiles
    outer, inner, _, depth, columns = own.sizes
    matrices = np.asarray(b, _F).reshape(-1, own.b.size)[:, own.b.elements(own.shapes[1])]
    matrices = matrices.reshape(-1, depth, columns)
    with np.errstate(all="ignore"):
        largest = (np.ascontiguousarray(matrices).view(np.uint32) & 0x7FFFFFFF).max(1).view(_F)
        normal = (largest >= _F(2.0**-100)) & (largest < np.inf)
        inverse = np.where(normal, _F(ir.PLANE_RANGE) / largest, _F(0))
        factors = np.where(normal, canonical_float(largest * _F(own.scale / ir.PLANE_RANGE)), _F(0))
        factors = np.where(largest < np.inf, factors, _F(np.nan))
    finite = np.where(normal[:, None], matrices, _F(0))
    rounded = fma_float_model(
        finite, np.broadcast_to(inverse[:, None], finite.shape), np.full_like(finite, ir.PLANE_ONE)
    )
    numbers = rounded.view(np.int32) - np.asarray(ir.PLANE_ONE, _F).view(np.int32)
    high, low = (numbers + 128) >> 8, numbers & 255
    words = np.zeros((len(matrices), 4 * tiles.words(depth, columns)), np.uint8)
    first = 4 * tiles.factor_words(columns)
    words[:, : 4 * columns] = np.ascontiguousarray(factors, _F).view(np.uint8)
    for plane in (high, low):
        words[:, first + tiles.places(depth, columns)] = plane.astype(np.uint8)
        first += 4 * tiles.plane_words(depth, columns)
    return words.view(_F).reshape(len(matrices) // (outer * inner), -1)


def inverse_sqrt_model(x: np.ndarray) -> np.ndarray:
    """heepstor::inverse_sqrt on float32, element by element."""
    x = np.asarray(x, _F)
    with np.errstate(all="ignore"):
        small = x < np.finfo(_F).tiny
        safe = np.where(small, x * _F(2.0**24), x)
        y = (np.int32(0x5F3759DF) - (safe.view(np.int32) >> 1)).view(_F)
        half = safe * _F(0.5)
        for _ in range(4):
            y = y + y * (_F(0.5) - half * y * y)
        y = np.where(small, y * _F(2.0**12), y)
        special = [x == 0, x == np.inf, ~(x > 0)]
        result: np.ndarray = np.select(special, [np.copysign(_F(np.inf), x), _F(0), _F(np.nan)], y).astype(_F)
        return result


def square_root_model(x: np.ndarray) -> np.ndarray:
    """heepstor::square_root on float32, element by element."""
    x = np.asarray(x, _F)
    with np.errstate(all="ignore"):
        return np.where((x == 0) | (x == np.inf), x, canonical_float(x * inverse_sqrt_model(x)))


def reciprocal_model(x: np.ndarray) -> np.ndarray:
    """heepstor::reciprocal on float32, element by element."""
    with np.errstate(all="ignore"):
        return canonical_float(_F(1) / np.asarray(x, _F))


def nearest_model(x: np.ndarray) -> np.ndarray:
    """heepstor::round on float32, element by element: of two integers the even one."""
    x = np.asarray(x, _F)
    with np.errstate(invalid="ignore"):
        return canonical_float(np.rint(x))


def floor_model(x: np.ndarray) -> np.ndarray:
    """heepstor::floor on float32, element by element."""
    with np.errstate(invalid="ignore"):
        return canonical_float(np.floor(np.asarray(x, _F)))


def ceil_model(x: np.ndarray) -> np.ndarray:
    """heepstor::ceil on float32, element by element."""
    with np.errstate(invalid="ignore"):
        return canonical_float(np.ceil(np.asarray(x, _F)))


def trunc_model(x: np.ndarray) -> np.ndarray:
    """heepstor::trunc on float32, element by element."""
    with np.errstate(invalid="ignore"):
        return canonical_float(np.trunc(np.asarray(x, _F)))


_TURNS = (0x00000000, 0x28BE60DB, 0x9391054A, 0x7F09D5F4, 0x7D4D3770, 0x36D8A566, 0x4F10E410, 0x7F9458EA)


def _far_quadrant(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """far_quadrant of math.cpp: quadrants, and what is left of x, from 2**17 on."""
    bits = x.view(np.uint32).astype(np.uint64)
    significand = (bits & np.uint64(0x7FFFFF)) << np.uint64(8) | np.uint64(1 << 31)
    power = (bits >> np.uint64(23) & np.uint64(255)).astype(np.int64) - 126
    word, shift = power >> 5, (power & 31).astype(np.uint64)
    low, turns = np.uint64(0xFFFFFFFF), np.array(_TURNS, np.uint64)
    part = [(turns[word + i] << np.uint64(32) | turns[word + i + 1]) >> (np.uint64(32) - shift) & low
            for i in range(3)]  # fmt: skip
    product = (significand * part[2] >> np.uint64(32)) + significand * part[1]
    product = product + ((significand * part[0] & low) << np.uint64(32))
    quadrant = (product + np.uint64(1 << 61)) >> np.uint64(62)
    product = product << np.uint64(2)
    below = product >> np.uint64(63) == 1
    product = np.where(below, np.uint64(0) - product, product)
    scale = np.full(x.shape, -64)
    for step in (32, 16, 8, 4, 2, 1):
        small = (product >> np.uint64(64 - step)) == 0
        product = np.where(small, product << np.uint64(step), product)
        scale = scale - np.where(small, step, 0)
    size = (product >> np.uint64(32)).astype(np.uint32).astype(_F)
    turned = fma_float_model(size, _F(1.57079637), size * _F(-4.37113883e-8))
    turned = turned * _power_of_two(np.maximum(scale + 32, -126))
    return quadrant.astype(np.uint32), np.where(below, -turned, turned)


def _sine(x: np.ndarray, quarter: int) -> np.ndarray:
    """sine of math.cpp on float32: of x, or of a quarter of a turn more."""
    x = np.asarray(x, _F)
    size = np.abs(x)
    with np.errstate(all="ignore"):
        near, far = size < _F(2.0**17), (size >= _F(2.0**17)) & (size < np.inf)
        safe = np.where(near, x, _F(0))
        rounded = fma_float_model(safe, _F(0.636619747), _F(12582912))
        k = rounded - _F(12582912)
        quadrant = rounded.view(np.uint32) - _F(12582912).view(np.uint32)
        r = safe
        for c in (-1.57079601, -3.13916473e-7, -5.39030253e-15):
            r = fma_float_model(k, _F(c), r)
        far_quadrant, far_rest = _far_quadrant(np.where(far, size, _F(2.0**17)))
        quadrant = np.where(far, np.where(x < 0, np.uint32(0) - far_quadrant, far_quadrant), quadrant)
        r = np.where(far, np.where(x < 0, -far_rest, far_rest), r)
        quadrant = quadrant + np.uint32(quarter)
        square = r * r
        cosine = np.full_like(r, 2.44677067e-5)
        for c in (-1.38877297e-3, 4.16666567e-2, -0.5, 1.0):
            cosine = fma_float_model(cosine, square, _F(c))
        y = np.full_like(r, 2.86567956e-6)
        for c in (-1.98559923e-4, 8.33338592e-3, -1.66666672e-1):
            y = fma_float_model(y, square, _F(c))
        y = np.where(quadrant & np.uint32(1), cosine, fma_float_model(y, r * square + _F(0), r))
        y = np.where(quadrant & np.uint32(2), -y, y)
        return canonical_float(np.where(near | far, y, _F(np.nan)))


def sin_model(x: np.ndarray) -> np.ndarray:
    """heepstor::sin on float32, element by element."""
    return _sine(x, 0)


def cos_model(x: np.ndarray) -> np.ndarray:
    """heepstor::cos on float32, element by element."""
    return _sine(x, 1)


ELEMENTARY = {
    "exp": exp_model,
    "log": log_model,
    "reciprocal": reciprocal_model,
    "rsqrt": inverse_sqrt_model,
    "sqrt": square_root_model,
    "floor": floor_model,
    "ceil": ceil_model,
    "trunc": trunc_model,
    "round": nearest_model,
    "sin": sin_model,
    "cos": cos_model,
}


@cpu_operator.register
def _(node: ir.Elementary, x: np.ndarray) -> np.ndarray:
    return ELEMENTARY[node.function.name](x)


@cpu_operator.register
def normalise_model(node: ir.Normalise, x: np.ndarray) -> np.ndarray:
    """heepstor::normalise, or root_mean_square, on float32 x of any shape."""
    rows = np.ascontiguousarray(x, _F).reshape(-1, node.count)
    with np.errstate(all="ignore"):
        if node.centred:
            rows = canonical_float(rows - _mean(rows, lambda sums, part: sums + part))
        variance = _mean(rows, lambda sums, part: fma_float_model(part, part, sums))
        return canonical_float(rows * inverse_sqrt_model(variance + _F(node.eps))).reshape(x.shape)


def _mean(rows: np.ndarray, term: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """(rows, 1): what four interleaved sums that `term` adds to give together, over the count."""
    sums = np.zeros((len(rows), 4), _F)
    for first in range(0, rows.shape[1], 4):
        part = rows[:, first : first + 4]
        sums[:, : part.shape[1]] = term(sums[:, : part.shape[1]], part)
    s0, s1, s2, s3 = sums.T
    return canonical_float(((s0 + s1) + (s2 + s3)) / _F(rows.shape[1]))[:, None]


def combine_model(combine: str, y: np.ndarray, aux: np.ndarray) -> np.ndarray:
    """kernels::combined on float32."""
    with np.errstate(all="ignore"):
        match combine:
            case "multiply":
                return multiply_model(y, aux)
            case "negative":
                return multiply_negative_model(y, aux)
            case "maximum":
                return np.where((aux > y) | np.isnan(aux), aux, y)
        return canonical_float(y + aux)


def finish_model(
    act: Activation, residual: str, y: np.ndarray, aux: np.ndarray | None, combine: str = "add"
) -> np.ndarray:
    """The end of every kernel: activation, and the second operand `aux` before or after it."""
    if aux is None or residual == "none":
        return act.compute(y)
    if residual == "before_act":
        return act.compute(combine_model(combine, y, aux))
    return combine_model(combine, act.compute(y), aux)


def channels_first(op: Windowed, channel_stride: int) -> bool:
    """Whether `dense` sums each kernel row channel by channel: for inputs in PyTorch's order."""
    return channel_stride != 1


def window_model(op: Windowed, x: np.ndarray, first_channels: bool, aux: np.ndarray | None = None) -> np.ndarray:
    """One image of a kernel: float32 (C, H, W) -> (groups * cout, H', W'). `first_channels` as in `dense`."""
    if op.weight is None:
        return _pool_model(op, x, aux)
    if op.diagonal:
        weight = op.weight[:, None, :, :, None]  # channel, 1, ky, kx, 1
        groups, outputs = op.channels, 1
    else:
        weight, groups, outputs = op.weight, op.groups, op.cout
    size = op.channels // groups
    acc = np.zeros((groups, outputs, op.out_height, op.out_width), np.uint32)
    kh, kw = op.kernel
    order = ((ky, kx, c) for ky in range(kh) for kx in range(kw) for c in range(size))
    if first_channels and not op.diagonal:
        order = ((ky, kx, c) for ky in range(kh) for c in range(size) for kx in range(kw))
    bits = np.ascontiguousarray(x, _F).view(np.uint32)
    for ky, kx, c in order:
        rows, cols, inside = _tap(op, ky, kx)
        value = bits[c::size][:, rows[:, None], cols][:, None]
        w = weight[:, :, ky, kx, c][:, :, None, None]
        acc = np.where(inside, fma_model(value, w, acc), acc)
    scale = np.asarray(op.scale, _F).reshape(groups, outputs, 1, 1)
    bias = np.asarray(op.bias, _F).reshape(groups, outputs, 1, 1)
    with np.errstate(all="ignore"):
        y = canonical_float(canonical_float(acc.view(_F) * scale) + bias)
    y = y.reshape(-1, op.out_height, op.out_width)
    return finish_model(op.act, op.residual, y, aux, op.combine)


def _tap(op: Windowed, ky: int, kx: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Input rows and columns (clipped) of a tap for all outputs, and whether each lies inside the input."""
    rows = np.arange(op.out_height) * op.stride[0] - op.top + ky * op.dilation[0]
    cols = np.arange(op.out_width) * op.stride[1] - op.left + kx * op.dilation[1]
    inside = ((rows >= 0) & (rows < op.height))[:, None] & (cols >= 0) & (cols < op.width)
    return np.clip(rows, 0, op.height - 1), np.clip(cols, 0, op.width - 1), inside


def _pool_model(op: Windowed, x: np.ndarray, aux: np.ndarray | None) -> np.ndarray:
    taps = [(ky, kx) for ky in range(op.kernel[0]) for kx in range(op.kernel[1])]
    acc: np.ndarray = np.zeros((op.channels, op.out_height, op.out_width), _F)
    if op.maximum:
        outside = ~np.logical_and.reduce([_tap(op, *t)[2] for t in taps])
        acc = np.broadcast_to(np.where(outside, _F(op.pad_value), _F(0)), (op.channels, *outside.shape))
        empty = ~outside
    with np.errstate(all="ignore"):
        for ky, kx in taps:
            rows, cols, inside = _tap(op, ky, kx)
            value = np.asarray(x, _F)[:, rows[:, None], cols]
            if op.maximum:
                acc = np.where(inside & (empty | (value > acc) | np.isnan(value)), value, acc)
                empty = empty & ~inside
            else:
                acc = np.where(inside, canonical_float(acc + value), acc)
        y = acc if op.maximum else canonical_float(acc * _F(op.scale))
    return finish_model(op.act, op.residual, y, aux, op.combine)

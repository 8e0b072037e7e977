# SPDX-License-Identifier: Apache-2.0
"""Epilogue: from an accumulator entry to the stored output. Scale, bias, residual, activation."""

import numpy as np
from myhdl import Signal, always, always_comb, block, concat, intbv
from numpy.typing import ArrayLike

from hls.arithmetic.fp32 import FP32_ADD_LATENCY, FP32_MUL_LATENCY, NAN, ONE, add_model, fp32_add, fp32_mul, mul_model
from hls.arithmetic.function import FUNCTION_LATENCY, function_lane, function_model
from hls.lib.delay import shift_enabled
from hls.lib.unit import unit

_AFFINE = FP32_MUL_LATENCY + FP32_ADD_LATENCY
_ACTIVATION = FP32_MUL_LATENCY + 1

EPILOGUE_LATENCY = _AFFINE + _ACTIVATION + FP32_ADD_LATENCY


def epilogue_model(
    acc: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    res: ArrayLike | None = None,
    act_before_res: bool = False,
    slope: ArrayLike | None = None,
    low: ArrayLike = -np.inf,
    high: ArrayLike = np.inf,
    combine: str = "add",
    table: np.ndarray | None = None,
) -> np.ndarray:
    """act(acc * scale + bias + res), or act(acc * scale + bias) + res if act_before_res; each step is rounded.

    res None: nothing is added. combine "multiply": the product with res instead of the sum; "negative": the product
    where the sign is set, elsewhere what res would meet. act(x) is x * slope where the sign of x is set (slope None:
    x), then `high` if above it, else `low` if below it, in the total order where -0 < +0; NaN stays; then, of that,
    the function whose words are `table` (`function_model`), if there is one. Arguments broadcast; they are uint32 bit
    patterns or floating-point values (taken as float32), the result is uint32. Raises TypeError for other integers,
    which could mean either.
    """
    acc, scale, bias, low, high = map(_bits, (acc, scale, bias, low, high))
    y = add_model(mul_model(acc, scale), bias)
    if res is not None and not act_before_res:
        y = _combined(y, _bits(res), combine)
    if slope is not None:
        y = np.where(y >> 31 == 1, mul_model(y, _bits(slope)), y)
    key, nan = _order(y), y == NAN
    y = np.where((key < _order(low)) & ~nan, low, np.where((key > _order(high)) & ~nan, high, y))
    if table is not None:
        y = function_model(y, table)
    if res is not None and act_before_res:
        y = _combined(y, _bits(res), combine)
    return y


def _combined(y: np.ndarray, res: np.ndarray, combine: str) -> np.ndarray:
    if combine == "add":
        return add_model(y, res)
    return mul_model(y, res if combine == "multiply" else np.where(y >> 31 == 1, res, np.uint32(ONE)))


def _bits(value: ArrayLike) -> np.ndarray:
    value = np.asarray(value)
    if value.dtype == np.uint32:
        return value
    if not np.issubdtype(value.dtype, np.floating):
        raise TypeError(f"FP32 operand of type {value.dtype}: must be floating point, or uint32 bit patterns")
    return value.astype(np.float32).view(np.uint32)


def _order(bits: np.ndarray) -> np.ndarray:
    """uint32 keys in the total order of FP32 patterns."""
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(0x80000000))


@unit(out="out_valid y")
def epilogue_lane(
    clk,
    rst,
    in_valid,
    acc,
    scale,
    bias,
    res,
    res_en,
    act_before_res,
    slope_en,
    slope,
    low,
    high,
    function_en,
    slot,
    table,
    multiply,
    negative,
    out_valid,
    y,
    *,
    config,
):
    """`epilogue_model` on one value per cycle, EPILOGUE_LATENCY cycles later; with a function FUNCTION_LATENCY more.

    acc, scale, bias and res are sampled together. The other inputs belong to the layer: they may change only while no
    value is inside, as may the words that ``table`` brings. There is one adder for res, with `config.multiply` a
    multiplier beside it (multiply: its product is taken; negative: of values whose sign is set), and one activation,
    with `config.functions` a function unit behind it (function_en: of the table in ``slot``); act_before_res sets which
    comes first. Without a value inside, no register of the arithmetic moves. What is not there has None for its inputs.
    """
    product, bias_now, affine = (Signal(intbv(0)[32:]) for _ in range(3))
    addend, addend_early, addend_late, add_a, add_b, added = (Signal(intbv(0)[32:]) for _ in range(6))
    x, factor, scaled, activated = (Signal(intbv(0)[32:]) for _ in range(4))
    valids = Signal(intbv(0)[EPILOGUE_LATENCY:])
    en = Signal(bool(0))
    combined, settled, addend_after, leaving, moving, parts = added, activated, addend_late, out_valid, en, []
    if config.functions:
        settled, addend_after = (Signal(intbv(0)[32:]) for _ in range(2))
        leaving, moving = (Signal(bool(0)) for _ in range(2))
        parts += [
            _occupy(clk, rst, function_en, leaving, moving, out_valid, en),
            _apply(clk, en, function_en, slot, table, activated, settled),
            _hold(clk, en, function_en, addend_late, addend_after),
        ]
    if config.multiply:
        combined = Signal(intbv(0)[32:])
        parts.append(_choose_product(clk, en, multiply, negative, add_a, add_b, added, combined))

    @always(clk.posedge)
    def follow():
        if rst:
            valids.next = 0
        else:
            valids.next = concat(valids[EPILOGUE_LATENCY - 1 :], in_valid)

    @always_comb
    def steer():
        addend.next = res if res_en else concat(True, intbv(0)[31:])  # adding -0 changes nothing
        x.next = affine if act_before_res else combined
        add_a.next = settled if act_before_res else affine
        add_b.next = addend_after if act_before_res else addend_early
        y.next = combined if act_before_res else settled
        leaving.next = valids[EPILOGUE_LATENCY - 1]
        moving.next = in_valid or valids != 0

    @always_comb
    def choose_factor():
        factor.next = slope if slope_en and x[31] else intbv(0x3F800000)[32:]

    scale_product = fp32_mul(clk, en, acc, scale, product)
    bias_delay = shift_enabled(clk, en, bias, bias_now, 32, FP32_MUL_LATENCY)
    bias_sum = fp32_add(clk, en, product, bias_now, affine)
    residual_delay = shift_enabled(clk, en, addend, addend_early, 32, _AFFINE)
    residual_delay_more = shift_enabled(clk, en, addend_early, addend_late, 32, _ACTIVATION)
    residual_sum = fp32_add(clk, en, add_a, add_b, added)
    slope_product = fp32_mul(clk, en, x, factor, scaled)
    limits = _clamp(clk, en, scaled, low, high, activated)
    return (
        parts,
        follow,
        steer,
        choose_factor,
        scale_product,
        bias_delay,
        bias_sum,
        residual_delay,
        residual_delay_more,
        residual_sum,
        slope_product,
        limits,
    )


@block
def _occupy(clk, rst, function_en, leaving, moving, out_valid, en):
    """Where values are in the cycles that the function takes: those ``leaving`` leave then, and all move until then."""
    valids = Signal(intbv(0)[FUNCTION_LATENCY:])

    @always(clk.posedge)
    def follow():
        if rst:
            valids.next = 0
        else:
            valids.next = concat(valids[FUNCTION_LATENCY - 1 :], leaving and function_en)

    @always_comb
    def steer():
        out_valid.next = valids[FUNCTION_LATENCY - 1] if function_en else leaving
        en.next = moving or valids != 0

    return follow, steer


@block
def _apply(clk, en, function_en, slot, table, x, y):
    """``y`` is ``x``, or with ``function_en`` that of it, FUNCTION_LATENCY cycles later."""
    busy, result = Signal(bool(0)), Signal(intbv(0)[32:])

    @always_comb
    def choose():
        busy.next = en and function_en
        y.next = result if function_en else x

    return choose, function_lane(clk, busy, x, slot, table, result)


@block
def _hold(clk, en, function_en, d, q):
    """``d``, FUNCTION_LATENCY cycles later with ``function_en``."""
    late = Signal(intbv(0)[32:])

    @always_comb
    def choose():
        q.next = late if function_en else d

    return choose, shift_enabled(clk, en, d, late, 32, FUNCTION_LATENCY)


@block
def _choose_product(clk, en, multiply, negative, a, b, total, y):
    """``y`` is ``total``, their sum, or the product of ``a`` and ``b``, FP32_ADD_LATENCY cycles later."""
    busy = Signal(bool(0))
    factor, product, late_product = (Signal(intbv(0)[32:]) for _ in range(3))

    @always_comb
    def choose():
        busy.next = en and multiply
        factor.next = intbv(ONE)[32:] if negative and not a[31] else b
        y.next = late_product if multiply else total

    late = shift_enabled(clk, busy, product, late_product, 32, FP32_ADD_LATENCY - FP32_MUL_LATENCY)
    return choose, fp32_mul(clk, busy, a, factor, product), late


@block
def _clamp(clk, en, x, low, high, y):
    @always(clk.posedge)
    def clamp():
        key = intbv(0)[32:]
        key_low = intbv(0)[32:]
        key_high = intbv(0)[32:]
        if en:
            nan = x[31:23] == 255 and x[23:] != 0
            key[:] = ~x if x[31] else concat(True, x[31:])
            key_low[:] = ~low if low[31] else concat(True, low[31:])
            key_high[:] = ~high if high[31] else concat(True, high[31:])
            if key < key_low:  # not NaN: `NAN` is above every number
                y.next = low
            elif key > key_high and not nan:
                y.next = high
            else:
                y.next = x

    return clamp

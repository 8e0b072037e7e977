# SPDX-License-Identifier: Apache-2.0
"""Epilogue: from an accumulator entry to the stored output. Scale, bias, residual, activation."""

from typing import Any

import numpy as np
from myhdl import ConcatSignal, Signal, always, always_comb, block, concat, intbv
from numpy.typing import ArrayLike

from hls.arithmetic.fp32 import (
    FP32_ADD_LATENCY,
    FP32_MUL_LATENCY,
    NAN,
    NEG_ZERO,
    ONE,
    add_model,
    fp32_add,
    fp32_mul,
    mul_model,
)
from hls.arithmetic.function import FUNCTION_LATENCY, function_lane, function_model
from hls.lib.delay import shift_enabled
from hls.lib.unit import unit
from hls.lib.wiring import join

_AFFINE = FP32_MUL_LATENCY + FP32_ADD_LATENCY
_ACTIVATION = FP32_MUL_LATENCY + 1

ACTIVATION_FLAGS, ACTIVATION_NUMBERS = "slope_en", "slope low high"
"""Fields of a layer that are ports of a lane, by the same names: what its activation is, but for a function."""

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


def activation_arguments(layer: Any) -> dict[str, Any]:
    """What `epilogue_model` takes for ACTIVATION_FLAGS and ACTIVATION_NUMBERS of a layer."""
    return {"slope": layer.slope if layer.slope_en else None, "low": layer.low, "high": layer.high}


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


class _Values:
    """Between the stages of a lane, which the order of its steps connects.

    ``addend_early`` is that of ``affine``, ``addend_late`` that of the sum of both; ``addend_settled`` is as late as
    ``settled`` where the activation, whose function is in the latter, comes first.
    """

    def __init__(self) -> None:
        self.affine, self.add_a, self.add_b, self.added = (Signal(intbv(0)[32:]) for _ in range(4))
        self.x, self.factor, self.scaled = (Signal(intbv(0)[32:]) for _ in range(3))
        self.unlimited, self.activated, self.settled = (Signal(intbv(0)[32:]) for _ in range(3))
        self.addend_early, self.addend_late, self.addend_settled = (Signal(intbv(0)[32:]) for _ in range(3))


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
    value is inside, as may the words that ``table`` brings. There is one adder for res, and one activation, with
    `config.functions` a function unit behind it (function_en: of the table in ``slot``); act_before_res sets which
    comes first. With `config.multiply` the slope's multiplier can have res instead (multiply; negative: for values
    whose sign is set), and slope_en is low then. Without a value inside, no register of the arithmetic moves. What is
    not there has None for its inputs.
    """
    v = _Values()
    product, bias_now = (Signal(intbv(0)[32:]) for _ in range(2))
    valids = Signal(intbv(0)[EPILOGUE_LATENCY:])
    en, adding_res, inside = (Signal(bool(0)) for _ in range(3))
    adding, multiplying = (ConcatSignal(*[en] * stages) for stages in (FP32_ADD_LATENCY, FP32_MUL_LATENCY))
    leaving, moving, busy, parts = out_valid, en, inside, []
    if config.functions:
        leaving, moving, busy, function = (Signal(bool(0)) for _ in range(4))
        parts += [
            _near(clk, busy, function_en, function),
            _occupy(
                clk=clk,
                rst=rst,
                function_en=function,
                leaving=leaving,
                moving=moving,
                inside=inside,
                out_valid=out_valid,
                en=en,
                busy=busy,
            ),
            _apply(clk, en, function, slot, table, v.activated, v.settled),
            _hold(clk, adding_res, function, v.addend_late, v.addend_settled),
        ]
    else:
        parts += [join([v.activated], v.settled), join([v.addend_late], v.addend_settled)]
    if config.multiply:
        parts.append(
            _sum_or_product(
                clk=clk,
                en=en,
                busy=busy,
                res_en=res_en,
                act_before_res=act_before_res,
                multiply=multiply,
                negative=negative,
                slope_en=slope_en,
                slope=slope,
                v=v,
                y=y,
            )
        )
    else:
        parts.append(
            _sum(
                clk=clk,
                busy=busy,
                res_en=res_en,
                act_before_res=act_before_res,
                slope_en=slope_en,
                slope=slope,
                v=v,
                y=y,
            )
        )

    @always(clk.posedge)
    def follow():
        if rst:
            valids.next = 0
            inside.next = False
        else:
            valids.next = concat(valids[EPILOGUE_LATENCY - 1 :], in_valid)
            inside.next = valids[EPILOGUE_LATENCY - 1 :] != 0 or in_valid

    @always_comb
    def steer():
        adding_res.next = en and res_en
        leaving.next = valids[EPILOGUE_LATENCY - 1]
        moving.next = in_valid or inside

    return (
        parts,
        follow,
        steer,
        fp32_mul(clk, multiplying, acc, scale, product),
        shift_enabled(clk, en, bias, bias_now, 32, FP32_MUL_LATENCY),
        fp32_add(clk, adding, product, bias_now, v.affine),
        shift_enabled(clk, adding_res, res, v.addend_early, 32, _AFFINE),
        shift_enabled(clk, adding_res, v.addend_early, v.addend_late, 32, _ACTIVATION),
        fp32_add(clk, adding, v.add_a, v.add_b, v.added),
        fp32_mul(clk, multiplying, v.x, v.factor, v.scaled),
        _clamp(clk, en, v.unlimited, low, high, v.activated),
    )


@block
def _near(clk, busy, of_layer, here):
    """What is the layer's, in a register of the lane's own, which no tool joins with that of the next lane."""

    @always(clk.posedge)
    def register():
        if not busy:
            here.next = of_layer

    return register


@block
def _sum(clk, busy, res_en, act_before_res, slope_en, slope, v, y):
    """Sum, slope, clamp; or slope, clamp, sum."""
    sum_last, adds = (Signal(bool(0)) for _ in range(2))

    @always(clk.posedge)
    def register():
        if not busy:
            sum_last.next = act_before_res
            adds.next = res_en

    @always_comb
    def order():
        v.add_a.next = v.settled if sum_last else v.affine
        v.add_b.next = v.addend_settled if sum_last else v.addend_early
        v.x.next = v.affine if sum_last else v.added
        v.unlimited.next = v.scaled
        y.next = v.added if sum_last else v.settled
        if not adds:
            v.add_b.next = NEG_ZERO  # changes nothing

    @always_comb
    def choose_factor():
        v.factor.next = slope if slope_en and v.x[31] else intbv(ONE)[32:]

    return register, order, choose_factor


@block
def _sum_or_product(clk, en, busy, res_en, act_before_res, multiply, negative, slope_en, slope, v, y):
    """`_sum`; or with -0 instead of the addend: sum, product, clamp; or sum, clamp, product."""
    sum_last, product_last, adds, by_sign, always_changed = (Signal(bool(0)) for _ in range(5))
    changed = Signal(bool(0))
    addend_last, other_factor = (Signal(intbv(0)[32:]) for _ in range(2))

    @always(clk.posedge)
    def register():
        if not busy:
            sum_last.next = act_before_res and not multiply
            product_last.next = act_before_res and multiply
            adds.next = res_en and not multiply
            by_sign.next = slope_en or negative
            always_changed.next = multiply and not slope_en and not negative

    @always_comb
    def order():
        v.add_a.next = v.settled if sum_last else v.affine
        v.add_b.next = v.addend_settled if sum_last else v.addend_early
        v.x.next = v.affine if sum_last else v.added
        v.unlimited.next = v.scaled
        y.next = v.added if sum_last else v.settled
        if not adds:
            v.add_b.next = NEG_ZERO  # changes nothing
        if product_last:
            v.x.next = v.settled
            v.unlimited.next = v.added
            y.next = v.scaled

    @always_comb
    def choose_factor():
        changed.next = always_changed or (by_sign and v.x[31])
        v.factor.next = ONE
        if changed:
            v.factor.next = other_factor

    @always_comb
    def choose_other():
        other_factor.next = slope
        if product_last:
            other_factor.next = addend_last
        elif multiply:
            other_factor.next = v.addend_late

    chosen = order, choose_factor, choose_other
    return register, chosen, shift_enabled(clk, en, v.addend_settled, addend_last, 32, 1)


@block
def _occupy(clk, rst, function_en, leaving, moving, inside, out_valid, en, busy):
    """Where values are in the cycles that the function takes: those ``leaving`` leave then, and all move until then."""
    valids, within = Signal(intbv(0)[FUNCTION_LATENCY:]), Signal(bool(0))

    @always(clk.posedge)
    def follow():
        if rst:
            valids.next = 0
            within.next = False
        else:
            valids.next = concat(valids[FUNCTION_LATENCY - 1 :], leaving and function_en)
            within.next = valids[FUNCTION_LATENCY - 1 :] != 0 or (leaving and function_en)

    @always_comb
    def steer():
        out_valid.next = valids[FUNCTION_LATENCY - 1] if function_en else leaving
        en.next = moving or within
        busy.next = inside or within

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

# SPDX-License-Identifier: Apache-2.0
"""Processing elements of the systolic array.

Both have the same interface, but for `some` of the aligned one. Activations and control leave to the right one cycle
after they came in, partial sums leave downwards. A weight waits in a shadow register; `swap`, one cycle ahead of the
first activation that needs it, makes it the active one. `load_diag` loads a diagonal tile: the PE on the diagonal
takes `diag_weight`, the others are switched off. A shadow may be swapped in and overwritten in one cycle.
`valid` comes with an activation; registers of data stay as they are without one. Nor does an activation of zero move:
without `some` what came before it stays, so that neither lane nor multiplier sees an edge, and the product is 0.
"""

from myhdl import Signal, always, block, intbv

from hls.arithmetic.fma import FMA_LATENCY, fp32_int8_fma
from hls.lib.unit import unit

ALIGNED_STEP = 1  # cycles from the partial sum of one row to that of the next
FMA_STEP = FMA_LATENCY


@block
def _weights(clk, swap, load, load_diag, weight, diag_weight, active):
    shadow = Signal(intbv(0)[8:])

    @always(clk.posedge)
    def activate():
        if swap:
            active.next = shadow

    if diag_weight is None:

        @always(clk.posedge)
        def load_or_clear():
            if load_diag:
                shadow.next = 0
            elif load:
                shadow.next = weight

        return activate, load_or_clear

    @always(clk.posedge)
    def load_either():
        if load_diag:
            shadow.next = diag_weight
        elif load:
            shadow.next = weight

    return activate, load_either


@block
def _gate(clk, swap, load, load_diag, gate):
    """The gate bit is double buffered like the weight it belongs to."""
    shadow_gate = Signal(False)

    @always(clk.posedge)
    def activate():
        if swap:
            gate.next = shadow_gate
        if load or load_diag:
            shadow_gate.next = load_diag

    return activate


@block
def _pass_on(clk, moves, left, right):
    valid, a, swap, load, load_diag = left
    valid_out, a_out, swap_out, load_out, load_diag_out = right

    @always(clk.posedge)
    def move():
        valid_out.next = valid
        if moves:
            a_out.next = a
        swap_out.next = swap
        load_out.next = load
        load_diag_out.next = load_diag

    return move


@unit(out="valid_out some_out a_out swap_out load_out load_diag_out psum_out")
def aligned_pe(
    clk,
    valid,
    some,
    a,
    swap,
    load,
    load_diag,
    weight,
    diag_weight,
    psum,
    valid_out,
    some_out,
    a_out,
    swap_out,
    load_out,
    load_diag_out,
    psum_out,
    *,
    diagonal=False,
):
    """psum_out = psum + a * weight, all integers: one DSP slice with its product and sum registers.

    `psum` belongs to the activation of the cycle before. `some`, only with `valid`: the activation is not 0.
    """
    active = Signal(intbv(0)[8:])
    product = Signal(intbv(0, min=psum.min, max=psum.max))
    weights = _weights(clk, swap, load, load_diag, weight, diag_weight if diagonal else None, active)
    left, right = (valid, a, swap, load, load_diag), (valid_out, a_out, swap_out, load_out, load_diag_out)

    @always(clk.posedge)
    def multiply_add():
        some_out.next = some
        if valid:
            product.next = a.signed() * active.signed()
            if not some:
                product.next = 0
        if valid_out:
            psum_out.next = psum + product

    return weights, _pass_on(clk, some, left, right), multiply_add


@unit(out="valid_out a_out swap_out load_out load_diag_out psum_out")
def fma_pe(
    clk,
    valid,
    a,
    swap,
    load,
    load_diag,
    weight,
    diag_weight,
    psum,
    valid_out,
    a_out,
    swap_out,
    load_out,
    load_diag_out,
    psum_out,
    *,
    diagonal=False,
):
    """psum_out = fma(a, weight, psum) in FP32, FMA_STEP cycles later; psum, bit for bit, if switched off."""
    active = Signal(intbv(0)[8:])
    gate = Signal(False)
    weights = _weights(clk, swap, load, load_diag, weight, diag_weight if diagonal else None, active)
    left, right = (valid, a, swap, load, load_diag), (valid_out, a_out, swap_out, load_out, load_diag_out)
    multiply_add = fp32_int8_fma(clk, a, active, gate, psum, psum_out)
    passed = _pass_on(clk, valid, left, right)
    if diagonal:  # never off: its gate is constant
        return weights, passed, multiply_add
    return weights, passed, multiply_add, _gate(clk, swap, load, load_diag, gate)

# SPDX-License-Identifier: Apache-2.0
"""The lanes of a vector on their way into the array: collected as they are written, then sent one by one."""

from myhdl import Signal, always, always_comb, concat, intbv

from hls.arithmetic.aligned import META_BITS, align_lane, larger, true_exponent
from hls.lib.ram import ram
from hls.lib.unit import unit


@unit(out="fp32")
def lane_feed(clk, write, lane, data, reading, last, fp32):
    """FP32 lanes: `data` is written to `lane`; fp32: lane `reading`, +0 beyond `last`, LANE_LATENCY cycles later."""
    bits = len(lane)
    stored = Signal(intbv(0)[32:])
    beyond = Signal(False)

    @always(clk.posedge)
    def clear():
        beyond.next = reading > last
        fp32.next = stored
        if beyond:
            fp32.next = 0

    return ram(clk, write, lane, data, True, reading(bits, 0), stored, width=32, depth=1 << bits), clear


@unit(out="some aligned meta")
def lane_aligner(clk, write, lane, field, start, fp32, some, aligned, meta):
    """Aligns a vector's lanes, one per cycle.

    field: exponent of the lane that is written; lane 0 comes first. `start` comes LANE_LATENCY cycles before lane 0 on
    `fp32`; no lane is written in its cycle. aligned: the lane's integer, ALIGN_STAGES cycles after fp32, if it is not 0
    (`some`). meta: what the normaliser must know of the vector, from LANE_LATENCY cycles after its `start` until as
    long after the next.
    """
    exponent, largest, greater, shared = (Signal(intbv(0)[8:]) for _ in range(4))
    started, lost, coarse, here = (Signal(False) for _ in range(4))

    @always(clk.posedge)
    def maximum():
        if write:
            largest.next = exponent if lane == 0 else greater
        started.next = start
        if started:
            shared.next = largest

    @always_comb
    def tell():
        here.next = fp32[31:] != 0
        meta.next = concat(intbv(0)[META_BITS - 8 :], shared)

    return (
        true_exponent(field, exponent),
        larger(exponent, largest, greater),
        maximum,
        align_lane(
            clk=clk,
            some=here,
            x=fp32,
            exponent_max=shared,
            diag=False,
            some_out=some,
            aligned=aligned,
            lost=lost,
            coarse=coarse,
        ),
        tell,
    )

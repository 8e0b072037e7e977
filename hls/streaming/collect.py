# SPDX-License-Identifier: Apache-2.0
"""Results of the columns, one after the other, and their sums."""

from myhdl import Signal, always, always_comb, block, concat, intbv

from hls.arithmetic.fp32 import FP32_ADD_LATENCY, fp32_add
from hls.lib.delay import delay_line
from hls.lib.mux import choose
from hls.lib.ram import ram
from hls.lib.unit import unit


@unit(out="collected active turn")
def collector(clk, rst, lead, psums, collected, active, turn, *, cols, width):
    """The partial sums of a vector's columns, one per cycle, the first one two cycles after `lead`.

    psums: column c at [width c +: width], to be taken c cycles after column 0's, which is there one cycle after `lead`.
    collected: that of column `turn` one cycle later, where `active`.
    """
    last = cols - 1
    chosen = Signal(intbv(0)[width:])

    @always(clk.posedge)
    def count():
        if rst:
            active.next = False
            turn.next = 0
        elif lead:
            active.next = True
            turn.next = 0
        elif turn == last:
            active.next = False
        else:
            turn.next = turn + 1

    @always(clk.posedge)
    def collect():
        collected.next = chosen

    return count, collect, choose([psums(width * c + width, width * c) for c in range(cols)], turn, chosen)


@unit(out="data")
def sum_buffer(clk, ahead, place, first, result, read, data):
    """`result`, one cycle after `ahead`, is added to the sum at `place`, or with `first` becomes it.

    `first` and `place` come with `ahead`; the sum may be used again `add_latency` cycles later. data: the sum at
    `read`, one cycle later, unless `ahead`.
    """
    alone = Signal(False)
    addend, total = (Signal(intbv(0)[32:]) for _ in range(2))

    @always(clk.posedge)
    def remember():
        alone.next = first

    @always_comb
    def operand():
        addend.next = data
        if alone:  # adding -0 changes nothing
            addend.next = concat(True, intbv(0)[31:])

    add = fp32_add(clk, intbv(15)[FP32_ADD_LATENCY:], result, addend, total)
    return remember, operand, add, _buffer(clk, ahead, place, total, read, data, 1 + FP32_ADD_LATENCY)


@unit(out="data")
def result_buffer(clk, ahead, place, result, read, data):
    """`result`, one cycle after `ahead`, is kept at `place`; data: what is kept at `read`, one cycle later."""
    return _buffer(clk, ahead, place, result, read, data, 1)


@block
def _buffer(clk, ahead, place, value, read, data, latency):
    """`value` is kept at the `place` that came with `ahead`, `latency` cycles before, and which `data` shows then."""
    bits = len(place)
    address, written = (Signal(intbv(0)[bits:]) for _ in range(2))
    asked, due = (Signal(intbv(0)[bits + 1 :]) for _ in range(2))
    write = Signal(False)

    @always_comb
    def enter():
        address.next = place if ahead else read
        asked.next = concat(ahead, place)

    @always_comb
    def finish():
        write.next = due[bits]
        written.next = due[bits:]

    wait = delay_line(clk, asked, due, width=bits + 1, cycles=latency)
    return enter, finish, wait, ram(clk, write, written, value, True, address, data, width=32, depth=1 << bits)

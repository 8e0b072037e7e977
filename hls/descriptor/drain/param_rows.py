# SPDX-License-Identifier: Apache-2.0
"""Scales and biases of the channel block that drains, in rows of one beat."""

from myhdl import Signal, always, always_comb, concat, intbv, modbv

from hls.descriptor.interface.timing import beats, channels
from hls.lib.ram import ram
from hls.lib.unit import unit


@unit(out="take ready scales biases")
def param_rows(clk, rst, start, diagonal, valid, data, take, row, leave, ready, scales, biases, *, config):
    """Scales and biases of two channel blocks: one being used, one being filled from the stream.

    ``ready`` when the block in use is complete; its scales and biases of ``row`` follow one cycle later.
    ``leave`` ends its use.
    """
    row_bits = len(row)
    dense_last, diagonal_last = (beats(channels(diag, config), config) - 1 for diag in (False, True))
    width = 32 * config.ports
    blocks = Signal(intbv(0)[2:])
    fill_row = Signal(modbv(0)[row_bits:])
    fill_block, use_block, bias_next, scale_we, bias_we, filled, held = (Signal(bool(0)) for _ in range(7))
    waddr, raddr = (Signal(intbv(0)[row_bits + 1 :]) for _ in range(2))

    @always_comb
    def decide():
        take.next = valid and blocks != 2
        scale_we.next = valid and blocks != 2 and not bias_next
        bias_we.next = valid and blocks != 2 and bias_next
        ready.next = blocks != 0
        held.next = blocks != 0
        waddr.next = concat(fill_block, fill_row)
        raddr.next = concat(use_block, row)

    @always_comb
    def finish():
        filled.next = bias_we and fill_row == dense_last
        if diagonal:
            filled.next = bias_we and fill_row == diagonal_last

    @always(clk.posedge)
    def account():
        if rst or start:
            blocks.next = 0
            fill_row.next = 0
            fill_block.next = False
            use_block.next = False
            bias_next.next = False
        else:
            if scale_we or bias_we:
                bias_next.next = not bias_next
            if bias_we:
                fill_row.next = fill_row + 1
            if filled:
                fill_row.next = 0
                fill_block.next = not fill_block
            if leave:
                use_block.next = not use_block
            if filled and not leave:
                blocks.next = blocks + 1
            elif leave and not filled:
                blocks.next = blocks - 1

    return (
        decide,
        finish,
        account,
        ram(clk, scale_we, waddr, data, held, raddr, scales, width=width, depth=2 << row_bits),
        ram(clk, bias_we, waddr, data, held, raddr, biases, width=width, depth=2 << row_bits),
    )

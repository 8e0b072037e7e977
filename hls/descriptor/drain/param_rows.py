# SPDX-License-Identifier: Apache-2.0
"""Scales and biases of the channel block that drains, in rows of one beat; packed scales in those of two."""

from myhdl import Signal, always, always_comb, concat, intbv, modbv

from hls.descriptor.interface.timing import beats
from hls.lib.ram import ram
from hls.lib.unit import unit


@unit(out="take ready scales biases")
def param_rows(clk, rst, start, diagonal, band, pairs, valid, data, take, row, leave, ready, scales, biases, *, config):
    """Scales and biases of two channel blocks: one being used, one being filled from the stream.

    ``ready`` when the block in use is complete; its scales and biases of ``row`` follow one cycle later.
    ``leave`` ends its use. Where ``band`` (with `config.banded`; else None) is not 0 a block is one row, for all.
    Where ``pairs`` holds (with `config.packed_scales`; else None) ``scales`` are those of an even row and the next one.
    """
    row_bits = len(row)
    dense_last, diagonal_last = (beats(block, config) - 1 for block in (config.cols, config.diagonal))
    width = 32 * config.ports
    blocks = Signal(intbv(0)[2:])
    fill_row = Signal(modbv(0)[row_bits:])
    fill_block, use_block, bias_next, scale_we, bias_we, filled, held = (Signal(bool(0)) for _ in range(7))
    waddr, raddr = (Signal(intbv(0)[row_bits + 1 :]) for _ in range(2))
    last, use_row = Signal(intbv(0)[row_bits:]), row
    if config.banded:
        use_row = Signal(intbv(0)[row_bits:])
    scale_raddr = raddr
    if config.packed_scales:
        scale_raddr = Signal(intbv(0)[row_bits + 1 :])

    @always_comb
    def decide():
        take.next = valid and blocks != 2
        scale_we.next = valid and blocks != 2 and not bias_next
        bias_we.next = valid and blocks != 2 and bias_next
        ready.next = blocks != 0
        held.next = blocks != 0
        waddr.next = concat(fill_block, fill_row)
        raddr.next = concat(use_block, use_row)

    @always_comb
    def finish():
        filled.next = bias_we and fill_row == last

    @always(clk.posedge)
    def account():
        if rst or start:
            blocks.next = 0
            fill_row.next = 0
            fill_block.next = False
            use_block.next = False
        else:
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

    @always_comb
    def size():
        last.next = diagonal_last if diagonal else dense_last

    @always_comb
    def size_or_one():
        last.next = diagonal_last if diagonal else dense_last
        use_row.next = row
        if band != 0:
            last.next = 0
            use_row.next = 0

    @always(clk.posedge)
    def in_turn():
        if rst or start:
            bias_next.next = False
        elif scale_we or bias_we:
            bias_next.next = not bias_next

    @always(clk.posedge)
    def once_in_two():
        if rst or start:
            bias_next.next = False
        elif scale_we:
            bias_next.next = True
        elif bias_we:
            bias_next.next = pairs and not fill_row[0] and fill_row != last

    @always_comb
    def even_row():
        scale_raddr.next = concat(raddr[row_bits + 1 : 1], raddr[0] and not pairs)

    return (
        size_or_one if config.banded else size,
        (once_in_two, even_row) if config.packed_scales else in_turn,
        decide,
        finish,
        account,
        ram(clk, scale_we, waddr, data, held, scale_raddr, scales, width=width, depth=2 << row_bits),
        ram(clk, bias_we, waddr, data, held, raddr, biases, width=width, depth=2 << row_bits),
    )

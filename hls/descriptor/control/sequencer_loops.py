# SPDX-License-Identifier: Apache-2.0
"""Loops of the sequencer: stages 0 and 1, the counters of a layer's loops and the position of a vector's window."""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.descriptor.interface.table import LINEAR, SIGNED_LINEAR

IY_BITS = 18  # row number, signed: padding lies above and below the 16 bits of IN_H


class Position:
    """Where a pixel's window starts: columns left in its output row, linear column, row start, row number."""

    def __init__(self) -> None:
        self.ox_left = Signal(modbv(0)[LINEAR:])
        self.x = Signal(modbv(0)[SIGNED_LINEAR:])
        self.row = Signal(modbv(0)[SIGNED_LINEAR:])
        self.iy = Signal(modbv(0)[IY_BITS:])


class Window:
    """One vector's place in the input: linear column of lane 0, row start, row number, words left in the run."""

    def __init__(self) -> None:
        self.p, self.row, self.run_left = (Signal(modbv(0)[SIGNED_LINEAR:]) for _ in range(3))
        self.iy = Signal(modbv(0)[IY_BITS:])
        self.row_first, self.row_last = (Signal(bool(0)) for _ in range(2))


class VectorFlags:
    """What a vector means to the weight loader, the accumulators and the activation buffer."""

    def __init__(self, entry_bits: int) -> None:
        self.valid, self.swap, self.first, self.bank = (Signal(bool(0)) for _ in range(4))
        self.step_first, self.step_last, self.group_first, self.group_last = (Signal(bool(0)) for _ in range(4))
        self.strip_last, self.end, self.waits = (Signal(bool(0)) for _ in range(3))
        self.entry = Signal(modbv(0)[entry_bits:])


@block
def loops(clk, rst, start, job, advance, running, saved, window, marks, config):
    """Stage 0: the loop counters, and the registers of stage 1."""
    rows, block, by_channel = config.rows, config.diagonal, job.diagonal
    if config.banded:
        block, by_channel = Signal(modbv(0)[SIGNED_LINEAR:]), Signal(bool(0))
    at, following, origin = Position(), Position(), Position()
    px_left, strip_px, strip_first, strip_next = (Signal(modbv(0)[16:]) for _ in range(4))
    px_after = Signal(modbv(0)[LINEAR:])  # pixels behind this strip
    cb_left, cb_count, cb_first, cb_next = (Signal(modbv(0)[16:]) for _ in range(4))
    ncb_after = Signal(modbv(0)[16:])  # channel blocks behind this group of blocks
    kb_left, g_left = (Signal(modbv(0)[16:]) for _ in range(2))
    kx_left, ky_left = (Signal(modbv(0)[8:]) for _ in range(2))
    tap, group_off, kb_off, cb_off, cbg_off, ky_off, block_off = (Signal(modbv(0)[SIGNED_LINEAR:]) for _ in range(7))
    ky_iy = Signal(modbv(0)[IY_BITS:])
    px_first, step_first, k_first, half, half_next = (Signal(bool(0)) for _ in range(5))
    bank = Signal(modbv(0)[2:])  # memory, half
    # Registers too, so that the ends of all loops are known early: the counter is 1, or nothing follows
    px_last, cb_last, kb_last, kx_last, ky_last, ncb_last, g_last, last_strip = (Signal(bool(0)) for _ in range(8))
    single, single_first, single_next, alone, alone_first, alone_next = (Signal(bool(0)) for _ in range(6))
    step_end, group_end, strip_end = (Signal(bool(0)) for _ in range(3))
    entry = Signal(modbv(0)[len(marks.entry) :])
    below = len(entry) - 1

    @always_comb
    def halve():
        half.next = job.halves and bank[1]
        half_next.next = job.halves and bank[1] != bank[0]

    @always_comb
    def widen():
        origin.ox_left.next = job.out_w
        origin.x.next = job.x0[SIGNED_LINEAR:]
        origin.row.next = job.row0[SIGNED_LINEAR:]
        origin.iy.next = concat(job.y0[15], job.y0[15], job.y0[16:])

    @always_comb
    def sizes():
        strip_first.next = job.first_px
        if job.out_px < concat(intbv(0)[LINEAR - 16 :], job.first_px):
            strip_first.next = job.out_px[16:]
        strip_next.next = job.strip_px
        if px_after < concat(intbv(0)[LINEAR - 16 :], job.strip_px):
            strip_next.next = px_after[16:]
        cb_first.next = job.cbg
        if job.ncb < job.cbg:
            cb_first.next = job.ncb
        cb_next.next = job.cbg
        if ncb_after < job.cbg:
            cb_next.next = ncb_after

    @always_comb
    def step_pixel():
        following.ox_left.next = at.ox_left - 1
        following.x.next = at.x + concat(intbv(0)[SIGNED_LINEAR - LINEAR :], job.sx_words)
        following.row.next = at.row
        following.iy.next = at.iy
        if at.ox_left == 1:
            following.ox_left.next = origin.ox_left
            following.x.next = origin.x
            following.row.next = at.row + concat(intbv(0)[SIGNED_LINEAR - LINEAR :], job.sy_words)
            following.iy.next = at.iy + concat(intbv(0)[IY_BITS - 8 :], job.stride_y)

    @always_comb
    def ones():
        single.next = strip_px == 1
        single_first.next = job.first_px == 1 or job.out_px == 1
        single_next.next = job.strip_px == 1 or px_after == 1
        alone.next = cb_count == 1
        alone_first.next = job.cbg == 1 or job.ncb == 1
        alone_next.next = job.cbg == 1 or ncb_after == 1

    @always_comb
    def ends():
        step_end.next = px_last and cb_last
        group_end.next = px_last and cb_last and kb_last and kx_last and ky_last
        strip_end.next = px_last and cb_last and kb_last and kx_last and ky_last and ncb_last and g_last
        block_off.next = cb_off if by_channel else kb_off

    @always(clk.posedge)
    def walk():
        if rst:
            running.next = False
            bank.next = 0
        elif start:
            running.next = True
            if job.acc_init:
                bank.next = 0
            px_first.next = True
            step_first.next = True
            k_first.next = True
            at.ox_left.next = origin.ox_left
            at.x.next = origin.x
            at.row.next = origin.row
            at.iy.next = origin.iy
            saved.ox_left.next = origin.ox_left
            saved.x.next = origin.x
            saved.row.next = origin.row
            saved.iy.next = origin.iy
            strip_px.next = strip_first
            px_left.next = strip_first
            px_last.next = single_first
            px_after.next = job.out_px - concat(intbv(0)[LINEAR - 16 :], strip_first)
            last_strip.next = job.out_px <= concat(intbv(0)[LINEAR - 16 :], job.first_px)
            cb_left.next = cb_first
            cb_last.next = alone_first
            cb_count.next = cb_first
            ncb_after.next = job.ncb - cb_first
            ncb_last.next = job.ncb <= job.cbg
            kb_left.next = job.kb
            kb_last.next = job.kb == 1
            kx_left.next = job.kx
            kx_last.next = job.kx == 1
            ky_left.next = job.kh
            ky_last.next = job.kh == 1
            g_left.next = job.groups
            g_last.next = job.groups == 1
            entry.next = concat(half, intbv(0)[below:])
            tap.next = 0
            group_off.next = 0
            kb_off.next = 0
            cb_off.next = 0
            cbg_off.next = 0
            ky_off.next = 0
            ky_iy.next = 0
        elif running and advance:
            entry.next = entry + 1
            px_first.next = False
            step_first.next = False
            px_left.next = px_left - 1
            px_last.next = px_left == 2
            at.ox_left.next = following.ox_left
            at.x.next = following.x
            at.row.next = following.row
            at.iy.next = following.iy
            if px_last:
                px_first.next = True
                px_left.next = strip_px
                px_last.next = single
                at.ox_left.next = saved.ox_left
                at.x.next = saved.x
                at.row.next = saved.row
                at.iy.next = saved.iy
                cb_left.next = cb_left - 1
                cb_last.next = cb_left == 2
                cb_off.next = cb_off + block
            if step_end:
                entry.next = concat(half, intbv(0)[below:])
                step_first.next = True
                k_first.next = False
                cb_left.next = cb_count
                cb_last.next = alone
                cb_off.next = cbg_off
                kb_left.next = kb_left - 1
                kb_last.next = kb_left == 2
                kb_off.next = kb_off + rows
                if kb_last:
                    kb_left.next = job.kb
                    kb_last.next = job.kb == 1
                    kb_off.next = 0
                    kx_left.next = kx_left - 1
                    kx_last.next = kx_left == 2
                    tap.next = tap + concat(intbv(0)[SIGNED_LINEAR - LINEAR :], job.kx_step)
                    if kx_last:
                        kx_left.next = job.kx
                        kx_last.next = job.kx == 1
                        tap.next = group_off
                        ky_left.next = ky_left - 1
                        ky_last.next = ky_left == 2
                        ky_off.next = ky_off + concat(intbv(0)[SIGNED_LINEAR - LINEAR :], job.ky_step)
                        ky_iy.next = ky_iy + concat(intbv(0)[IY_BITS - 8 :], job.dil_y)
            if group_end:
                ky_left.next = job.kh
                ky_last.next = job.kh == 1
                ky_off.next = 0
                ky_iy.next = 0
                k_first.next = True
                bank.next = bank + 1
                entry.next = concat(half_next, intbv(0)[below:])
                cb_left.next = cb_next
                cb_last.next = alone_next
                cb_count.next = cb_next
                ncb_after.next = ncb_after - cb_next
                ncb_last.next = ncb_after <= job.cbg
                cb_off.next = cb_off + block
                cbg_off.next = cb_off + block
                if ncb_last:
                    cb_left.next = cb_first
                    cb_last.next = alone_first
                    cb_count.next = cb_first
                    ncb_after.next = job.ncb - cb_first
                    ncb_last.next = job.ncb <= job.cbg
                    cb_off.next = 0
                    cbg_off.next = 0
                    g_left.next = g_left - 1
                    g_last.next = g_left == 2
                    group_off.next = group_off + concat(intbv(0)[SIGNED_LINEAR - LINEAR :], job.group_in_step)
                    tap.next = group_off + concat(intbv(0)[SIGNED_LINEAR - LINEAR :], job.group_in_step)
            if strip_end:
                g_left.next = job.groups
                g_last.next = job.groups == 1
                group_off.next = 0
                tap.next = 0
                strip_px.next = strip_next
                px_left.next = strip_next
                px_last.next = single_next
                px_after.next = px_after - concat(intbv(0)[LINEAR - 16 :], strip_next)
                last_strip.next = px_after <= concat(intbv(0)[LINEAR - 16 :], job.strip_px)
                at.ox_left.next = following.ox_left
                at.x.next = following.x
                at.row.next = following.row
                at.iy.next = following.iy
                saved.ox_left.next = following.ox_left
                saved.x.next = following.x
                saved.row.next = following.row
                saved.iy.next = following.iy
                if last_strip:
                    running.next = False

    @always(clk.posedge)
    def emit():
        if rst:
            marks.valid.next = False
        elif advance:
            marks.valid.next = running
        if advance:
            window.p.next = at.x + tap + block_off
            window.row.next = at.row + ky_off
            window.iy.next = at.iy + ky_iy
            window.run_left.next = concat(intbv(0)[SIGNED_LINEAR - LINEAR :], job.run) - block_off
            marks.swap.next = px_first
            marks.first.next = k_first and not job.acc_init
            marks.bank.next = bank[0]
            marks.step_first.next = step_first
            marks.step_last.next = step_end
            marks.group_first.next = step_first and k_first
            marks.waits.next = step_first and not k_first
            marks.group_last.next = group_end
            marks.strip_last.next = strip_end
            marks.end.next = strip_end and last_strip
            marks.entry.next = entry

    of_band = []
    if config.banded:
        of_band = [_row_ends(clk, job, advance, at, window), _channel_block(job, by_channel, block, config.diagonal)]
    return halve, widen, sizes, step_pixel, ones, ends, walk, emit, of_band


@block
def _channel_block(job, by_channel, block, diagonal):
    """Whether channel blocks read lanes of their own, and how many words further each."""

    @always_comb
    def look():
        by_channel.next = job.diagonal
        block.next = diagonal
        if job.band != 0:
            by_channel.next = True
            block.next = 1

    return look


@block
def _row_ends(clk, job, advance, at, window):
    """Whether a vector is the first, or the last, of its output row."""

    @always(clk.posedge)
    def register():
        if advance:
            window.row_first.next = at.ox_left == job.out_w
            window.row_last.next = at.ox_left == 1

    return register

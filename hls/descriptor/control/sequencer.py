# SPDX-License-Identifier: Apache-2.0
"""Sequencer: walks a layer's loops and issues one vector per cycle (see hls.descriptor.interface.table for the loops).

Stage 0 steps the loop counters, stage 1 holds the window position, stage 2 the buffer address and the lane limits,
stage 3 knows whether the words are loaded. A vector leaves stage 3 when they are, its weight tile is in the shadow
registers, its accumulator bank is free, and the accumulator's latency has passed since the same entry's last use.
Position arithmetic is modulo 2**SIGNED_LINEAR, two's complement.
"""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.arithmetic.accumulator import ACC_LATENCY
from hls.config import Config
from hls.descriptor.interface.table import LINEAR, SIGNED_LINEAR
from hls.descriptor.interface.timing import HALF_BANKS
from hls.descriptor.memory.activation_buffer import lowered
from hls.lib.unit import unit
from hls.lib.wiring import ignore

_JOB = (
    "in_row in_h y0 x0 row0 kh kx kb run dil_y stride_y ky_step kx_step sx_words sy_words out_w out_px strip_px "
    "cbg groups ncb first_px group_in_step load_words diagonal acc_init halves"
)


def sequencer_job(config: Config) -> str:
    """Descriptor fields that `sequencer` reads."""
    return f"{_JOB} band first_lane last_lanes" if config.banded else _JOB


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


class ReadAddress:
    """Where a vector's words lie: address and lanes lo..hi-1, words that must be loaded, words released afterwards."""

    def __init__(self, addr_bits: int, lane_bits: int) -> None:
        self.addr = Signal(modbv(0)[addr_bits:])
        self.lo, self.hi = (Signal(modbv(0)[lane_bits:]) for _ in range(2))
        self.need, self.released = (Signal(modbv(0)[LINEAR:]) for _ in range(2))
        self.needed = Signal(bool(0))


@unit(
    out="released busy issue tile_take rd_addr apart lane_lo lane_hi acc_entry acc_bank acc_first acc_last acc_many "
    "load_stall store_stall"
)
def sequencer(
    clk,
    rst,
    start,
    job,
    loaded,
    tile_ready,
    bank_free,
    bank_ready,
    released,
    busy,
    issue,
    tile_take,
    rd_addr,
    apart,
    lane_lo,
    lane_hi,
    acc_entry,
    acc_bank,
    acc_first,
    acc_last,
    acc_many,
    load_stall,
    store_stall,
    *,
    config,
):
    """Issue the vectors of the layer described by ``job`` after ``start``.

    In a cycle with ``issue``: rd_addr, lane_lo and lane_hi go to the activation buffer, tile_take swaps the weights,
    acc_* say where the column results belong; ``apart`` (see `rows_apart` there) is the layer's from two cycles before
    its first vector on. ``loaded`` counts the linear words that are present in the next cycle, ``released`` those no
    longer needed; both go on from layer to layer: a layer's words begin at the LOAD_WORDS of all before it. Banks
    alternate and go on too, as do their halves, of which a group has one with HALVES. Groups are drained in
    order, each of which frees what it had by ``bank_free`` (all is free at rst): a group begins in what is free, and
    goes on to its second step, which reads its memory, when the other group there is drained. With ACC_INIT, which
    starts at bank 0 when all is drained, a bank may be used after ``bank_ready``. ``busy`` falls when the last vector
    has been issued.
    """
    entry_bits = (config.accumulator_entries - 1).bit_length()
    advance, running = Signal(bool(0)), Signal(bool(0))
    saved, window = Position(), Window()
    marks, placed, issuing = (VectorFlags(entry_bits) for _ in range(3))
    place = ReadAddress(len(rd_addr), len(lane_hi))
    address, parts = place.addr, []
    if apart is not None:
        address = Signal(modbv(0)[len(rd_addr) :])
        parts = [_rows_apart(clk, job, apart, len(rd_addr)), lowered(place.addr, apart, address)]

    @always_comb
    def outputs():
        busy.next = running or marks.valid or placed.valid or issuing.valid
        acc_entry.next = issuing.entry
        acc_bank.next = issuing.bank
        acc_first.next = issuing.first
        acc_last.next = issuing.group_last

    return (
        parts,
        _loops(clk, rst, start, job, advance, running, saved, window, marks, config),
        _addresses(clk, start, job, advance, saved, window, marks, place, released, config),
        _follow(clk, rst, advance, marks, placed),
        _follow(clk, rst, advance, placed, issuing),
        _gate(
            clk,
            rst,
            start,
            job,
            issuing,
            place,
            address,
            loaded,
            tile_ready,
            bank_free,
            bank_ready,
            advance,
            rd_addr,
            lane_lo,
            lane_hi,
            released,
            issue,
            tile_take,
            acc_many,
            load_stall,
            store_stall,
        ),
        outputs,
    )


@block
def _rows_apart(clk, job, apart, address_bits):
    """The rows of the activation buffer between two lanes, in time for a layer's first address."""
    low = address_bits - len(apart)

    @always(clk.posedge)
    def register():
        apart.next = 0
        if job.band != 0:
            apart.next = job.kx_step[address_bits:low]

    return register


@block
def _loops(clk, rst, start, job, advance, running, saved, window, marks, config):
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


@block
def _follow(clk, rst, advance, marks, later):
    """The marks of the next stage."""

    @always(clk.posedge)
    def register():
        if rst:
            later.valid.next = False
        elif advance:
            later.valid.next = marks.valid
        if advance:
            later.swap.next = marks.swap
            later.first.next = marks.first
            later.bank.next = marks.bank
            later.step_first.next = marks.step_first
            later.step_last.next = marks.step_last
            later.group_first.next = marks.group_first
            later.waits.next = marks.waits
            later.group_last.next = marks.group_last
            later.strip_last.next = marks.strip_last
            later.entry.next = marks.entry

    return register


@block
def _addresses(clk, start, job, advance, saved, window, marks, place, released, config):
    """Stage 2: the place of a vector's words."""
    rows = config.rows
    sign = SIGNED_LINEAR - 1
    before, room, in_row, in_h, kept = (Signal(modbv(0)[SIGNED_LINEAR:]) for _ in range(5))
    low, room_lanes, run_lanes, high = (Signal(modbv(0)[len(place.hi) :]) for _ in range(4))
    base, row_start, word, wide_high, end, freed = (Signal(modbv(0)[LINEAR:]) for _ in range(6))
    lo, hi = low, high
    if config.banded:
        lo, hi = (Signal(modbv(0)[len(place.hi) :]) for _ in range(2))
    inside, past = Signal(bool(0)), Signal(bool(0))

    @always_comb
    def measure():
        before.next = 0 - window.p
        in_row.next = concat(intbv(0)[SIGNED_LINEAR - LINEAR :], job.in_row)
        row_start.next = base + window.row[LINEAR:]
        inside.next = not window.iy[IY_BITS - 1] and window.iy < concat(intbv(0)[IY_BITS - 16 :], job.in_h)

    @always_comb
    def limits():
        room.next = in_row - window.p
        low.next = 0
        if window.p[sign]:
            low.next = rows
            if before < rows:
                low.next = before[len(low) :]
        run_lanes.next = rows
        if window.run_left < rows:
            run_lanes.next = window.run_left[len(run_lanes) :]

    @always_comb
    def space():
        room_lanes.next = rows
        if room[sign] and not window.p[sign]:
            room_lanes.next = 0
        elif room < rows:
            room_lanes.next = room[len(room_lanes) :]

    @always_comb
    def clip():
        high.next = run_lanes
        if room_lanes < run_lanes:
            high.next = room_lanes

    @always_comb
    def widen():
        word.next = row_start + window.p[LINEAR:]
        wide_high.next = concat(intbv(0)[LINEAR - len(high) :], high)

    @always_comb
    def keep():
        kept.next = saved.x
        if saved.x[sign]:
            kept.next = 0
        elif saved.x > in_row:
            kept.next = in_row

    @always_comb
    def leave():
        past.next = not saved.iy[IY_BITS - 1] and saved.iy >= concat(intbv(0)[IY_BITS - 16 :], job.in_h)

    @always_comb
    def free():
        freed.next = saved.row[LINEAR:] + kept[LINEAR:]
        if marks.end or past:
            freed.next = job.load_words
        elif saved.iy[IY_BITS - 1]:
            freed.next = 0

    @always(clk.posedge)
    def register():
        if start:
            base.next = released
        if advance:
            place.addr.next = word[len(place.addr) :]
            place.lo.next = lo
            place.hi.next = 0
            place.need.next = end
            place.needed.next = inside and lo < hi
            if inside and lo < hi:
                place.hi.next = hi
            place.released.next = base + freed

    unread = (
        ignore(saved.ox_left, 0, LINEAR),
        ignore(window.row, LINEAR, SIGNED_LINEAR),
        ignore(kept, LINEAR, SIGNED_LINEAR),
        ignore(word, len(place.addr), LINEAR),
    )
    needs = _end(word, wide_high, end)
    if config.banded:
        needs = _banded(job, window, row_start, word, low, high, wide_high, lo, hi, end)
    return unread, measure, limits, space, clip, widen, keep, leave, free, register, needs


@block
def _end(word, lanes, end):
    """End of the words that a vector needs."""

    @always_comb
    def add():
        end.next = word + lanes

    return add


@block
def _banded(job, window, row_start, word, low, high, lanes, lo, hi, end):
    """Limits of the lanes, and the end of the words that a vector needs; of a banded layer the whole input row."""
    bits = len(lo)
    start, length = (Signal(modbv(0)[LINEAR:]) for _ in range(2))

    @always_comb
    def limit():
        lo.next = low
        hi.next = high
        start.next = word
        length.next = lanes
        if job.band != 0:
            lo.next = job.first_lane[bits:] if window.row_first else 0
            hi.next = job.last_lanes[bits:] if window.row_last else job.run[bits:]
            start.next = row_start
            length.next = job.in_row

    return limit, _end(start, length, end), [ignore(f, bits, 6) for f in (job.first_lane, job.last_lanes)]


@block
def _gate(
    clk,
    rst,
    start,
    job,
    issuing,
    place,
    address,
    loaded,
    tile_ready,
    bank_free,
    bank_ready,
    advance,
    rd_addr,
    lane_lo,
    lane_hi,
    released,
    issue,
    tile_take,
    acc_many,
    load_stall,
    store_stall,
):
    """Stage 3, and whether its vector may be issued."""
    gap, count = (Signal(modbv(0)[4:]) for _ in range(2))
    banks = Signal(modbv(0)[HALF_BANKS:])  # free half ones: bit i says that there are more than i
    halved, before, eased = (Signal(bool(0)) for _ in range(3))  # of the last group, the one before, and now too
    waiting = Signal(bool(0))  # since what it decides is late: gap is not 0
    words_ok, data_ok, bank_ok, gap_ok, go, more, initialised = (Signal(bool(0)) for _ in range(7))
    need, released_after, ahead, ahead_next = (Signal(modbv(0)[LINEAR:]) for _ in range(4))

    all_free, not_ready = (1 << HALF_BANKS) - 1, (1 << HALF_BANKS - 2) - 1

    @always_comb
    def compare():
        ahead.next = loaded - need
        ahead_next.next = loaded - place.need

    @always(clk.posedge)
    def register():
        words_ok.next = words_ok or not ahead[LINEAR - 1]
        if advance:
            words_ok.next = not (place.needed and ahead_next[LINEAR - 1])
            rd_addr.next = address
            lane_lo.next = place.lo
            lane_hi.next = place.hi
            need.next = place.need
            released_after.next = place.released

    @always_comb
    def conditions():
        data_ok.next = words_ok and (tile_ready or not issuing.swap)
        bank_ok.next = (banks[2] or (eased and banks[0]) or not issuing.group_first) and (banks[1] or not issuing.waits)
        gap_ok.next = not waiting or not issuing.waits
        more.next = bank_ready if job.acc_init else bank_free

    @always_comb
    def decide():
        go.next = issuing.valid and data_ok and bank_ok and gap_ok
        load_stall.next = issuing.valid and not data_ok
        store_stall.next = issuing.valid and data_ok and not bank_ok

    @always_comb
    def drive():
        issue.next = go
        tile_take.next = go and issuing.swap
        acc_many.next = count >= ACC_LATENCY - 1 and not issuing.step_first
        advance.next = go or not issuing.valid

    @always(clk.posedge)
    def account():
        if gap != 0:
            gap.next = gap - 1
            waiting.next = gap != 1
        if go:
            count.next = 1
            if not issuing.step_first:
                count.next = count
                if count != ACC_LATENCY:
                    count.next = count + 1
            if issuing.step_last:
                gap.next = ACC_LATENCY - 1
                waiting.next = True
                if not issuing.step_first:
                    gap.next = 0
                    waiting.next = False
                    if count < ACC_LATENCY - 1:
                        gap.next = ACC_LATENCY - 1 - count
                        waiting.next = True
            if issuing.strip_last:
                released.next = released_after
        eased.next = job.halves and before
        if go and issuing.group_first:
            halved.next = job.halves
            before.next = halved
            eased.next = job.halves and halved
            if not more:
                banks.next = concat(False, banks[HALF_BANKS:1])
        elif more:
            banks.next = concat(banks[HALF_BANKS - 1 :], True)
        if start:
            initialised.next = job.acc_init
            if job.acc_init:
                banks.next = not_ready
            elif initialised:
                banks.next = all_free
        if rst:
            released.next = 0
            gap.next = 0
            waiting.next = False
            banks.next = all_free
            halved.next = False
            before.next = False
            initialised.next = False

    unread = ignore(ahead, 0, LINEAR - 1), ignore(ahead_next, 0, LINEAR - 1)
    return unread, compare, register, conditions, decide, drive, account

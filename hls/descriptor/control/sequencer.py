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
from hls.descriptor.control.sequencer_loops import IY_BITS, Position, VectorFlags, Window, loops
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
        loops(
            clk=clk,
            rst=rst,
            start=start,
            job=job,
            advance=advance,
            running=running,
            saved=saved,
            window=window,
            marks=marks,
            config=config,
        ),
        _addresses(
            clk=clk,
            start=start,
            job=job,
            advance=advance,
            saved=saved,
            window=window,
            marks=marks,
            place=place,
            released=released,
            config=config,
        ),
        _follow(clk, rst, advance, marks, placed),
        _follow(clk, rst, advance, placed, issuing),
        _gate(
            clk=clk,
            rst=rst,
            start=start,
            job=job,
            issuing=issuing,
            place=place,
            address=address,
            loaded=loaded,
            tile_ready=tile_ready,
            bank_free=bank_free,
            bank_ready=bank_ready,
            advance=advance,
            rd_addr=rd_addr,
            lane_lo=lane_lo,
            lane_hi=lane_hi,
            released=released,
            issue=issue,
            tile_take=tile_take,
            acc_many=acc_many,
            load_stall=load_stall,
            store_stall=store_stall,
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
        needs = _banded(
            job=job,
            window=window,
            row_start=row_start,
            word=word,
            low=low,
            high=high,
            lanes=wide_high,
            lo=lo,
            hi=hi,
            end=end,
        )
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

# SPDX-License-Identifier: Apache-2.0
"""Sequential streams that are used once per strip: weights and parameters."""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.descriptor.interface.table import LINEAR
from hls.lib.ram import ram
from hls.lib.unit import unit
from hls.lib.wiring import join


@unit(out="req_valid req_addr stored q_valid q_data idle")
def pass_reader(
    clk,
    rst,
    start,
    enable,
    base,
    words,
    out_px,
    first_px,
    strip_px,
    req_valid,
    req_ready,
    req_addr,
    rsp_valid,
    rsp_data,
    stored,
    q_valid,
    q_data,
    q_take,
    idle,
    *,
    ports,
    depth,
    row=1,
):
    """``words`` words (a multiple of ports) from ``base``, once per strip, through a FIFO of ``depth`` rows.

    A row is ``row`` beats of ``ports`` words; the last of a pass may have fewer, and undefined words above them.
    Strips are counted from the pixel counts. q_valid, q_data, q_take: first word fall through, rows. Words that
    fit the FIFO are fetched once: they stay there, and the reading side starts over, until the last strip.
    ``stored``: rows waiting. Nothing is read unless ``enable`` holds at ``start``. ``idle``: no request to come, and
    nothing to start over; the next layer may start then, its rows queue up behind those that wait or are due.
    """
    bits = (depth - 1).bit_length()
    active, accept = Signal(bool(0)), Signal(bool(0))
    at = Signal(modbv(0)[32:])
    left = Signal(modbv(0)[LINEAR:])
    wr, rd, rd_after, rd_next, place, first = (Signal(modbv(0)[bits:]) for _ in range(6))  # place: of the next request
    used = Signal(modbv(0)[bits + 1 :])  # rows asked for or held
    in_flight = Signal(modbv(0)[(depth * row).bit_length() :])
    room, opened, closed, take, renew, freed, last_asked = (Signal(bool(0)) for _ in range(7))
    fits, own, kept, rewind, strip_end, last_strip = (Signal(bool(0)) for _ in range(6))
    full, quiet, some, one, some_left = (Signal(bool(0)) for _ in range(5))  # registers of counts, but some_left
    capacity = depth * row * ports

    @always_comb
    def control():
        req_valid.next = active and room
        accept.next = active and room and req_ready
        req_addr.next = at
        take.next = q_valid and q_take
        kept.next = fits and not last_strip

    @always_comb
    def passes():
        last_asked.next = accept and left == ports
        rewind.next = take and one and kept and quiet and not active
        renew.next = rewind or (some_left and (take or not q_valid))
        freed.next = take and not (kept and own)
        some_left.next = not one if take else some
        idle.next = not active and not kept
        rd_after.next = rd + 1

    @always_comb
    def move():
        strip_end.next = rewind or (last_asked and not kept)
        rd_next.next = rd
        if rewind:
            rd_next.next = first
        elif take:
            rd_next.next = rd_after

    if row == 1:
        memory = (
            ram(clk, rsp_valid, wr, rsp_data, renew, rd_next, q_data, width=32 * ports, depth=depth),
            _beats(accept, rsp_valid, full, room, opened, closed),
        )
    else:
        memory = _rows(
            clk=clk,
            start=start,
            words=words,
            accept=accept,
            rsp_valid=rsp_valid,
            rsp_data=rsp_data,
            full=full,
            quiet=quiet,
            wr=wr,
            renew=renew,
            rd_next=rd_next,
            room=room,
            opened=opened,
            closed=closed,
            q_data=q_data,
            ports=ports,
            depth=depth,
            row=row,
        )

    @always(clk.posedge)
    def fetch():
        if rst:
            active.next = False
        elif start:
            active.next = enable
            at.next = base
            left.next = words
        elif accept:
            at.next = at + 4 * ports
            left.next = left - ports
            if last_asked:
                at.next = base
                left.next = words
                active.next = not last_strip and not kept

    @always(clk.posedge)
    def queue():
        rd.next = rd_next
        q_valid.next = some_left or rewind
        if closed:
            wr.next = wr + 1
            some.next = True
            if not take:
                stored.next = stored + 1
                one.next = not some
        elif take:
            stored.next = stored - 1
            one.next = stored == 2
            some.next = not one
        if rewind:  # nothing is due then
            stored.next = used
            one.next = used == 1
            some.next = True
        if opened:
            place.next = place + 1
        if opened and not freed:
            used.next = used + 1
            full.next = used == depth - 1
        elif freed and not opened:
            used.next = used - 1
            full.next = False
        if accept and not rsp_valid:
            in_flight.next = in_flight + 1
            quiet.next = False
        elif rsp_valid and not accept:
            in_flight.next = in_flight - 1
            quiet.next = in_flight == 1
        if rst:
            wr.next = 0
            rd.next = 0
            place.next = 0
            stored.next = 0
            some.next = False
            one.next = False
            used.next = 0
            full.next = False
            in_flight.next = 0
            quiet.next = True
            q_valid.next = False

    @always(clk.posedge)
    def keep():  # own: the next row to take is of this layer, not one left by the layer before
        if rst:
            fits.next = False
        elif start:
            fits.next = enable and words <= capacity
            first.next = place
            own.next = quiet and not some_left
        elif rewind or (take and rd_after == first):
            own.next = True

    return (
        control,
        memory,
        passes,
        move,
        fetch,
        queue,
        keep,
        count_strips(clk, start, strip_end, out_px, first_px, strip_px, last_strip),
    )


@block
def count_strips(clk, start, step, out_px, first_px, strip_px, last):
    """``last``: no pixels follow the current strip. ``start`` begins a layer, ``step`` the next strip."""
    after, first, following = (Signal(modbv(0)[LINEAR:]) for _ in range(3))

    @always_comb
    def look():
        first.next = concat(intbv(0)[LINEAR - 16 :], first_px)
        following.next = concat(intbv(0)[LINEAR - 16 :], strip_px)

    @always(clk.posedge)
    def count():
        if start:
            after.next = 0
            last.next = out_px <= first
            if out_px > first:
                after.next = out_px - first
        elif step:
            after.next = 0
            last.next = after <= following
            if after > following:
                after.next = after - following

    return look, count


@block
def _beats(accept, rsp_valid, full, room, opened, closed):
    """Rows of one beat: each is opened by its request and closed by its answer."""

    @always_comb
    def each():
        room.next = not full
        opened.next = accept
        closed.next = rsp_valid

    return each


@block
def _rows(
    clk,
    start,
    words,
    accept,
    rsp_valid,
    rsp_data,
    full,
    quiet,
    wr,
    renew,
    rd_next,
    room,
    opened,
    closed,
    q_data,
    ports,
    depth,
    row,
):
    """Rows of several beats: one RAM per place in the row."""
    bits = (row - 1).bit_length()
    asked, stored = (Signal(modbv(0)[bits:]) for _ in range(2))
    asked_end, stored_end, answers_start = (Signal(bool(0)) for _ in range(3))
    parts = [Signal(intbv(0)[32 * ports :]) for _ in range(row)]

    @always_comb
    def status():
        room.next = asked != 0 or not full
        opened.next = accept and asked == 0
        closed.next = rsp_valid and stored_end
        answers_start.next = start and quiet  # else they begin behind the last one of the layer before

    return (
        status,
        join(parts, q_data),
        _place(clk=clk, start=start, words=words, beat=accept, place=asked, end=asked_end, ports=ports, row=row),
        _place(
            clk=clk,
            start=answers_start,
            words=words,
            beat=rsp_valid,
            place=stored,
            end=stored_end,
            ports=ports,
            row=row,
        ),
        [
            _part(
                clk=clk,
                index=i,
                rsp_valid=rsp_valid,
                place=stored,
                wr=wr,
                rsp_data=rsp_data,
                renew=renew,
                rd_next=rd_next,
                data=parts[i],
                ports=ports,
                depth=depth,
            )
            for i in range(row)
        ],
    )


@block
def _place(clk, start, words, beat, place, end, ports, row):
    """Place of the next beat in its row, and whether the row ends with it."""
    left = Signal(modbv(0)[LINEAR:])

    @always_comb
    def last():
        end.next = place == row - 1 or left == ports

    @always(clk.posedge)
    def step():
        if start:
            place.next = 0
            left.next = words
        elif beat:
            place.next = place + 1
            left.next = left - ports
            if end:
                place.next = 0
            if left == ports:
                left.next = words

    return last, step


@block
def _part(clk, index, rsp_valid, place, wr, rsp_data, renew, rd_next, data, ports, depth):
    write = Signal(bool(0))

    @always_comb
    def enable():
        write.next = rsp_valid and place == index

    return enable, ram(clk, write, wr, rsp_data, renew, rd_next, data, width=32 * ports, depth=depth)

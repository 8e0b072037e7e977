"""Sequential streams that are read once per strip: weights and parameters."""

from myhdl import Signal, always, always_comb, concat, intbv, modbv

from hls.descriptor import LINEAR
from hls.ram import ram
from hls.unit import unit


@unit(out="req_valid req_addr used q_valid q_data idle")
def pass_reader(clk, rst, start, enable, base, words, out_px, first_px, strip_px, req_valid, req_ready, req_addr,
                rsp_valid, rsp_data, used, q_valid, q_data, q_take, idle, *, ports, depth):
    """``words`` words (a multiple of ports) from ``base``, once per strip, through a FIFO of ``depth`` beats.

    Strips are counted from the pixel counts. q_valid, q_data, q_take: first word fall through, beats of
    ``ports`` words. ``used``: beats asked for or waiting. Nothing is read unless ``enable`` holds at ``start``.
    ``idle``: no request to come and no answer due.
    """
    bits = (depth - 1).bit_length()
    active, accept = Signal(bool(0)), Signal(bool(0))
    at = Signal(modbv(0)[32:])
    left, px_after = (Signal(modbv(0)[LINEAR:]) for _ in range(2))
    wr, rd, rd_next = (Signal(modbv(0)[bits:]) for _ in range(3))
    stored, taken, in_flight = (Signal(modbv(0)[bits + 1:]) for _ in range(3))
    first, following = (Signal(modbv(0)[LINEAR:]) for _ in range(2))

    @always_comb
    def control():
        req_valid.next = active and used != depth
        accept.next = active and used != depth and req_ready
        req_addr.next = at
        first.next = concat(intbv(0)[LINEAR - 16:], first_px)
        following.next = concat(intbv(0)[LINEAR - 16:], strip_px)
        idle.next = not active and in_flight == 0
        rd_next.next = rd
        taken.next = stored
        if q_valid and q_take:
            rd_next.next = rd + 1
            taken.next = stored - 1

    memory = ram(clk, rsp_valid, wr, rsp_data, rd_next, q_data, width=32 * ports, depth=depth)

    @always(clk.posedge)
    def fetch():
        if rst:
            active.next = False
        elif start:
            active.next = enable
            at.next = base
            left.next = words
            px_after.next = 0
            if out_px > first:
                px_after.next = out_px - first
        elif accept:
            at.next = at + 4 * ports
            left.next = left - ports
            if left == ports:
                at.next = base
                left.next = words
                px_after.next = 0
                if px_after > following:
                    px_after.next = px_after - following
                if px_after == 0:
                    active.next = False

    @always(clk.posedge)
    def queue():
        rd.next = rd_next
        q_valid.next = taken != 0
        stored.next = taken
        if rsp_valid:
            wr.next = wr + 1
            stored.next = taken + 1
        if accept and not (q_valid and q_take):
            used.next = used + 1
        elif q_valid and q_take and not accept:
            used.next = used - 1
        if accept and not rsp_valid:
            in_flight.next = in_flight + 1
        elif rsp_valid and not accept:
            in_flight.next = in_flight - 1
        if rst:
            wr.next = 0
            rd.next = 0
            stored.next = 0
            used.next = 0
            in_flight.next = 0
            q_valid.next = False

    return control, memory, fetch, queue

"""Load engine: streams the layers' input windows, one behind the other, from memory into the activation buffer."""

from myhdl import Signal, always, always_comb, concat, intbv, modbv

from hls.descriptor import LINEAR
from hls.unit import unit

LOAD_JOB = ("load_addr load_addr_region load_c_stride load_x_stride load_y_stride load_c_count load_x_count "
            "load_y_count")
"""Descriptor fields that the load engine reads."""


@unit(out="req.valid req.addr req.stride req.count req.region wr_valid wr_pos wr_count wr_data loaded done")
def load_engine(
    clk, rst, start, job, load_open, available, released, req, rsp_valid, rsp_count, rsp_data,
    wr_valid, wr_pos, wr_count, wr_data, loaded, done, *, config
):
    """Request the window's words in order (y, x, c) in beats of up to P words of the inner loop.

    Linear positions count the words of all layers since ``rst``, modulo 2**LINEAR: a layer's words begin where the
    previous layer's end. ``released``(LINEAR): words no longer needed. A beat is requested when a full one would
    fit, so a layer may need at most activation_words - ports words at once; and, unless ``load_open``, only words
    among the layer's first ``available``(LINEAR). Answers (rsp_valid: this stream's bit) go straight to the buffer:
    wr_valid, wr_pos(LINEAR), wr_count(3), wr_data(32P). ``loaded``(LINEAR): end of the words that are readable in
    the next cycle. ``done``: level, low from the cycle after ``start`` until all of the layer's words are readable.
    """
    ports = config.ports
    size = config.activation_words
    active, last_beat, room, stored, step, advance = (Signal(bool(0)) for _ in range(6))
    c_left = Signal(modbv(0)[LINEAR:])
    x_left, y_left = (Signal(modbv(0)[16:]) for _ in range(2))
    asked, position = (Signal(modbv(0)[LINEAR:]) for _ in range(2))
    ahead, layer_asked, layer_next = (Signal(modbv(0)[LINEAR:]) for _ in range(3))
    at, x_at, y_at, x_next, y_next, beat = (Signal(modbv(0)[32:]) for _ in range(6))
    count = Signal(intbv(0)[3:])
    due = Signal(modbv(0)[size.bit_length():])  # beats in the request register or on their way

    @always_comb
    def shape():
        count.next = ports
        last_beat.next = c_left <= ports
        if c_left < ports:
            count.next = c_left[3:]
        ahead.next = asked - released
        layer_next.next = layer_asked + concat(intbv(0)[LINEAR - 3:], count)
        x_next.next = x_at + concat(job.load_x_stride[30:], "00")
        y_next.next = y_at + concat(job.load_y_stride[30:], "00")
        beat.next = concat(job.load_c_stride[30:], "00")

    @always_comb
    def allow():
        room.next = ahead[LINEAR - 1] or ahead <= size - ports
        stored.next = load_open or layer_next <= available

    @always_comb
    def proceed():
        advance.next = req.ready or not req.valid
        step.next = active and room and stored and (req.ready or not req.valid)
        req.stride.next = job.load_c_stride
        req.region.next = job.load_addr_region

    @always(clk.posedge)
    def request():
        if rst:
            req.valid.next = False
        elif advance:
            req.valid.next = active and room and stored
        if advance:
            req.addr.next = at
            req.count.next = count

    @always(clk.posedge)
    def walk():
        if rst:
            active.next = False
            asked.next = 0
        elif start:
            active.next = True
            layer_asked.next = 0
            c_left.next = job.load_c_count
            x_left.next = job.load_x_count
            y_left.next = job.load_y_count
            at.next = job.load_addr
            x_at.next = job.load_addr
            y_at.next = job.load_addr
        elif step:
            asked.next = asked + concat(intbv(0)[LINEAR - 3:], count)
            layer_asked.next = layer_next
            c_left.next = c_left - ports
            at.next = at + beat * ports
            if last_beat:
                c_left.next = job.load_c_count
                x_left.next = x_left - 1
                x_at.next = x_next
                at.next = x_next
                if x_left == 1:
                    x_left.next = job.load_x_count
                    y_left.next = y_left - 1
                    y_at.next = y_next
                    x_at.next = y_next
                    at.next = y_next
                    if y_left == 1:
                        active.next = False

    @always_comb
    def write():
        wr_valid.next = rsp_valid
        wr_pos.next = position
        wr_count.next = rsp_count
        wr_data.next = rsp_data
        loaded.next = position
        if rsp_valid:
            loaded.next = position + concat(intbv(0)[LINEAR - 3:], rsp_count)
        done.next = not active and due == 0

    @always(clk.posedge)
    def count_words():
        if rst:
            position.next = 0
        else:
            position.next = loaded

    @always(clk.posedge)
    def count_beats():
        if rst:
            due.next = 0
        elif step and not rsp_valid:
            due.next = due + 1
        elif rsp_valid and not step:
            due.next = due - 1

    return shape, allow, proceed, request, walk, write, count_words, count_beats

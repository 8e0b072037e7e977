# SPDX-License-Identifier: Apache-2.0
"""Load engine: streams the layers' input windows, one behind the other, from memory into the activation buffer."""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.config import Config
from hls.descriptor.interface.table import FIELD, LINEAR
from hls.descriptor.interface.timing import REQUESTS
from hls.lib.fifo import fifo
from hls.lib.unit import unit
from hls.lib.wiring import ignore, resize

_JOB = "load_addr load_addr_region load_c_stride load_x_stride load_y_stride load_c_count load_x_count load_y_count"


def load_job(config: Config) -> str:
    """Descriptor fields that the load engine reads."""
    return f"{_JOB} load_gap" if config.banded else _JOB


_GAP = FIELD["LOAD_GAP"].width


@unit(out="req.valid req.addr req.stride req.count req.region wr.valid wr.pos wr.count wr.data loaded done left")
def load_engine(
    clk,
    rst,
    start,
    job,
    load_open,
    available,
    released,
    req,
    rsp_valid,
    rsp_count,
    rsp_data,
    wr,
    loaded,
    done,
    left,
    *,
    config,
):
    """Request the window's words in order (y, x, c) in beats of up to P words of the inner loop; its last LOAD_GAP
    words, less than all, are passed over: they have a place in the buffer, and nobody reads it.

    Linear positions count the words of all layers since ``rst``, modulo 2**LINEAR: a layer's words begin where the
    previous layer's end. ``released``(LINEAR): words no longer needed. A beat is requested when a full one would
    fit, so a layer may need at most activation_words - ports words at once; and, unless ``load_open``, only words
    among the layer's first ``available``(LINEAR). Answers (rsp_valid: this stream's bit) go straight to the buffer:
    wr.valid, wr.pos(LINEAR), wr.count(3), wr.data(32P). ``loaded``(LINEAR): end of the words that are readable in
    the next cycle. ``done``: level, low from the cycle after ``start`` until all of the layer's words are readable.
    ``left``: level, words are loaded that were not released, or the other way round.
    """
    ports = config.ports
    size = config.activation_words
    beyond = size - ports + 1
    active, fresh, room, stored, step, queue_ready = (Signal(bool(0)) for _ in range(6))
    # Of the next beat, and whether it is the chunk's last, the chunk its row's, the row the layer's
    last_beat, last_x, last_y, next_last = (Signal(bool(0)) for _ in range(4))
    count, next_count = (Signal(intbv(0)[3:]) for _ in range(2))
    rest = Signal(modbv(0)[3:])
    c_count, c_left = (Signal(modbv(0)[LINEAR:]) for _ in range(2))  # words of the inner loop that are loaded
    step_words, next_words, answered = (Signal(intbv(0)[_GAP + 1 :]) for _ in range(3))  # with those passed over
    x_left, y_left = (Signal(modbv(0)[16:]) for _ in range(2))
    asked, position, limit, headroom, layer_next = (Signal(modbv(0)[LINEAR:]) for _ in range(5))
    at, x_at, y_at, x_next, y_next, beat = (Signal(modbv(0)[32:]) for _ in range(6))
    request, queued = (Signal(intbv(0)[35:]) for _ in range(2))
    due = Signal(modbv(0)[size.bit_length() :])  # beats in the request queue or on their way
    queue = fifo(
        clk=clk,
        rst=rst,
        in_valid=step,
        in_ready=queue_ready,
        in_data=request,
        out_valid=req.valid,
        out_ready=req.ready,
        out_data=queued,
        width=35,
        depth=REQUESTS,
    )

    @always_comb
    def shape():
        headroom.next = asked - limit
        x_next.next = x_at + concat(job.load_x_stride[30:], "00")
        y_next.next = y_at + concat(job.load_y_stride[30:], "00")
        beat.next = concat(job.load_c_stride[30:], "00")
        rest.next = c_left[3:] - ports

    @always_comb
    def look_ahead():
        fresh.next = start or last_beat
        next_count.next = ports
        if fresh:
            next_last.next = c_count <= ports
            if c_count < ports:
                next_count.next = c_count[3:]
        else:
            next_last.next = c_left <= 2 * ports
            if c_left < 2 * ports:
                next_count.next = rest

    @always_comb
    def allow():
        room.next = headroom[LINEAR - 1]
        stored.next = load_open or layer_next <= available
        step.next = active and room and stored and queue_ready

    @always_comb
    def ask():
        request.next = concat(count, at)
        req.addr.next = queued[32:]
        req.count.next = queued[35:32]
        req.stride.next = job.load_c_stride
        req.region.next = job.load_addr_region

    @always(clk.posedge)
    def bound():
        limit.next = released + beyond

    @always(clk.posedge)
    def walk():
        if rst:
            active.next = False
            asked.next = 0
        elif start:
            active.next = True
            c_left.next = c_count
            x_left.next = job.load_x_count
            last_x.next = job.load_x_count == 1
            y_left.next = job.load_y_count
            last_y.next = job.load_y_count == 1
            at.next = job.load_addr
            x_at.next = job.load_addr
            y_at.next = job.load_addr
        elif step:
            asked.next = asked + concat(intbv(0)[LINEAR - _GAP - 1 :], step_words)
            c_left.next = c_left - ports
            at.next = at + beat * ports
            if last_beat:
                c_left.next = c_count
                x_left.next = x_left - 1
                last_x.next = x_left == 2
                x_at.next = x_next
                at.next = x_next
                if last_x:
                    x_left.next = job.load_x_count
                    last_x.next = job.load_x_count == 1
                    y_left.next = y_left - 1
                    last_y.next = y_left == 2
                    y_at.next = y_next
                    x_at.next = y_next
                    at.next = y_next
                    if last_y:
                        active.next = False

    @always(clk.posedge)
    def follow():
        if start:
            layer_next.next = concat(intbv(0)[LINEAR - 3 :], next_count)
        elif step:
            layer_next.next = layer_next + concat(intbv(0)[LINEAR - _GAP - 1 :], next_words)
        if start or step:
            count.next = next_count
            last_beat.next = next_last

    @always_comb
    def write():
        wr.valid.next = rsp_valid
        wr.pos.next = position
        wr.count.next = rsp_count
        wr.data.next = rsp_data
        loaded.next = position
        if rsp_valid:
            loaded.next = position + concat(intbv(0)[LINEAR - _GAP - 1 :], answered)
        done.next = not active and due == 0

    @always(clk.posedge)
    def count_words():
        if rst:
            position.next = 0
        else:
            position.next = loaded

    @always_comb
    def compare():
        left.next = position != released

    @always(clk.posedge)
    def count_beats():
        if rst:
            due.next = 0
        elif step and not rsp_valid:
            due.next = due + 1
        elif rsp_valid and not step:
            due.next = due - 1

    if config.banded:
        passing = _with_gap(
            clk=clk,
            job=job,
            start=start,
            rsp_valid=rsp_valid,
            last_beat=last_beat,
            c_count=c_count,
            count=count,
            next_count=next_count,
            rsp_count=rsp_count,
            step_words=step_words,
            next_words=next_words,
            answered=answered,
            config=config,
        )
    else:
        passing = [
            resize(job.load_c_count, c_count),
            resize(count, step_words),
            resize(next_count, next_words),
            resize(rsp_count, answered),
        ]
    return (
        passing,
        queue,
        shape,
        look_ahead,
        allow,
        ask,
        bound,
        walk,
        follow,
        write,
        count_words,
        compare,
        count_beats,
        ignore(headroom, 0, LINEAR - 1),
        ignore(job.load_x_stride, 30, 32),
        ignore(job.load_y_stride, 30, 32),
    )


@block
def _with_gap(
    clk,
    job,
    start,
    rsp_valid,
    last_beat,
    c_count,
    count,
    next_count,
    rsp_count,
    step_words,
    next_words,
    answered,
    *,
    config,
):
    """Words by which a beat, the next one and an answer move on: their own, and those passed over at an inner loop's
    end; that of the beat before the next one counts with the next one, whose words alone must exist."""
    ports, extra = config.ports, _GAP - 2
    fresh, last_answer, last_then = (Signal(bool(0)) for _ in range(3))
    due = Signal(modbv(0)[LINEAR:])  # words of the inner loop whose answers are due
    gap, answered_gap = (Signal(intbv(0)[_GAP:]) for _ in range(2))

    @always_comb
    def words():
        c_count.next = job.load_c_count - concat(intbv(0)[LINEAR - _GAP :], job.load_gap)

    @always_comb
    def pass_over():
        gap.next = 0
        if last_beat:
            gap.next = job.load_gap
        answered_gap.next = 0
        if last_answer:
            answered_gap.next = job.load_gap

    @always_comb
    def sums():
        step_words.next = concat(intbv(0)[extra:], count) + concat(False, gap)
        next_words.next = concat(intbv(0)[extra:], next_count) + concat(False, gap)
        answered.next = concat(intbv(0)[extra:], rsp_count) + concat(False, answered_gap)

    @always_comb
    def look_ahead():
        fresh.next = start or last_answer
        last_then.next = due <= 2 * ports
        if fresh:
            last_then.next = c_count <= ports

    @always(clk.posedge)
    def follow():
        if start or rsp_valid:
            last_answer.next = last_then
            due.next = due - ports
            if fresh:
                due.next = c_count

    return words, pass_over, sums, look_ahead, follow

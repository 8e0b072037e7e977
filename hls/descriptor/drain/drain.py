# SPDX-License-Identifier: Apache-2.0
"""Drain: accumulator banks through the epilogue to memory.

Both the store side and the aux side (`aux_reader`) walk the same loops, each with its own `output_walker`: the store
side one accumulator entry row per cycle, the aux side ahead of it.
"""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.arithmetic.epilogue import ACTIVATION_FLAGS, ACTIVATION_NUMBERS, epilogue_lane
from hls.config import Config
from hls.descriptor.drain.param_rows import param_rows
from hls.descriptor.drain.walker import Beat, loops, output_walker, walk_job
from hls.descriptor.interface.table import LINEAR
from hls.descriptor.interface.timing import HALF_BANKS, store_beats
from hls.lib.fifo import fifo
from hls.lib.mux import choose
from hls.lib.select import both
from hls.lib.unit import unit
from hls.lib.wiring import join, split

_JOB = (
    f"uniform residual act_first {ACTIVATION_FLAGS} scale bias {ACTIVATION_NUMBERS} store_addr store_addr_region "
    "store_c_stride store_x_stride store_y_stride store_cb_step store_g_step mark_words mark_base"
)


def drain_job(config: Config) -> str:
    """Descriptor fields that `drain` reads."""
    options = [
        *["function table_slot"] * config.functions,
        *["multiply negative"] * config.multiply,
        *["packed_scales"] * config.packed_scales,
    ]
    return " ".join([loops(config), _JOB, *options])


@unit(
    out="bank_free drain.valid drain.bank drain.addr param.take aux.take req.valid req.addr req.stride req.count "
    "req.region req.data req.mark available done left"
)
def drain(
    clk,
    rst,
    start,
    job,
    bank_done,
    bank_free,
    drain,
    param,
    aux,
    table,
    table_ready,
    req,
    mark_returned,
    available,
    done,
    left,
    *,
    config,
):
    """Read finished accumulator banks, apply the epilogue, store; one beat per cycle.

    Banks alternate; ``bank_done`` announces each, also before its layer starts here, ``bank_free`` says that its
    last entry is being read. drain.data (cols lanes) follows drain.valid, with drain.bank and drain.addr, by one cycle,
    then it stays: an entry is read once. Parameters come first word fall through, 2 beats (scales, biases) per row of a
    channel block, for every block of every strip, unless UNIFORM; residual beats likewise, one per store beat. With
    `config.functions` nothing is read before ``table_ready``, and the words of ``table`` go to all lanes; else both are
    None. ``done`` is low from the cycle after start until the last store beat was accepted (req.valid and req.ready),
    high otherwise. ``available``: MARK_BASE, and MARK_WORDS for every marked store beat that was answered
    (``mark_returned``) since start.
    ``left``: level, finished banks or parameters wait.
    """
    ports, width = config.ports, 32 * config.ports
    beat, places = Beat(config), store_beats(config)
    walking, issue, params_ready, params_release = (Signal(bool(0)) for _ in range(4))
    full = Signal(intbv(0)[HALF_BANKS.bit_length() :])
    room = Signal(intbv(0)[places.bit_length() :])
    row = Signal(intbv(0)[len(beat.row) :])
    selected, acc, aux1, aux2, scales, biases, scale, bias, result = (Signal(intbv(0)[width:]) for _ in range(9))
    stored = scales
    issued, operands_valid, data_valid, taken, place_valid, place_ready, data_ready = (
        Signal(bool(0)) for _ in range(7)
    )
    place, place_in = (Signal(intbv(0)[36:]) for _ in range(2))
    words_done = Signal(modbv(0)[LINEAR:])
    same_scale, same_bias = (Signal(intbv(0)[width:]) for _ in range(2))
    result_valids = [Signal(bool(0)) for _ in range(ports)]
    ready, parts = beat.valid, []
    if config.functions:
        ready = Signal(bool(0))
        parts.append(both(beat.valid, table_ready, ready))
    if config.packed_scales:
        stored = Signal(intbv(0)[width:])
        parts.append(_unpacked(stored, job.packed_scales, row, scales, ports))

    @always_comb
    def decide():
        issue.next = (
            ready and full != 0 and room != 0 and (params_ready or job.uniform) and (aux.valid or not job.residual)
        )

    @always_comb
    def drive():
        drain.valid.next = beat.valid and full != 0 and beat.row == 0
        drain.bank.next = beat.bank
        drain.addr.next = beat.entry
        bank_free.next = issue and beat.bank_last
        aux.take.next = issue and job.residual
        params_release.next = issue and beat.block_last and not job.uniform
        place_in.next = concat(beat.mark, beat.count, beat.addr)

    @always_comb
    def store():
        req.valid.next = data_valid
        req.addr.next = place[32:]
        req.count.next = place[35:32]
        req.mark.next = place[35]
        req.stride.next = job.store_c_stride
        req.region.next = job.store_addr_region
        taken.next = data_valid and req.ready
        done.next = not walking and room == places
        available.next = words_done
        left.next = full != 0 or params_ready

    @always(clk.posedge)
    def account():
        if start:
            words_done.next = job.mark_base
        elif mark_returned:
            words_done.next = words_done + job.mark_words
        if rst:
            full.next = 0
            room.next = places
        else:
            if bank_done and not (issue and beat.bank_last):
                full.next = full + 1
            elif issue and beat.bank_last and not bank_done:
                full.next = full - 1
            if issue and not taken:
                room.next = room - 1
            elif taken and not issue:
                room.next = room + 1

    @always(clk.posedge)
    def follow():
        row.next = beat.row
        if aux.valid:
            aux1.next = aux.data
        if issued:
            acc.next = selected
            aux2.next = aux1
            scale.next = scales
            bias.next = biases
            if job.uniform:
                scale.next = same_scale
                bias.next = same_bias
        issued.next = issue and not rst
        operands_valid.next = issued and not rst

    lanes = [[Signal(intbv(0)[32:]) for _ in range(ports)] for _ in range(5)]
    accs, scale_lanes, bias_lanes, aux_lanes, results = lanes
    return (
        parts,
        decide,
        drive,
        store,
        account,
        follow,
        output_walker(clk, rst, start, walk_job(job, "store", config), beat, issue, walking, config=config),
        param_rows(
            clk=clk,
            rst=rst,
            start=start,
            diagonal=job.diagonal,
            band=job.band if config.banded else None,
            pairs=job.packed_scales if config.packed_scales else None,
            valid=param.valid,
            data=param.data,
            take=param.take,
            row=beat.row,
            leave=params_release,
            ready=params_ready,
            scales=stored,
            biases=biases,
            config=config,
        ),
        _row_select(drain.data, row, selected, config),
        join([job.scale] * ports, same_scale),
        join([job.bias] * ports, same_bias),
        [split(bus, parts) for bus, parts in zip((acc, scale, bias, aux2), lanes)],
        [
            epilogue_lane(
                clk=clk,
                rst=rst,
                in_valid=operands_valid,
                acc=accs[i],
                scale=scale_lanes[i],
                bias=bias_lanes[i],
                res=aux_lanes[i],
                res_en=job.residual,
                act_before_res=job.act_first,
                function_en=job.function if config.functions else None,
                slot=job.table_slot if config.functions else None,
                table=table,
                multiply=job.multiply if config.multiply else None,
                negative=job.negative if config.multiply else None,
                out_valid=result_valids[i],
                y=results[i],
                config=config,
                **{name: getattr(job, name) for name in f"{ACTIVATION_FLAGS} {ACTIVATION_NUMBERS}".split()},
            )
            for i in range(ports)
        ],
        join(results, result),
        fifo(
            clk=clk,
            rst=rst,
            in_valid=issue,
            in_ready=place_ready,
            in_data=place_in,
            out_valid=place_valid,
            out_ready=taken,
            out_data=place,
            width=36,
            depth=places,
        ),
        fifo(
            clk=clk,
            rst=rst,
            in_valid=result_valids[0],
            in_ready=data_ready,
            in_data=result,
            out_valid=data_valid,
            out_ready=taken,
            out_data=req.data,
            width=width,
            depth=places,
        ),
    )


@block
def _unpacked(stored, pairs, row, scales, ports):
    """Scales of ``row``; where ``pairs`` holds they lie in the upper halves if it is even, else in the lower ones."""
    words, numbers = ([Signal(intbv(0)[32:]) for _ in range(ports)] for _ in range(2))
    odd = Signal(bool(0))

    @always_comb
    def look():
        odd.next = row[0]

    return (
        look,
        split(stored, words),
        [_number(word, pairs, odd, number) for word, number in zip(words, numbers, strict=True)],
        join(numbers, scales),
    )


@block
def _number(word, pairs, odd, number):
    @always_comb
    def choose_half():
        number.next = word
        if pairs:
            number.next = concat(word[32:16], intbv(0)[16:])
            if odd:
                number.next = concat(word[16:], intbv(0)[16:])

    return choose_half


@block
def _row_select(entry, row, selected, config):
    """Words ``row * ports`` and following of an accumulator entry; anything where there is no such column."""
    ports = config.ports
    lanes = [Signal(intbv(0)[32:]) for _ in range(config.cols)]
    parts = [split(entry, lanes)]
    picked = [Signal(intbv(0)[32:]) for _ in range(ports)]
    for i in range(ports):
        parts.append(choose(lanes[i::ports] or lanes[:1], row, picked[i]))
    return parts, join(picked, selected)

# SPDX-License-Identifier: Apache-2.0
"""Aux reader: residual or initial values from memory, ahead of the drain."""

from myhdl import Signal, always, always_comb, block, concat, intbv

from hls.config import Config
from hls.descriptor.drain.table_reader import TABLE_JOB, Requests, table_reader
from hls.descriptor.drain.walker import Beat, loops, output_walker, walk_job
from hls.descriptor.interface.timing import AUX_BEATS, REQUESTS
from hls.lib.fifo import fifo
from hls.lib.unit import unit
from hls.lib.wiring import ignore, join, split

_JOB = "residual aux_addr aux_addr_region aux_c_stride aux_x_stride aux_y_stride aux_cb_step aux_g_step"


def aux_job(config: Config) -> str:
    """Descriptor fields that `aux_reader` reads."""
    fields = f"{loops(config)} {_JOB} {TABLE_JOB if config.functions else ''}"
    return " ".join(dict.fromkeys(fields.split()))


@unit(
    out="req.valid req.addr req.stride req.count req.region init.valid init.bank init.addr init.data bank_ready "
    "aux.valid aux.data table.valid table.pair table.data table_ready"
)
def aux_reader(
    clk, rst, start, job, req, rsp_valid, rsp_data, bank_free, init, bank_ready, aux, table, table_ready, *, config
):
    """Read the AUX stream ahead of the store side, beat for beat; nothing without RESIDUAL or ACC_INIT.

    RESIDUAL: beats wait at aux.valid, aux.data (first word fall through) for aux.take. ACC_INIT: they are
    written to the accumulators' init port as soon as their bank is free (both are at start, then after each
    ``bank_free``); ``bank_ready`` pulses with the last write of each bank, which may be used from the next
    cycle on. Requests never exceed the room for their answers. With `config.functions`, ``table`` gets the table that
    the layer loads, before anything else (`table_reader`); else it and ``table_ready`` are None.
    """
    ports, cols = config.ports, config.cols
    beat, waiting = Beat(config), Beat(config)
    walk, walking, accepted, pop, initialise, may_ask = (Signal(bool(0)) for _ in range(6))
    data_valid, data_ready, place_valid, place_ready, ask_ready = (Signal(bool(0)) for _ in range(5))
    asked, queued = (Signal(intbv(0)[35:]) for _ in range(2))
    room = Signal(intbv(0)[AUX_BEATS.bit_length() :])
    banks = Signal(intbv(0)[2:])
    row_bits, entry_bits = len(beat.row), len(beat.entry)
    width = 5 + row_bits + entry_bits
    place, place_in = (Signal(intbv(0)[width:]) for _ in range(2))
    words = [Signal(intbv(0)[32:]) for _ in range(ports)]
    valids = [Signal(bool(0)) for _ in range(cols)]

    begin, answered, push, entry, stride, region = (
        start,
        rsp_valid,
        accepted,
        asked,
        job.aux_c_stride,
        job.aux_addr_region,
    )
    parts = []
    if config.functions:
        queue, begin, answered = Requests(), Signal(bool(0)), Signal(bool(0))
        push, entry, stride, region = queue.push, queue.entry, queue.stride, queue.region
        parts.append(
            table_reader(
                clk=clk,
                rst=rst,
                start=start,
                job=job.subset(TABLE_JOB),
                accepted=accepted,
                asked=asked,
                ask_ready=ask_ready,
                rsp_valid=rsp_valid,
                rsp_data=rsp_data,
                queue=queue,
                go=begin,
                answered=answered,
                table=table,
                table_ready=table_ready,
                config=config,
            )
        )

    @always_comb
    def request():
        walk.next = begin and (job.residual or job.acc_init)
        accepted.next = beat.valid and may_ask and ask_ready
        asked.next = concat(beat.count, beat.addr)
        req.addr.next = queued[32:]
        req.count.next = queued[35:32]
        req.stride.next = stride
        req.region.next = region
        place_in.next = concat(beat.bank_last, beat.bank, beat.count, beat.entry, beat.row)

    @always_comb
    def unpack():
        waiting.row.next = place[row_bits:]
        waiting.entry.next = place[row_bits + entry_bits : row_bits]
        waiting.count.next = place[row_bits + entry_bits + 3 : row_bits + entry_bits]
        waiting.bank.next = place[row_bits + entry_bits + 3]
        waiting.bank_last.next = place[row_bits + entry_bits + 4]

    @always_comb
    def deliver():
        aux.valid.next = data_valid and job.residual
        initialise.next = data_valid and job.acc_init and banks != 0
        pop.next = aux.take or (data_valid and job.acc_init and banks != 0)
        bank_ready.next = data_valid and job.acc_init and banks != 0 and waiting.bank_last
        init.bank.next = waiting.bank
        init.addr.next = waiting.entry

    @always(clk.posedge)
    def account():
        if rst or start:
            room.next = AUX_BEATS
            may_ask.next = True
            banks.next = 2
        else:
            if accepted and not pop:
                room.next = room - 1
                may_ask.next = room != 1
            elif pop and not accepted:
                room.next = room + 1
                may_ask.next = True
            if bank_free and job.acc_init and not bank_ready:
                banks.next = banks + 1
            elif bank_ready and not bank_free:
                banks.next = banks - 1

    return (
        parts,
        request,
        unpack,
        deliver,
        account,
        output_walker(clk, rst, walk, walk_job(job, "aux", config), beat, accepted, walking, config=config),
        fifo(
            clk=clk,
            rst=rst,
            in_valid=push,
            in_ready=ask_ready,
            in_data=entry,
            out_valid=req.valid,
            out_ready=req.ready,
            out_data=queued,
            width=35,
            depth=REQUESTS,
        ),
        fifo(
            clk=clk,
            rst=rst,
            in_valid=accepted,
            in_ready=place_ready,
            in_data=place_in,
            out_valid=place_valid,
            out_ready=pop,
            out_data=place,
            width=width,
            depth=AUX_BEATS,
        ),
        fifo(
            clk=clk,
            rst=rst,
            in_valid=answered,
            in_ready=data_ready,
            in_data=rsp_data,
            out_valid=data_valid,
            out_ready=pop,
            out_data=aux.data,
            width=32 * ports,
            depth=AUX_BEATS,
        ),
        split(aux.data, words),
        [_init_lane(initialise, waiting, valids[c], c, ports) for c in range(cols)],
        join(valids, init.valid),
        join([words[c % ports] for c in range(cols)], init.data),
        [ignore(word, 0, 32) for word in words[cols:]],
    )


@block
def _init_lane(init, beat, valid, column, ports):
    """Whether ``column`` is among the beat's channels."""
    row, lane = divmod(column, ports)

    @always_comb
    def decode():
        valid.next = init and beat.row == row and beat.count > lane

    return decode

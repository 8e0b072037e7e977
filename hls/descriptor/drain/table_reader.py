# SPDX-License-Identifier: Apache-2.0
"""Table reader: the table of a layer's function, from memory into the lanes."""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.arithmetic.function import ROW_WORDS
from hls.descriptor.interface.timing import table_beat
from hls.lib.unit import unit
from hls.lib.wiring import ignore

TABLE_JOB = "load_table table_rows table_addr table_addr_region aux_c_stride aux_addr_region"
"""Descriptor fields that `table_reader` reads."""


class Requests:
    """What the aux reader's queue of requests takes: `push` of `entry`, count above address; stride and region."""

    def __init__(self) -> None:
        self.push, self.entry = Signal(bool(0)), Signal(intbv(0)[35:])
        self.stride, self.region = Signal(intbv(0, min=-(1 << 31), max=1 << 31)), Signal(intbv(0)[2:])


@unit(out="queue.push queue.entry queue.stride queue.region go answered table.valid table.pair table.data table_ready")
def table_reader(
    clk,
    rst,
    start,
    job,
    accepted,
    asked,
    ask_ready,
    rsp_valid,
    rsp_data,
    queue,
    go,
    answered,
    table,
    table_ready,
    *,
    config,
):
    """A table's words before the AUX stream's, by the same `queue` (`Requests`) of requests.

    ``table`` (`function.TableWrite`): a pair of words for all lanes. ``table_ready`` is low from the cycle after start
    until the whole table, if the layer loads one, is on its way. ``go`` pulses when the AUX stream may: with start,
    or with the last answer. ``answered`` are the answers that are not the table's, ``accepted`` and ``asked`` the
    stream's own requests.
    """
    words = table_beat(config)
    step, shift = 4 * words, (ROW_WORDS // words).bit_length() - 1
    loading, asking, ended = (Signal(bool(0)) for _ in range(3))
    asks, due = (Signal(modbv(0)[8 + shift :]) for _ in range(2))
    addr = Signal(modbv(0)[32:])

    @always_comb
    def follow():
        asking.next = loading and asks != 0 and ask_ready
        ended.next = loading and rsp_valid and due == 1
        answered.next = rsp_valid and not loading
        table_ready.next = not loading

    @always_comb
    def request():
        go.next = ended or (start and not job.load_table)
        queue.push.next = accepted or asking
        queue.entry.next = asked
        queue.stride.next = job.aux_c_stride
        queue.region.next = job.aux_addr_region
        if loading:
            queue.entry.next = concat(intbv(words)[3:], addr)
            queue.stride.next = 1
            queue.region.next = job.table_addr_region

    @always(clk.posedge)
    def load():
        if rst:
            loading.next = False
        elif start:
            loading.next = job.load_table
            addr.next = job.table_addr
            asks.next = concat(job.table_rows, intbv(0)[shift:])
            due.next = concat(job.table_rows, intbv(0)[shift:])
        else:
            if asking:
                asks.next = asks - 1
                addr.next = addr + step
            if loading and rsp_valid:
                due.next = due - 1
            if ended:
                loading.next = False

    @always(clk.posedge)
    def count():
        if start:
            table.pair.next = 0
        elif table.valid:
            table.pair.next = table.pair + 1

    return (
        follow,
        request,
        load,
        count,
        _pair(
            clk=clk, rst=rst, loading=loading, rsp_valid=rsp_valid, rsp_data=rsp_data, due=due, table=table, words=words
        ),
        ignore(rsp_data, 64, len(rsp_data)),
    )


@block
def _pair(clk, rst, loading, rsp_valid, rsp_data, due, table, words):
    """Two words of a table, as they come."""

    @always(clk.posedge)
    def take():
        table.valid.next = loading and rsp_valid and not rst
        if loading:
            table.data.next = rsp_data[64:]

    @always(clk.posedge)
    def collect():
        table.valid.next = loading and rsp_valid and due[0] and not rst
        if loading and rsp_valid:
            table.data.next = concat(rsp_data, table.data[64:32])

    return take if words == 2 else collect

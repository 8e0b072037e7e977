# SPDX-License-Identifier: Apache-2.0
"""The streaming accelerator: a weight-stationary array that the CPU feeds, and whose sums it reads."""

from myhdl import ConcatSignal, Signal, always_comb, block, intbv

from hls.arithmetic.aligned import LANE_BITS, META_BITS, NORMALISE_LATENCY, normaliser
from hls.lib.delay import delay_line, occupancy
from hls.lib.unit import unit
from hls.streaming.collect import collector, result_buffer, sum_buffer
from hls.streaming.feed import lane_aligner, lane_feed
from hls.streaming.grid import Load, sum_bits, weight_grid
from hls.streaming.registers import INDEX_BITS
from hls.streaming.slave import Vector, slot_bits, stream_slave
from hls.streaming.timing import LANE_LATENCY, column_time, front, is_aligned, result_latency


@unit(out="s.gnt s.rvalid s.rdata idle")
def streaming(clk, rst_n, s, idle, *, config):
    """Systolic array behind an OBI slave: weights and vectors are written, sums are read (`hls.streaming.registers`).

    rst_n is synchronous. `idle`: all vectors have reached their sums.
    """
    rows, cols, aligned = config.rows, config.cols, is_aligned(config)
    slots, width = slot_bits(config), sum_bits(config)
    row_bits, column_bits = (max(1, (n - 1).bit_length()) for n in (rows, cols))

    rst, write_lane, swap, late_swap, entering, lead, active, ahead = (Signal(False) for _ in range(8))
    vector, load = Vector(slots), Load()
    reading = Signal(intbv(0)[INDEX_BITS:])
    read_slot = Signal(intbv(0)[slots:])
    fp32, data = (Signal(intbv(0)[32:]) for _ in range(2))
    psums = Signal(intbv(0)[width * cols :])
    collected = Signal(intbv(0)[width:])
    turn, column = (Signal(intbv(0)[column_bits:]) for _ in range(2))
    some, lane, result = None, fp32, collected

    @always_comb
    def glue():
        rst.next = not rst_n
        swap.next = vector.start and vector.new

    written_lane, read_column = s.addr(2 + row_bits, 2), s.addr(2 + column_bits, 2)
    parts = [
        stream_slave(
            clk=clk,
            rst=rst,
            s=s,
            idle=idle,
            write_lane=write_lane,
            reading=reading,
            vector=vector,
            load=load,
            read_slot=read_slot,
            data=data,
            config=config,
        ),
        lane_feed(clk, write_lane, written_lane, s.wdata, reading, vector.last, fp32),
    ]
    if aligned:
        lane, result = Signal(intbv(0)[LANE_BITS:]), Signal(intbv(0)[32:])
        some = Signal(False)
        meta, late_meta = (Signal(intbv(0)[META_BITS:]) for _ in range(2))
        signed = Signal(intbv(0, min=-(1 << width - 1), max=1 << width - 1))
        late = Signal(intbv(0)[column_bits + 1 :])
        occupied = Signal(intbv(0)[NORMALISE_LATENCY:])
        parts += [
            lane_aligner(
                clk=clk,
                write=write_lane,
                lane=written_lane,
                field=s.wdata(31, 23),
                start=vector.start,
                fp32=fp32,
                some=some,
                aligned=lane,
                meta=meta,
            ),
            delay_line(clk, meta, late_meta, width=META_BITS, cycles=column_time(config) + 1 - LANE_LATENCY),
            _signed(collected, signed),
            occupancy(clk, active, occupied),
            normaliser(clk, occupied, signed, late_meta, result, rows=rows),
            delay_line(clk, ConcatSignal(active, turn), late, width=column_bits + 1, cycles=NORMALISE_LATENCY),
            _same(late(column_bits), ahead),
            _same(late(column_bits, 0), column),
        ]
    else:
        parts += [_same(active, ahead), _same(turn, column)]
    parts += [
        delay_line(clk, swap, late_swap, width=1, cycles=front(config) - 1),
        delay_line(clk, vector.start, entering, width=1, cycles=front(config)),
        weight_grid(clk, entering, some, lane, late_swap, load, psums, config=config),
        delay_line(clk, vector.start, lead, width=1, cycles=column_time(config) - 1),
        collector(clk, rst, lead, psums, collected, active, turn, cols=cols, width=width),
    ]
    if config.sums:
        slot, first = Signal(intbv(0)[slots:]), Signal(False)
        wait = column_time(config) + result_latency(config) - 1
        parts += [
            delay_line(clk, vector.slot, slot, width=slots, cycles=wait),
            delay_line(clk, vector.first, first, width=1, cycles=wait),
            sum_buffer(
                clk, ahead, ConcatSignal(slot, column), first, result, ConcatSignal(read_slot, read_column), data
            ),
        ]
    else:
        parts.append(result_buffer(clk, ahead, column, result, read_column, data))
    return parts, glue


@block
def _same(d, q):
    @always_comb
    def wire():
        q.next = d

    return wire


@block
def _signed(bits, number):
    @always_comb
    def sign():
        number.next = bits.signed()

    return sign

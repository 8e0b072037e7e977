# SPDX-License-Identifier: Apache-2.0
"""Accumulators: one FP32 adder and two banks of entries per column, with the systolic skew inside."""

from typing import TypeVar

import numpy as np
from myhdl import Signal, always, always_comb, block, concat, intbv
from numpy.typing import NDArray

from hls.arithmetic.fp32 import FP32_ADD_LATENCY, add_model, canonical, fp32_add
from hls.lib.ram import ram
from hls.lib.unit import unit
from hls.lib.wiring import join, split

_READ = 2  # synchronous RAM, choice of the operands
_STAGES = _READ + FP32_ADD_LATENCY

ACC_LATENCY = _STAGES + 1
"""Cycles from an operation to the first one that may use or read the same entry."""

Count = TypeVar("Count", int, NDArray[np.int64])


def last_to_done(cols: int, entries: Count) -> Count:
    """Cycles from the last operation on a bank, the last one of `entries` in a row, to its bank_done.

    A drain takes a cycle an entry at least: with many entries it may begin as soon as no column reads any more.
    """
    return cols + (ACC_LATENCY - 1) * (entries < ACC_LATENCY)


def accumulate_model(acc: np.ndarray, x: np.ndarray, first: bool, max_mode: bool) -> np.ndarray:
    """Entry after one operation, element-wise on uint32 bit patterns.

    first: x. Else add: acc + x, rounded to nearest even. Else max: x where x > acc (IEEE: not for -0, +0) or x is
    NaN, and acc elsewhere, in particular where acc is NaN. Every NaN written is 0x7FC00000.
    """
    acc, x = np.asarray(acc, np.uint32), np.asarray(x, np.uint32)
    if first:
        return canonical(np.broadcast_to(x, np.broadcast_shapes(acc.shape, x.shape)))
    if not max_mode:
        return add_model(acc, x)
    a, b = acc.view(np.float32), x.view(np.float32)
    return canonical(np.where((b > a) | np.isnan(b), x, acc))


@unit(out="drain_data")
def accumulator_column(
    clk,
    valid,
    behind,
    addr,
    bank,
    first,
    max_mode,
    write_bank,
    write_addr,
    x,
    init_valid,
    init_bank,
    init_addr,
    init_data,
    drain_valid,
    drain_bank,
    drain_addr,
    drain_data,
    *,
    entries,
):
    """One column: two banks of ``entries`` (a power of two) FP32 words.

    A valid operation updates entry addr of a bank as in `accumulate_model`; the entry may be used again, or
    drained, ACC_LATENCY cycles later. Bit k of ``behind`` is ``valid``, k + 1 cycles ago; write_bank and write_addr
    are those of the operation of its last bit. init_* writes an entry (usable in the next cycle), but not in the
    cycle in which an operation writes to the same bank: ACC_LATENCY - 1 cycles after it was presented. drain_data
    follows drain_valid by one cycle, and stays until the next one; it is meaningless for a bank that an operation
    without ``first``, which reads, uses meanwhile.
    """
    width = len(addr)
    y, x1, x2, acc, acc2, a, b = (Signal(intbv(0)[32:]) for _ in range(7))
    may_keep1, alone1, may_keep2, alone2, larger2, ones2, fraction2, not_zero2, keep = (Signal(False) for _ in range(9))
    bank1, drain_bank1, write = (Signal(False) for _ in range(3))
    reads_entry = Signal(False)
    reads = [Signal(intbv(0)[32:]) for _ in range(2)]
    read0, read1 = reads

    @always(clk.posedge)
    def follow():
        if valid:
            x1.next = x
            may_keep1.next = max_mode and not first and not (x[31:23] == 255 and x[23:] != 0)
            alone1.next = first or max_mode
            bank1.next = bank
        if drain_valid:
            drain_bank1.next = drain_bank

    @always_comb
    def look():
        reads_entry.next = valid and not first

    @always_comb
    def finish():
        write.next = behind[_STAGES - 1]
        drain_data.next = read1 if drain_bank1 else read0

    @always_comb
    def fetch():
        acc.next = read1 if bank1 else read0

    @always(clk.posedge)
    def compare():
        if behind[0]:
            x2.next = x1
            acc2.next = acc
            larger2.next = acc[31:] > x1[31:]  # magnitudes
            ones2.next = acc[31:23] == 255
            fraction2.next = acc[23:] != 0
            may_keep2.next = may_keep1
            alone2.next = alone1
            not_zero2.next = x1[31:] != 0

    @always_comb
    def decide():  # where the patterns are equal, either may be kept
        keep.next = may_keep2 and ((ones2 and fraction2) or larger2 != x2[31])
        if x2[31] != acc2[31]:
            keep.next = may_keep2 and ((ones2 and fraction2) or x2[31] or not (not_zero2 or larger2))

    @always_comb
    def operands():
        # Adding -0 changes nothing, so `first` and `max` pass a value through the adder.
        a.next = acc2 if keep else x2
        b.next = acc2
        if alone2:
            b.next = concat(True, intbv(0)[31:])

    add = fp32_add(clk, behind(_STAGES - 1, 1), a, b, y)
    ports, memories = [], []
    for number in range(2):
        we, re = (Signal(False) for _ in range(2))
        waddr, raddr = (Signal(intbv(0)[width:]) for _ in range(2))
        wdata = Signal(intbv(0)[32:])
        ports.append(
            _bank_ports(
                reads=reads_entry,
                read_bank=bank,
                read_addr=addr,
                write=write,
                write_bank=write_bank,
                write_addr=write_addr,
                write_data=y,
                init=init_valid,
                init_bank=init_bank,
                init_addr=init_addr,
                init_data=init_data,
                drain_valid=drain_valid,
                drain_bank=drain_bank,
                drain_addr=drain_addr,
                we=we,
                waddr=waddr,
                wdata=wdata,
                re=re,
                raddr=raddr,
                number=number,
            )
        )
        memories.append(ram(clk, we, waddr, wdata, re, raddr, reads[number], width=32, depth=entries))
    return follow, look, finish, fetch, compare, decide, operands, add, ports, memories


@block
def _bank_ports(
    reads,
    read_bank,
    read_addr,
    write,
    write_bank,
    write_addr,
    write_data,
    init,
    init_bank,
    init_addr,
    init_data,
    drain_valid,
    drain_bank,
    drain_addr,
    we,
    waddr,
    wdata,
    re,
    raddr,
    *,
    number,
):
    """Operations have the two ports of their bank; drain and initialisation get what they leave."""

    @always_comb
    def choose():
        if reads and read_bank == number:
            re.next = True
            raddr.next = read_addr
        else:
            re.next = drain_valid and drain_bank == number
            raddr.next = drain_addr
        if write and write_bank == number:
            we.next = True
            waddr.next = write_addr
            wdata.next = write_data
        else:
            we.next = init and init_bank == number
            waddr.next = init_addr
            wdata.next = init_data

    return choose


class EntryWrite:
    """Initial values: ``valid[c]`` writes lane c of ``data`` to entry ``addr`` of ``bank``."""

    def __init__(self, cols: int, entries: int) -> None:
        self.valid = Signal(intbv(0)[cols:])
        self.bank = Signal(bool(0))
        self.addr = Signal(intbv(0)[(entries - 1).bit_length() :])
        self.data = Signal(intbv(0)[32 * cols :])


class EntryRead:
    """``data``, all lanes of entry ``addr`` of ``bank``, one cycle after ``valid``, until the next one."""

    def __init__(self, cols: int, entries: int) -> None:
        self.valid = Signal(bool(0))
        self.bank = Signal(bool(0))
        self.addr = Signal(intbv(0)[(entries - 1).bit_length() :])
        self.data = Signal(intbv(0)[32 * cols :])


@unit(out="bank_done drain.data")
def accumulators(
    clk, rst, valid, addr, bank, first, max_mode, last, many, col_data, bank_done, init, drain, *, cols, entries
):
    """``cols`` columns, two banks of ``entries`` entries of ``cols`` FP32 lanes.

    An operation (valid, addr, bank, first, max_mode, last, many) belongs to the column-0 word of the same cycle;
    column c has its word in col_data[32c +: 32] c cycles later, when its copy of the operation arrives. An
    entry may be used again after ACC_LATENCY cycles. bank_done pulses `last_to_done` cycles after a valid operation
    with ``last``, and with ``many`` if it is the last one on at least ACC_LATENCY entries, one after the other: from
    that cycle on these may be drained, in that order, at most one a cycle.

    The other ports are not skewed. init.valid[c] writes lane c of init.data to entry init.addr of init.bank;
    drain.data follows drain.valid, with drain.bank and drain.addr, by one cycle. An entry is never initialised or
    drained between its first operation and its bank_done, nor a bank drained after another operation without ``first``.
    """
    lanes, init_lanes, drain_lanes = ([Signal(intbv(0)[32:]) for _ in range(cols)] for _ in range(3))
    init_valids = [Signal(False) for _ in range(cols)]
    stages = cols - 1 + _STAGES
    behind = Signal(intbv(0)[stages:])
    banks = [bank, *(Signal(False) for _ in range(stages))]
    addrs = [addr, *(Signal(intbv(0)[len(addr) :]) for _ in range(stages))]
    firsts, max_modes = ([given, *(Signal(False) for _ in range(cols - 1))] for given in (first, max_mode))
    columns, steps = [], []
    for c in range(cols):
        columns.append(
            accumulator_column(
                clk=clk,
                valid=behind(c - 1) if c else valid,
                behind=behind(c + _STAGES, c),
                addr=addrs[c],
                bank=banks[c],
                first=firsts[c],
                max_mode=max_modes[c],
                write_bank=banks[c + _STAGES],
                write_addr=addrs[c + _STAGES],
                x=lanes[c],
                init_valid=init_valids[c],
                init_bank=init.bank,
                init_addr=init.addr,
                init_data=init_lanes[c],
                drain_valid=drain.valid,
                drain_bank=drain.bank,
                drain_addr=drain.addr,
                drain_data=drain_lanes[c],
                entries=entries,
            )
        )
    for k in range(stages):
        moves = behind(k - 1) if k else valid
        steps.append(_step(clk, moves, banks[k], addrs[k], banks[k + 1], addrs[k + 1]))
        if k < cols - 1:
            steps.append(_step(clk, moves, firsts[k], max_modes[k], firsts[k + 1], max_modes[k + 1]))
    delay, few = last_to_done(cols, 1), last_to_done(cols, 1) - last_to_done(cols, ACC_LATENCY)
    tokens = Signal(intbv(0)[delay:])

    @always(clk.posedge)
    def follow():
        if rst:
            behind.next = 0
        else:
            behind.next = concat(behind[stages - 1 :], valid)

    @always(clk.posedge)
    def count_down():
        if rst:
            tokens.next = 0
        else:
            tokens.next = concat(tokens[delay - 1 :], valid and last and not many)
            if valid and last and many:
                tokens.next[few] = True

    @always_comb
    def report():
        bank_done.next = tokens[delay - 1]

    wires = (
        split(col_data, lanes),
        split(init.data, init_lanes),
        split(init.valid, init_valids),
        join(drain_lanes, drain.data),
    )
    return columns, steps, follow, count_down, report, wires


@block
def _step(clk, moves, x, y, x_next, y_next):
    """Two fields of an operation, on their way to the next column, or behind the last one to the write."""

    @always(clk.posedge)
    def register():
        if moves:
            x_next.next = x
            y_next.next = y

    return register

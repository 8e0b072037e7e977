# SPDX-License-Identifier: Apache-2.0
"""Activation buffer: circular over linear words, R contiguous words per cycle at any start.

`banks` single-word banks; linear word w lives in bank w mod banks. A read of R words at word a takes from
bank b row a // banks (+1 if b < a mod banks) and rotates the banks' outputs by a mod banks. With `config.banded` lanes
may lie further apart, by ``apart`` rows: lane i, in the same bank, then comes from i * apart rows below.
"""

from myhdl import Signal, SignalType, always, always_comb, block, concat, intbv, modbv

from hls.config import Config
from hls.descriptor.interface.table import LINEAR
from hls.descriptor.interface.timing import ACTIVATION_LATENCY
from hls.lib.delay import delay_line
from hls.lib.ram import ram
from hls.lib.select import multiples
from hls.lib.unit import unit
from hls.lib.wiring import ignore, join, resize, split


class Write:
    """Up to P words for the buffer from linear word ``pos`` on."""

    def __init__(self, ports: int) -> None:
        self.valid = Signal(bool(0))
        self.pos = Signal(intbv(0)[LINEAR:])
        self.count = Signal(intbv(0)[3:])
        self.data = Signal(intbv(0)[32 * ports :])


def rows_apart(config: Config) -> SignalType | None:
    """Signal for the rows by which lanes lie further apart than neighbours, where they may."""
    rows = config.activation_words // config.banks
    return Signal(modbv(0)[(rows - 1).bit_length() :]) if config.banded and config.banks > 1 else None


@unit(out="vec")
def activation_buffer(clk, wr, read, rd_addr, apart, lane_lo, lane_hi, pad_value, vec, *, config):
    """Store ``wr.count`` words at linear word ``wr.pos``; ``read`` R words at ``rd_addr`` (both mod size).

    ``apart``: see `rows_apart`; by it rd_addr is `lowered`. Lanes outside lane_lo <= i < lane_hi come out as
    ``pad_value``. ``vec`` is 32*R bits, lane i at 32*i, ACTIVATION_LATENCY cycles after the address. Reading a word in
    the cycle it is written gives the old one.
    """
    banks, rows = config.banks, config.rows
    outputs = [Signal(intbv(0)[32:]) for _ in range(banks)]
    lanes_in, lanes_out = ([Signal(intbv(0)[32:]) for _ in range(rows)] for _ in range(2))
    reading = Signal(bool(0))
    flat = Signal(intbv(0)[32 * banks :])
    rotated, masked = (Signal(intbv(0)[32 * rows :]) for _ in range(2))
    lo, hi = (Signal(intbv(0)[len(lane_lo) :]) for _ in range(2))
    wrapped, more = None, [None] * banks
    if apart is not None:
        wrapped, *more = (Signal(modbv(0)[len(apart) :]) for _ in range(banks + 1))
    parts = [
        buffer_bank(
            clk=clk,
            index=intbv(b)[(banks - 1).bit_length() :] if banks > 1 else None,
            wr_valid=wr.valid,
            wr_pos=wr.pos,
            wr_count=wr.count,
            wr_data=wr.data,
            read=read,
            rd_addr=rd_addr,
            rd_wrapped=wrapped,
            rd_more=more[b],
            rd_data=outputs[b],
            banks=banks,
            depth=config.activation_words // banks,
            ports=config.ports,
        )
        for b in range(banks)
    ]
    parts += [join(outputs, flat), split(rotated, lanes_in), join(lanes_out, masked)]
    parts += [_mask(lanes_in[i], lo, hi, pad_value, lanes_out[i], i) for i in range(rows)]
    parts.append(rotate(clk, read, rd_addr, flat, rotated, banks, rows))
    if wrapped is not None:
        parts.append(_rows_apart(rd_addr, apart, wrapped, more))

    first, more = vec, ACTIVATION_LATENCY - 2
    if more:
        first = Signal(intbv(0)[len(vec) :])
        parts.append(delay_line(clk, first, vec, width=len(vec), cycles=more))

    @always(clk.posedge)
    def follow():
        reading.next = read
        if read:
            lo.next = lane_lo
            hi.next = lane_hi
        if reading:
            first.next = masked

    return parts, follow


@block
def lowered(address, apart, start):
    """``start``: ``address`` with its row less its bank times ``apart``, as if lane 0 lay in bank 0."""
    width, select = len(apart), len(address) - len(apart)
    rows = [Signal(modbv(0)[width:]) for _ in range(select + 1)]
    highest, lowest = rows[0], rows[select]

    @always_comb
    def cut():
        highest.next = address[:select]

    @always_comb
    def glue():
        start.next = concat(lowest, address[select:])

    return cut, glue, [_less(address, apart, rows[i], rows[i + 1], i) for i in range(select)]


@block
def _less(address, apart, source, target, bit):
    @always_comb
    def subtract():
        target.next = source
        if address[bit]:
            target.next = source - (apart << bit)

    return subtract


@block
def _rows_apart(rd_addr, apart, wrapped, more):
    """``more``, by bank: rows above that of bank 0; ``wrapped``: the row for bank 0 where the lane is behind the end
    of the banks."""
    width, select = len(apart), (len(more) - 1).bit_length()
    step = Signal(modbv(0)[width:])
    first = more[0]

    @always_comb
    def round_trip():
        step.next = (apart << select) | 1

    @always_comb
    def start():
        first.next = 0
        wrapped.next = rd_addr[select + width : select] + step

    return round_trip, start, multiples(apart, more[1:])


@block
def rotate(clk, read, rd_addr, flat, rotated, banks, rows):
    """The first ``rows`` words of ``flat`` rotated right by the rd_addr, mod banks, of the last ``read`` before."""
    if banks == 1:

        @always_comb
        def straight():
            rotated.next = flat

        return straight

    select = (banks - 1).bit_length()
    low = Signal(intbv(0)[select:])
    shifted = Signal(intbv(0)[64 * banks :])

    @always(clk.posedge)
    def follow():
        if read:
            low.next = rd_addr[select:]

    @always_comb
    def turn():
        shifted.next = concat(flat, flat) >> concat(low, "00000")

    @always_comb
    def take():
        rotated.next = shifted[32 * rows :]

    return ignore(shifted, 32 * rows, 64 * banks), follow, turn, take


@block
def _mask(word, lo, hi, pad_value, lane, index):
    """One lane: ``word`` if lo <= index < hi, else the pad value."""
    if index == 0:

        @always_comb
        def first():
            lane.next = word if lo == 0 and hi != 0 else pad_value

        return first

    @always_comb
    def mask():
        lane.next = word if lo <= index and hi > index else pad_value

    return mask


@unit(out="rd_data")
def buffer_bank(
    clk, index, wr_valid, wr_pos, wr_count, wr_data, read, rd_addr, rd_wrapped, rd_more, rd_data, *, banks, depth, ports
):
    """Bank ``index``: the words w with w mod ``banks`` == index, ``depth`` of them.

    Read is the row of rd_addr and the one behind it where the bank is below that of rd_addr; or with lanes apart
    ``rd_more`` rows above it, and ``rd_wrapped`` instead of it.
    """
    select = (banks - 1).bit_length()
    row_bits = (depth - 1).bit_length()
    we = Signal(bool(0))
    word = Signal(intbv(0)[32:])
    wr_row, rd_row = (Signal(modbv(0)[row_bits:]) for _ in range(2))
    return (
        ram(clk, we, wr_row, word, read, rd_row, rd_data, width=32, depth=depth),
        bank_row(index, rd_addr, rd_row, select)
        if rd_more is None
        else _lane_row(index, rd_addr, rd_wrapped, rd_more, rd_row, select),
        bank_row(index, wr_pos, wr_row, select),
        bank_word(
            index=index,
            wr_valid=wr_valid,
            wr_pos=wr_pos,
            wr_count=wr_count,
            wr_data=wr_data,
            we=we,
            word=word,
            select=select,
            ports=ports,
        ),
    )


@block
def _lane_row(index, start, wrapped, more, row, select):
    width = len(row)
    high = Signal(modbv(0)[width:])

    @always_comb
    def choose():
        high.next = start[select + width : select]
        if start[select:] > index:
            high.next = wrapped

    @always_comb
    def add():
        row.next = high + more

    return ignore(start, select + width, len(start)), choose, add


@block
def bank_row(index, start, row, select, more=None):
    """Row of this bank's word when ``banks`` neighbours are accessed from linear word ``start``, and ``more`` rows."""
    width = len(row)
    rest = ignore(start, select + width, len(start))
    if select == 0:

        @always_comb
        def same():
            row.next = start[width:]

        return rest, same

    if more is not None:
        return rest, _row_above(index, start, more, row, select)
    high, carry = (Signal(modbv(0)[width:]) for _ in range(2))

    @always_comb
    def cut():
        high.next = start[select + width : select]
        carry.next = 0
        if start[select:] > index:
            carry.next = 1

    @always_comb
    def add():
        row.next = high + carry

    return rest, cut, add


@block
def _row_above(index, start, more, row, select):
    width = len(row)
    behind = Signal(bool(0))
    total = Signal(modbv(0)[width + 1 :])

    @always_comb
    def compare():
        behind.next = start[select:] > index

    @always_comb
    def add():  # a carry enters at the low end
        total.next = concat(start[select + width : select], True) + concat(more, behind)

    @always_comb
    def cut():
        row.next = total[width + 1 : 1]

    return compare, add, cut, ignore(total, 0, 1)


@block
def bank_word(index, wr_valid, wr_pos, wr_count, wr_data, we, word, select, ports):
    """Which word of the beat, if any, belongs to this bank."""
    if select == 0:

        @always_comb
        def only():
            we.next = wr_valid and wr_count != 0
            word.next = wr_data

        return only

    distance = Signal(modbv(0)[select:])
    wide, count = (Signal(intbv(0)[max(select, len(wr_count)) :]) for _ in range(2))
    parts = [resize(distance, wide), resize(wr_count, count)]

    @always_comb
    def measure():
        distance.next = index - wr_pos[select:]

    @always_comb
    def enable():
        we.next = wr_valid and wide < count

    if ports == 1:

        @always_comb
        def whole():
            word.next = wr_data

        return parts, measure, enable, whole

    shifted = Signal(intbv(0)[32 * ports :])

    @always_comb
    def move():
        shifted.next = wr_data >> concat(distance, "00000")

    @always_comb
    def take():
        word.next = shifted[32:]

    return parts, ignore(shifted, 32, 32 * ports), measure, enable, move, take

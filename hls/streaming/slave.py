# SPDX-License-Identifier: Apache-2.0
"""The bus side of the streaming accelerator: what is granted when, and when a vector starts."""

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.lib.unit import unit
from hls.lib.wiring import ignore
from hls.streaming.registers import GROUP_BITS, INDEX_BITS, PAGE_BITS, REGISTER, page
from hls.streaming.timing import Geometry, settled_time, spacing, step, written_time


def slot_bits(config: Geometry) -> int:
    """Width of a row's number in the buffer of sums."""
    return max(1, (config.sums - 1).bit_length())


class Vector:
    """The vector begun last.

    `start`: its first lane is read; `new`: it meets new weights; `last`: its last lane; its results go to row `slot` of
    the sums, or with `first` begin it.
    """

    def __init__(self, slots: int) -> None:
        self.start, self.new, self.first = (Signal(False) for _ in range(3))
        self.last = Signal(intbv(0)[INDEX_BITS:])
        self.slot = Signal(intbv(0)[slots:])


@unit(
    out="s.gnt s.rvalid s.rdata idle write_lane reading vector.start vector.new vector.first vector.last vector.slot "
    "load.valid load.row load.group load.data read_slot"
)
def stream_slave(clk, rst, s, idle, write_lane, reading, vector, load, read_slot, data, *, config):
    """Grants what the array can take, by the cycles since the last vector.

    write_lane: the lane of the address is written; `reading`: the lane to send. data: the sum of row read_slot that was
    addressed in the cycle before. See `hls.streaming.registers`.
    """
    rows, cycles = config.rows, step(config)
    quiet, settling, apart, sending = written_time(config), settled_time(config), spacing(config) - 1, cycles * rows
    low = cycles.bit_length() - 1
    high = low + INDEX_BITS
    slots = len(read_slot)
    slot = Signal(modbv(0)[slots:])
    weight_page, lane_page, slot_page = (page(name) for name in ("WEIGHT", "LANE", "SLOT"))
    last_bit = (REGISTER["LAST"].offset ^ REGISTER["LANE"].offset).bit_length() - 1
    first_bit = REGISTER["SLOT"].bits("FIRST").lsb
    row_low = 2 + GROUP_BITS

    age = Signal(intbv(quiet)[max(high, quiet.bit_length()) :])  # cycles since the last vector, up to `quiet`
    settled = Signal(intbv(rows)[INDEX_BITS + 1 :])  # rows that may take weights
    where = Signal(intbv(0)[2:])
    lane, row = (Signal(intbv(0)[INDEX_BITS:]) for _ in range(2))
    refuse, accept, ends, launch, fresh, first = (Signal(False) for _ in range(6))
    turn = Signal(True)

    @always_comb
    def decode():
        where.next = s.addr[PAGE_BITS + 2 : PAGE_BITS]
        lane.next = s.addr[2 + INDEX_BITS : 2]
        row.next = s.addr[row_low + INDEX_BITS : row_low]
        ends.next = s.addr[last_bit]

    @always_comb
    def decide():
        refuse.next = False
        if not s.we:
            refuse.next = age != quiet
        elif where == weight_page:
            refuse.next = settled != rows and concat(False, row) >= settled
        elif where == lane_page:
            refuse.next = (age < sending and lane >= reading) or (ends and age < apart)

    @always_comb
    def grant():
        s.gnt.next = not refuse
        accept.next = s.req and s.we and not refuse

    @always_comb
    def act():
        write_lane.next = accept and where == lane_page
        launch.next = accept and where == lane_page and ends

    @always_comb
    def observe():
        reading.next = age[high:low]
        vector.start.next = age == 0
        idle.next = age == quiet
        s.rdata.next = data
        read_slot.next = slot

    @always(clk.posedge)
    def answer():
        s.rvalid.next = s.req and not refuse and not rst

    @always(clk.posedge)
    def choose():
        if launch:
            slot.next = slot + 1
        elif accept and where == slot_page:
            slot.next = s.wdata[slots:]
            first.next = s.wdata[first_bit]

    @always(clk.posedge)
    def weigh():
        load.valid.next = accept and where == weight_page
        load.row.next = row
        load.group.next = s.addr[row_low:2]
        load.data.next = s.wdata

    @always(clk.posedge)
    def send():
        if launch:
            vector.new.next = fresh
            vector.last.next = lane
            vector.slot.next = slot
            vector.first.next = first

    @always(clk.posedge)
    def count():
        if rst:
            age.next = quiet
        elif launch:
            age.next = 0
        elif age != quiet:
            age.next = age + 1

    @always(clk.posedge)
    def settle():
        if rst:
            fresh.next = False
            settled.next = rows
        elif launch:
            fresh.next = False
            if fresh:
                settled.next = 0
        else:
            if accept and where == weight_page:
                fresh.next = True
            if settled != rows and age >= settling and turn:
                settled.next = settled + 1

    return (
        (decode, decide, grant, act, observe, answer, choose, weigh, send, count, settle),
        _every(age, turn, low) if low else (),
        ignore(s.addr, 0, 2),
        ignore(s.addr, PAGE_BITS + 2, 32),
        ignore(s.be, 0, 4),
    )


@block
def _every(age, turn, bits):
    """`turn` in every 2**bits-th cycle."""

    @always_comb
    def compare():
        turn.next = age[bits:] == 0

    return compare

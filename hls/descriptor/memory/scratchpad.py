# SPDX-License-Identifier: Apache-2.0
"""Scratchpad: loads, stores and aux reads of the descriptors' region SCRATCHPAD, served on chip.

Single-word banks, word w in bank w mod banks, so that a beat of P neighbouring words takes one cycle from any start;
and with `config.banded` one of words a stride apart that is 1 mod banks: only the rows of its words differ.
"""

from myhdl import Signal, SignalType, always, always_comb, block, concat, intbv, modbv

from hls.descriptor.interface.table import SCRATCHPAD
from hls.descriptor.interface.timing import SCRATCHPAD_LATENCY
from hls.descriptor.memory.activation_buffer import bank_row, bank_word, rotate
from hls.lib.mux import choose
from hls.lib.ram import ram
from hls.lib.select import multiples
from hls.lib.unit import unit
from hls.lib.wiring import ignore, join

_REQUEST = ("valid", "addr", "stride", "count", "region")
_OUTPUTS = " ".join(
    [f"bus_{stream}.{name}" for stream in ("load", "aux", "store") for name in _REQUEST]
    + ["bus_store.data", "bus_store.mark", "load.ready", "aux.ready", "store.ready"]
)


class RingStart:
    """Where a stream of the current layer begins (byte address), and log2 of the words of its ring."""

    def __init__(self, addr: SignalType, ring: SignalType) -> None:
        self.addr, self.ring = addr, ring


@unit(out=f"{_OUTPUTS} read_load read_aux rsp_count rsp_data marked")
def scratchpad(
    clk,
    rst,
    load,
    aux,
    store,
    load_place,
    aux_place,
    store_place,
    bus_load,
    bus_aux,
    bus_store,
    read_load,
    read_aux,
    rsp_count,
    rsp_data,
    marked,
    *,
    config,
):
    """Serve requests (`memory.arbiter.Request`) whose region is SCRATCHPAD; pass the others on to ``bus_*``.

    One beat is read and one is written per cycle, aux before load; the stride of a beat of several words is 1, with
    `config.banded` 1 modulo the banks. An answer comes SCRATCHPAD_LATENCY cycles after its
    request was accepted, as read_load or read_aux, with rsp_count and rsp_data as in `memory.ports`. A store is done
    when it is accepted; a read accepted later sees it; ``marked`` pulses one cycle after a beat with ``mark``.
    A word index keeps the bits above the stream's ring of load_place, aux_place or store_place (`RingStart`).
    """
    ports, size = config.ports, config.scratchpad_words
    banks = config.scratchpad_banks
    bits = (size - 1).bit_length()
    on_chip_load, on_chip_aux, read, write = (Signal(bool(0)) for _ in range(4))
    rd_word, rd_home, rd_mask, wr_word, wr_home, wr_mask = (Signal(modbv(0)[bits:]) for _ in range(6))
    rd_at, wr_at = (Signal(intbv(0)[32:]) for _ in range(2))
    rd_from, wr_from = (Signal(intbv(0)[32:]) for _ in range(2))
    rd_ring, wr_ring, rd_count, count = (Signal(intbv(0)[n:]) for n in (5, 5, 3, 3))
    rd_more, wr_more = [None] * banks, [None] * banks
    if config.banded and banks > 1:
        rd_more, wr_more = (
            [Signal(modbv(0)[bits - (banks - 1).bit_length() :]) for _ in range(banks)] for _ in range(2)
        )
    outputs = [Signal(intbv(0)[32:]) for _ in range(banks)]
    flat, rotated = Signal(intbv(0)[32 * banks :]), Signal(intbv(0)[32 * ports :])
    valids = Signal(intbv(0)[2:])

    @always_comb
    def choose():
        on_chip_aux.next = aux.valid and aux.region == SCRATCHPAD
        on_chip_load.next = load.valid and load.region == SCRATCHPAD and not (aux.valid and aux.region == SCRATCHPAD)
        write.next = store.valid and store.region == SCRATCHPAD

    @always_comb
    def either():
        read.next = on_chip_load or on_chip_aux

    @always_comb
    def accept():
        load.ready.next = on_chip_load or bus_load.ready
        aux.ready.next = on_chip_aux or bus_aux.ready
        store.ready.next = write or bus_store.ready

    @always_comb
    def pass_on():
        bus_load.valid.next = load.valid and load.region != SCRATCHPAD
        bus_load.addr.next = load.addr
        bus_load.stride.next = load.stride
        bus_load.count.next = load.count
        bus_load.region.next = load.region
        bus_aux.valid.next = aux.valid and aux.region != SCRATCHPAD
        bus_aux.addr.next = aux.addr
        bus_aux.stride.next = aux.stride
        bus_aux.count.next = aux.count
        bus_aux.region.next = aux.region

    @always_comb
    def pass_store():
        bus_store.valid.next = store.valid and store.region != SCRATCHPAD
        bus_store.addr.next = store.addr
        bus_store.stride.next = store.stride
        bus_store.count.next = store.count
        bus_store.region.next = store.region
        bus_store.data.next = store.data
        bus_store.mark.next = store.mark

    @always_comb
    def steer():
        rd_at.next = load.addr
        rd_from.next = load_place.addr
        rd_ring.next = load_place.ring
        rd_count.next = load.count
        if on_chip_aux:
            rd_at.next = aux.addr
            rd_from.next = aux_place.addr
            rd_ring.next = aux_place.ring
            rd_count.next = aux.count
        wr_at.next = store.addr
        wr_from.next = store_place.addr
        wr_ring.next = store_place.ring

    answers, stages = (read_load, read_aux, rsp_count, rsp_data), []
    for _ in range(SCRATCHPAD_LATENCY - 2):
        earlier = (Signal(bool(0)), Signal(bool(0)), Signal(intbv(0)[3:]), Signal(intbv(0)[32 * ports :]))
        stages.append(_register(clk, rst, *earlier, *answers))
        answers = earlier
    first_load, first_aux, first_count, first_data = answers

    @always(clk.posedge)
    def answer():
        valids.next = concat(on_chip_aux, on_chip_load)
        first_load.next = valids[0]
        first_aux.next = valids[1]
        count.next = rd_count
        first_count.next = count
        if valids != 0:
            first_data.next = rotated
        marked.next = write and store.mark
        if rst:
            valids.next = 0
            first_load.next = False
            first_aux.next = False
            marked.next = False

    return (
        choose,
        either,
        accept,
        pass_on,
        pass_store,
        steer,
        answer,
        stages,
        _place(rd_at, rd_from, rd_ring, rd_word, rd_home, rd_mask),
        _place(wr_at, wr_from, wr_ring, wr_word, wr_home, wr_mask),
        [
            scratchpad_bank(
                clk=clk,
                index=intbv(b)[(banks - 1).bit_length() :] if banks > 1 else None,
                we=write,
                wr_word=wr_word,
                wr_more=wr_more[b],
                wr_home=wr_home,
                wr_mask=wr_mask,
                wr_count=store.count,
                wr_data=store.data,
                read=read,
                rd_word=rd_word,
                rd_more=rd_more[b],
                rd_home=rd_home,
                rd_mask=rd_mask,
                rd_data=outputs[b],
                banks=banks,
                depth=size // banks,
                ports=ports,
            )
            for b in range(banks)
        ],
        _strides(
            on_chip_aux=on_chip_aux,
            load=load,
            aux=aux,
            store=store,
            rd_word=rd_word,
            wr_word=wr_word,
            rd_more=rd_more,
            wr_more=wr_more,
        )
        if rd_more[0] is not None
        else [],
        join(outputs, flat),
        rotate(clk, read, rd_word, flat, rotated, banks, ports),
    )


@block
def _strides(on_chip_aux, load, aux, store, rd_word, wr_word, rd_more, wr_more):
    """Rows by which the words of the beat read and of the beat written lie higher than neighbours would, by bank."""
    top = (len(rd_more) - 1).bit_length() + len(rd_more[0])
    low = top - len(rd_more[0])
    read, written = (Signal(modbv(0)[len(rd_more[0]) :]) for _ in range(2))

    @always_comb
    def cut():
        read.next = load.stride[top:low]
        if on_chip_aux:
            read.next = aux.stride[top:low]
        written.next = store.stride[top:low]

    return cut, _more(read, rd_word, rd_more), _more(written, wr_word, wr_more)


@block
def _more(rows, word, more):
    """Word i of a beat from ``word`` on lies i times ``rows`` higher, in the bank i behind the first word's."""
    banks = len(more)
    times = [Signal(modbv(0)[len(rows) :]) for _ in range(banks - 1)]
    return multiples(rows, times), [_behind(word, times, more[b], b, (banks - 1).bit_length()) for b in range(banks)]


@block
def _behind(word, times, more, index, select):
    distance = Signal(modbv(0)[select:])

    @always_comb
    def measure():
        distance.next = index - word[select:]

    return measure, choose([None, *times], distance, more)


@block
def _register(clk, rst, load, aux, count, data, later_load, later_aux, later_count, later_data):
    """One stage more between the RAM and the answer."""

    @always(clk.posedge)
    def follow():
        later_load.next = load and not rst
        later_aux.next = aux and not rst
        later_count.next = count
        later_data.next = data

    return follow


@block
def _place(at, start, ring, word, home, mask):
    """Word index, the first word's, and the bits in which they may differ."""
    bits = len(word)
    decoded = [Signal(bool(0)) for _ in range(bits)]

    @always_comb
    def cut():
        word.next = at[bits + 2 : 2]
        home.next = start[bits + 2 : 2]

    return (
        cut,
        [_above(ring, i, decoded[i]) for i in range(bits)],
        join(decoded, mask),
        ignore(at, 0, 2),
        ignore(at, bits + 2, 32),
        ignore(start, 0, 2),
        ignore(start, bits + 2, 32),
    )


@block
def _above(ring, bit, inside):
    @always_comb
    def compare():
        inside.next = ring > bit

    return compare


@unit(out="rd_data")
def scratchpad_bank(
    clk,
    index,
    we,
    wr_word,
    wr_more,
    wr_home,
    wr_mask,
    wr_count,
    wr_data,
    read,
    rd_word,
    rd_more,
    rd_home,
    rd_mask,
    rd_data,
    *,
    banks,
    depth,
    ports,
):
    """Bank ``index``: the words w with w mod ``banks`` == index, ``depth`` of them; rings of at least ``banks``.

    Its word of a beat lies wr_more or rd_more rows, or with None none, above that of a beat of neighbours.
    """
    select = (banks - 1).bit_length()
    row_bits = (depth - 1).bit_length()
    write = Signal(bool(0))
    word = Signal(intbv(0)[32:])
    rows, wrapped = ([Signal(modbv(0)[row_bits:]) for _ in range(2)] for _ in range(2))
    return (
        ram(clk, write, wrapped[0], word, read, wrapped[1], rd_data, width=32, depth=depth),
        bank_row(index, wr_word, rows[0], select, wr_more),
        _wrap(rows[0], wr_home, wr_mask, wrapped[0], select),
        bank_row(index, rd_word, rows[1], select, rd_more),
        _wrap(rows[1], rd_home, rd_mask, wrapped[1], select),
        bank_word(
            index=index,
            wr_valid=we,
            wr_pos=wr_word,
            wr_count=wr_count,
            wr_data=wr_data,
            we=write,
            word=word,
            select=select,
            ports=ports,
        ),
    )


@block
def _wrap(row, home, mask, wrapped, select):
    """The row inside the ring."""
    top = select + len(row)

    @always_comb
    def wrap():
        wrapped.next = (row & mask[top:select]) | (home[top:select] & ~mask[top:select])

    return wrap, ignore(home, 0, select), ignore(mask, 0, select)

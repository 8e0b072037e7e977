# SPDX-License-Identifier: Apache-2.0
"""Descriptor fetch: reads a descriptor, makes its addresses absolute, checks it, and holds it."""

from collections.abc import Iterable

from myhdl import Signal, always, always_comb, block, concat, intbv, modbv

from hls.config import Config
from hls.descriptor.control.check import descriptor_check
from hls.descriptor.interface.registers import ERRORS
from hls.descriptor.interface.table import FIELDS, WORDS, Field
from hls.descriptor.interface.timing import fetch_beats
from hls.lib.select import first_of
from hls.lib.unit import unit
from hls.lib.wiring import join, split


def _is_absolute(field: Field) -> bool:
    return field.kind == "addr" and field.name != "NEXT"


def _signals(fields: Iterable[Field]) -> str:
    return " ".join(name for f in fields for name in [f.name.lower()] + [f"{f.name.lower()}_region"] * _is_absolute(f))


def fetch_job(config: Config) -> str:
    """Everything that the decoder holds. NEXT stays a descriptor address; all others become absolute."""
    return _signals(f for f in FIELDS if f.held(config))


CHECKED = "function table_slot load_table multiply negative int4 band"
"""Flags that the decoder always holds, since `rules` refuse them where hardware has nothing for them."""

_OUTPUTS = " ".join(f"job.{name}" for name in _signals(FIELDS).split())


@unit(out=f"{_OUTPUTS} req.valid req.addr req.stride req.count req.region ready error error_addr address")
def descriptor_fetch(
    clk,
    rst,
    go,
    go_address,
    discard,
    bases,
    job,
    req,
    rsp_valid,
    rsp_data,
    ready,
    error,
    error_addr,
    address,
    *,
    config,
):
    """Fetch the descriptor at ``go_address`` (region and offset) after ``go``; one at a time.

    ``ready`` rises when it is complete and checked; ``error`` is then 0 or an error code, with error_addr.
    ``job`` is stable while ready. ``discard`` lets ready fall; the next ``go`` may come in the same cycle.
    ``address`` is the descriptor address being fetched or ready.

    Checked: alignment of every address, and `rules`.
    """
    ports = config.ports
    beats, last_count = fetch_beats(config), (WORDS - 1) % ports + 1
    asked, got = (Signal(modbv(0)[6:]) for _ in range(2))
    starting, asking, measuring, judging, wrong, bad_lane, tick = (Signal(bool(0)) for _ in range(7))
    absolute, bad_addr = (Signal(intbv(0)[32:]) for _ in range(2))
    next_addr = Signal(modbv(0)[32:])
    unaligned, bad_descriptor = ERRORS["UNALIGNED"][0], ERRORS["DESCRIPTOR"][0]

    @always_comb
    def request():
        req.valid.next = asking
        req.addr.next = next_addr
        req.stride.next = 1
        req.region.next = address[32:30]
        req.count.next = ports
        if asked == beats - 1:
            req.count.next = last_count
        tick.next = rsp_valid or measuring

    @always(clk.posedge)
    def walk():
        if rst:
            starting.next = False
            asking.next = False
            measuring.next = False
            judging.next = False
            ready.next = False
            error.next = 0
        else:
            starting.next = go
            measuring.next = False
            judging.next = measuring
            if discard:
                ready.next = False
            if go:
                address.next = go_address
                asked.next = 0
                got.next = 0
                error.next = 0
                ready.next = False
            if starting:
                next_addr.next = absolute
                asking.next = True
                if absolute[2:] != 0:
                    asking.next = False
                    ready.next = True
                    error.next = unaligned
                    error_addr.next = absolute
            if asking and req.ready:
                asked.next = asked + 1
                next_addr.next = next_addr + 4 * ports
                if asked == beats - 1:
                    asking.next = False
            if rsp_valid:
                got.next = got + 1
                if got == beats - 1:
                    measuring.next = True
                if bad_lane and error == 0:
                    error.next = unaligned
                    error_addr.next = bad_addr
            if judging:
                ready.next = True
                if wrong and error == 0:
                    error.next = bad_descriptor
                    error_addr.next = absolute

    return (
        request,
        walk,
        _absolute(address, bases, absolute),
        descriptor_check(clk, go, tick, got, job, wrong, beats=beats, config=config),
        _capture(
            clk=clk,
            rsp_valid=rsp_valid,
            got=got,
            rsp_data=rsp_data,
            bases=bases,
            job=job,
            bad_lane=bad_lane,
            bad_addr=bad_addr,
            config=config,
        ),
    )


@block
def _absolute(address, bases, absolute):
    """Byte address of a descriptor address: BASE of its region plus its offset."""
    base = Signal(modbv(0)[32:])
    total = Signal(modbv(0)[32:])

    @always_comb
    def select():
        if address[32:30] == 0:
            base.next = bases.base0
        elif address[32:30] == 1:
            base.next = bases.base1
        elif address[32:30] == 2:
            base.next = bases.base2
        else:
            base.next = bases.base3

    @always_comb
    def add():
        total.next = base + concat(intbv(0)[2:], address[30:])

    @always_comb
    def drive():
        absolute.next = total

    return select, add, drive


@block
def _capture(clk, rsp_valid, got, rsp_data, bases, job, bad_lane, bad_addr, config):
    """Registers of the descriptor; alignment of its addresses."""
    ports, held = config.ports, [f for f in FIELDS if f.held(config)]
    lanes, absolutes = ([Signal(intbv(0)[32:]) for _ in range(ports)] for _ in range(2))
    parts, bad, bad_addrs = [split(rsp_data, lanes)], [], []
    for lane, (raw, absolute) in enumerate(zip(lanes, absolutes)):
        beats = {f.word // ports for f in held if _is_absolute(f) and f.word % ports == lane}
        if beats:
            bad.append(Signal(bool(0)))
            bad_addrs.append(absolute)
            parts += [_absolute(raw, bases, absolute), _misaligned(got, absolute, bad[-1], beats)]
    for f in held:
        beat, lane = divmod(f.word, ports)
        name = f.name.lower()
        source = absolutes[lane] if _is_absolute(f) else lanes[lane]
        fields = [(name, source, f.lsb)] + [(f"{name}_region", lanes[lane], 30)] * _is_absolute(f)
        parts += [_field(clk, rsp_valid, got, beat, word, lsb, getattr(job, field)) for field, word, lsb in fields]
    bad_lanes = Signal(intbv(0)[len(bad) :])

    @always_comb
    def any_bad():
        bad_lane.next = bad_lanes != 0

    return parts, join(bad, bad_lanes), any_bad, first_of(bad, bad_addrs, bad_addr)


@block
def _misaligned(got, absolute, bad, beats):
    """Whether this lane of beat ``got`` is an address that is no multiple of 4."""
    is_address = tuple(int(beat in beats) for beat in range(1 << len(got)))
    address_word = Signal(bool(0))

    @always_comb
    def look():
        address_word.next = is_address[got]

    @always_comb
    def decide():
        bad.next = address_word and absolute[2:] != 0

    return look, decide


@block
def _field(clk, rsp_valid, got, beat, word, low, field):
    """One field: captured when its word arrives."""
    width = len(field)
    if isinstance(field.val, bool):

        @always(clk.posedge)
        def flag():
            if rsp_valid and got == beat:
                field.next = word[low]

        return flag
    high = low + width
    if field.min < 0:

        @always(clk.posedge)
        def signed_field():
            if rsp_valid and got == beat:
                field.next = word[high:low].signed()

        return signed_field

    @always(clk.posedge)
    def unsigned_field():
        if rsp_valid and got == beat:
            field.next = word[high:low]

    return unsigned_field

# SPDX-License-Identifier: Apache-2.0
"""Arbiter: merges the request streams, works out each word's address and checks it against its region."""

from myhdl import Signal, always, always_comb, block, intbv, modbv

from hls.lib.select import first_of, words_apart
from hls.lib.unit import unit
from hls.lib.wiring import ignore, join

STREAMS = ("fetch", "params", "weights", "aux", "store", "profile", "load")
"""Request streams by number."""

ANSWERS = (*STREAMS, "mark")
"""Tags of commands, and bits of rsp_valid: the streams, and store beats that carry ``mark``."""


class Request:
    """Signals of a request stream: a beat of ``count`` words at ``addr``, ``stride`` words apart, in ``region``."""

    def __init__(self, ports: int, data: bool = False, urgent: bool = False, mark: bool = False) -> None:
        """``data`` adds a store's words, ``mark`` asks for an answer of its own, ``urgent`` is for weights."""
        half = 1 << 31
        self.valid, self.ready = (Signal(bool(0)) for _ in range(2))
        self.addr = Signal(intbv(0)[32:])
        self.stride = Signal(intbv(0, min=-half, max=half))
        self.count = Signal(intbv(0)[3:])
        self.region = Signal(intbv(0)[2:])
        if data:
            self.data = Signal(intbv(0)[32 * ports :])
        if urgent:
            self.urgent = Signal(bool(0))
        if mark:
            self.mark = Signal(bool(0))


@unit(
    out="fetch.ready params.ready weights.ready aux.ready store.ready profile.ready load.ready "
    "cmd.valid cmd.write cmd.count cmd.tag cmd.addr cmd.wdata store_issued fault fault_addr"
)
def arbiter(
    clk,
    rst,
    windows,
    fetch,
    params,
    weights,
    aux,
    store,
    profile,
    load,
    cmd,
    store_issued,
    fault,
    fault_addr,
    *,
    config,
):
    """Fixed priority: fetch, params, weights if urgent, aux, store, profile, load, weights.

    Streams are `Request` interfaces (store and profile with ``data``, store with ``mark``, weights with ``urgent``);
    a beat is taken in a cycle with valid and ready; ``ready`` is only given to a stream that is valid. ``windows``:
    interface base0, limit0 .. base3, limit3. Word i lies at addr + 4*i*stride; every word of the beat must lie in
    BASE..LIMIT of its region, else the command is not issued, and ``fault`` rises, with the word's ``fault_addr``,
    until ``rst``; beats taken meanwhile lead to no command. ``store_issued``: a store or profile beat is taken in this
    cycle. Commands: see `memory.ports`. A word counts as inside when its first byte is below LIMIT rounded down to a
    multiple of 4.

    Latency: cmd.valid 2 cycles after the request was taken; one beat per cycle.
    """
    ports = config.ports
    fetch_tag, params_tag, weights_tag, aux_tag, store_tag, profile_tag, load_tag = range(len(STREAMS))
    mark_tag = ANSWERS.index("mark")
    chosen, picked = Request(ports, data=True), Request(ports, data=True)
    tag, picked_tag = (Signal(intbv(0)[3:]) for _ in range(2))
    write, picked_write, stop, moves, due = (Signal(bool(0)) for _ in range(5))
    before_aux, before_store, before_profile, before_load, any_valid = (Signal(bool(0)) for _ in range(5))
    addresses = [Signal(intbv(0)[32:]) for _ in range(ports)]
    outside = [Signal(bool(0)) for _ in range(ports)]
    all_outside = Signal(intbv(0)[ports:])
    base, limit, picked_base, picked_limit, first_outside = (Signal(intbv(0)[32:]) for _ in range(5))
    held = Signal(bool(0))  # a command is in the second stage
    count = Signal(intbv(0)[3:])

    @always_comb
    def asked():
        due.next = weights.valid and weights.urgent
        before_aux.next = fetch.valid or params.valid or (weights.valid and weights.urgent)
        before_store.next = before_aux or aux.valid
        before_profile.next = before_store or store.valid
        before_load.next = before_profile or profile.valid
        any_valid.next = before_load or load.valid or weights.valid

    @always_comb
    def select():
        tag.next = weights_tag
        if fetch.valid:
            tag.next = fetch_tag
        elif params.valid:
            tag.next = params_tag
        elif due:
            tag.next = weights_tag
        elif aux.valid:
            tag.next = aux_tag
        elif store.valid:
            tag.next = store_tag
        elif profile.valid:
            tag.next = profile_tag
        elif load.valid:
            tag.next = load_tag

    @always_comb
    def steer():
        write.next = False
        chosen.valid.next = any_valid
        chosen.data.next = profile.data if tag == profile_tag else store.data
        chosen.addr.next = load.addr
        chosen.stride.next = load.stride
        chosen.count.next = load.count
        chosen.region.next = load.region
        if tag == fetch_tag:
            chosen.addr.next = fetch.addr
            chosen.stride.next = fetch.stride
            chosen.count.next = fetch.count
            chosen.region.next = fetch.region
        elif tag == params_tag:
            chosen.addr.next = params.addr
            chosen.stride.next = params.stride
            chosen.count.next = params.count
            chosen.region.next = params.region
        elif tag == weights_tag:
            chosen.addr.next = weights.addr
            chosen.stride.next = weights.stride
            chosen.count.next = weights.count
            chosen.region.next = weights.region
        elif tag == aux_tag:
            chosen.addr.next = aux.addr
            chosen.stride.next = aux.stride
            chosen.count.next = aux.count
            chosen.region.next = aux.region
        elif tag == store_tag:
            write.next = True
            chosen.addr.next = store.addr
            chosen.stride.next = store.stride
            chosen.count.next = store.count
            chosen.region.next = store.region
        elif tag == profile_tag:
            write.next = True
            chosen.addr.next = profile.addr
            chosen.stride.next = profile.stride
            chosen.count.next = profile.count
            chosen.region.next = profile.region

    @always_comb
    def flow():
        stop.next = held and not cmd.ready
        moves.next = picked.valid and not (held and not cmd.ready)

    @always_comb
    def accept():
        chosen.ready.next = not (picked.valid and stop)

    @always_comb
    def grant():  # by who asks, not by the tag, which is known later
        fetch.ready.next = fetch.valid and chosen.ready
        params.ready.next = params.valid and not fetch.valid and chosen.ready
        weights.ready.next = (
            weights.valid
            and chosen.ready
            and not (fetch.valid or params.valid or (not weights.urgent and (before_load or load.valid)))
        )
        aux.ready.next = aux.valid and not before_aux and chosen.ready
        store.ready.next = store.valid and not before_store and chosen.ready
        profile.ready.next = profile.valid and not before_profile and chosen.ready
        load.ready.next = load.valid and not before_load and chosen.ready
        store_issued.next = (store.valid or profile.valid) and not before_store and chosen.ready

    @always(clk.posedge)
    def pick():
        if rst:
            picked.valid.next = False
        elif chosen.ready:
            picked.valid.next = chosen.valid
        if chosen.ready and chosen.valid:
            picked.addr.next = chosen.addr
            picked.stride.next = chosen.stride
            picked.count.next = chosen.count
            picked.region.next = chosen.region
            picked.data.next = chosen.data
            picked_tag.next = tag
            if tag == store_tag and store.mark:
                picked_tag.next = mark_tag
            picked_write.next = write

    @always(clk.posedge)
    def compute():
        if rst:
            held.next = False
        elif not stop:
            held.next = picked.valid
        if moves:
            count.next = picked.count
            base.next = picked_base
            limit.next = picked_limit
            cmd.wdata.next = picked.data
            cmd.tag.next = picked_tag
            cmd.write.next = picked_write

    @always_comb
    def window():
        if picked.region == 0:
            picked_base.next = windows.base0
            picked_limit.next = windows.limit0
        elif picked.region == 1:
            picked_base.next = windows.base1
            picked_limit.next = windows.limit1
        elif picked.region == 2:
            picked_base.next = windows.base2
            picked_limit.next = windows.limit2
        else:
            picked_base.next = windows.base3
            picked_limit.next = windows.limit3

    @always_comb
    def command():
        cmd.valid.next = held and all_outside == 0 and not fault
        cmd.count.next = count

    @always(clk.posedge)
    def report():
        if rst:
            fault.next = False
        elif held and all_outside != 0 and not fault:
            fault.next = True
            fault_addr.next = first_outside

    stride_used = 30 if ports > 1 else 0
    return (
        asked,
        select,
        steer,
        flow,
        accept,
        grant,
        pick,
        compute,
        window,
        command,
        report,
        [
            _word(
                clk=clk,
                index=i,
                moves=moves,
                start=picked.addr,
                stride=picked.stride,
                address=addresses[i],
                count=count,
                base=base,
                limit=limit,
                outside=outside[i],
            )
            for i in range(ports)
        ],
        first_of(outside, addresses, first_outside),
        join(addresses, cmd.addr),
        join(outside, all_outside),
        ignore(limit, 0, 2),
        ignore(picked.stride, stride_used, 32),
    )


@block
def _word(clk, index, moves, start, stride, address, count, base, limit, outside):
    """Address of word ``index`` of a beat, and whether it is one of ``count`` words and outside base..limit."""
    sums = Signal(modbv(0)[32:])

    @always(clk.posedge)
    def register():
        if moves:
            address.next = sums

    @always_comb
    def check():
        outside.next = count > index and (address < base or address[32:2] >= limit[32:2])

    return _sum(index, start, stride, sums), register, check


@block
def _sum(index, start, stride, sums):
    if index == 0:

        @always_comb
        def first():
            sums.next = start

        return first

    offset = Signal(modbv(0)[32:])

    @always_comb
    def add():
        sums.next = start + offset

    return words_apart(stride, index, offset), add

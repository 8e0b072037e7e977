"""Arbiter: merges the request streams, works out each word's address and checks it against its region."""

from myhdl import Signal, always, always_comb, block, intbv, modbv

from hls.select import first_of, words_apart
from hls.unit import unit
from hls.wiring import ignore, join

STREAMS = ("fetch", "params", "weights", "aux", "store", "profile", "load")
"""Request streams by number."""

ANSWERS = (*STREAMS, "mark")
"""Tags of commands, and bits of rsp_valid: the streams, and store beats that carry ``mark``."""


class Request:
    """Signals of a request stream: a beat of ``count`` words at ``addr``, ``stride`` words apart, in ``region``."""

    def __init__(self, ports, data=False, urgent=False, mark=False):
        """``data`` adds a store's words, ``mark`` asks for an answer of its own, ``urgent`` is for weights."""
        half = 1 << 31
        self.valid, self.ready = (Signal(bool(0)) for _ in range(2))
        self.addr = Signal(intbv(0)[32:])
        self.stride = Signal(intbv(0, min=-half, max=half))
        self.count = Signal(intbv(0)[3:])
        self.region = Signal(intbv(0)[2:])
        if data:
            self.data = Signal(intbv(0)[32 * ports:])
        if urgent:
            self.urgent = Signal(bool(0))
        if mark:
            self.mark = Signal(bool(0))


@unit(out="fetch.ready params.ready weights.ready aux.ready store.ready profile.ready load.ready "
          "cmd_valid cmd_write cmd_count cmd_tag cmd_addr cmd_wdata store_issued fault fault_addr")
def arbiter(
    clk, rst, windows, fetch, params, weights, aux, store, profile, load,
    cmd_valid, cmd_ready, cmd_write, cmd_count, cmd_tag, cmd_addr, cmd_wdata, store_issued, fault, fault_addr, *, config
):
    """Fixed priority: fetch, params, weights if urgent, aux, store, profile, load, weights.

    Streams are `Request` interfaces (store and profile with ``data``, store with ``mark``, weights with ``urgent``);
    a beat is taken in a cycle with valid and ready; ``ready`` is only given to a stream that is valid. ``windows``:
    interface base0, limit0 .. base3, limit3. Word i lies at addr + 4*i*stride; every word of the beat must lie in
    BASE..LIMIT of its region, else the command is not issued, and ``fault`` rises, with the word's ``fault_addr``,
    until ``rst``; beats taken meanwhile lead to no command. ``store_issued``: a store or profile beat is taken in this
    cycle. Commands: see `hls.ports`. A word counts as inside when its first byte is below LIMIT rounded down to a
    multiple of 4.

    Latency: cmd_valid 2 cycles after the request was taken; one beat per cycle.
    """
    ports = config.ports
    fetch_tag, params_tag, weights_tag, aux_tag, store_tag, profile_tag, load_tag = range(len(STREAMS))
    mark_tag = ANSWERS.index("mark")
    chosen, picked = Request(ports, data=True), Request(ports, data=True)
    tag, picked_tag = (Signal(intbv(0)[3:]) for _ in range(2))
    write, picked_write, stop = (Signal(bool(0)) for _ in range(3))
    addresses = [Signal(intbv(0)[32:]) for _ in range(ports)]
    outside = [Signal(bool(0)) for _ in range(ports)]
    all_outside = Signal(intbv(0)[ports:])
    base, limit, first_outside = (Signal(intbv(0)[32:]) for _ in range(3))
    held = Signal(bool(0))  # a command is in the second stage
    count = Signal(intbv(0)[3:])
    region = Signal(intbv(0)[2:])

    @always_comb
    def select():
        tag.next = load_tag
        if fetch.valid:
            tag.next = fetch_tag
        elif params.valid:
            tag.next = params_tag
        elif weights.valid and weights.urgent:
            tag.next = weights_tag
        elif aux.valid:
            tag.next = aux_tag
        elif store.valid:
            tag.next = store_tag
        elif profile.valid:
            tag.next = profile_tag
        elif weights.valid and not load.valid:
            tag.next = weights_tag

    @always_comb
    def steer():
        write.next = False
        chosen.data.next = store.data
        chosen.valid.next = load.valid
        chosen.addr.next = load.addr
        chosen.stride.next = load.stride
        chosen.count.next = load.count
        chosen.region.next = load.region
        if tag == fetch_tag:
            chosen.valid.next = fetch.valid
            chosen.addr.next = fetch.addr
            chosen.stride.next = fetch.stride
            chosen.count.next = fetch.count
            chosen.region.next = fetch.region
        elif tag == params_tag:
            chosen.valid.next = params.valid
            chosen.addr.next = params.addr
            chosen.stride.next = params.stride
            chosen.count.next = params.count
            chosen.region.next = params.region
        elif tag == weights_tag:
            chosen.valid.next = weights.valid
            chosen.addr.next = weights.addr
            chosen.stride.next = weights.stride
            chosen.count.next = weights.count
            chosen.region.next = weights.region
        elif tag == aux_tag:
            chosen.valid.next = aux.valid
            chosen.addr.next = aux.addr
            chosen.stride.next = aux.stride
            chosen.count.next = aux.count
            chosen.region.next = aux.region
        elif tag == store_tag:
            write.next = True
            chosen.valid.next = store.valid
            chosen.addr.next = store.addr
            chosen.stride.next = store.stride
            chosen.count.next = store.count
            chosen.region.next = store.region
        elif tag == profile_tag:
            write.next = True
            chosen.valid.next = profile.valid
            chosen.addr.next = profile.addr
            chosen.stride.next = profile.stride
            chosen.count.next = profile.count
            chosen.region.next = profile.region
            chosen.data.next = profile.data

    @always_comb
    def flow():
        stop.next = held and not cmd_ready

    @always_comb
    def accept():
        chosen.ready.next = not (picked.valid and stop)

    @always_comb
    def grant():
        fetch.ready.next = fetch.valid and tag == fetch_tag and chosen.ready
        params.ready.next = params.valid and tag == params_tag and chosen.ready
        weights.ready.next = weights.valid and tag == weights_tag and chosen.ready
        aux.ready.next = aux.valid and tag == aux_tag and chosen.ready
        store.ready.next = store.valid and tag == store_tag and chosen.ready
        profile.ready.next = profile.valid and tag == profile_tag and chosen.ready
        load.ready.next = load.valid and tag == load_tag and chosen.ready
        store_issued.next = chosen.valid and chosen.ready and write

    @always(clk.posedge)
    def pick():
        if rst:
            picked.valid.next = False
        elif chosen.ready:
            picked.valid.next = chosen.valid
        if chosen.ready:
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
        if not stop:
            count.next = picked.count
            region.next = picked.region
            cmd_wdata.next = picked.data
            cmd_tag.next = picked_tag
            cmd_write.next = picked_write

    @always_comb
    def window():
        if region == 0:
            base.next = windows.base0
            limit.next = windows.limit0
        elif region == 1:
            base.next = windows.base1
            limit.next = windows.limit1
        elif region == 2:
            base.next = windows.base2
            limit.next = windows.limit2
        else:
            base.next = windows.base3
            limit.next = windows.limit3

    @always_comb
    def command():
        cmd_valid.next = held and all_outside == 0 and not fault
        cmd_count.next = count

    @always(clk.posedge)
    def report():
        if rst:
            fault.next = False
        elif held and all_outside != 0 and not fault:
            fault.next = True
            fault_addr.next = first_outside

    stride_used = 30 if ports > 1 else 0
    return (select, steer, flow, accept, grant, pick, compute, window, command, report,
            [_word(clk, i, stop, picked.addr, picked.stride, addresses[i], count, base, limit, outside[i])
             for i in range(ports)],
            first_of(outside, addresses, first_outside), join(addresses, cmd_addr), join(outside, all_outside),
            ignore(limit, 0, 2), ignore(picked.stride, stride_used, 32))


@block
def _word(clk, index, stop, start, stride, address, count, base, limit, outside):
    """Address of word ``index`` of a beat, and whether it is one of ``count`` words and outside base..limit."""
    sums = Signal(modbv(0)[32:])

    @always(clk.posedge)
    def register():
        if not stop:
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

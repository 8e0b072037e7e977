"""Arbiter: merges the request streams, works out each word's address and checks it against its region."""

from myhdl import Signal, intbv

from hls.unit import unit

STREAMS = ("fetch", "params", "weights", "aux", "store", "profile", "load")
"""Streams by number: their tag, and their bit in rsp_valid."""


class Request:
    """Signals of a request stream: a beat of ``count`` words at ``addr``, ``stride`` words apart, in ``region``."""

    def __init__(self, ports, data=False, urgent=False):
        """``data`` adds a store's words, ``urgent`` the weights' priority bit."""
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


class Windows:
    """BASE and LIMIT registers of the regions."""

    def __init__(self):
        for i in range(4):
            setattr(self, f"base{i}", Signal(intbv(0)[32:]))
            setattr(self, f"limit{i}", Signal(intbv(0)[32:]))


@unit(out="fetch.ready params.ready weights.ready aux.ready store.ready profile.ready load.ready "
          "cmd_valid cmd_write cmd_count cmd_tag cmd_addr cmd_wdata store_issued fault fault_addr")
def arbiter(
    clk, rst, windows, fetch, params, weights, aux, store, profile, load,
    cmd_valid, cmd_ready, cmd_write, cmd_count, cmd_tag, cmd_addr, cmd_wdata, store_issued, fault, fault_addr, *, config
):
    """Fixed priority: fetch, params, weights if urgent, aux, store, profile, load, weights.

    Streams are `Request` interfaces (store and profile with ``data``, weights with ``urgent``); a beat is taken in a
    cycle with valid and ready; ``ready`` is only given to a stream that is valid. ``windows``: interface base0, limit0
    .. base3, limit3. Word i lies at addr + 4*i*stride; every word of the beat must lie in BASE..LIMIT of its region,
    else the command is not issued, nothing more is issued, and ``fault`` rises, with the word's ``fault_addr``, until
    ``rst``. ``store_issued``: a store or profile beat is taken in this cycle. Commands: see `hls.ports`.

    Latency: cmd_valid 2 cycles after the request was taken; one beat per cycle.
    """

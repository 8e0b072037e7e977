# SPDX-License-Identifier: Apache-2.0
"""One-write one-read RAM with a synchronous read, in the form that synthesis tools turn into memory."""

from myhdl import Signal, always, intbv

from hls.lib.unit import unit


@unit(out="rdata")
def ram(clk, we, waddr, wdata, re, raddr, rdata, *, width, depth):
    """``depth`` words of ``width`` bits; rdata follows raddr by one cycle, and stays without ``re``.

    A concurrent write is not seen.
    """
    words = [Signal(intbv(0)[width:]) for _ in range(depth)]

    @always(clk.posedge)
    def access():
        if we:
            words[waddr].next = wdata
        if re:
            rdata.next = words[raddr]

    return access

# SPDX-License-Identifier: Apache-2.0
"""Ports of the OBI bus."""

from myhdl import Signal, intbv


class Slave:
    """OBI slave port: a request is taken in a cycle with gnt, and answered with rvalid in a later one."""

    def __init__(self) -> None:
        self.req, self.we, self.gnt, self.rvalid = (Signal(bool(0)) for _ in range(4))
        self.be = Signal(intbv(0)[4:])
        self.addr, self.wdata, self.rdata = (Signal(intbv(0)[32:]) for _ in range(3))

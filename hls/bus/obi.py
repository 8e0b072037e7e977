# SPDX-License-Identifier: Apache-2.0
"""Ports of the OBI bus."""

from dataclasses import dataclass

from myhdl import Signal, intbv


class Slave:
    """OBI slave port: a request is taken in a cycle with gnt, and answered with rvalid in a later one."""

    def __init__(self) -> None:
        self.req, self.we, self.gnt, self.rvalid = (Signal(bool(0)) for _ in range(4))
        self.be = Signal(intbv(0)[4:])
        self.addr, self.wdata, self.rdata = (Signal(intbv(0)[32:]) for _ in range(3))


class Masters:
    """P OBI master ports, packed: port p at bit p, or at [32 p +: 32]."""

    def __init__(self, ports: int) -> None:
        self.req, self.we, self.gnt, self.rvalid = (Signal(intbv(0)[ports:]) for _ in range(4))
        self.be = Signal(intbv(0)[4 * ports :])
        self.addr, self.wdata, self.rdata = (Signal(intbv(0)[32 * ports :]) for _ in range(3))


@dataclass(frozen=True)
class Pin:
    """A port of a Verilog module: `direction` is input or output, `width` in bits."""

    name: str
    direction: str
    width: int

    def declared(self) -> str:
        """Its declaration in the list of a module's ports."""
        return f"{self.direction} wire {f'[{self.width - 1}:0] ' if self.width > 1 else ''}{self.name}"


_REQUEST = {"req": 1, "we": 1, "be": 4, "addr": 32, "wdata": 32}
_ANSWER = {"gnt": 1, "rvalid": 1, "rdata": 32}
OPTIONAL = ("irq", "idle")
"""Pins that an architecture's own module may lack."""


def pins(masters: int) -> tuple[Pin, ...]:
    """Ports of an accelerator: clock, reset, OBI slave s, the given number of OBI masters m, interrupt, idle."""
    found = [Pin("clk", "input", 1), Pin("rst_n", "input", 1)]
    for port, count, ask, answer in (("s", 1, "input", "output"), ("m", masters, "output", "input")):
        found += [Pin(f"{port}_{name}", ask, count * width) for name, width in _REQUEST.items() if count]
        found += [Pin(f"{port}_{name}", answer, count * width) for name, width in _ANSWER.items() if count]
    return (*found, *(Pin(name, "output", 1) for name in OPTIONAL))

# SPDX-License-Identifier: Apache-2.0
"""OBI slave: the registers of `registers`, decoded from that table."""

from collections.abc import Mapping

from myhdl import ConcatSignal, Signal, SignalType, always, always_comb, block, intbv

from hls.bus.head import head_constants
from hls.bus.registers import Named, Register
from hls.descriptor.interface.registers import REGIONS, REGISTER, REGISTERS
from hls.lib.mux import choose
from hls.lib.unit import unit
from hls.lib.wiring import constant, ignore

ADDRESS_BITS = 8
"""Registers repeat every 2**ADDRESS_BITS bytes of the slave's window."""

_INDEX_BITS = ADDRESS_BITS - 2


class Regions:
    """BASE and LIMIT registers, byte addresses."""

    def __init__(self) -> None:
        for i in range(REGIONS):
            setattr(self, f"base{i}", Signal(intbv(0)[32:]))
            setattr(self, f"limit{i}", Signal(intbv(0)[32:]))


class Commands:
    """What software asks for: pulses in the cycle of the write, so that the next access sees the effect."""

    def __init__(self) -> None:
        self.soft_reset, self.force, self.clear, self.doorbell = (Signal(bool(0)) for _ in range(4))
        self.address = Signal(intbv(0)[32:])
        self.clear_done, self.clear_error = (Signal(bool(0)) for _ in range(2))


class Interrupts:
    """One flag per interrupt: enabled, or pending."""

    def __init__(self) -> None:
        self.done, self.error = (Signal(bool(0)) for _ in range(2))

    def word(self) -> ConcatSignal:
        """The flags as IRQ_ENABLE and IRQ_STATUS hold them."""
        return packed(REGISTER["IRQ_ENABLE"], {"DONE": self.done, "ERROR": self.error})


class State:
    """What STATUS shows: a signal for every field, called like it but for ERROR and its code."""

    def __init__(self) -> None:
        for bits in REGISTER["STATUS"].fields:
            signal = Signal(bool(0)) if bits.width == 1 else Signal(intbv(0)[bits.width :])
            setattr(self, _STATE.get(bits.name, bits.name.lower()), signal)

    def word(self) -> ConcatSignal:
        """The state as STATUS holds it."""
        signals = {
            bits.name: getattr(self, _STATE.get(bits.name, bits.name.lower())) for bits in REGISTER["STATUS"].fields
        }
        return packed(REGISTER["STATUS"], signals)


_STATE = {"ERROR": "failed", "ERROR_CODE": "error"}
"""Signals of fields that are called otherwise."""


class Readings:
    """Values behind the read-only registers."""

    def __init__(self) -> None:
        self.doorbell, self.error_addr, self.layers = (Signal(intbv(0)[32:]) for _ in range(3))
        (
            self.busy,
            self.array_active,
            self.load_stall,
            self.store_stall,
            self.bus_words,
            self.lanes_lost,
            self.lanes_lossy,
        ) = (Signal(intbv(0)[32:]) for _ in range(7))
        self.cycle, self.cycle_high = (Signal(intbv(0)[32:]) for _ in range(2))
        self.pending, self.state = Interrupts(), State()


def packed(register: Register, signals: Mapping[str, SignalType]) -> ConcatSignal:
    """Word of a register from the signals of its fields, by name."""
    parts: list[SignalType | intbv] = []
    below = 0
    for bits in sorted(register.fields, key=lambda b: b.lsb):
        if bits.lsb > below:
            parts.append(intbv(0)[bits.lsb - below :])
        parts.append(signals[bits.name])
        below = bits.lsb + bits.width
    if below < 32:
        parts.append(intbv(0)[32 - below :])
    return ConcatSignal(*reversed(parts))


@unit(
    out="slave.gnt slave.rvalid slave.rdata windows.base0 windows.base1 windows.base2 windows.base3 "
    "windows.limit0 windows.limit1 windows.limit2 windows.limit3 watchdog enabled.done enabled.error "
    "commands.soft_reset commands.force commands.clear commands.doorbell commands.address commands.clear_done "
    "commands.clear_error"
)
def register_slave(clk, rst, slave, windows, watchdog, enabled, commands, readings, *, config):
    """Registers: every request is granted at once and answered in the next cycle; unmapped words read 0.

    Byte enables hold for stored registers. Commands take effect at the end of the cycle of the write.
    """
    index = Signal(intbv(0)[_INDEX_BITS:])
    write = Signal(bool(0))
    wdata, mask, latched, value = (Signal(intbv(0)[32:]) for _ in range(4))
    hits = {name: Signal(bool(0)) for name in ("CTRL", "DOORBELL", "IRQ_STATUS", "CYCLE_LO")}
    hit_ctrl, hit_doorbell, hit_irq_status, hit_cycle_lo = hits.values()
    geometry = REGISTER["GEOMETRY"].word(
        ROWS=config.rows, COLS=config.cols, PORTS=config.ports, FMA=config.arithmetic == "fma"
    )
    soft_reset, force, clear = (REGISTER["CTRL"].bits(name).lsb for name in ("SOFT_RESET", "FORCE", "CLEAR_COUNTERS"))
    done_bit, error_bit = (REGISTER["IRQ_ENABLE"].bits(name).lsb for name in ("DONE", "ERROR"))
    stored = {"WATCHDOG": watchdog} | {
        f"{kind}{i}": getattr(windows, f"{kind.lower()}{i}") for i in range(REGIONS) for kind in ("BASE", "LIMIT")
    }
    constants = head_constants(config.architecture, config.hash) | {"GEOMETRY": Named(geometry, "GEOMETRY")}
    readable = {
        "CYCLE_LO": readings.cycle,
        "CYCLE_HI": latched,
        "STATUS": readings.state.word(),
        "IRQ_ENABLE": enabled.word(),
        "IRQ_STATUS": readings.pending.word(),
    } | stored
    words = [None] * (1 << _INDEX_BITS)
    parts = []
    for register in REGISTERS:
        if register.access == "wo":
            continue
        name = register.name
        word = Signal(intbv(0)[32:])
        words[register.index] = word
        if name in constants:
            parts.append(constant(clk, constants[name], word))
        else:
            source = readable.get(name)
            parts.append(_same(getattr(readings, name.lower()) if source is None else source, word))
    parts += [
        _stored(
            clk=clk,
            rst=rst,
            write=write,
            index=index,
            be=slave.be,
            wdata=slave.wdata,
            register=signal,
            number=REGISTER[name].index,
        )
        for name, signal in stored.items()
    ]
    parts += [
        _flag(
            clk=clk,
            rst=rst,
            write=write,
            index=index,
            wdata=wdata,
            mask=mask,
            flag=flag,
            number=REGISTER["IRQ_ENABLE"].index,
            bit=bit,
        )
        for flag, bit in ((enabled.done, done_bit), (enabled.error, error_bit))
    ]
    parts += [_hit(index, hit, REGISTER[name].index) for name, hit in hits.items()]

    @always_comb
    def decode():
        index.next = slave.addr[ADDRESS_BITS:2]
        write.next = slave.req and slave.we
        slave.gnt.next = True

    @always_comb
    def enable():
        mask.next = 0
        if slave.be[0]:
            mask.next[8:] = 0xFF
        if slave.be[1]:
            mask.next[16:8] = 0xFF
        if slave.be[2]:
            mask.next[24:16] = 0xFF
        if slave.be[3]:
            mask.next[32:24] = 0xFF

    @always_comb
    def select():
        wdata.next = slave.wdata & mask

    @always_comb
    def command():
        commands.soft_reset.next = write and hit_ctrl and wdata[soft_reset]
        commands.force.next = write and hit_ctrl and wdata[soft_reset] and wdata[force]
        commands.clear.next = write and hit_ctrl and wdata[clear]
        commands.doorbell.next = write and hit_doorbell
        commands.address.next = slave.wdata
        commands.clear_done.next = write and hit_irq_status and wdata[done_bit]
        commands.clear_error.next = write and hit_irq_status and wdata[error_bit]

    @always(clk.posedge)
    def answer():
        slave.rvalid.next = slave.req and not rst
        slave.rdata.next = value
        if rst:
            latched.next = 0
        elif slave.req and hit_cycle_lo and not slave.we:
            latched.next = readings.cycle_high

    return (
        parts,
        choose(words, index, value),
        ignore(slave.addr, 0, 2),
        ignore(slave.addr, ADDRESS_BITS, 32),
        decode,
        enable,
        select,
        command,
        answer,
    )


@block
def _hit(index, hit, number):
    @always_comb
    def compare():
        hit.next = index == number

    return compare


@block
def _same(source, word):
    @always_comb
    def same():
        word.next = source

    return same


@block
def _stored(clk, rst, write, index, be, wdata, register, number):
    @always(clk.posedge)
    def store():
        if rst:
            register.next = 0
        elif write and index == number:
            if be[0]:
                register.next[8:] = wdata[8:]
            if be[1]:
                register.next[16:8] = wdata[16:8]
            if be[2]:
                register.next[24:16] = wdata[24:16]
            if be[3]:
                register.next[32:24] = wdata[32:24]

    return store


@block
def _flag(clk, rst, write, index, wdata, mask, flag, number, bit):
    @always(clk.posedge)
    def store():
        if rst:
            flag.next = False
        elif write and index == number and mask[bit]:
            flag.next = wdata[bit]

    return store

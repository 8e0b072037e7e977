"""OBI slave: the registers of `hls.registers`, decoded from that table."""

from myhdl import Signal, always, always_comb, block, concat, intbv

from hls.mux import choose
from hls.registers import MAGIC, REGIONS, REGISTER, REGISTERS, VERSION
from hls.unit import unit
from hls.wiring import ignore

ADDRESS_BITS = 8
"""Registers repeat every 2**ADDRESS_BITS bytes of the slave's window."""

_INDEX_BITS = ADDRESS_BITS - 2


class Slave:
    """OBI slave port: granted at once, answered in the next cycle."""

    def __init__(self):
        self.req, self.we, self.gnt, self.rvalid = (Signal(bool(0)) for _ in range(4))
        self.be = Signal(intbv(0)[4:])
        self.addr, self.wdata, self.rdata = (Signal(intbv(0)[32:]) for _ in range(3))


class Windows:
    """BASE and LIMIT registers, byte addresses."""

    def __init__(self):
        for i in range(REGIONS):
            setattr(self, f"base{i}", Signal(intbv(0)[32:]))
            setattr(self, f"limit{i}", Signal(intbv(0)[32:]))


class Commands:
    """What software asks for: pulses in the cycle of the write, so that the next access sees the effect."""

    def __init__(self):
        self.soft_reset, self.force, self.clear, self.doorbell = (Signal(bool(0)) for _ in range(4))
        self.address = Signal(intbv(0)[32:])
        self.irq_clear = Signal(intbv(0)[2:])


class Readings:
    """Values behind the read-only registers."""

    def __init__(self):
        self.status, self.doorbell, self.error_addr, self.layers = (Signal(intbv(0)[32:]) for _ in range(4))
        self.busy, self.array_active, self.load_stall, self.store_stall, self.bus_words, self.lanes_lost, \
            self.lanes_lossy = (Signal(intbv(0)[32:]) for _ in range(7))
        self.cycle, self.cycle_high = (Signal(intbv(0)[32:]) for _ in range(2))
        self.irq_status = Signal(intbv(0)[2:])


@unit(out="slave.gnt slave.rvalid slave.rdata windows.base0 windows.base1 windows.base2 windows.base3 "
          "windows.limit0 windows.limit1 windows.limit2 windows.limit3 watchdog irq_enable commands.soft_reset "
          "commands.force commands.clear commands.doorbell commands.address commands.irq_clear")
def register_slave(clk, rst, slave, windows, watchdog, irq_enable, commands, readings, *, config):
    """Registers: every request is granted at once and answered in the next cycle; unmapped words read 0.

    Byte enables hold for stored registers. Commands take effect at the end of the cycle of the write.
    """
    index = Signal(intbv(0)[_INDEX_BITS:])
    write = Signal(bool(0))
    wdata, mask, latched, value = (Signal(intbv(0)[32:]) for _ in range(4))
    hits = {name: Signal(bool(0)) for name in ("CTRL", "DOORBELL", "IRQ_STATUS", "CYCLE_LO")}
    hit_ctrl, hit_doorbell, hit_irq_status, hit_cycle_lo = hits.values()
    geometry = config.rows | config.cols << 8 | config.ports << 16 | (config.arithmetic == "fma") << 20
    stored = {"WATCHDOG": watchdog} | {
        f"{kind}{i}": getattr(windows, f"{kind.lower()}{i}") for i in range(REGIONS) for kind in ("BASE", "LIMIT")}
    constants = {"MAGIC": MAGIC, "VERSION": VERSION, "GEOMETRY": geometry, "CONFIG_HASH": config.hash}
    readable = {"CYCLE_LO": readings.cycle, "CYCLE_HI": latched} | stored
    words = [None] * (1 << _INDEX_BITS)
    parts = []
    for register in REGISTERS:
        if register.access == "wo":
            continue
        name = register.name
        word = Signal(intbv(0)[32:])
        words[register.offset // 4] = word
        if name in constants:
            parts.append(_constant(clk, constants[name], word))
        else:
            source = readable.get(name)
            if source is None:
                source = irq_enable if name == "IRQ_ENABLE" else getattr(readings, name.lower())
            parts.append(_widen(source, word))
    parts += [_stored(clk, rst, write, index, wdata, mask, signal, REGISTER[name].offset // 4)
              for name, signal in (stored | {"IRQ_ENABLE": irq_enable}).items()]
    parts += [_hit(index, hit, REGISTER[name].offset // 4) for name, hit in hits.items()]

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
        commands.soft_reset.next = write and hit_ctrl and wdata[0]
        commands.force.next = write and hit_ctrl and wdata[0] and wdata[1]
        commands.clear.next = write and hit_ctrl and wdata[2]
        commands.doorbell.next = write and hit_doorbell
        commands.address.next = slave.wdata
        commands.irq_clear.next = 0
        if write and hit_irq_status:
            commands.irq_clear.next = wdata[2:]

    @always(clk.posedge)
    def answer():
        slave.rvalid.next = slave.req and not rst
        slave.rdata.next = value
        if rst:
            latched.next = 0
        elif slave.req and hit_cycle_lo and not slave.we:
            latched.next = readings.cycle_high

    return (parts, choose(words, index, value), ignore(slave.addr, 0, 2), ignore(slave.addr, ADDRESS_BITS, 32),
            decode, enable, select, command, answer)


@block
def _hit(index, hit, number):
    @always_comb
    def compare():
        hit.next = index == number

    return compare


@block
def _constant(clk, number, word):
    high, low = number >> 16, number & 0xFFFF

    @always(clk.posedge)
    def constant():
        word.next[32:16] = high
        word.next[16:] = low

    return constant


@block
def _widen(source, word):
    extra = 32 - len(source)
    if extra == 0:
        @always_comb
        def same():
            word.next = source

        return same

    @always_comb
    def extend():
        word.next = concat(intbv(0)[extra:], source)

    return extend


@block
def _stored(clk, rst, write, index, wdata, mask, register, number):
    width = len(register)

    @always(clk.posedge)
    def store():
        if rst:
            register.next = 0
        elif write and index == number:
            register.next = (register & ~mask[width:]) | wdata[width:]

    return store

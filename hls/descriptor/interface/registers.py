# SPDX-License-Identifier: Apache-2.0
"""Register map of the accelerator's OBI slave: the one table behind hardware, C header and documents."""

from hls.bus.head import HEAD
from hls.bus.registers import Bits, Named, Register

REGIONS = 4

ERRORS = {
    "NONE": (0, "no error"),
    "UNALIGNED": (1, "a descriptor address is not a multiple of 4"),
    "WINDOW": (2, "an address is outside its region's BASE..LIMIT"),
    "TIMEOUT": (3, "watchdog: nothing moved for WATCHDOG cycles, and a grant or an answer was due"),
    "DESCRIPTOR": (4, "a descriptor field is zero or contradicts another"),
    "BUSY": (5, "DOORBELL was written while the accelerator was busy"),
    "STALL": (6, "watchdog: nothing moved for WATCHDOG cycles, though nothing was due on the bus"),
    "LEFTOVER": (7, "the list ended with words that no layer used; lengths of its streams contradict its loops"),
}
ERRORS = {name: (Named(code, f"ERROR_{name}"), doc) for name, (code, doc) in ERRORS.items()}

COUNTERS = ("BUSY", "ARRAY_ACTIVE", "LOAD_STALL", "STORE_STALL", "BUS_WORDS", "LANES_LOST", "LANES_LOSSY")
_COUNTER_DOCS = {
    "BUSY": "cycles between doorbell and done",
    "ARRAY_ACTIVE": "vectors streamed through the array",
    "LOAD_STALL": "cycles a vector waited for weights or activations",
    "STORE_STALL": "cycles a vector waited for a free accumulator bank",
    "BUS_WORDS": "words read and written by the masters",
    "LANES_LOST": "aligned: non-zero lanes shifted out entirely",
    "LANES_LOSSY": "aligned: lanes that lost more than 8 bits",
}

_OWN = (
    Register(
        "GEOMETRY",
        0x08,
        "ro",
        "what was built",
        (
            Bits("ROWS", 0, 8, "array rows"),
            Bits("COLS", 8, 8, "array columns"),
            Bits("PORTS", 16, 4, "OBI masters"),
            Bits("FMA", 20, 1, "1: fma arithmetic, 0: aligned"),
        ),
    ),
    Register(
        "CTRL",
        0x10,
        "wo",
        "commands",
        (
            Bits("SOFT_RESET", 0, 1, "stop; answers still due are awaited (STATUS.DRAINING)"),
            Bits(
                "FORCE",
                1,
                1,
                "with SOFT_RESET: give up requests and answers still due, for a dead bus; answers "
                "that come late are discarded, nothing is requested before, and a second FORCE gives them up too",
            ),
            Bits("CLEAR_COUNTERS", 2, 1, "clear the performance counters"),
        ),
    ),
    Register(
        "STATUS",
        0x14,
        "ro",
        "state",
        (
            Bits("BUSY", 0, 1, "between doorbell and done, error or reset"),
            Bits("DONE", 1, 1, "list completed; cleared by the next doorbell"),
            Bits("ERROR", 2, 1, "stopped by an error; cleared by SOFT_RESET"),
            Bits("DRAINING", 3, 1, "bus answers are still due; a doorbell now is refused"),
            Bits("ERROR_CODE", 8, 4, "what went wrong"),
        ),
    ),
    Register(
        "DOORBELL",
        0x18,
        "rw",
        "write: run the list at this descriptor address; with STATUS.ERROR only the error "
        "interrupt is raised again; read: current descriptor",
    ),
    Register(
        "IRQ_ENABLE", 0x1C, "rw", "interrupt enables", (Bits("DONE", 0, 1, "on done"), Bits("ERROR", 1, 1, "on error"))
    ),
    Register("IRQ_STATUS", 0x20, "w1c", "pending interrupts, same bits"),
    Register(
        "ERROR_ADDR",
        0x24,
        "ro",
        "address that caused the error; 0 for STALL and LEFTOVER, where DOORBELL reads the descriptor",
    ),
    Register(
        "WATCHDOG",
        0x28,
        "rw",
        "cycles in which nothing needs to move while something is due or a list runs, "
        "more than a vector takes through the array; 0: any number",
    ),
    Register("LAYERS", 0x2C, "ro", "descriptors completed since the doorbell"),
    *(
        Register(f"{kind}{i}", 0x30 + 8 * i + 4 * (kind == "LIMIT"), "rw", doc)
        for i in range(REGIONS)
        for kind, doc in (("BASE", f"first byte of region {i}"), ("LIMIT", f"first byte after region {i}"))
    ),
    *(Register(name, 0x60 + 4 * i, "ro", _COUNTER_DOCS[name]) for i, name in enumerate(COUNTERS)),
)
REGISTERS = tuple(sorted((*HEAD, *_OWN), key=lambda r: r.offset))
REGISTER = {r.name: r for r in REGISTERS}

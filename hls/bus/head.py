# SPDX-License-Identifier: Apache-2.0
"""The registers that every accelerator begins with, at the same offsets, so that firmware knows what it talks to."""

from hls.bus.registers import Named, Register
from hls.config import INTERFACE_VERSION

MAGIC = Named(0x4850474E, "MAGIC")  # "HPGN"
VERSION = Named(INTERFACE_VERSION, "VERSION")

NAME_WORDS = 4
"""Words of an architecture's name."""

SIZE = 0x100
"""Bytes of the slave's window that are the head's; what is behind them is the architecture's."""

HEAD = (
    Register("MAGIC", 0x00, "ro", f'{MAGIC:#010x}, "HPGN"'),
    Register("VERSION", 0x04, "ro", "version of registers and descriptor"),
    Register("CONFIG_HASH", 0x0C, "ro", "hash of the hardware configuration"),
    Register("CYCLE_LO", 0x50, "ro", "free-running cycle counter; reading it latches CYCLE_HI"),
    Register("CYCLE_HI", 0x54, "ro", "high word latched by the last read of CYCLE_LO"),
    *(
        Register(
            f"ARCHITECTURE{i}",
            0x80 + 4 * i,
            "ro",
            f"letters {4 * i} to {4 * i + 3} of the architecture's name, ASCII, the first in the low byte, then zeros",
        )
        for i in range(NAME_WORDS)
    ),
)


def name_words(name: str) -> tuple[int, ...]:
    """What the ARCHITECTURE registers hold for an architecture called `name`; raises ValueError for a longer one."""
    data = name.encode("ascii")
    if len(data) > 4 * NAME_WORDS:
        raise ValueError(f"{name} has more than {4 * NAME_WORDS} letters")
    data = data.ljust(4 * NAME_WORDS, b"\0")
    return tuple(int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4))


def head_constants(architecture: str, config_hash: int) -> dict[str, Named]:
    """Contents of the registers of the head that never change, by name."""
    words = {f"ARCHITECTURE{i}": word for i, word in enumerate(name_words(architecture))} | {"CONFIG_HASH": config_hash}
    return {"MAGIC": MAGIC, "VERSION": VERSION} | {name: Named(word, name) for name, word in words.items()}

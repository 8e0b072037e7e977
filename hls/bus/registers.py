# SPDX-License-Identifier: Apache-2.0
"""Tables of registers, from which hardware, C headers and documents are made."""

from collections.abc import Iterable
from dataclasses import dataclass, field


class Named(int):
    """A number with the name that it has in Verilog."""

    name: str

    def __new__(cls, value: int, name: str) -> "Named":
        number = super().__new__(cls, value)
        number.name = name
        return number


@dataclass(frozen=True)
class Bits:
    """Bit field ``name`` at ``lsb``, ``width`` bits."""

    name: str
    lsb: int
    width: int
    doc: str


@dataclass(frozen=True)
class Register:
    """One 32-bit register, or ``words`` of them side by side; ``access`` is ro, rw, wo or w1c (write one to clear)."""

    name: str
    offset: int
    access: str
    doc: str
    fields: tuple[Bits, ...] = field(default=())
    words: int = 1

    @property
    def index(self) -> Named:
        """Number of its word in the register file."""
        return Named(self.offset // 4, f"{self.name}_INDEX")

    def bits(self, name: str) -> Bits:
        """The field called ``name``."""
        return next(b for b in self.fields if b.name == name)

    def word(self, **values: int) -> int:
        """Register contents with these field values; other fields are 0."""
        return sum(int(value) << self.bits(name).lsb for name, value in values.items())


def define(name: str, value: str, comment: str = "") -> str:
    """Line of a C header for the macro HEEPSTOR_`name`."""
    return f"#define HEEPSTOR_{name:<28} {value}" + (f"  // {comment}" if comment else "")


def c_macros(registers: Iterable[Register]) -> list[str]:
    """Lines of a C header: NAME_REG, a register's byte offset; NAME_FIELD_BIT, or NAME_FIELD_LSB and _MASK."""
    lines = []
    for register in registers:
        lines.append(define(f"{register.name}_REG", f"0x{register.offset:02x}u", f"{register.access}: {register.doc}"))
        for bits in register.fields:
            lines += _field_macros(register, bits)
    return lines


def _field_macros(register: Register, bits: Bits) -> list[str]:
    name = f"{register.name}_{bits.name}"
    if bits.width == 1:
        return [define(f"{name}_BIT", f"0x{1 << bits.lsb:08x}u", bits.doc)]
    return [define(f"{name}_LSB", f"{bits.lsb}u", bits.doc), define(f"{name}_MASK", f"0x{(1 << bits.width) - 1:x}u")]

# SPDX-License-Identifier: Apache-2.0
"""The quantities by which designs are compared, and how their numbers are written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gen.explore.point import Point
from gen.ppa.energy.model import MHZ, off_by

UNKNOWN = "-"


@dataclass(frozen=True)
class Axis:
    """`name`: the attribute of a `Point`. how: its figures are obtained. digits: behind the decimal point."""

    name: str
    title: str
    how: str
    unit: str = ""
    digits: int = 0

    @property
    def label(self) -> str:
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def of(self, point: Point) -> float | None:
        value: float | None = getattr(point, self.name)
        return value

    def shown(self, value: float | None) -> str:
        """A value as a text, `UNKNOWN` for None."""
        return UNKNOWN if value is None else f"{value:,.{self.digits}f}"

    def difference(self, value: float | None) -> str:
        """A difference of two values as a text with its sign."""
        if value is None:
            return UNKNOWN
        return f"{value:+,.{self.digits}f}" if round(value, self.digits) else "0"


OF_ENERGY = (
    f"what each unit does in the cycle model, times energies of units at gate level, clocks gated, {MHZ:g} MHz, with "
    f"buffers and the system's RAM; {off_by()}"
)
_UNITS = "sum of units, each synthesised by yosys for UltraScale+; the design as a whole was not"
_CELLS = "sum of units, each mapped to an open 45 nm library; pre-layout"
AXES = {
    axis.name: axis
    for axis in (
        Axis("cycles", "cycles", ""),
        Axis("us", "latency", "cycles at the modelled clock", "us", 1),
        Axis("lut", "LUT", _UNITS),
        Axis("ff", "FF", _UNITS),
        Axis("dsp", "DSP", _UNITS),
        Axis("bram", "block RAM", f"{_UNITS}; blocks of 36 Kbit", "", 1),
        Axis("kge", "logic", f"{_CELLS}, without buffers", "kGE", 1),
        Axis("mm2", "silicon", f"{_CELLS}, with buffers as SRAM macros", "mm2", 3),
        Axis("mhz", "clock", "slowest unit after nextpnr on an ECP5, every input and output behind a register", "MHz"),
        Axis("uj", "energy", OF_ENERGY, "uJ", 2),
        Axis("ram_kib", "RAM", "memory plan: program, constants, activations, stack", "KiB", 1),
        Axis("accuracy", "accuracy", "bit-exact model on the data set", "", 4),
    )
}
CYCLES = {
    "bound": "a lower bound: what array and bus allow at least",
    "fast": "the quick estimate",
    "exact": "the cycle model, stepped through everything that the accelerator does; not run",
    "simulated": "measured: RTL of accelerator and CPU, simulated cycle by cycle",
}
"""How cycles are obtained, by the stage of a point."""
AREAS = ("lut", "kge", "dsp")
"""What the size of a design is measured by: the first of them that is known."""


def known(points: Iterable[Point]) -> list[Axis]:
    """The axes that any of the points has a value on."""
    points = list(points)
    return [axis for axis in AXES.values() if any(axis.of(point) is not None for point in points)]


def area_axis(points: Iterable[Point], limits: Mapping[str, float]) -> Axis | None:
    """What the size of designs is measured by: what is limited, of that which all points know; None without any."""
    points = list(points)
    usable = [name for name in AREAS if all(getattr(point, name) is not None for point in points)]
    names = [name for name in usable if name in limits] + usable
    return AXES[names[0]] if points and names else None

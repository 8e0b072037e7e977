# SPDX-License-Identifier: Apache-2.0
"""What an accelerator takes: area on FPGAs and in silicon, clock, leakage."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from gen.results import tables
from gen.results.result import Result
from gen.results.schema import COUNT, FLAG, NUMBER, TEXT, Fields, Schema, each, maybe, named, record
from gen.results.tables import Column

PRE_LAYOUT = "before layout: without wires, clock tree and pads"
_UNIT: Fields = {
    "lut": (COUNT, "look-up tables, those used as memory among them"),
    "ff": (COUNT, "flip-flops"),
    "dsp": (COUNT, "DSP slices"),
    "bram": (NUMBER, "block RAMs of 36 kbit, or of the family's size"),
    "kge": (NUMBER, "logic in thousands of NAND2, without SRAM macros"),
    "mm2": (maybe(NUMBER), "logic and SRAM macros; null where the library's node has no macros"),
    "leakage_uw": (maybe(NUMBER), "of logic and SRAM macros, microwatts; null as `mm2`"),
    "ns": (NUMBER, "longest path within a module, with clock to output and setup"),
    "uj": (maybe(NUMBER), "energy of an inference, microjoules; null where none was asked for"),
}
_PPA: Fields = {
    "architecture": (TEXT, "its name"),
    "geometry": (TEXT, "the accelerator, in words"),
    "synthesised": (FLAG, "whether this configuration was synthesised, or modelled from figures of units"),
    "family": (TEXT, "of the FPGA figures: xcup, xc7 or ecp5"),
    "library": (TEXT, "of the figures in silicon"),
    "origins": (named(TEXT), "how each column was found"),
    **_UNIT,
    "mhz_ecp5": (maybe(NUMBER), "clock on an ECP5 of speed grade 8: the slowest block, placed alone"),
    "layers": (each(record({"name": (TEXT, "as in the model"), "uj": (NUMBER, "its energy, microjoules")})), "energy"),
    "units": (named(record(_UNIT)), "the same of every unit with everything in it, by name"),
}


@dataclass(frozen=True)
class UnitFigures:
    """Of one unit, or of the accelerator; see the schema."""

    lut: int
    ff: int
    dsp: int
    bram: float
    kge: float
    mm2: float | None
    leakage_uw: float | None
    ns: float
    uj: float | None = None


@dataclass(frozen=True)
class LayerEnergy:
    """Of one layer, microjoules."""

    name: str
    uj: float


@dataclass(frozen=True, repr=False)
class PpaReport(Result):
    """Area, clock and leakage of a configuration; see the schema."""

    architecture: str
    geometry: str
    synthesised: bool
    family: str
    library: str
    origins: Mapping[str, str]
    whole: UnitFigures
    mhz_ecp5: float | None
    units: Mapping[str, UnitFigures]
    layers: tuple[LayerEnergy, ...] = ()

    schema = Schema("ppa", "Area, clock and energy of an accelerator", _PPA)

    def content(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "geometry": self.geometry,
            "synthesised": self.synthesised,
            "family": self.family,
            "library": self.library,
            "origins": dict(self.origins),
            **asdict(self.whole),
            "mhz_ecp5": self.mhz_ecp5,
            "layers": [asdict(layer) for layer in self.layers],
            "units": {name: asdict(unit) for name, unit in self.units.items()},
        }

    def table(self) -> RenderableType:
        how = "synthesised" if self.synthesised else "modelled"
        right = (
            "LUT",
            Column("FF", 4),
            "DSP",
            Column("block\nRAM", 2),
            "kGE",
            Column("mm2", 1),
            Column("leakage\nuW", 5),
            Column("path\nns", 3),
        )
        found = tables.table(f"{self.geometry}, {how}", ("unit",), right)
        for name, unit in sorted(self.units.items(), key=lambda item: -item[1].kge):
            found.add_row(name, *_cells(unit))
        found.add_section()
        found.add_row("accelerator", *_cells(self.whole), style="bold")
        lines = [f"{column}: {origin}" for column, origin in self.origins.items()]
        if self.mhz_ecp5 is not None:
            lines.insert(0, f"clock on an ECP5: {self.mhz_ecp5:.0f} MHz")
        return Group(found, Text("\n".join(lines)), Text(""))


def _cells(unit: UnitFigures) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return (
        tables.count(unit.lut),
        tables.count(unit.ff),
        tables.count(unit.dsp),
        f"{unit.bram:g}" if unit.bram else "-",
        f"{unit.kge:,.1f}",
        number(unit.mm2, ".4f"),
        number(unit.leakage_uw, ",.1f"),
        f"{unit.ns:.2f}",
    )

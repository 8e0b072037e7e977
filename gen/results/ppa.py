# SPDX-License-Identifier: Apache-2.0
"""What an accelerator takes: area on FPGAs and in silicon, clock, leakage."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from gen.records import tables
from gen.records.result import Result
from gen.records.schema import COUNT, FLAG, NUMBER, TEXT, Fields, Schema, each, maybe, named, record
from gen.records.tables import Column

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
    "uj": (
        maybe(NUMBER),
        "energy of an inference, microjoules, of the whole with the system's RAM; null where none was asked for",
    ),
}
_LAYER: Fields = {
    "name": (TEXT, "as in the model"),
    "cycles": (COUNT, "that it took"),
    "uj": (NUMBER, "its energy, microjoules"),
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
    "layers": (each(record(_LAYER)), "energy of every layer, and of what lies between them; none without a network"),
    "parts": (named(NUMBER), "energy of an inference by part of the system, microjoules; none without a network"),
    "cpu_asleep_uj": (
        maybe(NUMBER),
        "a CPU that sleeps for as many cycles, not in `uj`, microjoules; null without a network, or in other cells",
    ),
    "uj_error": (maybe(NUMBER), "standard error of `uj` for sampling, microjoules; null where it is not known"),
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
    cycles: int
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
    parts: Mapping[str, float] = field(default_factory=dict)
    uj_error: float | None = None
    cpu_asleep_uj: float | None = None

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
            "parts": dict(self.parts),
            "cpu_asleep_uj": self.cpu_asleep_uj,
            "uj_error": self.uj_error,
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
            *((Column("uJ", 4),) if self.layers else ()),
        )
        found = tables.table(f"{self.geometry}, {how}", ("unit",), right)
        for name, unit in sorted(self.units.items(), key=lambda item: -item[1].kge):
            found.add_row(name, *_cells(unit, bool(self.layers)))
        found.add_section()
        found.add_row("accelerator", *_cells(self.whole, bool(self.layers)), style="bold")
        lines = [f"{column}: {origin}" for column, origin in self.origins.items()]
        if self.mhz_ecp5 is not None:
            lines.insert(0, f"clock on an ECP5: {self.mhz_ecp5:.0f} MHz")
        return Group(found, *self._energy(), Text("\n".join(lines)), Text(""))

    def _energy(self) -> list[RenderableType]:
        if not self.layers or self.whole.uj is None:
            return []
        layers = tables.table("energy of an inference", ("layer",), ("cycles", "uJ", Column("pJ per\ncycle", 5)))
        for layer in self.layers:
            layers.add_row(
                layer.name, tables.count(layer.cycles), f"{layer.uj:,.4f}", f"{layer.uj / layer.cycles * 1e6:,.1f}"
            )
        layers.add_section()
        cycles = sum(layer.cycles for layer in self.layers)
        pj = self.whole.uj / cycles * 1e6
        layers.add_row("total", tables.count(cycles), f"{self.whole.uj:,.4f}", f"{pj:,.1f}", style="bold")
        split = tables.table("by part", ("part",), ("uJ", Column("share\n%", 4)))
        for name, uj in self.parts.items():
            split.add_row(name, f"{uj:,.4f}", f"{100 * uj / self.whole.uj:.1f}")
        if self.cpu_asleep_uj is not None:
            split.add_section()
            split.add_row(
                "CPU asleep, beside it", f"{self.cpu_asleep_uj:,.4f}", f"{100 * self.cpu_asleep_uj / self.whole.uj:.1f}"
            )
        return [layers, split]


def _cells(unit: UnitFigures, energy: bool) -> tuple[str, ...]:
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
        *((number(unit.uj, ".4f"),) if energy else ()),
    )

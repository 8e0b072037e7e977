# SPDX-License-Identifier: Apache-2.0
"""What an exploration found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from rich.console import Group, RenderableType
from rich.text import Text

from gen.explore.point import STAGES, Point
from gen.ppa.energy.model import off_by
from gen.records import tables
from gen.records.result import Result
from gen.records.schema import ANYTHING, COUNT, NUMBER, TEXT, Fields, Schema, each, maybe, named, record
from gen.records.tables import Column

SHOWN = 20
"""Designs of the front that the table has; all are in the files."""

_POINT: Fields = {
    "number": (COUNT, "of the point, what `heepgen hw --from` takes"),
    "config": (named(ANYTHING), "its architecture, and the options that differ from the defaults"),
    "cycles": (COUNT, "of an inference, of several models the slowest one's or their weighted mean"),
    "by_model": (named(COUNT), "of each"),
    "us": (maybe(NUMBER), "microseconds at the modelled clock"),
    "lut": (maybe(COUNT), "of an UltraScale+"),
    "ff": (maybe(COUNT), "of an UltraScale+"),
    "dsp": (maybe(COUNT), "of an UltraScale+"),
    "bram": (maybe(NUMBER), "of an UltraScale+"),
    "kge": (maybe(NUMBER), "logic in 45 nm, without buffers"),
    "mm2": (maybe(NUMBER), "in 45 nm, with buffers"),
    "mhz": (maybe(NUMBER), "modelled clock"),
    "uj": (maybe(NUMBER), "modelled energy of an inference at 100 MHz, clocks gated"),
    "ram_kib": (NUMBER, "of the system's RAM: program, constants, activations"),
    "accuracy": (maybe(NUMBER), "0 to 1, on the data; null where it was not asked for"),
    "stage": ({"enum": list(STAGES)}, "how the cycles are known"),
    "bottleneck": (TEXT, "the limit that binds most, in the words of `heepgen why`"),
    "modelled": (maybe(COUNT), "cycles by the cycle model, where `cycles` were measured on the RTL"),
}
_COUNTS = named(COUNT)
_EXPLORE: Fields = {
    "networks": (each(TEXT), "their names"),
    "space": (COUNT, "combinations that were asked for"),
    "points": (_COUNTS, "configurations that each stage judged"),
    "refused": (_COUNTS, "configurations that are illegal, or do not run the networks, by reason"),
    "over": (_COUNTS, "configurations that are beyond a limit, by what is limited"),
    "nearest": (named(NUMBER), "the least that one of these takes, by what is limited"),
    "limits": (named(NUMBER), "the most that a design may take"),
    "axes": (each(TEXT), "of the front"),
    "front": (
        each(record(_POINT)),
        "designs that no other one is at least as good as on every axis, by the first axis",
    ),
    "recommended": (maybe(record(_POINT)), "one of them; null where none is within the limits"),
    "left_out": (each(TEXT), "layers whose cycles nobody knows, and which are not counted"),
    "simulated": (
        each(
            record(
                {
                    "number": (COUNT, "of a point"),
                    "cycles": (COUNT, "of the RTL"),
                    "modelled": (COUNT, "by the cycle model"),
                    "error": (NUMBER, "of the cycle model, as a part of the measured cycles"),
                }
            )
        ),
        "designs that were run on the RTL",
    ),
    "store": (TEXT, "the file with everything that was judged"),
}


@dataclass(frozen=True)
class Simulated:
    """A point that was run: cycles of the RTL, those of the cycle model, and by what part these are off."""

    number: int
    cycles: int
    modelled: int
    error: float

    @classmethod
    def of(cls, point: Point) -> Self:
        assert point.modelled is not None and point.error is not None
        return cls(point.number, point.cycles, point.modelled, point.error)


@dataclass(frozen=True, repr=False)
class ExploreReport(Result):
    """An exploration; `points`, by stage, are those that it judged."""

    networks: tuple[str, ...]
    space: int
    points: Mapping[str, int]
    refused: Mapping[str, int]
    over: Mapping[str, int]
    nearest: Mapping[str, float]
    limits: Mapping[str, float]
    axes: tuple[str, ...]
    front: tuple[Point, ...]
    recommended: Point | None
    left_out: tuple[str, ...]
    simulated: tuple[Simulated, ...]
    store: str

    schema = Schema("explore", "Designs for networks", _EXPLORE)

    def content(self) -> dict[str, Any]:
        plain = {**vars(self), "points": dict(self.points), "refused": dict(self.refused), "over": dict(self.over)}
        plain |= {
            "nearest": dict(self.nearest),
            "limits": dict(self.limits),
            "front": [_plain(point) for point in self.front],
        }
        plain["recommended"] = None if self.recommended is None else _plain(self.recommended)
        return plain | {"simulated": [asdict(one) for one in self.simulated]}

    def table(self) -> RenderableType:
        columns = [
            Column("cycles"),
            *(Column(head, 1) for head in MEASURED if self.simulated),
            Column("us", 3),
            Column("LUT", 2),
            Column("DSP", 4),
            Column("kGE", 2),
        ]
        columns += [Column("mm2", 3), Column("uJ", 2), Column("RAM,\nKiB", 4), Column("accuracy", 1)]
        table = tables.table(
            f"{', '.join(self.networks)}: the front over {', '.join(self.axes)}",
            ["point", Column("configuration", wraps=True), Column("binds", 2), Column("by", 3)],
            columns,
        )
        for point in self.front[:SHOWN]:
            chosen = self.recommended is not None and point.number == self.recommended.number
            figures = (point.us, point.lut, point.dsp, point.kge, point.mm2, point.uj, point.ram_kib, point.accuracy)
            forms = (",.1f", ",", ",", ",.1f", ".3f", ",.2f", ",.0f", ".4f")
            table.add_row(
                f"{point.number} *" if chosen else str(point.number),
                in_words(point.config),
                point.bottleneck,
                point.stage,
                f"{point.cycles:,}",
                *(beside(point) if self.simulated else ()),
                *("-" if value is None else format(value, form) for value, form in zip(figures, forms, strict=True)),
                style="bold" if chosen else "",
            )
        return Group(table, *(Text(line, style="dim") for line in self._notes()))

    def _notes(self) -> list[str]:
        judged = ", ".join(f"{count:,} {stage}" for stage, count in self.points.items() if count)
        lines = [f"{self.space:,} combinations; judged: {judged or 'none'}"]
        if len(self.front) > SHOWN:
            lines.append(f"{len(self.front) - SHOWN} more designs are on the front, see {self.store}")
        lines += [f"left out, {reason}: {count:,}" for reason, count in self.refused.items()]
        lines += [
            f"beyond the limit of {name}: {count:,}, the nearest takes {self.nearest[name]:,.6g}"
            for name, count in self.over.items()
        ]
        if self.left_out:
            lines.append(f"not counted, since they run on the CPU: {', '.join(self.left_out)}")
        lines += [
            f"point {one.number} on the RTL: {one.cycles:,} cycles, {one.modelled:,} by the cycle model "
            f"({100 * one.error:+.2f} %)"
            for one in self.simulated
        ]
        if "uj" in self.axes:
            lines.append(f"energies are modelled, {off_by()}")
        if self.recommended is None:
            lines.append("no design is within the limits")
        else:
            lines.append(f"recommended (*): {in_words(self.recommended.config)}, point {self.recommended.number}")
        return lines


MEASURED = ("cycle model", "error, %")
"""Heads of what stands beside cycles of the RTL."""


def beside(point: Point) -> tuple[str, str]:
    """For MEASURED: the cycle model's cycles, and by what part of the measured ones it is off."""
    if point.modelled is None or point.error is None:
        return "-", "-"
    return f"{point.modelled:,}", f"{100 * point.error:+.2f}"


def _plain(point: Point) -> dict[str, Any]:
    return {**vars(point), "config": dict(point.config), "by_model": dict(point.by_model)}


def in_words(config: Mapping[str, Any]) -> str:
    """A configuration in a line."""
    return " ".join([str(config["architecture"]), *(f"{n}={v}" for n, v in config.items() if n != "architecture")])

# SPDX-License-Identifier: Apache-2.0
"""What the kit found, as a table for people and as JSON for programs."""

from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType

from gen.ppa.fpga import Area
from gen.records.result import Result
from gen.records.schema import COUNT, FLAG, TEXT, Schema, each, maybe, record
from gen.records.tables import Column, Table


@dataclass(frozen=True)
class Check:
    """One check: of `cases` drawn by `seed`; `message` says what failed, `wave` is the VCD file of the smallest case
    that does. `note` is for the eye."""

    name: str
    passed: bool
    cases: int
    seed: int
    seconds: float = 0.0
    message: str = ""
    wave: str | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        names = ("name", "passed", "cases", "seed", "wave", *(["message"] if self.message else []))
        return {name: getattr(self, name) for name in names}


_FIGURES = ("luts", "flip_flops", "dsps", "block_rams")
_CHECK = record(
    {
        "name": (TEXT, "of the check"),
        "passed": (FLAG, "whether nothing failed"),
        "cases": (COUNT, "that were tried"),
        "seed": (COUNT, "that draws them"),
        "wave": (maybe(TEXT), "VCD file of the smallest case that fails"),
        "message": (TEXT, "what failed"),
    },
    optional={"message"},
)


@dataclass(frozen=True, repr=False)
class CheckReport(Result):
    """All checks of an architecture, and the area of its hardware where it is known."""

    architecture: str
    geometry: str
    checks: tuple[Check, ...]
    area: Area | None

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    schema = Schema(
        "check-architecture",
        "Checks of an architecture",
        {
            "architecture": (TEXT, "its name"),
            "passed": (FLAG, "whether every check passed"),
            "checks": (each(_CHECK), "each by itself"),
            "area": (
                maybe(record({name: (COUNT, name.replace("_", " ")) for name in _FIGURES})),
                "of the hardware, where it is known",
            ),
        },
    )

    def content(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "passed": self.passed,
            "checks": [check.to_dict() for check in self.checks],
            "area": {name: getattr(self.area, name) for name in _FIGURES} if self.area else None,
        }

    def table(self) -> RenderableType:
        result = Table(self.geometry, ("check", "", Column("what was found", wraps=True)), ("cases", "seconds"))
        for check in self.checks:
            words = check.message or check.note
            if check.wave:
                words += f"\nwaves: {check.wave}"
            result.add_row(
                check.name, "passed" if check.passed else "FAILED", words, f"{check.cases:,}", f"{check.seconds:.0f}"
            )
        return result

# SPDX-License-Identifier: Apache-2.0
"""What the kit found, as a table for people and as JSON for programs."""

from dataclasses import dataclass
from typing import Any

from gen.documents.area import Area


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


@dataclass(frozen=True)
class CheckReport:
    """All checks of an architecture, and the area of its hardware where it is known."""

    architecture: str
    geometry: str
    checks: tuple[Check, ...]
    area: Area | None

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        figures = {"luts": "luts", "flip_flops": "flip_flops", "dsps": "dsps", "block_rams": "block_rams"}
        return {
            "architecture": self.architecture,
            "passed": self.passed,
            "checks": [check.to_dict() for check in self.checks],
            "area": {key: getattr(self.area, name) for key, name in figures.items()} if self.area else None,
        }

    def table(self) -> Any:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        result = Table(title=self.geometry, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        result.add_column("check", no_wrap=True)
        result.add_column("", no_wrap=True)
        for name in ("cases", "seconds"):
            result.add_column(name, justify="right")
        result.add_column("what was found")
        for check in self.checks:
            words = check.message or check.note
            if check.wave:
                words += f"\nwaves: {check.wave}"
            result.add_row(
                check.name, "passed" if check.passed else "FAILED", f"{check.cases:,}", f"{check.seconds:.0f}", words
            )
        return result

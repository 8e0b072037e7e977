# SPDX-License-Identifier: Apache-2.0
"""Tables and the numbers in them."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE, SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

GAP = 2
"""Blanks between columns."""
ROOM = 24
"""Characters of a name or a text for which numbers give way; what is longer is shortened or wrapped first."""
LEAST = 6
"""Characters that a name or a text keeps in any case."""
_ENDLESS = 100_000


@dataclass(frozen=True)
class Column:
    """A column. Those with the highest `rank` are left out first where there is no room, those of rank 0 never. Where
    a line is still too long, names are shortened in the middle, and texts that `wraps` continue below."""

    heading: str
    rank: int = 0
    wraps: bool = False


class Table:
    """A table that takes as many of its columns as there is room for, and says which are missing."""

    def __init__(
        self, title: str, left: Sequence[str | Column], right: Sequence[str | Column] = (), header: bool = True
    ) -> None:
        """Columns `left` hold names or texts, columns `right` numbers."""
        self.title, self._header, self.texts = title, header, len(left)
        self.columns = [c if isinstance(c, Column) else Column(c) for c in (*left, *right)]
        self.rows: list[tuple[tuple[str | Text, ...], str]] = []
        self._sections: set[int] = set()

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """Cells that are missing at the end are empty."""
        self.rows.append((cells + ("",) * (len(self.columns) - len(cells)), style))

    def add_section(self) -> None:
        """A line below the last row."""
        self._sections.add(len(self.rows) - 1)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widths = self._natural()
        return Measurement(1, max(_line(widths), cell_len(self.title), 1))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._fitted(options.max_width)
        if self.title:
            yield Text(self.title, style="table.title")
        table = RichTable(
            box=SIMPLE_HEAD if self._header else SIMPLE,
            show_header=self._header,
            padding=(0, GAP - 1, 0, 0),
            pad_edge=False,
            show_edge=False,
        )
        for index, width in widths.items():
            justify: Any = "left" if index < self.texts else "right"
            table.add_column(self.columns[index].heading, justify=justify, width=width, overflow="fold")
        dots = "..." if options.ascii_only else "\N{HORIZONTAL ELLIPSIS}"
        for number, (cells, style) in enumerate(self.rows):
            shown = [
                cells[index] if self.columns[index].wraps else _shortened(cells[index], width, dots)
                for index, width in widths.items()
            ]
            table.add_row(*shown, style=style, end_section=number in self._sections)
        yield Text("")
        yield table
        yield Text("")
        missing = [c.heading for index, c in enumerate(self.columns) if index not in widths]
        if missing:
            names = ", ".join(" ".join(heading.split("\n")).replace("/ ", "/") for heading in missing)
            yield Text(f"no room for {names}: --wide shows all", style="dim")

    def _natural(self) -> dict[int, int]:
        """Characters that every column takes."""
        headings = [c.heading if self._header else "" for c in self.columns]
        return {
            index: max(map(_width, (heading, *(cells[index] for cells, _ in self.rows))))
            for index, heading in enumerate(headings)
        }

    def _fitted(self, room: int) -> dict[int, int]:
        """Width of every column that is shown in lines of `room` characters."""
        widths = self._natural()

        def least() -> int:
            return _line({i: min(w, ROOM) if i < self.texts else w for i, w in widths.items()})

        while least() > room and (ranked := [i for i in widths if self.columns[i].rank]):
            del widths[max(ranked, key=lambda i: (self.columns[i].rank, i))]
        while _line(widths) > room:
            widest = max((i for i in widths if i < self.texts), key=widths.__getitem__, default=None)
            if widest is None or widths[widest] <= LEAST:
                break
            widths[widest] -= 1
        return widths


def table(title: str, left: Sequence[str | Column], right: Sequence[str | Column] = ()) -> Table:
    """An empty table; columns `left` hold names or texts, columns `right` numbers."""
    return Table(title, left, right)


def pairs(title: str, lines: Sequence[tuple[str, str]]) -> Table:
    """Two columns: names and values."""
    result = Table(title, ("", Column("", wraps=True)), header=False)
    for name, value in lines:
        result.add_row(Text(name, style="bold"), value)
    return result


def natural_width(*renderables: RenderableType) -> int:
    """Characters of the longest line where nothing is wrapped, shortened or left out."""
    console = Console(file=io.StringIO(), width=_ENDLESS, markup=False, emoji=False)
    return max(Measurement.get(console, console.options, each).maximum for each in renderables)


def _width(cell: str | Text) -> int:
    return max(map(cell_len, str(cell).split("\n")))


def _line(widths: dict[int, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


def _shortened(cell: str | Text, width: int, dots: str) -> str | Text:
    """`cell` with `dots` in the place of its middle where it is longer than `width`."""
    text = str(cell)
    if _width(text) <= width or width <= cell_len(dots):
        return cell
    rest = width - cell_len(dots)
    begin, end = _begin(text, rest // 2), _begin(text[::-1], rest - rest // 2)[::-1]
    return Text(f"{begin}{dots}{end}", style=cell.style if isinstance(cell, Text) else "")


def _begin(text: str, width: int) -> str:
    count = min(width, len(text))
    while cell_len(text[:count]) > width:
        count -= 1
    return text[:count]


def shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def count(value: int) -> str:
    return f"{value:,}" if value else "-"


def ratio(a: float, b: float, form: str = ".2f", scale: float = 1.0) -> str:
    return format(scale * a / b, form) if a and b else "-"


def error(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"


def decibel(value: float | None) -> str:
    return "-" if value is None else "exact" if value == math.inf else f"{value:.1f}"

# SPDX-License-Identifier: Apache-2.0
"""Tables and the numbers in them."""

import math
from collections.abc import Sequence

from rich.box import SIMPLE, SIMPLE_HEAD
from rich.table import Table


def table(title: str, left: Sequence[str], right: Sequence[str] = (), no_wrap: bool = False) -> Table:
    """An empty table; columns `left` hold texts, columns `right` numbers."""
    result = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in left:
        result.add_column(name, no_wrap=no_wrap)
    for name in right:
        result.add_column(name, justify="right", no_wrap=no_wrap)
    return result


def pairs(title: str, lines: Sequence[tuple[str, str]]) -> Table:
    """Two columns: names and values."""
    result = Table(title=title, title_justify="left", box=SIMPLE, show_header=False, pad_edge=False)
    result.add_column(style="bold", no_wrap=True)
    result.add_column()
    for line in lines:
        result.add_row(*line)
    return result


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

# SPDX-License-Identifier: Apache-2.0
"""What the commands print: tables and JSON on standard output, progress and errors on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from hls.output import write_file

WIDE = "heepgen.wide"
"""Where click's context says that tables may be wider than the terminal."""


def show(*renderables: Any) -> None:
    """Print rich renderables on standard output: as wide as the terminal, but whole with --wide, in pipes and files."""
    from rich.console import Console, ConsoleDimensions

    from gen.results.tables import natural_width

    console = Console(highlight=False, markup=False, emoji=False)
    context = click.get_current_context(silent=True)
    if not sys.stdout.isatty() or context and context.meta.get(WIDE):
        console.size = ConsoleDimensions(max(natural_width(*renderables), console.width), console.height)
    console.print(*renderables, sep="\n")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done now, on one line; silent when nobody watches."""
    if not sys.stderr.isatty():
        yield lambda message: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("") as status:
        yield lambda message: status.update(escape(message))


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """A function (what, done, total) that shows one progress bar per `what`; silent when nobody watches."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as shown:
        tasks: dict[str, Any] = {}

        def update(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total)
            shown.update(tasks[what], completed=done)

        yield update


def write_json(report: Any, target: str | None) -> None:
    """JSON of `report` to `target` (see `write_file`), or to standard output for "-"; None writes nothing."""
    from gen.results.result import to_json

    if target is None:
        return
    if target == "-":
        sys.stdout.write(to_json(report))
        return
    write_file(target, to_json(report), "--json")

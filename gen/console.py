# SPDX-License-Identifier: Apache-2.0
"""What the commands print: tables and JSON on standard output, progress and errors on standard error."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from hls.output import write_file

PATIENCE, REMINDER = 5.0, 30.0
"""Seconds after which a step is said to be under way where nobody watches, and after which again."""
WIDE = "heepgen.wide"
"""Where click's context says that tables may be wider than the terminal."""


def show(*renderables: Any) -> None:
    """Print rich renderables on standard output: as wide as the terminal, but whole with --wide, in pipes and files."""
    from rich.console import Console, ConsoleDimensions

    from gen.records.tables import natural_width

    console = Console(highlight=False, markup=False, emoji=False)
    context = click.get_current_context(silent=True)
    if not sys.stdout.isatty() or context and context.meta.get(WIDE):
        console.size = ConsoleDimensions(max(natural_width(*renderables), console.width), console.height)
    console.print(*renderables, sep="\n")


class Log:
    """Lines on standard error, where nobody watches, about steps that take long: what it is as soon as one does, from
    time to time how long it has taken, and how long it took."""

    def __init__(self) -> None:
        self._message, self._begun, self._seen = "", 0.0, 0.0
        self._changed, self._ended = threading.Condition(), False

    def say(self, message: str) -> None:
        """Begin a step, which ends the one before."""
        with self._changed:
            if message != self._message:
                self._finish()
                self._message, self._begun, self._seen = message, time.monotonic(), 0.0
                self._changed.notify()

    def watch(self) -> None:
        """Write the lines of steps under way, until `end`."""
        with self._changed:
            while not self._ended:
                due = self._begun + (self._seen + REMINDER if self._seen else PATIENCE) - time.monotonic()
                if self._message and due <= 0:
                    self._write(f"{self._seconds()} s" if self._seen else "")
                    self._seen = time.monotonic() - self._begun
                else:
                    self._changed.wait(due if self._message else None)

    def end(self, done: bool) -> None:
        with self._changed:
            if done:
                self._finish()
            self._ended = True
            self._changed.notify()

    def _finish(self) -> None:
        if self._message and self._seen:
            self._write(f"done in {self._seconds()} s")

    def _seconds(self) -> int:
        return round(time.monotonic() - self._begun)

    def _write(self, words: str) -> None:
        print(f"heepgen: {self._message} ... {words}".rstrip(), file=sys.stderr, flush=True)


@contextmanager
def _log() -> Iterator[Callable[[str], None]]:
    log, done = Log(), False
    watcher = threading.Thread(target=log.watch, daemon=True)
    watcher.start()
    try:
        yield log.say
        done = True
    finally:
        log.end(done)
        watcher.join()


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done now and for how long, on one line; where nobody watches, on lines of
    their own for what takes long."""
    if not sys.stderr.isatty():
        with _log() as say:
            yield say
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None, visible=False)
        yield lambda message: shown.reset(task, description=escape(message), total=None, visible=True)


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """A function (what, done, total) that shows one progress bar per `what`; where nobody watches, lines as
    `progress`."""
    if not sys.stderr.isatty():
        with _log() as say:
            yield lambda what, done, total: say(what)
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
    from gen.records.result import to_json

    if target is None:
        return
    if target == "-":
        sys.stdout.write(to_json(report))
        return
    write_file(target, to_json(report), "--json")

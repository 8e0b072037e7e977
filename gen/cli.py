# SPDX-License-Identifier: Apache-2.0
"""The `heepgen` command. Commands are in gen/commands; each imports what it needs when it runs."""

import gc
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import click

from gen import commands
from hls import __version__
from hls.errors import HeepgenError, Stopped

COLLECTED_AFTER = 20_000
"""New objects, of Python's garbage collector: more than its default, since all that torch imports is looked through."""

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


def found_in(package: ModuleType) -> Iterator[click.Command]:
    """The commands of every module of a package."""
    for found in pkgutil.iter_modules(package.__path__):
        module = import_module(f"{package.__name__}.{found.name}")
        yield from (own for own in vars(module).values() if isinstance(own, click.Command))


class _Group(click.Group):
    """Errors that a user can cause are one sentence on standard error and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        gc.set_threshold(COLLECTED_AFTER)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # file names may hold what the terminal cannot show
                stream.reconfigure(errors="backslashreplace")
        try:
            with _cleaning_up():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("HEEPGEN_DEBUG") == "1":
                raise
            click.echo(f"heepgen: {_explained(error)}", err=True)
            raise click.exceptions.Exit(1) from None


@contextmanager
def _cleaning_up() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as Ctrl-C does: what it began is removed."""

    def stop(number: int, _frame: Any) -> None:
        for known in before:
            signal.signal(known, signal.SIG_IGN)
        raise Stopped(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.getsignal(number)
            for number in (signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is signal.SIG_DFL
        }
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _explained(error: Exception) -> str:
    if isinstance(error, HeepgenError):
        return f"error: {error}"
    if isinstance(error, MemoryError):
        return "error: there is not enough memory; give the program more, or a smaller model or input."
    if isinstance(error, OSError) and error.strerror:
        return f"error: {': '.join(str(part) for part in (error.filename, error.strerror) if part)}."
    return f"internal error: {type(error).__name__}: {error}; this is a bug in heepgen, HEEPGEN_DEBUG=1 shows where."


@click.group(cls=_Group, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="heepgen")
def main() -> None:
    """Generate a systolic-array accelerator, the firmware that runs a PyTorch or ONNX model on it, and try
    both on the real CPU's RTL.

    \b
    A first run:
      heepgen hw -o build/hw                      the accelerator, as Verilog
      heepgen sw model.pt2 -o build/app           the firmware, as C++
      heepgen run build/app                       both, simulated cycle by cycle
    """


for _command in found_in(commands):
    main.add_command(_command)


if __name__ == "__main__":
    sys.exit(main())

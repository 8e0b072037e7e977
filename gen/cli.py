# SPDX-License-Identifier: Apache-2.0
"""The `heepgen` command. Commands are in gen/commands; each imports what it needs when it runs."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from gen.commands.architectures import architectures, check_architecture, new_architecture
from gen.commands.doctor import doctor
from gen.commands.estimate import estimate
from gen.commands.evaluate import evaluate
from gen.commands.explore import explore
from gen.commands.hw import hw
from gen.commands.ppa import ppa
from gen.commands.report import report
from gen.commands.run import run
from gen.commands.sw import sw
from gen.commands.why import why
from gen.commands.xheep import xheep
from hls import __version__
from hls.errors import HeepgenError, Stopped

COLLECTED_AFTER = 20_000
"""New objects, of Python's garbage collector: more than its default, since all that torch imports is looked through."""

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


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


main.add_command(hw)
main.add_command(sw)
main.add_command(estimate)
main.add_command(why)
main.add_command(explore)
main.add_command(ppa)
main.add_command(run)
main.add_command(report)
main.add_command(xheep)
main.add_command(evaluate)
main.add_command(architectures)
main.add_command(new_architecture)
main.add_command(check_architecture)
main.add_command(doctor)


if __name__ == "__main__":
    sys.exit(main())

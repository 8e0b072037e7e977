# SPDX-License-Identifier: Apache-2.0
"""What standard error says of long steps: in pipes on lines, in a terminal on one."""

import os
import pty
import re
import subprocess
import sys
import time

import pytest

from gen import console

NETWORK = "a network, [bold] of 2x2"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(console, "PATIENCE", 0.1)
    monkeypatch.setattr(console, "REMINDER", 0.2)


def test_short_steps_say_nothing(quick, capsys):
    with console.progress() as say:
        for step in range(100):
            say(f"step {step}")
    assert capsys.readouterr() == ("", "")


def test_long_steps_say_what_and_how_long(quick, capsys):
    with console.progress() as say:
        say("short")
        say(NETWORK)
        time.sleep(0.5)
        say(NETWORK)
        say("short")
        say("another")
        time.sleep(0.2)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and lines[0] == f"heepgen: {NETWORK} ..."
    ends = ("", " 0 s", " done in 0 s")
    numbered = {re.sub(r"\d+ s", "0 s", line) for line in lines}
    assert numbered == {f"heepgen: {NETWORK} ...{end}" for end in ends} | {
        f"heepgen: another ...{end}" for end in ("", " done in 0 s")
    }
    assert lines[-1].startswith("heepgen: another ... done in") and not any("short" in line for line in lines)


def test_a_step_that_fails_is_not_done(quick, capsys):
    with pytest.raises(ValueError), console.progress() as say:
        say("building")
        time.sleep(0.2)
        raise ValueError
    assert capsys.readouterr().err == "heepgen: building ...\n"


def test_bars_in_a_pipe(quick, capsys):
    with console.bars() as update:
        for done in range(4):
            update("PyTorch", done, 4)
            time.sleep(0.05)
    assert capsys.readouterr().err.startswith("heepgen: PyTorch ...\n")


SCRIPT = f"""
import time
from gen.console import progress
with progress() as say:
    for step in ("first", {NETWORK!r}):
        say(step)
        time.sleep(0.3)
"""


def test_a_terminal_shows_one_line_which_goes():
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "PYTHONPATH": os.getcwd()}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=slave, env=environment) as process:
        os.close(slave)
        written = b""
        try:
            while part := os.read(master, 4096):
                written += part
        except OSError:  # Linux: nobody writes any more
            pass
    os.close(master)
    text = written.decode()
    assert process.returncode == 0 and "first" in text and NETWORK in text and "0:00:00" in text
    assert "done in" not in text and text.rstrip().endswith("\x1b[2K")

# SPDX-License-Identifier: Apache-2.0
"""Slow tests run in turns: every slow test belongs to one of COUNT slices, and a run takes the slice of its commit."""

import json
import os
import subprocess
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

COUNT = 12
TABLE = Path(__file__).with_name("durations.json")
"""Seconds of each slow test, as `make durations` measured them."""


def current(root: Path) -> tuple[int, str]:
    """(number of the slice whose turn it is, why): that of HEEPGEN_SLICE, or commits in history modulo COUNT."""
    named = os.environ.get("HEEPGEN_SLICE")
    if named:
        if not named.isdecimal() or int(named) >= COUNT:
            raise pytest.UsageError(f"HEEPGEN_SLICE={named}: a number from 0 to {COUNT - 1} is wanted")
        return int(named), "by HEEPGEN_SLICE"
    shallow = _git(root, "rev-parse", "--is-shallow-repository")
    commits = _git(root, "rev-list", "--count", "HEAD")
    if shallow != "false" or not commits:
        return 0, "since there is no whole history to count commits in"
    return int(commits) % COUNT, f"by {commits} commits"


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@cache
def _table() -> dict[str, float]:
    return json.loads(TABLE.read_text()) if TABLE.exists() else {}


@cache
def _assigned() -> dict[str, int]:
    """Longest first, each to the slice that has least; names decide between equals."""
    loads, slice_of = [0.0] * COUNT, {}
    for name, seconds in sorted(_table().items(), key=lambda row: (-row[1], row[0])):
        slice_of[name] = loads.index(min(loads))
        loads[slice_of[name]] += seconds
    return slice_of


def of(name: str) -> int:
    """The slice of a test by its node id; one that the table lacks gets one by its name, so that no other moves."""
    return _assigned().get(name, zlib.crc32(name.encode()) % COUNT)


def store(reports: Iterable[pytest.TestReport]) -> None:
    """Put the durations of passed tests (setup included) into the table."""
    table: dict[str, float] = {}
    for report in reports:
        if report.passed and report.when != "teardown":
            table[report.nodeid] = table.get(report.nodeid, 0.0) + report.duration
    known = _table() | {name: round(seconds, 1) for name, seconds in table.items()}
    TABLE.write_text(json.dumps(dict(sorted(known.items())), indent=0, ensure_ascii=False) + "\n")

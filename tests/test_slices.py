# SPDX-License-Identifier: Apache-2.0
"""Slow tests in turns: eight consecutive commits run all of them, evenly; no test moves when another one is added."""

import json
import subprocess
from types import SimpleNamespace

import pytest

from tests import slices

pytest_plugins = "pytester"


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A function that stores durations and forgets what was dealt by others."""
    monkeypatch.setattr(slices, "TABLE", tmp_path / "durations.json")

    def write(durations):
        slices.TABLE.write_text(json.dumps(durations))
        slices._table.cache_clear()
        slices._assigned.cache_clear()

    yield write
    slices._table.cache_clear()
    slices._assigned.cache_clear()


def test_slices_are_even(table):
    durations = {f"t{i}": float(1 + i * i % 97) for i in range(300)}
    table(durations)
    loads = [0.0] * slices.COUNT
    for name, seconds in durations.items():
        loads[slices.of(name)] += seconds
    assert max(loads) - min(loads) < max(durations.values())


def test_new_tests_move_no_other(table):
    names = [f"tests/test_x.py::test[{i}]" for i in range(200)]
    table(dict.fromkeys(names[:100], 1.0))
    before = {name: slices.of(name) for name in names}
    assert set(before.values()) == set(range(slices.COUNT))
    table(dict.fromkeys(names[:100], 1.0))
    assert {name: slices.of(name) for name in [*names, "another"]}.items() >= before.items()


def commit(folder):
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "x"],
        cwd=folder,
        check=True,
    )


def test_every_commit_has_the_next_slice(tmp_path, monkeypatch):
    monkeypatch.delenv("HEEPGEN_SLICE", raising=False)
    assert slices.current(tmp_path)[0] == 0  # no repository
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    numbers = []
    for _ in range(slices.COUNT):
        commit(tmp_path)
        numbers.append(slices.current(tmp_path)[0])
    assert sorted(numbers) == list(range(slices.COUNT))
    subprocess.run(["git", "clone", "-q", "--depth", "1", tmp_path.as_uri(), tmp_path / "shallow"], check=True)
    assert slices.current(tmp_path / "shallow")[0] == 0
    monkeypatch.setenv("HEEPGEN_SLICE", "5")
    assert slices.current(tmp_path) == (5, "by HEEPGEN_SLICE")
    for wrong in (str(slices.COUNT), "-1", "x"):
        monkeypatch.setenv("HEEPGEN_SLICE", wrong)
        with pytest.raises(pytest.UsageError, match=f"from 0 to {slices.COUNT - 1}"):
            slices.current(tmp_path)


def test_durations_are_stored(table):
    table({"old": 3.0})
    report = SimpleNamespace(nodeid="a", passed=True, when="setup", duration=1.25)
    call = SimpleNamespace(nodeid="a", passed=True, when="call", duration=2.0)
    failed = SimpleNamespace(nodeid="b", passed=False, when="call", duration=9.0)
    slices.store([report, call, failed])
    assert json.loads(slices.TABLE.read_text()) == {"a": 3.2, "old": 3.0}


SUITE = """
import pytest

@pytest.mark.slow
@pytest.mark.parametrize("n", range(40))
def test_slow(n): pass

def test_quick(): pass

@pytest.mark.external("HEEPGEN_TINY")
def test_with_weights(): pass
"""


def test_what_runs(pytester, monkeypatch, request):
    """Runs of the suite with all numbers meet every slow test once; external tests are named at the end."""
    monkeypatch.delenv("HEEPGEN_TINY", raising=False)
    pytester.makeini("[pytest]\nmarkers =\n  slow: x\n  external: x\n")
    pytester.makeconftest((request.config.rootpath / "tests" / "conftest.py").read_text())
    pytester.makepyfile(SUITE)
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath))

    def outcome(*arguments):
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-o", "addopts=", *arguments)
        return result.parseoutcomes(), result.stdout.str()

    slow = 0
    for number in range(slices.COUNT):
        monkeypatch.setenv("HEEPGEN_SLICE", str(number))
        outcomes, text = outcome()
        slow += outcomes["passed"] - 1
        assert f"slice {number} of {slices.COUNT}" in text and "1 of test_what_runs.py: needs the trained" in text
    assert slow == 40
    assert outcome("--slow=all")[0]["passed"] == 41
    assert outcome("--slow=off")[0]["passed"] == 1
    assert outcome("test_what_runs.py::test_slow")[0]["passed"] == 40
    assert outcome("-m", "external")[0]["skipped"] == 1
    monkeypatch.setenv("HEEPGEN_TINY", "somewhere")
    assert outcome("-m", "external")[0]["passed"] == 1

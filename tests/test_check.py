# SPDX-License-Identifier: Apache-2.0
"""The verification kit finds what is planted, by the check named for it, and nothing where there is nothing."""

import json

import pytest
from click.testing import CliRunner

from firmware_gen.architectures import registry
from gen.cli import main
from gen.flows.check.kit import Effort
from tests.planted_bugs import BUGS, FOLDERS, HARMLESS, checked, planted

QUICK = (
    "a request is withdrawn before its grant",
    "reset does not clear a counter",
    "the interrupt never comes",
    "rows depend on each other",
)
FEW = Effort(rounds=30, networks=1)


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(registry, "_loaded", {})


def heepgen(*arguments):
    return CliRunner().invoke(main, ["check-architecture", *map(str, arguments)])


def found(bug, folder):
    """The check named for a bug, with the effort of a few cases."""
    return checked(planted(bug, folder), FEW, only=(bug.check,)).checks[0]


@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name in QUICK], ids=lambda bug: bug.name)
def test_a_planted_bug_is_found_by_the_check_named_for_it(bug, tmp_path):
    check = found(bug, tmp_path)
    assert not check.passed and check.message and "\n" not in check.message, check


@pytest.mark.slow
@pytest.mark.parametrize("bug", [bug for bug in BUGS if bug.name not in QUICK], ids=lambda bug: bug.name)
def test_every_planted_bug_is_found_by_the_check_named_for_it(bug, tmp_path):
    check = found(bug, tmp_path)
    assert not check.passed and check.message and "\n" not in check.message, check


@pytest.mark.slow
@pytest.mark.parametrize("change", HARMLESS, ids=lambda bug: bug.name)
def test_what_does_not_matter_passes(change, tmp_path):
    names = ("lint", "synthesis", "bus", "calls", "back_to_back", "stalls", "reset")
    report = checked(planted(change, tmp_path), FEW, only=names)
    assert report.passed, report.to_dict()


def test_the_command_says_what_passed(tmp_path):
    names = ["lint", "synthesis", "register_head", "numpy_function", "calls", "stalls", "reset", "cycles", "bus"]
    only = [argument for name in names for argument in ("--only", name)]
    result = heepgen(
        FOLDERS["fetcher"], *only, "--cases", 20, "--json", "-", "--seed", 3, "--waves", tmp_path / "waves"
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["architecture"] == "fetcher" and report["passed"] and report["area"] is None
    assert {check["name"] for check in report["checks"]} == set(names)
    assert all(
        set(check) == {"name", "passed", "cases", "seed", "wave"} and check["seed"] == 3 and check["cases"] > 0
        for check in report["checks"]
    )
    assert not (tmp_path / "waves").exists()

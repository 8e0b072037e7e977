# SPDX-License-Identifier: Apache-2.0
"""The verification kit finds what is planted, by the check named for it, and nothing where there is nothing."""

import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from firmware_gen.architectures import registry
from firmware_gen.architectures.contract import Limits
from firmware_gen.architectures.registry import load_architecture
from gen.cli import main
from gen.flows.accelerator.hw import generate_hw
from gen.flows.check.draw import Draw
from gen.flows.check.kit import Effort, Kit, check_architecture
from gen.flows.check.subject import Subject
from sim.waves import variables
from tests.json_forms import form_errors
from tests.planted_bugs import BUGS, FOLDERS, HARMLESS, ROOT, Bug, checked, planted

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
    names = ("lint", "synthesis", "bus", "calls", "back_to_back", "stalls", "reset", "cycles")
    report = checked(planted(change, tmp_path), FEW, only=names)
    assert report.passed, report.to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("architecture", ["streaming", FOLDERS["int8_dot"]], ids=["streaming", "int8_dot"])
def test_cycles_that_ours_give_hold_at_the_default_effort(architecture, seed, tmp_path):
    config = load_architecture(architecture).config()
    report = check_architecture(config, Effort(), seed, tmp_path, only=["cycles"])
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
    assert not form_errors(report)
    assert {check["name"] for check in report["checks"]} == set(names)
    assert all(
        set(check) == {"name", "passed", "cases", "seed", "wave"} and check["seed"] == 3 and check["cases"] > 0
        for check in report["checks"]
    )
    assert not (tmp_path / "waves").exists()


def replaced(folder, file, old, new):
    """A copy of the fetcher in which a text of a file is another."""
    return planted(Bug("", "fetcher", file, ((old, new),), ""), folder)


def test_what_cannot_be_built_fails_every_check_that_needs_it_with_one_sentence(tmp_path):
    copy = replaced(tmp_path, "driver.hpp", "void wait() {", "void wait() { no_such_function();")
    result = heepgen(
        copy, "--cases", 5, "--only", "numpy_function", "--only", "calls", "--only", "reset", "--json", "-"
    )
    assert result.exit_code == 1 and "Traceback" not in result.output
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert checks["numpy_function"]["passed"]
    for name in ("calls", "reset"):
        assert "driver.hpp:" in checks[name]["message"] and "no_such_function" in checks[name]["message"]
        assert not checks[name]["passed"] and checks[name]["wave"] is None


def test_a_function_that_raises_is_named_with_its_line(tmp_path):
    copy = replaced(tmp_path, "architecture.py", "    bits =", '    raise KeyError("no such thing")\n    bits =')
    result = heepgen(copy, "--only", "numpy_function", "--json", "-")
    message = json.loads(result.stdout)["checks"][0]["message"]
    assert result.exit_code == 1 and all(part in message for part in ("KeyError", "architecture.py, line 2")), message


def test_a_failing_case_is_small_and_has_waves(tmp_path):
    copy = replaced(tmp_path, "fetcher.v", "if (j + 1 == k) begin", "if (j + 1 == k || j == 5) begin")
    report = checked(copy, FEW, only=("calls",))
    (check,) = report.checks
    assert not check.passed and "call of 1 x 7 x 1" in check.message
    names = {variable.name for variable in variables(copy / "waves" / "fetcher-calls.vcd")}
    assert {"m_addr", "state"} <= names and check.wave == str(copy / "waves" / "fetcher-calls.vcd")


def test_hardware_of_other_options_is_found(tmp_path):
    folder = tmp_path / "fetcher"
    shutil.copytree(FOLDERS["fetcher"], folder)
    generate_hw(load_architecture(folder).config(depth_bits=4), tmp_path / "hw")
    shutil.copytree(tmp_path / "hw" / "rtl", folder / "old")
    path = folder / "architecture.py"
    text = path.read_text()
    begin, end = text.index("    hardware=Verilog("), text.index("    software=")
    path.write_text(
        text[:begin].replace("Verilog", "Whole").replace("import numpy", "import shutil\n\nimport numpy")
        + f'    hardware=Whole(lambda _, to: shutil.copytree("{folder}/old", to, dirs_exist_ok=True), lambda _: 1),\n'
        + text[end:]
    )
    (check,) = checked(folder, FEW, only=("register_head",)).checks
    assert not check.passed and "register CONFIG_HASH" in check.message


def test_options_that_say_the_same_are_refused():
    result = heepgen(FOLDERS["fetcher"], "--quick", "--cases", 5)
    assert result.exit_code == 1 and "give one of them" in result.stderr
    result = heepgen(FOLDERS["fetcher"], "--only", "cals")
    assert result.exit_code == 1 and "did you mean calls?" in result.stderr


def test_random_calls_keep_to_the_limits_and_cover_them():
    rng = np.random.default_rng(5)
    draw = Draw(rng, Limits(9, 6), 4)
    rounds = [one for _ in range(200) for one in (draw.plain(), draw.special(), *draw.partial(), draw.reset())]
    assert all(one.b.shape[0] <= 9 and one.b.shape[1] <= 6 for one in rounds)
    assert {one.b.shape for one in rounds} == {(k, n) for k in range(1, 10) for n in range(1, 7)}
    summed = [draw.back_to_back() for _ in range(200)]
    assert any(one.depth and one.b.shape[0] > one.depth for one in summed)
    assert all(one.depth <= 9 and (not one.depth or one.shape[0] <= 4) for one in summed)
    assert {-128, 127} <= {int(b) for one in rounds for b in one.b.reshape(-1)}


def test_the_document_names_every_check(tmp_path):
    config = load_architecture(FOLDERS["fetcher"]).config()
    kit = Kit(Subject(config, tmp_path, lambda message: None), FEW, 0, tmp_path)
    section = (ROOT / "docs" / "architectures.md").read_text().split("## Checking it")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.M) == list(kit.checks())
    shown = heepgen("--help").output
    assert all(name in shown for name in kit.checks())

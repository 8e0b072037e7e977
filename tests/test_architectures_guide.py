# SPDX-License-Identifier: Apache-2.0
"""docs/architectures.md: what it quotes stands in the files that it names, its commands exist, its messages come."""

import re
import shlex

import click
import pytest
import torch
from click.testing import CliRunner

from firmware_gen.architectures import registry
from gen.cli import main
from gen.flows.accelerator.new_architecture import new_architecture
from tests.house import ROOT

GUIDE = (ROOT / "docs" / "architectures.md").read_text()
QUOTES = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.M | re.S)
SUFFIX = {"python": "architecture.py", "systemverilog": "int8_dot.sv", "cpp": ".hpp .cpp .py"}
MESSAGES = dict(re.findall(r"^\| ([^|]+) \| `([^|]+)` \|$", GUIDE.split("## What goes wrong")[1], re.M))


def test_quotes_stand_in_a_file_that_was_named_before():
    assert len(QUOTES) > 8
    for kind, text in QUOTES:
        named = re.findall(r"`((?:examples|tests)/[\w/]+\.\w+)`", GUIDE[: GUIDE.index(text)])
        path = [name for name in named if any(name.endswith(s) for s in SUFFIX[kind].split())][-1]
        assert text in (ROOT / path).read_text(), path


def test_commands_are_there():
    commands = re.findall(r"^    heepgen (.+?)(?:  .*)?$", GUIDE, re.M)
    assert len(commands) >= 8
    for command in commands:
        name, *arguments = shlex.split(command, comments=True)
        main.commands[name].make_parser(click.Context(main.commands[name])).parse_args(arguments)


def test_paths_exist():
    named = re.findall(r"`((?:examples|firmware_gen|tests)/[\w/.]+)`", GUIDE)
    assert len(named) > 5 and all((ROOT / name).exists() for name in named)


ARCHITECTURE, MODULE = "architecture.py", "mine.sv"
EDITS = {
    "`driver.hpp` is missing": (ARCHITECTURE, None, None),
    "a file of Verilog is missing": (ARCHITECTURE, '"mine.sv"', '"mine.v"'),
    "a port with another name": (MODULE, "s_gnt", "s_grant"),
    "a parameter that the module lacks": (ARCHITECTURE, '"DEPTH"', '"DEEP"'),
    "`architecture.py` raises when it is loaded": (ARCHITECTURE, "*power_of_two(", "*power("),
    "there is no `ARCHITECTURE`": (ARCHITECTURE, "ARCHITECTURE = ", "MINE = "),
    "`compute` raises": (ARCHITECTURE, "b.astype(np.int32)", "b.astype(np.int33)"),
    "`compute` gives float64": (ARCHITECTURE, "return (elements", "return np.float64(1) * (elements"),
    "`limits` are none": (ARCHITECTURE, "n=1)", "n=0)"),
    "hardware or driver compute something else": (ARCHITECTURE, "return (elements", "return 2 * (elements"),
    "the name of one of heepgen's": (ARCHITECTURE, '= "mine"', '= "streaming"'),
}
CONFIGURATIONS = {
    "an option out of range": "mine: {depth: 300}",
    "an option that is not known": "mine: {deep: 30}",
    "a path in a configuration file": "architecture: ./mine",
}
OTHER = "an application for other hardware"


@pytest.fixture
def heepgen(tmp_path, monkeypatch):
    """A function that runs a command in a folder with an architecture `mine` and a model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEEPGEN_DEBUG", raising=False)
    new_architecture("mine")
    x = torch.ones(1, 6)
    torch.export.save(torch.export.export(torch.nn.Linear(6, 3).eval(), (x,)), "model.pt2")

    def run(*arguments):
        monkeypatch.setattr(registry, "_loaded", {})
        return CliRunner().invoke(main, arguments)

    return run


def test_every_mistake_is_made_below():
    assert MESSAGES.keys() == {*EDITS, *CONFIGURATIONS, OTHER}


def says(result, mistake):
    assert result.exit_code == 1 and result.stderr.startswith("heepgen: error: "), result.output
    assert MESSAGES[mistake] in result.stderr


@pytest.mark.parametrize("mistake", EDITS)
def test_a_mistake_is_told(heepgen, tmp_path, mistake):
    file, old, new = EDITS[mistake]
    path = tmp_path / "mine" / file
    if old is None:
        (tmp_path / "mine" / "driver.hpp").unlink()
    else:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    says(heepgen("run", "model.pt2", "--architecture", "./mine"), mistake)


@pytest.mark.parametrize("mistake", CONFIGURATIONS)
def test_a_wrong_option_is_told(heepgen, tmp_path, mistake):
    (tmp_path / "c.hjson").write_text(CONFIGURATIONS[mistake])
    given = () if "path" in mistake else ("--architecture", "./mine")
    says(heepgen("hw", "--config", "c.hjson", *given), mistake)


def test_other_hardware_is_told(heepgen, tmp_path):
    assert heepgen("sw", "model.pt2", "--architecture", "./mine", "-o", "app").exit_code == 0
    (tmp_path / "c.hjson").write_text("mine: {depth: 32}")
    says(heepgen("run", "app", "--architecture", "./mine", "--config", "c.hjson"), OTHER)

# SPDX-License-Identifier: Apache-2.0
"""docs/from-heepstor.md: its application and commands run, and what its tables name is there."""

import builtins
import inspect
import re

import pytest
from click.testing import CliRunner
from torch import nn

from gen.cli import main
from heepstorch import code_generator, errors, module, quantization
from tests.house import ROOT

GUIDE = (ROOT / "docs" / "from-heepstor.md").read_text()
PROJECT = (ROOT / "xheep_integration" / "templates" / "Makefile.j2").read_text()
GENERATED = {"CPU": "cv32e40p", "MEMORY_BANKS": "4", "PROJECT": "the first application"}
"""Options whose defaults the template leaves to the configuration and the applications."""


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", GUIDE, re.M | re.S)[1]


def rows(title):
    """Cells of the table of a section."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def quoted(text):
    return re.findall(r"`([^`]+)`", text)


def test_its_application_and_its_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.M | re.S)
    exec(compile(example, "from-heepstor.md", "exec"), {})
    commands = re.findall(r"^    heepgen (.*)$", GUIDE, re.M)
    assert len(commands) == 2
    for command, line in zip(commands, ("ACCELERATOR: 8x8", "USING SOFTWARE DNN OPERATORS"), strict=True):
        result = CliRunner().invoke(main, command.split(), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert line in result.output and "True label values:\n[7, 2, 1, 0, 4]\n" in result.output


def test_every_python_name_is_there():
    network = module.SequentialNetwork.from_torch_sequential(nn.Sequential(nn.Linear(1, 1)))
    generator = code_generator.CodeGenerator("name", network)
    own = (network, network.modules["_0"], generator, code_generator, errors, module, quantization, builtins)
    names = {name for owner in own for name in dir(owner)} | {"network"}
    for theirs, here, _ in rows("Python"):
        calls = quoted(theirs if here.startswith("the same") else here)
        assert calls or here == "gone"
        assert not [call for call in calls if re.match(r"[\w.]+", call)[0].rpartition(".")[2] not in names]


def test_signatures_are_those_of_the_table():
    for call in (row[0] for row in rows("Python")):
        if found := re.match(r"`(?:\w+\.)?(\w+)\((.+)\)`$", call):
            name, given = found[1], [argument.strip() for argument in found[2].split(",")]
            own = next(
                getattr(owner, name)
                for owner in (module.SequentialNetwork, code_generator.CodeGenerator, code_generator)
                if hasattr(owner, name)
            )
            parameters = list(inspect.signature(own).parameters.values())
            positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
            if name == "CodeGenerator":
                given[1] = "sequential_network"
            assert positional == [argument.partition("=")[0] for argument in given], call


@pytest.mark.parametrize("variable, default", [(row[0], row[2]) for row in rows("Options") if len(quoted(row[2])) < 2])
def test_options_have_the_defaults_that_it_says(variable, default):
    (variable,) = quoted(variable)
    written = re.search(rf"^{variable} *\?= *(.*)$", PROJECT, re.M)
    if default == "gone" or variable == "PORT":
        assert not written
    elif variable in GENERATED:
        assert written and default.strip("`") == GENERATED[variable]
    else:
        assert default == f"`{written[1]}`"


def test_make_targets_are_there():
    targets = {"X": set(re.findall(r"^([a-z-]+):", PROJECT, re.M))}
    targets["H"] = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = [
        (where, target)
        for _, here, _ in rows("Make targets")
        for where, commands in re.findall(r"([XH]) ((?:`make [^`]+`,? ?)+)", here)
        for target in re.findall(r"make ([a-z-]+)", commands)
    ]
    assert len(named) > 12 and not [(where, target) for where, target in named if target not in targets[where]]


def test_what_it_says_of_configurations_holds(tmp_path):
    from firmware_gen.architectures.registry import load_config

    (text,) = (code for code in quoted(section("Options")) if code.startswith("systolic_array:"))
    (tmp_path / "cfg.hjson").write_text(f"{{ {text} }}")
    theirs, own = load_config(tmp_path / "cfg.hjson"), load_config(None)
    assert (theirs.rows, theirs.cols) == (12, 12) and (own.rows, own.cols, own.ports) == (8, 8, 2)
    assert own.memory_banks == int(GENERATED["MEMORY_BANKS"]) and own.memory_banks_interleaved == (8, 4)


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", GUIDE)
    assert len(links) > 3 and all((ROOT / "docs" / link).exists() for link in links)

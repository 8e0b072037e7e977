# SPDX-License-Identifier: Apache-2.0
"""What `--json` writes keeps to its published JSON Schema, and these describe nothing else."""

import json
import re

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from torch import nn

from gen.cli import main
from gen.documents.json_format import page, results
from gen.flows.check.report import Check, CheckReport
from gen.records.result import portable
from gen.records.schema import COUNT, FLAG, NUMBER, TEXT, Schema, each, maybe, named, record
from tests.house import ROOT
from tests.json_forms import form_errors

SMALL = ("--architecture", "streaming", "--rows", "2", "--cols", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("json")
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 3)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 6),)), folder / "two layers.pt2")
    rng = np.random.default_rng(1)
    np.savez(folder / "data.npz", x=rng.standard_normal((8, 6)), y=rng.integers(0, 3, 8))
    return folder


def written(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments), "--json", "-"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout, parse_constant=pytest.fail)


def commands(folder):
    model, data = folder / "two layers.pt2", folder / "data.npz"
    return {
        "heepgen hw": ("hw", *SMALL, "-o", folder / "hw"),
        "heepgen sw": ("sw", model, "-o", folder / "app", "--listing"),
        "heepgen estimate": ("estimate", model),
        "heepgen why": ("why", model, *SMALL),
        "heepgen explore": ("explore", model, "--rows", "2", "--cols", "2", "--ports", "1", "-o", folder / "explore"),
        "heepgen ppa": ("ppa",),
        "heepgen run": ("run", model, "--software", "--tap", "0"),
        "heepgen eval": ("eval", model, "--data", data),
        "heepgen architectures": ("architectures",),
        "heepgen architectures NAME": ("architectures", "streaming"),
        "heepgen new-architecture": ("new-architecture", folder / "mine"),
        "heepgen doctor": ("doctor",),
    }


@pytest.mark.parametrize("command", commands(ROOT))
def test_commands_write_their_form(folder, command):
    document = written(*commands(folder)[command])
    assert document["schema"] == results()[command].schema.identifier
    assert not form_errors(document)


def test_a_failed_check_keeps_to_the_form():
    failed = Check("calls", False, 3, 7, message="row 0 differs", wave="build/check/calls.vcd")
    document = json.loads(
        json.dumps(CheckReport("mine", "mine, 2x2", (failed, Check("lint", True, 1, 7)), None).to_dict())
    )
    assert document["schema"] == "heepgen.check-architecture/1" and not form_errors(document)


def test_what_is_not_described_is_found(folder):
    document = written("estimate", folder / "two layers.pt2")
    assert form_errors(document | {"more": 1}) and form_errors(document | {"total_cycles": "1"})
    assert form_errors({name: value for name, value in document.items() if name != "peak"})
    assert form_errors(document | {"layers": [layer | {"more": 1} for layer in document["layers"]]})


EXAMPLE = Schema(
    "example",
    "An example",
    {
        "a": (TEXT, ""),
        "b": (each(record({"c": (maybe(NUMBER), ""), "d": (FLAG, "")}, {"d"})), ""),
        "e": (named(COUNT), ""),
    },
)


@pytest.mark.parametrize(
    "change, right",
    [
        ({}, True),
        ({"schema": "heepgen.example/2"}, False),
        ({"a": None}, False),
        ({"b": [{"c": "nan"}, {"c": None, "d": True}, {"c": -1.5}]}, True),
        ({"b": [{"c": "1.5"}]}, False),
        ({"b": [{}]}, False),
        ({"b": {}}, False),
        ({"e": {"any name": 3}}, True),
        ({"e": {"any name": -3}}, False),
        ({"f": 1}, False),
    ],
)
def test_kinds_of_values(change, right):
    document = {"schema": "heepgen.example/1", "a": "", "b": [], "e": {}} | change
    assert Draft202012Validator(EXAMPLE.document()).is_valid(document) == right


def test_portable_data():
    assert portable({"a": (1, float("inf"), [float("-inf")])}) == {"a": [1, "inf", ["-inf"]]}


def test_every_form_has_its_page_and_every_command_with_json_its_form():
    with_json = {
        name for name, command in main.commands.items() if any("--json" in option.opts for option in command.params)
    }
    assert {call.split()[1] for call in results() if call.startswith("heepgen ")} == with_json
    headings = re.findall(r"^## `(.*?)(?: --json)?`$", page(), re.M)
    assert headings == list(results())

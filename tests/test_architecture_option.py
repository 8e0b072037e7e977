# SPDX-License-Identifier: Apache-2.0
"""--architecture of the commands, and the list of what it takes."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from firmware_gen.architectures import registry
from firmware_gen.architectures.registry import BUILT_IN
from gen.cli import main
from gen.flows.accelerator import architectures
from gen.flows.accelerator.hw import HwReport
from gen.flows.network.application import wanted
from hls.config import Config
from hls.errors import HeepgenError
from tests.test_any_hardware import KEEPER, SOURCE, VERILOG
from tests.test_cli import one_sentence


@pytest.fixture
def heepgen(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_loaded", {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEEPGEN_DEBUG", raising=False)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "architecture.py").write_text(SOURCE.format(name="keeper_1", hardware=VERILOG))
    (folder / "driver.hpp").write_text("")
    (folder / "keeper.sv").write_text(KEEPER)
    return lambda *args: CliRunner().invoke(main, [str(a) for a in args])


@pytest.mark.parametrize("which", ["./mine", "mine/", "mine/architecture.py"])
def test_a_path_generates_that_accelerator(heepgen, tmp_path, which):
    result = heepgen("hw", "--architecture", which, "-o", "out", "--json", "r.json")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["architecture"], report["lanes"]) == ("keeper_1", 4)
    assert "module keeper " in (tmp_path / "out" / "rtl" / "keeper.sv").read_text()
    assert "keeper_1" in result.output


def test_the_options_of_the_file_are_those_of_the_architecture(heepgen, tmp_path):
    (tmp_path / "heepstor_cfg.hjson").write_text("{keeper_1: {lanes: 9}, ports: 4}")
    assert heepgen("hw", "--architecture", "./mine", "-o", "out").exit_code == 0
    assert "LANES(9)" in (tmp_path / "out" / "rtl" / "heepstor.v").read_text()


@pytest.mark.parametrize("command", ["hw", "sw", "estimate", "run", "eval", "xheep"])
@pytest.mark.parametrize(
    "given, parts",
    [
        (("nothing_known",), ["unknown architecture nothing_known", "descriptor"]),
        (("mine",), ["--architecture ./mine"]),
        (("./absent",), ["absent is no folder"]),
        (("./mine", "--rows", "4"), ["--rows", "keeper_1 has no option rows", "keeper_1.lanes"]),
        (("cpu", "--arith", "fma"), ["--arith", "cpu has no option arithmetic"]),
    ],
)
def test_every_command_refuses_what_is_no_architecture_of_that_kind(heepgen, command, given, parts):
    target = {"hw": (), "xheep": ("--heep-dir", "x"), "eval": ("m.pt2", "--data", "d.npz")}.get(command, ("m.pt2",))
    message = one_sentence(heepgen(command, *target, "--architecture", *given))
    assert all(part in message for part in parts), message


def test_the_cpu_has_no_hardware_to_generate(heepgen):
    assert "architecture cpu has no hardware" in one_sentence(heepgen("hw", "--architecture", "cpu"))


def test_a_file_in_the_folder_runs_nothing(heepgen, tmp_path):
    (tmp_path / "mine" / "architecture.py").write_text("open('ran', 'w')")
    (tmp_path / "heepstor_cfg.hjson").write_text('architecture: "./mine"\n')
    assert "a path runs Python" in one_sentence(heepgen("hw"))
    assert not (tmp_path / "ran").exists()


CPU, STREAMING = (registry.find(name).config for name in ("cpu", "streaming"))


@pytest.mark.parametrize(
    "own, config, hardware_given, architecture_given, chosen",
    [
        (Config(rows=4), Config(), False, False, "own"),
        (Config(rows=4), Config(), True, False, "config"),
        (Config(rows=4), Config(), False, True, "own"),
        (Config(rows=4), STREAMING(), False, True, "config"),
        (STREAMING(rows=4), Config(), False, False, "own"),
        (STREAMING(rows=4), STREAMING(), False, True, "own"),
        (STREAMING(rows=4), STREAMING(), True, True, "config"),
        (Config(rows=4), CPU(), False, True, "config"),
        (CPU(), Config(), False, False, "own"),
    ],
)
def test_an_application_runs_on_its_own_hardware_unless_another_is_named(
    own, config, hardware_given, architecture_given, chosen
):
    application = SimpleNamespace(config=own, folder="app")
    assert wanted(config, application, hardware_given, architecture_given) == {"own": own, "config": config}[chosen]


@pytest.mark.parametrize(
    "own, changed, chosen",
    [
        (STREAMING(rows=4, cols=2), {"rows": 8}, STREAMING(rows=8, cols=2)),
        (Config(rows=4, ports=1), {"rows": 8, "arithmetic": "fma"}, Config(rows=8, ports=1, arithmetic="fma")),
    ],
)
def test_flags_without_an_architecture_change_the_applications_own(own, changed, chosen):
    assert wanted(Config(), SimpleNamespace(config=own, folder="app"), False, False, changed) == chosen


def test_a_flag_that_the_applications_architecture_has_not_is_refused():
    with pytest.raises(HeepgenError, match="--ports: architecture streaming has no option ports"):
        wanted(Config(), SimpleNamespace(config=STREAMING(), folder="app"), False, False, {"ports": 1})


def test_flags_for_an_application_of_streaming(heepgen, tmp_path, monkeypatch):
    model = torch.export.export(torch.nn.Linear(3, 2).eval(), (torch.zeros(1, 3),))
    torch.export.save(model, tmp_path / "m.pt2")
    assert heepgen("sw", "m.pt2", "--architecture", "streaming", "--rows", 3, "--cols", 2, "-o", "app").exit_code == 0
    built = []
    monkeypatch.setattr("gen.flows.measure.run.hardware", lambda config, progress: built.append(config) or 1 / 0)
    for flags in (("--rows", 3), ("--cols", 2), ("--architecture", "streaming"), ()):
        assert "division by zero" in heepgen("run", "app", *flags).stderr
    assert built == 4 * [STREAMING(rows=3, cols=2)]
    for flags in (("--rows", 8), ("--architecture", "streaming", "--rows", 3), ("--architecture", "descriptor")):
        message = one_sentence(heepgen("run", "app", *flags))
        assert "was generated for streaming, 3x2 aligned" in message and len(built) == 4, message
    assert "--ports" in one_sentence(heepgen("run", "app", "--ports", 2))


def test_an_application_without_code_for_hardware_is_refused_on_any():
    with pytest.raises(HeepgenError, match="app is for architecture cpu.*--architecture streaming"):
        wanted(STREAMING(), SimpleNamespace(config=CPU(), folder="app"), False, True)


def test_the_list_has_every_architecture_and_what_it_supports(heepgen):
    result = heepgen("architectures", "--json", "-")
    found = {a["name"]: a for a in json.loads(result.stdout)["architectures"]}
    assert list(found) == list(BUILT_IN)
    assert (found["descriptor"]["level"], found["descriptor"]["masters"]) == ("graph", 2)
    assert {"hw", "xheep"} <= set(found["descriptor"]["supports"]) and "hw" not in found["cpu"]["supports"]
    assert "systolic_array.rows" in {o["name"] for o in found["descriptor"]["options"]} and not found["cpu"]["options"]
    shown = heepgen("architectures").output
    assert all(name in shown for name in BUILT_IN)


def test_one_of_them_with_its_ranges(heepgen):
    report = json.loads(heepgen("architectures", "./mine", "--json", "-").stdout)
    lanes = report["options"][0]
    assert (lanes["name"], lanes["allowed"], lanes["default"]) == ("keeper_1.lanes", "an integer from 1 to 16", 4)
    assert (report["product"]["k"], report["product"]["n"]) == (64, 4)
    shown = heepgen("architectures", "./mine").output
    assert "keeper_1.lanes" in shown and "an integer from 1 to 16" in shown and "0xf0000000" in shown
    assert "did you mean descriptor?" in one_sentence(heepgen("architectures", "desriptor"))


def test_an_installed_one_that_is_broken_is_listed_with_its_fault(heepgen, monkeypatch):
    fault = registry.Entry("broken", "their-package", None, "ModuleNotFoundError: no module")
    monkeypatch.setattr(architectures, "entries", lambda: [*registry.entries(), fault])
    result = heepgen("architectures")
    assert result.exit_code == 0 and "ModuleNotFoundError" in result.output
    listed = json.loads(heepgen("architectures", "--json", "-").stdout)["architectures"][-1]
    assert listed == {"name": "broken", "origin": "their-package", "fault": "ModuleNotFoundError: no module"}


def test_neither_the_list_nor_help_loads_anything_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from gen.cli import main;"
        "print(CliRunner().invoke(main, ['architectures']).exit_code, CliRunner().invoke(main, ['hw', '-h']).exit_code,"
        "sorted({'torch', 'numpy', 'myhdl'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "0 0 []"


def test_a_report_has_what_the_architecture_says_of_its_hardware():
    report = HwReport.of(registry.find("descriptor").config(rows=3, cols=5))
    assert report.to_dict()["peak_mac_per_cycle"] == 15 and report.to_dict()["architecture"] == "descriptor"
    assert ("peak", "15 MAC/cycle; depthwise and pooling 3") in report.lines()


def test_waves_of_the_cpu_alone_are_refused(heepgen, tmp_path):
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(1, 3),)), tmp_path / "m.pt2")
    result = heepgen("run", "m.pt2", "--architecture", "cpu", "--vcd", "w.vcd")
    assert result.exit_code == 1 and not (tmp_path / "w.vcd").exists()
    assert "--vcd shows the accelerator, which architecture cpu has not" in one_sentence(result)

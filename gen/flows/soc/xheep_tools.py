# SPDX-License-Identifier: Apache-2.0
"""The tools that an X-HEEP project needs, for `heepgen doctor`."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from gen.flows.soc.doctor import Finding
from xheep_integration.generation import GENERATIONS

REQUIREMENTS = "pip install -r util/python-requirements.txt of X-HEEP's in an environment of its own, and activate it"
FORK = "pip install git+https://github.com/x-heep/fusesoc.git@ot, or X-HEEP's util/python-requirements.txt"
VERILATOR = "install Verilator 5.006 (X-HEEP of November 2025) or 5.040 (later)"
TOOLCHAIN = (
    "build riscv-gnu-toolchain with --with-multilib-generator=rv32imfc-ilp32--, set RISCV_XHEEP to its "
    "folder and COMPILER_PREFIX to what its programs begin with"
)


def xheep_findings() -> list[Finding]:
    """All of them are optional: heepgen itself works without."""
    return [
        _verilator(),
        _python(),
        _fusesoc(),
        *_compiler(),
        _program("cmake", "X-HEEP: programs", "--version", "install CMake 3.15 or newer"),
        _program(
            "verible-verilog-format",
            "X-HEEP: mcu-gen formats what it wrote",
            "--version",
            "install Verible; a program of that name that does nothing is enough",
        ),
        _program("vivado", "X-HEEP: bitstreams", "-version", "install AMD Vivado and source its settings64.sh"),
        _program("openocd", "X-HEEP: programs on a board", "--version", "install OpenOCD 0.11 or newer"),
        _ftdi(),
        _program("picocom", "X-HEEP: the board's serial port", "--help", "apt-get install picocom"),
        _serial_port(),
    ]


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip()


def _program(name: str, purpose: str, option: str, missing: str) -> Finding:
    path = shutil.which(name)
    version = (_output(path, option).splitlines() or [path])[0] if path else ""
    return Finding(name, False, version, purpose, "" if path else f"not on PATH: {missing}")


def _verilator() -> Finding:
    found = _program("verilator", "X-HEEP: simulation", "--version", VERILATOR)
    version = re.search(r"Verilator (\d+)\.(\d+)", found.version)
    if version and (int(version[1]), int(version[2])) > (5, 40):
        return Finding(
            found.name, False, found.version, found.purpose, f"X-HEEP was not seen to boot with 5.48: {VERILATOR}"
        )
    return found


def _python() -> Finding:
    """The Python that a project's Makefile takes, unless the checkout has a .venv: needs what the generators import."""
    name, purpose = "X-HEEP's Python", "X-HEEP: mcu-gen"
    path = shutil.which("python") or shutil.which("python3")
    if not path:
        return Finding(name, False, "", purpose, f"neither python nor python3 is on PATH: {REQUIREMENTS}")
    modules = sorted({module for generation in GENERATIONS for module in generation.modules})
    code = f"from importlib.util import find_spec\nprint(*(m for m in {modules} if not find_spec(m)))"
    missing = _output(path, "-c", code).split()
    problem = f"{path} has no {', '.join(missing)}: {REQUIREMENTS}" if missing else ""
    return Finding(name, False, _output(path, "--version"), purpose, problem)


def _ftdi() -> Finding:
    version = _output("pkg-config", "--modversion", "libftdi1")
    found = version if re.match(r"[\d.]+$", version) else ""
    missing = "" if found else "not found: apt-get install libftdi1-dev pkg-config"
    return Finding("libftdi1", False, found, "X-HEEP: flash of the ESL programmer", missing)


def _fusesoc() -> Finding:
    name, purpose = "fusesoc (fork)", "X-HEEP: builds"
    path = shutil.which("fusesoc")
    if not path:
        return Finding(name, False, "", purpose, f"fusesoc is not on PATH: {FORK}")
    version = _output(path, "--version")
    upstream = re.match(r"(\d+)", version) and int(version.split(".")[0]) >= 2
    problem = f"this is upstream's, which does not read all of X-HEEP's core files: {FORK}" if upstream else ""
    return Finding(name, False, version or path, purpose, problem)


def _compiler() -> list[Finding]:
    folder = Path(os.environ.get("RISCV_XHEEP") or Path.home() / ".riscv") / "bin"
    path = folder / f"{os.environ.get('COMPILER_PREFIX') or 'riscv32-unknown-'}elf-g++"
    purpose = "X-HEEP: programs"
    if not os.access(path, os.X_OK):
        return [Finding("RISC-V g++", False, "", purpose, f"{path} does not exist: {TOOLCHAIN}")]
    multilibs = _output(str(path), "-print-multi-lib")
    missing = (
        ""
        if "rv32imfc" in multilibs or _output(str(path), "-dumpmachine").startswith("riscv32-corev")
        else (f"libraries for -march=rv32imfc are missing (use make app-freestanding, or {TOOLCHAIN})")
    )
    return [
        Finding("RISC-V g++", False, _output(str(path), "-dumpfullversion"), purpose),
        Finding("rv32imfc multilib", False, "" if missing else "present", purpose, missing),
        _gdb(folder),
    ]


def _gdb(folder: Path) -> Finding:
    path = folder / f"{os.environ.get('COMPILER_PREFIX') or 'riscv32-unknown-'}elf-gdb"
    version = (_output(str(path), "--version").splitlines() or [""])[0]
    problem = "" if version else f"{path} does not start: it comes with riscv-gnu-toolchain"
    return Finding("RISC-V gdb", False, version, "X-HEEP: programs on a board", problem)


def _serial_port() -> Finding:
    ports = sorted([*Path("/dev/serial/by-id").glob("*"), *Path("/dev").glob("ttyUSB*")])
    return Finding(
        "serial port",
        False,
        str(ports[0]) if ports else "",
        "X-HEEP: output of a board",
        "" if ports else "no /dev/serial/by-id/* or /dev/ttyUSB*: connect the board's USB cable",
    )

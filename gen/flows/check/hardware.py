# SPDX-License-Identifier: Apache-2.0
"""Checks of the generated Verilog by itself: lint, synthesis, area, and the registers that all accelerators have."""

import re
from typing import Any

from gen.flows.check.firmware import HEAD_NAMES, first_error
from gen.flows.check.subject import Subject, ended
from gen.ppa.fpga import Area, synthesised
from hls.bus.head import head_constants
from hls.errors import HeepgenError

COUNTER_TOLERANCE = 50
"""Cycles that lie between the reads of the accelerator's counter and of the testbench's, at most."""


def lint(subject: Subject) -> int:
    """Of all that `heepgen hw` writes, Verilator's -Wall; returns the number of files. Raises `HeepgenError` with the
    first of its lines."""
    from gen.flows.accelerator.hw import RTL, generate_hw
    from sim import toolchain

    folder = subject.work / "hw"
    generate_hw(subject.given, folder)
    files = sorted((folder / RTL).iterdir())
    try:
        toolchain.lint(files, subject.given.root)
    except toolchain.BuildError as error:
        first = next((line for line in str(error).splitlines() if line.startswith("%")), str(error))
        raise HeepgenError(first.replace(f"{folder / RTL}/", "")) from None
    return len(files)


def synthesis(subject: Subject) -> int:
    """That yosys accepts it, and finds no latch, no net with two drivers, and no loop without a register; returns the
    number of modules. Raises `HeepgenError` with the first that it finds."""
    from gen.ppa.tools import yosys

    files = _verilog(subject)
    root = subject.config.root
    script = (
        f"read_verilog -sv {' '.join(files)}; hierarchy -check -top {root}; "
        "tee -q -o proc.txt proc; tee -q -o stat.json stat -json; flatten; opt_clean; check -assert"
    )
    try:
        found = yosys("synthesis", files, script, ("proc.txt", "stat.json"))
    except HeepgenError as error:
        raise HeepgenError(_yosys_words(str(error.args[0]))) from None
    latch = re.search(r"Latch inferred for signal `.*\\(\w+)' from process `[^\\]*\\(\w+)", found["proc.txt"])
    if latch:
        raise HeepgenError(
            f"signal {latch[1]} of module {latch[2]} is a latch: it keeps its value where its block gives none; give "
            "it one on every path."
        )
    return found["stat.json"].count('"num_cells"') - 1


def area(subject: Subject) -> Area:
    """By the flow of docs/area.md."""
    return synthesised(_verilog(subject), subject.config.root)


def _verilog(subject: Subject) -> dict[str, str]:
    """Text of every file by name."""
    from sim.build import accelerator_files

    return {path.name: path.read_text(encoding="utf-8") for path in accelerator_files(subject.hardware())}


def _yosys_words(text: str) -> str:
    """Of yosys' words those that say what is wrong: a warning of `check` with what belongs to it, or an error."""
    warning = re.search(r"^.*Warning: ((?:multiple conflicting|found logic loop).*(?:\n {2,}.*)*)", text, re.M)
    return " ".join(warning[1].split()) if warning else first_error(text)


def register_head(subject: Subject) -> int:
    """That the CPU reads what the contract says, and that the counter counts; returns the number of registers."""
    from sim.elf import symbols
    from sim.run import run_soc

    elf = subject.head_program()
    words = len(HEAD_NAMES) + 2
    result: Any = run_soc(
        elf, subject.hardware(), subject.config, dump=[(symbols(elf)["check_head"], 4 * words)], threads=1
    )
    if not result.ok:
        raise HeepgenError(ended(result))
    dump = result.dumps[0]
    found = [int.from_bytes(dump[4 * i : 4 * i + 4], "little") for i in range(words)]
    wanted = head_constants(subject.config.architecture, subject.config.hash)
    for name, word in zip(HEAD_NAMES, found, strict=False):
        if word != wanted[name]:
            raise HeepgenError(f"register {name} is {word:#010x}, and must be {int(wanted[name]):#010x}.")
    counted, passed = found[len(HEAD_NAMES) :]
    if abs(counted - passed) > COUNTER_TOLERANCE:
        raise HeepgenError(f"the cycle counter counted {counted} in {passed} cycles.")
    return words

# SPDX-License-Identifier: Apache-2.0
"""Run any Verilog module against a C++ testbench: verilated, compiled and cached by content."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from sim.cache import Progress, build_once, content_key, silent
from sim.toolchain import BuildError, compile_object, host_identity, link, verilate


class SimulationError(BuildError):
    """The testbench ended with a non-zero status, or ran past its time limit."""


def verilated_module(
    verilog_files: Sequence[Path],
    top: str,
    *,
    trace: bool = False,
    optimise: str = "-O1",
    verilator_flags: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Folder with the C++ headers of `top` (class V`top`) and its compiled object `V<top>.o`."""
    files = [Path(f) for f in verilog_files]

    def build(work: Path) -> None:
        progress(f"verilating {top}")
        verilate(files, top, work, trace=trace, flags=verilator_flags)
        progress(f"compiling {top}")
        compile_object(work / f"V{top}__all.cpp", work / f"V{top}.o", [optimise, "-w"])

    options = f"{top} {trace} {optimise} {list(verilator_flags)} {host_identity()}"
    return build_once("module", [options, *files], build)


def build_module(
    verilog_files: Sequence[Path],
    top: str,
    cpp_testbench_text: str,
    *,
    trace: bool = False,
    optimise: str = "-O1",
    verilator_flags: Sequence[str] = (),
    flags: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """The program made of module `top` and a testbench with `main`, compiled with `flags`; see `simulate_module`."""
    module = verilated_module(
        verilog_files, top, trace=trace, optimise=optimise, verilator_flags=verilator_flags, progress=progress
    )

    def build(work: Path) -> None:
        progress(f"compiling the testbench of {top}")
        source = work / "testbench.cpp"
        source.write_text(cpp_testbench_text)
        compile_object(source, work / "testbench.o", ["-O2", *flags, f"-isystem{module}"])
        link([work / "testbench.o", module / f"V{top}.o"], work / "testbench")

    key = content_key([module.name, cpp_testbench_text, *flags])
    return build_once("testbench", [key], build) / "testbench"


def simulate_module(
    verilog_files: Sequence[Path],
    top: str,
    cpp_testbench_text: str,
    args: Sequence[str | Path] = (),
    *,
    stdin: bytes | None = None,
    text: bool = True,
    timeout_s: float | None = None,
    trace: bool = False,
    optimise: str = "-O1",
    verilator_flags: Sequence[str] = (),
    progress: Progress = silent,
) -> str | bytes:
    """Standard output (str, or bytes with `text=False`) of a C++ testbench running Verilog module `top`.

    The testbench includes "V`top`.h", defines `main`, and gets `args`; large vectors travel best as binary
    files named in `args`, or through `stdin`. With `trace=True` it may use `VerilatedVcdC`. Module and
    testbench are compiled once per content, so a second call only runs. Raises `BuildError` when Verilator
    or the compiler refuses, `SimulationError` when the program fails or exceeds `timeout_s` seconds.
    """
    program = build_module(
        verilog_files,
        top,
        cpp_testbench_text,
        trace=trace,
        optimise=optimise,
        verilator_flags=verilator_flags,
        progress=progress,
    )
    try:
        done = subprocess.run([program, *map(str, args)], input=stdin, capture_output=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise SimulationError(f"the testbench of {top} ran longer than {timeout_s} s.") from None
    if done.returncode:
        words = (done.stderr + done.stdout[-4000:]).decode(errors="replace").strip()
        raise SimulationError(f"the testbench of {top} ended with status {done.returncode}:\n{words}")
    return done.stdout.decode() if text else done.stdout

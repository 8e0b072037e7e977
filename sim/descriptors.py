# SPDX-License-Identifier: Apache-2.0
"""Run descriptor lists on the accelerator's RTL alone: no CPU, an ideal memory, random stalls on every port."""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hls.descriptor.interface.registers import REGIONS, REGISTER
from sim.build import ROOT, TESTBENCH_DIR, build_accelerator
from sim.cache import Progress, build_once, silent
from sim.rtl import SimulationError
from sim.toolchain import compile_object, host_identity, link


@dataclass(frozen=True)
class BenchRun:
    """Memory afterwards (uint8), and what the script's reads and waits gave, in order."""

    memory: np.ndarray
    values: tuple[int, ...]


def build_bench(accelerator_dir: Path, *, root: str = ROOT, trace: bool = False, progress: Progress = silent) -> Path:
    """The bench with the accelerator generated in ``accelerator_dir``, as a program."""
    accelerator = build_accelerator(accelerator_dir, root=root, trace=trace, progress=progress)
    source = TESTBENCH_DIR / "descriptors.cpp"

    def build(work: Path) -> None:
        compile_object(
            source,
            work / "bench.o",
            ["-O2", "-Wall", "-Wextra", "-Werror", f"-I{TESTBENCH_DIR}", f"-DHEEPGEN_TRACE={int(trace)}"],
        )
        link([work / "bench.o", *sorted(accelerator.glob("*.o"))], work / "bench")

    key: list[str | Path] = [f"{trace} {accelerator.name} {host_identity()}", source, TESTBENCH_DIR / "models.hpp"]
    return build_once("bench", key, build) / "bench"


def write(register: str, value: int) -> str:
    """Script line that writes a register."""
    return f"w {REGISTER[register].offset:x} {value & 0xFFFFFFFF:x}"


def read(register: str) -> str:
    """Script line that reads a register; its value is the next of ``BenchRun.values``."""
    return f"r {REGISTER[register].offset:x}"


def wait_irq(limit: int) -> str:
    """Script line that waits for the interrupt; gives the cycles waited, or -1 after ``limit``."""
    return f"irq {limit:x}"


def start_script(doorbell: int, bases: Sequence[int], limits: Sequence[int], watchdog: int = 0) -> list[str]:
    """Script lines that set the regions up, enable both interrupts and ring the doorbell."""
    lines = [line for i in range(REGIONS) for line in (write(f"BASE{i}", bases[i]), write(f"LIMIT{i}", limits[i]))]
    return [*lines, write("WATCHDOG", watchdog), write("IRQ_ENABLE", 3), write("DOORBELL", doorbell)]


def run_script(
    accelerator_dir: Path,
    memory: np.ndarray,
    script: Sequence[str],
    *,
    stall_probability: float = 0.0,
    seed: int = 0,
    outstanding: int = 1,
    root: str = ROOT,
    vcd: Path | None = None,
    progress: Progress = silent,
) -> BenchRun:
    """Run ``script`` with ``memory`` (uint8, from address 0) behind the masters.

    Every master may have ``outstanding`` transactions in flight (X-HEEP's crossbar: one). Raises
    SimulationError when an OBI rule is broken or an address lies outside the memory.
    """
    program = build_bench(accelerator_dir, root=root, trace=vcd is not None, progress=progress)
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        work = Path(folder)
        memory.tofile(work / "image")
        (work / "script").write_text("\n".join(script) + "\n")
        command = [program, work / "image", work / "script", work / "dump", stall_probability, seed, outstanding]
        done = subprocess.run([str(c) for c in [*command, *([vcd] if vcd else [])]], capture_output=True, text=True)
        if done.returncode:
            raise SimulationError(f"accelerator bench: {done.stderr.strip() or done.stdout.strip()}")
        return BenchRun(np.fromfile(work / "dump", np.uint8), tuple(int(v) for v in done.stdout.split()))


def run_cases(program: Path, script: Sequence[str]) -> list[list[str]]:
    """What every case of a campaign's ``script`` printed, line by line; ``program`` is of `build_bench`."""
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        work = Path(folder)
        (work / "image").write_bytes(b"")
        (work / "script").write_text("\n".join(script) + "\n")
        done = subprocess.run(
            [str(c) for c in (program, work / "image", work / "script", work / "dump", 0, 0, 1)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SimulationError(f"accelerator bench: {done.stderr.strip() or done.stdout.strip()}")
    return [case.splitlines() for case in done.stdout.split("case\n")[1:]]

# SPDX-License-Identifier: Apache-2.0
"""Run firmware on the virtual SoC, cycle by cycle."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_gen.emit.build import memory_bytes
from hls.config import System
from hls.errors import HeepgenError
from sim.build import ROOT, accelerator_files, build_soc
from sim.cache import Progress, silent
from sim.elf import memory_image
from sim.probes import find_probes
from sim.recording import Recording, read_recording
from sim.waves import write_save_file

MAX_CYCLES = 1_000_000_000
CYCLE_TIME = 10
"""Units of a VCD's time in a cycle: soc.cpp."""
TRAP_EXIT = 0x40000000  # soc.hpp: SOC_EXIT_TRAP
CPU_PORTS = 2
MOST_RECORDED = 8_000_000
"""Changes of what a recording samples, about 130 MB; what comes after them is left out."""
_FOREVER = 2**64 - 1


@dataclass(frozen=True)
class Vcd:
    """Waves of cycles first <= c < last of every window, in `path`; of the accelerator, and with `cpu` of the CPU.

    A GTKWave save file is written beside it.
    """

    path: Path
    windows: tuple[tuple[int, int], ...] = ((0, _FOREVER),)
    cpu: bool = False


@dataclass(frozen=True)
class Faults:
    """Bus faults on the accelerator's master ports, each in cycles first <= c < last.

    In `never_grant` no request is granted, in `never_answer` no response is given; `ports` (None: all)
    chooses the ports. Firmware can inject the same at run time (SOC_TESTBENCH_FAULT in soc_map.h).
    """

    never_grant: tuple[int, int] | None = None
    never_answer: tuple[int, int] | None = None
    ports: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PortCount:
    """Transactions of one bus master, and the cycles in which a request of it was not granted."""

    words: int
    refused: int


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    `ended` is "exit" (soc_ctrl was written), "max_cycles", "alarm" (SOC_TESTBENCH_ALARM of soc_map.h), "assertion" (an
    OBI rule was broken) or "unmapped" (the CPU accessed an address where nothing is, and would wait forever); `message`
    says more.
    `exit_code` is what main returned, signed, or `TRAP_EXIT` + mcause after an exception. `cycles` is the
    clock count from reset to the end. `dumps` are the requested memory ranges, `recording` is what `record` asked for.
    """

    uart: str
    ended: str
    exit_code: int
    cycles: int
    asleep_cycles: int
    message: str
    dumps: tuple[bytes, ...]
    instruction_port: PortCount
    data_port: PortCount
    accelerator_ports: tuple[PortCount, ...]
    seconds: float
    recording: Recording | None = None

    @property
    def ok(self) -> bool:
        return self.ended == "exit" and self.exit_code == 0


def _window(window: tuple[int, int]) -> str:
    first, last = window
    return f"{first}:{last}"


def _threads() -> int:
    """Threads of a simulation: 2 where there are two cores, unless $HEEPGEN_THREADS says 1."""
    wanted = os.environ.get("HEEPGEN_THREADS", "")
    if wanted not in ("", "1", "2"):
        raise HeepgenError(f"HEEPGEN_THREADS = {wanted}: must be 1 or 2.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(wanted) if wanted else min(2, cores)


def _options(
    config: System,
    wait_states: int,
    stall_probability: float,
    answer_stalls: bool,
    seed: int,
    max_cycles: int,
    vcd: Vcd | None,
    faults: Faults | None,
    threads: int | None,
) -> list[str]:
    options = [
        "--banks",
        config.memory_banks,
        "--bank-bytes",
        config.bank_bytes,
        "--slave-base",
        config.slave_base,
        "--irq-line",
        config.irq_line,
        "--wait-states",
        wait_states,
        "--stall-probability",
        stall_probability,
        "--answer-stall-probability",
        stall_probability if answer_stalls else 0,
        "--seed",
        seed,
        "--max-cycles",
        max_cycles,
        "--threads",
        threads or _threads(),
    ]
    for group in config.memory_banks_interleaved:
        options += ["--interleaved", group]
    if vcd:
        options += ["--vcd", vcd.path]
        for window in vcd.windows:
            options += ["--vcd-window", _window(window)]
    if faults and faults.never_grant:
        options += ["--never-grant", _window(faults.never_grant)]
    if faults and faults.never_answer:
        options += ["--never-answer", _window(faults.never_answer)]
    if faults and faults.ports is not None:
        options += ["--fault-ports", sum(1 << p for p in faults.ports)]
    return [str(o) for o in options]


def _check(
    config: System,
    wait_states: int,
    stall_probability: float,
    max_cycles: int,
    dump: Sequence[tuple[int, int]],
    memory: Sequence[tuple[int, bytes]],
) -> None:
    ram = sum(memory_bytes(config))
    if not 0 <= wait_states <= 1000:
        raise HeepgenError(f"--wait-states {wait_states}: must be an integer from 0 to 1000.")
    if not 0 <= stall_probability < 1:
        raise HeepgenError(f"stall probability {stall_probability}: must be at least 0 and below 1.")
    if max_cycles < 1:
        raise HeepgenError(f"max_cycles {max_cycles}: must be at least 1.")
    places = [("dump", *place) for place in dump] + [("memory", address, len(content)) for address, content in memory]
    for what, address, length in places:
        if address < 0 or length < 0 or address + length > ram:
            raise HeepgenError(f"{what} of {length} bytes at {address:#x}: outside the RAM of {ram:#x} bytes.")


def _result(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"master": [], "message": ""}
    for line in text.splitlines():
        name, value = line.split(" ", 1)
        if name == "master":
            fields["master"].append(PortCount(*map(int, value.split())))
        else:
            fields[name] = value
    return fields


def _simulator(
    accelerator_dir: Path | None, config: System, vcd: Vcd | None, signals: Sequence[str], progress: Progress
) -> Path:
    def building(step: str) -> None:
        from firmware_gen.architectures.registry import architecture_of

        what = architecture_of(config).described(config) if accelerator_dir else "the CPU alone"
        progress(f"building the simulator of {what}, once per configuration: {step}")

    return build_soc(
        accelerator_dir,
        trace=vcd is not None,
        trace_cpu=vcd is not None and vcd.cpu,
        signals=signals,
        progress=building,
    )


def run_soc(
    elf: Path,
    accelerator_dir: Path | None,
    config: System,
    *,
    wait_states: int = 0,
    stall_probability: float = 0.0,
    answer_stalls: bool = True,
    seed: int = 0,
    max_cycles: int = MAX_CYCLES,
    vcd: Vcd | Path | None = None,
    dump: Sequence[tuple[int, int]] = (),
    progress: Progress = silent,
    faults: Faults | None = None,
    uart: Callable[[str], None] | None = None,
    memory: Sequence[tuple[int, bytes]] = (),
    threads: int | None = None,
    record: Sequence[str] | None = None,
) -> RunResult:
    """Run program `elf` on the virtual SoC with the accelerator generated in `accelerator_dir`.

    Without an accelerator (None) its address range is unmapped. Every RAM access takes `wait_states` more
    cycles. With `stall_probability` each request is refused, and with `answer_stalls` each response held back,
    with that probability in each cycle, reproducibly by `seed`, which also chooses what registers hold before reset.
    `dump` are (address, bytes) of RAM to return as it is at the end; `uart` is called with each line as it
    is printed. `memory` is what lies at addresses of RAM besides the program; `threads`, 1 or 2, are those of the
    accelerator. With `record` the result says what the ports, the CPU and these signals (instance.signal of the root
    module) were at in every cycle. Raises `HeepgenError` on bad arguments, `BuildError` on Verilog that is refused; how
    the run itself ended is in the result.
    """
    _check(config, wait_states, stall_probability, max_cycles, dump, memory)
    vcd = Vcd(Path(vcd)) if isinstance(vcd, str | Path) else vcd
    image = bytearray(memory_image(elf, sum(memory_bytes(config))))
    for address, content in memory:
        image[address : address + len(content)] = content
    program = _simulator(accelerator_dir, config, vcd, record or (), progress)
    progress("simulating")
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        work = Path(folder)
        (work / "image").write_bytes(image)
        options = _options(
            config=config,
            wait_states=wait_states,
            stall_probability=stall_probability,
            answer_stalls=answer_stalls,
            seed=seed,
            max_cycles=max_cycles,
            vcd=vcd,
            faults=faults,
            threads=threads,
        )
        command = [program, *options, "--image", work / "image", "--result", work / "result"]
        for i, (address, length) in enumerate(dump):
            command += ["--dump", f"{address}:{length}:{work / f'dump{i}'}"]
        if record is not None:
            command += ["--record", work / "recording", "--most-recorded", MOST_RECORDED]
        started = time.monotonic()
        lines, status = _stream([str(c) for c in command], uart)
        if vcd and vcd.path.exists():
            write_save_file(vcd.path)
        if not (work / "result").exists():
            raise HeepgenError(f"the simulation of {elf} stopped without a result (exit status {status}).")
        fields = _result((work / "result").read_text())
        recording = None if record is None else _recorded(work / "recording", fields, accelerator_dir, record)
        dumps = tuple((work / f"dump{i}").read_bytes() for i in range(len(dump)))
    instruction_port, data_port, *accelerator_ports = fields["master"]
    return RunResult(
        uart=lines,
        ended=fields["ended"],
        cycles=int(fields["cycles"]),
        exit_code=_signed(int(fields["exit_code"])),
        asleep_cycles=int(fields["asleep"]),
        message=fields["message"],
        dumps=dumps,
        instruction_port=instruction_port,
        data_port=data_port,
        accelerator_ports=tuple(accelerator_ports),
        seconds=time.monotonic() - started,
        recording=recording,
    )


def _signed(word: int) -> int:
    return word - 2**32 if word >> 31 else word


def _recorded(file: Path, fields: dict[str, Any], accelerator_dir: Path | None, record: Sequence[str]) -> Recording:
    probes = find_probes(accelerator_files(accelerator_dir), ROOT, record) if accelerator_dir else []
    return read_recording(file, fields, len(fields["master"]) - CPU_PORTS, probes, int(fields["cycles"]))


def _stream(command: Sequence[str], uart: Callable[[str], None] | None) -> tuple[str, int]:
    """What the program printed, and its exit status; it is ended when the caller is interrupted."""
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="replace") as process:
        try:
            for line in process.stdout or ():
                lines.append(line)
                if uart:
                    uart(line)
        except BaseException:
            process.kill()
            raise
    return "".join(lines), process.returncode

# SPDX-License-Identifier: Apache-2.0
"""`heepgen check-architecture`: every check of an architecture, each by itself, so that none hides another."""

import contextlib
import os
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from firmware_gen.architectures.contract import Gemm
from gen.flows.check import hardware, numpy_function
from gen.flows.check.draw import Draw
from gen.flows.check.report import Check, CheckReport
from gen.flows.check.rounds import Round
from gen.flows.check.shrink import shrink
from gen.flows.check.subject import Bus, Problem, Subject
from gen.ppa.fpga import Area
from hls.config import System
from hls.config_file import unknown
from hls.errors import HeepgenError, Stopped
from hls.output import file_to_fill

Progress = Callable[[str], None]

BATCH_CALLS, BATCH_BYTES = 100, 1_000_000
"""Of the rounds that one run of the virtual SoC does."""

CYCLES_TOLERANCE, CYCLES_FREE = 0.15, 1500
"""Between the cycles that an architecture gives and those measured: the share, and the cycles that never matter."""


@dataclass(frozen=True)
class Effort:
    """How much is checked: rounds of calls of every check of calls, and networks."""

    rounds: int = 600
    networks: int = 8

    @classmethod
    def of(cls, quick: bool = False, thorough: bool = False, cases: int | None = None) -> "Effort":
        """By the options of the command; raises `HeepgenError` for more than one of them."""
        if sum((quick, thorough, cases is not None)) > 1:
            raise HeepgenError("--quick, --thorough and --cases say the same thing: give one of them.")
        if quick:
            return cls(60, 2)
        if thorough:
            return cls(6000, 40)
        return cls() if cases is None else cls(cases, max(1, cases // 75))


QUICK, STALLED = Bus(), Bus(stalls=0.3, answers=True)


@dataclass
class Found:
    """What a check did: the cases, and what was wrong, with a file of waves."""

    cases: int = 0
    message: str = ""
    wave: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Kit:
    """The checks of one subject. seed: all cases are drawn from it; waves: folder for those of failing cases."""

    subject: Subject
    effort: Effort
    seed: int
    waves: Path
    areas: list[Area] = field(default_factory=list)

    def checks(self) -> dict[str, Callable[[], Found]]:
        """By name, those that make sense for the architecture."""
        checks: dict[str, Callable[[], Found]] = {}
        if self.subject.architecture.hardware is not None:
            checks |= {
                "lint": lambda: Found(hardware.lint(self.subject)),
                "synthesis": lambda: Found(hardware.synthesis(self.subject)),
                "area": self.area,
                "register_head": lambda: Found(hardware.register_head(self.subject)),
            }
        if isinstance(self.subject.architecture.software, Gemm):
            checks |= {
                "numpy_function": lambda: Found(numpy_function.check(self.subject, self.draw("numpy_function"))),
                "bus": self.bus,
                "calls": lambda: self.calls("calls", self.plain_rounds),
                "special_values": lambda: self.calls("special_values", lambda d, n: [d.special() for _ in range(n)]),
                "partial_tiles": lambda: self.calls(
                    "partial_tiles", lambda d, n: [one for _ in range((n + 1) // 2) for one in d.partial()]
                ),
                "back_to_back": lambda: self.calls(
                    "back_to_back", lambda d, n: [d.back_to_back() for _ in range(n // 2 + 1)]
                ),
                "stalls": self.stalls,
                "reset": lambda: self.calls("reset", lambda d, n: [d.reset() for _ in range(n // 2 + 1)]),
            }
            if self.subject.gemm.cycles is not None:
                checks["cycles"] = self.cycles
        elif self.subject.architecture.hardware is not None:
            checks |= {
                "bus": lambda: self.networks("bus", [Bus(), Bus(0.3), Bus(0.3, wait_states=2)], only_bus=True),
                "stalls": lambda: self.networks("stalls", [Bus(0.3), Bus(0.6), Bus(0.2, wait_states=3)]),
            }
        return checks | {"networks": lambda: self.networks("networks", [QUICK])}

    def run(self, only: Sequence[str], progress: Progress) -> CheckReport:
        """Those of them that are wanted, by default all, two at a time."""
        from gen.flows.accelerator.hardware import geometry

        title = geometry(self.subject.given)
        checks = self.checks()
        for name in only:
            if name not in checks:
                raise HeepgenError(unknown(name, checks, "check"))
        checks = {name: check for name, check in checks.items() if name in (only or checks)}
        slow = ("area", "synthesis", "networks")  # these begin first
        order = sorted(checks, key=lambda name: name not in slow)
        done: dict[str, Check] = {}
        with contextlib.redirect_stdout(sys.stderr), ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            futures = {name: pool.submit(self.one, name, checks[name]) for name in order}
            for name in order:
                progress(f"{len(done)} of {len(checks)} checks are done; {name}")
                done[name] = futures[name].result()
        return CheckReport(
            self.subject.architecture.name,
            title,
            tuple(done[name] for name in checks),
            self.areas[0] if self.areas else None,
        )

    def one(self, name: str, check: Callable[[], Found]) -> Check:
        """The result of a check, whatever it raises."""
        start = time.monotonic()
        try:
            found = check()
        except Stopped:
            raise
        except (Exception, SystemExit) as error:
            if os.environ.get("HEEPGEN_DEBUG") == "1":
                raise
            found = Found(message=sentence(error, self.subject.architecture.folder))
        return Check(
            name=name,
            passed=not found.message,
            cases=found.cases,
            seed=self.seed,
            seconds=time.monotonic() - start,
            message=found.message,
            wave=found.wave,
            note=found.note,
        )

    # Checks

    def draw(self, name: str, sums: int = 0) -> Draw:
        """Of a check; that of another one has other cases."""
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        return Draw(rng, self.subject.limits(), sums)

    def area(self) -> Found:
        area = hardware.area(self.subject)
        self.areas.append(area)
        note = f"{area.luts:,} LUT, {area.flip_flops:,} FF, {area.dsps} DSP, {area.block_rams:g} block RAM"
        return Found(1, note=note)

    @staticmethod
    def plain_rounds(draw: Draw, count: int) -> list[Round]:
        corners = draw.corners()
        return corners + [draw.plain() for _ in range(2 * count)]

    def calls(
        self,
        name: str,
        rounds: Callable[[Draw, int], list[Round]],
        buses: Sequence[Bus] = (QUICK,),
        counts: Callable[[Problem], bool] = lambda problem: True,
    ) -> Found:
        """Rounds on the virtual SoC, until one is wrong."""
        every = rounds(self.draw(name, self.subject.sums()), self.effort.rounds)
        done = 0
        for number, batch in enumerate(batches(every, len(buses))):
            bus, seed = buses[number % len(buses)], self.seed + number
            problem = self.subject.run(batch, bus, seed).problem
            if problem is not None and counts(problem):
                return self.smallest(name, batch, bus, seed, problem, counts, done)
            done += sum(len(one.calls) for one in batch)
        return Found(done)

    def smallest(
        self,
        name: str,
        batch: list[Round],
        bus: Bus,
        seed: int,
        problem: Problem,
        counts: Callable[[Problem], bool],
        done: int,
    ) -> Found:
        """Shrink a batch that fails, and run it once more with waves."""

        def fails(rounds: Sequence[Round]) -> Problem | None:
            found = self.subject.run(rounds, bus, seed).problem
            return found if found is not None and counts(found) else None

        done += 1 + sum(len(one.calls) for one in batch[: problem.round])
        rounds = batch[: problem.round + 1]
        for few in (1, 2, 4):
            found = fails(rounds[-few:]) if few < len(rounds) else None
            if found is not None:
                rounds, problem = rounds[-few:], found
                break
        rounds, problem = shrink(rounds, problem, fails)
        wave = self.recorded(name, lambda vcd: self.subject.run(rounds, bus, seed, vcd))
        return Found(done, f"{cases(rounds)}: {problem.text}", wave)

    def recorded(self, name: str, run: Callable[[Path], Any]) -> str | None:
        """Write the waves of a run to a file called as the check; returns its name."""
        path = self.waves / f"{self.subject.architecture.name}-{name}.vcd"
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_to_fill(path, "--vcd") as filled:
            run(Path(filled))
        if path.is_file():
            from sim.waves import write_save_file

            write_save_file(path)
            return str(path)
        return None

    def bus(self) -> Found:
        """Rules of the bus on every port; whether results are right is the other checks' matter."""
        buses = [Bus(), Bus(0.3), Bus(0.3, True), Bus(0.7, True), Bus(0.2, True, wait_states=3)]

        def rounds(draw: Draw, count: int) -> list[Round]:
            return [draw.paused() for _ in range(count // 2 + 1)]

        return self.calls("bus", rounds, buses, lambda problem: problem.bus)

    def stalls(self) -> Found:
        buses = [STALLED, Bus(0.1), Bus(0.6, True), Bus(0.3, True, wait_states=1)]
        return self.calls("stalls", lambda draw, count: [draw.paused() for _ in range(count // 3 + 1)], buses)

    def cycles(self) -> Found:
        """Those of Linear layers against what the architecture gives."""
        draw = self.draw("cycles", self.subject.sums())
        every = [draw.product() for _ in range(self.effort.rounds // 6 + 1)]
        given = self.subject.gemm.cycles
        assert given is not None
        worst = (0.0, "")
        for batch in batches(every):
            ran = self.subject.run(batch, QUICK, self.seed)
            if ran.problem is not None:
                return Found(len(every), f"the calls are wrong: {ran.problem.text}")
            for number, measured in ran.cycles.items():
                m, k, n = batch[number].shape
                with self.subject.architecture.own_code():
                    said = int(given(self.subject.config, m, k, n))
                off = max(0, abs(said - measured) - CYCLES_FREE) / measured
                text = f"m = {m}, k = {k}, n = {n}: cycles() gives {said:,}, measured are {measured:,}"
                worst = max(worst, (off, text))
        if worst[0] > CYCLES_TOLERANCE:
            return Found(len(every), f"{worst[1]}, more than {CYCLES_TOLERANCE:.0%} apart")
        return Found(len(every), note=f"within {CYCLES_TOLERANCE:.0%}; {worst[1]}" if worst[1] else "")

    def networks(self, name: str, buses: Sequence[Bus], only_bus: bool = False) -> Found:
        """Random networks end to end."""
        from gen.flows.check.networks import depth_of, run_network, smallest

        first = zlib.crc32(f"{name} {self.seed}".encode()) % 1_000_000
        count = max(self.effort.networks, len(buses))
        for number in range(count):
            seed, bus = first + number, buses[number % len(buses)]
            problem = run_network(self.subject, seed, depth_of(seed), bus)
            if problem is not None and (problem.bus or not only_bus):
                depth, problem = smallest(self.subject, seed, problem, bus)
                wave = None
                if self.subject.architecture.hardware is not None:
                    wave = self.recorded(name, lambda vcd: run_network(self.subject, seed, depth, bus, vcd))  # noqa: B023
                return Found(number + 1, problem.text, wave)
        return Found(count)


def batches(rounds: Sequence[Round], least: int = 1) -> list[list[Round]]:
    """Rounds in runs of the virtual SoC, `least` of them unless there are fewer rounds."""
    found: list[list[Round]] = [[]]
    most = min(BATCH_CALLS, -(-len(rounds) // least))
    calls = size = 0
    for one in rounds:
        m, k, n = one.shape
        bytes_of = 2 * (4 * m * (k + 8) + k * (n + 12) + 12 * m * n) + 2000 * len(one.calls)
        if found[-1] and (calls + len(one.calls) > most or size + bytes_of > BATCH_BYTES):
            found.append([])
            calls = size = 0
        found[-1].append(one)
        calls, size = calls + len(one.calls), size + bytes_of
    return found


def cases(rounds: Sequence[Round]) -> str:
    """A failing case in few words."""
    shown = [f"{len(call.a)} x {one.b.shape[0]} x {one.b.shape[1]}" for one in rounds for call in one.calls]
    few = ", then ".join(shown[-3:])
    return f"call of {few} (m x k x n)" if len(shown) == 1 else f"{len(shown)} calls, the last of {few} (m x k x n)"


def sentence(error: BaseException, folder: Path | None) -> str:
    """What an exception says, in one line; of one that code in `folder` raised, with that line's number."""
    text = " ".join(str(error).split())
    frames = traceback.extract_tb((error.__cause__ or error).__traceback__)
    own = [frame for frame in frames if folder and Path(frame.filename).is_relative_to(folder.resolve())]
    where = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{text}{where}" if isinstance(error, HeepgenError) else f"{type(error).__name__}: {text}{where}"


def check_architecture(
    config: System,
    effort: Effort,
    seed: int,
    waves: str | Path,
    *,
    only: Sequence[str] = (),
    progress: Progress = lambda message: None,
) -> CheckReport:
    """Check the architecture of a configuration, by the checks `only`, by default all that make sense for it.

    `waves` is the folder for those of failing cases, made when there are some. Raises `HeepgenError` for a check that
    is not known; what the architecture does wrong is in the report.
    """
    with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
        return Kit(Subject(config, Path(work), progress), effort, seed, Path(waves)).run(only, progress)

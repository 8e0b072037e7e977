# SPDX-License-Identifier: Apache-2.0
"""What is checked: hardware, driver and NumPy function of one architecture, built when they are first asked for."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from firmware_gen.architectures.contract import Gemm, Limits, limits_of
from firmware_gen.architectures.registry import architecture_of
from firmware_gen.targets.calls.product import Product
from gen.flows.check.firmware import Memory, defines, first_error, write_head_sources, write_sources
from gen.flows.check.rounds import Plan, Round, compare, plan
from hls.config import System
from hls.errors import HeepgenError, Stopped

_T = TypeVar("_T")


@dataclass(frozen=True)
class Bus:
    """How the virtual SoC treats requests, see `sim.run.run_soc`."""

    stalls: float = 0.0
    answers: bool = False
    wait_states: int = 0

    @property
    def slow(self) -> float:
        """How many times longer an access may take than without."""
        return (1 + self.wait_states) / (1 - self.stalls) ** (2 if self.answers else 1)


@dataclass(frozen=True)
class Problem:
    """What was wrong with a run: a broken rule of the bus (`bus`), a missing answer among them, or something else; in
    which round."""

    text: str
    round: int = 0
    bus: bool = False


@dataclass
class Ran:
    """Outcome of a run, and the cycles of its timed rounds by number."""

    problem: Problem | None
    cycles: dict[int, int] = field(default_factory=dict)


class Subject:
    """An architecture's configuration, and what is made of it in folder `work`. Its parts raise `HeepgenError`, each
    time with the same sentence, where they cannot be made."""

    def __init__(self, config: System, work: Path, progress: Callable[[str], None]):
        self.given, self.work = config, work
        # Hundreds of calls lie in the interleaved banks.
        self.config = replace(config, memory_banks=4, bank_kib=256, memory_banks_interleaved=(8,))
        self.architecture = architecture_of(config)
        self.progress = progress
        self._building, self._computing, self._made = threading.RLock(), threading.Lock(), dict[str, Any]()

    def _once(self, name: str, make: Callable[[], _T]) -> _T:
        with self._building:
            if name not in self._made:
                try:
                    self._made[name] = make()
                except Stopped:
                    raise
                except (Exception, SystemExit) as error:
                    self._made[name] = error
            if isinstance(self._made[name], BaseException):
                raise self._made[name]
            made: _T = self._made[name]
            return made

    @property
    def gemm(self) -> Gemm:
        assert isinstance(self.architecture.software, Gemm)
        return self.architecture.software

    def limits(self) -> Limits:
        """The largest K and N of one call; raises `HeepgenError` for what are none."""
        return limits_of(self.gemm, self.config)

    def product(self) -> Product:
        """The NumPy function; a call raises `HeepgenError` where the result is no product."""
        limits = self.limits()
        return Product(limits.k, limits.n, self.compute)

    def compute(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The NumPy function's product of one call."""
        with self._computing, self.architecture.own_code(), np.errstate(all="ignore"):
            c = self.gemm.compute(self.config, a, b)
        wanted = (a.shape[0], b.shape[1])
        if not (isinstance(c, np.ndarray) and c.dtype == np.float32 and c.shape == wanted):
            what = f"{c.dtype} {c.shape}" if isinstance(c, np.ndarray) else type(c).__name__
            raise HeepgenError(
                f"the NumPy function gives {what} for a {a.shape} and b {b.shape}; it must give float32 {wanted}."
            )
        return c

    def hardware(self) -> Path:
        """Folder with the Verilog, under the default names."""
        from gen.flows.measure.run import hardware

        return self._once("hardware", lambda: hardware(self.config, self.progress))

    def head_program(self) -> Path:
        """The program that reads the register head."""
        return self._once("head", lambda: self._compiled("head", *write_head_sources(self.work / "head")))

    def program(self) -> Path:
        """The program that takes steps with the driver."""
        return self._once("calls", self._calls_program)

    def _calls_program(self) -> Path:
        return self._compiled("calls", *write_sources(self.config, self.work / "calls"), self.limits())

    def _compiled(self, name: str, sources: list[Path], folders: list[Path], limits: Limits | None = None) -> Path:
        from sim.firmware import compile_firmware
        from sim.toolchain import BuildError

        try:
            return compile_firmware(
                sources,
                folders,
                defines(self.config, self.config.contiguous_bytes, limits),
                self.config,
                self.work / f"{name}.elf",
                progress=self.progress,
            )
        except BuildError as error:
            line = first_error(str(error)).replace(f"{self.work}/", "").removeprefix(f"{name}/")
            raise HeepgenError(f"the driver does not compile: {line}") from None

    def sums(self) -> int:
        """Rows of sums that the driver keeps; 0 for one that multiplies rows."""
        from sim.elf import memory_image, symbols

        elf = self.program()
        at = symbols(elf)["check_sums"]
        return int.from_bytes(memory_image(elf, self.config.ram_bytes)[at : at + 4], "little")

    @property
    def room(self) -> int:
        """Bytes for cases."""
        return self.config.ram_bytes - self.config.contiguous_bytes

    def run(self, rounds: Sequence[Round], bus: Bus, seed: int, vcd: Path | None = None) -> Ran:
        """Do rounds on the virtual SoC, and compare."""
        from sim.elf import symbols
        from sim.run import run_soc

        elf, base = self.program(), self.config.contiguous_bytes
        made = plan(rounds, self.product(), self.sums(), Memory(base, self.room), bus.slow)
        before = made.memory.image()
        result = run_soc(
            elf,
            self.hardware(),
            self.config,
            wait_states=bus.wait_states,
            stall_probability=bus.stalls,
            answer_stalls=bus.answers,
            seed=seed,
            memory=[(base, before.tobytes())],
            dump=[(base, len(before)), (symbols(elf)["check_step"], 4)],
            vcd=vcd,
            threads=1,
        )
        after = np.frombuffer(result.dumps[0], np.uint8)
        step = int.from_bytes(result.dumps[1], "little")
        done = made.steps[step] if step < len(made.steps) else len(rounds)
        wrong = compare(made, before, after, done)
        problem = None
        if wrong is not None:
            problem = Problem(wrong.text, wrong.round if wrong.round is not None else 0)
        if not result.ok and (wrong is None or result.ended == "assertion"):
            text = ended(result)
            problem = Problem(text, min(done, len(rounds) - 1), result.ended == "assertion" or "waits for a" in text)
        return Ran(problem, _cycles(made, after))


def ended(result: Any) -> str:
    """Why a run ended too early."""
    said = result.uart.strip().splitlines()
    return str(result.message or (said[-1] if said else f"the program ended with {result.exit_code}"))


def _cycles(made: Plan, after: np.ndarray) -> dict[int, int]:
    first = made.memory.first
    return {
        number: int.from_bytes(after[first + place : first + place + 4].tobytes(), "little")
        for number, place in made.times.items()
    }

# SPDX-License-Identifier: Apache-2.0
"""Proofs about Verilog, by pyosys alone: induction by yosys, property directed reachability and BMC by its ABC."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import pyosys

from sim.cache import build_once

INDUCTION_STEPS = 4
CONTROL_CYCLES = 40

# Registers that reset does not set, and whatever is undriven, have any value: no proof leans on an initial one.
_PREPARE = """
hierarchy -check -top check
proc
flatten
memory_collect
memory_map
{probes}
setundef -undriven -anyseq
setundef -anyseq
opt
async2sync
sim -q -clock clk -reset rst -rstlen 3 -n 3 -w check
chformal -lower
chformal -assume -early
"""
_INDUCTION = "opt -full\nsat -tempinduct -prove-asserts -set-assumes -maxsteps {steps} -timeout {seconds} check\n"
_GATES = """
formalff -setundef -clk2ff -ff2anyinit
opt -full
techmap
opt -fast
formalff -clk2ff -ff2anyinit
simplemap
dffunmap
opt_clean
delete t:$assert {kept}
opt_clean
aigmap
opt_clean
write_aiger -I -B -zinit -no-startoffset -map {map} {aig}
"""
_RUN = (
    "import sys; from pyosys import libyosys as y; d = y.Design()\n"
    "for line in sys.stdin.read().splitlines(): y.run_pass(line, d)\n"
)


@dataclass(frozen=True)
class Verdict:
    """``status``: proved, fails (in cycle ``depth`` after reset), bounded (holds for ``depth`` cycles) or unknown.

    ``method``: how; ``seconds`` it took when it was not cached.
    """

    status: str
    method: str
    depth: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Problem:
    """A checker around a module: ``files`` (the module's own first), ``macros`` for the checker."""

    files: tuple[Path, ...]
    checker: Path
    macros: Mapping[str, int]

    def key(self) -> list[str | Path]:
        """What a verdict depends on."""
        shared = sorted(self.checker.parent.glob("*.svh"))
        return [
            *self.files,
            self.checker,
            *shared,
            json.dumps(dict(self.macros)),
            metadata.version("pyosys"),
            _PREPARE,
            _INDUCTION,
            _GATES,
        ]

    def prepare(self) -> str:
        """Script that leaves the flattened checker, just after reset."""
        defines = " ".join(f"-D{name}={value}" for name, value in {"DUT": self.files[0].stem, **self.macros}.items())
        return (
            f"read_verilog -sv {' '.join(map(str, self.files))}\n"
            f"read_verilog -formal -sv -I{self.checker.parent} {defines} {self.checker}\n"
            + _PREPARE.format(probes=_probes(self.checker, self.macros.get("PORTS", 1)))
        )


def properties(checker: Path) -> list[str]:
    """Names of the checker's assertions."""
    return re.findall(r"^\s*(\w+): assert", checker.read_text(), re.M)


def _probes(checker: Path, ports: int) -> str:
    """Connect wires that show a signal inside the module: `wire x;  // probe: dut.path`, `{p}` for each port.

    Units that exist once carry no number, so with one port there is none.
    """
    text = re.sub(r'`include "(\S+)"', lambda m: (checker.parent / m[1]).read_text(), checker.read_text())
    lines = []
    for name, path in re.findall(r"wire (?:\[.*?\] )?(\w+);\s*// probe: (\S+)", text):
        if "{p}" in path:
            pairs = [(f"inside[{p}].{name}", path.replace("_{p}", f"_{p}" if ports > 1 else "")) for p in range(ports)]
        else:
            pairs = [(name, path)]
        lines += [f"connect -nounset -set {wire} {signal}" for wire, signal in pairs]
    return "\n".join(lines)


def _yosys(script: str, what: str) -> str:
    done = subprocess.run([sys.executable, "-c", _RUN], input=script, capture_output=True, text=True)
    text = done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(f"yosys, {what}: {text[-2000:]}")
    return text


def _cached(problem: Problem, question: Sequence[str], decide) -> Verdict:
    def build(work: Path) -> None:
        started = time.monotonic()
        verdict = asdict(decide(work)) | {"seconds": round(time.monotonic() - started, 1)}
        (work / "verdict.json").write_text(json.dumps(verdict))

    folder = build_once("formal", [*problem.key(), *question], build)
    return Verdict(**json.loads((folder / "verdict.json").read_text()))


def induct(problem: Problem, seconds: int) -> Verdict:
    """All assertions of the checker at once: they hold after reset, and k good cycles lead to a good one."""

    def decide(work: Path) -> Verdict:
        text = _yosys(problem.prepare() + _INDUCTION.format(steps=INDUCTION_STEPS, seconds=seconds), "induction")
        steps = max([int(k) for k in re.findall(r"\[induction step (\d+)\]", text)], default=0)
        if "Induction step proven: SUCCESS!" in text:
            return Verdict("proved", f"{steps}-induction", steps)
        return Verdict("unknown", "induction", steps)

    return _cached(problem, ["induct", str(seconds)], decide)


def reach(problem: Problem, name: str, seconds: int) -> Verdict:
    """One assertion by property directed reachability: for ever, or as deep as the time allows."""
    return _abc(problem, name, f"pdr -v -T {seconds}", "pdr")


def refute(problem: Problem, name: str, seconds: int) -> Verdict:
    """Look for a counterexample of one assertion."""
    found = _abc(problem, name, f"bmc3 -v -F {CONTROL_CYCLES} -T {seconds}", "bmc")
    return reach(problem, name, seconds) if found.status == "unknown" else found  # bmc3 takes no combinational logic


def _abc(problem: Problem, name: str, command: str, method: str) -> Verdict:
    def decide(work: Path) -> Verdict:
        aig = work / "problem.aig"
        _yosys(problem.prepare() + _GATES.format(kept=f"c:{name} %d", map=work / "problem.map", aig=aig), name)
        abc = Path(pyosys.__file__).parent / "yosys-abc"
        script = f"read_aiger {aig}; fold; strash; {command}"
        text = subprocess.run([abc, "-c", script], capture_output=True, text=True).stdout
        aig.unlink()
        if "Property proved" in text or "output is trivially" in text:
            return Verdict("proved", method)
        if failed := re.search(r"asserted in frame (\d+)", text):
            return Verdict("fails", method, int(failed[1]))
        frames = [int(n) for n in re.findall(r"^\s*(\d+) [+:]", text, re.M)]
        return Verdict("bounded", method, max(frames)) if frames else Verdict("unknown", method)

    return _cached(problem, [name, command], decide)

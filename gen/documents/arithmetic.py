# SPDX-License-Identifier: Apache-2.0
"""`make arithmetic`: the generated arithmetic against the host's, 10^8 vectors a unit.

Every unit is converted, verilated and driven by a C++ program (`sim/testbench/arithmetic`) that compares each answer
with IEEE arithmetic of the host or with exact integers. Half of the vectors are directed: ties, cancellation, the
borders of subnormals and of overflow, special values. So that silence means something, some faults are planted in the
units' sources, and each must be found.
"""

import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import click
from myhdl import Signal, intbv

from hls.config import Config
from hls.errors import HeepgenError
from hls.lib.unit import Unit

DATA = "arithmetic.json"
TESTBENCH = Path(__file__).resolve().parents[2] / "sim" / "testbench" / "arithmetic"
SLICE = 5_000_000
"""Results of one program run, each with its own seed."""
FAULT_RESULTS = 1_000_000


@dataclass(frozen=True)
class Case:
    """A unit, its C++ source in TESTBENCH with its constants, and what its answers are compared with.

    `block` makes an instance of the unit; `columns`: results are columns of an array, of which fewer are tried.
    """

    name: str
    reference: str
    block: Callable[[], Any]
    source: str
    constants: dict[str, Any]
    columns: bool = False


@dataclass(frozen=True)
class Fault:
    """`new` in place of `old` in a module's source; the unit `name` of that copy replaces the one `where` is using."""

    case: str
    module: str
    old: str
    new: str
    name: str
    where: str


@dataclass
class Outcome:
    """What a case came to: results by class, wrong ones with examples (seed and operands), seconds of all cores."""

    name: str
    reference: str
    results: int = 0
    wrong: int = 0
    seconds: float = 0.0
    classes: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)


def _bus(bits: int) -> Any:
    return Signal(False) if bits == 1 else Signal(intbv(0)[bits:])


def _unit(module: str, name: str, ports: dict[str, Any], **params: Any) -> Any:
    """An instance of a unit, looked up when it is made; `ports` are widths or initial values."""
    unit: Unit = getattr(importlib.import_module(module), name)
    return unit(
        **{port: Signal(bits) if isinstance(bits, intbv) else _bus(bits) for port, bits in ports.items()}, **params
    )


def _fp32(name: str, operation: str, latency: int) -> Case:
    ports = {"clk": 1, "en": latency, "a": 32, "b": 32, "y": 32}
    return Case(
        name,
        f"a {operation} b of the host",
        lambda: _unit("hls.arithmetic.fp32", name, ports),
        "fp32.cpp",
        {"UNIT_LATENCY": latency, "OPERATION": operation},
    )


def _fma_pe() -> Case:
    from hls.arithmetic.pe import FMA_STEP

    flags = ("valid", "swap", "load", "load_diag")
    ports = {
        "clk": 1,
        "a": 32,
        "weight": 8,
        "psum": 32,
        "a_out": 32,
        "psum_out": 32,
        **dict.fromkeys(flags, 1),
        **{f"{flag}_out": 1 for flag in flags},
    }
    return Case(
        "fma_pe",
        "fmaf of the host",
        lambda: _unit("hls.arithmetic.pe", "fma_pe", ports, diag_weight=None),
        "fma_pe.cpp",
        {"UNIT_LATENCY": FMA_STEP},
    )


def _normaliser(rows: int) -> Case:
    from hls.arithmetic.aligned import META_BITS, NORMALISE_LATENCY, psum_bits

    bits = psum_bits(rows)
    limit = 1 << bits - 1
    ports = {
        "clk": 1,
        "occupied": NORMALISE_LATENCY,
        "psum": intbv(0, min=-limit, max=limit),
        "meta": META_BITS,
        "y": 32,
    }
    return Case(
        f"normaliser, {rows} rows",
        "exact integers",
        lambda: _unit("hls.arithmetic.aligned", "normaliser", ports, rows=rows),
        "normaliser.cpp",
        {"UNIT_LATENCY": NORMALISE_LATENCY, "PSUM_BITS": bits},
    )


def _array(config: Config) -> Case:
    from hls.arithmetic.array import array_latency, beat_bits, count_bits

    rows, cols, counts = config.rows, config.cols, count_bits(config)
    flags = ("clk", "rst", "vec_valid", "vec_swap", "vec_diag", "vec_max", "load_valid", "load_diag")
    ports = {
        **dict.fromkeys(flags, 1),
        "vec": 32 * rows,
        "load_data": 8 * config.load_rows * cols,
        "load_beat": beat_bits(config),
        "col_valid": cols,
        "col_data": 32 * cols,
        "lost_lanes": counts,
        "coarse_lanes": counts,
    }
    aligned = config.arithmetic == "aligned"
    return Case(
        f"{config.arithmetic} array, {rows}x{cols}",
        "exact integers" if aligned else "chains of fmaf",
        lambda: _unit("hls.arithmetic.array", "systolic_array", ports, config=config),
        "array.cpp",
        {
            "ROWS": rows,
            "COLS": cols,
            "LOAD_ROWS": config.load_rows,
            "ALIGNED": int(aligned),
            "ARRAY_LATENCY": array_latency(config),
        },
        columns=True,
    )


def _function_lane() -> Case:
    from hls.arithmetic.function import FUNCTION_LATENCY, TableWrite

    def block() -> Any:
        lane: Unit = importlib.import_module("hls.arithmetic.function").function_lane
        return lane(_bus(1), _bus(1), _bus(32), _bus(1), TableWrite(), _bus(32))

    return Case("function_lane", "exact integers", block, "function.cpp", {"UNIT_LATENCY": FUNCTION_LATENCY})


def cases() -> list[Case]:
    from hls.arithmetic.fp32 import FP32_ADD_LATENCY, FP32_MUL_LATENCY

    return [
        _fp32("fp32_add", "+", FP32_ADD_LATENCY),
        _fp32("fp32_mul", "*", FP32_MUL_LATENCY),
        _function_lane(),
        _fma_pe(),
        *(_normaliser(rows) for rows in (8, 32)),
        _array(Config(rows=8, cols=8)),
        _array(Config(rows=5, cols=3, ports=4)),
        _array(Config(rows=16, cols=16)),
        _array(Config(rows=4, cols=4, arithmetic="fma")),
    ]


def named(name: str) -> Case:
    return next(case for case in cases() if case.name == name)


FAULTS = [
    Fault(
        "fp32_add",
        "hls.arithmetic.fp32",
        "up = sig[1] and (sig[0] or sig[2])",
        "up = sig[1]",
        "fp32_add",
        "hls.arithmetic.fp32.fp32_add",
    ),
    Fault(
        "fp32_add",
        "hls.arithmetic.fp32",
        "if shift1[8:5] != 0:",
        "if shift1[8:6] != 0:",
        "fp32_add",
        "hls.arithmetic.fp32.fp32_add",
    ),
    Fault(
        "fp32_mul",
        "hls.arithmetic.fp32",
        "product2.next = concat(product[48:22], product[22:] != 0)",
        "product2.next = concat(product[48:22], product[22:1] != 0)",
        "fp32_mul",
        "hls.arithmetic.fp32.fp32_mul",
    ),
    Fault(
        "function_lane",
        "hls.arithmetic.function",
        "elif power9[9] or power9 == 0:",
        "elif power9[9]:",
        "function_lane",
        "hls.arithmetic.function.function_lane",
    ),
    Fault(
        "fma_pe",
        "hls.arithmetic.fma",
        "m[:] = concat(False, m[34:2], m[2:] != 0)",
        "m[:] = concat(False, m[34:2], m[1])",
        "fp32_int8_fma",
        "hls.arithmetic.pe.fp32_int8_fma",
    ),
    Fault(
        "normaliser, 8 rows",
        "hls.arithmetic.aligned",
        "(magnitude3[low] or magnitude3[low - 1 :] != 0)",
        "(magnitude3[low] or magnitude3[low - 1 : 1] != 0)",
        "normaliser",
        "hls.arithmetic.aligned.normaliser",
    ),
    Fault(
        "aligned array, 5x3",
        "hls.arithmetic.aligned",
        "sign2 != shifted2[0]",
        "sign2",
        "aligned_edge",
        "hls.arithmetic.array.aligned_edge",
    ),
]


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """The fault, in a copy of its module; raises HeepgenError when the line it changes is not there once."""
    text = inspect.getsource(importlib.import_module(fault.module))
    if text.count(fault.old) != 1:
        raise HeepgenError(
            f"{fault.module} holds {fault.old!r} {text.count(fault.old)} times, not once: the fault cannot be planted."
        )
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        path = Path(folder) / f"{fault.module.rpartition('.')[2]}.py"
        path.write_text(text.replace(fault.old, fault.new))
        loader = importlib.machinery.SourceFileLoader(f"heepgen_fault_{path.stem}", str(path))
        copy = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(loader.name, loader, origin=str(path)))
        loader.exec_module(copy)
        module, _, attribute = fault.where.rpartition(".")
        with mock.patch.object(importlib.import_module(module), attribute, getattr(copy, fault.name)):
            yield


def program(case: Case) -> Path:
    """The case's program, converted, verilated and compiled; cached by content."""
    from hls.lib.convert import convert
    from sim.rtl import build_module

    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        paths = convert(case.block, folder)
        top = paths[0].stem
        constants = [
            f"constexpr int {name} = {value};" if isinstance(value, int) else f"#define {name} {value}"
            for name, value in case.constants.items()
        ]
        text = "\n".join(
            [
                f'#include "V{top}.h"',
                f"using Dut = V{top};",
                *constants,
                (TESTBENCH / "arithmetic.hpp").read_text(),
                (TESTBENCH / case.source).read_text(),
            ]
        )
        return build_module(
            paths,
            top,
            text,
            optimise="-O2",
            verilator_flags=("--output-split-cfuncs", "1000"),
            flags=("-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"),
        )


def attempt(binary: Path, seed: int, results: int) -> dict[str, Any]:
    """At least `results` results of a program, from this seed; the same ones every time."""
    done = subprocess.run([binary, str(seed), str(results)], capture_output=True, text=True)
    if done.returncode:
        raise HeepgenError(f"{binary} ended with status {done.returncode}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def run_case(
    case: Case,
    results: int,
    seed: int,
    pool: ThreadPoolExecutor,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Outcome:
    """`results` results of a case in slices, whose seeds follow `seed`."""
    outcome = Outcome(case.name, case.reference)
    binary = program(case)

    def one(index: int) -> tuple[int, dict[str, Any], float]:
        start = time.monotonic()
        found = attempt(binary, seed + index, min(SLICE, results - index * SLICE))
        return seed + index, found, time.monotonic() - start

    for future in as_completed([pool.submit(one, index) for index in range(-(-results // SLICE))]):
        own, found, seconds = future.result()
        outcome.results += found["results"]
        outcome.wrong += found["wrong"]
        outcome.seconds += seconds
        outcome.classes = {name: outcome.classes.get(name, 0) + n for name, n in found["classes"].items()}
        outcome.examples += [f"seed {own}: {example}" for example in found["examples"]]
        progress(case.name, min(outcome.results, results), results)
    return outcome


def find_fault(fault: Fault, results: int, seed: int) -> int:
    """Wrong results of the case with a fault in it."""
    with planted(fault):
        binary = program(named(fault.case))
    return int(attempt(binary, seed, results)["wrong"])


COLUMNS = ("unit", "compared with", "results", "wrong", "zero", "subnormal", "infinite", "NaN")


def rows(data: dict[str, Any]) -> list[list[str]]:
    """Of COLUMNS, from what `main` writes as JSON."""
    return [
        [
            c["name"],
            c["reference"],
            *(
                f"{n:,}"
                for n in (
                    c["results"],
                    c["wrong"],
                    *(c["classes"][name] for name in ("zero", "subnormal", "infinite", "nan")),
                )
            ),
        ]
        for c in data["cases"]
    ]


def table(data: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    from gen.records.tables import Column, Table

    right = [Column(name, rank) for rank, name in enumerate(COLUMNS[2:])]
    result = Table("arithmetic against the host", COLUMNS[:2], right)
    for row in rows(data):
        result.add_row(*row)
    notes = [Text(f"{c['name']}: {example}", style="bold red") for c in data["cases"] for example in c["examples"][:5]]
    for fault in data["faults"]:
        notes.append(
            Text(
                f"planted in {fault['case']}: {fault['new']} for {fault['old']}: {fault['wrong']:,} of "
                f"{fault['results']:,} wrong",
                style="dim" if fault["wrong"] else "bold red",
            )
        )
    return Group(result, *notes)


def markdown(data: dict[str, Any]) -> list[str]:
    """Lines of docs/numerics.md."""
    planted_lines = [
        f"| {f['case']} | `{f['old']}` | `{f['new']}` | {f['wrong']:,} of {f['results']:,} |" for f in data["faults"]
    ]
    return [
        "## Verilog against the host",
        "",
        "`make arithmetic` drives the verilated units with random and directed vectors and compares every bit. What it",
        "found last, with the classes that the right results fell into:",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|" + "--:|" * (len(COLUMNS) - 2),
        *(f"| {' | '.join(row)} |" for row in rows(data)),
        "",
        "Faults planted in the sources, to see that they are noticed:",
        "",
        "| unit | line | instead | wrong results |",
        "|---|---|---|--:|",
        *planted_lines,
    ]


@click.command(help=__doc__.partition("\n\n")[2])
@click.option("--results", default=100_000_000, show_default=True, help="results of each unit")
@click.option("--columns", default=10_000_000, show_default=True, help="columns of each array")
@click.option("--seed", default=1, show_default=True)
@click.option("--only", default="", help="cases whose name holds this text")
@click.option("--jobs", default=os.cpu_count(), show_default=True, help="programs that run at once")
@click.option("--json", "json_path", help="file for the numbers, - for standard output")
def main(results: int, columns: int, seed: int, only: str, jobs: int, json_path: str | None) -> None:
    from gen.console import bars, show, write_json

    data: dict[str, Any] = {"seed": seed, "cases": [], "faults": []}
    with bars() as progress, ThreadPoolExecutor(jobs) as pool:
        for case in [c for c in cases() if only in c.name]:
            data["cases"].append(asdict(run_case(case, columns if case.columns else results, seed, pool, progress)))
        for fault in [f for f in FAULTS if only in f.case]:
            tried = min(FAULT_RESULTS, columns)
            data["faults"].append(
                {
                    "case": fault.case,
                    "old": fault.old,
                    "new": fault.new,
                    "results": tried,
                    "wrong": find_fault(fault, tried, seed),
                }
            )
    if json_path != "-":
        show(table(data))
    write_json(data, json_path)
    if any(c["wrong"] for c in data["cases"]) or not all(f["wrong"] for f in data["faults"]):
        sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except HeepgenError as error:
        sys.exit(str(error))

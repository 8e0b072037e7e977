# SPDX-License-Identifier: Apache-2.0
"""`make mutate`: how many of a random sample of small changes to the sources the nearest tests notice.

Every mutant is written into a copy of the repository; a process forked from this one, which has the libraries loaded,
runs the tests nearest to the file there, up to the first that fails. That one must pass without the mutant. Results are
appended to a file, and mutants that are in it are not run again.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import hjson

from tests import mutants
from tests.mutants import Mutant

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "mutate" / "results.jsonl"
ALLOWED = Path(__file__).with_name("mutants_allowed.hjson")
"""Mutants that nothing can notice: file, the line before and after, and why."""

MUTATED = (
    "hls/**/*.py",
    "firmware_gen/targets/descriptor/lowering/*.py",
    "firmware_gen/targets/descriptor/scratchpad/*.py",
    "firmware_gen/targets/descriptor/timing/demand.py",
    "firmware_gen/targets/descriptor/timing/spans.py",
    "firmware_gen/targets/descriptor/linked/order.py",
    "firmware_gen/targets/descriptor/linked/arena.py",
    "firmware_gen/targets/descriptor/compiler.py",
    "firmware_gen/targets/descriptor/linked/link.py",
    "firmware_gen/targets/descriptor/linked/program.py",
    "firmware_gen/targets/descriptor/strips.py",
    "firmware_gen/passes/[!q]*.py",
    "firmware_gen/passes/edits/*.py",
    "firmware_gen/passes/movement/*.py",
)

NEAREST = {
    "activation_buffer": "activation_buffer sequencer",
    "aux_reader": "drain timing",
    "aligned": "aligned array",
    "aligned_error": "aligned_error alignment_loss",
    "config_file": "config",
    "control": "control register_fields",
    "convert": "unit generated_verilog",
    "delay": "array unit function",
    "table": "descriptor regmap control",
    "job": "load control",
    "epilogue": "epilogue drain",
    "fetch": "control",
    "function_tables": "function",
    "fma": "fma array",
    "head": "register_head slave",
    "model": "lower",
    "mux": "slave",
    "naming": "verilog_rules unit",
    "obi": "any_hardware",
    "passes": "params weights",
    "pe": "array",
    "ram": "fifo activation_buffer scratchpad",
    "registers": "regmap slave register_fields",
    "root": "any_hardware",
    "table_reader": "drain timing",
    "slave": "slave control",
    "top": "unit accelerator_myhdl",
    "unit": "unit slave generated_verilog",
    "walker": "drain order",
    "wiring": "slave load arbiter",
    "zeros": "aligned fp32",
    "demand": "tiling timeline speed",
    "spans": "tiling lower timeline",
    "depth_first": "in_place residency speed",
    "layout": "lower",
    "lower": "lower speed planner",
    "order": "order in_place planner",
    "planner": "planner codegen speed",
    "verilog": "verilog_rules unit generated_verilog",
    "arena": "planner speed tiling",
    "compiler": "planner lower speed residency several",
    "link": "order planner lower",
    "program": "tiling speed planner order lower",
    "choice": "residency",
    "room": "residency",
    "known": "compile_growth lower",
    "homes": "residency stream",
    "residency": "residency speed",
    "rings": "residency",
    "strips": "in_place timeline lower speed",
    "tiling": "tiling lower timeline speed",
    "param_rows": "drain",
    "rules": "check descriptor control_check control",
    "axis": "tiling lower",
    "jobs": "lower tiling movement",
    "pieces": "tiling lower banded int4",
    "streams": "params weights int4 lower",
    "overlap": "planner residency",
    "rotation": "planner speed",
    "shelf": "planner residency",
    "banded": "banded",
    "sequencer": "sequencer timing formal",
    "weights": "weights int4",
    "passes/comparisons": "comparisons passes",
    "passes/functions": "functions elementary passes",
    "passes/residual": "broadcast functions passes",
    "passes/statistics": "statistics passes sequences",
    "control/check": "control_check control accelerator",
    "check_targets": "control_check control accelerator",
    "control/comparisons": "control_check control sequencer",
    "aligned_model": "aligned aligned_error array",
    "channels": "channels lower",
    "control_stages": "control sequencer",
    "descriptor/model": "lower accelerator banded int4",
    "disk": "output cache",
    "engines": "accelerator_myhdl timing",
    "errors": "cli",
    "function": "function epilogue functions",
    "input": "inputs",
    "keywords": "verilog_rules",
    "module": "unit verilog_rules slave control",
    "probe": "trace",
    "select": "activation_buffer scratchpad drain",
    "sequencer_loops": "sequencer timing",
}
"""Test files of a source file, by its name or by the end of its path, quickest first; of the others the one of the same
name. A pass has those of passes and random models too."""

PASSES = "passes importer movement keras_forms random_torch random_networks"

SEEDED = ("cpu-", "runtime-")
"""Entries of the cache that no mutated file goes into."""


def nearest(file: str) -> list[str]:
    """Test files, those that exist, of a mutated file."""
    path = Path(file.removesuffix(".py"))
    own = (NEAREST.get(name) for name in (f"{path.parent.name}/{path.name}", path.name))
    names = next(filter(None, own), path.name).split()
    if "firmware_gen/passes/" in file:
        names = dict.fromkeys([*(names if f"passes/{path.name}" in NEAREST else ()), *PASSES.split()])
    if file.startswith("hls/streaming/"):
        names = ["streaming"]
    if file.startswith("hls/"):  # lint sees widths and signals that nobody reads
        names = dict.fromkeys([*names, "generated_verilog"])
    return [f"tests/test_{name}.py" for name in names if (ROOT / "tests" / f"test_{name}.py").exists()]


class Allowed:
    """The mutants that are known to be equivalent."""

    def __init__(self, path: Path = ALLOWED):
        entries = hjson.loads(path.read_text(encoding="utf-8"))
        self.reasons = {(e["file"], e["before"], e["after"]): e["reason"] for e in entries}
        assert all(self.reasons.values())

    def reason(self, mutant: Mutant) -> str | None:
        return self.reasons.get((mutant.file, mutant.before, mutant.after))

    def unknown(self, found: list[Mutant]) -> list[tuple[str, str, str]]:
        """Entries that are no mutant of the sources any more."""
        return sorted(self.reasons.keys() - {(m.file, m.before, m.after) for m in found})


class Workshop:
    """A copy of the repository with a cache of its own, in which mutants are tried."""

    seconds = RESULTS.with_name("seconds.json")
    """How long tests took, by name."""

    def __init__(self, root: Path, timeout: float):
        self.root, self.timeout = root, timeout
        self.known: dict[str, bool] = {}  # by test: whether it passes without a mutant

    def __enter__(self) -> "Workshop":
        self.folder = Path(tempfile.mkdtemp(prefix="heepgen-mutate-"))
        self.tree, self.cache, self.log = (self.folder / name for name in ("tree", "cache", "log"))
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self.root,
            check=True,
            capture_output=True,
        ).stdout.decode()
        for name in filter(None, listed.split("\0")):
            if (self.root / name).is_file():
                (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.root / name, self.tree / name)
        return self

    def __exit__(self, *_) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, mutant: Mutant, tests: list[str]) -> tuple[str, str]:
        """Outcome (killed, timeout, survived), and the test that failed."""
        path = self.tree / mutant.file
        data = path.read_bytes()
        path.write_bytes(mutant.apply(data))
        try:
            outcome, test = self.tested(tests)
        finally:
            path.write_bytes(data)
        if outcome == "killed" and "::" in test and not self.passes(test):
            raise click.ClickException(f"{test} fails without a mutant too; mend that first.")
        return outcome, test

    def passes(self, test: str) -> bool:
        """Whether a test passes without a mutant."""
        if test not in self.known:
            self.known[test] = self.tested([test])[0] == "survived"
        return self.known[test]

    def tested(self, tests: list[str]) -> tuple[str, str]:
        """Run tests in a forked process until one fails."""
        self._seed_cache()
        failed = self.folder / "failed"
        failed.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            try:
                self._child(tests, failed)
            finally:
                os._exit(99)
        end = time.monotonic() + self.timeout
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done or time.monotonic() > end:
                break
            time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if not done:
            os.waitpid(child, 0)
            return "timeout", ""
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return "survived", ""
        if code not in (1, 2):
            raise click.ClickException(f"{' '.join(tests)} do not run:\n{self.log.read_text()[-2000:]}")
        return "killed", failed.read_text() if failed.exists() else "collection"

    def _seed_cache(self) -> None:
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir()
        shared = Path(os.environ.get("HEEPGEN_CACHE") or Path.home() / ".cache" / "heepgen")
        for entry in shared.iterdir() if shared.is_dir() else ():
            if entry.name.startswith(SEEDED) and entry.is_dir():
                (self.cache / entry.name).symlink_to(entry)

    def _child(self, tests: list[str], failed: Path) -> None:
        import pytest

        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (12 << 30, 12 << 30))
        os.chdir(self.tree)
        elsewhere = [p for p in sys.path if Path(p or ".").resolve() not in (self.root, self.tree)]
        sys.path[:] = [str(self.tree), *elsewhere]
        for name in [n for n in sys.modules if n.split(".")[0] in ("tests", "hls", "firmware_gen", "gen", "sim")]:
            del sys.modules[name]
        os.environ |= {"HEEPGEN_CACHE": str(self.cache), "PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        with open(self.log, "w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)

        seconds = json.loads(self.seconds.read_text()) if self.seconds.exists() else {}

        class First:
            """Quick tests first, as far as it is known; notes the one that fails, and how long the others take."""

            @pytest.hookimpl(trylast=True)
            def pytest_collection_modifyitems(self, items):
                items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))

            def pytest_runtest_logreport(self, report):
                if report.failed and not failed.exists():
                    failed.write_text(report.nodeid)
                elif report.passed and report.when == "call":
                    seconds[report.nodeid] = round(report.duration, 2)

            def pytest_sessionfinish(self):
                partial = failed.with_name("seconds")
                partial.write_text(json.dumps(seconds))
                Workshop.seconds.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(partial, Workshop.seconds)

        os._exit(
            pytest.main(
                [
                    "-x",
                    "-q",
                    "--slow=off",
                    "--waves=off",
                    "-p",
                    "no:cacheprovider",
                    "--hypothesis-profile=mutate",
                    *tests,
                ],
                plugins=[First()],
            )
        )


def preload() -> None:
    """Load what tests import, so that a forked process need not, and make random tests repeatable and quick to fail."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HEEPGEN_THREADS": "1"}
    import myhdl  # noqa: F401
    import pytest  # noqa: F401
    import torch
    from hypothesis import HealthCheck, Phase, settings

    torch.set_num_threads(1)
    torch.export.export(torch.nn.Linear(1, 1).eval(), (torch.zeros(1, 1),))
    settings.register_profile(
        "mutate",
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def stored(path: Path) -> dict[str, dict]:
    """Results by a mutant's name."""
    if not path.exists():
        return {}
    return {row["name"]: row for row in map(json.loads, path.read_text().splitlines())}


def summary(chosen: list[Mutant], results: dict[str, dict], allowed: Allowed) -> dict:
    """Counts of all and of both sides, and the survivors."""
    outcomes = {
        m: "equivalent" if allowed.reason(m) else results.get(m.name, {}).get("outcome", "not run") for m in chosen
    }
    kinds = ("killed", "timeout", "survived", "equivalent", "not run")

    def counts(side):
        found = Counter(outcome for m, outcome in outcomes.items() if side is None or m.rtl is side)
        tried = found["killed"] + found["timeout"] + found["survived"]
        return {kind.replace(" ", "_"): found[kind] for kind in kinds} | {
            "sample": sum(found.values()),
            "survived_percent": round(100 * found["survived"] / max(1, tried), 1),
        }

    return {
        "all": counts(None),
        "hardware": counts(True),
        "other": counts(False),
        "survivors": [
            {"file": m.file, "line": m.line, "before": m.before, "after": m.after}
            for m, outcome in outcomes.items()
            if outcome == "survived"
        ],
    }


def table(found: dict) -> str:
    lines = [f"{'':10} sample  killed  timeout  survived  equivalent  not run  survived of those tried"]
    for side in ("all", "hardware", "other"):
        c = found[side]
        lines.append(
            f"{side:10} {c['sample']:6}  {c['killed']:6}  {c['timeout']:7}  {c['survived']:8}  "
            f"{c['equivalent']:10}  {c['not_run']:7}  {c['survived_percent']:5} %"
        )
    lines += [f"{s['file']}:{s['line']}\n    {s['before']}\n -> {s['after']}" for s in found["survivors"]]
    return "\n".join(lines)


def revision() -> str:
    return subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()


@click.command()
@click.option("--sample", "count", default=300, show_default=True, help="mutants, half of them in hardware")
@click.option("--seed", default=0, show_default=True, help="chooses the sample")
@click.option("--minutes", type=float, help="begin no mutant after so long; the next call goes on")
@click.option("--timeout", default=600.0, show_default=True, help="seconds for the tests of one mutant")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="write the counts too")
@click.option("--again", is_flag=True, help="try survivors again")
@click.option("--only", help="of the sample, those whose file:line, before and after match this regular expression")
@click.option("--results", default=RESULTS, type=click.Path(dir_okay=False, path_type=Path), help="file to go on with")
def main(count, seed, minutes, timeout, json_path, again, only, results):
    """Try a random sample of mutants of hls/ and of the lowering against the tests nearest to them."""
    found = [m for file in mutants.sources(ROOT, MUTATED) for m in mutants.find(file, (ROOT / file).read_bytes())]
    chosen = mutants.sample(found, count, seed)
    if only:
        chosen = [m for m in chosen if re.search(only, f"{m.file}:{m.line} {m.before} -> {m.after}")]
    allowed = Allowed()
    done = stored(results)
    kept = ("killed",) if again else ("killed", "timeout", "survived")
    waiting = [m for m in chosen if not allowed.reason(m) and done.get(m.name, {}).get("outcome") not in kept]
    try_out(waiting, len(chosen), done, results, minutes, timeout)
    for entry in allowed.unknown(found):
        click.echo(f"{ALLOWED.name}: no such mutant any more: {' | '.join(entry)}")
    numbers = summary(chosen, done, allowed)
    click.echo(table(numbers))
    if json_path:
        json_path.write_text(json.dumps(numbers, indent=1) + "\n")


def try_out(waiting, total, done, results, minutes, timeout) -> None:
    """Try mutants, and add what comes out to `done` and to the file `results`."""
    if not waiting:
        return
    preload()
    results.parent.mkdir(parents=True, exist_ok=True)
    begin, commit = time.monotonic(), revision()
    with Workshop(ROOT, timeout) as workshop, open(results, "a") as out:
        for number, mutant in enumerate(waiting):
            passed = time.monotonic() - begin
            if minutes is not None and passed > 60 * minutes:
                return
            outcome, test = workshop.run(mutant, nearest(mutant.file))
            seconds = round(time.monotonic() - begin - passed, 1)
            done[mutant.name] = row = {
                "name": mutant.name,
                "outcome": outcome,
                "test": test,
                "seconds": seconds,
                "commit": commit,
                "line": mutant.line,
            }
            out.write(json.dumps(row) + "\n")
            out.flush()
            left = (time.monotonic() - begin) / (number + 1) * (len(waiting) - number - 1) / 60
            click.echo(
                f"[{total - len(waiting) + number + 1}/{total}] {outcome:8} {mutant.file}:{mutant.line} "
                f"{mutant.old} -> {mutant.new}  {seconds:.0f} s {test}; {left:.0f} min left"
            )


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Prove what `tests.formal.plan` lists, with its controls: `python -m tests.formal [--short] [--json FILE] [docs]`."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.formal import engine, rtl
from tests.formal.plan import PROOFS, Control, Proof

HERE = Path(__file__).resolve().parent
DOCUMENT = "proofs.md"
CONTROL_SECONDS = 100


@dataclass(frozen=True)
class Row:
    """One property of one variant, or one control: ``good`` if it is proved, or fails as it must."""

    proof: Proof
    variant: str
    property: str
    verdict: engine.Verdict
    edit: str = ""

    @property
    def good(self) -> bool:
        return self.verdict.status == ("fails" if self.edit else "proved")


def _problem(proof: Proof, variant: str, folder: Path, control: Control | None = None) -> engine.Problem:
    options, macros = proof.variants[variant]
    folder.mkdir(parents=True)
    if control:
        rtl.generate_edited(proof.unit, options, folder, control.file, control.old, control.new)
    else:
        rtl.generate(proof.unit, options, folder)
    files = tuple(folder / name for name in json.loads((folder / "modules.json").read_text()))
    return engine.Problem(files, HERE / proof.checker, macros)


def prove(proof: Proof, variant: str, folder: Path) -> list[Row]:
    """Every property: all at once by induction, or else one by one."""
    problem = _problem(proof, variant, folder)
    names = engine.properties(problem.checker)
    if set(proof.properties) != {name for name in names if not name.startswith("lemma_")}:
        raise ValueError(f"{proof.checker} and the plan name different properties")
    verdict = engine.induct(problem, proof.seconds) if proof.induction else None
    return [
        Row(
            proof,
            variant,
            name,
            verdict if verdict and verdict.status == "proved" else engine.reach(problem, name, proof.seconds),
        )
        for name in proof.properties
    ]


def refute(proof: Proof, control: Control, folder: Path) -> Row:
    """The control, in the first variant."""
    variant = control.variant or next(iter(proof.variants))
    problem = _problem(proof, variant, folder, control)
    verdict = engine.refute(problem, control.fails, CONTROL_SECONDS)
    return Row(proof, variant, control.fails, verdict, f"{control.file}: {' '.join(control.new.split())}")


def run(short: bool, units: list[str], jobs: int) -> Iterator[Row]:
    """Rows as they come; ``short``: the variants for CI, and every control."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        tasks = []
        for number, proof in enumerate(PROOFS):
            if units and proof.unit not in units and proof.checker.split(".")[0] not in units:
                continue
            for index, variant in enumerate(proof.short if short else proof.variants):
                tasks.append(pool.submit(prove, proof, variant, Path(folder, f"{number}p{index}")))
            for index, control in enumerate(proof.controls):
                tasks.append(pool.submit(lambda *a: [refute(*a)], proof, control, Path(folder, f"{number}c{index}")))
        for task in tasks:
            yield from task.result()


def _show(row: Row) -> str:
    verdict = row.verdict
    depth = (
        f" in cycle {verdict.depth}"
        if verdict.status == "fails"
        else f" for {verdict.depth} cycles"
        if verdict.status == "bounded"
        else ""
    )
    state = "ok  " if row.good else "BAD "
    return (
        f"{state}{row.proof.unit}, {row.variant}: {row.property} {verdict.status}{depth} ({verdict.method}, "
        f"{verdict.seconds} s)" + (f", with {row.edit}" if row.edit else "")
    )


def _record(row: Row) -> dict:
    return {
        "unit": row.proof.unit,
        "variant": row.variant,
        "property": row.property,
        "edit": row.edit,
        "good": row.good,
        **asdict(row.verdict),
    }


def main(arguments: list[str]) -> int:
    """Exit status 0 if everything is proved and every control fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.formal", description=__doc__)
    parser.add_argument("docs", nargs="?", type=Path, help=f"folder in which {DOCUMENT} is written")
    parser.add_argument("--short", action="store_true", help="only what CI proves")
    parser.add_argument("--unit", action="append", default=[], help="only this unit or checker (may be repeated)")
    parser.add_argument("--json", type=Path, help="file for all results")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    rows = []
    for row in run(options.short, options.unit, options.jobs):
        print(_show(row), flush=True)
        rows.append(row)
    bad = sum(not row.good for row in rows)
    controls = sum(bool(row.edit) for row in rows)
    print(f"{len(rows) - controls} properties, {controls} controls, {bad} not as they should be")
    if options.json:
        options.json.write_text(json.dumps([_record(row) for row in rows], indent=1) + "\n")
    if options.docs and not bad:
        from tests.formal.document import write

        write(options.docs / DOCUMENT, rows)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

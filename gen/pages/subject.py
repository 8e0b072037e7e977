# SPDX-License-Identifier: Apache-2.0
"""What a page is about: a run, or an application that was not run yet, in one form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ARRAY, CPU, MEMORY = "array", "CPU", "memory"
"""Where a layer is at work; MEMORY: nothing moves, its output is seen with another shape."""
NEAR = 1.15
"""Times its bound that a layer may take and still be said to be bound by it."""


@dataclass(frozen=True)
class Row:
    """A layer. What is not known is None: measured `cycles` where nothing ran, an estimate or a bound on the CPU.
    `busy`: of the accelerator's parts, as predicted, by name, of BUSY."""

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    where: str
    inputs: tuple[str, ...]
    cycles: int | None
    estimate: int | None
    bound: int | None
    vectors: int
    bus_words: int | None
    load_stall: int
    store_stall: int
    cpu_cycles: int
    sqnr_db: float | None
    max_abs_err: float | None
    scratchpad: Mapping[str, int] | None
    busy: Mapping[str, int] | None = None

    @property
    def best(self) -> int | None:
        """Measured cycles, or else predicted ones."""
        return self.estimate if self.cycles is None else self.cycles

    @property
    def binds(self) -> str:
        """What a faster one would need."""
        if self.where == CPU:
            return "CPU"
        if not self.best or not self.bound:
            return ""
        if self.cycles is not None and self.cycles > NEAR * self.bound:
            stalls = {LOAD: self.load_stall, STORE: self.store_stall}
            causes = stalls | {AROUND: self.cycles - self.vectors - sum(stalls.values())}
            return max(causes, key=causes.__getitem__)
        return "array" if self.vectors >= self.bound else "bus"


@dataclass(frozen=True)
class Subject:
    """`total`: cycles of the inference, measured or predicted. `run`: what `heepgen run --json` writes; None for an
    application that only an estimate is known of. `design`: of `gen.results.runs.design`."""

    network: str
    hardware: str
    peak: int
    total: int | None
    rows: tuple[Row, ...]
    design: Mapping[str, Any] | None
    run: Mapping[str, Any] | None = None

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    @property
    def ports(self) -> int:
        """OBI masters; 0 where it is not known."""
        return int(self.design["config"].get("ports", 0)) if self.design else 0


def of_run(run: Mapping[str, Any]) -> Subject:
    """From what `heepgen run --json` writes."""
    design = run["design"]
    planned = {layer["name"]: layer for layer in design["layers"]} if design else {}
    software = run["software"]
    rows = []
    for layer in run["layers"]:
        plan = planned.get(layer["name"], {})
        on_cpu = software or layer["cpu_cycles"] > 0 or plan.get("on_cpu", False)
        known = not on_cpu and layer["bound_cycles"]
        rows.append(
            Row(
                name=layer["name"],
                op=layer["op"],
                shape=tuple(layer["shape"]),
                macs=layer["macs"],
                where=CPU if on_cpu else ARRAY if layer["cycles"] else MEMORY,
                inputs=tuple(plan.get("inputs", ())),
                cycles=layer["cycles"],
                estimate=None if software else plan.get("estimated_cycles") or None,
                bound=layer["bound_cycles"] if known else None,
                vectors=layer["array_cycles"],
                bus_words=None if on_cpu else layer["bus_words"],
                load_stall=layer["load_stall_cycles"],
                store_stall=layer["store_stall_cycles"],
                cpu_cycles=layer["cpu_cycles"],
                sqnr_db=_number(layer["sqnr_db"]),
                max_abs_err=_number(layer["max_abs_err"]),
                scratchpad=None if software else plan.get("scratchpad"),
                busy=None if software else plan.get("busy"),
            )
        )
    hardware = "CPU only" if software else run["geometry"]
    return Subject(
        network=run["network"],
        hardware=hardware,
        peak=run["peak"],
        total=run["total_cycles"],
        rows=tuple(rows),
        design=design,
        run=run,
    )


def of_application(
    design: Mapping[str, Any], network: str, hardware: str, peak: int, errors: Mapping[str, Mapping[str, float | None]]
) -> Subject:
    """From an application and how far its bit-exact model is from PyTorch, by layer."""
    rows = []
    for layer in design["layers"]:
        estimate = layer["estimated_cycles"] or None
        error = errors.get(layer["name"], {})
        moves = layer["descriptors"] or layer["macs"] or layer["estimated_cycles"] != 0
        rows.append(
            Row(
                name=layer["name"],
                op=layer["op"],
                shape=tuple(layer["shape"]),
                macs=layer["macs"],
                where=MEMORY if not moves else CPU if layer["on_cpu"] else ARRAY,
                inputs=tuple(layer["inputs"]),
                cycles=None,
                estimate=estimate,
                bound=layer["bound_cycles"] or None if layer["descriptors"] else None,
                vectors=layer["vectors"] or 0,
                bus_words=None,
                load_stall=0,
                store_stall=0,
                cpu_cycles=0,
                sqnr_db=error.get("sqnr_db"),
                max_abs_err=error.get("max_abs_err"),
                scratchpad=layer["scratchpad"],
                busy=layer["busy"],
            )
        )
    known = [row.estimate for row in rows if row.estimate is not None]
    total = sum(known) + (design["around_cycles"] or 0) if known else None
    return Subject(network=network, hardware=hardware, peak=peak, total=total, rows=tuple(rows), design=design)


def _number(value: float | str | None) -> float | None:
    """JSON has no infinities: they are texts that float() reads."""
    return None if value is None else float(value)


WORKING, LOAD, STORE, AROUND = "array at work", "load stall", "store stall", "start and drain"
"""What cycles of a run on the array go to, besides CPU."""


def time_by_cause(subject: Subject) -> list[tuple[str, int]]:
    """Where the cycles of a run went, adding up to its total; of an estimate, by operator."""
    rows: Sequence[Row] = subject.rows
    if subject.run is None or not any(row.vectors for row in rows):
        found: dict[str, int] = {}
        for row in rows:
            if row.best:
                found[row.op] = found.get(row.op, 0) + row.best
        rest = (subject.total or 0) - sum(found.values())
        return sorted(found.items(), key=lambda item: -item[1]) + ([("around the layers", rest)] if rest > 0 else [])
    causes = {
        WORKING: sum(row.vectors for row in rows),
        LOAD: sum(row.load_stall for row in rows),
        STORE: sum(row.store_stall for row in rows),
        CPU: int(subject.run["cpu_cycles"]),
    }
    rest = int(subject.run["total_cycles"]) - sum(causes.values())
    return [*causes.items(), (AROUND, max(0, rest))]

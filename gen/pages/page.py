# SPDX-License-Identifier: Apache-2.0
"""The page of a run or of an application: one file, nothing from elsewhere."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen.pages import figures
from gen.pages.subject import AROUND, CPU, LOAD, MEMORY, STORE, WORKING, Row, Subject, time_by_cause
from gen.pages.template import render_page
from gen.records import tables
from hls import __version__

TEMPLATE = Path(__file__).parent / "report.html.j2"
_UNKNOWN = "-"
_FREE = "free"
_COLOURS = {WORKING: "array", LOAD: "stall", STORE: "c1", CPU: "cpu", AROUND: "memory", _FREE: "wait"}


@dataclass(frozen=True)
class Column:
    """A column of the table of layers: `value` to sort by, None where there is none, and its text."""

    name: str
    value: Callable[[Row], Any]
    shown: Callable[[Any], str] = tables.count
    text: bool = False


def render(subject: Subject, cost: Sequence[str]) -> str:
    """HTML; `cost`: sentences on area and energy."""
    run, rows = subject.run, subject.rows
    columns = _columns(subject)
    timeline = run and run["timeline"]
    return render_page(
        TEMPLATE,
        s=subject,
        kind="Measured cycle by cycle" if run else "Predicted, not run: see heepgen run",
        conditions=_conditions(run),
        tiles=_tiles(subject),
        warnings=run["warnings"] if run else [],
        cause=figures.stacked(time_by_cause(subject), _COLOURS) if subject.total else [],
        bars=figures.layer_bars(rows),
        any_cpu=any(row.where == CPU and row.best for row in rows),
        any_bound=any(row.bound for row in rows),
        any_estimate=any(row.estimate for row in rows),
        columns=columns,
        table=[[_cell(column, row) for column in columns] for row in rows],
        totals=_totals(subject, columns),
        engines=figures.engines(timeline, [row.name for row in rows]) if timeline else None,
        flame=figures.flame(timeline, subject.network) if timeline else None,
        run_complete=bool(timeline and timeline["complete"]),
        roofline=figures.roofline(subject),
        graph=figures.graph(subject),
        memory=_memory(subject),
        accuracy=_accuracy(subject),
        outputs=_outputs(run) if run else [],
        cost=cost,
        options=_options(subject.design),
        versions=list(subject.design["versions"].items()) if subject.design else [("heepgen", __version__)],
    )


def _conditions(run: Mapping[str, Any] | None) -> list[str]:
    if run is None:
        return []
    waits = [f"{run['wait_states']} wait states"] if run["wait_states"] else []
    return waits + (["tensors kept in memory for --tap"] if run["taps"] else [])


def _tiles(subject: Subject) -> list[dict[str, str]]:
    run, total = subject.run, subject.total
    unknown = any(row.where != MEMORY and row.best is None for row in subject.rows)
    note = "cycles" if run else "cycles, predicted" + (" without layers that nothing predicts" if unknown else "")
    tiles = [
        (note, f"{total:,}" if total else "not known", ""),
        ("MAC/cycle", f"{subject.macs / total:.2f}" if total else "not known", ""),
    ]
    if subject.peak and total:
        tiles.append(("% of the array's peak", f"{100 * subject.macs / total / subject.peak:.1f}", ""))
    if subject.design:
        memory = subject.design["memory"]
        used = memory["constant_bytes"] + memory["arena_bytes"]
        tiles.append(("KiB of constants and activations", f"{used / 1024:.1f}", ""))
    if run:
        tiles.append(
            ("every bit the model's", "bit exact", "good") if run["bit_exact"] else ("from the model", "DIFFERS", "bad")
        )
        tiles.append(("SQNR of the output, dB", _decibel(run["sqnr_db"]), ""))
    else:
        tiles.append(("bits: not run", _UNKNOWN, ""))
        tiles.append(("SQNR of the bit-exact model, dB", _decibel(subject.rows[-1].sqnr_db), ""))
    return [{"name": name, "value": value, "mood": mood} for name, value, mood in tiles]


def _decibel(value: float | str | None) -> str:
    return tables.decibel(None if value is None else float(value))


def _columns(subject: Subject) -> list[Column]:
    peak, total, run = subject.peak, subject.total, subject.run
    columns = [
        Column("layer", lambda r: r.name, str, True),
        Column("operator", lambda r: r.op, str, True),
        Column("output", lambda r: tables.shape(r.shape), str, True),
        Column("on", lambda r: r.where, str, True),
        Column("MACs", lambda r: r.macs),
    ]
    if run:
        columns.append(Column("cycles", lambda r: r.cycles))
        columns.append(Column("share, %", lambda r: 100 * (r.cycles or 0) / total if total else None, "{:.1f}".format))
    columns.append(Column("estimated" if run else "cycles, estimated", lambda r: r.estimate))
    columns.append(Column("bound", lambda r: r.bound))
    columns.append(
        Column("cycles / bound", lambda r: r.best / r.bound if r.best and r.bound else None, "{:.2f}".format)
    )
    columns.append(Column("MAC/cycle", lambda r: r.macs / r.best if r.macs and r.best else None, "{:.2f}".format))
    if peak:
        share = Column(
            "% of peak", lambda r: 100 * r.macs / r.best / peak if r.macs and r.best else None, "{:.1f}".format
        )
        columns.append(share)
    columns.append(Column("binds", lambda r: r.binds, str, True))
    if run:
        columns += [
            Column("load stall", lambda r: r.load_stall),
            Column("store stall", lambda r: r.store_stall),
            Column("bus words", lambda r: r.bus_words),
            Column("CPU", lambda r: r.cpu_cycles),
        ]
    columns.append(Column("max error", lambda r: r.max_abs_err, tables.error))
    columns.append(Column("SQNR, dB", lambda r: r.sqnr_db, tables.decibel))
    return [c for c in columns if c.text or any(c.value(row) for row in subject.rows)]


def _cell(column: Column, row: Row) -> dict[str, Any]:
    value = column.value(row)
    if column.text:
        return {"text": value, "key": None}
    if value is None or math.isnan(value):
        return {"text": _UNKNOWN, "key": None}
    return {"text": column.shown(value), "key": value if math.isfinite(value) else "Infinity"}


def _totals(subject: Subject, columns: Sequence[Column]) -> list[str]:
    added = {"MACs", "estimated", "bound", "load stall", "store stall", "bus words"}
    known = {"layer": "total", "cycles": f"{subject.total:,}" if subject.total else _UNKNOWN}
    known["cycles, estimated"] = known["cycles"]
    if subject.run:
        known["CPU"] = tables.count(subject.run["cpu_cycles"])
    for column in columns:
        if column.name in added:
            known[column.name] = tables.count(sum(column.value(row) or 0 for row in subject.rows))
    return [known.get(column.name, "") for column in columns]


def _memory(subject: Subject) -> dict[str, Any] | None:
    if subject.design is None:
        return None
    memory, config = subject.design["memory"], subject.design["config"]
    others = memory["constant_bytes"] - memory["weight_bytes"]
    known = memory["program_bytes"] + memory["constant_bytes"] + memory["arena_bytes"]
    parts = [
        ("program", memory["program_bytes"]),
        ("weights", memory["weight_bytes"]),
        ("other constants", others),
        ("activations", memory["arena_bytes"]),
        (_FREE, memory["total_bytes"] - known),
    ]
    plans = []
    arena = figures.lives(memory["buffers"], memory["steps"], memory["arena_bytes"])
    if arena:
        plans.append({"name": f"Activations in RAM, {memory['arena_bytes']:,} bytes", "id": "arena", "picture": arena})
    if subject.run is None or not subject.run["software"]:
        chip = figures.on_chip(subject.rows)
        size = 4 * int(config.get("scratchpad_words", 0))
        held = figures.lives(chip, memory["steps"], size)
        if held and size:
            plans.append(
                {"name": f"Activations in the scratchpad, {size:,} bytes", "id": "scratchpad", "picture": held}
            )
    return {"bar": figures.stacked(parts, _COLOURS), "plans": plans, "constants": memory["constants"]}


def _accuracy(subject: Subject) -> list[str]:
    run = subject.run
    if run is None:
        last = subject.rows[-1]
        return [
            f"The bit-exact model is within {tables.error(last.max_abs_err)} of the model in FP32 on the application's "
            f"sample, {_decibel(last.sqnr_db)} dB; heepgen run compares the device's bits with it."
        ]
    lines = ["Every bit of every output is the bit-exact model's." if run["bit_exact"] else "The outputs DIFFER."]
    if run["import_check"]:
        lines.append(run["import_check"]["text"])
    lines.append("One input was run; heepgen eval measures the accuracy on a data set.")
    return lines


def _outputs(run: Mapping[str, Any]) -> list[dict[str, str]]:
    first = {
        "layer": run["output_layer"],
        "shape": run["output_shape"],
        **{name: run[name] for name in ("max_abs_err", "sqnr_db", "predictions")},
        "bit_exact": run["bit_exact"] if not run["further_outputs"] else None,
    }
    return [
        {
            "layer": output["layer"],
            "shape": tables.shape(output["shape"]),
            "error": tables.error(None if output["max_abs_err"] is None else float(output["max_abs_err"])),
            "sqnr": _decibel(output["sqnr_db"]),
            "exact": {True: "yes", False: "no", None: _UNKNOWN}[output["bit_exact"]],
            "classes": _classes(output["predictions"]),
        }
        for output in (first, *run["further_outputs"])
    ]


def _classes(predictions: Sequence[Sequence[int]] | None, most: int = 16) -> str:
    if not predictions:
        return _UNKNOWN
    device, reference = (" ".join(map(str, row[:most])) + (" ..." if len(row) > most else "") for row in predictions)
    return f"{device}; {reference}"


def _options(design: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if design is None:
        return []
    shown = {"hash": lambda v: f"0x{v:08x}", "slave_base": lambda v: f"0x{v:08x}"}
    return [(name, shown.get(name, str)(value)) for name, value in design["config"].items()]

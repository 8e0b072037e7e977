# SPDX-License-Identifier: Apache-2.0
"""A run as a table."""

import math

from rich.console import Group, RenderableType
from rich.text import Text

from gen.records import tables
from gen.records.tables import Column
from gen.results.runs.run import LayerReport, RunReport

TAPPED_VALUES = 8
MOST_ROWS = 32
"""Rows of an output whose largest values are shown."""

_LEFT = ("layer", "operator", Column("output", 3))
_RIGHT = (
    Column("MACs", 2),
    "cycles",
    "share\n%",
    Column("MAC/\ncycle", 8),
    Column("% of\npeak", 4),
    Column("bound", 7),
    Column("cycles/\nbound", 1),
    Column("load\nstall", 9),
    Column("store\nstall", 10),
    Column("CPU\ncycles", 5),
    Column("max\nerror", 6),
    "SQNR\ndB",
)


def _row(layer: LayerReport, run: RunReport) -> tuple[str, ...]:
    return (
        layer.name,
        layer.op,
        tables.shape(layer.shape),
        tables.count(layer.macs),
        tables.count(layer.cycles),
        tables.ratio(layer.cycles, run.total_cycles, ".1f", 100.0),
        tables.ratio(layer.macs, layer.cycles),
        tables.ratio(layer.macs, layer.cycles * run.peak, ".1f", 100.0),
        tables.count(layer.bound_cycles),
        tables.ratio(layer.cycles, layer.bound_cycles),
        tables.count(layer.load_stall_cycles),
        tables.count(layer.store_stall_cycles),
        tables.count(layer.cpu_cycles),
        tables.error(layer.max_abs_err),
        tables.decibel(layer.sqnr_db),
    )


def _total(run: RunReport) -> tuple[str, ...]:
    bound = sum(layer.bound_cycles for layer in run.layers)
    return (
        "total",
        "",
        _shapes(run),
        tables.count(run.macs),
        tables.count(run.total_cycles),
        "100.0",
        tables.ratio(run.macs, run.total_cycles),
        tables.ratio(run.macs, run.total_cycles * run.peak, ".1f", 100.0),
        tables.count(bound),
        tables.ratio(run.total_cycles, bound),
        tables.count(sum(layer.load_stall_cycles for layer in run.layers)),
        tables.count(sum(layer.store_stall_cycles for layer in run.layers)),
        tables.count(run.cpu_cycles),
        *(
            (tables.error(run.first.max_abs_err), tables.decibel(run.first.sqnr_db))
            if len(run.results) == 1
            else ("", "")
        ),
    )


def _shapes(run: RunReport) -> str:
    return ", ".join(tables.shape(result.shape) for result in run.results)


def _tap_notes(run: RunReport) -> list[Text]:
    """Beginning and range of every tapped tensor; JSON has all of it."""
    notes = []
    for name, values in run.taps.items():
        finite = [v for v in values if math.isfinite(v)]
        span = f", {min(finite):.6g} to {max(finite):.6g}" if finite else ""
        more = ", ..." if len(values) > TAPPED_VALUES else ""
        notes.append(
            Text(
                f"tap {name}: {len(values):,} values{span}: "
                f"{', '.join(f'{v:.6g}' for v in values[:TAPPED_VALUES])}{more}"
            )
        )
    if notes:
        notes.append(
            Text(
                "with --tap every tensor is kept in memory, none on chip: a run without it takes other cycles",
                style="yellow",
            )
        )
    return notes


def _output_notes(run: RunReport) -> list[Text]:
    """The largest values, and of several outputs how good each is."""
    notes = []
    for number, result in enumerate(run.results):
        name = "largest output"
        if len(run.results) > 1:
            name = f"output {number}, largest value"
            style = "" if result.bit_exact else "bold red"
            notes.append(
                Text(
                    f"output {number} ({result.layer}, {tables.shape(result.shape)}): max error "
                    f"{tables.error(result.max_abs_err)}, SQNR {tables.decibel(result.sqnr_db)} dB"
                    f"{'' if result.bit_exact else ', DIFFERS from the model'}",
                    style=style,
                )
            )
        if result.predictions and len(result.predictions[0]) <= MOST_ROWS:
            device, reference = (" ".join(map(str, row)) for row in result.predictions)
            notes.append(Text(f"{name}: device {device}, PyTorch {reference}"))
    return notes


def table(run: RunReport) -> RenderableType:
    """The per-layer table with totals, and a verdict on the bits below it."""
    where = "CPU only" if run.software else run.geometry
    waits = f", {run.wait_states} wait states" if run.wait_states else ""
    title = f"{run.network} on {where}{waits}"
    result = tables.table(title, _LEFT, _RIGHT)
    for layer in run.layers:
        result.add_row(*_row(layer, run))
    result.add_section()
    result.add_row(*_total(run), style="bold")
    source = run.import_check["source"] if run.import_check else "PyTorch"
    notes = [Text(f"errors are against {source} in FP32; cycles are the accelerator's counter", style="dim")]
    if run.import_check:
        notes.append(Text(run.import_check["text"], style="dim"))
    notes += [Text(warning, style="yellow") for warning in run.warnings]
    if run.timeline and not run.timeline["complete"]:
        cut = f"the trace is cut after {run.timeline['end']:,} of {run.soc_cycles:,} cycles"
        notes.append(Text(cut, style="yellow"))
    notes += _tap_notes(run) + _output_notes(run)
    verdict = (
        Text("every bit equals the model's", style="green")
        if run.bit_exact
        else Text("the device's output DIFFERS from the bit-exact model", style="bold red")
    )
    return Group(result, *notes, verdict)

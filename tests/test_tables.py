# SPDX-License-Identifier: Apache-2.0
"""Every table in a terminal of 80 columns and in a pipe, with names as long and odd as models have them."""

import io
import sys
from dataclasses import asdict, replace

import click
import pytest
from rich.cells import cell_len
from rich.console import Console, Group
from rich.text import Text

from firmware_gen.architectures.contract import Fact
from firmware_gen.operations.placement import Placement
from gen.cli import main
from gen.console import show
from gen.documents import arithmetic
from gen.documents.measured import bench, sides
from gen.flows.accelerator.architectures import listing, one
from gen.flows.accelerator.hw import HwReport
from gen.flows.accelerator.new_architecture import NewArchitecture
from gen.flows.check.report import Check, CheckReport
from gen.flows.soc.doctor import Examination, Finding
from gen.flows.soc.xheep import XheepReport
from gen.records import tables
from gen.results.estimate import EstimateReport, LayerEstimate
from gen.results.evaluation import MODELS, EvalReport, LayerQuality
from gen.results.firmware import Explanation, SwReport
from gen.results.runs.run import LayerReport, OutputReport, RunReport
from gen.results.why import LayerWhy, Trial, WhyReport

NAMES = (
    "conv",
    "backbone.stages.3.blocks.11.squeeze_excitation.project_convolution.branch_a",
    "backbone.stages.3.blocks.11.squeeze_excitation.project_convolution.branch_b",
    "[bold]x[/bold] of 'a b' %s",
    "畳み込み層の名前がとても長いときでも表は壊れないはずです",
    "x" * 200,
)
BIG = 1_234_567_890
REASON = "a reason that takes several lines of a terminal, since it names what would do instead and why it does not: "
SHAPE = (16, 1024, 224, 224)
GEOMETRY = "32x32 aligned, 4 ports, 1,048,576 words of scratchpad and everything else that a configuration can hold"
CHECK = {"source": "PyTorch", "inputs": 3, "tensors": 9, "largest": 1e-7, "text": REASON + "equal to PyTorch's"}
OUTPUT = OutputReport(NAMES[1], (1, 10), [0.5] * 10, [0.5] * 10, True, 2.5e-6, 99.9)
LAYERS = tuple(
    LayerReport(name, "depthwise_conv2d", SHAPE, BIG, BIG + i, BIG, BIG, BIG, BIG, BIG, BIG, 0, 0, 1e-6, 123.4, 0.01)
    for i, name in enumerate(NAMES)
)
RUN = RunReport("network", GEOMETRY, 1024, BIG * 9, (OUTPUT, OUTPUT), LAYERS, import_check=CHECK)
PLACEMENTS = tuple(Placement(name, "depthwise_conv2d", SHAPE, "array", REASON, BIG) for name in NAMES)
MEMORY = {
    "steps": NAMES * 20,
    "buffers": [{"name": name, "address": 4096, "size": BIG, "born": -1, "dies": 3} for name in NAMES],
}
MEASURED = bench.Measurement(
    NAMES[1], "32x32p4-fma", bench.Published(BIG, BIG, "12x12"), "", 8192, BIG, BIG, BIG, 1024, 4, BIG, BIG, BIG, True
)
CASES = {
    "results": BIG,
    "wrong": 0,
    "classes": dict.fromkeys(("zero", "subnormal", "infinite", "nan"), BIG),
    "examples": [REASON],
}
FAULT = {"case": "fma", "new": "a", "old": "b", "wrong": BIG, "results": BIG}
TABLES = {
    "run": RUN.table,
    "estimate": EstimateReport(
        "network",
        GEOMETRY,
        64,
        BIG,
        tuple(LayerEstimate(n, "depthwise_conv2d", SHAPE, BIG, False, *[BIG] * 6) for n in NAMES),
    ).table,
    "why": WhyReport(
        "network",
        GEOMETRY,
        BIG,
        "bus",
        tuple(
            LayerWhy(n, "depthwise_conv2d", SHAPE, *[BIG, "weights"], *[BIG] * 6, {"data": BIG}, NAMES[1], BIG)
            for n in NAMES
        ),
        (Trial(NAMES[1], BIG), Trial(NAMES[0], None, {}, REASON)),
    ).table,
    "sw --explain": Explanation("network", PLACEMENTS).table,
    "sw": SwReport(
        "network",
        GEOMETRY,
        SHAPE,
        (),
        tuple(asdict(layer) | {"descriptors": [1] * 999} for layer in LAYERS),
        MEMORY,
        PLACEMENTS,
        REASON,
        {"layers": NAMES, "weights": 123, "of": 456},
        CHECK,
    ).table,
    "eval": EvalReport(
        "network",
        GEOMETRY,
        BIG,
        "cuda",
        "accuracy",
        dict.fromkeys(MODELS, 0.98765),
        {f"{a}, {b}": 0.5 for a in MODELS for b in MODELS},
        1e-6,
        tuple(LayerQuality(name, "depthwise_conv2d", 43.21, 12.34, 55.55, 66.66, 0.1) for name in NAMES),
        tuple((name, BIG, 12.34) for name in NAMES),
        CHECK,
    ).table,
    "hw": HwReport("mine", "0x12345678", {}, (Fact("key", REASON, REASON, REASON),), ("top",)).table,
    "architectures": listing().table,
    "architectures NAME": one("descriptor").table,
    "check-architecture": CheckReport(
        "mine", GEOMETRY, tuple(Check(name, False, BIG, 7, 1234.0, REASON, REASON) for name in NAMES), None
    ).table,
    "new-architecture": NewArchitecture("mine", NAMES[1], [(NAMES[1], REASON)], [(NAMES[5], REASON)]).table,
    "doctor": Examination(tuple(Finding(name, True, "verilator 5.036 " * 9, REASON, REASON) for name in NAMES)).table,
    "xheep": XheepReport(NAMES[5], REASON, GEOMETRY, "fast", NAMES, (REASON,)).table,
    "bench": lambda: bench.table([MEASURED, replace(MEASURED, skipped=REASON)]),
    "bench --sides": lambda: sides.table(
        sides.Beside(
            tuple(sides.Side(name, NAMES[3], "", BIG, BIG, 99.9, BIG, BIG) for name in NAMES),
            (sides.Hardware(NAMES[1], GEOMETRY, BIG, BIG, BIG, 999.5, 88.8),),
        )
    ),
    "arithmetic": lambda: arithmetic.table(
        {"cases": [{"name": name, "reference": REASON} | CASES for name in NAMES], "faults": [FAULT]}
    ),
}


def shown(capsys, monkeypatch, terminal, *renderables):
    """Lines that `show` prints in a terminal of 80 columns, or in a pipe."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    show(*renderables)
    return capsys.readouterr().out.splitlines()


def tables_in(renderable):
    if isinstance(renderable, Group):
        return [table for part in renderable.renderables for table in tables_in(part)]
    return [renderable] if isinstance(renderable, tables.Table) else []


def numbers(table, ranks):
    """Cells of the columns that hold numbers, of such ranks."""
    places = [i for i, c in enumerate(table.columns) if i >= table.texts and c.rank in ranks]
    return [[cells[i] for i in places if cells[i]] for cells, _ in table.rows]


@pytest.mark.parametrize("command", TABLES)
def test_a_terminal_of_80_columns(capsys, monkeypatch, command):
    renderable = TABLES[command]()
    lines = shown(capsys, monkeypatch, True, renderable)
    assert max(map(cell_len, lines)) <= 80
    assert tables_in(renderable)
    for table in tables_in(renderable):  # the numbers of a row are whole, on one line
        for cells in numbers(table, {0}):
            assert any(all(str(cell) in line for cell in cells) for line in lines), cells


@pytest.mark.parametrize("command", TABLES)
def test_a_pipe_cuts_nothing(capsys, monkeypatch, command):
    renderable = TABLES[command]()
    lines = shown(capsys, monkeypatch, False, renderable)
    for table in tables_in(renderable):
        for cells, _ in table.rows:
            first = [str(cell).split("\n")[0] for cell in cells]
            assert any(all(cell in line for cell in first) for line in lines), first
        for column in table.columns:
            assert all(any(part in line for line in lines) for part in column.heading.split("\n"))
    assert "\N{HORIZONTAL ELLIPSIS}" not in "\n".join(lines) and "--wide" not in "\n".join(lines)


def test_layers_of_one_block_stay_apart(capsys, monkeypatch):
    lines = shown(capsys, monkeypatch, True, RUN.table())
    rows = [line.split()[0] for line in lines if "depthwise" in line and "branch" in line]
    assert len(rows) == len(set(rows)) == 2


def test_what_is_left_out_is_said(capsys, monkeypatch):
    text = "\n".join(shown(capsys, monkeypatch, True, RUN.table()))
    assert "--wide shows all" in text and "store stall" in text
    assert "SQNR" in text and "cycles" in text


def test_wide_shows_all_in_a_terminal(capsys, monkeypatch):
    command = main.commands["doctor"]
    with click.Context(command) as context:
        command.parse_args(context, ["--wide"])
        lines = shown(capsys, monkeypatch, True, RUN.table())
    assert max(map(cell_len, lines)) > 200 and not any("--wide" in line for line in lines)
    assert any(all(name in line for name in ("x" * 200, "123.4")) for line in lines)


def test_every_command_with_a_table_can_show_it_wide():
    for name, command in main.commands.items():
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--json" in options) == ("--wide" in options), name


@pytest.mark.parametrize("width", [10, 30, 47])
def test_narrower_terminals(width):
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(tables.pairs("title", [("name " * 9, Text("value " * 9))]), RUN.table())
    assert max(map(cell_len, console.export_text().splitlines())) <= max(width, 47)


def test_shortened_names_in_ascii():
    table = tables.table("", ["name"])
    table.add_row(Text("abcdefghijklmnopqrstuvwxyz", style="red"))
    console = Console(width=11, file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), record=True)
    console.print(table)
    assert "abcd...wxyz" in console.export_text()

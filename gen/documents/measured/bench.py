# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: networks measured in RTL simulation, as a table, as JSON and as a document."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from gen.documents.measured import sides
from gen.records.tables import Column, Table
from gen.results.runs.run import LayerReport
from hls import output
from hls.config import Config
from hls.errors import HeepgenError
from hls.output import write_file

Entry = TypeVar("Entry")

WITHHELD = 0.2
"""Probability of a grant withheld, in the run that shows what a busy bus costs."""

DOCUMENT, DATA = "performance.md", "performance.json"


@dataclass(frozen=True)
class Published:
    """Cycles per inference measured elsewhere: HEEPstor's array (`array_size`) and its CPU-only firmware."""

    array: int | None = None
    cpu: int | None = None
    array_size: str = "8x8"


@dataclass(frozen=True)
class Measurement:
    """One network on one accelerator. Cycles are those of a whole inference, CPU time included.

    `ram_kib` is the memory of the SoC around it. `bound` is the sum of the layers' lower bounds; `software` the cycles
    of the same application without accelerator, `withheld` those with every grant withheld with probability WITHHELD,
    cycle by cycle; None if not measured. `sw_seconds` is the time to generate the firmware, `soc_cycles` and
    `sim_seconds` what the simulation simulated and took. When `skipped` holds a reason, there are no numbers.
    """

    network: str
    geometry: str
    published: Published = Published()
    skipped: str = ""
    ram_kib: int = 0
    cycles: int = 0
    bound: int = 0
    macs: int = 0
    peak: int = 0
    ports: int = 0
    cpu_cycles: int = 0
    software: int | None = None
    withheld: int | None = None
    bit_exact: bool = False
    layers: tuple[LayerReport, ...] = ()
    sw_seconds: float = 0.0
    soc_cycles: int = 0
    sim_seconds: float = 0.0


def geometry_name(config: Config) -> str:
    """Short name such as 8x8p2, or 8x8p2-fma."""
    name = f"{config.rows}x{config.cols}p{config.ports}"
    return name if config.arithmetic == "aligned" else f"{name}-{config.arithmetic}"


def parse_geometry(text: str) -> Config:
    """Config of a short name; raises `HeepgenError` naming --geometry."""
    import re

    found = re.fullmatch(r"(\d+)x(\d+)p(\d+)(?:-(aligned|fma))?", text)
    if not found:
        raise HeepgenError(f"--geometry {text}: write rows, columns and ports as in 8x8p2, or 8x8p2-fma.")
    rows, cols, ports = map(int, found.groups()[:3])
    return Config(rows=rows, cols=cols, ports=ports, arithmetic=found[4] or "aligned")


def measure(
    network: str,
    model: Path,
    sample: Path,
    config: Config,
    work: Path,
    *,
    published: Published = Published(),
    input_layout: str = "nchw",
    software: bool = True,
    stalls: bool = True,
    progress: Callable[[str], None] = lambda message: None,
) -> Measurement:
    """Generate, run and measure a model file; a network that cannot be compiled gives a reason instead."""
    from firmware_gen.memory.planner import memory_map
    from gen.flows.measure.run import run
    from gen.flows.network.sw import generate_sw

    name = geometry_name(config)
    folder = work / f"{network}-{name}"
    started = time.monotonic()
    try:
        generate_sw(model, config, folder, sample=sample, input_layout=input_layout, progress=progress)
        seconds = time.monotonic() - started
        result = run(folder, config, progress=progress)
        cpu_only = run(folder, config, software=True, progress=progress) if software else None
        slow = run(folder, config, withheld=WITHHELD, progress=progress) if stalls else None
    except HeepgenError as error:
        return Measurement(network, name, published, skipped=str(error))
    if not all(r.bit_exact for r in (result, cpu_only, slow) if r):
        raise HeepgenError(f"{network} on {name}: the device's output differs from the bit-exact model.")
    return Measurement(
        network,
        name,
        published,
        ram_kib=memory_map(config)[1] // 1024,
        cycles=result.total_cycles,
        bound=sum(layer.bound_cycles for layer in result.layers),
        macs=result.macs,
        peak=result.peak,
        ports=config.ports,
        cpu_cycles=result.cpu_cycles,
        software=cpu_only.total_cycles if cpu_only else None,
        withheld=slow.total_cycles if slow else None,
        bit_exact=True,
        layers=result.layers,
        sw_seconds=seconds,
        soc_cycles=result.soc_cycles,
        sim_seconds=result.seconds,
    )


def measure_stream(
    network: str,
    model: Path,
    frames: int,
    config: Config,
    *,
    software: bool = True,
    progress: Callable[[str], None] = lambda message: None,
) -> Measurement:
    """A model file as a stream of so many new frames a call: the third call, which finds the states of the second."""
    from firmware_gen.memory.planner import memory_map
    from gen.flows.measure.steps import run_network_steps
    from gen.flows.network.sw import compile_model

    name = geometry_name(config)
    started = time.monotonic()
    try:
        compiled = compile_model(model, config, name=network, stream=frames)
        layers = compiled.application().manifest["layers"]
        seconds = time.monotonic() - started
        result = run_network_steps(compiled, 3, None, "frames", progress=progress)
        plain = run_network_steps(compiled, 1, None, "frames", software=True, progress=progress) if software else None
    except HeepgenError as error:
        return Measurement(network, name, skipped=str(error))
    if not all(r.bit_exact for r in (result, plain) if r):
        raise HeepgenError(f"{network} on {name}: the device's output differs from the bit-exact model.")
    return Measurement(
        network,
        name,
        ram_kib=memory_map(config)[1] // 1024,
        cycles=result.steps[-1].cycles,
        bound=sum(layer["bound_cycles"] for layer in layers),
        macs=sum(layer["macs"] for layer in layers),
        peak=config.rows * config.cols,
        ports=config.ports,
        software=plain.steps[-1].cycles if plain else None,
        bit_exact=True,
        sw_seconds=seconds,
        soc_cycles=result.soc_cycles,
        sim_seconds=result.seconds,
    )


def to_dict(results: Sequence[Measurement]) -> dict[str, Any]:
    return {"measurements": [asdict(r) for r in results]}


def from_dict(data: dict[str, Any]) -> list[Measurement]:
    """The measurements of `to_dict`, also after a trip through JSON."""
    results = []
    for entry in data["measurements"]:
        layers = tuple(LayerReport(**layer | {"shape": tuple(layer["shape"])}) for layer in entry["layers"])
        results.append(Measurement(**entry | {"published": Published(**entry["published"]), "layers": layers}))
    return results


# Rendering

_COLUMNS = (
    Column("network"),
    Column("array"),
    Column("RAM\nKiB", 9),
    Column("cycles"),
    Column("bound", 7),
    Column("cycles/\nbound"),
    Column("MAC/\ncycle", 3),
    Column("grants\nwithheld", 6),
    Column("CPU\ncycles", 5),
    Column("software\nkernels", 8),
    Column("software/\narray", 1),
    Column("HEEPstor\narray", 4),
    Column("HEEPstor/\narray", 2),
    Column("HEEPstor\nCPU only", 10),
)


def _count(value: int | None) -> str:
    return f"{value:,}" if value else "-"


def _ratio(a: int | None, b: int | None, form: str = ".2f") -> str:
    return format(a / b, form) if a and b else "-"


def _row(m: Measurement) -> tuple[str, ...]:
    other = m.published
    array = _count(other.array) + (f" {other.array_size}" if other.array and other.array_size != "8x8" else "")
    return (
        m.network,
        m.geometry,
        _count(m.ram_kib),
        _count(m.cycles),
        _count(m.bound),
        _ratio(m.cycles, m.bound),
        _ratio(m.macs, m.cycles),
        _ratio(m.withheld, m.cycles),
        _count(m.cpu_cycles),
        _count(m.software),
        _ratio(m.software, m.cycles, ".0f"),
        array,
        _ratio(other.array, m.cycles, ".0f"),
        _count(other.cpu),
    )


def table(results: Sequence[Measurement]) -> Any:
    """A line per measurement, and the reasons of those that were skipped."""
    from rich.console import Group
    from rich.text import Text

    result = Table("Cycles per inference, CPU time included", _COLUMNS[:2], _COLUMNS[2:])
    for m in results:
        if not m.skipped:
            result.add_row(*_row(m))
    notes = [
        Text(f"{m.network} on {m.geometry} was skipped: {m.skipped}", style="yellow") for m in results if m.skipped
    ]
    return Group(result, *notes)


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    heads = [" ".join(c.split("\n")).replace("/ ", "/") for c in columns]
    return [
        f"| {' | '.join(heads)} |",
        f"|{'---|' * left}{'---:|' * (len(heads) - left)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


_LAYER_COLUMNS = (
    "layer",
    "operator",
    "output",
    "MACs",
    "cycles",
    "bound",
    "cycles/\nbound",
    "vectors",
    "bus\nwords",
    "load\nstall",
    "store\nstall",
)


def _layer_row(layer: LayerReport) -> tuple[str, ...]:
    return (
        layer.name,
        layer.op,
        "x".join(map(str, layer.shape)),
        _count(layer.macs),
        _count(layer.cycles),
        _count(layer.bound_cycles),
        _ratio(layer.cycles, layer.bound_cycles),
        _count(layer.array_cycles),
        _count(layer.bus_words),
        _count(layer.load_stall_cycles),
        _count(layer.store_stall_cycles),
    )


def markdown(
    results: Sequence[Measurement], tools: Sequence[tuple[str, str]] = (), beside: sides.Beside | None = None
) -> str:
    """The document: all measurements, architectures side by side, then every layer of the first geometry."""
    measured = [m for m in results if not m.skipped]
    skipped = [m for m in results if m.skipped]
    first = [m for m in measured if m.geometry == measured[0].geometry] if measured else []
    lines = [
        f"<!-- Generated by make bench from the measurements in {DATA}; do not edit. -->",
        "# Performance",
        "",
        "Cycles of whole inferences, from the call of the model to its return, CPU time included and final softmax",
        "excluded, counted by the accelerator in RTL simulation with zero-wait memory. Weights are random. Every",
        "output equals the bit-exact model's in every bit.",
        "",
        "*array*: rows x columns, p: OBI master ports. *RAM*: all banks of the SoC. *bound*: sum over the layers of",
        "max(vectors, bus words / ports), where every tensor crosses the bus once. *grants withheld*: cycles of a run",
        f"in which every grant is withheld with probability {WITHHELD}, cycle by cycle, as a multiple of *cycles*.",
        "*CPU cycles*: cycles in which no layer ran on the array.",
        "*software kernels*: the same application with `USE_SOFTWARE_DNN_LAYER_OPERATORS=1` on the same CPU.",
        "*nhwc*: with `--input-layout nhwc`; *16k*, *32k*: `scratchpad_words` 16,384 and 32,768.",
        "*by-N*: a network on a window of frames as a stream of N new frames a call, see",
        "[State and streams](streaming-models.md); the third call.",
        "*HEEPstor*: its array (8x8 unless said otherwise) and its CPU-only firmware, measured in RTL simulation.",
        "",
        *_markdown_table([c.heading for c in _COLUMNS], [_row(m) for m in measured], 2),
        *(f"Not measured: {m.network} on {m.geometry}. {m.skipped}\n" for m in skipped),
        "![Roofline](roofline.svg)",
        "",
    ]
    if beside:
        lines += sides.markdown(beside, _markdown_table)
    if tools:
        lines += [
            "## Tools",
            "",
            "On the machine that made this document.",
            "",
            *_markdown_table(("what", "measured"), tools, 1),
        ]
    for m in (m for m in first if m.layers):
        lines += [
            f"## {m.network} on {m.geometry}",
            "",
            *_markdown_table(_LAYER_COLUMNS, [_layer_row(layer) for layer in m.layers if layer.cycles], 3),
        ]
    return "\n".join(lines)


Documents: TypeAlias = tuple[list[Measurement], list[tuple[str, str]], sides.Beside | None]
"""What the documents are made of: measurements, times of tools, architectures side by side."""


def read_documents(folder: Path) -> Documents:
    """What `write_documents` wrote."""
    data = json.loads((folder / DATA).read_text())
    tools = [(what, time_taken) for what, time_taken in data["tools"]]
    return from_dict(data), tools, sides.Beside.from_dict(data)


def updated(before: Documents, results: Sequence[Measurement], beside: sides.Beside) -> Documents:
    """`before` with what was measured again in the place of what it was."""
    measurements, tools, old = before
    old = old or sides.Beside((), ())
    return (
        _replaced(measurements, results, lambda m: (m.network, m.geometry)),
        tools,
        sides.Beside(
            tuple(_replaced(old.sides, beside.sides, lambda s: (s.network, s.architecture))),
            tuple(_replaced(old.hardware, beside.hardware, lambda h: h.architecture)),
        ),
    )


def _replaced(before: Sequence[Entry], new: Sequence[Entry], key: Callable[[Entry], Any]) -> list[Entry]:
    return list(({key(entry): entry for entry in before} | {key(entry): entry for entry in new}).values())


def write_documents(
    results: Sequence[Measurement], tools: Sequence[tuple[str, str]], folder: Path, beside: sides.Beside | None = None
) -> None:
    """performance.json, and performance.md, roofline.png and roofline.svg made from it."""
    from gen.documents.measured.roofline import plot
    from gen.records.result import to_json

    text = to_json(to_dict(results) | {"tools": [list(line) for line in tools]} | (beside.to_dict() if beside else {}))
    plot(results, folder)
    write_file(folder / DATA, text, output.DOCUMENT)
    write_file(folder / DOCUMENT, markdown(results, tools, beside), output.DOCUMENT)

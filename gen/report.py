# SPDX-License-Identifier: Apache-2.0
"""What a run measured, as a table for people and as JSON for programs."""

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class LayerReport:
    """One layer of one inference. Cycles are the accelerator's clock; errors are against PyTorch.

    `bound_cycles` is max(vectors, bus_words / ports). `array_cycles` counts the vectors streamed. `alignment_loss` is
    what `aligned` arithmetic takes, as a share of a channel's largest output (aligned_error); None in others.
    A layer that ran on the CPU has no bound: `bound_cycles`, `bus_words` and `array_cycles` are 0.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    cycles: int
    bound_cycles: int = 0
    bus_words: int = 0
    array_cycles: int = 0
    load_stall_cycles: int = 0
    store_stall_cycles: int = 0
    cpu_cycles: int = 0
    lanes_lost: int = 0
    lanes_lossy: int = 0
    max_abs_err: float | None = None
    sqnr_db: float | None = None
    alignment_loss: float | None = None


@dataclass(frozen=True)
class OutputReport:
    """One output of the network, computed by `layer`.

    `values` is flat, in the order of the PyTorch output of that shape; `reference` is what PyTorch says in FP32, and
    the errors are against it. `bit_exact` says whether every bit is the model's.
    """

    layer: str
    shape: tuple[int, ...]
    values: list[float]
    reference: list[float] | None
    bit_exact: bool
    max_abs_err: float | None = None
    sqnr_db: float | None = None

    @property
    def predictions(self) -> tuple[list[int], list[int]] | None:
        """Index of the largest value per row of the batch, (device's, PyTorch's); None for a single column."""
        classes = self.shape[-1] if self.shape else 1
        if classes < 2 or self.reference is None:
            return None
        device, reference = (
            [max(range(classes), key=row.__getitem__) for row in _rows(values, classes)]
            for values in (self.values, self.reference)
        )
        return device, reference

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"predictions": self.predictions}


@dataclass(frozen=True)
class RunReport:
    """One inference: `total_cycles` from the call of the model to its return, printing excluded.

    `results` are what the network returns, in its order. `peak` is the MACs the array can do per cycle. The simulation
    took `seconds` for `soc_cycles`, from reset to exit. `import_check` says how the import compares with the model's
    program (`verify.Check`), None where the application's folder does not know.
    """

    network: str
    geometry: str
    peak: int
    total_cycles: int
    results: tuple[OutputReport, ...]
    layers: tuple[LayerReport, ...]
    uart: str = ""
    software: bool = False
    wait_states: int = 0
    import_check: dict[str, Any] | None = None
    soc_cycles: int = 0
    seconds: float = 0.0
    taps: dict[str, list[float]] = field(default_factory=dict)

    @property
    def first(self) -> OutputReport:
        """The first output, of most networks the only one."""
        return self.results[0]

    @property
    def outputs(self) -> list[float]:
        """Values of the first output."""
        return self.first.values

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return self.first.shape

    @property
    def bit_exact(self) -> bool:
        """Whether every bit of every output is the model's."""
        return all(result.bit_exact for result in self.results)

    @property
    def warnings(self) -> list[str]:
        """A sentence for every layer that loses what matters."""
        return alignment_warnings({layer.name: layer.alignment_loss for layer in self.layers})

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def cpu_cycles(self) -> int:
        """Cycles of the inference in which no accelerator layer ran."""
        return self.total_cycles - sum(layer.cycles - layer.cpu_cycles for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """What describes the first output stands beside the rest; the others are `further_outputs`."""
        first, *further = [result.to_dict() for result in self.results]
        own = {"outputs": first.pop("values"), "output_shape": first.pop("shape"), "output_layer": first.pop("layer")}
        run = asdict(replace(self, results=()))
        del run["results"]
        return (
            run
            | own
            | first
            | {
                "further_outputs": further,
                "bit_exact": self.bit_exact,
                "macs": self.macs,
                "cpu_cycles": self.cpu_cycles,
                "warnings": self.warnings,
            }
        )


def alignment_warnings(losses: dict[str, float | None]) -> list[str]:
    """A sentence for every layer whose `alignment_loss` is more than aligned_error.NOTICEABLE."""
    from hls.arithmetic.aligned_error import NOTICEABLE

    return [
        f"{name}: aligned arithmetic loses {loss:.1e} of a channel's largest output beside huge activations; "
        "--arith fma does not."
        for name, loss in losses.items()
        if loss is not None and loss > NOTICEABLE
    ]


def _rows(values: list[float], length: int) -> list[list[float]]:
    return [values[i : i + length] for i in range(0, len(values), length)]


def sqnr_db(signal: Any, result: Any) -> float | None:
    """10 log10(sum signal^2 / sum (result - signal)^2), in float64; inf when equal, None when undefined."""
    import numpy as np

    signal = np.asarray(signal, np.float64)
    with np.errstate(invalid="ignore"):
        noise = np.asarray(result, np.float64) - signal
    power, error = float(np.sum(signal * signal)), float(np.sum(noise * noise))
    if not math.isfinite(power) or not math.isfinite(error):
        return None
    if error == 0.0:
        return math.inf
    return 10.0 * math.log10(power / error) if power > 0.0 else None


def _portable(value: Any) -> Any:
    """JSON has no NaN and no infinities: they become strings that Python's and NumPy's float() read."""
    if isinstance(value, dict):
        return {k: _portable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def to_json(report: Any) -> str:
    """JSON text of a report (anything with `to_dict`) or of plain data."""
    data = report.to_dict() if hasattr(report, "to_dict") else report
    return json.dumps(_portable(data), indent=2, allow_nan=False) + "\n"


def _count(value: int) -> str:
    return f"{value:,}" if value else "-"


def _ratio(a: float, b: float, form: str = ".2f", scale: float = 1.0) -> str:
    return format(scale * a / b, form) if a and b else "-"


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"


def _decibel(value: float | None) -> str:
    return "-" if value is None else "exact" if value == math.inf else f"{value:.1f}"


TAPPED_VALUES = 8
MOST_ROWS = 32
"""Rows of an output whose largest values are shown."""

_COLUMNS = (
    "layer",
    "operator",
    "output",
    "MACs",
    "cycles",
    "share\n%",
    "MAC/\ncycle",
    "% of\npeak",
    "bound",
    "cycles/\nbound",
    "load\nstall",
    "store\nstall",
    "CPU\ncycles",
    "max\nerror",
    "SQNR\ndB",
)


def _row(layer: LayerReport, run: RunReport) -> tuple[str, ...]:
    return (
        layer.name,
        layer.op,
        "x".join(map(str, layer.shape)),
        _count(layer.macs),
        _count(layer.cycles),
        _ratio(layer.cycles, run.total_cycles, ".1f", 100.0),
        _ratio(layer.macs, layer.cycles),
        _ratio(layer.macs, layer.cycles * run.peak, ".1f", 100.0),
        _count(layer.bound_cycles),
        _ratio(layer.cycles, layer.bound_cycles),
        _count(layer.load_stall_cycles),
        _count(layer.store_stall_cycles),
        _count(layer.cpu_cycles),
        _error(layer.max_abs_err),
        _decibel(layer.sqnr_db),
    )


def _total(run: RunReport) -> tuple[str, ...]:
    bound = sum(layer.bound_cycles for layer in run.layers)
    return (
        "total",
        "",
        _shapes(run),
        _count(run.macs),
        _count(run.total_cycles),
        "100.0",
        _ratio(run.macs, run.total_cycles),
        _ratio(run.macs, run.total_cycles * run.peak, ".1f", 100.0),
        _count(bound),
        _ratio(run.total_cycles, bound),
        _count(sum(layer.load_stall_cycles for layer in run.layers)),
        _count(sum(layer.store_stall_cycles for layer in run.layers)),
        _count(run.cpu_cycles),
        *((_error(run.first.max_abs_err), _decibel(run.first.sqnr_db)) if len(run.results) == 1 else ("", "")),
    )


def _shapes(run: RunReport) -> str:
    return ", ".join("x".join(map(str, result.shape)) for result in run.results)


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
                    f"output {number} ({result.layer}, {'x'.join(map(str, result.shape))}): max error "
                    f"{_error(result.max_abs_err)}, SQNR {_decibel(result.sqnr_db)} dB"
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
    result = Table(
        title=f"{run.network} on {where}{waits}",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for index, name in enumerate(_COLUMNS):
        result.add_column(name, justify="left" if index < 3 else "right", no_wrap=True)
    for layer in run.layers:
        result.add_row(*_row(layer, run))
    result.add_section()
    result.add_row(*_total(run), style="bold")
    source = run.import_check["source"] if run.import_check else "PyTorch"
    notes = [Text(f"errors are against {source} in FP32; cycles are the accelerator's counter", style="dim")]
    if run.import_check:
        notes.append(Text(run.import_check["text"], style="dim"))
    notes += [Text(warning, style="yellow") for warning in run.warnings]
    notes += _tap_notes(run) + _output_notes(run)
    verdict = (
        Text("every bit equals the model's", style="green")
        if run.bit_exact
        else Text("the device's output DIFFERS from the bit-exact model", style="bold red")
    )
    return Group(result, *notes, verdict)

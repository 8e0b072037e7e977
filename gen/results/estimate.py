# SPDX-License-Identifier: Apache-2.0
"""What an inference will take, as the cycle model says."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from gen.records import tables
from gen.records.result import Result
from gen.records.schema import COUNT, FLAG, LAYER, TEXT, Fields, Schema, each, record
from gen.records.tables import Column


@dataclass(frozen=True)
class LayerEstimate:
    """One layer; numbers mean what they mean in `gen.results.runs.run.LayerReport`. On the CPU all but `macs` and
    `cycles` are 0."""

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    on_cpu: bool
    cycles: int
    bound_cycles: int
    array_cycles: int
    bus_words: int
    load_stall_cycles: int
    store_stall_cycles: int


_ESTIMATE: Fields = {
    "network": (TEXT, "its name"),
    "geometry": (TEXT, "the accelerator, in words"),
    "peak": (COUNT, "multiply-accumulates per cycle at most; 0 where nobody knows"),
    "total_cycles": (COUNT, "of the inference: of all layers but those `left_out`, and those around them"),
    "cpu_cycles": (COUNT, "of these, what layers on the CPU take, by what its loops were measured to take"),
    "around_cycles": (COUNT, "of these, what starting the accelerator takes, and waking up"),
    "left_out": (each(TEXT), "layers whose cycles only a run measures"),
    "layers": (
        each(
            record(
                {
                    **LAYER,
                    "on_cpu": (FLAG, "whether the CPU computes it: all but `macs` and `cycles` are 0 then"),
                    "cycles": (COUNT, "from the end of the layer before it; 0 where it is `left_out`"),
                    "bound_cycles": (COUNT, "what array and bus allow: max(vectors, bus words / ports)"),
                    "array_cycles": (COUNT, "vectors that the array takes"),
                    "bus_words": (COUNT, "32-bit words that cross the bus"),
                    "load_stall_cycles": (COUNT, "in which the array waits for data"),
                    "store_stall_cycles": (COUNT, "in which the array waits for room to store"),
                }
            )
        ),
        "every layer, in the order of execution",
    ),
}
_LEFT = ("layer", "operator", Column("output", 2))
_RIGHT = (
    Column("MACs", 3),
    "cycles",
    Column("MAC/\ncycle", 5),
    Column("bound", 1),
    "cycles/\nbound",
    Column("load\nstall", 4),
    Column("store\nstall", 6),
)


@dataclass(frozen=True, repr=False)
class EstimateReport(Result):
    """A whole inference. `total_cycles` contain `cpu_cycles`, of layers on the CPU, and `around_cycles`, around the
    accelerator's work; they leave out the layers `left_out`, by name."""

    network: str
    geometry: str
    peak: int
    total_cycles: int
    layers: tuple[LayerEstimate, ...]
    cpu_cycles: int = 0
    around_cycles: int = 0
    left_out: tuple[str, ...] = ()

    schema = Schema("estimate", "Cycles of an inference, predicted", _ESTIMATE)

    def content(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> RenderableType:
        result = tables.table(f"{self.network} on {self.geometry}, predicted", _LEFT, _RIGHT)
        for e in self.layers:
            if e.cycles or e.on_cpu:
                result.add_row(
                    e.name,
                    e.op,
                    tables.shape(e.shape),
                    tables.count(e.macs),
                    "on the CPU" if e.name in self.left_out else tables.count(e.cycles),
                    tables.ratio(e.macs, e.cycles),
                    tables.count(e.bound_cycles),
                    tables.ratio(e.cycles, e.bound_cycles),
                    tables.count(e.load_stall_cycles),
                    tables.count(e.store_stall_cycles),
                )
        macs, bound = (sum(getattr(e, name) for e in self.layers) for name in ("macs", "bound_cycles"))
        result.add_section()
        result.add_row(
            "total",
            "",
            "",
            tables.count(macs),
            tables.count(self.total_cycles),
            tables.ratio(macs, self.total_cycles),
            tables.count(bound),
            tables.ratio(self.total_cycles, bound),
            style="bold",
        )
        parts = []
        if self.cpu_cycles:
            counted = sum(e.on_cpu and e.cycles > 0 for e in self.layers)
            parts.append(f"{self.cpu_cycles:,} cycles of layers on the CPU ({counted}), by what its loops take")
        if self.around_cycles:
            parts.append(f"{self.around_cycles:,} around the accelerator's work")
        notes = [Text(f"the total contains {' and '.join(parts)}", style="dim")] if parts else []
        if self.left_out:
            note = (
                f"the total leaves out {len(self.left_out)} of {len(self.layers)} layers, which run on the CPU; "
                f"heepgen run measures them: {', '.join(self.left_out)}"
            )
            notes.append(Text(note, style="yellow"))
        return Group(result, *notes)

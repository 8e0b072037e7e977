# SPDX-License-Identifier: Apache-2.0
"""What keeps layers from being faster, and what would help."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from firmware_gen.architectures.contract import WAITS
from firmware_gen.architectures.limits import LIMITS
from gen.records import tables
from gen.records.result import Result
from gen.records.schema import COUNT, LAYER, TEXT, Fields, Kind, Schema, each, maybe, named, record
from gen.records.tables import Column


@dataclass(frozen=True)
class LayerWhy:
    """One layer: what binds it, and the change that makes it fastest, None where none does."""

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    limit: str
    cycles: int
    limit_cycles: int
    vectors: int
    bus: int
    weights: int
    drain: int
    waits: Mapping[str, int]
    change: str | None
    changed_cycles: int | None


@dataclass(frozen=True)
class Trial:
    """A change with the cycles of the inference, and of its layers by name; None with the reason where it cannot be
    compiled."""

    change: str
    total_cycles: int | None
    layers: Mapping[str, int] = field(default_factory=dict)
    refused: str | None = None


LIMIT: Kind = {"enum": list(LIMITS)}
_WHY: Fields = {
    "network": (TEXT, "its name"),
    "geometry": (TEXT, "the accelerator, in words"),
    "total_cycles": (COUNT, "of the inference, predicted"),
    "bottleneck": (LIMIT, "the limit that binds for most of these"),
    "layers": (
        each(
            record(
                {
                    **LAYER,
                    "limit": (LIMIT, "; ".join(f"{name}: {meaning}" for name, meaning in LIMITS.items())),
                    "cycles": (COUNT, "from the end of the layer before it; 0 where nobody knows"),
                    "limit_cycles": (COUNT, "those that array, bus, drain and weights allow; 0 where nobody knows"),
                    "vectors": (COUNT, "cycles in which the array is busy"),
                    "bus": (COUNT, "cycles for which the ports are busy, or wait for a bank, at least"),
                    "weights": (COUNT, "cycles that weights take, over the ports or into the array"),
                    "drain": (COUNT, "cycles in which the epilogue's lanes are busy"),
                    "waits": (
                        named(COUNT),
                        "cycles in which the array has no vector, by what it waits for: "
                        + "; ".join(f"{name}: {meaning}" for name, meaning in WAITS.items()),
                    ),
                    "change": (maybe(TEXT), "that makes the layer fastest, one of `trials`; null where none does"),
                    "changed_cycles": (maybe(COUNT), "of the layer with that change"),
                }
            )
        ),
        "every layer, in the order of execution",
    ),
    "trials": (
        each(
            record(
                {
                    "change": (TEXT, "what is tried"),
                    "total_cycles": (maybe(COUNT), "of an inference with it, predicted"),
                    "layers": (named(COUNT), "cycles of every layer"),
                    "refused": (maybe(TEXT), "why it cannot be compiled"),
                }
            )
        ),
        "every change that was tried, alone",
    ),
}


def _most(layer: LayerWhy) -> str:
    """What a layer's array waits for most, of WAITS; "" where nobody knows, or it does not wait."""
    name = max(layer.waits, key=layer.waits.__getitem__, default="")
    return name if name and layer.waits[name] else ""


def _waits(layer: LayerWhy) -> str:
    name = _most(layer)
    return f"{name} {tables.count(layer.waits[name])}" if name else "-"


_RIGHT = ("cycles", Column("limit\nallows", 2), Column("times\nlimit", 1))


@dataclass(frozen=True, repr=False)
class WhyReport(Result):
    """A whole inference."""

    network: str
    geometry: str
    total_cycles: int
    bottleneck: str
    layers: tuple[LayerWhy, ...]
    trials: tuple[Trial, ...]

    schema = Schema("why", "What binds every layer, and what would help", _WHY)

    def content(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> RenderableType:
        title = f"{self.network} on {self.geometry}, predicted"
        layers = tables.table(
            title,
            ("layer", Column("operator", 3), "limit", Column("waits most for", 1), "best change"),
            (*_RIGHT, "cycles\nwith it"),
        )
        for layer in self.layers:
            if layer.cycles or layer.limit == "cpu":
                layers.add_row(
                    layer.name,
                    layer.op,
                    layer.limit,
                    _waits(layer),
                    layer.change or "-",
                    tables.count(layer.cycles),
                    tables.count(layer.limit_cycles),
                    tables.ratio(layer.cycles, layer.limit_cycles),
                    tables.count(layer.changed_cycles or 0),
                )
        layers.add_section()
        layers.add_row("total", "", self.bottleneck, "", "", tables.count(self.total_cycles), style="bold")
        trials = tables.table("Each change alone", ("change",), ("cycles", "saved\n%"))
        done = [trial for trial in self.trials if trial.total_cycles is not None]
        for trial in sorted(done, key=lambda trial: trial.total_cycles or 0):
            saved = 100 * (1 - (trial.total_cycles or 0) / self.total_cycles) if self.total_cycles else 0
            trials.add_row(trial.change, tables.count(trial.total_cycles or 0), f"{saved:.1f}")
        met = dict.fromkeys(layer.limit for layer in self.layers if layer.cycles or layer.limit == "cpu")
        notes = [f"{name}: {LIMITS[name]}" for name in met]
        if any(0 < layer.cycles < layer.limit_cycles for layer in self.layers):
            notes.append("times limit below 1: weights, or what else binds, come while the layer before is at work")
        waited = {_most(layer) for layer in self.layers} & WAITS.keys()
        notes += [f"waits for {name}: {WAITS[name]}" for name in sorted(waited)]
        notes += [f"{trial.change} is not possible: {trial.refused}" for trial in self.trials if trial.refused]
        return Group(layers, trials, Text("\n".join(notes), style="dim"))

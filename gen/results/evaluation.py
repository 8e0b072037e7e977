# SPDX-License-Identifier: Apache-2.0
"""What INT8 weights cost on a data set."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from firmware_gen.models.metrics import decibels
from gen.records import tables
from gen.records.result import Result
from gen.records.schema import COUNT, NUMBER, TEXT, Fields, Schema, each, maybe, named, record
from gen.records.tables import Table
from gen.results.runs.run import IMPORT_CHECK, alignment_warnings

MODELS = ("FP32", "fake-quantised", "bit-exact")
TAPPED = 64
"""Inputs from which the ratios of layers are taken."""


@dataclass(frozen=True)
class LayerQuality:
    """Signal-to-quantisation-noise ratios in dB. weights: of the whole layer, and of its worst channel, None without
    weights. fake_quantised, bit_exact: of the output, against FP32. alignment_loss: see LayerReport."""

    name: str
    op: str
    weights: float | None
    worst_channel: float | None
    fake_quantised: float
    bit_exact: float
    alignment_loss: float | None


_EVAL: Fields = {
    "network": (TEXT, "its name"),
    "geometry": (TEXT, "the accelerator, in words"),
    "samples": (COUNT, "inputs that were evaluated"),
    "device": (TEXT, "where PyTorch ran"),
    "metric": (maybe(TEXT), "accuracy or AUC; null without labels"),
    "scores": (named(NUMBER), f"the metric, 0 to 1, of {', '.join(MODELS)}"),
    "agreement": (maybe(named(NUMBER)), "how often two of them choose the same class; null without classes"),
    "largest_error": (NUMBER, "of a bit-exact output against the fake-quantised one, in units of its largest output"),
    "layers": (
        each(
            record(
                {
                    "name": (TEXT, "as in the model"),
                    "op": (TEXT, "its operator"),
                    "weights": (maybe(NUMBER), "signal to noise of the INT8 weights, in dB; null without weights"),
                    "worst_channel": (maybe(NUMBER), "the same of the worst channel"),
                    "fake_quantised": (NUMBER, "signal to noise of the output against FP32, in dB"),
                    "bit_exact": (NUMBER, "the same of the bit-exact output"),
                    "alignment_loss": (maybe(NUMBER), "what `aligned` arithmetic takes of a channel's largest output"),
                }
            )
        ),
        "every layer that computes",
    ),
    "worst_channels": (
        each({"type": "array", "prefixItems": [TEXT, COUNT, NUMBER], "items": False}),
        "layer, channel and dB of the weights that lose most",
    ),
    "import_check": (IMPORT_CHECK, "how the import compares with the model's own program"),
    "warnings": (each(TEXT), "a sentence for every layer that loses what matters"),
}


@dataclass(frozen=True, repr=False)
class EvalReport(Result):
    """`metric` is "accuracy" or "AUC", None without labels, and `scores` (0 to 1) has it for every one of MODELS.
    `agreement` has, for pairs of them, how often they choose the same class; None where there are no classes.
    `largest_error` is that of a bit-exact output against the fake-quantised one, in units of its largest output.
    `import_check` says how the import compares with the model's program (`verify.Check`)."""

    network: str
    geometry: str
    samples: int
    device: str
    metric: str | None
    scores: dict[str, float]
    agreement: dict[str, float] | None
    largest_error: float
    layers: tuple[LayerQuality, ...]
    worst_channels: tuple[tuple[str, int, float], ...]
    import_check: dict[str, Any]

    schema = Schema("eval", "What INT8 weights cost on a data set", _EVAL)

    @property
    def warnings(self) -> list[str]:
        return alignment_warnings({layer.name: layer.alignment_loss for layer in self.layers})

    def content(self) -> dict[str, Any]:
        return asdict(self) | {"warnings": self.warnings}

    def table(self) -> RenderableType:
        note = Text(
            f"layers: dB against FP32 on up to {TAPPED} inputs; largest difference between bit-exact and "
            f"fake-quantised outputs: {self.largest_error:.1e} of the largest output",
            style="dim",
        )
        check = Text(self.import_check["text"], style="dim")
        warnings = [Text(warning, style="yellow") for warning in self.warnings]
        return Group(self._scores(), self._layers(), self._channels(), note, check, *warnings)

    def _scores(self) -> Table:
        title = f"{self.network} for {self.geometry}: {self.samples:,} inputs"
        table = tables.table(title, ["model"], [*([self.metric] if self.metric else []), *self._others()])
        for model in MODELS:
            score = [f"{self.scores[model]:.4f}"] if self.metric else []
            table.add_row(model, *score, *(self._agreement(model, other) for other in self._others()))
        return table

    def _others(self) -> list[str]:
        return [f"agrees with\n{model}" for model in MODELS[:2]] if self.agreement else []

    def _agreement(self, model: str, heading: str) -> str:
        value = (self.agreement or {}).get(f"{heading.partition(chr(10))[2]}, {model}")
        return "" if value is None else f"{100 * value:.2f} %"

    def _layers(self) -> Table:
        table = tables.table(
            "", ["layer", "operator"], ["weights", "worst\nchannel", "output,\nfake-quantised", "output,\nbit-exact"]
        )
        for layer in self.layers:
            values = (layer.weights, layer.worst_channel, layer.fake_quantised, layer.bit_exact)
            table.add_row(layer.name, layer.op, *("-" if v is None else decibels(v) for v in values))
        return table

    def _channels(self) -> Table:
        table = tables.table("worst channels of weights", ["layer"], ["channel", "ratio"])
        for name, channel, ratio in self.worst_channels:
            table.add_row(name, str(channel), decibels(ratio))
        return table

# SPDX-License-Identifier: Apache-2.0
"""What one inference on the virtual SoC measured."""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType

from gen.records.result import Result
from gen.records.schema import COUNT, FLAG, LAYER, NUMBER, SHAPE, TEXT, Fields, Kind, Schema, each, maybe, named, record
from gen.results.runs.design import DESIGN
from hls.lib.probe import KINDS

if TYPE_CHECKING:
    import numpy as np


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

    @property
    def array(self) -> "np.ndarray":
        """float32 in `shape`."""
        import numpy as np

        return np.array(self.values, np.float32).reshape(self.shape)

    def content(self) -> dict[str, Any]:
        return asdict(self) | {"predictions": self.predictions}


IMPORT_CHECK: Kind = record(
    {
        "source": (TEXT, "what the model was compared with, such as PyTorch"),
        "inputs": (COUNT, "inputs that were tried"),
        "tensors": (COUNT, "tensors that were compared"),
        "largest": (NUMBER, "largest difference of a tensor, relative to the largest number in it"),
        "text": (TEXT, "the same as a sentence"),
    }
)
"""How the import compares with the model's own program."""
_LAYER: Fields = {
    **LAYER,
    "cycles": (COUNT, "of the accelerator's clock, from the end of the layer before it"),
    "bound_cycles": (COUNT, "what array and bus allow: max(vectors, bus words / ports); 0 on the CPU"),
    "bus_words": (COUNT, "32-bit words that crossed the bus"),
    "array_cycles": (COUNT, "vectors that the array took"),
    "load_stall_cycles": (COUNT, "in which the array waited for data"),
    "store_stall_cycles": (COUNT, "in which the array waited for room to store"),
    "cpu_cycles": (COUNT, "spent on the CPU"),
    "lanes_lost": (COUNT, "activations that `aligned` arithmetic rounded to zero beside larger ones"),
    "lanes_lossy": (COUNT, "activations that lost bits so"),
    "max_abs_err": (maybe(NUMBER), "largest difference from PyTorch in FP32"),
    "sqnr_db": (maybe(NUMBER), "signal to noise against PyTorch in FP32, in dB"),
    "alignment_loss": (maybe(NUMBER), "what `aligned` arithmetic takes, as a share of a channel's largest output"),
}
_VALUES = each(NUMBER)
_ROWS = each(COUNT)
_QUALITY: Fields = {
    "reference": (maybe(_VALUES), "what PyTorch gives in FP32, in the same order"),
    "bit_exact": (FLAG, "whether every bit is the bit-exact model's"),
    "max_abs_err": (maybe(NUMBER), "largest difference from `reference`"),
    "sqnr_db": (maybe(NUMBER), "signal to noise against `reference`, in dB"),
    "predictions": (
        maybe({"type": "array", "prefixItems": [_ROWS, _ROWS], "items": False}),
        "index of the largest value of every row: the device's, PyTorch's; null where there are no classes",
    ),
}
TIMELINE: Kind = record(
    {
        "end": (COUNT, "cycles since reset until which it goes"),
        "complete": (FLAG, "whether that is all of the run"),
        "tracks": (
            each(
                record(
                    {
                        "name": (TEXT, "of the engine, or what its slices are"),
                        "group": (TEXT, "of tracks: network, accelerator, bus or CPU"),
                        "grid": (COUNT, "more than 1: slices that begin in the same so many cycles are put together"),
                        "slices": (
                            each(
                                {
                                    "type": "array",
                                    "prefixItems": [COUNT, COUNT, TEXT, {"enum": list(KINDS)}, maybe(TEXT)],
                                    "items": False,
                                }
                            ),
                            "first cycle, the one behind the last, state, its kind, layer; in order",
                        ),
                    }
                )
            ),
            "what does one thing at a time, as in docs/reports.md",
        ),
        "stacks": (
            each({"type": "array", "prefixItems": [TEXT, TEXT, {"enum": list(KINDS)}, COUNT], "items": False}),
            "where the cycles went: layer, what was going on in it, kind of that, cycles",
        ),
    },
    optional={"stacks"},
)
_RUN: Fields = {
    "network": (TEXT, "its name"),
    "geometry": (TEXT, "the accelerator, in words"),
    "peak": (COUNT, "multiply-accumulates per cycle at most; 0 where nobody knows"),
    "total_cycles": (COUNT, "from the call of the model to its return"),
    "layers": (each(record(_LAYER)), "every layer, in the order of execution"),
    "uart": (TEXT, "what the firmware printed"),
    "software": (FLAG, "whether the CPU computed everything"),
    "wait_states": (COUNT, "cycles that the memory let every access wait"),
    "import_check": (maybe(IMPORT_CHECK), "how the import compares with the model's own program"),
    "exit_code": ({"type": "integer"}, "what the program's main returned"),
    "soc_cycles": (COUNT, "of the simulation, from reset to exit"),
    "seconds": (NUMBER, "that the simulation took"),
    "taps": (named(_VALUES), "values of the layers that --tap names, flat, in PyTorch's order"),
    "outputs": (_VALUES, "values of the first output, flat, in PyTorch's order"),
    "output_shape": (SHAPE, "of the first output"),
    "output_layer": (TEXT, "that computes the first output"),
    **_QUALITY,
    "bit_exact": (FLAG, "whether every bit of every output is the bit-exact model's"),
    "further_outputs": (
        each(
            record(
                {
                    "layer": (TEXT, "that computes it"),
                    "shape": (SHAPE, "of it"),
                    "values": (_VALUES, "flat, in PyTorch's order"),
                    **_QUALITY,
                }
            )
        ),
        "the outputs behind the first",
    ),
    "macs": (COUNT, "multiply-accumulates of all layers"),
    "cpu_cycles": (COUNT, "in which no layer ran on the accelerator"),
    "timeline": (maybe(TIMELINE), "with --trace: what every engine, port and the CPU was at; null without"),
    "design": (maybe(DESIGN), "what ran: configuration, graph, memory plan; null in a result that was made by hand"),
    "warnings": (each(TEXT), "a sentence for every layer that loses what matters"),
}


@dataclass(frozen=True, repr=False)
class RunReport(Result):
    """One inference: `total_cycles` from the call of the model to its return, printing excluded.

    `results` are what the network returns, in its order. `peak` is the MACs the array can do per cycle. The simulation
    took `seconds` for `soc_cycles`, from reset to exit. `import_check` says how the import compares with the model's
    program (`verify.Check`), None where the application's folder does not know. `timeline` is what `Timeline.to_dict`
    says of a run with a trace, `design` what `gen.results.runs.design` says of the application.
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
    timeline: dict[str, Any] | None = None
    exit_code: int = 0
    design: dict[str, Any] | None = None

    schema = Schema("run", "One inference on the virtual SoC", _RUN)

    @property
    def first(self) -> OutputReport:
        """The first output, of most networks the only one."""
        return self.results[0]

    @property
    def outputs(self) -> tuple["np.ndarray", ...]:
        """What the network returned, float32 in PyTorch's shapes and order."""
        return tuple(result.array for result in self.results)

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

    def content(self) -> dict[str, Any]:
        """What describes the first output stands beside the rest; the others are `further_outputs`."""
        first, *further = [result.content() for result in self.results]
        own = {"outputs": first.pop("values"), "output_shape": first.pop("shape"), "output_layer": first.pop("layer")}
        run = asdict(self)
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

    def table(self) -> RenderableType:
        from gen.results.runs.run_table import table

        return table(self)


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

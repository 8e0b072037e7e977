# SPDX-License-Identifier: Apache-2.0
"""What inferences one after the other on the virtual SoC measured, the network's state kept."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from gen.records import tables
from gen.records.result import Result
from gen.records.schema import COUNT, FLAG, NUMBER, SHAPE, TEXT, Fields, Schema, each, maybe, record
from gen.records.tables import Column

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class StepReport:
    """One inference. `outputs` are flat, in PyTorch's order, as the errors against PyTorch in FP32, which keeps a state
    of its own, are over all of them."""

    cycles: int
    bit_exact: bool
    outputs: tuple[list[float], ...]
    max_abs_err: float | None
    sqnr_db: float | None


_STEPS: Fields = {
    "network": (TEXT, "its name"),
    "geometry": (TEXT, "of the accelerator, in words"),
    "software": (FLAG, "whether the CPU alone computed it"),
    "wait_states": (COUNT, "cycles that every access to memory waited"),
    "states": (
        each(record({"name": (TEXT, "as in the model"), "shape": (SHAPE, "of the tensor")})),
        "what the network keeps from one inference to the next",
    ),
    "output_shapes": (each(SHAPE), "of every output"),
    "steps": (
        each(
            record(
                {
                    "cycles": (COUNT, "of the accelerator's clock, from the call of the model to its return"),
                    "bit_exact": (FLAG, "whether every bit of every output is the bit-exact model's"),
                    "outputs": (each(each(NUMBER)), "of the network, in PyTorch's order"),
                    "max_abs_err": (maybe(NUMBER), "largest difference from PyTorch in FP32"),
                    "sqnr_db": (maybe(NUMBER), "signal to noise against PyTorch in FP32, in dB"),
                }
            )
        ),
        "one inference after the other",
    ),
    "bit_exact": (FLAG, "whether every step is"),
    "most_cycles": (COUNT, "of a step"),
    "soc_cycles": (COUNT, "simulated, from reset to exit"),
    "seconds": (NUMBER, "that the simulation took"),
}


@dataclass(frozen=True, repr=False)
class StepsReport(Result):
    """Inferences one after the other, from the state that the network has before the first one."""

    network: str
    geometry: str
    software: bool
    wait_states: int
    states: tuple[dict[str, Any], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    steps: tuple[StepReport, ...]
    soc_cycles: int = 0
    seconds: float = 0.0

    schema = Schema("steps", "Inferences one after the other on the virtual SoC", _STEPS, call="heepgen run --steps N")

    @property
    def bit_exact(self) -> bool:
        """Whether every bit of every output of every step is the model's."""
        return all(step.bit_exact for step in self.steps)

    @property
    def most_cycles(self) -> int:
        """Of the slowest step."""
        return max(step.cycles for step in self.steps)

    @property
    def exit_code(self) -> int:
        """Of the program; a run that fails has no report."""
        return 0

    @property
    def uart(self) -> str:
        """Its program prints nothing."""
        return ""

    @property
    def outputs(self) -> tuple["np.ndarray", ...]:
        """What the network returned, float32 (steps, ...), in PyTorch's order."""
        import numpy as np

        return tuple(
            np.array([step.outputs[i] for step in self.steps], np.float32).reshape(len(self.steps), *shape)
            for i, shape in enumerate(self.output_shapes)
        )

    def content(self) -> dict[str, Any]:
        return asdict(self) | {"bit_exact": self.bit_exact, "most_cycles": self.most_cycles}

    def table(self) -> RenderableType:
        where = "CPU only" if self.software else self.geometry
        waits = f", {self.wait_states} wait states" if self.wait_states else ""
        right = ("cycles", Column("max\nerror"), "SQNR\ndB", Column("bits", 1))
        result = tables.table(f"{self.network} on {where}{waits}, step by step", ("step",), right)
        for number, step in enumerate(self.steps):
            bits = "equal" if step.bit_exact else "DIFFER"
            result.add_row(
                str(number),
                tables.count(step.cycles),
                tables.error(step.max_abs_err),
                tables.decibel(step.sqnr_db),
                bits,
                style="" if step.bit_exact else "bold red",
            )
        kept = ", ".join(f"{s['name']} ({tables.shape(s['shape'])})" for s in self.states) or "nothing"
        notes = [
            Text(f"kept from step to step: {kept}", style="dim"),
            Text("errors are against PyTorch in FP32, which keeps its own state", style="dim"),
            Text("every bit equals the model's", style="green")
            if self.bit_exact
            else Text("the device's output DIFFERS from the bit-exact model", style="bold red"),
        ]
        return Group(result, *notes)

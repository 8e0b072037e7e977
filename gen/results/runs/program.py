# SPDX-License-Identifier: Apache-2.0
"""A run of a program whose outputs are its own matter."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from gen.records.result import Result
from gen.records.schema import COUNT, FLAG, NUMBER, TEXT, Schema


@dataclass(frozen=True, repr=False)
class ProgramReport(Result):
    """A program that ended, with nothing to compare: it never called `model_check`."""

    network: str
    geometry: str
    exit_code: int
    uart: str
    software: bool
    wait_states: int
    soc_cycles: int
    seconds: float

    schema = Schema(
        "program",
        "A run of a user's own program, which compares nothing",
        {
            "network": (TEXT, "of the application"),
            "geometry": (TEXT, "the accelerator, in words"),
            "exit_code": ({"type": "integer"}, "what main returned"),
            "uart": (TEXT, "what the program printed"),
            "software": (FLAG, "whether the CPU computed everything"),
            "wait_states": (COUNT, "cycles that the memory let every access wait"),
            "soc_cycles": (COUNT, "of the simulation, from reset to exit"),
            "seconds": (NUMBER, "that the simulation took"),
        },
        call="heepgen run --source FILE",
    )

    def content(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> RenderableType:
        return Text(
            f"{self.network} on {self.geometry}: the program ended with exit status {self.exit_code} after "
            f"{self.soc_cycles:,} cycles\n"
            "no output was compared: the program did not call model_check (gen/check.hpp) after a run on the sample"
        )

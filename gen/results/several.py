# SPDX-License-Identifier: Apache-2.0
"""What was found of several networks in one program: what a command finds of each, and what is theirs together."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from gen.records.result import Result
from gen.records.schema import COUNT, FLAG, NUMBER, TEXT, Fields, Kind, Schema, each, maybe, record
from gen.results.estimate import EstimateReport
from gen.results.firmware import SwReport
from gen.results.runs.run import TIMELINE, RunReport


def _each(kind: type[Result]) -> Fields:
    fields, optional = kind.schema.fields, kind.schema.optional
    every: Kind = each(record(fields, optional))
    return {"networks": (every, f"in the order in which they were named, each as `{kind.schema.identifier}` says")}


_MEMORY: Fields = {
    "total_bytes": (COUNT, "of RAM"),
    "constant_bytes": (COUNT, "weights, parameters and descriptors of all networks"),
    "arena_bytes": (COUNT, "the largest network's activations, in whose place those of the others lie"),
    "program_bytes": (COUNT, "kept for the program, with samples and what their outputs must be"),
}


@dataclass(frozen=True, repr=False)
class SwReports(Result):
    """The firmware of several networks in one program."""

    networks: tuple[SwReport, ...]

    schema = Schema(
        "sw-several",
        "The firmware of several networks in one program",
        {**_each(SwReport), "memory": (record(_MEMORY), "of all")},
        call="heepgen sw MODEL MODEL",
    )

    @property
    def memory(self) -> dict[str, int]:
        """Bytes that they take together."""
        plans = [network.memory for network in self.networks]
        return {
            "total_bytes": plans[0]["total_bytes"],
            "constant_bytes": sum(plan["constant_bytes"] for plan in plans),
            "arena_bytes": max(plan["arena_bytes"] for plan in plans),
            "program_bytes": plans[0]["program_bytes"],
        }

    def content(self) -> dict[str, Any]:
        return {"networks": [network.content() for network in self.networks], "memory": self.memory}

    def table(self) -> RenderableType:
        memory = self.memory
        text = (
            f"memory of all: {memory['constant_bytes']:,} bytes of constants, {memory['arena_bytes']:,} of one arena, "
            f"{memory['program_bytes']:,} kept for the program; {memory['total_bytes']:,} of RAM"
        )
        return Group(*(network.table() for network in self.networks), Text(text))


@dataclass(frozen=True, repr=False)
class EstimateReports(Result):
    """What an inference of every network in one program will take."""

    networks: tuple[EstimateReport, ...]

    schema = Schema(
        "estimate-several",
        "Cycles of several networks in one program, predicted",
        _each(EstimateReport),
        call="heepgen estimate APP of several networks",
    )

    def content(self) -> dict[str, Any]:
        return {"networks": [network.content() for network in self.networks]}

    def table(self) -> RenderableType:
        return Group(*(network.table() for network in self.networks))


@dataclass(frozen=True, repr=False)
class RunReports(Result):
    """One inference of every network that the program checked, one after the other in one simulation; `missing` are the
    names of the others."""

    networks: tuple[RunReport, ...]
    missing: tuple[str, ...] = ()
    uart: str = ""
    exit_code: int = 0
    soc_cycles: int = 0
    seconds: float = 0.0
    timeline: dict[str, Any] | None = field(default=None)

    schema = Schema(
        "run-several",
        "One inference of several networks in one program on the virtual SoC",
        {
            **_each(RunReport),
            "missing": (each(TEXT), "networks whose outputs the program did not leave to be compared"),
            "bit_exact": (FLAG, "whether every bit of every output is the bit-exact model's"),
            "uart": (TEXT, "what the firmware printed"),
            "exit_code": ({"type": "integer"}, "what the program's main returned"),
            "soc_cycles": (COUNT, "of the simulation, from reset to exit"),
            "seconds": (NUMBER, "that the simulation took"),
            "timeline": (maybe(TIMELINE), "with --trace: what every engine, port and the CPU was at; null without"),
        },
        call="heepgen run APP of several networks",
    )

    @property
    def bit_exact(self) -> bool:
        """Whether every bit of every output is the model's."""
        return all(network.bit_exact for network in self.networks)

    def content(self) -> dict[str, Any]:
        own = {name: value for name, value in vars(self).items() if name in self.schema.fields}
        return own | {"networks": [network.content() for network in self.networks], "bit_exact": self.bit_exact}

    def table(self) -> RenderableType:
        tables = [network.table() for network in self.networks]
        if self.missing:
            note = f"no output of {', '.join(self.missing)} was compared: the program did not call its model_check"
            tables.append(Text(note, style="yellow"))
        return Group(*tables)

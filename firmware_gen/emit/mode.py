# SPDX-License-Identifier: Apache-2.0
"""A network computed in one way, as C++ knows it: its constants, symbols and sections."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from firmware_gen.emit.literals import array_values, identifier, identifiers
from firmware_gen.memory.network import Network
from firmware_gen.memory.planner import Placed

WEIGHT_SECTIONS = {True: ".heepgen_weights_low", False: ".heepgen_weights"}
"""Of constants, by `Network.is_low`."""
ARENA_SECTION = ".heepgen_arena"
ARENA, TIMING, WEIGHTS, RESULT = "heepgen_arena", "heepgen_timing", "heepgen_weights", "heepgen_result"
KEPT = "heepgen_kept"
"""C symbols; the network's name follows, since a program may hold several."""


@dataclass(frozen=True)
class Mode:
    """A network as one of two programs: on the accelerator, or of plain kernels.

    constants: by name, where `placed` says; comments: by their names. expected: the bits of its outputs. type: of the
    structs that hold the constants.
    """

    network: Network
    constants: Mapping[str, np.ndarray]
    placed: Sequence[Placed]
    arena_address: int
    outputs: Iterable[np.ndarray]
    type: str
    defines: Mapping[str, int] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def expected(self) -> np.ndarray:
        """All outputs, one after the other, as they lie in memory, as uint32."""
        pairs = zip(self.network.outputs, self.outputs, strict=True)
        return np.concatenate([tensor.stored(output) for tensor, output in pairs]).view(np.uint32)

    @cached_property
    def sections(self) -> list[dict[str, Any]]:
        """Structs of constants: one per side of the border between contiguous and interleaved banks."""
        return _sections(self)

    def places(self) -> dict[str, str]:
        """C++ expression of every constant, by name."""
        names = identifiers(self.constants)
        symbols = {item["name"]: section["symbol"] for section in self.sections for item in section["arrays"]}
        return {name: f"{symbols[own]}.{own}" for name, own in names.items()}


@dataclass(frozen=True)
class Half:
    """The accelerator's half of a program: the template of its part of model.cpp with what that needs; the header that
    declares its status; the runtime's files; what the manifest says of mode, layers and profile; further headers.
    around: predicted cycles around the layers, None where they are not known. short: an inference may take a few
    hundred cycles, of which a call to read the counter would be some."""

    template: str
    context: dict[str, Any]
    header: str
    runtime: Mapping[str, str]
    layers: Sequence[dict[str, Any]]
    profile: dict[str, Any]
    mode: dict[str, Any] = field(default_factory=dict)
    includes: Sequence[str] = ()
    around: int | None = None
    short: bool = False


def namespace(network: Network) -> str:
    """C++ namespace of a network's model."""
    return f"net_{identifier(network.graph.name)}"


_C_TYPES = {"uint32": "uint32_t", "int8": "int8_t", "float32": "float"}


def _sections(mode: Mode) -> list[dict[str, Any]]:
    constants, names = mode.constants, identifiers(mode.constants)
    sections = []
    for low, name in WEIGHT_SECTIONS.items():
        part = [p for p in mode.placed if mode.network.is_low(p) == low]
        if not part:
            continue
        suffix = "Low" if low else ""
        items = [
            {
                "name": names[p.name],
                "type": _C_TYPES[str(constants[p.name].dtype)],
                "count": constants[p.name].size,
                "offset": p.address - part[0].address,
                "elements": array_values(constants[p.name]),
                "comment": mode.comments.get(p.name, p.name),
            }
            for p in part
        ]
        sections.append(
            {
                "name": name,
                "type": f"{mode.type}{suffix}",
                "symbol": f"{WEIGHTS}{suffix.lower()}_{identifier(mode.network.graph.name)}",
                "arrays": items,
                "address": part[0].address,
                "low": low,
                "comment": f"Constants at {part[0].address:#x}.",
            }
        )
    return sections


def arena_symbol(network: Network) -> str:
    """C symbol of a network's arena."""
    return f"{ARENA}_{identifier(network.graph.name)}"

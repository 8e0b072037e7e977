# SPDX-License-Identifier: Apache-2.0
"""A network whose layers and tensors have their places: what every target makes of a graph."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from firmware_gen import ir
from firmware_gen.frozen import freeze
from firmware_gen.memory import planner
from firmware_gen.operations.tensors import Tensor
from hls.config import System


@dataclass(frozen=True)
class Layer:
    """A node of the graph on the device."""

    node: ir.Node
    op: str
    in_shape: ir.Shape
    out_shape: ir.Shape
    macs: int
    sources: tuple[Tensor, ...]
    target: Tensor

    @property
    def name(self) -> str:
        return self.node.name

    @property
    def on_cpu(self) -> bool:
        """Whether an operator of the CPU computes it, whatever the target."""
        return self.node.runs_on is ir.Place.CPU


@dataclass(frozen=True)
class Network:
    """Tensors in an arena; `offsets` are of its storages, in bytes."""

    graph: ir.Graph
    config: System
    tensors: Mapping[str, Tensor]
    arena_address: int
    arena_bytes: int
    offsets: Mapping[str, int]
    report: planner.MemoryReport
    keeps_input: bool
    layers: tuple[Layer, ...] = field(repr=False)

    def __post_init__(self) -> None:
        freeze(self, "tensors", "offsets")

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the network takes, in order, each contiguous, in PyTorch's order or with its channels last."""
        return tuple(self.tensors[value] for value in self.graph.arguments)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What the network returns, in order, each contiguous, in PyTorch's order or with its channels last; two may be
        the same."""
        return tuple(self.tensors[value] for value in self.graph.results)

    def tensor_address(self, value: str) -> int:
        """Absolute byte address of a value; it may have been overwritten when the network ends."""
        tensor = self.tensors[value]
        return self.arena_address + self.offsets[tensor.storage] + 4 * tensor.offset

    def words(self, value: str) -> np.ndarray:
        """Word of the memory of every element of a value, in its shape."""
        tensor = self.tensors[value]
        return (self.arena_address + self.offsets[tensor.storage]) // 4 + tensor.words()

    def demand(self) -> planner.Demand:
        """What it needs in a program with others."""
        sizes = tuple((constant["name"], constant["size"]) for constant in self.report.constants)
        return planner.Demand(self.graph.name, sizes, self.arena_bytes)

    def report_at(self, share: planner.Share) -> planner.MemoryReport:
        """Its report where constants and arena lie there."""
        moved = share.arena_address - self.arena_address
        return replace(
            self.report,
            program_bytes=share.program,
            banks_needed=share.banks_needed,
            buffers=tuple(b | {"address": b["address"] + moved} for b in self.report.buffers),
            constants=tuple(map(asdict, share.constants)),
        )

    def is_low(self, placed: planner.Placed) -> bool:
        """Whether a constant lies in the contiguous banks."""
        return placed.address < planner.memory_map(self.config)[0]

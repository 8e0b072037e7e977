# SPDX-License-Identifier: Apache-2.0
"""What a datasheet is about: an exploration, and its recommended design with the networks on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from firmware_gen.architectures.contract import LayerCycles, Target
from firmware_gen.architectures.limits import Limit, limit_of
from firmware_gen.architectures.registry import architecture_of
from firmware_gen.memory.planner import MemoryReport
from gen.datasheet.axes import Axis, known
from gen.datasheet.boards import Board
from gen.datasheet.path import Path, path_to
from gen.explore.point import Point
from gen.ppa.energy.model import Work
from hls.config import System


@dataclass(frozen=True)
class Layer:
    """Of a network. cycles: what the cycle model says of it, None where the architecture does not say."""

    name: str
    op: str
    shape: tuple[int, ...]
    macs: int
    cycles: LayerCycles | None

    @property
    def limit(self) -> Limit | None:
        return limit_of(self.cycles) if self.cycles and self.cycles.cycles else None


@dataclass(frozen=True)
class Network:
    """A model on the recommended design. around: cycles around its layers; memory: the plan. inputs, outputs: address
    and shape of each."""

    name: str
    layers: tuple[Layer, ...]
    around: int
    memory: MemoryReport
    inputs: tuple[tuple[int, tuple[int, ...]], ...]
    outputs: tuple[tuple[int, tuple[int, ...]], ...]

    @classmethod
    def of(cls, target: Target, program: Any) -> Self:
        """Of a program that `target` compiled; raises `HeepgenError` where the architecture predicts nothing."""
        placed, prediction = target.network(program), target.predict(program)
        graph = placed.graph
        return cls(
            graph.name,
            tuple(
                Layer(layer.name, layer.op, tuple(layer.out_shape), layer.macs, own)
                for layer, own in zip(placed.layers, prediction.layers, strict=True)
            ),
            prediction.around,
            placed.report,
            *(
                tuple((placed.tensor_address(value), tuple(placed.tensors[value].shape)) for value in values)
                for values in (graph.arguments, graph.results)
            ),
        )

    @property
    def total(self) -> int:
        """Cycles of an inference."""
        return sum(layer.cycles.cycles for layer in self.layers if layer.cycles) + self.around

    @property
    def work(self) -> Work:
        """What takes energy in an inference."""
        known = [layer.cycles for layer in self.layers if layer.cycles]
        return Work.of([*known, LayerCycles(self.around, on_cpu=True)])


@dataclass(frozen=True)
class Subject:
    """An exploration. points: all that were judged; front: those that nothing beats on every axis; recommended: one of
    them, of configuration `config`. limits: the most that a design may have, by axis. energy: uJ of an inference by
    part of the system, of the recommended design; empty where it is not known. weights: of the networks in `cycles`,
    None where the slowest one counts. stages: how many designs each one judged."""

    points: Sequence[Point]
    front: Sequence[Point]
    recommended: Point
    config: System
    networks: Sequence[Network]
    limits: Mapping[str, float] = field(default_factory=dict)
    board: Board | None = None
    energy: Mapping[str, float] = field(default_factory=dict)
    weights: Sequence[float] | None = None
    stages: Mapping[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return " + ".join(network.name for network in self.networks)

    @property
    def design(self) -> str:
        """The recommended design in words."""
        return architecture_of(self.config).described(self.config)

    @cached_property
    def path(self) -> Path:
        return path_to(self.recommended, self.points, self.limits)

    @cached_property
    def axes(self) -> list[Axis]:
        """The axes on which anything is known."""
        return known(self.points)

# SPDX-License-Identifier: Apache-2.0
"""What a datasheet is about: an exploration, and its recommended design with the networks on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from firmware_gen.architectures.registry import architecture_of
from gen.datasheet.axes import Axis, known
from gen.datasheet.boards import Board
from gen.datasheet.path import Path, path_to
from gen.explore.point import Point
from gen.results.estimate import EstimateReport
from hls.config import System


@dataclass(frozen=True)
class Network:
    """A model on the recommended design: `estimate` by layer, and `memory`, the plan as in `heepgen sw --json`."""

    estimate: EstimateReport
    memory: Mapping[str, Any]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]

    @property
    def name(self) -> str:
        return self.estimate.network


@dataclass(frozen=True)
class Subject:
    """An exploration. points: all that were judged; front: those that nothing beats on every axis; recommended: one of
    them, of configuration `config`. limits: the most that a design may have, by axis. energy: uJ of an inference by
    part of the system, of the recommended design; empty where it is not known. command: what made all this."""

    points: Sequence[Point]
    front: Sequence[Point]
    recommended: Point
    config: System
    networks: Sequence[Network]
    limits: Mapping[str, float] = field(default_factory=dict)
    board: Board | None = None
    energy: Mapping[str, float] = field(default_factory=dict)
    command: str = "heepgen explore"

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

    @cached_property
    def stages(self) -> dict[str, int]:
        """How many points each stage judged last."""
        counts: dict[str, int] = {}
        for point in self.points:
            counts[point.stage] = counts.get(point.stage, 0) + 1
        return counts

# SPDX-License-Identifier: Apache-2.0
"""What a configuration takes, by one stage; runs in any process."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from firmware_gen.architectures.registry import architecture_of
from firmware_gen.architectures.targets import target_of
from gen.explore.space import Described, config_of
from gen.explore.store import Judgement
from gen.explore.subject import Network, Subject
from hls.config import System
from hls.errors import HeepgenError

KIB = 1024


@dataclass(frozen=True)
class Task:
    """Configurations, by number, that one process judges together."""

    stage: str
    configs: tuple[tuple[int, Described], ...]


@dataclass(frozen=True)
class Taken:
    """By one network: cycles of an inference, bytes of RAM, what binds."""

    cycles: int
    ram: int
    bottleneck: str
    left_out: tuple[str, ...] = field(default=())


def perform(subject: Subject, task: Task) -> list[Judgement]:
    """Judge the configurations of a task."""
    judge = {"exact": _exactly}[task.stage]
    return [_judged(subject, task.stage, number, judge, config_of(given)) for number, given in task.configs]


def _judged(subject: Subject, stage: str, number: int, judge: Any, config: System) -> Judgement:
    try:
        found = [judge(network, config) for network in subject.networks]
    except HeepgenError as error:
        return Judgement(number, stage, None, str(error))
    return judgement(subject, number, stage, found)


def judgement(subject: Subject, number: int, stage: str, found: Sequence[Taken]) -> Judgement:
    """Of what every network takes."""
    cycles = {network.name: own.cycles for network, own in zip(subject.networks, found, strict=True)}
    slowest = max(found, key=lambda own: own.cycles)
    besides = {
        "by_model": cycles,
        "ram_kib": max(own.ram for own in found) / KIB,
        "bottleneck": slowest.bottleneck,
        "left_out": sorted({name for own in found for name in own.left_out}),
    }
    return Judgement(number, stage, round(subject.combined(list(cycles.values()))), None, besides)


def _exactly(network: Network, config: System) -> Taken:
    """By the cycle model, as `heepgen estimate`."""
    target = target_of(architecture_of(config))
    program = target.compile(network.graph(config), config)
    prediction, placed = target.predict(program), target.network(program)
    layers = [own for own in prediction.layers if own is not None]
    left_out = [layer.name for layer, own in zip(placed.layers, prediction.layers, strict=True) if own is None]
    report = placed.report
    return Taken(
        sum(own.cycles for own in layers) + prediction.around,
        report.constant_bytes + report.arena_bytes + report.program_bytes,
        "vectors",
        tuple(left_out),
    )

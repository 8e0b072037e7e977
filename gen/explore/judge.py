# SPDX-License-Identifier: Apache-2.0
"""Judging configurations by one stage; runs in any process."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from gen.explore.exact import Taken, exactly, outputs
from gen.explore.fast import quickly
from gen.explore.point import BITS
from gen.explore.space import Described, config_of
from gen.explore.store import Judgement
from gen.explore.subject import Subject
from hls.config import System
from hls.errors import HeepgenError

KIB = 1024


Files = Mapping[str, bytes]
"""A folder: contents by relative name."""


@dataclass(frozen=True)
class Task:
    """Configurations, by number, that one process judges together. Of every network, applications: for the only
    configuration of a task that is to be simulated; samples: inputs (N, ...) for BITS."""

    stage: str
    configs: tuple[tuple[int, Described], ...]
    applications: tuple[Files, ...] = ()
    samples: tuple[np.ndarray, ...] = ()


def perform(subject: Subject, task: Task) -> list[Judgement]:
    """Judge the configurations of a task."""
    configs = [config_of(given) for _, given in task.configs]
    if task.stage == BITS:
        own = ((number, config) for (number, _), config in zip(task.configs, configs, strict=True))
        return [Judgement(number, BITS, None, None, {BITS: _bits(subject, config, task)}) for number, config in own]
    if task.stage == "fast":
        by_network = [quickly(network, configs) for network in subject.networks]
        found = [list(own) for own in zip(*by_network, strict=True)]
    else:
        found = []
        for config in configs:
            try:
                found.append([exactly(network, config) for network in subject.networks])
            except HeepgenError as error:
                found.append([str(error)])
    return [judgement(subject, number, task.stage, own) for (number, _), own in zip(task.configs, found, strict=True)]


def _bits(subject: Subject, config: System, task: Task) -> str:
    """Differs where an output for one of the task's samples does."""
    digest = hashlib.sha256()
    for network, sample in zip(subject.networks, task.samples, strict=True):
        for output in outputs(network, config, sample):
            digest.update(output.tobytes())
    return digest.hexdigest()


def judgement(subject: Subject, number: int, stage: str, found: Sequence[Taken | str]) -> Judgement:
    """Of what every network takes, or why one takes nothing."""
    taken = [own for own in found if isinstance(own, Taken)]
    if len(taken) < len(found):
        return Judgement(number, stage, None, next(own for own in found if isinstance(own, str)))
    cycles = {network.name: own.cycles for network, own in zip(subject.networks, taken, strict=True)}
    besides = {
        "by_model": cycles,
        "work": [asdict(own.work) for own in taken],
        "ram_kib": max(own.ram for own in taken) / KIB,
        "bottleneck": max(taken, key=lambda own: own.cycles).bottleneck,
        "left_out": sorted({name for own in taken for name in own.left_out}),
    }
    return Judgement(number, stage, round(subject.combined(list(cycles.values()))), None, besides)

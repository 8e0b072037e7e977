# SPDX-License-Identifier: Apache-2.0
"""What an inference takes on one configuration, by the cycle model, and what it computes there."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from firmware_gen.architectures.contract import LayerCycles
from firmware_gen.architectures.limits import bottleneck
from firmware_gen.architectures.registry import architecture_of
from firmware_gen.architectures.targets import target_of
from firmware_gen.memory.planner import DoesNotFit
from firmware_gen.turned import fastest_graph
from gen.explore.subject import Network
from gen.ppa.energy.model import Work
from hls.config import System


@dataclass(frozen=True)
class Taken:
    """Cycles of an inference, bytes of RAM, the limit that binds most cycles, and what units do, which takes energy;
    layers whose cycles nobody knows."""

    cycles: int
    ram: int
    bottleneck: str
    work: Work
    left_out: tuple[str, ...] = ()


def program_of(network: Network, config: System) -> Any:
    """What is compiled of a network."""
    try:
        return fastest_graph(network.choices(config), config)[1]
    except DoesNotFit:
        if (spare := network.instead(config)) is None:
            raise
        return target_of(architecture_of(config)).compile(spare, config)


def exactly(network: Network, config: System) -> Taken:
    """As `heepgen estimate` finds it; raises `HeepgenError` for what does not compile, or whose cycles are unknown."""
    target, program = target_of(architecture_of(config)), program_of(network, config)
    prediction, placed = target.predict(program), target.network(program)
    left_out = [layer.name for layer, own in zip(placed.layers, prediction.layers, strict=True) if own is None]
    report = placed.report
    known = [own for own in prediction.layers if own is not None]
    work = Work.of([*known, LayerCycles(prediction.around, on_cpu=True)])
    return Taken(
        int(work.cycles),
        report.constant_bytes + report.arena_bytes + report.program_bytes,
        bottleneck(prediction.layers),
        work,
        tuple(left_out),
    )


def outputs(network: Network, config: System, samples: np.ndarray) -> tuple[np.ndarray, ...]:
    """What one configuration computes of inputs (N, ...), N a multiple of the network's batch, to the last bit."""
    target = target_of(architecture_of(config))
    return target.run_many(program_of(network, config), samples).outputs

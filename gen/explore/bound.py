# SPDX-License-Identifier: Apache-2.0
"""Bounds: which configurations something that was judged exactly is better than, whatever they take."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from firmware_gen.architectures.registry import architecture_of
from firmware_gen.targets.descriptor.survey.bounds import Bounds, bounds
from gen.explore.exact import Taken
from gen.explore.front import front
from gen.explore.subject import Form, Network, form_of
from gen.ppa.energy.model import Work
from hls.config import Config, System
from hls.errors import HeepgenError

FEW = 64
"""Configurations of which it is not worth while to leave any out."""

SEEDS = 8
"""Configurations that are judged exactly, to leave out what they are better than."""


def at_least(network: Network, configs: Sequence[System]) -> list[Taken | None]:
    """What an inference takes on each configuration at least; None for architectures of which nothing is known, and
    where the network does not compile."""
    found: list[Taken | None] = [None] * len(configs)
    forms: dict[Form, list[tuple[int, Config]]] = {}
    for place, config in enumerate(configs):
        if isinstance(config, Config) and architecture_of(config).name == Config.architecture:
            forms.setdefault(form_of(config), []).append((place, config))
    for own in forms.values():
        try:
            every = [bounds(graph, [config for _, config in own]) for graph in network.possible(own[0][1])]
        except HeepgenError:
            continue
        for number, (place, config) in enumerate(own):
            found[place] = _least([_taken(least, number, config) for least in every])
    return found


def _taken(least: Bounds, number: int, config: Config) -> Taken:
    cycles, busy = int(least.cycles[number]), {name: float(each[number]) for name, each in least.busy.items()}
    work = Work(cycles, **busy, bus_words=busy["bus"] * config.ports, cpu=float(least.on_cpu[number]))
    return Taken(cycles, int(least.ram[number]), least.limit[number], work)


def _least(choices: Sequence[Taken]) -> Taken:
    """Of several graphs of a network, any of which may be compiled."""
    first = min(choices, key=lambda own: own.cycles)
    works = [vars(own.work) for own in choices]
    work = Work(**{name: min(own[name] for own in works) for name in works[0]})
    return replace(first, ram=min(own.ram for own in choices), work=work)


def seeds(costs: np.ndarray) -> list[int]:
    """Of rows of bounds (N, axes), some that are likely to be better than others: spread along their front, those in
    its middle first."""
    along = front(costs)
    places = {round(share * (len(along) - 1)) for share in np.linspace(0, 1, SEEDS)}
    return [int(along[place]) for place in sorted(places, key=lambda place: (abs(2 * place - len(along) + 1), place))]

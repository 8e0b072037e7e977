# SPDX-License-Identifier: Apache-2.0
"""Quick estimates of many configurations at once."""

from collections.abc import Hashable, Sequence
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from firmware_gen.architectures.contract import LayerCycles
from firmware_gen.architectures.limits import bottleneck
from firmware_gen.targets.descriptor.survey.survey import Estimate, NoRoom, decided_alike, survey
from firmware_gen.targets.descriptor.survey.templates import decided, templates_of
from gen.explore.exact import Taken, exactly
from gen.explore.subject import Network
from gen.ppa.energy.model import Work
from hls.config import Config, System
from hls.errors import HeepgenError

if TYPE_CHECKING:
    from firmware_gen import ir


def together(config: System) -> Hashable:
    """What configurations have in common that are best estimated together."""
    return decided_alike(config) if isinstance(config, Config) else config.architecture


def quickly(network: Network, configs: Sequence[System], among: Sequence[System] = ()) -> list[Taken | str]:
    """What an inference takes on configurations that have `together` in common, or why it does not run there.

    among: configurations, these among them, for which the compiler decides; only these without.
    """
    if not all(isinstance(config, Config) for config in configs):
        return [_exactly(network, config) for config in configs]
    own = [config for config in configs if isinstance(config, Config)]
    deciding = [config for config in among if isinstance(config, Config)] or own
    choices = [_of_graph(graph, own, deciding) for graph in network.choices(own[0])]
    found = [_fewest(each) for each in zip(*choices, strict=True)]
    without = [number for number, one in enumerate(found) if isinstance(one, NoRoom)]
    if without and (spare := network.instead(own[0])) is not None:
        again = dict(zip(without, _of_graph(spare, [own[number] for number in without], deciding), strict=True))
        found = [again.get(number, one) for number, one in enumerate(found)]
    return found


def _of_graph(graph: "ir.Graph", configs: Sequence[Config], among: Sequence[Config]) -> list[Taken | str]:
    found = dict[int, Taken | str]()
    for like, numbers in decided(graph, configs, among):
        found |= dict(zip(numbers, _estimated(graph, like, [configs[number] for number in numbers]), strict=True))
    return [found[number] for number in range(len(configs))]


def _fewest(choices: Sequence[Taken | str]) -> Taken | str:
    """Of graphs of a network, of which the first must run."""
    first = choices[0]
    taken = [own for own in choices if isinstance(own, Taken)]
    return first if isinstance(first, str) else min(taken, key=lambda own: own.cycles)


def _estimated(graph: "ir.Graph", like: Config, configs: Sequence[Config]) -> list[Taken | str]:
    """With what the compiler decides for one configuration; where there is no room for that, also with what it decides
    for one of those."""
    try:
        found = survey(templates_of(graph, like), configs)
    except HeepgenError as error:
        return [str(error)] * len(configs)
    tight = [number for number, own in enumerate(found) if isinstance(own, str) or own.tight]
    if tight:
        with suppress(HeepgenError):
            others = templates_of(graph, configs[tight[len(tight) // 2]], ample=False)
            again = survey(others, [configs[number] for number in tight])
            for number, own in zip(tight, again, strict=True):
                found[number] = min(found[number], own, key=_cycles)
    return [_taken(own) for own in found]


def _cycles(found: Estimate | NoRoom) -> float:
    return inf if isinstance(found, str) else found.cycles


def _exactly(network: Network, config: System) -> Taken | str:
    try:
        return exactly(network, config)
    except HeepgenError as error:
        return str(error)


def _taken(found: Estimate | NoRoom) -> Taken | str:
    if isinstance(found, str):
        return found
    vectors, bus, weights, drain = (round(found.busy[name]) for name in ("vectors", "bus", "weights", "drain"))
    by_array = LayerCycles(found.cycles - found.on_cpu, vectors=vectors, bus=bus, weights=weights, drain=drain)
    binding = bottleneck([by_array, LayerCycles(found.on_cpu, on_cpu=True)])
    work = Work(found.cycles, **found.busy, cpu=found.on_cpu)
    return Taken(found.cycles, found.ram, binding, work, found.left_out)

# SPDX-License-Identifier: Apache-2.0
"""Quick estimates of many configurations at once."""

from collections.abc import Hashable, Sequence

from firmware_gen.architectures.contract import LayerCycles
from firmware_gen.architectures.limits import limit_of
from firmware_gen.targets.descriptor.survey.survey import Estimate, decided_alike, survey
from firmware_gen.targets.descriptor.survey.templates import anchors, templates_of
from gen.explore.exact import Taken, exactly
from gen.explore.subject import Network
from hls.config import Config, System
from hls.errors import HeepgenError


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
    graph = network.graph(own[0])
    try:
        templates = [template for anchor in anchors(deciding) for template in templates_of(graph, anchor)]
    except HeepgenError as error:
        return [str(error)] * len(own)
    return [_taken(found) for found in survey(templates, own)]


def _exactly(network: Network, config: System) -> Taken | str:
    try:
        return exactly(network, config)
    except HeepgenError as error:
        return str(error)


def _taken(found: Estimate | str) -> Taken | str:
    if isinstance(found, str):
        return found
    vectors, bus, weights, drain = (round(found.busy[name]) for name in ("vectors", "bus", "weights", "drain"))
    whole = LayerCycles(found.cycles, vectors=vectors, bus=bus, weights=weights, drain=drain)
    return Taken(found.cycles, found.ram, limit_of(whole).name, found.left_out)

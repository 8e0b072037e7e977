# SPDX-License-Identifier: Apache-2.0
"""What an exploration leaves to look at: page, datasheet, picture, table of points."""

from collections.abc import Mapping, Sequence

from firmware_gen.architectures.registry import architecture_of
from firmware_gen.architectures.targets import target_of
from gen.datasheet.boards import Board
from gen.datasheet.output.files import POINTS, files_of
from gen.datasheet.output.points import table_of
from gen.datasheet.subject import Network, Subject
from gen.explore.exact import program_of
from gen.explore.search import Found
from gen.explore.space import config_of
from gen.explore.subject import Subject as Explored
from gen.ppa.energy.model import prices_of
from hls.config import System
from hls.errors import HeepgenError


def datasheet(
    explored: Explored, found: Found, limits: Mapping[str, float], board: Board | None = None
) -> dict[str, str | bytes]:
    """Contents by name; of an exploration that recommends nothing only the table. limits: by attribute of `Point`,
    those of the `board` among them."""
    point = found.recommended
    if point is None:
        return {POINTS: table_of(found.points, found.front)}
    config = config_of(point.config)
    target = target_of(architecture_of(config))
    networks = [Network.of(target, program_of(own, config)) for own in explored.networks]
    return files_of(
        Subject(
            points=found.points,
            front=found.front,
            recommended=point,
            config=config,
            networks=networks,
            limits=limits,
            board=board,
            energy=_energy(config, networks, explored),
            weights=explored.weights,
            stages=found.stages,
        )
    )


def _energy(config: System, networks: Sequence[Network], explored: Explored) -> dict[str, float]:
    """uJ of an inference by part: of the network that takes most, or the weighted mean; empty where it is not known."""
    try:
        prices = prices_of(config)
    except HeepgenError:
        return {}
    found = [prices.by_part(network.work) for network in networks]
    if explored.weights is None:
        return max(found, key=lambda parts: sum(parts.values()))
    return {part: explored.combined([parts[part] for parts in found]) for part in found[0]}

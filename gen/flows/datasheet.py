# SPDX-License-Identifier: Apache-2.0
"""What an exploration leaves to look at: page, datasheet, picture, table of points."""

from collections.abc import Mapping

from firmware_gen.architectures.registry import architecture_of
from firmware_gen.architectures.targets import target_of
from gen.datasheet.boards import Board
from gen.datasheet.files import POINTS, files_of
from gen.datasheet.points import table_of
from gen.datasheet.subject import Network, Subject
from gen.explore.search import Found
from gen.explore.space import config_of
from gen.explore.subject import Subject as Explored


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
    networks = [Network.of(target, target.compile(own.graph(config), config)) for own in explored.networks]
    return files_of(
        Subject(
            found.points,
            found.front,
            point,
            config,
            networks,
            limits,
            board,
            weights=explored.weights,
            stages=found.stages,
        )
    )

# SPDX-License-Identifier: Apache-2.0
"""From the smallest design to the recommended one: what every step changes, why, what it does, what else there was.

A step changes one option. Of the changes that lead to the recommended design the one is taken that saves most cycles
for its area.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firmware_gen.architectures.limits import LIMITS
from gen.datasheet.axes import AXES, Axis, area_axis
from gen.datasheet.designs import ARCHITECTURE, BUFFERS, SIZES, Designs, Move, described, merit
from gen.explore.point import STAGES, Point

MOST = 4
"""Other changes that a step names, and neighbours of the recommended design on either side."""


@dataclass(frozen=True)
class Tried(Move):
    """A move that was not made, and why."""

    verdict: str


@dataclass(frozen=True)
class PathStep(Move):
    """A move of the path. reason: what the bottleneck before it means; meaning: of what is changed."""

    reason: str
    meaning: str
    tried: tuple[Tried, ...]

    @property
    def moved(self) -> bool:
        """Whether another limit binds after it."""
        return self.before.bottleneck != self.after.bottleneck


@dataclass(frozen=True)
class Path:
    """`start`: the smallest design; `area`: the axis that says so, None where no area is known: it is the slowest then.
    up: moves from the recommended design `end` that save cycles; down: those to a smaller one. The best come first."""

    start: Point
    end: Point
    steps: tuple[PathStep, ...]
    up: tuple[Tried, ...]
    down: tuple[Tried, ...]
    area: Axis | None

    @property
    def points(self) -> list[Point]:
        """The designs on the way, first and last included."""
        return [self.start, *(step.after for step in self.steps)]


def path_to(end: Point, points: Iterable[Point], limits: Mapping[str, float] | None = None) -> Path:
    """The path to `end` by way of `points`, which it is one of. limits: the most that a design may have, by axis.
    Designs of which only a bound is known are taken where there is no other way."""
    every = list(points)
    limits = limits or {}
    solid = [point for point in every if point.stage != STAGES[0] or point.number == end.number]
    area = area_axis(solid, limits)
    start = _smallest(solid, area)
    designs = Designs(solid, area)
    moves = designs.way(start, end)
    if any(len(move.changes) > 1 for move in moves) and len(solid) < len(every):
        designs = Designs(every, area)
        moves = designs.way(start, end)
    steps = tuple(_step(designs, number, moves, limits) for number in range(len(moves)))
    around = sorted(designs.around(end), key=designs.rank, reverse=True)
    up = [move for move in around if move.after.cycles < end.cycles]
    down = [move for move in around if area and (move.effect(area.name) or 0) < 0 and move not in up]
    near = {
        name: tuple(_neighbour(move, limits) for move in found[:MOST]) for name, found in (("up", up), ("down", down))
    }
    return Path(start=start, end=end, steps=steps, up=near["up"], down=near["down"], area=area)


def exceeded(point: Point, limits: Mapping[str, float]) -> list[str]:
    """What of a design is over its limit, in words."""
    found = []
    for name, most in limits.items():
        axis, value = AXES[name], getattr(point, name)
        if value is not None and value > most:
            found.append(f"{axis.label} {axis.shown(value)} of {axis.shown(most)}")
    return found


def _smallest(points: Sequence[Point], area: Axis | None) -> Point:
    if area is None:
        return min(points, key=lambda point: (-point.cycles, point.number))
    return min(points, key=lambda point: (getattr(point, area.name), point.cycles, point.number))


def _step(designs: Designs, number: int, moves: Sequence[Move], limits: Mapping[str, float]) -> PathStep:
    move = moves[number]
    best: dict[str, Move] = {}
    for other in sorted(designs.around(move.before), key=designs.rank):
        if other.after.cycles <= other.before.cycles:
            best[other.changes[0].option] = other
    for change in move.changes:
        best.pop(change.option, None)
    others = sorted(best.values(), key=designs.rank, reverse=True)
    later = {change.towards: n for n in range(len(moves) - 1, number, -1) for change in moves[n].changes}
    tried = tuple(
        Tried(other.before, other.after, other.changes, _verdict(designs, other, move, later, limits))
        for other in others[:MOST]
    )
    reason = LIMITS.get(move.before.bottleneck, "")
    return PathStep(
        before=move.before,
        after=move.after,
        changes=move.changes,
        reason=reason,
        meaning=_meaning(designs, move),
        tried=tried,
    )


def _meaning(designs: Designs, move: Move) -> str:
    if len(move.changes) != 1:
        return "several options at once: what lies between was not judged"
    option = move.changes[0].option
    if option == SIZES:
        return ", ".join(BUFFERS)
    known = described(move.after.config[ARCHITECTURE])
    return known[option].meaning if option in known else ""


def _verdict(
    designs: Designs, other: Move, taken: Move, later: Mapping[tuple[str, Any], int], limits: Mapping[str, float]
) -> str:
    over = _over(other.after, limits)
    if over:
        return over
    why = []
    if other.after.cycles >= other.before.cycles:
        why.append("saves no cycles")
    elif merit(other, designs.area) < merit(taken, designs.area):
        why.append("saves less for its area" if designs.area else "saves less")
    coming = later.get(other.changes[0].towards)
    if coming is not None:
        why.append(f"comes in step {coming + 1}")
    return "; ".join(why) or "the recommended design does without"


def _neighbour(move: Move, limits: Mapping[str, float]) -> Tried:
    return Tried(move.before, move.after, move.changes, _over(move.after, limits))


def _over(point: Point, limits: Mapping[str, float]) -> str:
    over = exceeded(point, limits)
    return f"over the limit: {', '.join(over)}" if over else ""

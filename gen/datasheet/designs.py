# SPDX-License-Identifier: Apache-2.0
"""Judged designs by their settings, and the moves between them."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from firmware_gen.architectures.registry import find
from gen.datasheet.axes import AXES, Axis
from gen.explore.point import Point
from hls.config import Option, options
from hls.config_file import shown
from hls.errors import HeepgenError

ARCHITECTURE = "architecture"

Settings = Mapping[str, Any]
"""Values of all options of a design, `architecture` among them."""


@dataclass(frozen=True)
class Change:
    """Of one option of the configuration."""

    option: str
    before: Any
    after: Any

    @property
    def towards(self) -> tuple[str, Any]:
        """The option, and whether its number grows, or the value of one that is no number."""
        numbers = _is_number(self.before) and _is_number(self.after)
        return self.option, self.after > self.before if numbers else self.after

    def __str__(self) -> str:
        return f"{self.option} {written(self.before)} to {written(self.after)}"


@dataclass(frozen=True)
class Move:
    """From one judged design to another one."""

    before: Point
    after: Point
    changes: tuple[Change, ...]

    def effect(self, axis: str) -> float | None:
        """Difference on an axis, after less before; None where either is not known."""
        old, new = getattr(self.before, axis), getattr(self.after, axis)
        return None if old is None or new is None else new - old

    @property
    def effects(self) -> dict[str, float | None]:
        """`effect` on every axis."""
        return {name: self.effect(name) for name in AXES}

    @property
    def change(self) -> str:
        return ", ".join(map(str, self.changes))


def merit(move: Move, area: Axis | None) -> tuple[int, float, float]:
    """Larger for a better move: those that cost nothing first, then by cycles for area, both as ratios."""
    gain = math.log(max(move.before.cycles, 1) / max(move.after.cycles, 1))
    before, after = (area.of(move.before), area.of(move.after)) if area else (None, None)
    cost = math.log(max(after, 1e-9) / max(before, 1e-9)) if before is not None and after is not None else 0.0
    if gain >= 0 and cost <= 0:
        return 3, gain - cost, gain
    if gain > 0:
        return 2, gain / cost, gain
    if cost < 0:
        return 1, cost / gain, gain
    return 0, gain - cost, gain


def written(value: Any) -> str:
    """A value of an option as in the configuration file, large numbers with commas."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if _is_number(value) else shown(value)


def described(settings: Settings) -> dict[str, Option]:
    """The options of a design's architecture, none of one that is not known here."""
    try:
        return {o.attribute: o for o in options(find(settings[ARCHITECTURE]).config)}
    except HeepgenError:
        return {}


class Designs:
    """Points by their settings. `area`: the axis that their size is measured by."""

    def __init__(self, points: Iterable[Point], area: Axis | None) -> None:
        self.points = {point.number: point for point in points}
        self.area = area
        defaults = cache(lambda name: {o: own.default for o, own in described({ARCHITECTURE: name}).items()})
        self.settings: dict[int, Settings] = {
            number: defaults(point.config[ARCHITECTURE])
            | {name: tuple(value) if isinstance(value, list) else value for name, value in point.config.items()}
            for number, point in self.points.items()
        }
        self._by_settings = {_key(own): self.points[number] for number, own in self.settings.items()}
        self._values: dict[str, set[Any]] = defaultdict(set)
        for own in self.settings.values():
            for option, value in own.items():
                self._values[option].add(value)
        self._rungs: dict[tuple[str, Any, Any], list[Any]] = {}
        self._like: dict[tuple[str, str], dict[Any, list[Point]]] = {}

    def move(self, before: Point, after: Point) -> Move:
        """From one design to another, with the options that both have and that differ."""
        old, new = self.settings[before.number], self.settings[after.number]
        changed = [option for option in old if option in new and old[option] != new[option]]
        return Move(before, after, tuple(Change(option, old[option], new[option]) for option in changed))

    def way(self, start: Point, end: Point) -> list[Move]:
        """Moves from `start` to `end` of one change each. Where what was judged does not lead there, the last one is of
        several."""
        ahead = self._ahead(start, end)
        last = end
        if end.number not in ahead:
            reached = [self.points[number] for number in ahead]
            last = min(reached, key=lambda point: (len(self.move(point, end).changes), point.cycles, point.number))
        leading, here, way = _leading(ahead, last.number), start, list[Move]()
        while here.number != last.number:
            moves = [self.move(here, self.points[number]) for number in ahead[here.number] if number in leading]
            way.append(max(moves, key=self.rank))
            here = way[-1].after
        return way if here.number == end.number else [*way, self.move(here, end)]

    def rank(self, move: Move) -> tuple[tuple[int, float, float], int]:
        """`merit`; of equals the first design is the larger one."""
        return merit(move, self.area), -move.after.number

    def around(self, point: Point) -> list[Move]:
        """The moves from a design to the next judged values of every option, up and down."""
        own = self.settings[point.number]
        found: list[Point | None] = []
        for option, value in own.items():
            for other in self._near(option, value):
                found += self._alike(own, other) if option == ARCHITECTURE else [self._with(own, option, other)]
        return [self.move(point, other) for other in found if other is not None]

    def _ahead(self, start: Point, end: Point) -> dict[int, list[int]]:
        """For all designs that changes towards `end` lead to from `start`: those that the next change leads to."""
        goal, ahead, waiting = self.settings[end.number], dict[int, list[int]](), [start.number]
        while waiting:
            number = waiting.pop()
            if number in ahead:
                continue
            own, found = self.settings[number], list[Point | None]()
            for option, value in own.items():
                if option == ARCHITECTURE and value != goal[option]:
                    found += self._alike(own, goal[option])
                elif option in goal and value != goal[option]:
                    found += [self._with(own, option, rung) for rung in self._towards(option, value, goal[option])]
            ahead[number] = [point.number for point in found if point is not None]
            waiting += ahead[number]
        return ahead

    def _with(self, own: Settings, option: str, value: Any) -> Point | None:
        return self._by_settings.get(_key({**own, option: value}))

    def _alike(self, own: Settings, architecture: str) -> list[Point]:
        """Designs of another architecture with the same values of all options that both have."""
        theirs = next(s for s in self.settings.values() if s[ARCHITECTURE] == architecture)
        shared = [option for option in theirs if option in own and option != ARCHITECTURE]
        pair = (own[ARCHITECTURE], architecture)
        if pair not in self._like:
            index = self._like[pair] = defaultdict(list)
            for number, other in self.settings.items():
                if other[ARCHITECTURE] == architecture:
                    index[tuple(other[option] for option in shared)].append(self.points[number])
        return self._like[pair].get(tuple(own[option] for option in shared), [])

    def _towards(self, option: str, value: Any, last: Any) -> list[Any]:
        """Judged values behind `value` up to `last`, each at most double or half of that before it where there is such
        a one."""
        rungs = self._rungs.get((option, value, last))
        if rungs is None:
            rungs = [value]
            while rungs[-1] != last:
                rungs.append(self._rung(option, rungs[-1], last))
            self._rungs[option, value, last] = rungs = rungs[1:]
        return rungs

    def _rung(self, option: str, value: Any, last: Any) -> Any:
        if not (_is_number(value) and _is_number(last)):
            return last
        between = [v for v in self._near(option, value) if min(value, last) <= v <= max(value, last)]
        return between[0] if between else last

    def _near(self, option: str, value: Any) -> list[Any]:
        """The judged values next to half and to double of a number, on their sides of it; all others of the rest."""
        if not _is_number(value):
            return sorted((v for v in self._values[option] if v != value), key=str)
        numbers = [v for v in self._values[option] if _is_number(v)]
        below, above = [v for v in numbers if v < value], [v for v in numbers if v > value]
        near = [
            min((v for v in below if 2 * v >= value), default=max(below, default=None)),
            max((v for v in above if v <= 2 * value), default=min(above, default=None)),
        ]
        return [v for v in near if v is not None]


def _leading(ahead: Mapping[int, Sequence[int]], last: int) -> set[int]:
    """The numbers from which `last` is reached."""
    behind: dict[int, list[int]] = defaultdict(list)
    for here, there in ahead.items():
        for number in there:
            behind[number].append(here)
    leading, waiting = {last}, [last]
    while waiting:
        for number in behind[waiting.pop()]:
            if number not in leading:
                leading.add(number)
                waiting.append(number)
    return leading


def _key(own: Settings) -> Any:
    return frozenset(own.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

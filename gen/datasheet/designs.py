# SPDX-License-Identifier: Apache-2.0
"""Judged designs by their settings, and the moves between them."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from firmware_gen.architectures.registry import find
from gen.datasheet.axes import AXES, Axis
from gen.explore.point import Point
from hls.config import Config, Option, options
from hls.config_file import shown
from hls.errors import HeepgenError

ARCHITECTURE, SIZES = "architecture", "buffers"
SIZE = ("rows", "cols")
BUFFERS = tuple(o.attribute for o in options(Config) if o.key.startswith(f"{SIZES}."))
"""Options that `heepgen explore --buffers` changes together: one option, `SIZES`, with all their values."""

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
        before, after = _size(self.before), _size(self.after)
        return self.option, self.after if before is None or after is None else after > before

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
    """A value of an option, large numbers with commas, the buffers' sizes as of --buffers."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return ":".join(map(str, value))
    return shown(value) if _size(value) is None else f"{value:,}"


def described(architecture: str) -> dict[str, Option]:
    """The options of an architecture, none of one that is not known here."""
    try:
        return {o.attribute: o for o in options(find(architecture).config)}
    except HeepgenError:
        return {}


def values_of(point: Point, options_of: Callable[[str], Mapping[str, Option]] = described) -> dict[str, Any]:
    """`architecture`, and the value of every option: its configuration's, or the default."""
    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in point.config.items()
    }
    return {name: option.default for name, option in options_of(own[ARCHITECTURE]).items()} | own


def settings_of(point: Point, options_of: Callable[[str], Mapping[str, Option]] = described) -> Settings:
    """`values_of` with the buffers' sizes as one option."""
    settings = values_of(point, options_of)
    if settings.keys() >= set(BUFFERS):
        settings[SIZES] = tuple(settings.pop(name) for name in BUFFERS)
    return settings


def short_name_of(point: Point) -> str:
    """A design in a few characters, as in 8x8p2: architecture unless it is the default, array, ports."""
    settings = settings_of(point)
    words = [settings[ARCHITECTURE]] if settings[ARCHITECTURE] != Config.architecture else []
    if set(SIZE) <= settings.keys():
        words.append(
            f"{settings['rows']}x{settings['cols']}" + (f"p{settings['ports']}" if "ports" in settings else "")
        )
    return " ".join(words)


def name_of(point: Point) -> str:
    """`short_name_of`, and what else of its configuration is no default."""
    settings = settings_of(point)
    named = {ARCHITECTURE, *SIZE, "ports"} if set(SIZE) <= settings.keys() else {ARCHITECTURE}
    changed = dict.fromkeys(SIZES if name in BUFFERS and SIZES in settings else name for name in point.config)
    others = [f"{name} {written(settings[name])}" for name in changed if name not in named]
    return ", ".join([short_name_of(point), *others])


class Designs:
    """Points by their settings. `area`: the axis that their size is measured by."""

    def __init__(self, points: Iterable[Point], area: Axis | None) -> None:
        self.points = {point.number: point for point in points}
        self.area = area
        known = cache(described)
        self.settings = {number: settings_of(point, known) for number, point in self.points.items()}
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
        here, there = _size(value), _size(last)
        if here is None or there is None:
            return last
        between = [v for v in self._near(option, value) if min(here, there) <= _sized(v) <= max(here, there)]
        return between[0] if between and _sized(between[0]) != there else last

    def _near(self, option: str, value: Any) -> list[Any]:
        """The judged values next to half and to double of a size, on their sides of it; all others of the rest."""
        here = _size(value)
        if here is None:
            return sorted((v for v in self._values[option] if v != value), key=str)
        sizes = [v for v in self._values[option] if _size(v) is not None]
        below, above = [v for v in sizes if _sized(v) < here], [v for v in sizes if _sized(v) > here]
        near = [
            min((v for v in below if 2 * _sized(v) >= here), key=_sized, default=max(below, key=_sized, default=None)),
            max((v for v in above if _sized(v) <= 2 * here), key=_sized, default=min(above, key=_sized, default=None)),
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


def _size(value: Any) -> float | None:
    """Of a number, or of numbers together; None of anything else."""
    if isinstance(value, tuple):
        return sum(value) if all(_size(v) is not None for v in value) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _sized(value: Any) -> float:
    return _size(value) or 0

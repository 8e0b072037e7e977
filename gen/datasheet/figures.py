# SPDX-License-Identifier: Apache-2.0
"""Geometry of the page's pictures: numbers that the template puts into SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

from firmware_gen.architectures.contract import LayerCycles
from firmware_gen.architectures.limits import LIMITS
from gen.datasheet.axes import AXES, Axis
from gen.datasheet.designs import name_of, short_name_of
from gen.datasheet.path import Path
from gen.datasheet.subject import Network, Subject
from gen.explore.point import Point
from gen.pages import subject as pages
from gen.pages.figures import Picture, Tick, logarithmic, round_values

MOST_DOTS = 800
"""Points besides the front that are drawn; of more, every so many."""
_SMALL, _LARGE = 3.0, 9.0
_WIDE = 180.0
"""Pixels of a label."""


def choices(subject: Subject) -> list[tuple[str, Point]]:
    """What is ringed and labelled: the smallest design, the recommended one and the fastest, each once."""
    fastest = min(subject.front, key=lambda point: (point.cycles, point.number))
    found: dict[int, tuple[str, Point]] = {}
    for label, point in (("recommended", subject.recommended), ("smallest", subject.path.start), ("fastest", fastest)):
        found.setdefault(point.number, (label, point))
    return list(found.values())


def planes(subject: Subject) -> list[tuple[Axis, Axis]]:
    """Pairs of axes to show the front on: time against area, and against energy where that is known."""
    drawn = [*subject.front, subject.recommended, subject.path.start]
    time = AXES["us"] if all(point.us is not None for point in drawn) else AXES["cycles"]
    others = [subject.path.area, AXES["uj"] if all(point.uj is not None for point in drawn) else None]
    return [(time, axis) for axis in others if axis is not None]


def front(subject: Subject, x: Axis, y: Axis, width: float = 760, height: float = 430) -> Picture:
    """All designs on two logarithmic axes, less of both to the left and below; the front, and the path along it."""
    area = subject.path.area
    best, way = (_shown(points, x, y) for points in (subject.front, subject.path.points))
    others = _shown(subject.points, x, y)
    others = others[:: max(1, -(-len(others) // MOST_DOTS))]
    every = [*best, *way, *others]
    at_x, at_y, ticks, rows, frame = _plane([_on(x, p) for p in every], [_on(y, p) for p in every], width, height, 64.0)
    largest = max((area.of(p) or 0 for p in [*best, *way]), default=0) if area else 0

    def dot(point: Point) -> dict[str, Any]:
        share = _on(area, point) / largest if area and largest else 0
        return {
            "x": at_x(_on(x, point)),
            "y": at_y(_on(y, point)),
            "r": _SMALL + (_LARGE - _SMALL) * share**0.5,
            "title": f"{name_of(point)}: {', '.join(f'{a.label} {a.shown(a.of(point))}' for a in subject.axes)}",
        }

    labels: list[dict[str, Any]] = []
    for label, point in choices(subject):
        own = dot(point)
        level = min([other["label_y"] for other in labels if abs(other["x"] - own["x"]) < _WIDE] + [own["y"] - 3])
        side = "end" if own["x"] > width / 2 else "start"
        labels.append(own | {"name": f"{label}: {short_name_of(point)}", "anchor": side, "label_y": level - 14})
    more: dict[str, Any] = {
        **frame,
        "dots": [dot(p) for p in others],
        "front": [dot(p) for p in best],
        "labels": labels,
        "x": x.label,
        "y": y.label,
    }
    return Picture(
        width=width,
        height=height,
        boxes=(),
        ticks=ticks,
        rows=rows,
        lines=(_line([(at_x(_on(x, p)), at_y(_on(y, p))) for p in way]),),
        more=more,
    )


def progress(path: Path, width: float = 760, height: float = 240) -> Picture | None:
    """Cycles after every step; None for a path without any."""
    points = path.points
    if len(points) < 2:
        return None
    left, bottom = 76.0, height - 40.0
    low, high = min(p.cycles for p in points), max(p.cycles for p in points)
    at_y = logarithmic(max(low, 1) / 1.2, high * 1.2, bottom, 10.0)
    wide = (width - left - 24) / (len(points) - 1)
    dots: list[dict[str, Any]] = [
        {
            "x": left + wide * number,
            "y": at_y(max(point.cycles, 1)),
            "title": f"{path.steps[number - 1].change if number else 'the smallest design'}: {point.cycles:,} cycles",
        }
        for number, point in enumerate(points)
    ]
    every = -(-len(points) // 24)
    ticks = tuple(Tick(dot["x"], str(n)) for n, dot in enumerate(dots) if n % every == 0)
    rows = tuple(Tick(at_y(v), f"{v:,.0f}") for v in round_values(max(low, 1) / 1.2, high * 1.2))
    line = _line([(dot["x"], dot["y"]) for dot in dots])
    return Picture(
        width=width,
        height=height,
        boxes=(),
        ticks=ticks,
        rows=rows,
        lines=(line,),
        more={"dots": dots, "left": left, "bottom": bottom},
    )


def layer_rows(network: Network) -> list[pages.Row]:
    """The layers of a network as the pages of runs know them."""
    rows = []
    for layer in network.layers:
        own = layer.cycles or LayerCycles(0)
        limit = layer.limit.cycles if layer.limit and not own.on_cpu else 0
        where = pages.CPU if own.on_cpu else pages.ARRAY if own.cycles else pages.MEMORY
        rows.append(
            pages.Row(
                name=layer.name,
                op=layer.op,
                shape=layer.shape,
                macs=layer.macs,
                where=where,
                inputs=(),
                cycles=None,
                estimate=own.cycles or None,
                bound=limit or None,
                vectors=own.vectors,
                bus_words=own.bus_words,
                load_stall=own.load_stall,
                store_stall=own.store_stall,
                cpu_cycles=0,
                sqnr_db=None,
                max_abs_err=None,
                scratchpad=None,
            )
        )
    return rows


def time_of(network: Network) -> list[tuple[str, int]]:
    """The cycles of a network by the limit that binds its layers; they add up to its total."""
    cycles = dict.fromkeys(LIMITS, 0)
    for layer in network.layers:
        if layer.cycles and layer.limit:
            cycles[layer.limit.name] += layer.cycles.cycles
    return [*cycles.items(), (pages.AROUND, network.around)]


def _shown(points: Sequence[Point], x: Axis, y: Axis) -> list[Point]:
    """Those that logarithmic axes have a place for."""
    return [point for point in points if _on(x, point) > 0 and _on(y, point) > 0]


def _on(axis: Axis, point: Point) -> float:
    return axis.of(point) or 0.0


def _line(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _plane(
    xs: Sequence[float], ys: Sequence[float], width: float, height: float, left: float
) -> tuple[Any, Any, tuple[Tick, ...], tuple[Tick, ...], Mapping[str, Any]]:
    """Logarithmic axes with room around the values, their ticks, and where the frame is."""
    bottom = height - 44.0
    low_x, high_x, low_y, high_y = min(xs) / 1.25, max(xs) * 1.25, min(ys) / 1.25, max(ys) * 1.25
    at_x, at_y = logarithmic(low_x, high_x, left, width - 12), logarithmic(low_y, high_y, bottom, 10.0)
    ticks = tuple(Tick(at_x(v), f"{v:,.6g}") for v in round_values(low_x, high_x))
    rows = tuple(Tick(at_y(v), f"{v:,.6g}") for v in round_values(low_y, high_y))
    return at_x, at_y, ticks, rows, {"left": left, "bottom": bottom}

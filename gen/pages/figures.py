# SPDX-License-Identifier: Apache-2.0
"""Geometry of the page's pictures: numbers that the template puts into SVG."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gen.pages.subject import ARRAY, CPU, Row, Subject

COLOURS = 8
"""Of the template, numbered from 0."""


@dataclass(frozen=True)
class Box:
    """A rectangle with what it is called, what is said of it, and the number of its colour or a CSS class."""

    x: float
    y: float
    width: float
    height: float
    label: str
    title: str
    colour: str

    def room_for(self, pixels: float = 6.2) -> bool:
        """Whether the label fits."""
        return self.width > pixels * len(self.label) + 6 and self.height >= 11


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Picture:
    """Boxes, lines and points in a frame of `width` x `height`; the rest of what a picture has is in `more`."""

    width: float
    height: float
    boxes: tuple[Box, ...] = ()
    ticks: tuple[Tick, ...] = ()
    rows: tuple[Tick, ...] = ()
    lines: tuple[str, ...] = ()
    more: Mapping[str, Any] | None = None


def stacked(
    parts: Sequence[tuple[str, float]], colours: Mapping[str, str], width: float = 1000
) -> list[dict[str, Any]]:
    """Parts of a bar with their shares, in `colours` by name or in those that follow; those of nothing are left out."""
    total = sum(value for _, value in parts) or 1
    shown, x = [], 0.0
    for number, (name, value) in enumerate(parts):
        if value > 0:
            share = value / total
            colour = colours.get(name, f"c{number % COLOURS}")
            shown.append(
                {"name": name, "value": value, "share": share, "x": x, "width": width * share, "colour": colour}
            )
            x += width * share
    return shown


ROW, FLAME = 26, 24.0


def graph(subject: Subject, width: float = 720) -> Picture | None:
    """One line per layer, from top to bottom; values that skip layers go round on the left."""
    rows = subject.rows
    if subject.design is None:
        return None
    place = {row.name: number for number, row in enumerate(rows, 1)}
    edges = sorted({(place.get(name, 0), number) for number, row in enumerate(rows, 1) for name in row.inputs})
    lanes = lanes_of([edge for edge in edges if edge[1] - edge[0] > 1])
    left = 24 + 14 * (1 + max(lanes.values(), default=-1))
    lines = []
    for begin, end in edges:
        y0, y1 = ROW * begin + ROW / 2, ROW * end + ROW / 2
        if end - begin == 1:
            lines.append(f"M{left} {y0}V{y1}")
        else:
            x = left - 16 - 14 * lanes[begin, end]
            lines.append(f"M{left} {y0}C{x} {y0} {x} {y0} {x} {y0 + 12}V{y1 - 12}C{x} {y1} {x} {y1} {left} {y1}")
    nodes = [{"y": ROW / 2, "name": "input", "about": _shape(subject.design["input_shape"]), "where": "input"}]
    for number, row in enumerate(rows, 1):
        about = f"{row.op} {_shape(row.shape)}" + (", kept on chip" if row.scratchpad else "")
        nodes.append({"y": ROW * number + ROW / 2, "name": row.name, "about": about, "where": row.where})
    return Picture(width, ROW * (len(rows) + 1), lines=tuple(lines), more={"left": left, "nodes": nodes})


def lanes_of(edges: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """A lane for every edge, so that those that meet have different ones; short ones are near."""
    taken: list[list[tuple[int, int]]] = []
    lanes = {}
    for edge in sorted(edges, key=lambda e: e[1] - e[0]):
        free = (n for n, others in enumerate(taken) if all(edge[1] <= b or edge[0] >= e for b, e in others))
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append(edge)
        lanes[edge] = lane
    return lanes


def layer_bars(rows: Sequence[Row], width: float = 760, left: float = 180) -> Picture | None:
    """Measured, predicted and least cycles of every layer."""
    shown = [row for row in rows if row.best]
    if not shown:
        return None
    most = max(max(row.best or 0, row.bound or 0, row.estimate or 0) for row in shown)
    scale = (width - left - 90) / most
    boxes, levels = [], []
    for number, row in enumerate(shown):
        y, cycles = 22.0 * number, row.best or 0
        words = [f"{name} {value:,}" for name, value in _cycles_of(row)]
        colour = "cpu" if row.where == CPU else "array"
        title = f"{row.name}: {', '.join(words)}"
        boxes.append(
            Box(x=left, y=y + 4, width=max(1.0, scale * cycles), height=14, label=row.name, title=title, colour=colour)
        )
        for value, kind in ((row.bound, "bound"), (row.estimate if row.cycles is not None else None, "estimate")):
            if value:
                levels.append({"x": left + scale * value, "y": y + 2, "kind": kind})
    reach = [scale * max(row.best or 0, row.bound or 0, row.estimate or 0) for row in shown]
    more = {"left": left, "levels": levels, "values": [row.best for row in shown], "reach": reach}
    return Picture(width, 22.0 * len(shown) + 4, tuple(boxes), more=more)


def _cycles_of(row: Row) -> list[tuple[str, int]]:
    known = [("measured", row.cycles), ("estimated", row.estimate), ("bound", row.bound)]
    return [(name, value) for name, value in known if value]


def roofline(subject: Subject, width: float = 720, height: float = 400) -> Picture | None:
    """Layers by MACs per bus word and MACs per cycle, both on logarithmic axes, below what array and bus allow."""
    points = [
        (row.macs / row.bus_words, row.macs / row.cycles, row)
        for row in subject.rows
        if row.where == ARRAY and row.macs and row.bus_words and row.cycles
    ]
    if not points or not subject.ports or not subject.peak:
        return None
    knee = subject.peak / subject.ports
    low_x, high_x = min(0.5, *(x for x, _, _ in points)), max(4 * knee, *(1.5 * x for x, _, _ in points))
    low_y, high_y = min(y for _, y, _ in points) / 2, 1.6 * subject.peak
    left, bottom = 56.0, height - 44.0
    at_x = logarithmic(low_x, high_x, left, width - 12)
    at_y = logarithmic(low_y, high_y, bottom, 10.0)
    start = max(low_x, low_y / subject.ports)
    roof = (
        f"M{at_x(start):.1f} {at_y(start * subject.ports):.1f}L{at_x(knee):.1f} {at_y(subject.peak):.1f}"
        f"H{width - 12:.1f}"
    )
    shown = [
        {
            "x": at_x(x),
            "y": at_y(y),
            "name": row.name,
            "title": f"{row.name}: {x:.2f} MAC/word, {y:.2f} MAC/cycle",
            "anchor": "end" if at_x(x) > width - 160 else "start",
        }
        for x, y, row in points
    ]
    _apart(shown)
    ticks = tuple(Tick(at_x(v), f"{v:g}") for v in round_values(low_x, high_x))
    rows = tuple(Tick(at_y(v), f"{v:g}") for v in round_values(low_y, high_y))
    more = {"points": shown, "left": left, "bottom": bottom, "peak": (at_x(knee), at_y(subject.peak))}
    return Picture(width=width, height=height, boxes=(), ticks=ticks, rows=rows, lines=(roof,), more=more)


def _apart(points: list[dict[str, Any]], gap: float = 12.0) -> None:
    """Labels of points that lie close together, one below the other."""
    labels: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: p["y"]):
        y = point["y"] + 4
        while any(abs(x - point["x"]) < 130 and abs(other - y) < gap for x, other in labels):
            y += 2
        labels.append((point["x"], y))
        point["label_y"] = y


def logarithmic(low: float, high: float, begin: float, end: float) -> Callable[[float], float]:
    """Places from `begin` to `end` for values from `low` to `high`."""
    factor = (end - begin) / (math.log(high) - math.log(low))
    return lambda value: begin + factor * (math.log(value) - math.log(low))


def round_values(low: float, high: float) -> list[float]:
    """Powers of ten, or of two where there are few of them."""
    tens = [10.0**e for e in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
    if len(tens) > 2:
        return tens
    return [2.0**e for e in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]


def lives(
    buffers: Sequence[Mapping[str, Any]], steps: Sequence[str], least: int, width: float = 760, height: float = 260
) -> Picture | None:
    """Who takes which bytes (upwards) while which layer is at work (to the right); a buffer lives from the step `born`
    to `dies`, -1 is the call."""
    if not buffers:
        return None
    start = min(b["address"] for b in buffers)
    top = max(least, *(b["address"] + b["size"] - start for b in buffers))
    left, bottom = 64.0, height - 24.0
    column, scale = (width - left - 8) / (len(steps) + 1), (bottom - 8) / top
    boxes = tuple(
        Box(
            x=left + column * (b["born"] + 1),
            y=bottom - scale * (b["address"] - start + b["size"]),
            width=column * (min(b["dies"], len(steps) - 1) - b["born"] + 1),
            height=max(1.5, scale * b["size"]),
            label=b["name"],
            title=f"{b['name']}: {b['size']:,} bytes at {b['address']:#x}, from {_step(b['born'], steps)} to "
            f"{_step(b['dies'], steps)}",
            colour=f"c{number % COLOURS}",
        )
        for number, b in enumerate(buffers)
    )
    every = max(1, math.ceil(len(steps) / 24))
    names = ["call", *steps]
    ticks = tuple(Tick(left + column * (i + 0.5), str(i)) for i in range(0, len(names), every))
    rows = tuple(Tick(bottom - scale * v, f"{v / 1024:g}") for v in _steps(top))
    return Picture(width, height, boxes, ticks, rows, more={"left": left, "bottom": bottom, "names": names})


def _step(number: int, steps: Sequence[str]) -> str:
    return "the call" if number < 0 else steps[number] if number < len(steps) else "the end"


def _steps(top: int) -> list[int]:
    """About five round numbers of bytes from 0 to `top`."""
    size = max(16, 1 << max(0, math.ceil(math.log2(max(1, top) / 5))))
    return list(range(0, top + 1, size))


def on_chip(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Buffers of the scratchpad: from the layer that writes one to the last that reads it, by way of layers that only
    see it with another shape."""
    last = dict.fromkeys(range(len(rows)), -1)
    number = {row.name: i for i, row in enumerate(rows)}
    for i, row in reversed(list(enumerate(rows))):
        reach = max(i, last[i] if row.where not in (ARRAY, CPU) else i)
        for name in row.inputs:
            if name in number:
                last[number[name]] = max(last[number[name]], reach)
    return [
        {"name": row.name, "address": home["address"], "size": home["bytes"], "born": i, "dies": max(i, last[i])}
        for i, row in enumerate(rows)
        if (home := row.scratchpad) and row.where in (ARRAY, CPU)
    ]


TRACK = 20


def engines(
    timeline: Mapping[str, Any], layers: Sequence[str], width: float = 980, left: float = 120
) -> Picture | None:
    """The tracks of a timeline while layers are at work; work has its layer's colour, the rest that of its kind."""
    spans = [s for track in timeline["tracks"] if track["name"] == "layers" for s in track["slices"]]
    begin = min((s[0] for s in spans), default=0)
    end = min(max((s[1] for s in spans), default=0), timeline["end"])
    if end <= begin:
        return None
    colour = {name: f"c{number % COLOURS}" for number, name in enumerate(layers)}
    tracks = [track for track in timeline["tracks"] if track["slices"]]
    scale = (width - left - 8) / (end - begin)
    boxes = []
    for number, track in enumerate(tracks):
        for first, last, state, kind, layer in track["slices"]:
            if last <= begin or first >= end:
                continue
            x, stop = left + scale * (max(first, begin) - begin), left + scale * (min(last, end) - begin)
            name = layer if kind == "work" and layer is not None else state
            title = f"{track['name']}: {state}" + (f" ({layer})" if layer and layer != state else "")
            boxes.append(
                Box(
                    x=x,
                    y=TRACK * number + 3.0,
                    width=max(0.3, stop - x),
                    height=TRACK - 6.0,
                    label=name,
                    title=f"{title}, cycles {first:,} to {last:,}",
                    colour=kind if kind != "work" else colour.get(layer, "work"),
                )
            )
    step = _round((end - begin) / 8)
    ticks = tuple(Tick(left + scale * v, f"{v:,}") for v in range(0, end - begin, step))
    rows = tuple(Tick(TRACK * n + TRACK / 2 + 4, track["name"]) for n, track in enumerate(tracks))
    return Picture(width, TRACK * len(tracks) + 24.0, tuple(boxes), ticks, rows, more={"left": left})


def flame(timeline: Mapping[str, Any], network: str, width: float = 980) -> Picture | None:
    """The network above its layers, each above what went on in it, as wide as they took cycles."""
    stacks = timeline.get("stacks", [])
    total = sum(cycles for *_, cycles in stacks)
    if not total:
        return None
    scale = width / total

    def box(row: int, begin: int, cycles: int, name: str, where: str, colour: str) -> Box:
        share = f"{cycles:,} cycles, {100 * cycles / total:.1f} %"
        return Box(
            x=scale * begin,
            y=FLAME * row,
            width=max(0.3, scale * cycles - 1),
            height=FLAME - 1.0,
            label=name,
            title=f"{where}: {share}",
            colour=colour,
        )

    boxes, at = [box(0, 0, total, network, network, "memory")], 0
    for number, (layer, group) in enumerate(itertools.groupby(stacks, lambda stack: stack[0])):
        begin = at
        for _, what, kind, cycles in group:
            colour = kind if kind != "work" else "cpu" if what == CPU else f"c{number % COLOURS}"
            boxes.append(box(2, at, cycles, what, f"{layer}: {what}", colour))
            at += cycles
        boxes.append(box(1, begin, at - begin, layer, layer, f"c{number % COLOURS}"))
    return Picture(width, 3 * FLAME, tuple(boxes))


def _round(value: float) -> int:
    """A round number of at least `value`."""
    ten = 10 ** math.floor(math.log10(max(value, 1)))
    return int(next((f * ten for f in (1, 2, 5) if f * ten >= value), 10 * ten))


def _shape(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))

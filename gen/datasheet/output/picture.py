# SPDX-License-Identifier: Apache-2.0
"""front.svg and front.png: the front, with the choices ringed and named."""

import io
from collections.abc import Sequence
from typing import Any

from gen.datasheet.axes import Axis
from gen.datasheet.designs import short_name_of
from gen.datasheet.figures import choices, planes
from gen.datasheet.subject import Subject
from gen.explore.point import Point

FORMATS = ("svg", "png")
WIDTH, HEIGHT = 8.0, 5.0
"""Inches of a panel; the picture is made to be read at 800 pixels of width."""


def pictures(subject: Subject) -> dict[str, bytes]:
    """Contents by name of the file; the same points give the same SVG. Nothing where no figure but cycles is known."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = planes(subject)
    if not panels:
        return {}
    figure = Figure(figsize=(WIDTH, HEIGHT * len(panels)), layout="tight")
    for axes, (x, y) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels):
        _panel(axes, subject, x, y)
    files = {}
    for suffix in FORMATS:
        image = io.BytesIO()
        with rc_context({"svg.hashsalt": "heepgen"}):
            figure.savefig(image, format=suffix, dpi=100, metadata={"Date": None} if suffix == "svg" else None)
        files[f"front.{suffix}"] = image.getvalue()
    return files


def _panel(axes: Any, subject: Subject, x: Axis, y: Axis) -> None:
    area = subject.path.area
    best = [point for point in subject.front if x.of(point) and y.of(point)]
    largest = max((area.of(point) or 0 for point in best), default=0) if area else 0
    sizes = [20 + 100 * (area.of(point) or 0) / largest if area and largest else 40 for point in best]
    axes.scatter(*_along(subject.points, x, y), 4, color="#9aa3ab", alpha=0.4, linewidth=0, label="judged")
    axes.plot(*_along(subject.path.points, x, y), color="#c9803c", linewidth=1.2, label="path")
    axes.scatter(*_along(best, x, y), sizes, color="#4878a8", alpha=0.8, linewidth=0, label="front, larger: more area")
    for number, (label, point) in enumerate(choices(subject)):
        place = (x.of(point), y.of(point))
        if all(place):
            axes.scatter(*([value] for value in place), 190, facecolor="none", edgecolor="black", linewidth=1.2)
            shown = {"textcoords": "offset points", "xytext": (0, (-20, 12)[number % 2]), "ha": "center"}
            axes.annotate(f"{label}: {short_name_of(point)}", place, fontsize=9, **shown)
    axes.set(xscale="log", yscale="log", xlabel=x.label, ylabel=y.label)
    axes.margins(0.12)
    axes.grid(True, which="major", color="#dfe3e6")
    axes.set_axisbelow(True)
    axes.set_title(f"{subject.title}: {len(subject.points):,} designs", loc="left", fontsize=10)
    axes.legend(frameon=False, fontsize=9)


def _along(points: Sequence[Point], x: Axis, y: Axis) -> tuple[list[float], list[float]]:
    """Values on both axes, of the points that have them."""
    pairs = [(a, b) for point in points if (a := x.of(point)) and (b := y.of(point))]
    return [a for a, _ in pairs], [b for _, b in pairs]

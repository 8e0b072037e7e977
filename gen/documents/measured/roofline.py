# SPDX-License-Identifier: Apache-2.0
"""Roofline: what every layer reaches, against the array's peak and the bus."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gen.documents.measured.bench import Measurement
from gen.results.runs.run import LayerReport
from hls.output import DOCUMENT, write_file

FORMATS = ("png", "svg")
PANEL = 4.4
"""Inches of height."""
_COLORS = [
    "#1f77b4",
    "#d95f02",
    "#2a7f2a",
    "#c1272d",
    "#7b4fa3",
    "#7a4a3c",
    "#c2408f",
    "#555555",
    "#8a7a00",
    "#0f8a95",
    "#1b2a8b",
    "#b8660b",
    "#3d7d6e",
    "#93003a",
]
_POINTS: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9}


def operations(layer: LayerReport, diagonal: int) -> int:
    """MACs, or accumulations of a pooling or addition: `diagonal` per vector."""
    return layer.macs or layer.array_cycles * diagonal


@dataclass(frozen=True)
class Point:
    """A layer on the array: operations per bus word and per cycle, its share of the network's cycles."""

    intensity: float
    speed: float
    share: float
    name: str


def points(m: Measurement) -> list[Point]:
    """Every layer on the array that computes something."""
    diagonal = min(map(int, m.geometry.split("p")[0].split("x")))
    return [
        Point(
            operations(layer, diagonal) / layer.bus_words,
            operations(layer, diagonal) / layer.cycles,
            layer.cycles / m.cycles,
            layer.name,
        )
        for layer in m.layers
        if layer.bus_words and layer.cycles and operations(layer, diagonal)
    ]


def plot(results: Sequence[Measurement], folder: Path, stem: str = "roofline") -> list[Path]:
    """Write one panel per geometry of which layers are known, below each other, as PNG and SVG; the same numbers give
    the same SVG. They are made to be read at 800 pixels of width."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "heepgen"
    from matplotlib import pyplot

    measured = [m for m in results if not m.skipped and m.layers]
    geometries = list(dict.fromkeys(m.geometry for m in measured))
    count = max(1, len(geometries))
    figure, axes = pyplot.subplots(count, 1, figsize=(8, PANEL * count), squeeze=False)
    figure.subplots_adjust(
        left=0.08, right=0.62, top=1 - 0.4 / (PANEL * count), bottom=0.5 / (PANEL * count), hspace=0.32
    )
    for ax, geometry in zip(axes[:, 0], geometries):
        _panel(ax, [m for m in measured if m.geometry == geometry])
    paths = [folder / f"{stem}.{suffix}" for suffix in FORMATS]
    for path in paths:
        image = io.BytesIO()
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(image, format=path.suffix[1:], dpi=100, metadata=metadata)
        write_file(path, image.getvalue(), DOCUMENT)
    pyplot.close(figure)
    return paths


def _styles() -> Iterator[tuple[str, str]]:
    """Colour and marker; no two of the first 56 are alike."""
    return ((color, marker) for marker in "os^D" for color in _COLORS)


def _panel(ax: Any, networks: Sequence[Measurement]) -> None:
    peak, ports = networks[0].peak, networks[0].ports
    slowest = []
    for m, (color, marker) in zip(networks, _styles()):
        found = points(m)
        sizes = [12 + 90 * point.share for point in found]
        ax.scatter(
            [point.intensity for point in found],
            [point.speed for point in found],
            sizes,
            color=color,
            marker=marker,
            alpha=0.7,
            linewidth=0,
        )
        if found:
            slowest.append((max(found, key=lambda point: point.share), m, color))
    ax.set(
        xscale="log",
        yscale="log",
        ylabel="MACs per cycle",
        xlabel="MACs per bus word (pooling, addition: accumulations)",
    )
    ax.set_title(f"{networks[0].geometry}: every layer on the array", loc="left", fontsize=11)
    low, high = ax.get_xlim()
    low, high = min(low, 0.5), max(high, 4.0 * peak / ports)
    bottom = min([point.speed for m in networks for point in points(m)], default=1.0) / 1.5
    ax.plot([low, peak / ports, high], [low * ports, peak, peak], color="black", linewidth=1, zorder=0)
    ax.set(xlim=(low, high), ylim=(bottom, 2 * peak))
    ax.annotate(f"{peak} MACs per cycle", (high, peak), (-4, 2), ha="right", va="bottom", **_POINTS)
    knee = max(low, bottom / ports) * 1.4
    ax.annotate(
        f"{ports} words per cycle", (knee, knee * ports), (2, 8), ha="left", va="bottom", rotation=33, **_POINTS
    )
    ax.grid(True, which="major", alpha=0.3)
    _name(ax, slowest)


def _name(ax: Any, slowest: Sequence[tuple[Point, Measurement, str]]) -> None:
    """Labels on the right, in the order of their points, each with a line to its own."""
    heading = "network: its slowest layer, share of its cycles"
    ax.annotate(heading, (1.03, 1.03), xycoords="axes fraction", fontsize=8, annotation_clip=False)
    for place, (point, m, color) in enumerate(sorted(slowest, key=lambda entry: -entry[0].speed)):
        text = f"{m.network}: {point.name}, {100 * point.share:.0f} % of {m.cycles:,}"
        ax.annotate(
            text,
            (point.intensity, point.speed),
            (1.03, 1 - (place + 0.5) / max(len(slowest), 8)),
            textcoords="axes fraction",
            va="center",
            color=color,
            fontsize=8,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.6,
                "alpha": 0.7,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )

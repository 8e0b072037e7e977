# SPDX-License-Identifier: Apache-2.0
"""Roofline: what every layer reaches, against the array's peak and the bus."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gen.documents.bench import Measurement
from gen.results.run import LayerReport
from hls.output import DOCUMENT, write_file

FORMATS = ("png", "svg")


def operations(layer: LayerReport, diagonal: int) -> int:
    """MACs, or accumulations of a pooling or addition: `diagonal` per vector."""
    return layer.macs or layer.array_cycles * diagonal


def points(m: Measurement) -> list[tuple[float, float, str]]:
    """(operations per bus word, operations per cycle, name) of every layer on the array."""
    diagonal = min(map(int, m.geometry.split("p")[0].split("x")))
    return [
        (operations(layer, diagonal) / layer.bus_words, operations(layer, diagonal) / layer.cycles, layer.name)
        for layer in m.layers
        if layer.bus_words and layer.cycles
    ]


def plot(results: Sequence[Measurement], folder: Path, stem: str = "roofline") -> list[Path]:
    """Write one panel per geometry as PNG and SVG; the same numbers give the same SVG."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "heepgen"
    from matplotlib import pyplot

    measured = [m for m in results if not m.skipped]
    geometries = list(dict.fromkeys(m.geometry for m in measured))
    figure, axes = pyplot.subplots(
        1, max(1, len(geometries)), figsize=(1 + 6 * max(1, len(geometries)), 5.5), squeeze=False, layout="constrained"
    )
    for ax, geometry in zip(axes[0], geometries):
        _panel(ax, [m for m in measured if m.geometry == geometry])
    paths = [folder / f"{stem}.{suffix}" for suffix in FORMATS]
    for path in paths:
        image = io.BytesIO()
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(image, format=path.suffix[1:], dpi=120, metadata=metadata)
        write_file(path, image.getvalue(), DOCUMENT)
    pyplot.close(figure)
    return paths


def _styles() -> Iterator[tuple[str, str]]:
    """Colour and marker; no two of the first forty are alike."""
    return ((f"C{i}", marker) for marker in "os^D" for i in range(10))


def _panel(ax: Any, networks: Sequence[Measurement]) -> None:
    peak, ports = networks[0].peak, networks[0].ports
    for m, (color, marker) in zip(networks, _styles()):
        x, y, _ = zip(*points(m))
        ax.plot(x, y, marker, color=color, markersize=5, alpha=0.75, label=f"{m.network} ({m.cycles:,})")
    low, high = ax.get_xlim()
    low, high = min(low, 0.5) if low > 0 else 0.5, max(high, 4.0 * peak / ports)
    knee = peak / ports
    ax.plot([low, knee, high], [low * ports, peak, peak], "k-", linewidth=1)
    ax.annotate(f"{peak} MAC/cycle", (high, peak), ha="right", va="bottom", fontsize=8)
    ax.annotate(f"{ports} words/cycle", (low * 1.3, low * 1.3 * ports), ha="left", va="bottom", fontsize=8, rotation=38)
    ax.set(
        xscale="log",
        yscale="log",
        title=f"{networks[0].geometry}: every layer",
        ylim=(None, 2 * peak),
        xlabel="MACs per bus word (pooling, addition: accumulations)",
        ylabel="MACs per cycle",
    )
    ax.grid(True, which="major", alpha=0.3)
    ax.legend(fontsize=7, loc="lower right", title="network (cycles per inference)", title_fontsize=7)

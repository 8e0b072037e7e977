# SPDX-License-Identifier: Apache-2.0
"""A picture of a memory plan: who occupies which addresses of the arena, and when."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT = 8.0, 5.0
"""Inches; the picture is made to be read at 800 pixels of width."""
NAMED = 8
"""Buffers that each legend names, the largest."""
THINNEST = 0.04
"""Share of the height from which a box has its name in it."""
LONGEST = 22
"""Characters of a name."""


def picture(memory: Mapping[str, Any], layers: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """An SVG of a `MemoryReport` as a dict: layers from left to right, addresses upwards, a box per buffer, a legend of
    the largest, and one of the outputs of `layers`, as in the manifest, that are in the scratchpad instead. The dashed
    line is what no plan can do without."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    steps, buffers = ["call", *memory["steps"]], memory["buffers"]
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((0.09, 0.27, 0.56, 0.62))
    start = min((b["address"] for b in buffers), default=0)
    boxes = {}
    top = max(memory["arena_bytes"], 16) * 1.05 / 1024
    for number, buffer in enumerate(buffers):
        corner = (buffer["born"] + 0.5, (buffer["address"] - start) / 1024)
        width, height = buffer["dies"] - buffer["born"] + 1, buffer["size"] / 1024
        box = Rectangle(corner, width, height, facecolor=f"C{number % 10}", edgecolor="black", linewidth=0.5, alpha=0.6)
        boxes[buffer["name"]] = axes.add_patch(box)
        if height < THINNEST * top:
            continue
        axes.annotate(
            _short(buffer["name"]),
            (corner[0] + width / 2, corner[1] + height / 2),
            ha="center",
            va="center",
            fontsize=7,
            clip_on=True,
        )
    peak = axes.axhline(memory["peak_bytes"] / 1024, linestyle="--", color="black", linewidth=1)
    shown = range(0, len(steps), -(-len(steps) // 30))
    axes.set(xlim=(-0.5, len(steps) - 0.5), ylim=(0, top), xticks=shown, ylabel="KiB of the arena")
    axes.set_xticklabels([_short(steps[i]) for i in shown], rotation=90, fontsize=8)
    axes.set_title(
        f"{memory['network']}: arena of {memory['arena_bytes']:,} bytes; beside it {memory['constant_bytes']:,} of "
        f"constants,\n{memory['weight_bytes']:,} of them weights, and {memory['program_bytes']:,} for the program",
        loc="left",
        fontsize=10,
    )
    largest = sorted(buffers, key=lambda b: -b["size"])[:NAMED]
    entries = [(boxes[b["name"]], f"{_short(b['name'])}: {b['size']:,}") for b in largest]
    alive = f"{memory['peak_bytes']:,} alive at once,\nin {_short(memory['peak_step'])}"
    handles, labels = zip((peak, alive), *entries)
    legend: dict[str, Any] = {"loc": "upper left", "fontsize": 8, "frameon": False, "alignment": "left"}
    title = _counted("bytes in the arena", len(buffers))
    axes.add_artist(axes.legend(handles, labels, bbox_to_anchor=(1.02, 1.04), title=title, **legend))
    held = sorted(((_bytes(layer), layer["name"]) for layer in layers if layer.get("scratchpad")), reverse=True)
    if held:
        axes.legend(
            [Rectangle((0, 0), 1, 1, facecolor="none", edgecolor="black", hatch="////", linewidth=0.5)]
            * len(held[:NAMED]),
            [f"{_short(name)}: {size:,}" for size, name in held[:NAMED]],
            bbox_to_anchor=(1.02, 0.32),
            title=_counted("bytes in the scratchpad", len(held)),
            **legend,
        )
    svg = io.BytesIO()
    with rc_context({"svg.hashsalt": memory["network"]}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return svg.getvalue()


def _bytes(layer: Mapping[str, Any]) -> int:
    return int(layer["scratchpad"]["bytes"])


def _counted(title: str, count: int) -> str:
    return f"{title}, {NAMED} of {count}" if count > NAMED else title


def _short(name: str) -> str:
    """`name` without its middle where it is long."""
    half = (LONGEST - 1) // 2
    return name if len(name) <= LONGEST else f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"

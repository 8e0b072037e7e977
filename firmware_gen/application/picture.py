# SPDX-License-Identifier: Apache-2.0
"""A picture of a memory plan: who occupies which addresses of the arena, and when."""

import io
from typing import Any


def picture(memory: dict[str, Any]) -> bytes:
    """An SVG of a `MemoryReport` as a dict: layers from left to right, addresses upwards, a box per buffer.
    The dashed line is what no plan can do without."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    steps = memory["steps"]
    figure = Figure(figsize=(min(4 + 0.35 * len(steps), 24), 6), layout="constrained")
    axes = figure.subplots()
    start = min((b["address"] for b in memory["buffers"]), default=0)
    for number, buffer in enumerate(memory["buffers"]):
        corner = (buffer["born"] - 0.5, (buffer["address"] - start) / 1024)
        width, height = buffer["dies"] - buffer["born"] + 1, buffer["size"] / 1024
        axes.add_patch(Rectangle(corner, width, height, facecolor=f"C{number % 10}", edgecolor="black", alpha=0.6))
        axes.annotate(
            buffer["name"],
            (corner[0] + width / 2, corner[1] + height / 2),
            ha="center",
            va="center",
            fontsize=7,
            clip_on=True,
        )
    axes.axhline(memory["peak_bytes"] / 1024, linestyle="--", color="black", linewidth=1)
    axes.set(
        xlim=(-1.5, len(steps) - 0.5),
        ylim=(0, max(memory["arena_bytes"], 16) * 1.05 / 1024),
        xticks=range(-1, len(steps)),
        ylabel="KiB of the arena",
        title=f"{memory['network']}: {memory['arena_bytes']:,} bytes of arena, {memory['peak_bytes']:,} alive at "
        f"once in {memory['peak_step']}",
    )
    axes.set_xticklabels(["call", *steps], rotation=90, fontsize=7)
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return svg.getvalue()

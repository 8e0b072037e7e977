# SPDX-License-Identifier: Apache-2.0
"""A picture of a memory plan: who occupies which addresses of the arena, and when. Written out, since to import a
library that draws takes longer than to compile a network."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 800, 500
LEFT, TOP, RIGHT, BOTTOM = 72.0, 55.0, 520.0, 365.0
"""Edges of the plot; legends are on the right of it."""
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")
NAMED = 8
"""Buffers that each legend names, the largest."""
THINNEST = 0.04
"""Share of the height from which a box has its name in it."""
LONGEST = 22
"""Characters of a name."""
NAMES = 30
"""Steps that are named below the plot at most."""
LINE = 16


def picture(memory: Mapping[str, Any], layers: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """An SVG of a `MemoryReport` as a dict: layers from left to right, addresses upwards, a box per buffer, a legend of
    the largest, and one of the outputs of `layers`, as in the manifest, that are in the scratchpad instead. The dashed
    line is what no plan can do without."""
    steps, buffers = ["call", *memory["steps"]], memory["buffers"]
    start = min((b["address"] for b in buffers), default=0)
    top = max(memory["arena_bytes"], 16) * 1.05
    scale = (BOTTOM - TOP) / top

    def x(step: float) -> float:
        return float(LEFT + (RIGHT - LEFT) * (step + 0.5) / len(steps))

    def y(size: float) -> float:
        return float(BOTTOM - size * scale)

    parts = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="DejaVu Sans, Verdana, sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<clipPath id="plot"><rect x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}"/></clipPath>',
        _text(
            LEFT,
            20,
            f"{memory['network']}: arena of {memory['arena_bytes']:,} bytes; beside it "
            f"{memory['constant_bytes']:,} of constants,",
            'font-size="13"',
        ),
        _text(
            LEFT,
            38,
            f"{memory['weight_bytes']:,} of them weights, and {memory['program_bytes']:,} for the program",
            'font-size="13"',
        ),
        '<g clip-path="url(#plot)">',
    ]
    colours = {}
    for number, buffer in enumerate(buffers):
        colour = colours[buffer["name"]] = COLOURS[number % len(COLOURS)]
        left, right = x(buffer["born"] + 0.5), x(buffer["dies"] + 1.5)
        bottom = y(buffer["address"] - start)
        height = buffer["size"] * scale
        parts.append(_box(left, bottom - height, right - left, height, colour))
        if height >= THINNEST * (BOTTOM - TOP):
            middle = (left + right) / 2, bottom - height / 2 + 3
            parts.append(_text(*middle, _short(buffer["name"]), 'font-size="9" text-anchor="middle"'))
    peak = 'stroke="black" stroke-dasharray="5 3"/>'
    parts += [
        f'<path d="M{LEFT} {y(memory["peak_bytes"]):.1f}H{RIGHT}" {peak}',
        "</g>",
        f'<rect x="{LEFT}" y="{TOP}" width="{RIGHT - LEFT}" height="{BOTTOM - TOP}" fill="none" stroke="black"/>',
    ]
    for size in _ticks(top):
        parts.append(f'<path d="M{LEFT - 4} {y(size):.1f}H{LEFT}" stroke="black"/>')
        parts.append(_text(LEFT - 7, y(size) + 4, f"{size / 1024:g}", 'text-anchor="end"'))
    parts.append(
        _text(
            0, 0, "KiB of the arena", f'text-anchor="middle" transform="translate(22 {(TOP + BOTTOM) / 2}) rotate(-90)"'
        )
    )
    for number in range(0, len(steps), -(-len(steps) // NAMES)):
        where = f'transform="translate({x(number) + 4:.1f} {BOTTOM + 8}) rotate(-90)"'
        parts.append(f'<path d="M{x(number):.1f} {BOTTOM}v4" stroke="black"/>')
        parts.append(_text(0, 0, _short(steps[number]), f'text-anchor="end" {where}'))
    parts += _legend_of_arena(memory, colours, peak)
    held = sorted(((_bytes(layer), layer["name"]) for layer in layers if layer.get("scratchpad")), reverse=True)
    if held:
        title = TOP + (4 + NAMED) * LINE
        parts.append(_text(RIGHT + 20, title + 6, _counted("bytes in the scratchpad", len(held))))
        parts += _legend(title + LINE, [('fill="none"', f"{_short(name)}: {size:,}") for size, name in held[:NAMED]])
    return "\n".join([*parts, "</svg>\n"]).encode()


def _legend_of_arena(memory: Mapping[str, Any], colours: Mapping[str, str], peak: str) -> Iterator[str]:
    """The largest buffers; ``peak``: how the line of what is alive at once is drawn."""
    buffers = memory["buffers"]
    largest = sorted(buffers, key=lambda b: -b["size"])[:NAMED]
    entries = [
        (f'fill="{colours[b["name"]]}" fill-opacity="0.6"', f"{_short(b['name'])}: {b['size']:,}") for b in largest
    ]
    yield _text(RIGHT + 20, TOP + 6, _counted("bytes in the arena", len(buffers)))
    yield f'<path d="M{RIGHT + 20} {TOP + LINE + 2}h24" {peak}'
    yield _text(RIGHT + 52, TOP + LINE + 6, f"{memory['peak_bytes']:,} alive at once,")
    yield _text(RIGHT + 52, TOP + 2 * LINE + 6, f"in {_short(memory['peak_step'])}")
    yield from _legend(TOP + 3 * LINE, entries)


def _text(x: float, y: float, text: str, how: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}"' if "transform" not in how else ""
    return f"<text {' '.join(filter(None, (place, how)))}>{escape(text)}</text>"


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    edge = f'fill="{colour}" fill-opacity="0.6" stroke="black" stroke-width="0.7"'
    return f'<rect x="{x:.1f}" y="{y:.2f}" width="{width:.1f}" height="{height:.2f}" {edge}/>'


def _legend(top: float, entries: Sequence[tuple[str, str]]) -> Iterator[str]:
    """A line for every fill and its text, from ``top`` down."""
    for number, (fill, text) in enumerate(entries):
        y = top + number * LINE
        yield f'<rect x="{RIGHT + 20}" y="{y - 3:.1f}" width="24" height="9" {fill} stroke="black" stroke-width="0.7"/>'
        yield _text(RIGHT + 52, y + 6, text)


def _ticks(top: float) -> Iterator[int]:
    """Round sizes up to ``top``, some five of them."""
    step = 2 ** math.ceil(math.log2(top / 6))
    return iter(range(0, int(top) + 1, step))


def _bytes(layer: Mapping[str, Any]) -> int:
    return int(layer["scratchpad"]["bytes"])


def _counted(title: str, count: int) -> str:
    return f"{title}, {NAMED} of {count}" if count > NAMED else title


def _short(name: str) -> str:
    """`name` without its middle where it is long."""
    half = (LONGEST - 1) // 2
    return name if len(name) <= LONGEST else f"{name[:half]}\N{HORIZONTAL ELLIPSIS}{name[-half:]}"

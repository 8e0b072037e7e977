# SPDX-License-Identifier: Apache-2.0
"""points.csv: every design that was judged, a row each."""

import csv
import io
from collections.abc import Sequence
from functools import cache
from typing import Any

from gen.datasheet.axes import AXES
from gen.datasheet.designs import ARCHITECTURE, described, values_of
from gen.explore.point import Point

AT_END = ("modelled", "error", "stage", "bottleneck", "front")


def table_of(points: Sequence[Point], front: Sequence[Point]) -> str:
    """CSV with a head: the point's number, its architecture and the options that those have of their own or that
    differ between points, axes, cycles of every model; of a point that was run on the RTL the cycle model's cycles and
    by what part of the measured ones it is off; stage, bottleneck, and whether it is on the front. What is not
    known, and an option that an architecture has not, is empty."""
    known = cache(described)
    values = [values_of(point, known) for point in points]
    names = dict.fromkeys([ARCHITECTURE, *(name for own in values for name in own)])
    differing = [name for name in names if name == ARCHITECTURE or len({own.get(name) for own in values}) > 1]
    models = list(dict.fromkeys(name for point in points for name in point.by_model))
    best = {point.number for point in front}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["point", *differing, *AXES, *(f"cycles of {name}" for name in models), *AT_END])
    for point, own in zip(points, values, strict=True):
        rows.writerow(
            [
                point.number,
                *(_plain(own.get(name)) for name in differing),
                *(_plain(axis.of(point)) for axis in AXES.values()),
                *(_plain(point.by_model.get(name)) for name in models),
                _plain(point.modelled),
                _plain(point.error),
                point.stage,
                point.bottleneck,
                _plain(point.number in best),
            ]
        )
    return text.getvalue()


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

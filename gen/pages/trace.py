# SPDX-License-Identifier: Apache-2.0
"""A timeline as a Trace Event file, which Perfetto and chrome://tracing open."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from gen.pages.timeline import CPU, Slice, Timeline, Track
from hls import __version__
from hls.lib.probe import WORK

MOST_SLICES = 20_000
"""Of a track; more are put together."""

_UNIT = "1 us in this file is 1 clock cycle, counted from reset"


def trace_text(timeline: Timeline, about: Mapping[str, Any]) -> str:
    """JSON text, an event a line; `about` goes to the file's `otherData`."""
    groups = list(dict.fromkeys(track.group for track in timeline.tracks))
    places = {(t.group, t.name): (1 + groups.index(t.group), i) for i, t in enumerate(timeline.tracks, 1)}
    events = [*_names(places), *_slices(timeline.tracks, places), *_counters(timeline, 1 + groups.index(CPU))]
    coarse = {t.name: t.grid for t in timeline.tracks if t.grid > 1}
    other = {
        "unit": _UNIT,
        "version": __version__,
        **about,
        "end": timeline.end,
        "complete": timeline.complete,
        "cycles_put_together": coarse,
    }
    lines = ",\n".join(json.dumps(event, separators=(",", ":")) for event in events)
    return f'{{"displayTimeUnit":"ns","otherData":{json.dumps(other)},"traceEvents":[\n{lines}\n]}}\n'


def _names(places: Mapping[tuple[str, str], tuple[int, int]]) -> Iterator[dict[str, Any]]:
    for group, pid in {group: pid for (group, _), (pid, _) in places.items()}.items():
        yield _metadata("process_name", pid, 0, name=group)
        yield _metadata("process_sort_index", pid, 0, sort_index=pid)
    for (_, name), (pid, tid) in places.items():
        yield _metadata("thread_name", pid, tid, name=name)
        yield _metadata("thread_sort_index", pid, tid, sort_index=tid)


def _metadata(what: str, pid: int, tid: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "ts": 0, "args": args}


def _slices(tracks: tuple[Track, ...], places: Mapping[tuple[str, str], tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """In order of time."""
    every = [(s.start, *places[t.group, t.name], s) for t in tracks for s in t.slices]
    for start, pid, tid, one in sorted(every, key=lambda e: e[:3]):
        yield {
            "ph": "X",
            "name": _name(one),
            "cat": one.kind,
            "pid": pid,
            "tid": tid,
            "ts": start,
            "dur": one.end - start,
            "args": _arguments(one),
        }


def _name(one: Slice) -> str:
    """Work is called as the layer that it is for, so that a layer has one colour on all tracks."""
    return one.layer if one.kind == WORK and one.layer is not None else one.name


def _arguments(one: Slice) -> dict[str, Any]:
    known: dict[str, Any] = {"state": one.name}
    if one.layer is not None:
        known["layer"] = one.layer
    if one.parts is not None:
        known["cycles"] = dict(one.parts)
    return known


def _counters(timeline: Timeline, pid: int) -> Iterator[dict[str, Any]]:
    """Requests of the CPU's ports per cycle, where they change."""
    for name, counts in timeline.counts.items():
        last = None
        for number, count in enumerate(counts):
            if count != last:
                per_cycle = round(count / timeline.bin_cycles, 4)
                yield {
                    "ph": "C",
                    "name": name,
                    "pid": pid,
                    "ts": number * timeline.bin_cycles,
                    "args": {"per cycle": per_cycle},
                }
                last = count

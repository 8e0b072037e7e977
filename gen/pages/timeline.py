# SPDX-License-Identifier: Apache-2.0
"""A recording as tracks: what every engine, port and the CPU was at, and which layer, from cycle to cycle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gen.pages.spans import Span
from hls.lib.probe import STALL, WAIT, WORK, Engine, Part, State, signal_of
from sim.recording import ASLEEP, PORT, Recording, port_signal

NETWORK, ACCELERATOR, BUS, CPU = "network", "accelerator", "bus", "CPU"
"""Groups of tracks."""

_PORT_STATES = (("write", WORK), ("read", WORK), ("waiting for bus grant", STALL))
_Array = NDArray[np.int64]


@dataclass(frozen=True)
class Slice:
    """Cycles from `start` up to `end` in one state. `parts`: of a slice that stands for several, the cycles in each
    state; the rest of it nothing is done."""

    start: int
    end: int
    name: str
    kind: str
    layer: str | None = None
    parts: Mapping[str, int] | None = None

    @property
    def cycles(self) -> Mapping[str, int]:
        """Cycles by state."""
        return {self.name: self.end - self.start} if self.parts is None else self.parts


@dataclass(frozen=True)
class Track:
    """Slices in order, which do not overlap. `grid`: more than 1 where those that begin in the same so many cycles were
    put together."""

    name: str
    group: str
    slices: tuple[Slice, ...]
    grid: int = 1


@dataclass(frozen=True)
class Timeline:
    """A run from reset, cycle 0, to `end`; `complete`: whether that is all of it.

    counts: requests of the CPU's ports, per bin of `bin_cycles`.
    """

    end: int
    tracks: tuple[Track, ...]
    complete: bool = True
    counts: Mapping[str, Sequence[int]] = field(default_factory=dict)
    bin_cycles: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Slices as [start, end, state, kind, layer]."""
        return {
            "end": self.end,
            "complete": self.complete,
            "tracks": [
                {
                    "name": track.name,
                    "group": track.group,
                    "grid": track.grid,
                    "slices": [[s.start, s.end, s.name, s.kind, s.layer] for s in track.slices],
                }
                for track in self.tracks
            ],
        }

    def track(self, name: str) -> Track:
        return next(track for track in self.tracks if track.name == name)


def timeline(
    recording: Recording,
    engines: Sequence[Engine],
    layers: Sequence[Mapping[str, Any]],
    spans: Sequence[Span],
    ports: int,
    most: int,
) -> Timeline:
    """Tracks of a run with at most about `most` slices each; `layers` are the manifest's, `spans` in order."""
    names = [layer["name"] for layer in layers]
    owner = {d: layer["name"] for layer in layers for d in layer["descriptors"]}
    tracks = [Track("layers", NETWORK, tuple(_layer_slices(spans, names)))]
    for engine in engines:
        begun = _begun(recording, engine, len(owner))
        tracks += [_part_track(recording, engine, part, begun, owner, most) for part in engine.parts]
        state = states_of(recording, engine.states)
        tracks.append(
            _track(
                name=engine.name,
                group=ACCELERATOR,
                recording=recording,
                state=state,
                states=engine.states,
                begun=begun,
                owner=owner,
                most=most,
            )
        )
    tracks += [_port_track(recording, port, most) for port in range(ports)]
    tracks.append(_cpu_track(recording, spans, names, most))
    return Timeline(
        recording.end,
        tuple(tracks),
        recording.complete,
        {name: counts.tolist() for name, counts in recording.cpu_counts.items()},
        recording.bin_cycles,
    )


def _layer_slices(spans: Sequence[Span], names: Sequence[str]) -> list[Slice]:
    return [Slice(s.start, s.end, names[s.layer], WORK, names[s.layer]) for s in spans if s.cycles]


def _holds(recording: Recording, condition: str) -> NDArray[Any]:
    holds: NDArray[Any] = (recording.values[signal_of(condition)] != 0) != condition.startswith("!")
    return holds


def states_of(recording: Recording, states: Sequence[State]) -> _Array:
    """Number of the first state that holds, by interval; -1 for none."""
    holding = [np.logical_and.reduce([_holds(recording, c) for c in s.conditions]) for s in states]
    return np.select(holding, range(len(states)), -1).astype(np.int64)


def _begun(recording: Recording, engine: Engine, descriptors: int) -> _Array:
    """Number of the descriptor that an engine is at, by interval; -1 before the first, and where there are none."""
    if not engine.start or not descriptors:
        return np.full(len(recording.starts), -1, np.int64)
    begins = recording.starts[recording.values[engine.start] != 0] + engine.delay
    at = np.searchsorted(begins, recording.starts, "right") - 1
    return np.where(at < 0, -1, at % descriptors)


def _track(
    name: str,
    group: str,
    recording: Recording,
    state: _Array,
    states: Sequence[State],
    begun: _Array,
    owner: Mapping[int, str],
    most: int,
) -> Track:
    starts, ends = recording.starts, recording.starts + recording.durations
    changes = np.flatnonzero(np.diff(state, prepend=-2) | np.diff(begun, prepend=-2))
    first = changes[state[changes] >= 0]
    last = np.append(changes[1:], len(state))[state[changes] >= 0] - 1
    return _coarse(
        name=name,
        group=group,
        starts=starts[first],
        ends=ends[last],
        state=state[first],
        begun=begun[first],
        states=states,
        owner=owner,
        most=most,
    )


def _coarse(
    name: str,
    group: str,
    starts: _Array,
    ends: _Array,
    state: _Array,
    begun: _Array,
    states: Sequence[State],
    owner: Mapping[int, str],
    most: int,
) -> Track:
    """The track, with slices put together until there are no more than `most`."""
    if not len(starts):
        return Track(name, group, ())
    grid = 1
    while len(starts) > most and len(first := _groups(starts, begun, grid)) > most and grid < 1 << 40:
        grid *= 2
    if grid == 1:
        first = np.arange(len(starts))
    durations = ends - starts
    sums = [np.add.reduceat(np.where(state == i, durations, 0), first) for i in range(len(states))]
    last = np.append(first[1:], len(starts)) - 1
    slices = []
    for i, (a, b) in enumerate(zip(first, last, strict=True)):
        layer = owner.get(int(begun[a]))
        if a == b:
            one = states[int(state[a])]
            slices.append(Slice(int(starts[a]), int(ends[a]), one.name, one.kind, layer))
            continue
        cycles: dict[str, int] = {}
        for s, total in zip(states, sums, strict=True):
            if total[i]:
                cycles[s.name] = cycles.get(s.name, 0) + int(total[i])
        name_of = max(cycles, key=cycles.__getitem__)
        kind = next(s.kind for s in states if s.name == name_of)
        slices.append(Slice(start=int(starts[a]), end=int(ends[b]), name=name_of, kind=kind, layer=layer, parts=cycles))
    return Track(name, group, tuple(slices), grid)


def _groups(starts: _Array, begun: _Array, grid: int) -> _Array:
    """Where slices begin another bin of `grid` cycles, or another descriptor."""
    return np.flatnonzero(np.diff(starts // grid, prepend=-1) | np.diff(begun, prepend=-2))


def _part_track(
    recording: Recording, engine: Engine, part: Part, begun: _Array, owner: Mapping[int, str], most: int
) -> Track:
    """What the engine's work is divided into, from the first to the last cycle of work of each."""
    working = np.logical_and.reduce([_holds(recording, c) for c in engine.states[0].conditions])
    marked = recording.values[part.first or part.last] != 0
    at = np.flatnonzero(working)
    repeats = np.where(marked[at], recording.durations[at], 1)  # every cycle of a mark is a part's
    index = np.repeat(at, repeats)
    offset = np.arange(len(index)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    starts = recording.starts[index] + offset
    ends = np.where(marked[index], starts + 1, recording.starts[index] + recording.durations[index])
    marks = marked[index].astype(np.int64)
    number = np.cumsum(marks) - (0 if part.first else marks)
    first = np.flatnonzero(np.diff(number, prepend=-1) | np.diff(begun[index], prepend=-2))
    last = np.append(first[1:], len(index)) - 1
    states = (State(part.name[:-1], WORK, ()),)
    zeros = np.zeros(len(first), np.int64)
    return _coarse(
        name=part.name,
        group=ACCELERATOR,
        starts=starts[first],
        ends=ends[last],
        state=zeros,
        begun=begun[index][first],
        states=states,
        owner=owner,
        most=most,
    )


def _port_track(recording: Recording, port: int, most: int) -> Track:
    granted, refused, written = (port_signal(port, what) for what in PORT)
    conditions = ((granted, written), (granted,), (refused,))
    states = [State(name, kind, c) for (name, kind), c in zip(_PORT_STATES, conditions, strict=True)]
    nobody = np.full(len(recording.starts), -1, np.int64)
    return _track(
        name=f"port {port}",
        group=BUS,
        recording=recording,
        state=states_of(recording, states),
        states=states,
        begun=nobody,
        owner={},
        most=most,
    )


def _cpu_track(recording: Recording, spans: Sequence[Span], names: Sequence[str], most: int) -> Track:
    """The CPU, with the layers that it computes."""
    states = (State("asleep", WAIT, (ASLEEP,)), State("running", WORK, (f"!{ASLEEP}",)))
    state = states_of(recording, states)
    first = np.flatnonzero(np.diff(state, prepend=-2))
    own = [s for s in spans if s.descriptor is None and s.cycles]
    cuts = np.array(sorted({t for s in own for t in (s.start, s.end)}), np.int64)
    starts = np.union1d(recording.starts[first], cuts[cuts < recording.end])
    ends = np.append(starts[1:], recording.end)
    at = np.searchsorted(recording.starts[first], starts, "right") - 1
    begun = np.full(len(starts), -1, np.int64)
    for span in own:
        begun[(starts >= span.start) & (starts < span.end)] = span.layer
    return _coarse(
        name="CPU",
        group=CPU,
        starts=starts,
        ends=ends,
        state=state[first][at],
        begun=begun,
        states=states,
        owner=dict(enumerate(names)),
        most=most,
    )

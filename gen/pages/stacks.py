# SPDX-License-Identifier: Apache-2.0
"""Where the cycles of an inference went, layer by layer: what a flame graph is drawn from."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gen.pages.spans import Span
from gen.pages.timeline import CPU, states_of
from hls.lib.probe import STALL, WAIT, WORK, Engine
from sim.recording import ASLEEP, Recording

NOTHING = "nothing moves"


class Stack(NamedTuple):
    """Cycles of a layer in which the same was going on, of that kind of state."""

    layer: str
    what: str
    kind: str
    cycles: int


def stacks(
    recording: Recording, engines: Sequence[Engine], layers: Sequence[Mapping[str, Any]], spans: Sequence[Span]
) -> list[Stack]:
    """Of every layer, every cycle from the end of the one before to its own, exactly: the state of the engine whose
    work has parts, the array of ours, while it works or is held up; else the engine nearest to the end of the way that
    works; else the CPU. `layers` are the manifest's, `spans` in order."""
    named = list(_labels(recording, engines))
    choice = np.select([holds for *_, holds in named], range(len(named)), len(named))
    labels = [(what, kind) for what, kind, _ in named] + [(NOTHING, WAIT)]
    ends = recording.starts + recording.durations
    found: dict[tuple[int, int], int] = {}
    for span in spans:
        first, last = np.searchsorted(ends, span.start, "right"), np.searchsorted(recording.starts, span.end)
        inside = slice(first, last)
        cycles = np.minimum(ends[inside], span.end) - np.maximum(recording.starts[inside], span.start)
        sums = np.bincount(choice[inside], cycles, len(labels))
        for number in np.flatnonzero(sums):
            found[span.layer, int(number)] = found.get((span.layer, int(number)), 0) + int(sums[number])
    return [Stack(layers[layer]["name"], *labels[number], found[layer, number]) for layer, number in sorted(found)]


def _labels(recording: Recording, engines: Sequence[Engine]) -> Iterator[tuple[str, str, Any]]:
    """What may go on, the first that holds first: its name, kind of state, and in which intervals it holds."""
    main = next((engine for engine in engines if engine.parts), None)
    if main is not None:
        at = states_of(recording, main.states)
        for number, state in enumerate(main.states):
            if state.kind in (WORK, STALL):
                yield state.name, state.kind, at == number
    for engine in reversed([engine for engine in engines if engine is not main]):
        kinds = np.array([state.kind == WORK for state in engine.states] + [False])
        yield engine.name, WORK, kinds[states_of(recording, engine.states)]
    yield CPU, WORK, recording.values[ASLEEP] == 0

# SPDX-License-Identifier: Apache-2.0
"""When each layer of a run was at work, by the counters that the device keeps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_WORD = 1 << 32


@dataclass(frozen=True)
class Span:
    """Cycles from `start` up to `end` in which a layer, by its number, was the next to be complete; `descriptor`: what
    of it, None for what the CPU does."""

    layer: int
    start: int
    end: int
    descriptor: int | None = None

    @property
    def cycles(self) -> int:
        return self.end - self.start


def layer_ends(layers: Sequence[Mapping[str, Any]], spans: Sequence[Span]) -> list[tuple[int, str]]:
    """(cycle, name) of the end of every layer that took any, in time."""
    ends = {span.layer: span.end for span in spans if span.cycles}
    return sorted((end, layers[layer]["name"]) for layer, end in ends.items())


def elapsed(end: int, start: int) -> int:
    """Between two readings of a counter's low word."""
    return (end - start) % _WORD


def timed_spans(timing: Sequence[int]) -> list[Span]:
    """Layers that the CPU calls one after the other; `timing` is start, end, and the end of every layer."""
    start, _, *ends = map(int, timing)
    spans = []
    for index, end in enumerate(ends):
        spans.append(Span(index, start, start + elapsed(end, start)))
        start = end
    return spans


def accelerated_spans(
    layers: Sequence[Mapping[str, Any]], timing: Sequence[int], records: Sequence[Mapping[str, int]]
) -> Iterator[Span]:
    """Layers of an accelerated run, in time, from the profile records, one per descriptor.

    The first descriptor starts at the doorbell, each other one where the one before it ended, whichever layer's.
    """
    last = int(timing[0])
    owner = {descriptor: index for index, layer in enumerate(layers) for descriptor in layer["descriptors"]}
    done = 0
    for index, layer in enumerate(layers):
        if layer["on_cpu"]:
            end = int(timing[2 + index])
            yield Span(index, last, last + elapsed(end, last))
            last = end
        for descriptor in range(done, max(layer["descriptors"], default=-1) + 1):
            end = records[descriptor]["cycle"]
            if descriptor == 0:
                last = elapsed(end, records[0]["busy"])
            yield Span(owner[descriptor], last, last + elapsed(end, last), descriptor)
            last, done = end, descriptor + 1

# SPDX-License-Identifier: Apache-2.0
"""What keeps a layer from being faster, from what an architecture says of its cycles."""

from collections.abc import Iterable
from dataclasses import dataclass

from firmware_gen.architectures.contract import LayerCycles

LIMITS = {
    "vectors": "the array takes a vector in every cycle",
    "bus": "the ports move words in every cycle, or wait for a bank that several words lie in",
    "drain": "the epilogue's lanes finish results in every cycle",
    "weights": "weights come over the ports, or into the array, in every cycle",
    "latency": "most cycles pass while nothing but the way through the pipelines, and of the first words, is at work",
    "cpu": "the CPU computes it",
    "unknown": "the architecture does not say what its cycles are made of",
}
"""What each one means."""


@dataclass(frozen=True)
class Limit:
    """The limit that binds a layer, one of LIMITS, and the cycles that vectors, bus, drain and weights allow: how far a
    layer is from its limit is the quotient of its cycles and these. On the CPU they are the layer's; 0 where nobody
    knows. Layers overlap: one may take fewer cycles than its limit."""

    name: str
    cycles: int


def limit_of(layer: LayerCycles) -> Limit:
    """What binds a layer.

    The busiest of array, bus, drain and weights binds; where they are idle for more than half of the layer, latency
    does. Weights that take more than half of a bus that binds are named themselves.
    """
    if layer.on_cpu:
        return Limit("cpu", layer.cycles)
    needs = {"vectors": layer.vectors, "weights": layer.weights, "bus": layer.bus, "drain": layer.drain}
    name = max(needs, key=needs.__getitem__)
    most = needs[name]
    if not most:
        return Limit("unknown", 0)
    if name == "bus" and 2 * layer.weights > most:
        name = "weights"
    return Limit("latency" if layer.cycles > 2 * most else name, most)


def bottleneck(layers: Iterable[LayerCycles | None]) -> str:
    """The limit, one of LIMITS, that binds for most cycles of an inference; None is a layer of unknown cycles."""
    cycles = dict.fromkeys(LIMITS, 0)
    for layer in layers:
        if layer is not None:
            cycles[limit_of(layer).name] += layer.cycles
    return max(cycles, key=cycles.__getitem__) if any(cycles.values()) else "unknown"

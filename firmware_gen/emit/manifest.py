# SPDX-License-Identifier: Apache-2.0
"""What a program is built from and where its results lie: the manifest of an application."""

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from firmware_gen import ir
from firmware_gen.emit.literals import identifier
from firmware_gen.emit.mode import ARENA_SECTION, KEPT, RESULT, TIMING, WEIGHT_SECTIONS, Half, Mode, arena_symbol
from firmware_gen.memory.network import Layer, Network
from firmware_gen.operations.tensors import shares_storage

SOURCES = ("model.cpp", "sample.cpp", "weights.cpp", "check.cpp")
INCLUDE_DIRS = [".", "runtime"]


def manifest(accelerator: Mode, software: Mode, half: Half, shared: bool) -> dict[str, Any]:
    """What `heepgen run` needs to build the application and to read its results from memory.

    Sources and folders are those in GENERATED; the user's own are compiled with them.
    Shapes are PyTorch's, and `channels_last` says where (N, H, W, C) is the order in memory.
    Tensor and profile places are byte offsets from the arena, whose address each mode gives; it also gives the places
    of the outputs, and their `expected_bits`, those of all outputs one after the other. `layer` is what computes an
    output. A layer's own output has a place only where nothing is on chip. `shared`: sources are those of the network
    alone, and what model_check leaves of outputs and profile has the symbol `kept`.
    """
    network, plain = accelerator.network, software.network
    name = identifier(network.graph.name)
    symbols = {"result": f"{RESULT}_{name}", "timing": f"{TIMING}_{name}", "arena": arena_symbol(network)}
    return {
        "name": network.graph.name,
        "config": asdict(network.config) | {"architecture": network.config.architecture, "hash": network.config.hash},
        "sources": [*SOURCES] + ([] if shared else runtime_sources(half.runtime)),
        "include_dirs": INCLUDE_DIRS,
        "symbols": symbols | ({"kept": f"{KEPT}_{name}"} if shared else {}),
        "inputs": [
            {
                "name": value,
                "shape": list(tensor.shape),
                "channels_last": tensor.channels_last is not None,
                "offset": network.offsets[tensor.storage],
                "kept": network.keeps_input and plain.keeps_input,
            }
            for value, tensor in zip(network.graph.arguments, network.inputs, strict=True)
        ],
        "states": [{"name": s.name, "shape": list(s.initial.shape)} for s in network.graph.state],
        "outputs": [
            {
                "shape": list(tensor.shape),
                "channels_last": tensor.channels_last is not None,
                "layer": _computed_by(network.graph, value),
            }
            for value, tensor in zip(network.graph.results, network.outputs, strict=True)
        ],
        "accelerator": _mode(accelerator) | half.mode,
        "software": _mode(software),
        "profile": half.profile,
        "layers": [_layer_entry(network, layer) | own for layer, own in zip(network.layers, half.layers, strict=True)],
        "around_cycles": half.around,
        "memory": network.report.to_dict(),
    }


def runtime_sources(files: Iterable[str]) -> list[str]:
    """What is compiled of the runtime's files."""
    return [f"runtime/{file}" for file in files if file.endswith(".cpp")]


def _computed_by(graph: ir.Graph, value: str) -> str:
    """Name of the layer that writes a value, which may be seen with another shape since."""
    node = graph.producer(value)
    while node and shares_storage(graph, node):
        value = node.inputs[0]
        node = graph.producer(value)
    return node.name if node else value


def _written_by(graph: ir.Graph, value: str) -> str:
    """Name of the layer that a value comes from, or of the network's input."""
    node = graph.producer(value)
    return node.name if node else value


def _mode(mode: Mode) -> dict[str, Any]:
    network = mode.network
    starts = {low: [p.address for p in mode.placed if network.is_low(p) == low] for low in WEIGHT_SECTIONS}
    placements = {WEIGHT_SECTIONS[low]: min(addresses) for low, addresses in starts.items() if addresses}
    return {
        "defines": dict(mode.defines),
        "placements": placements | {ARENA_SECTION: mode.arena_address},
        "arena": mode.arena_address,
        "outputs": [network.offsets[t.storage] + 4 * t.offset for t in network.outputs],
        "expected_bits": mode.expected.tolist(),
    }


def _layer_entry(network: Network, layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "op": layer.op,
        "in_shape": list(layer.in_shape),
        "shape": list(layer.out_shape),
        "macs": layer.macs,
        "inputs": [_written_by(network.graph, value) for value in layer.node.inputs],
        "output": {
            "offset": network.offsets.get(layer.target.storage, 0) + 4 * layer.target.offset,
            "words": math.prod(layer.out_shape),
            "channels_last": layer.target.channels_last,
        },
    }

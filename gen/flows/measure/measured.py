# SPDX-License-Identifier: Apache-2.0
"""What a run left in memory, and what that says of it: outputs, layers, their cycles."""

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import numpy as np

from firmware_gen.architectures.registry import architecture_of
from firmware_gen.models.metrics import compare
from gen.flows.accelerator.hardware import geometry
from gen.flows.network.application import Application, from_memory
from gen.flows.network.program import mode_of
from gen.pages.spans import Span, accelerated_spans, elapsed, timed_spans
from gen.results.runs.run import LayerReport, OutputReport, RunReport


def result_of(dumps: Mapping[str, bytes]) -> tuple[int, int]:
    """Status and cycles that model_check noted; zeros where it was not called."""
    status, _, cycles = struct.unpack("<IIQ", dumps.get("result", bytes(16)))
    return status, cycles


def is_comparable(manifest: dict[str, Any], found: dict[str, int]) -> bool:
    """Whether a program with these symbols may leave outputs to be compared."""
    return all(name in found for name in manifest["symbols"].values())


def places_of(
    manifest: dict[str, Any], software: bool, symbol: dict[str, int], taps: tuple[str, ...]
) -> dict[str, tuple[int, int]]:
    """(address, bytes) in RAM of what a report is made of: no profile of software, whose arena has no place for one."""
    names, profile, layers = manifest["symbols"], manifest["profile"], manifest["layers"]
    mode = mode_of(manifest, software)
    kept = symbol.get(names.get("kept", ""))
    arena = symbol[names["arena"]]
    places = {"result": (symbol[names["result"]], 16), "timing": (symbol[names["timing"]], 4 * (2 + len(layers)))}
    sizes = [4 * math.prod(output["shape"]) for output in manifest["outputs"]]
    starts = [arena + offset for offset in mode["outputs"]]
    records = arena + (profile["offset"] or 0)
    if kept is not None:
        *starts, records = accumulate(sizes, initial=kept)
    for number, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        places[f"output {number}"] = (start, size)
    if profile["records"] and not software:
        places["profile"] = (records, 4 * len(profile["words"]) * profile["records"])
    for layer in layers:
        if layer["name"] in taps:
            output = layer["output"]
            places[f"tap {layer['name']}"] = (arena + output["offset"], 4 * output["words"])
    return places


def report_of(
    application: Application,
    mode: dict[str, Any],
    dumps: dict[str, bytes],
    software: bool,
    wait_states: int,
    taps: tuple[str, ...],
) -> RunReport:
    """The report of a run from what lay in memory at its end, by the names of `places_of`."""
    manifest, config = application.manifest, application.config
    timing = np.frombuffer(dumps["timing"], np.uint32)
    reference = application.reference
    if software or not manifest["profile"]["words"]:
        layers = timed_layers(manifest["layers"], timing, reference["layers"], software)
    else:
        layers = accelerated_layers(manifest["layers"], timing, _records(manifest, dumps), reference["layers"])
    return RunReport(
        network=manifest["name"],
        geometry=geometry(config),
        peak=0 if software else architecture_of(config).most_macs(config),
        total_cycles=int(np.frombuffer(dumps["result"], np.uint64)[1]),
        results=tuple(_outputs(manifest, mode, reference, dumps)),
        layers=tuple(layers),
        software=software,
        wait_states=wait_states,
        import_check=reference.get("import_check"),
        taps={name: _tap(manifest, name, dumps[f"tap {name}"]) for name in taps},
    )


def _outputs(
    manifest: dict[str, Any], mode: dict[str, Any], reference: dict[str, Any], dumps: dict[str, bytes]
) -> Iterator[OutputReport]:
    expected = mode["expected_bits"]
    for number, (output, exact) in enumerate(zip(manifest["outputs"], reference["outputs"], strict=True)):
        bits = np.frombuffer(dumps[f"output {number}"], np.uint32)
        own, expected = expected[: len(bits)], expected[len(bits) :]
        values = from_memory(bits.view(np.float32), output)
        yield OutputReport(
            output["layer"],
            tuple(output["shape"]),
            [float(v) for v in values],
            exact,
            bits.tolist() == own,
            **compare(exact, values),
        )


def _records(manifest: dict[str, Any], dumps: dict[str, bytes]) -> list[dict[str, int]]:
    words = manifest["profile"]["words"]
    table = np.frombuffer(dumps.get("profile", b""), np.uint32).reshape(-1, len(words))
    return [dict(zip(words, map(int, row), strict=True)) for row in table]


def spans_of(manifest: dict[str, Any], dumps: dict[str, bytes], software: bool) -> list[Span]:
    """When each layer was at work, in time."""
    timing = np.frombuffer(dumps["timing"], np.uint32).tolist()
    if software or not manifest["profile"]["words"]:
        return timed_spans(timing)
    return list(accelerated_spans(manifest["layers"], timing, _records(manifest, dumps)))


def timed_layers(
    layers: list[dict[str, Any]], timing: Any, errors: dict[str, dict[str, Any]], software: bool
) -> list[LayerReport]:
    """Layers that the CPU calls one after the other; `timing` is start, end, and the end of every layer. `software`:
    the CPU computes them too, in arithmetic of which `errors` do not speak."""
    reports = []
    for span in timed_spans(timing):
        layer = layers[span.layer]
        on_cpu = software or layer["on_cpu"]
        reports.append(
            LayerReport(
                layer["name"],
                layer["op"],
                tuple(layer["shape"]),
                layer["macs"],
                span.cycles,
                cpu_cycles=span.cycles if on_cpu else 0,
                **({} if software else errors.get(layer["name"], {})),
            )
        )
    return reports


def accelerated_layers(
    layers: list[dict[str, Any]], timing: Any, records: list[dict[str, int]], errors: dict[str, dict[str, Any]]
) -> list[LayerReport]:
    """Layers of an accelerated run from the profile records, one per descriptor, with cumulative counters."""
    before = dict.fromkeys(records[0], 0) if records else {}
    spent: list[Counter[str]] = [Counter() for _ in layers]
    for span in accelerated_spans(layers, timing, records):
        spent[span.layer]["elapsed"] += span.cycles
        if span.descriptor is not None:
            after = records[span.descriptor]
            spent[span.layer].update({name: elapsed(after[name], before[name]) for name in after})
            before = after
    reports = []
    for layer, own in zip(layers, spent, strict=True):
        common = {
            "name": layer["name"],
            "op": layer["op"],
            "shape": tuple(layer["shape"]),
            "macs": layer["macs"],
            "cycles": own["elapsed"],
            **errors.get(layer["name"], {}),
        }
        if layer["on_cpu"]:
            reports.append(LayerReport(**common, cpu_cycles=own["elapsed"]))
        else:
            reports.append(
                LayerReport(
                    **common,
                    bound_cycles=layer["bound_cycles"] if layer["descriptors"] else 0,
                    bus_words=own["bus_words"],
                    array_cycles=own["array_active"],
                    load_stall_cycles=own["load_stall"],
                    store_stall_cycles=own["store_stall"],
                    lanes_lost=own["lanes_lost"],
                    lanes_lossy=own["lanes_lossy"],
                )
            )
    return reports


def _tap(manifest: dict[str, Any], name: str, dump: bytes) -> list[float]:
    layer = next(entry for entry in manifest["layers"] if entry["name"] == name)
    values = np.frombuffer(dump, np.float32)
    if layer["output"]["channels_last"] is not None:
        channels, height, width = layer["output"]["channels_last"]
        values = values.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return [float(v) for v in values.reshape(-1)]


def together(
    manifests: Sequence[dict[str, Any]], dumps: Sequence[dict[str, bytes]], software: bool
) -> tuple[list[dict[str, Any]], list[Span]]:
    """Layers of networks that ran one after the other, and when each was at work; of several networks with the
    network's name before each."""
    layers: list[dict[str, Any]] = []
    spans: list[Span] = []
    descriptors = 0
    for manifest, own in zip(manifests, dumps, strict=True):
        spans += [
            replace(
                span,
                layer=span.layer + len(layers),
                descriptor=None if span.descriptor is None else span.descriptor + descriptors,
            )
            for span in spans_of(manifest, own, software)
        ]
        prefix = f"{manifest['name']}: " if len(manifests) > 1 else ""
        layers += [
            layer | {"name": prefix + layer["name"], "descriptors": [d + descriptors for d in layer["descriptors"]]}
            for layer in manifest["layers"]
        ]
        descriptors = sum(len(layer["descriptors"]) for layer in layers)
    return layers, spans

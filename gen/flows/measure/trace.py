# SPDX-License-Identifier: Apache-2.0
"""`heepgen run --trace`: what every engine did in a run, as a file for trace viewers and, coarser, in its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from firmware_gen.architectures.registry import architecture_of
from gen.pages.spans import Span
from gen.pages.stacks import stacks
from gen.pages.timeline import timeline
from gen.pages.trace import MOST_SLICES, trace_text
from gen.results.runs.run import RunReport
from hls.config import System
from hls.lib.probe import Engine
from hls.output import write_file

COUNTS = ("cycles", "array_cycles", "load_stall_cycles", "store_stall_cycles", "bus_words")
"""What the file says of every layer besides slices: the counters of the device, as in the report."""

REPORTED_SLICES = 400
"""Of a track, in the report."""


def engines_of(config: System) -> tuple[Engine, ...]:
    """The engines of the hardware of `config` that a trace shows."""
    architecture = architecture_of(config)
    with architecture.own_code():
        return tuple(architecture.engines(config))


def write_trace(
    path: str | Path,
    reports: Sequence[RunReport],
    layers: Sequence[Mapping[str, Any]],
    result: Any,
    engines: Sequence[Engine],
    spans: Sequence[Span],
) -> dict[str, Any]:
    """Write the trace of a run, `sim.run.RunResult` with a recording, to `path`; the timeline of its report. `layers`
    are those of the manifests of its networks, one network after the other, as `reports` are."""
    ports = len(result.accelerator_ports)
    whole, coarse = (
        timeline(result.recording, engines, layers, spans, ports, most) for most in (MOST_SLICES, REPORTED_SLICES)
    )
    counted = zip(layers, (layer for report in reports for layer in report.layers), strict=True)
    about = {
        "network": " and ".join(report.network for report in reports),
        "hardware": "CPU only" if reports[0].software else reports[0].geometry,
        "cycles": result.cycles,
        "inference_cycles": sum(report.total_cycles for report in reports),
        "layers": {layer["name"]: {name: getattr(own, name) for name in COUNTS} for layer, own in counted},
        "words_of_ports": [port.words for port in result.accelerator_ports],
    }
    write_file(path, trace_text(whole, about), "--trace")
    return coarse.to_dict() | {"stacks": stacks(result.recording, engines, layers, spans)}

# SPDX-License-Identifier: Apache-2.0
"""Measure the example networks on the array and on the CPU alone, in RTL simulation."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from examples import data
from examples.example import Example, images
from examples.mlperf_tiny.networks import WAKEWORD
from examples.modern.networks import EXAMPLES as MODERN
from examples.networks import NETWORKS
from examples.speed import NETWORK, speeds
from firmware_gen.architectures.registry import load_config
from gen.console import progress, show, write_json
from gen.documents.measured import sides
from gen.documents.measured.bench import (
    Measurement,
    Published,
    measure,
    measure_stream,
    parse_geometry,
    read_documents,
    table,
    to_dict,
    updated,
    write_documents,
)
from gen.flags import wide
from hls.errors import HeepgenError

PUBLISHED = {
    "mnist-single_layer": Published(array=141_596, cpu=137_967),
    "fmnist-conv2d": Published(array=1_437_560, cpu=3_381_884),
    "cifar10-conv2d": Published(array=10_290_861, cpu=40_122_287, array_size="12x12"),
}
"""HEEPstor's array and firmware, measured in RTL simulation."""

MEMORY: dict[str, dict[str, Any]] = {
    "fc-autoencoder-clip": {"bank_kib": 128, "memory_banks": 8, "memory_banks_interleaved": (8,)},
    "mobilenet-v3-small-0.5": {"bank_kib": 64},
}
"""Where the default does not do: 196 inputs at once are 0.5 MB, so are the outputs, and so are the bits that the
firmware compares these with; MobileNetV3's weights are 0.4 MB."""

GEOMETRIES = ("8x8p2", "4x4p1", "16x16p4")

ARCHITECTURES = ("descriptor", "streaming", "examples/architectures/int8_dot", "cpu")
"""What is compared, each in its default configuration."""

LONG_CONV = Example(
    "conv3x3-32x32x16", (1, 16, 32, 32), lambda: nn.Sequential(nn.Conv2d(16, 16, 3, padding=1)), images(data.CIFAR10)
)
"""One layer, 36,864 vectors on 8x8: how much of a long layer the array computes. It is never trained."""

MEASURED: dict[str, Example] = NETWORKS | {example.name: example for example in (LONG_CONV, *MODERN, WAKEWORD)}

STREAMS = {f"{WAKEWORD.name}-by-{frames}": (WAKEWORD, frames) for frames in (1, 2, 4)}
"""Networks on a window of frames, and how many of them are new in every call."""

NHWC = {
    "mobilenet-v1-0.25-nhwc-16k": ("mobilenet-v1-0.25", {"scratchpad_words": 16384}, ("8x8p2", "16x16p4")),
    "mobilenet-v1-0.25-nhwc-32k": ("mobilenet-v1-0.25", {"scratchpad_words": 32768}, ("16x16p4",)),
    "conv3x3-32x32x16-nhwc": (LONG_CONV.name, dict[str, Any](), ("8x8p2", "16x16p4")),
}
"""Networks whose input the firmware takes channels last, with options of the configuration, and the arrays that they
are measured on."""

ALL = MEASURED | {name: example for name, (example, _) in STREAMS.items()}
ALL |= {name: MEASURED[network] for name, (network, _, _) in NHWC.items()}


def prepare(example: Example, folder: Path) -> tuple[Path, Path]:
    """Files of the untrained network, without a final softmax, and of a random input."""
    folder.mkdir(parents=True, exist_ok=True)
    sample = torch.randn(*example.input_shape, generator=torch.Generator().manual_seed(0))
    model = example.build()
    model.training = True  # of the outermost module only: classifiers leave their softmax out then
    torch.export.save(torch.export.export(model, (sample,)), folder / "model.pt2")
    np.save(folder / "sample.npy", sample.numpy())
    return folder / "model.pt2", folder / "sample.npy"


def tool_speed(results: list[Measurement]) -> list[tuple[str, str]]:
    """How long the tools take on this machine."""
    with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
        lines = list(speeds(prepare(MEASURED[NETWORK], Path(work))[0]))
    measured = [m for m in results if not m.skipped]
    if measured:
        slowest = max(measured, key=lambda m: m.sw_seconds)
        lines.append((f"firmware of {slowest.network}, the slowest", f"{slowest.sw_seconds:.1f} s"))
    for geometry in dict.fromkeys(m.geometry for m in measured):
        longest = max((m for m in measured if m.geometry == geometry), key=lambda m: m.soc_cycles)
        speed = longest.soc_cycles / longest.sim_seconds / 1e6
        lines.append((f"simulated SoC, {geometry}, {longest.network}", f"{speed:.2f} M cycles/s"))
    return lines


@click.command(help=__doc__)
@click.option(
    "--networks",
    metavar="A,B",
    help=f"Some of: {', '.join(ALL)}. The document keeps its other measurements then, as with --sides. Those of NHWC "
    "inputs are measured on the arrays that the document has of them.",
)
@click.option(
    "--geometry",
    "geometries",
    multiple=True,
    metavar="8x8p2",
    help=f"Rows x columns, ports; repeatable.  [default: {', '.join(GEOMETRIES)}]",
)
@click.option(
    "--architecture",
    "architectures",
    multiple=True,
    metavar="NAME|PATH",
    help=f"Of the comparison; repeatable.  [default: {', '.join(ARCHITECTURES)}]",
)
@click.option("--sides", "only_sides", is_flag=True, help="Nothing but the architectures side by side.")
@click.option("--no-software", is_flag=True, help="Leave out the runs on the CPU alone.")
@click.option("--speed", is_flag=True, help="Nothing but how long heepgen itself takes, in processor seconds.")
@click.option("--json", "json_path", metavar="FILE", help="Write the measurements as JSON; - for stdout.")
@wide
@click.option("--docs", metavar="DIR", help="Write performance.md, its data and the roofline there.")
def main(
    networks: str | None,
    geometries: tuple[str, ...],
    architectures: tuple[str, ...],
    only_sides: bool,
    no_software: bool,
    speed: bool,
    json_path: str | None,
    docs: str | None,
) -> None:
    if speed:
        for what, time_taken in tool_speed([]):
            click.echo(f"{what:<50} {time_taken:>10}")
        return
    try:
        names = networks.split(",") if networks else list(ALL)
        before = read_documents(Path(docs)) if docs and (only_sides or networks) else None
        results = [] if only_sides else _measure_all(names, geometries or GEOMETRIES, no_software)
        compared = [name for name in names if name in NETWORKS and name not in MEMORY]
        beside = _side_by_side(compared, architectures or ARCHITECTURES, synthesise=not networks)
        if docs:
            written, tools, both = (
                updated(before, results, beside) if before else (results, tool_speed(results), beside)
            )
            write_documents(written, tools, Path(docs), both)
        write_json(to_dict(results) | beside.to_dict(), json_path)
    except HeepgenError as error:
        sys.exit(f"error: {error}")
    if json_path != "-":
        show(*([] if only_sides else [table(results)]), sides.table(beside))


def _say_of(say: Callable[[str], None], name: str, message: str) -> None:
    say(f"{name}: {message}")


def _measure_all(names: list[str], geometries: tuple[str, ...], no_software: bool) -> list[Measurement]:
    configs = [parse_geometry(text) for text in geometries]
    for name in names:
        if name not in ALL:
            raise HeepgenError(f"--networks {name}: no such network; there are {', '.join(ALL)}.")
    results = []
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder, progress() as say:
        work = Path(folder)
        files = {name: prepare(ALL[name], work / name) for name in names}
        for i, config in enumerate(configs):
            for name in names:
                # The CPU's kernels do not depend on the array: once is enough.
                if name in NHWC and geometries[i] not in NHWC[name][2]:
                    continue
                options = NHWC[name][1] if name in NHWC else MEMORY.get(name, {})
                larger = replace(config, **options)
                about = partial(_say_of, say, name)
                if name in STREAMS:
                    frames, first = STREAMS[name][1], not no_software and i == 0
                    results.append(measure_stream(name, files[name][0], frames, larger, software=first, progress=about))
                    continue
                results.append(
                    measure(
                        name,
                        *files[name],
                        larger,
                        work,
                        published=PUBLISHED.get(name, Published()),
                        input_layout="nhwc" if name in NHWC else "nchw",
                        software=not no_software and i == 0 and name not in NHWC,
                        stalls=i == 0,
                        progress=about,
                    )
                )
    return results


def _side_by_side(names: list[str], architectures: tuple[str, ...], synthesise: bool) -> sides.Beside:
    configs = [load_config(None, which) for which in architectures]
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder, progress() as say:
        work = Path(folder)
        found = []
        for name in names:
            files = prepare(MEASURED[name], work / name)
            for config in configs:
                about = partial(_say_of, say, f"{name} on {config.architecture}")
                found.append(sides.measure_side(name, *files, config, work, about))
        if synthesise:
            say("synthesising the architectures")
        return sides.Beside(tuple(found), tuple(map(sides.measure_hardware, configs)) if synthesise else ())


if __name__ == "__main__":
    main()

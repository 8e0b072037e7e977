# SPDX-License-Identifier: Apache-2.0
"""Measure the energy of example networks at gate level; write docs/energy.md and the factors of the energy model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from examples.bench import MEASURED, prepare
from gen.console import progress
from gen.documents.bench import parse_geometry
from gen.documents.energy import Measured, Samples, measured, write_documents, write_model
from gen.flows.application import Application
from gen.flows.sw import generate_sw

RUNS = (
    ("resnet8", "8x8p2"),
    ("ds-cnn", "8x8p2"),
    ("mobilenet-v1-0.25", "8x8p2"),
    ("fc-autoencoder", "8x8p2"),
    ("digits", "4x4p1"),
)
"""MLPerf Tiny, and a small network on a small array, so that the model has seen two sizes."""


@click.command(help=__doc__)
@click.option("--networks", metavar="A,B", help="Some of them; the model is fitted to all only.  [default: all]")
@click.option("--docs", default="docs", show_default=True, metavar="DIR", help="Folder of energy.md and energy.json.")
def main(networks: str | None, docs: str) -> None:
    chosen = [run for run in RUNS if networks is None or run[0] in networks.split(",")]
    results: list[tuple[Measured, Samples]] = []
    with progress() as say:
        for name, geometry in chosen:
            with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
                model, sample = prepare(MEASURED[name], Path(work) / "model")
                generate_sw(model, parse_geometry(geometry), Path(work) / "app", sample=sample, progress=say)
                results.append(measured(name, Application.open(Path(work) / "app"), say))
            write_documents(Path(docs), [results[-1][0]])
    if networks is None:
        write_model(results)
        write_documents(Path(docs), [one for one, _ in results])


if __name__ == "__main__":
    main()

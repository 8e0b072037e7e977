# SPDX-License-Identifier: Apache-2.0
"""Measure the energy of example networks at gate level; write docs/energy.md, or the model of energies."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
import torch

from examples.bench import MEASURED, prepare
from examples.networks import NETWORKS
from firmware_gen import CodeGenerator
from gen.console import progress
from gen.documents.measured.bench import parse_geometry
from gen.documents.measured.energy import measured, sampled, write_documents, write_model
from gen.documents.measured.options import Built, options, write_options
from gen.explore.subject import Network, form_of
from gen.flows.network.application import Application
from gen.flows.network.sw import generate_sw
from hls.config import Config

RUNS = (("resnet8", "8x8p2"), ("ds-cnn", "8x8p2"), ("mobilenet-v1-0.25", "8x8p2"), ("fc-autoencoder", "8x8p2"))
"""MLPerf Tiny, for the document."""

MODEL_RUNS = (("resnet8", "8x8p2"), ("ds-cnn", "8x8p2"), ("fc-autoencoder", "4x4p1"), ("digits", "4x4p1-fma"))
"""What the model is fitted to: convolutions, depthwise ones, Linear layers; two sizes of hardware, both arithmetics."""


INT4 = "fc-autoencoder-int4"
"""FC-AutoEncoder with weights of 4 bits, where the hardware has them."""


@click.command(help=__doc__)
@click.option("--networks", metavar="A,B", help="Some of them.  [default: all]")
@click.option("--docs", default="docs", show_default=True, metavar="DIR", help="Folder of energy.md and energy.json.")
@click.option("--model", is_flag=True, help="The runs that the model of energies is fitted to, and the model.")
@click.option("--options", "by_option", is_flag=True, help="What options of the hardware change, by the model.")
def main(networks: str | None, docs: str, model: bool, by_option: bool) -> None:
    with progress() as say:
        if by_option:
            for name in [name for name, _ in RUNS] + [INT4] if networks is None else networks.split(","):
                for option in options(name, built(name), say):
                    write_options(Path(docs), [option])
            write_documents(Path(docs), [])
            return
        if model:
            write_model([sampled(name, application, say) for name, application in applications(MODEL_RUNS, say)])
            write_documents(Path(docs), [])
            return
        for name, application in applications(
            [r for r in RUNS if networks is None or r[0] in networks.split(",")], say
        ):
            write_documents(Path(docs), [measured(name, application, say)])


def applications(runs: Sequence[tuple[str, str]], say: Callable[[str], None]) -> Iterator[tuple[str, Application]]:
    """Of networks, untrained, on hardware of short names."""
    for name, geometry in runs:
        with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
            model, sample = prepare(MEASURED[name], Path(work) / "model")
            generate_sw(model, parse_geometry(geometry), Path(work) / "app", sample=sample, progress=say)
            yield name, Application.open(Path(work) / "app")


def built(name: str) -> Built:
    """A network for a configuration, untrained, its graph made once for every form."""
    example, known = NETWORKS[name.removesuffix("-int4")], dict[object, Network]()
    linear = [layer for layer, module in example.build().named_modules() if isinstance(module, torch.nn.Linear)]

    def network(config: Config) -> Network:
        int4 = linear if name == INT4 and config.int4_weights else ()
        form = form_of(config)
        if (form, bool(int4)) not in known:
            with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
                model, sample = prepare(example, Path(work))
                program, data = torch.export.load(model), np.load(sample)
                graph = CodeGenerator(program, data, None, config, name=name, int4=int4).graph
            known[form, bool(int4)] = Network(name, {form: graph})
        return known[form, bool(int4)]

    return network


if __name__ == "__main__":
    main()

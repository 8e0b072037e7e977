# SPDX-License-Identifier: Apache-2.0
"""Measure the energy of example networks at gate level; write docs/energy.md, or the model of energies."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
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
from gen.documents.measured.options import OPTIONAL, Built, at_gate_level, by_model, known_as, options, write_options
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
@click.option("--gates", is_flag=True, help="With --options: counted at gate level instead; minutes for each.")
@click.option("--only", metavar="A,B", help="With --options: some of them, as int4_weights, or all.")
def main(networks: str | None, docs: str, model: bool, by_option: bool, gates: bool, only: str | None) -> None:
    if (gates or only) and not by_option:
        raise click.UsageError("--gates and --only belong to --options.")
    if only and (unknown := set(only.split(",")) - {known_as(one) for one in OPTIONAL}):
        known = ", ".join(known_as(one) for one in OPTIONAL)
        raise click.UsageError(f"--only {','.join(sorted(unknown))}: write {known}, with commas between.")
    with progress() as say:
        if by_option:
            chosen = [one for one in OPTIONAL if only is None or known_as(one) in only.split(",")]
            for name in [name for name, _ in RUNS] + [INT4] if networks is None else networks.split(","):
                judge = at_gate_level(partial(application, name, say), say) if gates else by_model(built(name))
                for option in options(name, judge, say, chosen):
                    write_options(Path(docs), [option])
                    write_documents(Path(docs), [])
            return
        if model:
            write_model([sampled(name, made, say) for name, made in applications(MODEL_RUNS, say)])
            write_documents(Path(docs), [])
            return
        for name, made in applications([r for r in RUNS if networks is None or r[0] in networks.split(",")], say):
            write_documents(Path(docs), [measured(name, made, say)])


def applications(runs: Sequence[tuple[str, str]], say: Callable[[str], None]) -> Iterator[tuple[str, Application]]:
    """Of networks, untrained, on hardware of short names."""
    for name, geometry in runs:
        with application(name, say, parse_geometry(geometry)) as made:
            yield name, made


@contextmanager
def application(name: str, say: Callable[[str], None], config: Config) -> Iterator[Application]:
    """Of a network, untrained, for a configuration."""
    network = name.removesuffix("-int4")
    weights = "int4" if name == INT4 and config.int4_weights else None
    with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
        model, sample = prepare(MEASURED[network], Path(work) / "model")
        generate_sw(model, config, Path(work) / "app", sample=sample, weights=weights, progress=say)
        yield Application.open(Path(work) / "app")


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

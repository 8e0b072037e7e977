# SPDX-License-Identifier: Apache-2.0
"""Train an example network and save model.pt2, sample.npy and labels.npy."""

from __future__ import annotations

import sys

import click

from examples import common
from examples.networks import NETWORKS
from firmware_gen.frontend.exported.importer import import_model
from firmware_gen.models.fake_quant import quantized_model
from firmware_gen.passes import run_passes
from hls.errors import HeepgenError


@click.command(help=__doc__)
@click.argument("name", type=click.Choice(list(NETWORKS)))
@click.option("-o", "--output", help="Folder to write to, build/NAME by default.")
@click.option("--data", "folder", help="Folder of the real data set; bundled data are used without it.")
@click.option("--epochs", type=click.IntRange(min=1), help="Training epochs.")
@click.option("--seed", default=0, show_default=True)
def main(name: str, output: str | None, folder: str | None, epochs: int | None, seed: int) -> None:
    example = NETWORKS[name]
    try:
        model, data, score = example.train(folder, seed, epochs)
        fake = quantized_model(run_passes(import_model(model, example.input_shape)))
        saved = common.save(model, data, example.input_shape, output or f"build/{name}")
    except HeepgenError as error:
        sys.exit(f"error: {error}")
    quantised = example.task.score(fake, data.whole_batches(example.input_shape[0]))
    measure = example.task.measure
    click.echo(f"{name}, {data.source}: test {measure} {score:.2%}, with int8 weights {quantised:.2%}")
    click.echo(f"saved {saved}")


if __name__ == "__main__":
    main()

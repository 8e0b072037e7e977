# SPDX-License-Identifier: Apache-2.0
"""What weights of 4 bits would gain by a scale for every group of words of K, in place of one per output channel.

PATH is what `examples.mlperf_tiny.reference` takes. All layers have 4 bits: keyword spotting on its 1,000 inputs, the
autoencoder on a synthetic machine, in PyTorch. No hardware computes such layers.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from examples.mlperf_tiny import machines
from examples.mlperf_tiny.halvings import read_keywords
from examples.mlperf_tiny.reference import REFERENCES
from firmware_gen.api import read_model
from firmware_gen.ir import Graph, Weighted
from firmware_gen.passes.quantise import quantise, quantise_weight
from gen.console import show
from gen.flags import wide
from gen.flows.network.data import Data
from gen.flows.network.scores import run_torch, score
from gen.records.tables import Column, Table
from hls.errors import HeepgenError

SIZES = (None, 64, 32, 16, 8)
"""Words of K that share a scale; None: all."""

MACHINE = next(reference for reference in REFERENCES if reference.example.name == "fc-autoencoder")
INPUTS = 10 * machines.CLIP


def grouped(graph: Graph, size: int | None) -> tuple[Graph, float]:
    """The graph with the values of 4 bits in place of its weights, `size` neighbouring words of K (rows, columns, then
    channels of a kernel) to a scale; and how many bits of scales there are to a weight."""
    nodes, scales, weights = [], 0, 0
    for node in graph.nodes:
        if isinstance(node, Weighted):
            last = np.moveaxis(node.weight.astype(np.float64), 1, -1)
            rows = last.reshape(len(last), -1)
            step = min(size or rows.shape[1], rows.shape[1])
            parts = []
            for first in range(0, rows.shape[1], step):
                q, scale = quantise_weight(rows[:, first : first + step], bits=4)
                parts.append(q * scale[:, None].astype(np.float64))
                scales += len(scale)
            weights += rows.size
            node = replace(node, weight=np.moveaxis(np.concatenate(parts, 1).reshape(last.shape), -1, 1))
        nodes.append(node)
    return graph.with_nodes(nodes), 32 * scales / weights


def add_rows(made: Table, name: str, graph: Graph, data: Data) -> None:
    exact = run_torch(graph, data.x)
    forms = [("INT8", quantise(graph), 0.0), *((_name(size), *grouped(graph, size)) for size in SIZES)]
    for form, rounded, bits in forms:
        got = run_torch(rounded, data.x)
        noise = 10 * np.log10((exact.astype(np.float64) ** 2).sum() / ((got - exact).astype(np.float64) ** 2).sum())
        accuracy = "-" if data.y is None else f"{100 * score(data, exact, got):.1f}"
        made.add_row(name, form, f"{bits:.2f}", f"{noise:.1f}", accuracy)


def _name(size: int | None) -> str:
    return f"INT4, {size} words" if size else "INT4, a channel"


@click.command(help=__doc__.partition("\n")[2] if __doc__ else None)
@click.option(
    "--tiny", "path", type=click.Path(path_type=Path), required=True, metavar="PATH", help="Checkout of mlcommons/tiny."
)
@wide
def main(path: Path) -> None:
    right = (Column("bits of scales\nto a weight", 3), Column("signal to\nnoise dB", 3), "accuracy %")
    made = Table("Weights of 4 bits, a scale for so many words of K", ("network", "weights"), right)
    try:
        checked, data = read_keywords(path)
        add_rows(made, "ds-cnn", checked.lowered, data)
        model, _ = MACHINE.build(path)
    except HeepgenError as error:
        sys.exit(f"error: {error}")
    x = machines.load((640,)).test_x.numpy()[:INPUTS]
    program = torch.export.export(model, (torch.from_numpy(x[:1]),))
    add_rows(made, MACHINE.example.name, read_model(program, torch.from_numpy(x[:1])).lowered, Data(x, None, 1))
    show(made)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""INT4 weights of the trained keyword spotting network, chosen on half of the inputs and judged on the other half, in
random halvings.

Nothing of it is in this repository: PATH is what `examples.mlperf_tiny.reference` takes, with kws_inputs.npz or the
folder kws01. Layers are chosen as by `heepgen sw --weights auto`; accuracies are PyTorch's, with the weights rounded.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch

from examples.mlperf_tiny.reference import DATASETS, REFERENCES
from firmware_gen.api import CheckedModel, read_model
from firmware_gen.application.options import ImportOptions
from firmware_gen.ir import Graph, Weighted
from firmware_gen.passes.quantise import quantise
from gen.console import progress, show, write_json
from gen.flags import wide
from gen.flows.network.data import Data
from gen.flows.network.scores import run_torch, score
from gen.flows.network.weights import MAX_LOSS, Weights, with_weights
from gen.records.tables import Column, Table
from hls.errors import HeepgenError

KEYWORDS = next(reference for reference in REFERENCES if reference.example.name == "ds-cnn")


@dataclass(frozen=True)
class Halving:
    """Accuracies, from 0 to 1, on `judged` inputs of a network whose layers of 4 bits were `chosen` on others; `share`:
    of the weights that have 4 bits, from 0 to 1."""

    seed: int
    chosen: int
    judged: int
    fp32: float
    int8: float
    int4: float
    share: float
    layers: list[str]

    @property
    def lost(self) -> float:
        """Points, of a hundred, below FP32."""
        return 100 * (self.fp32 - self.int4)


def read_keywords(path: Path) -> tuple[CheckedModel, Data]:
    """The network with its trained weights, as it is imported, and the inputs in a folder. Raises HeepgenError."""
    assert KEYWORDS.stimuli, "keyword spotting has inputs"
    model, _ = KEYWORDS.build(path)
    found = next((read for folder in (path, path / DATASETS) if (read := KEYWORDS.stimuli.read(folder))), None)
    if found is None:
        raise HeepgenError(f"{path}: there are no inputs of keyword spotting; kws_inputs.npz or kws01 is needed.")
    x, y, clip = found
    model.training = True  # of the outermost module only: classifiers leave their softmax out then
    program = torch.export.export(model, (torch.from_numpy(x[:1]),))
    return read_model(program, torch.from_numpy(x[:1]), KEYWORDS.example.name), Data(x, y, clip)


def halve(checked: CheckedModel, data: Data, seed: int, max_loss: float = MAX_LOSS) -> Halving:
    """Choose layers on a random half of the inputs, so that they lose at most so many points there, and judge."""
    assert data.y is not None, "keywords have labels"
    order = np.random.default_rng(seed).permutation(len(data.x))
    first, second = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    options = with_weights(ImportOptions(), checked, Weights("auto", (data.x[first], data.y[first]), max_loss))
    judged = Data(data.x[second], data.y[second], data.clip)
    layers = options.int4 or []
    exact = run_torch(checked.lowered, judged.x)

    def accuracy(graph: Graph) -> float:
        return score(judged, exact, run_torch(graph, judged.x))

    sizes = {node.name: node.weight.size for node in checked.lowered.nodes if isinstance(node, Weighted)}
    return Halving(
        seed=seed,
        chosen=len(first),
        judged=len(second),
        fp32=score(judged, exact, exact),
        int8=accuracy(quantise(checked.lowered)),
        int4=accuracy(quantise(checked.lowered, int4=layers)),
        share=sum(sizes[name] for name in layers) / sum(sizes.values()),
        layers=layers,
    )


def table(halvings: list[Halving]) -> Table:
    right = ("chosen on", "judged on", "FP32 %", "INT8 %", "INT4 %", Column("points\nlost", 3), Column("in INT4 %", 3))
    made = Table("Keyword spotting, layers of 4 bits chosen on half of the inputs", ("halving",), right)
    for h in halvings:
        scores = (f"{100 * value:.1f}" for value in (h.fp32, h.int8, h.int4))
        made.add_row(str(h.seed), str(h.chosen), str(h.judged), *scores, f"{h.lost:.1f}", f"{100 * h.share:.1f}")
    means = np.mean([(100 * h.fp32, 100 * h.int8, 100 * h.int4, h.lost, 100 * h.share) for h in halvings], axis=0)
    made.add_row("mean", "", "", *(f"{value:.2f}" for value in means))
    return made


@click.command(help=__doc__.partition("\n")[2] if __doc__ else None)
@click.option(
    "--tiny", "path", type=click.Path(path_type=Path), required=True, metavar="PATH", help="Checkout of mlcommons/tiny."
)
@click.option("--halvings", type=click.IntRange(1), default=5, show_default=True, help="Random halvings.")
@click.option("--limit", type=click.IntRange(2), metavar="N", help="Take the first N inputs.")
@click.option(
    "--max-loss", type=float, default=MAX_LOSS, show_default=True, help="Points that the half that chooses may lose."
)
@click.option("--json", "json_path", metavar="FILE", help="Write the results as JSON; - for stdout.")
@wide
def main(path: Path, halvings: int, limit: int | None, max_loss: float, json_path: str | None) -> None:
    try:
        if not path.is_dir():
            raise HeepgenError(f"{path} is no folder; name a checkout of mlcommons/tiny.")
        with progress() as say:
            checked, data = read_keywords(path)
            if limit:
                assert data.y is not None, "keywords have labels"
                data = Data(data.x[:limit], data.y[:limit], data.clip)
            results = []
            for seed in range(halvings):
                say(f"halving {seed + 1} of {halvings}")
                results.append(halve(checked, data, seed, max_loss))
        write_json({"halvings": [asdict(h) | {"lost": h.lost} for h in results]}, json_path)
    except HeepgenError as error:
        sys.exit(f"error: {error}")
    if json_path != "-":
        show(table(results))


if __name__ == "__main__":
    main()

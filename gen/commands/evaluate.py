# SPDX-License-Identifier: Apache-2.0
"""`heepgen eval`."""

from typing import Any

import click

from gen import flags


@click.command("eval", short_help="Measure what quantisation costs on a data set.")
@click.argument("target", metavar="APP|MODEL")
@flags.geometry
@click.option(
    "--data",
    metavar="FILE.npz",
    required=True,
    type=click.Path(dir_okay=False),
    help="Inputs x (N, ...) and labels y (N,).",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where PyTorch runs.  [default: cuda if it can]")
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    default=256,
    show_default=True,
    help="Inputs that PyTorch takes at once.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N inputs.")
@click.option(
    "--output",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Which of the model's outputs is compared with y.",
)
@flags.scheduler
@flags.named_network
@flags.input_shape
@flags.per_tensor
@flags.calibrate
@flags.bits
@flags.trust
@flags.json_file
@flags.wide
@flags.with_config
def evaluate(config: Any, target: str, json_path: str | None, **options: Any) -> None:
    """Run a MODEL (.pt2, .onnx, .pt), or that of a folder APP written by `heepgen sw`, on a data set three times:
    in FP32, with INT8 weights in PyTorch, and bit for bit as the hardware.

    The .npz file holds x, inputs with the batch dimension first, and y, one class per input. For a network that
    rebuilds its input y is 1 for anomalies and 0 otherwise, and the area under the ROC curve of the mean squared
    error is measured; with an integer clip, that many consecutive inputs share a label. Without y only the
    agreement of the three is. Shown for every layer: the signal-to-noise ratio of weights and outputs.

    \b
    Examples:
      heepgen eval model.pt2 --data test.npz
      heepgen eval model.onnx --data test.npz --limit 500 --calibrate mse
      heepgen eval build/app --data test.npz
      heepgen eval model.pt2 --data test.npz --scheduler tcp://10.0.0.1:8786     the bits by a Dask cluster
    """
    from gen.console import bars, show, write_json
    from gen.flows.network.eval import evaluate as run_eval

    with bars() as progress:
        report = run_eval(target, config=config, progress=progress, **flags.hardware(), **options)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)

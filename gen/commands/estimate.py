# SPDX-License-Identifier: Apache-2.0
"""`heepgen estimate`."""

from typing import Any

import click

from gen import flags


@click.command(short_help="Predict every layer's cycles, without simulating the hardware.")
@click.argument("target", metavar="APP|MODEL")
@flags.geometry
@flags.importing
@flags.json_file
@flags.wide
@flags.with_config
def estimate(config: Any, target: str, json_path: str | None, **options: Any) -> None:
    """Predict the cycles of every layer of a MODEL (.pt2, .onnx, .pt) from a model of the accelerator's timing, in
    seconds.

    APP is a folder written by `heepgen sw`, for the hardware it was generated for unless geometry flags or --config
    say otherwise. Layers on the CPU take what its loops were measured to take; what nobody knows is named, and left
    out of the total. `heepgen run` measures.

    \b
    Examples:
      heepgen estimate model.pt2
      heepgen estimate model.pt2 --rows 16 --cols 16 --ports 4
      heepgen estimate model.onnx
      heepgen estimate build/app
    """
    from gen.console import progress, show, write_json
    from gen.flows.network.several import estimate_any

    with progress() as say:
        report = estimate_any(target, config, **flags.hardware(), progress=say, **options)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)

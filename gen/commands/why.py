# SPDX-License-Identifier: Apache-2.0
"""`heepgen why`."""

from typing import Any

import click

from gen import flags


@click.command(short_help="Tell what keeps every layer from being faster, and what would help.")
@click.argument("target", metavar="APP|MODEL")
@flags.geometry
@flags.importing
@flags.json_file
@flags.wide
@flags.with_config
def why(config: Any, target: str, json_path: str | None, **options: Any) -> None:
    """Tell what binds every layer of a MODEL (.pt2, .onnx, .pt) or an APP: vectors, bus, drain, weights, latency or the
    CPU; how far the layer is from that limit; and which one change of the accelerator, the batch or the layout of the
    inputs would help it most.

    Every change is tried: the network is compiled with it, and stepped through the cycle model, in seconds each.

    \b
    Examples:
      heepgen why model.pt2
      heepgen why model.pt2 --rows 16 --cols 16 --ports 4
      heepgen why build/app --json why.json
    """
    from gen.console import progress, show, write_json
    from gen.flows.network.why import why as explain

    with progress() as say:
        report = explain(target, config, **flags.hardware(), progress=say, **options)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)

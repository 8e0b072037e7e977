# SPDX-License-Identifier: Apache-2.0
"""`heepgen ppa`."""

from typing import Any

import click

from gen import flags


@click.command(short_help="Price the accelerator: LUTs, gates, silicon area, clock, leakage.")
@flags.geometry
@click.option(
    "--synthesise", is_flag=True, help="Measure this very configuration, in minutes, instead of modelling it."
)
@click.option(
    "--family",
    type=click.Choice(["xcup", "xc7", "ecp5"]),
    default="xcup",
    show_default=True,
    help="Of FPGAs: UltraScale+, 7-series or ECP5; those other than xcup are synthesised.",
)
@click.option(
    "--liberty",
    metavar="45nm|180nm|FILE",
    help="Library of standard cells to map to: one that is installed, or a Liberty file of yours.  [default: 45nm]",
)
@click.option("--model", metavar="APP|MODEL", help="Also the energy of an inference of this network; takes minutes.")
@click.option(
    "--sample",
    metavar="FILE.npy",
    type=click.Path(dir_okay=False),
    help="Input that a MODEL runs with.  [default: random]",
)
@click.option(
    "--clock-gating/--no-clock-gating",
    default=None,
    help="Whether the clock of flip-flops with a common enable is gated, for energy.  [default: gated]",
)
@click.option(
    "--mhz",
    type=click.FloatRange(min=0, min_open=True),
    help="Clock at which leakage has its share of the energy.  [default: 100]",
)
@flags.json_file
@flags.wide
@flags.with_config
def ppa(config: Any, json_path: str | None, **options: Any) -> None:
    """Price the accelerator: LUTs, flip-flops, DSP slices and block RAM of an FPGA, gates, area and leakage in silicon,
    the clock, for every unit and in all; with --model the energy of one inference too, by layer and by part.

    Figures are modelled from units that were synthesised before, in an instant, and say so; --synthesise measures the
    configuration itself. Energy is counted at gate level, in windows of every layer of the RTL run. Figures in silicon
    are those before layout.

    \b
    Examples:
      heepgen ppa                                     what heepstor_cfg.hjson says
      heepgen ppa --rows 16 --cols 16 --ports 4
      heepgen ppa --rows 4 --cols 4 --ports 1 --synthesise
      heepgen ppa --family ecp5                       another family of FPGAs
      heepgen ppa --liberty cells.lib                 in cells of yours
      heepgen ppa --model model.pt2                   energy of an inference, layer by layer
    """
    from gen.console import progress, show, write_json
    from gen.flows.measure.ppa import ppa as price

    with progress() as say:
        report = price(config, **flags.hardware(), progress=say, **options)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)

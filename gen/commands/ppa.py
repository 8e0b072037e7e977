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
@flags.json_file
@flags.wide
@flags.with_config
def ppa(config: Any, json_path: str | None, **options: Any) -> None:
    """Price the accelerator: LUTs, flip-flops, DSP slices and block RAM of an FPGA, gates, area and leakage in silicon,
    the clock, for every unit and in all.

    Figures are modelled from units that were synthesised before, in an instant, and say so; --synthesise measures the
    configuration itself. Figures in silicon are those before layout.

    \b
    Examples:
      heepgen ppa                                     what heepstor_cfg.hjson says
      heepgen ppa --rows 16 --cols 16 --ports 4
      heepgen ppa --rows 4 --cols 4 --ports 1 --synthesise
      heepgen ppa --family ecp5                       another family of FPGAs
      heepgen ppa --liberty cells.lib                 in cells of yours
    """
    from gen.console import progress, show, write_json
    from gen.flows.ppa import ppa as price

    with progress() as say:
        report = price(config, progress=say, **options)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)

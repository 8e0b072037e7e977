# SPDX-License-Identifier: Apache-2.0
"""`heepgen hw`."""

from typing import Any

import click

from gen import flags


@click.command(short_help="Generate the accelerator: Verilog, core file, register map.")
@flags.geometry
@click.option("-o", "--out", metavar="DIR", default="build/hw", show_default=True, help="Output folder.")
@click.option("--prefix", metavar="NAME", help="Beginning of every Verilog module's name.  [default: heepstor_]")
@flags.force
@flags.json_file
@flags.wide
@flags.with_config
def hw(config: Any, out: str, force: bool, json_path: str | None) -> None:
    """Generate the accelerator: Verilog, FuseSoC core, register map and a report.

    \b
    Examples:
      heepgen hw                                  what heepstor_cfg.hjson says
      heepgen hw --rows 16 --cols 16 --ports 4    flags override the file
      heepgen hw --rows 1 --cols 7 --arith fma    any geometry from 1x1 to 32x32
      heepgen hw --architecture ./mine            one of your own, see heepgen architectures
    """
    from gen.console import progress, show, write_json
    from gen.flows.hardware import geometry
    from gen.flows.hw import generate_hw
    from gen.results.tables import pairs

    with progress() as say:
        say(f"generating the accelerator, {geometry(config)}")
        report = generate_hw(config, out, force=force)
    if json_path != "-":
        show(pairs(f"Accelerator in {out}", report.lines()))
    write_json(report, json_path)

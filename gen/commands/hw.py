# SPDX-License-Identifier: Apache-2.0
"""`heepgen hw`."""

from typing import Any

import click

from gen import flags
from hls.errors import HeepgenError


@click.command(short_help="Generate the accelerator: Verilog, core file, register map.")
@flags.geometry
@click.option("-o", "--out", metavar="DIR", default="build/hw", show_default=True, help="Output folder.")
@click.option("--prefix", metavar="NAME", help="Beginning of every Verilog module's name.  [default: heepstor_]")
@click.option("--from", "store", metavar="FILE", help="Of heepgen explore: an explore.db with the design, see --point.")
@click.option("--point", type=click.IntRange(1), metavar="N", help="With --from: the number of the design in there.")
@flags.force
@flags.json_file
@flags.wide
@flags.with_config
def hw(config: Any, out: str, store: str | None, point: int | None, force: bool, json_path: str | None) -> None:
    """Generate the accelerator: Verilog, FuseSoC core, register map and a report.

    \b
    Examples:
      heepgen hw                                  what heepstor_cfg.hjson says
      heepgen hw --rows 16 --cols 16 --ports 4    flags override the file
      heepgen hw --rows 1 --cols 7 --arith fma    any geometry from 1x1 to 32x32
      heepgen hw --architecture ./mine            one of your own, see heepgen architectures
      heepgen hw --from build/explore/explore.db --point 12
    """
    from gen.console import progress, show, write_json
    from gen.flows.accelerator.hardware import geometry
    from gen.flows.accelerator.hw import design_in, generate_hw
    from gen.records.tables import pairs
    from hls.config import overridden

    if (store is None) != (point is None):
        raise HeepgenError("--from and --point go together: the file that heepgen explore wrote, and a design in it.")
    if store is not None and point is not None:
        if flags.given("config_path", "rows", "cols", "arith", "ports"):
            raise HeepgenError("--from has the whole design: leave out --config, --rows, --cols, --arith and --ports.")
        named = {"prefix": config.prefix} if flags.given("prefix") else {}
        config = overridden(design_in(store, point), **named)
    with progress() as say:
        say(f"generating the accelerator, {geometry(config)}")
        report = generate_hw(config, out, force=force)
    if json_path != "-":
        show(pairs(f"Accelerator in {out}", report.lines()))
    write_json(report, json_path)

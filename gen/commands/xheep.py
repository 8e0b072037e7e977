# SPDX-License-Identifier: Apache-2.0
"""`heepgen xheep`."""

from typing import Any

import click

from gen import flags
from hls.errors import HeepgenError


@click.command(short_help="Put the accelerator into an X-HEEP checkout's SoC.")
@click.argument("apps", nargs=-1, metavar="[APP]...")
@click.option(
    "--heep-dir",
    metavar="PATH",
    help="Checkout of X-HEEP. It stays as it is; make mcu-gen of the project rewrites what X-HEEP generates.",
)
@click.option("-o", "--out", metavar="DIR", default="build/xheep", show_default=True, help="Folder of the project.")
@click.option(
    "--interrupt",
    type=click.Choice(["fast", "plic"]),
    default="fast",
    show_default=True,
    help="X-HEEP's interrupt line for the accelerator.",
)
@click.option("--regenerate", metavar="DIR", help="Write this project again, as its heepstor.json says.")
@flags.geometry
@flags.force
@flags.json_file
@flags.wide
@flags.with_config
def xheep(
    config: Any,
    apps: tuple[str, ...],
    heep_dir: str | None,
    out: str,
    interrupt: str,
    regenerate: str | None,
    force: bool,
    json_path: str | None,
) -> None:
    """Write an X-HEEP extension project: top, wrapper, FuseSoC cores, Makefile, applications, runtime.

    APP are folders written by `heepgen sw`; without geometry flags or --config the hardware is the first one's.

    \b
    Examples:
      heepgen xheep --heep-dir ../x-heep                     hardware only
      heepgen xheep --heep-dir ../x-heep build/digits-app    with a program
      heepgen xheep --regenerate build/xheep                 after a change
    """
    from gen.console import progress, show, write_json
    from gen.flows.soc.xheep import generate_xheep
    from gen.flows.soc.xheep import regenerate as write_again

    asked = flags.hardware()
    asked["hardware_given"] |= not apps
    with progress() as say:
        if regenerate:
            report = write_again(regenerate, progress=say)
        elif not heep_dir:
            raise HeepgenError("--heep-dir is missing: give the path of an X-HEEP checkout.")
        else:
            report = generate_xheep(
                heep_dir, out, config, apps=apps, interrupt=interrupt, force=force, **asked, progress=say
            )
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)

# SPDX-License-Identifier: Apache-2.0
"""`heepgen doctor`."""

import click

from gen import flags
from hls.errors import HeepgenError


@click.command(short_help="Show which tools are there, and what is missing.")
@flags.json_file
@flags.wide
def doctor(json_path: str | None) -> None:
    """Show which tools are there, and what is missing. Exit status 1 when something needed is missing."""
    from gen.console import show, write_json
    from gen.flows.soc.doctor import examine

    report = examine()
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)
    if report.missing:
        raise HeepgenError(f"{', '.join(report.missing)} cannot be used; the table says what to do.")

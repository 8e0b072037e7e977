# SPDX-License-Identifier: Apache-2.0
"""`heepgen report`."""

import click

from gen import flags


@click.command(short_help="Write a page of a run, or of an application.")
@click.argument("target", metavar="RUN.json|APP")
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    default="report.html",
    show_default=True,
    callback=flags.writable,
    help="The page; it needs no other file and no network.",
)
def report(target: str, out: str) -> None:
    """Write one page about a run: where the cycles go, layer by layer, beside bounds and estimates; the graph, the
    roofline, the memory plan, the engines over time, accuracy, configuration.

    RUN.json is what `heepgen run --json` wrote, with `--trace` the engines too. Of an APP, a folder written by
    `heepgen sw`, the page shows what is predicted, and says so.

    \b
    Examples:
      heepgen run build/app --json run.json --trace trace.json
      heepgen report run.json -o report.html
      heepgen report build/app -o report.html     before anything ran
    """
    from gen.console import progress
    from gen.flows.measure.report import write_report

    with progress() as say:
        say(f"writing {out}")
        subject = write_report(target, out)
    click.echo(f"{out}: {subject.network} on {subject.hardware}, {'measured' if subject.run else 'predicted'}")

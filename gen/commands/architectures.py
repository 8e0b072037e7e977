# SPDX-License-Identifier: Apache-2.0
"""`heepgen architectures`, `new-architecture` and `check-architecture`."""

from typing import Any

import click

from gen import flags
from hls.errors import HeepgenError


@click.command(short_help="List the architectures, or the options of one.")
@click.argument("name", required=False, metavar="[NAME|PATH]")
@flags.json_file
@flags.wide
def architectures(name: str | None, json_path: str | None) -> None:
    """List the kinds of accelerators that --architecture takes, and what each of them supports; with NAME, or the PATH
    of one, its options with their ranges.

    \b
    Examples:
      heepgen architectures
      heepgen architectures descriptor
      heepgen architectures ./mine                loads the architecture.py in there
    """
    from gen.console import show, write_json
    from gen.flows.accelerator.architectures import listing, one

    report = listing() if name is None else one(name)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)


@click.command("new-architecture", short_help="Begin an architecture of your own, which already runs.")
@click.argument("folder", metavar="DIR")
@click.option("--name", metavar="NAME", help="Its name: small letters, digits, underscores.  [default: that of DIR]")
@flags.force
@flags.json_file
@flags.wide
def new_architecture(folder: str, name: str | None, force: bool, json_path: str | None) -> None:
    """Write the smallest architecture that works to DIR: one multiplier in SystemVerilog, its C++ driver, and
    architecture.py, which says what the two compute, and which options they have. It runs networks as it is: change one
    thing after the other, and run it again.

    \b
    architecture.py   options, NumPy function, what belongs to it; everything begins here
    driver.hpp        what the CPU does for a product of matrices
    NAME.sv           the hardware, which answers the CPU's reads and writes

    \b
    Examples:
      heepgen new-architecture mine
      heepgen new-architecture work/gemv --name gemv2
      heepgen run model.pt2 --architecture ./mine
    """
    from gen.console import show, write_json
    from gen.flows.accelerator.new_architecture import new_architecture as write

    written = write(folder, name, force=force)
    if json_path != "-":
        show(written.table())
    write_json(written, json_path)


@click.command("check-architecture", short_help="Check an architecture: hardware, driver, NumPy function, networks.")
@flags.named
@click.option("--seed", type=click.IntRange(0), metavar="N", default=0, show_default=True, help="Draws all cases.")
@click.option("--quick", is_flag=True, help="A tenth of the cases: half a minute for a small accelerator.")
@click.option("--thorough", is_flag=True, help="Ten times as many: most of an hour.")
@click.option("--cases", type=click.IntRange(1), metavar="N", help="About N rounds of calls for every check of calls.")
@click.option("--only", multiple=True, metavar="CHECK", help="Only this check; repeatable.")
@click.option(
    "--waves", metavar="DIR", default="build/check", show_default=True, help="Folder for waves of failing cases."
)
@flags.json_file
@flags.wide
@flags.with_config
def check_architecture(
    config: Any,
    seed: int,
    quick: bool,
    thorough: bool,
    cases: int | None,
    only: tuple[str, ...],
    waves: str,
    json_path: str | None,
) -> None:
    """Check the architecture NAME, or that of PATH, which runs the architecture.py in there: whether its hardware, its
    driver and its NumPy function agree in every bit, and keep to the contract of docs/architectures.md.

    Exit status 1 when a check fails. Each one is by itself; a failing case is made as small as it can be, and its
    waves are written.

    \b
      lint, synthesis, area  verilator -Wall; latches, loops and drivers by yosys; LUT, FF, DSP, block RAM
      register_head          what firmware asks before it uses the hardware
      numpy_function         type and shape, the same result again, rows by themselves
      bus                    OBI rules on every port, with grants and answers withheld
      calls                  random sizes up to the limits, by the driver on the real CPU
      special_values         NaN, infinities, subnormal numbers, zeros, cancellation
      partial_tiles          smaller products behind larger ones, rows that lie apart
      back_to_back           many calls with the same weights, sums of several blocks
      stalls                 withheld grants, late answers, a CPU that pauses
      reset                  in the midst of calls, then right results again
      cycles                 what the architecture gives for Linear layers, against measured ones
      networks               random layers and small networks, end to end

    \b
    Examples:
      heepgen check-architecture ./mine --quick           while you work on it
      heepgen check-architecture ./mine --json check.json everything, in a few minutes
      heepgen check-architecture ./mine --only reset      one of them
      heepgen check-architecture streaming --rows 4 --cols 4 --seed 7
      gtkwave build/check/mine-calls.gtkw                 what a failing check left
    """
    from gen.console import progress, show, write_json
    from gen.flows.check.kit import Effort
    from gen.flows.check.kit import check_architecture as check

    with progress() as say:
        report = check(config, Effort.of(quick, thorough, cases), seed, waves, only=only, progress=say)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)
    if not report.passed:
        failed = [one.name for one in report.checks if not one.passed]
        raise HeepgenError(f"architecture {report.architecture} fails {', '.join(failed)}.")

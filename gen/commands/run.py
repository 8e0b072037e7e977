# SPDX-License-Identifier: Apache-2.0
"""`heepgen run`."""

from typing import Any

import click

from gen import flags
from hls.errors import HeepgenError


@click.command(short_help="Simulate both on the virtual SoC and measure every layer.")
@click.argument("target", metavar="APP|MODEL")
@flags.geometry
@flags.importing
@flags.calibrate
@flags.weights
@click.option(
    "--input",
    "input_path",
    metavar="FILE.npy",
    type=click.Path(dir_okay=False),
    help="Input to run instead of the sample in the firmware; of several inputs an .npz with their names.",
)
@flags.json_file
@flags.wide
@click.option("--vcd", metavar="FILE", type=click.Path(dir_okay=False), help="Write the accelerator's waves.")
@click.option(
    "--trace",
    metavar="FILE",
    callback=flags.writable,
    help="Write what every engine did, cycle by cycle, for ui.perfetto.dev.",
)
@click.option("--software", is_flag=True, help="Run plain C++ kernels on the CPU, without the accelerator.")
@click.option(
    "--wait-states",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Cycles the memory lets every access wait.",
)
@click.option(
    "--max-cycles",
    type=click.IntRange(1),
    metavar="N",
    help="Give up after N cycles.  [default: many times what APP's program takes; a billion for one of yours]",
)
@click.option("--tap", "taps", multiple=True, metavar="LAYER", help="Also return this layer's tensor; repeatable.")
@click.option(
    "--toolchain",
    type=click.Choice(["zig", "gcc"]),
    default="zig",
    show_default=True,
    help="Compiler of the firmware; gcc is Debian's riscv64-unknown-elf-g++.",
)
@click.option(
    "--elf",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Program that was built from APP by make, CMake or X-HEEP.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="FILE",
    help="Compile this C or C++ instead of what lies beside APP's gen/ and in its src/; repeatable.",
)
@click.option("--include", "include_dirs", multiple=True, metavar="DIR", help="Folder of its headers; repeatable.")
@click.option("--define", "defines", multiple=True, metavar="NAME[=VALUE]", help="For your files; repeatable.")
@click.option(
    "--steps",
    type=click.IntRange(1),
    metavar="N",
    help="Run N inferences one after the other, the network's state kept; --input holds N of them, or more.",
)
@click.option("--print", "printing", is_flag=True, help="The program prints layers, memory and outputs itself.")
@flags.with_config
def run(
    config: Any,
    target: str,
    json_path: str | None,
    printing: bool,
    sources: tuple[str, ...],
    include_dirs: tuple[str, ...],
    defines: tuple[str, ...],
    steps: int | None,
    **options: Any,
) -> None:
    """Run firmware on the virtual SoC, cycle by cycle: the CPU's RTL, the generated Verilog, the real code.

    APP is a folder written by `heepgen sw`; it runs on the hardware it was generated for, and is refused where geometry
    flags or --config say otherwise. A MODEL (.pt2, .onnx, .pt) is turned into firmware first, with the
    same options as `heepgen sw`. Exit status 1 when one bit of the output differs from the bit-exact model, or the
    program's own is not 0. A program of yours that does not call model_check is run, and nothing compared.

    \b
    Examples:
      heepgen run build/app
      heepgen run build/app --input x.npy --json out.json
      heepgen run model.pt2 --rows 16 --cols 16   another array, nothing else to do
      heepgen run model.onnx
      heepgen run build/app --software            how long the CPU alone takes
      heepgen run build/app --vcd waves/run.vcd   look inside
      heepgen run build/app --steps 5 --input frames.npy     a network with state, frame by frame
      heepgen run build/app --trace trace.json    where the cycles go, layer by layer, in Perfetto
      heepgen run build/app --elf main.elf        the very program that runs on X-HEEP
      heepgen run build/app --source sensor.cpp --define SAMPLES=100
    """
    from firmware_gen.emit.build import REPORT
    from gen.console import progress, show, write_json
    from gen.flows.measure.run import run_program
    from gen.flows.measure.steps import refuse_with_steps, run_steps
    from gen.flows.network.program import Own
    from gen.results.runs.program import ProgramReport
    from gen.results.runs.run import RunReport
    from gen.results.runs.steps import StepsReport
    from gen.results.several import RunReports

    defines += (f"{REPORT}=1",) if printing else ()
    own = Own(sources, include_dirs, defines, lambda text: click.echo(text, err=True))
    report: RunReport | RunReports | ProgramReport | StepsReport
    with progress() as say:
        if steps is None:
            report = run_program(target, config, **flags.hardware(), own=own, progress=say, **options)
        else:
            one = {name: options.pop(name) for name in ("vcd", "trace", "taps", "elf")}
            refuse_with_steps(one | {"source": sources, "include": include_dirs, "define": defines})
            report = run_steps(target, config, steps, **flags.hardware(), progress=say, **options)
    if json_path != "-":
        if report.uart:
            click.echo(report.uart.rstrip("\n"))
        show(report.table())
    write_json(report, json_path)
    if not isinstance(report, ProgramReport) and not report.bit_exact:
        raise HeepgenError("the device's output differs from the bit-exact model.")
    if report.exit_code:
        raise HeepgenError(f"the program ended with exit status {report.exit_code}.")

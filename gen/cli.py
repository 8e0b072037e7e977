# SPDX-License-Identifier: Apache-2.0
"""The `heepgen` command. Only click is imported here; every command imports what it needs when it runs."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from gen import flags
from hls import __version__
from hls.errors import HeepgenError

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Group(click.Group):
    """Errors that a user can cause are one sentence on standard error and exit status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # file names may hold what the terminal cannot show
                stream.reconfigure(errors="backslashreplace")
        try:
            with _cleaning_up():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except Exception as error:
            if os.environ.get("HEEPGEN_DEBUG") == "1":
                raise
            click.echo(f"heepgen: {_explained(error)}", err=True)
            raise click.exceptions.Exit(1) from None


@contextmanager
def _cleaning_up() -> Iterator[None]:
    """SIGTERM and SIGHUP end the program as Ctrl-C does: what it began is removed."""

    def stop(number: int, _frame: Any) -> None:
        for known in before:
            signal.signal(known, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.getsignal(number)
            for number in (signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is signal.SIG_DFL
        }
    try:
        for number in before:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _explained(error: Exception) -> str:
    if isinstance(error, HeepgenError):
        return f"error: {error}"
    if isinstance(error, MemoryError):
        return "error: there is not enough memory; give the program more, or a smaller model or input."
    if isinstance(error, OSError) and error.strerror:
        return f"error: {': '.join(str(part) for part in (error.filename, error.strerror) if part)}."
    return f"internal error: {type(error).__name__}: {error}; this is a bug in heepgen, HEEPGEN_DEBUG=1 shows where."


@click.group(cls=_Group, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="heepgen")
def main() -> None:
    """Generate a systolic-array accelerator, the firmware that runs a PyTorch or ONNX model on it, and try
    both on the real CPU's RTL.

    \b
    A first run:
      heepgen hw -o build/hw                      the accelerator, as Verilog
      heepgen sw model.pt2 -o build/app           the firmware, as C++
      heepgen run build/app                       both, simulated cycle by cycle
    """


@main.command(short_help="Generate the accelerator: Verilog, core file, register map.")
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


@main.command(short_help="Generate the firmware that runs a PyTorch model.")
@click.argument("model")
@flags.geometry
@click.option("-o", "--out", metavar="DIR", help="Output folder.  [default: build/NAME-app]")
@flags.importing
@flags.calibrate
@click.option("--explain", is_flag=True, help="Show which layers run on the array, which on the CPU, and why.")
@click.option("--listing", is_flag=True, help="Also write listing.txt: what every descriptor does, beside its words.")
@flags.force
@flags.json_file
@flags.wide
@flags.with_config
def sw(
    config: Any, model: str, out: str | None, explain: bool, force: bool, json_path: str | None, **options: Any
) -> None:
    """Generate the firmware that runs MODEL: C++17, weights, memory plan, a checked sample.

    MODEL is a .pt2 of torch.export, an .onnx, or a .pt holding an nn.Module of standard layers. Nothing in them
    is executed while loading, unless --trust-pickle. INT8 weights that a model holds stay as they are.

    \b
    Examples:
      heepgen sw model.pt2                        shapes come with the file
      heepgen sw model.onnx                       ONNX, of any opset
      heepgen sw model.onnx --input-shape 3,96,96     where it has dynamic sizes
      heepgen sw model.pt --append-final-softmax  the shape is what the layers leave, or --input-shape 1,28,28
      heepgen sw model.pt2 --name digits -o app   another name than the file's
      heepgen sw model.pt2 --sample image.npy     this input, and its expected output, in the firmware
      heepgen sw model.pt2 --explain              what runs where, and why
      heepgen sw model.pt2 --listing              every descriptor: what it loads and stores, and its words
      heepgen sw model.pt2 --calibrate mse --bias-correction train.npz
    """
    from gen.console import progress, show, write_json
    from gen.flows.sw import generate_sw
    from gen.inputs import network_name

    out = out or f"build/{network_name(model, options['name'])}-app"
    with progress() as say:
        if explain and json_path != "-":
            options["explain"] = show
        report = generate_sw(model, config, out, force=force, progress=say, **options)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)


@main.command(short_help="Predict every layer's cycles, without simulating the hardware.")
@click.argument("target", metavar="APP|MODEL")
@flags.geometry
@flags.importing
@flags.json_file
@flags.wide
@flags.with_config
def estimate(config: Any, target: str, json_path: str | None, **options: Any) -> None:
    """Predict the cycles of every layer of a MODEL (.pt2, .onnx, .pt) from a model of the accelerator's timing, in
    seconds.

    APP is a folder written by `heepgen sw`, for the hardware it was generated for unless geometry flags or --config
    say otherwise. Layers that run on the CPU are not predicted: they are named, and left out of the total. `heepgen
    run` measures.

    \b
    Examples:
      heepgen estimate model.pt2
      heepgen estimate model.pt2 --rows 16 --cols 16 --ports 4
      heepgen estimate model.onnx
      heepgen estimate build/app
    """
    from gen.console import progress, show, write_json
    from gen.flows.estimate import estimate as predict

    with progress() as say:
        report = predict(target, config, **flags.hardware(), progress=say, **options)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)


@main.command(short_help="Simulate both on the virtual SoC and measure every layer.")
@click.argument("target", metavar="APP|MODEL")
@flags.geometry
@flags.importing
@flags.calibrate
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
    from gen.flows.program import Own
    from gen.flows.run import run_program
    from gen.flows.steps import refuse_with_steps, run_steps
    from gen.results.program import ProgramReport
    from gen.results.run import RunReport
    from gen.results.steps import StepsReport

    defines += (f"{REPORT}=1",) if printing else ()
    own = Own(sources, include_dirs, defines, lambda text: click.echo(text, err=True))
    report: RunReport | ProgramReport | StepsReport
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


@main.command(short_help="Write a page of a run, or of an application.")
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
    from gen.flows.report import write_report

    with progress() as say:
        say(f"writing {out}")
        subject = write_report(target, out)
    click.echo(f"{out}: {subject.network} on {subject.hardware}, {'measured' if subject.run else 'predicted'}")


@main.command(short_help="Put the accelerator into an X-HEEP checkout's SoC.")
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
    from gen.flows.xheep import generate_xheep
    from gen.flows.xheep import regenerate as write_again

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


@main.command("eval", short_help="Measure what quantisation costs on a data set.")
@click.argument("target", metavar="APP|MODEL")
@flags.geometry
@click.option(
    "--data",
    metavar="FILE.npz",
    required=True,
    type=click.Path(dir_okay=False),
    help="Inputs x (N, ...) and labels y (N,).",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where PyTorch runs.  [default: cuda if it can]")
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    default=256,
    show_default=True,
    help="Inputs that PyTorch takes at once.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only the first N inputs.")
@click.option(
    "--output",
    type=click.IntRange(0),
    metavar="N",
    default=0,
    show_default=True,
    help="Which of the model's outputs is compared with y.",
)
@flags.named_network
@flags.input_shape
@flags.per_tensor
@flags.calibrate
@flags.trust
@flags.json_file
@flags.wide
@flags.with_config
def evaluate(config: Any, target: str, json_path: str | None, **options: Any) -> None:
    """Run a MODEL (.pt2, .onnx, .pt), or that of a folder APP written by `heepgen sw`, on a data set three times:
    in FP32, with INT8 weights in PyTorch, and bit for bit as the hardware.

    The .npz file holds x, inputs with the batch dimension first, and y, one class per input. For a network that
    rebuilds its input y is 1 for anomalies and 0 otherwise, and the area under the ROC curve of the mean squared
    error is measured; with an integer clip, that many consecutive inputs share a label. Without y only the
    agreement of the three is. Shown for every layer: the signal-to-noise ratio of weights and outputs.

    \b
    Examples:
      heepgen eval model.pt2 --data test.npz
      heepgen eval model.onnx --data test.npz --limit 500 --calibrate mse
      heepgen eval build/app --data test.npz
    """
    from gen.console import bars, show, write_json
    from gen.flows.eval import evaluate as run_eval

    with bars() as progress:
        report = run_eval(target, config=config, progress=progress, **flags.hardware(), **options)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)


@main.command(short_help="List the architectures, or the options of one.")
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
    from gen.flows.architectures import listing, one

    report = listing() if name is None else one(name)
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)


@main.command("new-architecture", short_help="Begin an architecture of your own, which already runs.")
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
    from gen.flows.new_architecture import new_architecture as write

    written = write(folder, name, force=force)
    if json_path != "-":
        show(written.table())
    write_json(written, json_path)


@main.command("check-architecture", short_help="Check an architecture: hardware, driver, NumPy function, networks.")
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


@main.command(short_help="Show which tools are there, and what is missing.")
@flags.json_file
@flags.wide
def doctor(json_path: str | None) -> None:
    """Show which tools are there, and what is missing. Exit status 1 when something needed is missing."""
    from gen.console import show, write_json
    from gen.flows.doctor import examine

    report = examine()
    if json_path != "-":
        show(report.table())
    write_json(report, json_path)
    if report.missing:
        raise HeepgenError(f"{', '.join(report.missing)} cannot be used; the table says what to do.")


if __name__ == "__main__":
    sys.exit(main())

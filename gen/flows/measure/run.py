# SPDX-License-Identifier: Apache-2.0
"""`heepgen run`: build hardware, firmware and virtual SoC, simulate one inference, and measure it."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import hls
from firmware_gen.architectures.registry import architecture_of
from firmware_gen.emit.folder import MODEL
from gen.flows.accelerator.hardware import generate_verilog, geometry, hardware_sources
from gen.flows.measure.measured import is_comparable, places_of, report_of, result_of, together
from gen.flows.measure.trace import engines_of, write_trace
from gen.flows.network.application import Application, Applications, check_hardware, input_shapes, linked_inputs, wanted
from gen.flows.network.compiled import folder_in
from gen.flows.network.program import NOTHING, Own, Progress, compiled, mode_of
from gen.flows.network.sw import generate_application, generate_sw
from gen.inputs import load_inputs
from gen.pages.spans import Span, layer_ends
from gen.results.runs.design import design_of
from gen.results.runs.program import ProgramReport
from gen.results.runs.run import RunReport
from gen.results.several import RunReports
from hls import __version__
from hls.config import System, own_options
from hls.errors import HeepgenError
from hls.output import file_to_fill


def hardware(config: System, progress: Progress = lambda message: None) -> Path:
    """Folder with the Verilog of `config` under the default names, generated once per configuration and source."""
    from sim.cache import build_once

    def build(work: Path) -> None:
        progress(f"generating the accelerator, {geometry(config)}")
        generate_verilog(replace(config, prefix=System.prefix), work)

    sources = [*sorted(Path(hls.__file__).parent.rglob("*.py")), *hardware_sources(config)]
    fields = " ".join(f"{o.attribute}={getattr(config, o.attribute)}" for o in own_options(type(config)))
    key: list[str | Path] = [config.architecture, fields, __version__, metadata.version("myhdl"), *sources]
    return build_once("hardware", key, build)


Found = RunReport | RunReports | ProgramReport


def run(target: str | Path, config: System, **options: Any) -> RunReport:
    """`run_program`, for a program of one network that leaves its outputs to be compared; raises `HeepgenError` where
    it does not."""
    return compared(run_program(target, config, **options))


def compared(report: Found) -> RunReport:
    """The report of a run of one network that was compared; raises `HeepgenError` for any other."""
    if isinstance(report, RunReport):
        return report
    if isinstance(report, RunReports):
        raise HeepgenError("the program is of several networks: call run_program.")
    raise HeepgenError(f"the program of {report.network} left nothing to compare: it did not call model_check.")


def run_program(
    target: str | Path,
    config: System,
    *,
    hardware_given: bool = False,
    architecture_given: bool = False,
    changed: Mapping[str, Any] = MappingProxyType({}),
    input_path: str | Path | None = None,
    vcd: str | Path | None = None,
    trace: str | Path | None = None,
    software: bool = False,
    wait_states: int = 0,
    taps: tuple[str, ...] = (),
    elf: str | Path | None = None,
    toolchain: str = "zig",
    withheld: float = 0.0,
    max_cycles: int | None = None,
    progress: Progress = lambda message: None,
    own: Own = NOTHING,
    **import_options: Any,
) -> Found:
    """Run the program of an application folder or of a model file on the virtual SoC, and compare its outputs where it
    called `model_check`.

    An application runs on the hardware it was generated for; where `hardware_given`, `architecture_given` and `changed`
    mean another one (`wanted`) it is refused before anything is built.
    `input_path` replaces the sample; `taps` are layers whose tensors to return. `elf` is a program that was built from
    the application folder elsewhere, as by X-HEEP's flow, and runs as it is; otherwise `toolchain` (of
    `sim.firmware.compile_firmware`) builds one. `withheld` is the probability with which every grant is withheld, cycle
    by cycle. A run of more than `max_cycles` fails; unless they are given, of more than `Application.most_cycles` where
    the program is as it was generated, and than `sim.run.MAX_CYCLES` else. `own` are the user's sources, in place of
    the application's.
    `trace` is a file for what every engine did, in the Trace Event Format; the report then has a timeline.
    `import_options` are those of `generate_sw`, for a model file.
    Raises `HeepgenError` when anything cannot be built or the run fails; a wrong output is no error but `bit_exact` =
    False.
    """
    _check_waves(vcd, software)
    with tempfile.TemporaryDirectory(prefix="heepgen-") as temporary:
        if elf is not None and (input_path is not None or taps or not Path(target).is_dir()):
            raise HeepgenError(
                "--elf runs a program as it is: name the application folder it was built from, without "
                "--input and --tap."
            )
        if elf is not None and own.is_given:
            raise HeepgenError("--elf runs a program as it is: leave out --source, --include, --define and --print.")
        work = Path(temporary) / "application"
        application = _application(Path(target), config, work, input_path, bool(taps), progress, import_options)
        return run_application(
            application,
            wanted(config, application, hardware_given, architecture_given, changed),
            vcd=vcd,
            trace=trace,
            software=software,
            wait_states=wait_states,
            taps=taps,
            elf=elf,
            toolchain=toolchain,
            withheld=withheld,
            max_cycles=max_cycles,
            progress=progress,
            own=own,
        )


def run_application(
    application: Application | Applications,
    system: System,
    *,
    vcd: str | Path | None = None,
    trace: str | Path | None = None,
    software: bool = False,
    wait_states: int = 0,
    taps: tuple[str, ...] = (),
    elf: str | Path | None = None,
    toolchain: str = "zig",
    withheld: float = 0.0,
    max_cycles: int | None = None,
    progress: Progress = lambda message: None,
    own: Own = NOTHING,
) -> Found:
    """`run_program` of an application, on the hardware of `system`; with `taps` it must keep its activations."""
    from sim.elf import symbols

    _check_waves(vcd, software)
    check_taps(application, taps)
    software = software or architecture_of(system).hardware is None
    networks = application.networks
    accelerator = None if software else _accelerator(application, system, progress)
    if vcd is not None and accelerator is None:
        raise HeepgenError(
            f"--vcd shows the accelerator, which architecture {system.architecture} has not: leave it out."
        )
    with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
        program = (
            compiled(application, software, toolchain, Path(work), progress, own)
            if elf is None
            else _built(elf, networks)
        )
        engines = () if software or trace is None else engines_of(system)
        signals = None if trace is None else [signal for engine in engines for signal in engine.signals]
        generated = elf is None and not own.is_given and application.is_as_generated
        found = symbols(program)
        places = {
            number: places_of(network.manifest, software, found, taps)
            for number, network in enumerate(networks)
            if is_comparable(network.manifest, found)
        }
        result, dumped = _simulate(
            config=application.config,
            accelerator=accelerator,
            elf=program,
            places=places,
            vcd=vcd,
            signals=signals,
            wait_states=wait_states,
            withheld=withheld,
            max_cycles=max_cycles or _most_cycles(application if generated else None, wait_states, withheld),
            progress=progress,
        )
    ran = {number: dumps for number, dumps in dumped.items() if result_of(dumps)[1]}
    of_run = _of_run(result)
    if not ran or trace is not None and len(ran) < len(networks):
        if taps or trace is not None:
            raise _nothing_to_show(networks)
        names = " and ".join(network.manifest["name"] for network in networks)
        return ProgramReport(names, geometry(application.config), software=software, wait_states=wait_states, **of_run)
    layers, spans = together([networks[number].manifest for number in ran], list(ran.values()), software)
    if vcd is not None:
        _mark_layers(Path(vcd), layers, spans)
    reports = [
        replace(_report(networks[number], dumps, software, wait_states, taps), **of_run)
        for number, dumps in ran.items()
    ]
    timeline = None
    if trace is not None:
        progress(f"writing {trace}")
        timeline = write_trace(trace, reports, layers, result, engines, spans)
    if isinstance(application, Application):
        return replace(reports[0], timeline=timeline)
    missing = tuple(own.manifest["name"] for number, own in enumerate(networks) if number not in ran)
    return RunReports(tuple(reports), missing, timeline=timeline, **of_run)


def _accelerator(application: Application | Applications, system: System, progress: Progress) -> Path:
    """Folder of the Verilog that an application runs on."""
    check_hardware(application, system)
    return hardware(system, progress)


def _most_cycles(generated: Application | Applications | None, wait_states: int, withheld: float) -> int:
    """That a run may take: of what is as it was generated, what that needs."""
    from sim.run import MAX_CYCLES

    return min(MAX_CYCLES, generated.most_cycles(wait_states, withheld)) if generated else MAX_CYCLES


def _of_run(result: Any) -> dict[str, Any]:
    """What reports say of a `sim.run.RunResult`."""
    return {"uart": result.uart, "exit_code": result.exit_code, "soc_cycles": result.cycles, "seconds": result.seconds}


def _nothing_to_show(networks: Sequence[Application]) -> HeepgenError:
    return HeepgenError(
        "--tap and --trace show a run that is compared; the program did not call model_check"
        f"{' of every network' if len(networks) > 1 else ''}."
    )


def _report(
    network: Application, dumps: dict[str, bytes], software: bool, wait_states: int, taps: tuple[str, ...]
) -> RunReport:
    mode = mode_of(network.manifest, software)
    found = report_of(network, mode, dumps, software, wait_states, taps)
    return replace(found, design=design_of(network.manifest))


def _check_waves(vcd: str | Path | None, software: bool) -> None:
    if vcd is not None and software:
        raise HeepgenError("--vcd shows the accelerator, which --software leaves out: give one of them.")


def _application(
    target: Path,
    config: System,
    folder: Path,
    input_path: str | Path | None,
    keep: bool,
    progress: Progress,
    import_options: dict[str, Any],
) -> Application | Applications:
    """The application to run: that in `target`, or one of another input, or of a model file, written to `folder`."""
    application = folder_in(target, import_options, ", or give --input for another input")
    if isinstance(application, Applications):
        if keep or input_path is not None:
            raise HeepgenError(
                f"{target} holds several networks, {application.names}: --input and --tap are for applications of one."
            )
        return application
    if application is None:
        if input_path is not None:
            import_options |= {"sample": input_path}
        generate_sw(target, config, folder, keep_activations=keep, progress=progress, **import_options)
        return Application.open(folder)
    if input_path is None and not keep:
        return application
    from firmware_gen.frontend.loader import load_model

    given = input_path is not None
    data = load_inputs(input_path, "--input", input_shapes(application)) if given else linked_inputs(application)
    generate_application(
        load_model(application.generated / MODEL),
        data,
        application.config,
        folder,
        application.options,
        name=application.manifest["name"],
        keep_activations=keep,
        progress=progress,
    )
    return replace(Application.open(folder), folder=application.folder)


def check_taps(application: Application | Applications, taps: tuple[str, ...]) -> None:
    """Raises HeepgenError for a name that no layer has."""
    known = [layer["name"] for network in application.networks for layer in network.manifest["layers"]]
    for name in taps:
        if name not in known:
            raise HeepgenError(f"--tap {name}: no such layer; there are {', '.join(known)}.")


# Simulation


def _simulate(
    config: System,
    accelerator: Path | None,
    elf: Path,
    places: Mapping[int, Mapping[str, tuple[int, int]]],
    vcd: str | Path | None,
    signals: Sequence[str] | None,
    wait_states: int,
    withheld: float,
    max_cycles: int,
    progress: Progress,
) -> tuple[Any, dict[int, dict[str, bytes]]]:
    """What the run gave (`sim.run.RunResult`), with a recording of `signals`, and memory by network and by names of
    `places_of`."""
    from sim.run import run_soc
    from sim.waves import write_save_file

    with file_to_fill(vcd, "--vcd") if vcd is not None else nullcontext() as waves:
        result = run_soc(
            elf,
            accelerator,
            config,
            wait_states=wait_states,
            stall_probability=withheld,
            answer_stalls=False,
            max_cycles=max_cycles,
            vcd=waves,
            dump=[place for own in places.values() for place in own.values()],
            progress=progress,
            record=signals,
        )
    if vcd is not None and Path(vcd).is_file():
        write_save_file(Path(vcd))
    contents = iter(result.dumps)
    dumps = {number: {name: next(contents) for name in own} for number, own in places.items()}
    if result.ended != "exit" or any(result_of(own)[0] for own in dumps.values()):
        raise HeepgenError(failure(result))
    return result, dumps


def _built(elf: str | Path, networks: Sequence[Application]) -> Path:
    """A program that was built elsewhere; raises HeepgenError where it has none of a manifest's symbols."""
    from sim.elf import symbols

    found = symbols(Path(elf))
    for network in networks:
        names = network.manifest["symbols"]
        if not any(name in found for name in names.values()):
            raise HeepgenError(
                f"{elf} has no symbol {names['arena']}: it was not built from {network.manifest['name']}; give the "
                "program of this application."
            )
    return Path(elf)


def failure(result: Any) -> str:
    """Why a run did not end well."""
    said = result.uart.strip().splitlines()
    reason = result.message or (said[-1] if said else f"it ended with {result.ended} {result.exit_code}")
    more = "; --max-cycles N allows more" if result.ended == "max_cycles" else ""
    return f"the run failed after {result.cycles:,} cycles: {reason.removeprefix('HG failed: ')}{more}."


def _mark_layers(vcd: Path, layers: Sequence[Mapping[str, Any]], spans: Sequence[Span]) -> None:
    """Save files whose markers are the ends of layers, beside waves."""
    from sim.run import CYCLE_TIME
    from sim.waves import write_save_file

    if vcd.is_file():
        write_save_file(vcd, [(CYCLE_TIME * end, name) for end, name in layer_ends(layers, spans)])

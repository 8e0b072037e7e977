# SPDX-License-Identifier: Apache-2.0
"""`heepgen run`: build hardware, firmware and virtual SoC, simulate one inference, and measure it."""

import math
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

import hls
from firmware_gen.architectures.registry import architecture_of
from firmware_gen.emit.folder import MODEL
from firmware_gen.models.metrics import compare
from gen.flows.application import Application, check_hardware, from_memory, input_shapes, linked_inputs, wanted
from gen.flows.compiled import application_in
from gen.flows.hardware import generate_verilog, geometry, hardware_sources
from gen.flows.program import NOTHING, Own, Progress, compiled, mode_of
from gen.flows.sw import generate_application, generate_sw
from gen.flows.trace import engines_of, write_trace
from gen.inputs import load_inputs
from gen.pages.spans import Span, accelerated_spans, elapsed, layer_ends, timed_spans
from gen.results.design import design_of
from gen.results.program import ProgramReport
from gen.results.run import LayerReport, OutputReport, RunReport
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


def run(target: str | Path, config: System, **options: Any) -> RunReport:
    """`run_program`, for a program that leaves its outputs to be compared; raises `HeepgenError` where it does not."""
    return compared(run_program(target, config, **options))


def compared(report: RunReport | ProgramReport) -> RunReport:
    """The report of a run that was compared; raises `HeepgenError` for any other."""
    if isinstance(report, ProgramReport):
        raise HeepgenError(f"the program of {report.network} left nothing to compare: it did not call model_check.")
    return report


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
) -> RunReport | ProgramReport:
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
    application: Application,
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
) -> RunReport | ProgramReport:
    """`run_program` of an application, on the hardware of `system`; with `taps` it must keep its activations."""
    from sim.run import MAX_CYCLES

    _check_waves(vcd, software)
    check_taps(application, taps)
    software = software or architecture_of(system).hardware is None
    if vcd is not None and software:
        raise HeepgenError(
            f"--vcd shows the accelerator, which architecture {system.architecture} has not: leave it out."
        )
    accelerator = None
    manifest = application.manifest
    if not software:
        check_hardware(application, system)
        accelerator = hardware(system, progress)
    with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
        program = (
            compiled(application, software, toolchain, Path(work), progress, own)
            if elf is None
            else _built(elf, manifest)
        )
        engines = () if software or trace is None else engines_of(system)
        signals = None if trace is None else [signal for engine in engines for signal in engine.signals]
        generated = elf is None and not own.is_given and application.is_as_generated
        most = min(MAX_CYCLES, application.most_cycles(wait_states, withheld)) if generated else MAX_CYCLES
        result, dumps = _simulate(
            application, accelerator, program, vcd, signals, wait_states, withheld, max_cycles or most, taps, progress
        )
    if not _result(dumps)[1]:
        if taps or trace is not None:
            raise HeepgenError("--tap and --trace show a run that is compared; the program did not call model_check.")
        return ProgramReport(
            manifest["name"],
            geometry(application.config),
            result.exit_code,
            result.uart,
            software,
            wait_states,
            result.cycles,
            result.seconds,
        )
    if vcd is not None:
        _mark_layers(Path(vcd), manifest, dumps)
    report = report_of(application, mode_of(manifest, software), dumps, result.uart, software, wait_states, taps)
    report = replace(
        report, soc_cycles=result.cycles, seconds=result.seconds, exit_code=result.exit_code, design=design_of(manifest)
    )
    if trace is None:
        return report
    progress(f"writing {trace}")
    spans = spans_of(manifest, dumps, software)
    return replace(report, timeline=write_trace(trace, report, application, result, engines, spans))


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
) -> Application:
    """The application to run: that in `target`, or one of another input, or of a model file, written to `folder`."""
    application = application_in(target, import_options, ", or give --input for another input")
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


def check_taps(application: Application, taps: tuple[str, ...]) -> None:
    """Raises HeepgenError for a name that no layer has."""
    known = [layer["name"] for layer in application.manifest["layers"]]
    for name in taps:
        if name not in known:
            raise HeepgenError(f"--tap {name}: no such layer; there are {', '.join(known)}.")


# Simulation


def _simulate(
    application: Application,
    accelerator: Path | None,
    elf: Path,
    vcd: str | Path | None,
    signals: Sequence[str] | None,
    wait_states: int,
    withheld: float,
    max_cycles: int,
    taps: tuple[str, ...],
    progress: Progress,
) -> tuple[Any, dict[str, bytes]]:
    """What the run gave (`sim.run.RunResult`), with a recording of `signals`, and memory by names of `places_of`."""
    from sim.elf import symbols
    from sim.run import run_soc
    from sim.waves import write_save_file

    manifest, config = application.manifest, application.config
    mode = mode_of(manifest, accelerator is None)
    found = symbols(elf)
    places = places_of(manifest, mode, found, taps) if is_comparable(manifest, found) else {}
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
            dump=list(places.values()),
            progress=progress,
            record=signals,
        )
    if vcd is not None and Path(vcd).is_file():
        write_save_file(Path(vcd))
    dumps = dict(zip(places, result.dumps, strict=True))
    if result.ended != "exit" or _result(dumps)[0]:
        raise HeepgenError(failure(result))
    return result, dumps


def _result(dumps: Mapping[str, bytes]) -> tuple[int, int]:
    """Status and cycles that model_check noted; zeros where it was not called."""
    status, _, cycles = struct.unpack("<IIQ", dumps.get("result", bytes(16)))
    return status, cycles


def _built(elf: str | Path, manifest: dict[str, Any]) -> Path:
    """A program that was built elsewhere; raises HeepgenError where it has none of the manifest's symbols."""
    from sim.elf import symbols

    found, names = symbols(Path(elf)), manifest["symbols"]
    if not any(name in found for name in names.values()):
        raise HeepgenError(
            f"{elf} has no symbol {names['arena']}: it was not built from {manifest['name']}; give the program of this "
            "application."
        )
    return Path(elf)


def is_comparable(manifest: dict[str, Any], found: dict[str, int]) -> bool:
    """Whether a program with these symbols may leave outputs to be compared."""
    return all(name in found for name in manifest["symbols"].values())


def places_of(
    manifest: dict[str, Any], mode: dict[str, Any], symbol: dict[str, int], taps: tuple[str, ...]
) -> dict[str, tuple[int, int]]:
    """(address, bytes) in RAM of everything a report is made of."""
    names, profile, layers = manifest["symbols"], manifest["profile"], manifest["layers"]
    arena = symbol[names["arena"]]
    places = {"result": (symbol[names["result"]], 16), "timing": (symbol[names["timing"]], 4 * (2 + len(layers)))}
    for number, (output, offset) in enumerate(zip(manifest["outputs"], mode["outputs"], strict=True)):
        places[f"output {number}"] = (arena + offset, 4 * math.prod(output["shape"]))
    if profile["records"]:
        places["profile"] = (arena + profile["offset"], 4 * len(profile["words"]) * profile["records"])
    for layer in layers:
        if layer["name"] in taps:
            output = layer["output"]
            places[f"tap {layer['name']}"] = (arena + output["offset"], 4 * output["words"])
    return places


def failure(result: Any) -> str:
    """Why a run did not end well."""
    said = result.uart.strip().splitlines()
    reason = result.message or (said[-1] if said else f"it ended with {result.ended} {result.exit_code}")
    more = "; --max-cycles N allows more" if result.ended == "max_cycles" else ""
    return f"the run failed after {result.cycles:,} cycles: {reason.removeprefix('HG failed: ')}{more}."


# Report


def report_of(
    application: Application,
    mode: dict[str, Any],
    dumps: dict[str, bytes],
    uart: str,
    software: bool,
    wait_states: int,
    taps: tuple[str, ...],
) -> RunReport:
    """The report of a run from what lay in memory at its end, by the names of `places_of`."""
    manifest, config = application.manifest, application.config
    timing = np.frombuffer(dumps["timing"], np.uint32)
    reference = application.reference
    if software or not manifest["profile"]["words"]:
        layers = timed_layers(manifest["layers"], timing, reference["layers"], software)
    else:
        layers = accelerated_layers(manifest["layers"], timing, _records(manifest, dumps), reference["layers"])
    return RunReport(
        network=manifest["name"],
        geometry=geometry(config),
        peak=0 if software else architecture_of(config).most_macs(config),
        total_cycles=int(np.frombuffer(dumps["result"], np.uint64)[1]),
        results=tuple(_outputs(manifest, mode, reference, dumps)),
        layers=tuple(layers),
        uart=uart,
        software=software,
        wait_states=wait_states,
        import_check=reference.get("import_check"),
        taps={name: _tap(manifest, name, dumps[f"tap {name}"]) for name in taps},
    )


def _outputs(
    manifest: dict[str, Any], mode: dict[str, Any], reference: dict[str, Any], dumps: dict[str, bytes]
) -> Iterator[OutputReport]:
    expected = mode["expected_bits"]
    for number, (output, exact) in enumerate(zip(manifest["outputs"], reference["outputs"], strict=True)):
        bits = np.frombuffer(dumps[f"output {number}"], np.uint32)
        own, expected = expected[: len(bits)], expected[len(bits) :]
        values = from_memory(bits.view(np.float32), output)
        yield OutputReport(
            output["layer"],
            tuple(output["shape"]),
            [float(v) for v in values],
            exact,
            bits.tolist() == own,
            **compare(exact, values),
        )


def _records(manifest: dict[str, Any], dumps: dict[str, bytes]) -> list[dict[str, int]]:
    words = manifest["profile"]["words"]
    table = np.frombuffer(dumps.get("profile", b""), np.uint32).reshape(-1, len(words))
    return [dict(zip(words, map(int, row), strict=True)) for row in table]


def _mark_layers(vcd: Path, manifest: dict[str, Any], dumps: dict[str, bytes]) -> None:
    """Save files whose markers are the ends of layers, beside waves."""
    from sim.run import CYCLE_TIME
    from sim.waves import write_save_file

    ends = layer_ends(manifest["layers"], spans_of(manifest, dumps, software=False))
    if vcd.is_file():
        write_save_file(vcd, [(CYCLE_TIME * end, name) for end, name in ends])


def spans_of(manifest: dict[str, Any], dumps: dict[str, bytes], software: bool) -> list[Span]:
    """When each layer was at work, in time."""
    timing = np.frombuffer(dumps["timing"], np.uint32).tolist()
    if software or not manifest["profile"]["words"]:
        return timed_spans(timing)
    return list(accelerated_spans(manifest["layers"], timing, _records(manifest, dumps)))


def timed_layers(
    layers: list[dict[str, Any]], timing: Any, errors: dict[str, dict[str, Any]], software: bool
) -> list[LayerReport]:
    """Layers that the CPU calls one after the other; `timing` is start, end, and the end of every layer. `software`:
    the CPU computes them too, in arithmetic of which `errors` do not speak."""
    reports = []
    for span in timed_spans(timing):
        layer = layers[span.layer]
        on_cpu = software or layer["on_cpu"]
        reports.append(
            LayerReport(
                layer["name"],
                layer["op"],
                tuple(layer["shape"]),
                layer["macs"],
                span.cycles,
                cpu_cycles=span.cycles if on_cpu else 0,
                **({} if software else errors.get(layer["name"], {})),
            )
        )
    return reports


def accelerated_layers(
    layers: list[dict[str, Any]], timing: Any, records: list[dict[str, int]], errors: dict[str, dict[str, Any]]
) -> list[LayerReport]:
    """Layers of an accelerated run from the profile records, one per descriptor, with cumulative counters."""
    before = dict.fromkeys(records[0], 0) if records else {}
    spent: list[Counter[str]] = [Counter() for _ in layers]
    for span in accelerated_spans(layers, timing, records):
        spent[span.layer]["elapsed"] += span.cycles
        if span.descriptor is not None:
            after = records[span.descriptor]
            spent[span.layer].update({name: elapsed(after[name], before[name]) for name in after})
            before = after
    reports = []
    for layer, own in zip(layers, spent, strict=True):
        common = {
            "name": layer["name"],
            "op": layer["op"],
            "shape": tuple(layer["shape"]),
            "macs": layer["macs"],
            "cycles": own["elapsed"],
            **errors.get(layer["name"], {}),
        }
        if layer["on_cpu"]:
            reports.append(LayerReport(**common, cpu_cycles=own["elapsed"]))
        else:
            reports.append(
                LayerReport(
                    **common,
                    bound_cycles=layer["bound_cycles"] if layer["descriptors"] else 0,
                    bus_words=own["bus_words"],
                    array_cycles=own["array_active"],
                    load_stall_cycles=own["load_stall"],
                    store_stall_cycles=own["store_stall"],
                    lanes_lost=own["lanes_lost"],
                    lanes_lossy=own["lanes_lossy"],
                )
            )
    return reports


def _tap(manifest: dict[str, Any], name: str, dump: bytes) -> list[float]:
    layer = next(entry for entry in manifest["layers"] if entry["name"] == name)
    values = np.frombuffer(dump, np.float32)
    if layer["output"]["channels_last"] is not None:
        channels, height, width = layer["output"]["channels_last"]
        values = values.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    return [float(v) for v in values.reshape(-1)]

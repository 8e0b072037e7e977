# SPDX-License-Identifier: Apache-2.0
"""`heepgen run --steps`: one inference after the other on the virtual SoC, the network's state kept."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from firmware_gen.architectures.registry import architecture_of
from firmware_gen.emit.codegen import steps_program
from firmware_gen.models.metrics import compare
from gen.flows.accelerator.hardware import geometry
from gen.flows.measure.run import failure, hardware
from gen.flows.network.application import Application, check_hardware, from_memory, in_memory, wanted
from gen.flows.network.compiled import Compiled, application_in, of_application
from gen.flows.network.program import Own, Progress, compiled
from gen.flows.network.sw import SEED, compile_model, write_application
from gen.inputs import load_frames
from gen.results.runs.steps import StepReport, StepsReport
from hls.config import System
from hls.errors import HeepgenError

SYMBOL = "heepgen_steps"
"""What the program reads where frames and records are from."""

Frame = tuple[np.ndarray, ...]


def run_steps(
    target: str | Path,
    config: System,
    steps: int,
    *,
    hardware_given: bool = False,
    architecture_given: bool = False,
    changed: Mapping[str, Any] = MappingProxyType({}),
    input_path: str | Path | None = None,
    software: bool = False,
    wait_states: int = 0,
    toolchain: str = "zig",
    max_cycles: int | None = None,
    progress: Progress = lambda message: None,
    **import_options: Any,
) -> StepsReport:
    """Run the network of an application or of a model file `steps` times, on frames from `input_path` or random ones.

    Every step is compared with the bit-exact model and with PyTorch, which keep their own states. Options and errors as
    of `gen.flows.measure.run.run_program`.
    """
    application = application_in(target, import_options)
    progress(f"compiling {target}")
    if application is not None:
        system = wanted(config, application, hardware_given, architecture_given, changed)
        check_hardware(application, system)
        network = of_application(application, application.config)
    else:
        network = compile_model(target, config, **import_options)
    return run_network_steps(
        network,
        steps,
        input_path,
        "--input",
        software=software,
        wait_states=wait_states,
        toolchain=toolchain,
        max_cycles=max_cycles,
        progress=progress,
    )


def refuse_with_steps(given: Mapping[str, Any]) -> None:
    """Raises HeepgenError for options, by name, that show one inference, or a program of the user's."""
    for name, value in given.items():
        if value:
            option = {"taps": "tap"}.get(name, name)
            raise HeepgenError(f"--steps runs a program of its own, step by step: leave out --{option}.")


def run_network_steps(
    network: Compiled,
    steps: int,
    frames: Any,
    where: str,
    *,
    software: bool = False,
    wait_states: int = 0,
    toolchain: str = "zig",
    max_cycles: int | None = None,
    progress: Progress = lambda message: None,
) -> StepsReport:
    """`run_steps` of a compiled network; `frames` is a file, arrays, or None for random ones, called `where`."""
    if steps < 1:
        raise HeepgenError(f"steps {steps}: must be 1 or more.")
    graph = network.generator.graph
    shapes = {value: graph.shape(value) for value in graph.arguments}
    data = _random(shapes, steps) if frames is None else load_frames(frames, where, shapes, steps)
    software = software or architecture_of(network.config).hardware is None
    with tempfile.TemporaryDirectory(prefix="heepgen-") as temporary:
        folder = Path(temporary) / "application"
        write_application(network, folder)
        application = Application.open(folder)
        records, result = _simulate(application, data, software, wait_states, toolchain, max_cycles, progress)
    progress("comparing with the bit-exact model and with PyTorch")
    return StepsReport(
        network=network.name,
        geometry=geometry(network.config),
        software=software,
        wait_states=wait_states,
        states=tuple(application.manifest["states"]),
        output_shapes=tuple(tuple(output["shape"]) for output in application.manifest["outputs"]),
        steps=tuple(_compared(network, data, records, software)),
        soc_cycles=result.cycles,
        seconds=result.seconds,
    )


def _random(shapes: Mapping[str, tuple[int, ...]], steps: int) -> list[Frame]:
    random = np.random.default_rng(SEED)
    return [tuple(random.standard_normal(s, np.float32) for s in shapes.values()) for _ in range(steps)]


def _simulate(
    application: Application,
    frames: Sequence[Frame],
    software: bool,
    wait_states: int,
    toolchain: str,
    max_cycles: int | None,
    progress: Progress,
) -> tuple[np.ndarray, Any]:
    """Words of every step, its cycles first, and the run."""
    from sim.elf import free_memory, symbols
    from sim.run import MAX_CYCLES, run_soc

    config, manifest = application.config, application.manifest
    accelerator = None if software else hardware(config, progress)
    words = 1 + sum(int(np.prod(output["shape"])) for output in manifest["outputs"])
    pairs = ((x, own) for frame in frames for x, own in zip(frame, manifest["inputs"], strict=True))
    given = b"".join(in_memory(x, own).tobytes() for x, own in pairs)
    size = 4 * words * len(frames)
    with tempfile.TemporaryDirectory(prefix="heepgen-") as work:
        source = Path(work) / "steps.cpp"
        source.write_text(steps_program(manifest["inputs"], bool(manifest["states"])))
        elf = compiled(application, software, toolchain, Path(work), progress, Own((source,)))
        first, room = free_memory(elf, config.ram_bytes)
        if len(given) + size > room:
            most = room * len(frames) // (len(given) + size)
            raise HeepgenError(
                f"--steps {len(frames)}: {room:,} bytes of memory are free for frames and outputs; give at most {most}."
            )
        where = np.array([len(frames), first, first + len(given)], np.uint32)
        most = len(frames) * application.most_cycles(wait_states)
        result = run_soc(
            elf,
            accelerator,
            config,
            wait_states=wait_states,
            max_cycles=max_cycles or min(most, MAX_CYCLES),
            dump=[(first + len(given), size)],
            memory=[(symbols(elf)[SYMBOL], where.tobytes()), (first, given)],
            progress=progress,
        )
    if result.ended != "exit" or result.exit_code:
        raise HeepgenError(failure(result))
    found = np.frombuffer(result.dumps[0], np.uint32).reshape(len(frames), words).copy()
    ends = np.cumsum([1, *(int(np.prod(output["shape"])) for output in manifest["outputs"])])
    for first, end, output in zip(ends, ends[1:], manifest["outputs"]):
        for record in found:
            record[first:end] = from_memory(record[first:end], output)
    return found, result


def _compared(network: Compiled, frames: Sequence[Frame], records: np.ndarray, software: bool) -> Iterator[StepReport]:
    generator, softmax = network.generator, network.options.append_final_softmax
    exact_steps, expected_steps = generator.exact_steps(frames, softmax), generator.steps(frames, softmax, software)
    for record, outputs, expected in zip(records, exact_steps, expected_steps, strict=True):
        exact = np.concatenate([output.reshape(-1) for output in outputs])
        bits = np.concatenate([output.reshape(-1) for output in expected.outputs]).view(np.uint32)
        values = record[1:].view(np.float32)
        ends = np.cumsum([output.size for output in expected.outputs])[:-1]
        parts = tuple(part.tolist() for part in np.split(values, ends))
        yield StepReport(int(record[0]), bool((record[1:] == bits).all()), parts, **compare(exact, values))

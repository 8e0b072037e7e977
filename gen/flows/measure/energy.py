# SPDX-License-Identifier: Apache-2.0
"""Energy of one inference of an application, at gate level, in windows of its run on the virtual SoC."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gen.flows.measure.measured import places_of, spans_of
from gen.flows.measure.run import failure, hardware
from gen.flows.network.application import Application
from gen.flows.network.program import Progress, compiled
from gen.pages.spans import Span
from gen.ppa.energy import sampling
from gen.ppa.energy.inference import InferenceEnergy, inference_energy
from gen.ppa.energy.measure import Instance, measure
from gen.ppa.energy.memory import ram_energy
from gen.ppa.energy.netlist import check_cells, netlists
from gen.ppa.energy.sampling import Phase
from gen.ppa.energy.waves import Waves, read_waves
from gen.ppa.liberty import read_library
from gen.ppa.sram import BUS_BITS, macro
from gen.ppa.verilog import closure, modules
from hls.config import System
from hls.errors import HeepgenError
from sim.cache import silent
from sim.elf import symbols
from sim.recording import Recording
from sim.run import Vcd, run_soc

REST = "(between layers)"


@dataclass(frozen=True)
class RecordedRun:
    """An inference on the virtual SoC: its phases, ports and CPU all of the time, and waves of windows of it."""

    phases: tuple[Phase, ...]
    recording: Recording
    windows: tuple[sampling.Window, ...]
    waves: Waves


def application_energy(
    application: Application, library: Path, *, gated: bool = False, progress: Progress = silent
) -> InferenceEnergy:
    """Energy of one inference of an application, in cells of the Liberty file `library`.

    `gated`: the clock of flip-flops with a common enable is gated. Raises `HeepgenError` as `heepgen run`, and for a
    library without energies or without cells that are needed.
    """
    read_library(library).check_energies()
    system = application.config
    return energy_of_run(record_run(application, system, progress=progress), system, library, gated, progress)


def energy_of_run(
    run: RecordedRun, system: System, library: Path, gated: bool = False, progress: Progress = silent
) -> InferenceEnergy:
    """`application_energy` of a run of the hardware of `system`."""
    return energy_of_units(run, system, measured_units(run, system, library, gated, progress))


def energy_of_units(run: RecordedRun, system: System, instances: Sequence[Instance]) -> InferenceEnergy:
    """`energy_of_run` of what `measured_units` found."""
    bank = macro(BUS_BITS, system.bank_bytes * 8 // BUS_BITS, ports=1)
    ram = ram_energy(run.recording, run.phases, bank, system.memory_banks)
    return inference_energy(run.phases, run.windows, instances, macro, ram)


def measured_units(
    run: RecordedRun, system: System, library: Path, gated: bool = False, progress: Progress = silent
) -> list[Instance]:
    """What every instance of the hardware of `system` took in the windows of a run."""
    cells = read_library(library)
    texts = modules(hardware(system, progress))
    names = list(closure(texts, system.root))
    progress(f"mapping {len(names)} modules to the cells of {cells.name}")
    mapped = netlists(texts, names, library, gated=gated)
    for module in mapped.values():
        check_cells(module, cells)
    progress("evaluating their gates")
    return measure(mapped, system.root, cells, run.waves)


BEGINNING = 128
"""Cycles from the first doorbell until every stage has been given a layer, at most."""


def record_run(
    application: Application,
    system: System,
    *,
    window_count: int = sampling.WINDOWS,
    window_steps: int = sampling.WINDOW_STEPS,
    progress: Progress = silent,
) -> RecordedRun:
    """Run an application twice: for its phases, then with waves of `sampling.windows` of them."""
    manifest, accelerator = application.manifest, hardware(system, progress)
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        work = Path(folder)
        program = compiled(application, False, "zig", work, progress)
        places = places_of(manifest, False, symbols(program), ())
        plain = run_soc(program, accelerator, system, dump=list(places.values()), progress=progress, record=())
        if not plain.ok or plain.recording is None:
            raise HeepgenError(failure(plain))
        dumps = dict(zip(places, plain.dumps, strict=True))
        phases = phases_of([layer["name"] for layer in manifest["layers"]], spans_of(manifest, dumps, False))
        windows = sampling.windows(phases, window_count, window_steps)
        chosen = [window.cycles for window in windows]
        progress(f"simulating again, with waves of {sum(last - first for first, last in chosen):,} cycles")
        run_soc(program, accelerator, system, vcd=Vcd(work / "run.vcd", tuple(chosen)), progress=progress)
        waves = read_waves(work / "run.vcd", system.root, chosen)
        waves = replace(waves, begun=min(first for first, _ in chosen) + BEGINNING)
        return RecordedRun(tuple(phases), plain.recording, tuple(windows), waves)


def phases_of(layers: Sequence[str], spans: Sequence[Span]) -> list[Phase]:
    """A phase for every layer that took any cycles, in the order of layers, and one for what lies between them."""
    ordered = sorted((span for span in spans if span.cycles), key=lambda span: span.start)
    phases = []
    for number, name in enumerate(layers):
        own = tuple((span.start, span.end) for span in ordered if span.layer == number)
        if own:
            phases.append(Phase(name, own))
    gaps = tuple((a.end, b.start) for a, b in zip(ordered, ordered[1:]) if a.end < b.start)
    return [*phases, Phase(REST, gaps)] if gaps else phases

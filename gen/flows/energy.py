# SPDX-License-Identifier: Apache-2.0
"""Energy of one inference of an application, at gate level, in windows of its run on the virtual SoC."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from gen.flows.application import Application
from gen.flows.program import Progress, compiled, mode_of
from gen.flows.run import failure, hardware, places_of, spans_of
from gen.pages.spans import Span
from gen.ppa.energy import sampling
from gen.ppa.energy.inference import InferenceEnergy, inference_energy
from gen.ppa.energy.liberty import read_library
from gen.ppa.energy.measure import measure
from gen.ppa.energy.netlist import check_cells, netlists
from gen.ppa.energy.sampling import Phase
from gen.ppa.energy.waves import Waves, read_waves
from gen.ppa.verilog import closure, modules
from hls.config import System
from hls.errors import HeepgenError

REST = "(between layers)"


def application_energy(
    application: Application,
    system: System,
    library: Path,
    *,
    gated: bool = False,
    window_count: int = sampling.WINDOWS,
    window_steps: int = sampling.WINDOW_STEPS,
    progress: Progress = lambda message: None,
) -> InferenceEnergy:
    """Energy of the accelerator's logic in one inference of an application, in cells of the Liberty file `library`.

    `gated`: the clock of flip-flops with a common enable is gated. Raises `HeepgenError` as `heepgen run`, and for a
    library without energies or without cells that are needed.
    """
    cells = read_library(library)
    accelerator = hardware(system, progress)
    texts = modules(accelerator)
    phases, recorded = recorded_run(application, system, accelerator, window_count, window_steps, progress)
    windows = sampling.windows(phases, window_count, window_steps)

    progress(f"mapping {len(texts)} modules to the cells of {cells.name}")
    mapped = netlists(texts, list(closure(texts, system.root)), library, gated=gated)
    for module in mapped.values():
        check_cells(module, cells)
    instances = measure(mapped, system.root, cells, recorded)
    return inference_energy(phases, windows, instances)


def recorded_run(
    application: Application,
    system: System,
    accelerator: Path,
    window_count: int,
    window_steps: int,
    progress: Progress,
) -> tuple[list[Phase], Waves]:
    """The phases of an inference, and the waves of `sampling.windows` of them."""
    from sim.elf import symbols
    from sim.run import Vcd, run_soc

    manifest = application.manifest
    mode = mode_of(manifest, software=False)
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        work = Path(folder)
        program = compiled(application, False, "zig", work, progress)
        places = places_of(manifest, mode, symbols(program), ())
        plain = run_soc(program, accelerator, system, dump=list(places.values()), progress=progress)
        if not plain.ok:
            raise HeepgenError(failure(plain))
        dumps = dict(zip(places, plain.dumps, strict=True))
        phases = phases_of([layer["name"] for layer in manifest["layers"]], spans_of(manifest, dumps, False))
        chosen = [window.cycles for window in sampling.windows(phases, window_count, window_steps)]
        progress(f"simulating again, with waves of {len(chosen)} windows")
        run_soc(program, accelerator, system, vcd=Vcd(work / "run.vcd", tuple(chosen)), progress=progress)
        return phases, read_waves(work / "run.vcd", system.root, chosen)


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

# SPDX-License-Identifier: Apache-2.0
"""`heepgen report`: a page of a run, or of an application that was not run yet."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hls
from firmware_gen.architectures.contract import BUSY
from firmware_gen.architectures.registry import architecture_of
from gen.flows.accelerator.hardware import geometry
from gen.flows.network.application import Application, configured
from gen.pages.page import render
from gen.pages.subject import ARRAY, CPU, Subject, of_application, of_run
from gen.ppa import composition
from gen.ppa.energy.model import MHZ, Prices, Work, off_by, prices_of
from gen.results.runs.design import design_of
from gen.results.runs.run import RunReport
from hls.config import System, own_options
from hls.errors import HeepgenError
from hls.output import write_file

MEASURED = Path(hls.__file__).parents[1] / "docs" / "performance.json"
"""What the hardware of every architecture takes, with its default options (make bench)."""


def write_report(target: str | Path, out: str | Path) -> Subject:
    """Write the page of `target`, an application folder or what `heepgen run --json` wrote, to the file `out`; what it
    is about. Raises `HeepgenError` for anything else."""
    target = Path(target)
    subject = _application(target) if target.is_dir() else of_run(_run(target))
    write_file(out, render(subject, cost_of(subject)), "-o")
    return subject


def _application(folder: Path) -> Subject:
    application = Application.open(folder)
    config, manifest = application.config, application.manifest
    peak = architecture_of(config).most_macs(config)
    errors = application.reference["layers"]
    return of_application(design_of(manifest), manifest["name"], geometry(config), peak, errors)


def _run(path: Path) -> Mapping[str, Any]:
    """The result in a file, of the form that `RunReport` writes."""
    import jsonschema

    try:
        run = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise HeepgenError(
            f"{path} does not exist; name what heepgen run --json wrote, or an application folder."
        ) from None
    except (ValueError, RecursionError):
        raise HeepgenError(
            f"{path} is no JSON; name what heepgen run --json wrote, or an application folder."
        ) from None
    schema = RunReport.schema
    said = run.get("schema") if isinstance(run, dict) else None
    if said != schema.identifier:
        what = f"says schema {said!r}" if said else "does not say what it is"
        raise HeepgenError(
            f"{path} {what}: a report is made of {schema.identifier}, which heepgen run --json writes of "
            "one inference of one network."
        )
    wrong = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema.document()).iter_errors(run))
    if wrong is not None:
        raise HeepgenError(f"{path} is not what heepgen run --json writes: {wrong.json_path}: {wrong.message[:200]}.")
    checked: Mapping[str, Any] = run
    return checked


def cost_of(subject: Subject) -> list[str]:
    """Sentences on area, clock and energy, as far as they are known."""
    if subject.run and subject.run["software"]:
        return ["No accelerator was used; what a CPU at work takes is not known."]
    try:
        config = _config(subject)
        if architecture_of(config).hardware is None:
            return ["There is no accelerator; what a CPU at work takes is not known."]
        found = composition.cost(config)
    except HeepgenError:
        return [_area_elsewhere(subject), "Energy: not known; there is no model of it for this architecture."]
    area = (
        f"Area: {found.lut:,} LUT, {found.ff:,} flip-flops, {found.dsp} DSP, {found.bram:g} block RAM of an "
        f"UltraScale+; {found.kge:.1f} kGE and {found.mm2:.3f} mm2 with its SRAM in 45 nm; {found.mhz:.0f} MHz on an "
        "ECP5-85 of speed grade 8, which its slowest block alone reaches. From units that were synthesised, see "
        "heepgen ppa."
    )
    return [area, *_energy(subject, prices_of(config, found))]


def _energy(subject: Subject, prices: Prices) -> list[str]:
    work = _work(subject)
    if work is None:
        return ["Energy: not known, since not all that the layers do is predicted: generate the application again."]
    parts = sorted(prices.by_part(work).items(), key=lambda part: -part[1])
    return [
        f"Energy: about {prices.uj(work):.3g} uJ an inference at {MHZ:g} MHz, clocks gated: "
        + ", ".join(f"{name} {uj:.2g}" for name, uj in parts)
        + f". By a model that is {off_by()}, see docs/energy.md; a CPU at work is not in it. "
        "heepgen ppa --model measures it."
    ]


def _work(subject: Subject) -> Work | None:
    """What takes energy in the inference: what a run measured, and of the rest what is predicted."""
    on_array = [row for row in subject.rows if row.where == ARRAY]
    busy = [row.busy for row in on_array if row.busy is not None]
    if (
        subject.total is None
        or len(busy) < len(on_array)
        or any(r.where == CPU and r.best is None for r in subject.rows)
    ):
        return None
    if subject.run:
        on_cpu = subject.run["cpu_cycles"]
    else:
        on_cpu = subject.total - sum(row.best or 0 for row in on_array)
    done = {name: sum(own[name] for own in busy) for name in BUSY}
    return Work(subject.total, sum(row.vectors for row in on_array), **done, cpu=on_cpu)


def _config(subject: Subject) -> System:
    """What the subject's hardware was generated for; raises `HeepgenError` where nobody says."""
    if subject.design is None:
        raise HeepgenError("the run does not say what it ran on.")
    return configured({name: value for name, value in subject.design["config"].items() if name != "hash"}, "the run")


def _area_elsewhere(subject: Subject) -> str:
    """Of an architecture that is not modelled."""
    found = _measured(subject)
    if found is None:
        return "Area: not known for this configuration; heepgen ppa --synthesise measures it."
    clock = f"{found['mhz']:.0f} MHz on an ECP5-85 of speed grade 8." if found["mhz"] else "Its clock was not measured."
    return (
        f"Area: {found['luts']:,} LUT, {found['flip_flops']:,} flip-flops, {found['dsps']} DSP, "
        f"{found['block_rams']:g} block RAM (yosys, UltraScale+; docs/performance.md). {clock}"
    )


def _measured(subject: Subject) -> Mapping[str, Any] | None:
    """What the hardware of a configuration takes, where that is the default one of its architecture."""
    try:
        known = json.loads(MEASURED.read_bytes())["hardware"]
        own = _config(subject)
    except (OSError, HeepgenError):
        return None
    if not _is_default(own):
        return None
    found = [entry for entry in known if entry["architecture"] == own.architecture and entry["luts"]]
    return found[0] if found else None


def _is_default(config: System) -> bool:
    default = type(config)()
    return all(getattr(config, o.attribute) == getattr(default, o.attribute) for o in own_options(type(config)))

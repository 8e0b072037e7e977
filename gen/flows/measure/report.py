# SPDX-License-Identifier: Apache-2.0
"""`heepgen report`: a page of a run, or of an application that was not run yet."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hls
from firmware_gen.architectures.registry import architecture_of
from gen.flows.accelerator.hardware import geometry
from gen.flows.network.application import Application, configured
from gen.pages.page import render
from gen.pages.subject import Subject, of_application, of_run
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
        raise HeepgenError(f"{path} {what}: a report is made of {schema.identifier}, which heepgen run --json writes.")
    wrong = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema.document()).iter_errors(run))
    if wrong is not None:
        raise HeepgenError(f"{path} is not what heepgen run --json writes: {wrong.json_path}: {wrong.message[:200]}.")
    checked: Mapping[str, Any] = run
    return checked


def cost_of(subject: Subject) -> list[str]:
    """Sentences on area, clock and energy: only what was measured for this very hardware."""
    energy = "Energy: not known. Nothing measures it yet."
    if subject.run and subject.run["software"] and subject.peak == 0:
        return ["No accelerator was used.", energy]
    found = _measured(subject.design["config"]) if subject.design else None
    if found is None:
        return [
            "Area: not known for this configuration; docs/performance.md and docs/area.md have the default ones.",
            energy,
        ]
    clock = f"{found['mhz']:.0f} MHz on an ECP5-85 of speed grade 8." if found["mhz"] else "Its clock was not measured."
    return [
        f"Area: {found['luts']:,} LUT, {found['flip_flops']:,} flip-flops, {found['dsps']} DSP, "
        f"{found['block_rams']:g} block RAM (yosys, UltraScale+; docs/performance.md). {clock}",
        energy,
    ]


def _measured(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What the hardware of a configuration takes, where that is the default one of its architecture."""
    try:
        known = json.loads(MEASURED.read_bytes())["hardware"]
        own = configured({name: value for name, value in config.items() if name != "hash"}, "the run")
    except (OSError, HeepgenError):
        return None
    if not _is_default(own):
        return None
    found = [entry for entry in known if entry["architecture"] == own.architecture and entry["luts"]]
    return found[0] if found else None


def _is_default(config: System) -> bool:
    default = type(config)()
    return all(getattr(config, o.attribute) == getattr(default, o.attribute) for o in own_options(type(config)))

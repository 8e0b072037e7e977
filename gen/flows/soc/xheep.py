# SPDX-License-Identifier: Apache-2.0
"""`heepgen xheep`: the accelerator inside the user's own X-HEEP checkout, as an extension project beside it."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import RenderableType

from firmware_gen.architectures.registry import architecture_of, is_loaded
from gen.flows.accelerator.hardware import geometry
from gen.flows.accelerator.hw import generate_hw
from gen.flows.network.application import Application, Applications, configured, opened_folder, wanted
from gen.records.result import Result
from gen.records.schema import TEXT, Schema, each
from gen.records.tables import pairs
from hls import __version__
from hls.config import System, options
from hls.errors import HeepgenError
from hls.output import Content, Link, marker, write_files

KIND = "X-HEEP project"
SETTINGS = "heepstor.json"
LINKS = ("device", "linker", "build")
ACCELERATOR = "hw/accelerator"


@dataclass(frozen=True, repr=False)
class XheepReport(Result):
    """Where the project is, what is in it, and what its memory cannot do."""

    folder: str
    heep: str
    geometry: str
    interrupt: str
    apps: tuple[str, ...]
    notes: tuple[str, ...]

    schema = Schema(
        "xheep",
        "An X-HEEP project",
        {
            "folder": (TEXT, "of the project"),
            "heep": (TEXT, "X-HEEP's generation, in words"),
            "geometry": (TEXT, "the accelerator, in words"),
            "interrupt": (TEXT, "line of the accelerator"),
            "apps": (each(TEXT), "applications in it"),
            "notes": (each(TEXT), "what its memory cannot do"),
        },
    )

    def content(self) -> dict[str, Any]:
        return dict(vars(self))

    def table(self) -> RenderableType:
        return pairs(f"X-HEEP project in {self.folder}", self.lines())

    def lines(self) -> list[tuple[str, str]]:
        return [
            ("X-HEEP", self.heep),
            ("accelerator", self.geometry),
            ("interrupt", self.interrupt),
            ("applications", ", ".join(self.apps) or "-"),
            *(("note", note) for note in self.notes),
            ("next", f"cd {self.folder} && make mcu-gen verilator-sim"),
        ]


def generate_xheep(
    heep_dir: str | Path,
    out: str | Path,
    config: System,
    *,
    apps: Sequence[str | Path] = (),
    interrupt: str = "fast",
    hardware_given: bool = True,
    architecture_given: bool = False,
    changed: Mapping[str, Any] = MappingProxyType({}),
    force: bool = False,
    edited: Sequence[str] = (),
    progress: Callable[[str], None] = lambda message: None,
) -> XheepReport:
    """Write the project for `config` with application folders `apps` around the checkout `heep_dir` to `out`.

    With applications the configuration is that which `wanted` gives for the first one. Files that heepgen generated
    before are replaced unless somebody changed them since (but for those in `edited`); whatever else the project holds
    stays. Raises `HeepgenError` when X-HEEP, a path, an application or the memory does not fit, or such a file is in
    the way, and then writes nothing.
    """
    from firmware_gen.emit.build import linker_script
    from xheep_integration import project
    from xheep_integration.generation import detect

    heep, out = Path(heep_dir).resolve(), Path(out).resolve()
    generation = detect(heep)
    opened = [opened_folder(app) for app in apps]
    if opened:
        config = wanted(config, opened[0], hardware_given, architecture_given, changed)
    loaded = architecture_of(config).folder if is_loaded(config.architecture) else None
    for path in (heep, out, *filter(None, [loaded]), *(application.folder.resolve() for application in opened)):
        _check_path(path)
    programs = [program_of(application, config, out) for application in opened]
    _check_names(programs, opened)
    project.check_memory(config, programs)
    _check_out(out, force)
    files: dict[str, Content] = dict(
        project.render(
            config,
            generation=generation,
            heep=os.path.relpath(heep, out),
            apps=programs,
            interrupt=interrupt,
            version=__version__,
            geometry=geometry(config),
            architecture=f"./{os.path.relpath(loaded, out)}" if loaded else "",
            link_script=linker_script(config, {project.SECTION: None}),
        )
    )
    settings = {
        "heep_dir": os.path.relpath(heep, out),
        "interrupt": interrupt,
        "apps": [os.path.relpath(Path(app).resolve(), out) for app in apps],
        "config": {"architecture": config.architecture}
        | {o.attribute: getattr(config, o.attribute) for o in options(type(config))},
    }
    files[SETTINGS] = json.dumps(settings, indent=2) + "\n"
    files |= {f"sw/{name}": Link(os.path.relpath(heep / "sw" / name, out / "sw")) for name in LINKS}
    progress(f"generating the accelerator, {geometry(config)}")
    with tempfile.TemporaryDirectory(prefix="heepgen-") as temporary:
        accelerator = Path(temporary) / "accelerator"
        generate_hw(config, accelerator)
        files |= {
            f"{ACCELERATOR}/{path.relative_to(accelerator).as_posix()}": path.read_bytes()
            for path in sorted(accelerator.rglob("*"))
            if path.is_file()
        }
    write_files(out, KIND, files, force=force, edited=edited)
    return XheepReport(
        folder=os.path.relpath(out),
        heep=generation.name,
        geometry=geometry(config),
        interrupt=project.INTERRUPTS[interrupt],
        apps=tuple(p.name for p in programs),
        notes=tuple(project.bandwidth_notes(config, "NtoM")),
    )


def regenerate(folder: str | Path, progress: Callable[[str], None] = lambda message: None) -> XheepReport:
    """Write a project again as its `heepstor.json` says, which may have been edited."""
    folder = Path(folder).resolve()
    try:
        settings = json.loads((folder / SETTINGS).read_text())
        config = configured(settings["config"], f"{folder / SETTINGS}")
        heep, apps, interrupt = settings["heep_dir"], settings["apps"], settings["interrupt"]
    except OSError:
        raise HeepgenError(
            f"{folder} is no X-HEEP project: it has no {SETTINGS}; generate one with heepgen xheep --heep-dir PATH."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise HeepgenError(f"{folder / SETTINGS}: {error}; generate the project again with heepgen xheep.") from None
    return generate_xheep(
        folder / heep,
        folder,
        config,
        apps=[folder / app for app in apps],
        interrupt=interrupt,
        edited=(SETTINGS,),
        progress=progress,
    )


def program_of(application: Application | Applications, config: System, out: Path) -> Any:
    """An application as a program of X-HEEP; raises HeepgenError for other hardware."""
    from xheep_integration.project import App, application_files

    manifest = application.manifest
    manifests = [network.manifest for network in application.networks]
    name = re.sub(r"[^A-Za-z0-9_]+", "_", "_".join(own["name"] for own in manifests))
    if manifest["config"]["hash"] != config.hash:
        raise HeepgenError(
            f"{application.folder} was generated for {geometry(application.config)} (configuration "
            f"0x{manifest['config']['hash']:08x}), the project is for {geometry(config)} "
            f"(0x{config.hash:08x}); generate it again with heepgen sw."
        )
    folder = os.path.relpath(application.folder.resolve(), out)
    own = [*application.own_sources, *application.own_headers]
    files = application_files(application.folder, own, application.generated, manifest, manifests)
    return App(name, folder, files, manifests)


def _check_path(path: Path) -> None:
    unfit = re.search(r"[^A-Za-z0-9_./+,@=^~-]", str(path))
    if unfit:
        raise HeepgenError(
            f"{path} has the character {unfit[0]!r} in it, which X-HEEP's Makefiles cannot have in a "
            "path; move it to, or name, a place with letters, digits and _ . - only."
        )


def _check_names(programs: Sequence[Any], applications: Sequence[Application | Applications]) -> None:
    folders: dict[str, Path] = {}
    for program, application in zip(programs, applications, strict=True):
        other = folders.setdefault(program.name, application.folder)
        if other is not application.folder:
            raise HeepgenError(
                f"{other} and {application.folder} would both be sw/applications/{program.name}; leave "
                "one out, or generate it again with another --name."
            )


def _check_out(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise HeepgenError(f"{out} is a file; name a folder for the project.")
    if out.is_dir() and any(out.iterdir()) and marker(out).get("kind") != KIND and not force:
        raise HeepgenError(
            f"{out} was not written by heepgen xheep; choose another folder, or force (--force) to write into it."
        )

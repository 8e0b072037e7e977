# SPDX-License-Identifier: Apache-2.0
"""C++ of several networks in one program, which take turns in one arena: a folder for each, and what they share."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from firmware_gen.emit.build import for_make_and_cmake
from firmware_gen.emit.codegen import BANNER, environment
from firmware_gen.emit.folder import GENERATED, MAIN, MANIFEST
from firmware_gen.emit.literals import identifier
from firmware_gen.emit.manifest import INCLUDE_DIRS, SOURCES, runtime_sources
from firmware_gen.emit.mode import ARENA
from firmware_gen.memory.planner import ALIGN
from hls.config import System

ARENA_SOURCE = "arena.cpp"
MODES = ("accelerator", "software")
TAKEN = ("runtime", "boot")
"""Folders of GENERATED that are no network's."""


def folder_of(name: str) -> str:
    """Folder of a network's files in GENERATED."""
    return identifier(name)


def render(
    networks: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], arenas: Mapping[str, int], config: System
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Content of every file of an application, by relative name, and of its MANIFEST, from files and manifest of every
    network (`codegen.render` with `shared`) and the bytes of the arena by mode."""
    prefix, runtime = f"{GENERATED}/", f"{GENERATED}/runtime/"
    files: dict[str, Any] = {}
    for own, content in networks:
        for name, text in own.items():
            shared = name.startswith(runtime)
            files[name if shared else f"{prefix}{folder_of(content['name'])}/{name.removeprefix(prefix)}"] = text
    drivers = [name.removeprefix(runtime) for name in files if name.startswith(runtime)]
    content = _manifest([content for _, content in networks], runtime_sources(drivers))
    building, own = for_make_and_cmake(content, config, BANNER)
    arena = environment().get_template(f"{ARENA_SOURCE}.j2")
    building[ARENA_SOURCE] = arena.render(
        banner=BANNER,
        symbol=ARENA,
        align=ALIGN,
        arenas=[content["symbols"]["arena"] for _, content in networks],
        words={mode: -(-size // 4) for mode, size in arenas.items()},
    )
    building[MANIFEST] = json.dumps(content, indent=2) + "\n"
    files |= {f"{prefix}{name}": text for name, text in building.items()}
    return files | own | {MAIN: main_program(content["networks"])}, content


def main_program(names: Sequence[str]) -> str:
    """Text of MAIN as it is written once, for the networks `names`."""
    networks = [{"name": name, "id": identifier(name)} for name in names]
    return environment().get_template("shared_main.cpp.j2").render(networks=networks)


def _manifest(contents: Sequence[Mapping[str, Any]], drivers: Sequence[str]) -> dict[str, Any]:
    """What `heepgen run` needs to build the program; the manifest of each network lies in its folder."""
    first = contents[0]
    modes = {}
    for mode in MODES:
        places = [place for content in contents for place in content[mode]["placements"].items()]
        placements = {section: min(address for own, address in places if own == section) for section, _ in places}
        modes[mode] = {"defines": first[mode]["defines"], "placements": placements}
    own = [f"{folder_of(content['name'])}/{source}" for content in contents for source in SOURCES]
    return {
        "networks": [content["name"] for content in contents],
        "config": first["config"],
        "sources": [ARENA_SOURCE, *own, *drivers],
        "include_dirs": INCLUDE_DIRS,
    } | modes

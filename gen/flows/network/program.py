# SPDX-License-Identifier: Apache-2.0
"""The program of an application: the user's own sources and what heepgen generated, compiled together."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_gen.emit.build import SOFTWARE, SWITCHES
from gen.flows.network.application import Built
from hls.errors import HeepgenError

Progress = Callable[[str], None]
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True)
class Own:
    """What a user gives for one run.

    `sources` take the place of the application's own, `include_dirs` hold their headers, and `defines`, NAME or
    NAME=VALUE, are for them, and for generated files where NAME is one of SWITCHES. `warn` is given what the compiler
    warns of.
    """

    sources: Sequence[str | Path] = ()
    include_dirs: Sequence[str | Path] = ()
    defines: Sequence[str] = ()
    warn: Callable[[str], None] = lambda text: None

    @property
    def is_given(self) -> bool:
        """Whether anything but the application's own is to be compiled."""
        return bool(self.sources or self.include_dirs or self.defines)


NOTHING = Own()


def mode_of(manifest: dict[str, Any], software: bool) -> dict[str, Any]:
    """What the manifest says of the network on the accelerator, or as software."""
    mode: dict[str, Any] = manifest["software" if software else "accelerator"]
    return mode


def compiled(
    application: Built,
    software: bool,
    toolchain: str,
    work: Path,
    progress: Progress = lambda message: None,
    own: Own = NOTHING,
) -> Path:
    """The application's program, built in `work`. Raises HeepgenError for what is missing or does not compile."""
    from sim.firmware import OwnCode, compile_firmware

    mode = mode_of(application.manifest, software)
    defines = _definitions(own.defines)
    switches = {name: value for name, value in defines.items() if name in SWITCHES}
    sources = [_existing(source, "--source", Path.is_file, "file") for source in own.sources]
    folders = [_existing(folder, "--include", Path.is_dir, "folder") for folder in own.include_dirs]
    return compile_firmware(
        application.sources,
        application.include_dirs,
        mode["defines"] | switches,
        application.config,
        work / "firmware.elf",
        own=OwnCode(sources or _sources(application), [*folders, *application.own_include_dirs], defines),
        toolchain=toolchain,
        placements=mode["placements"],
        progress=progress,
        warn=own.warn,
    )


def _sources(application: Built) -> list[Path]:
    if not application.own_sources:
        raise HeepgenError(
            f"{application.folder} has no main.cpp, and no other C or C++ beside gen/ or in src/; write one, or name "
            "it with --source."
        )
    return application.own_sources


def _existing(path: str | Path, option: str, is_one: Callable[[Path], bool], what: str) -> Path:
    path = Path(path)
    if not is_one(path):
        raise HeepgenError(f"{option} {path}: there is no such {what}.")
    return path.absolute()


def _definitions(defines: Sequence[str]) -> dict[str, str]:
    """Values by name, as a compiler's -D has them."""
    result = {}
    for text in defines:
        name, given, value = text.partition("=")
        if not _NAME.fullmatch(name):
            raise HeepgenError(f"--define {text}: write NAME or NAME=VALUE, where NAME is one of C.")
        if name == SOFTWARE:
            raise HeepgenError(f"--define {text}: --software says that; leave it out.")
        result[name] = value if given else "1"
    return result

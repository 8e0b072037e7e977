# SPDX-License-Identifier: Apache-2.0
"""`heepgen new-architecture`: the beginning of an architecture of one's own, which already runs."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from rich.console import Group, RenderableType

from firmware_gen.architectures.registry import check_new_name
from gen.records.result import Result
from gen.records.schema import TEXT, Schema, each
from gen.records.tables import pairs
from hls.config import Config
from hls.errors import HeepgenError
from hls.keywords import KEYWORDS
from hls.output import fill, generated_folder

KIND = "architecture"
SKELETON = Path(__file__).parent / "skeleton"


FILES = {
    "architecture.py": "options, the NumPy function, what belongs to it",
    "driver.hpp": "what the CPU does for a product of matrices",
    "{name}.sv": "the hardware",
}
"""Name of every file, and what is in it; its template is called so."""


@dataclass(frozen=True, repr=False)
class NewArchitecture(Result):
    """A folder that was written: its files with what is in them, and commands to go on with, with what they do."""

    name: str
    folder: str
    files: list[tuple[str, str]]
    next: list[tuple[str, str]]

    schema = Schema(
        "new-architecture",
        "The beginning of an architecture",
        {
            "name": (TEXT, "of the architecture"),
            "folder": (TEXT, "where it was written"),
            "files": (each(TEXT), "in it"),
            "next": (each(TEXT), "commands to go on with"),
        },
    )

    def table(self) -> RenderableType:
        return Group(pairs(f"Architecture {self.name} in {self.folder}", self.files), pairs("Next", self.next))

    def content(self) -> dict[str, Any]:
        return vars(self) | {"files": [file for file, _ in self.files], "next": [command for command, _ in self.next]}


def new_architecture(folder: str | Path, name: str | None = None, *, force: bool = False) -> NewArchitecture:
    """Write an architecture to `folder`, whole or not at all; called `name`, or as the folder.

    Raises `HeepgenError` for a name that it cannot have, and when `folder` may not be replaced.
    """
    name = _name(folder, name)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SKELETON), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    files = [(file.format(name=name), what) for file, what in FILES.items()]
    with generated_folder(folder, KIND, force=force, note={"name": name}) as place:
        texts = (environment.get_template(f"{template.format(name='name')}.j2").render(name=name) for template in FILES)
        fill(place, {file: text for (file, _), text in zip(files, texts, strict=True)})
    return NewArchitecture(name, str(folder), files, _next(_as_path(folder)))


def _name(folder: str | Path, name: str | None) -> str:
    """A name for architecture and module; without one that of the folder, as far as it can be."""
    chosen = re.sub(r"[^a-z0-9_]", "_", Path(folder).resolve().name.lower()) if name is None else name
    try:
        check_new_name(chosen)
        if chosen in KEYWORDS or chosen == Config().root:
            raise HeepgenError(f"no Verilog module of yours can be called {chosen}; choose another name.")
    except HeepgenError as error:
        raise HeepgenError(
            f"--name: {error}" if name is not None else f"{folder} gives no name: {error} --name says one."
        ) from None
    return chosen


def _as_path(folder: str | Path) -> str:
    """The folder for a shell, as --architecture takes it for one."""
    text = str(folder)
    return shlex.quote(text if re.search(r"[/\\.~]", text) else f"./{text}")


def _next(path: str) -> list[tuple[str, str]]:
    return [
        (f"heepgen run model.pt2 --architecture {path}", "a network on it, simulated"),
        (f"heepgen check-architecture {path}", "every check of its parts, alone and together"),
        (f"heepgen hw --architecture {path}", "its Verilog, as it goes into an SoC"),
    ]

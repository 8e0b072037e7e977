# SPDX-License-Identifier: Apache-2.0
"""A folder that `heepgen sw` wrote: read, and checked as far as anything is computed from it."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from firmware_gen.application.options import ImportOptions
from firmware_gen.architectures.registry import architecture_of, find, names
from firmware_gen.emit import shared
from firmware_gen.emit.codegen import main_program
from firmware_gen.emit.folder import GENERATED, KIND, MAIN, MANIFEST, REFERENCE
from gen.flows.accelerator.hardware import geometry
from gen.results.runs.run import LayerReport
from hls.config import Config, System, options, overridden
from hls.config_file import unknown
from hls.descriptor.interface.table import PROFILE_RECORD
from hls.errors import HeepgenError
from hls.output import MARKER, marker

MOST_AROUND, MOST_PER_MAC, MOST_PER_VALUE = 10_000_000, 200, 2_000
"""Cycles: see `Built.most_cycles`."""
OWN_SOURCES = "src"
"""Folder of further sources of the user's in an application."""
_SOURCES, _HEADERS = (".c", ".cc", ".cpp", ".cxx"), (".h", ".hh", ".hpp", ".hxx", ".inc")


@dataclass(frozen=True)
class Built:
    """An application folder, which is the user's, and what heepgen wrote to it, in the folder `generated`, with a
    manifest: what a program is built from."""

    folder: Path
    generated: Path
    manifest: dict[str, Any]

    @cached_property
    def config(self) -> System:
        """What it was generated for; raises `HeepgenError` for an architecture that is not known."""
        given = {name: value for name, value in self.manifest["config"].items() if name != "hash"}
        return configured(given, str(self.folder))

    @property
    def own_sources(self) -> list[Path]:
        """The user's C and C++: what lies beside main.cpp, and in OWN_SOURCES."""
        return self._own(_SOURCES)

    @property
    def own_headers(self) -> list[Path]:
        """The user's headers, at the same places."""
        return self._own(_HEADERS)

    @property
    def own_include_dirs(self) -> list[Path]:
        """Where they are."""
        return [folder for folder in (self.folder, self.folder / OWN_SOURCES) if folder.is_dir()]

    def _own(self, suffixes: tuple[str, ...]) -> list[Path]:
        found = (*sorted(self.folder.iterdir()), *sorted((self.folder / OWN_SOURCES).rglob("*")))
        return [p for p in found if p.suffix in suffixes and p.name[0] != "." and p.is_file()]

    @property
    def sources(self) -> list[Path]:
        """What its program is compiled from besides, but for start-up code."""
        return [self.generated / source for source in self.manifest["sources"]]

    @property
    def include_dirs(self) -> list[Path]:
        return [self.generated / folder for folder in self.manifest["include_dirs"]]

    @property
    def first_main(self) -> str:
        """MAIN as heepgen wrote it, which runs every network once."""
        raise NotImplementedError

    def most_cycles(self, wait_states: int = 0, withheld: float = 0.0) -> int:
        """More than all networks take once, on the CPU alone too, whose loops take at most a tenth of this per
        multiplication and per value; a hang is noticed in reasonable time."""
        raise NotImplementedError

    @property
    def is_as_generated(self) -> bool:
        """Whether its program is that one."""
        main = self.folder / MAIN
        return self.own_sources == [main] and main.read_bytes() == self.first_main.encode()


@dataclass(frozen=True)
class Application(Built):
    """A network in an application folder, whose only one it is, or one of `Applications`; `generated` has what is its
    own: manifest and model, and what PyTorch said. `note` is what the folder's marker says of it."""

    reference: dict[str, Any]
    note: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: str | Path) -> "Application":
        """Read the folder; raises `HeepgenError` when it is not one, is incomplete or damaged, or has several
        networks."""
        opened = opened_folder(folder)
        if isinstance(opened, Application):
            return opened
        raise HeepgenError(f"{folder} holds several networks, {opened.names}: name an application of one.")

    @classmethod
    def read(cls, folder: Path, generated: Path, note: dict[str, Any]) -> "Application":
        """What `generated` says of a network; raises `HeepgenError` where it is incomplete or damaged."""
        manifest, reference = _documents(folder, generated, MANIFEST, REFERENCE)
        for name, tree, schema in ((MANIFEST, manifest, _MANIFEST), (REFERENCE, reference, _REFERENCE)):
            _check(folder, name, tree, schema)
        application = cls(folder, generated, manifest, reference, note)
        wrong = next(_contradictions(application), None)
        if wrong is not None:
            raise _damaged(folder, MANIFEST, wrong)
        return application

    @property
    def first_main(self) -> str:
        return main_program(self.manifest["name"])

    def most_cycles(self, wait_states: int = 0, withheld: float = 0.0) -> int:
        work = sum(
            MOST_PER_MAC * layer["macs"] + MOST_PER_VALUE * layer["output"]["words"]
            for layer in self.manifest["layers"]
        )
        return int((MOST_AROUND + work) * (1 + wait_states) / (1 - withheld))

    @property
    def networks(self) -> tuple["Application", ...]:
        """Itself, as `Applications` have several."""
        return (self,)

    @property
    def options(self) -> ImportOptions:
        try:
            return ImportOptions(**self.note["options"])
        except (KeyError, TypeError):
            raise HeepgenError(
                f"{self.folder} does not say how it was generated; generate it again with heepgen sw."
            ) from None


@dataclass(frozen=True)
class Applications(Built):
    """An application folder of several networks, each in a folder of `generated`."""

    networks: tuple[Application, ...]

    @property
    def names(self) -> str:
        """Of its networks, in words."""
        *names, last = self.manifest["networks"]
        return f"{', '.join(names)} and {last}"

    @property
    def first_main(self) -> str:
        return shared.main_program(self.manifest["networks"])

    def most_cycles(self, wait_states: int = 0, withheld: float = 0.0) -> int:
        return sum(own.most_cycles(wait_states, withheld) for own in self.networks)


def opened_folder(folder: str | Path) -> Application | Applications:
    """What lies in an application folder; raises `HeepgenError` when it is not one, is incomplete or damaged."""
    folder = Path(folder)
    generated = folder / GENERATED
    if marker(folder).get("kind") == KIND:
        if folder.resolve().name == GENERATED:
            raise HeepgenError(f"{folder} is the generated part of an application: name {folder.resolve().parent}.")
        raise HeepgenError(
            f"{folder} was written by an older heepgen, which knew no {GENERATED}/; generate it again with heepgen sw."
        )
    note = marker(generated)
    if note.get("kind") != KIND:
        raise HeepgenError(f"{folder} is not an application: name a folder that heepgen sw wrote, or a model file.")
    (manifest,) = _documents(folder, generated, MANIFEST)
    if not isinstance(manifest, dict) or "networks" not in manifest:
        return Application.read(folder, generated, note)
    _check(folder, MANIFEST, manifest, _WHOLE)
    names, notes = manifest["networks"], note.get("networks")
    if not isinstance(notes, dict) or not all(isinstance(notes.get(name), dict) for name in names):
        raise _damaged(folder, MARKER, "networks")
    own = tuple(Application.read(folder, generated / shared.folder_of(name), notes[name]) for name in names)
    if [network.manifest["name"] for network in own] != names or any(n.config != own[0].config for n in own):
        raise _damaged(folder, MANIFEST, "networks")
    applications = Applications(folder, generated, manifest, own)
    if not all((generated / name).is_file() for name in manifest["sources"]):
        raise _damaged(folder, MANIFEST, "sources")
    return applications


def check_other(out: str | Path, several: bool) -> None:
    """Raises `HeepgenError` where `out` is an application already, of `several` networks or of one, and now becomes the
    other, for which the program in it was not written."""
    note = marker(Path(out) / GENERATED)
    if note.get("kind") == KIND and ("networks" in note) != several:
        was, now = ("several networks", "one") if not several else ("one network", "several")
        raise HeepgenError(
            f"{out} is an application of {was}, whose {MAIN} does not fit {now}; name another folder with -o."
        )


def _documents(folder: Path, generated: Path, *names: str) -> list[Any]:
    """Content of JSON files that heepgen wrote."""
    try:
        return [json.loads((generated / name).read_bytes()) for name in names]
    except (OSError, ValueError, RecursionError):
        raise HeepgenError(f"{folder} is incomplete; generate it again with heepgen sw.") from None


def _check(folder: Path, name: str, tree: Any, schema: Any) -> None:
    wrong = _mismatch(tree, schema)
    if wrong is not None:
        raise _damaged(folder, name, wrong)


def linked_inputs(application: Application) -> tuple[np.ndarray, ...]:
    """The sample that an application carries, in the shapes of its inputs."""
    inputs = zip(application.reference["inputs"], application.manifest["inputs"], strict=True)
    return tuple(np.array(values, np.float32).reshape(own["shape"]) for values, own in inputs)


def in_memory(array: np.ndarray, own: Mapping[str, Any]) -> np.ndarray:
    """An input of a manifest, in PyTorch's order, as it lies in memory."""
    return np.moveaxis(array, 1, -1) if own["channels_last"] else array


def from_memory(words: np.ndarray, own: Mapping[str, Any]) -> np.ndarray:
    """The opposite for an output: its words, in PyTorch's order."""
    if not own["channels_last"]:
        return words
    batch, channels, *image = own["shape"]
    return np.ascontiguousarray(np.moveaxis(words.reshape(batch, *image, channels), -1, 1)).reshape(-1)


def input_shapes(application: Application) -> dict[str, tuple[int, ...]]:
    """Shapes of its inputs, by name."""
    return {own["name"]: tuple(own["shape"]) for own in application.manifest["inputs"]}


def configured(given: Mapping[str, Any], where: str) -> System:
    """The configuration with these options, and the name of its architecture, that `where` was written for.

    Raises `HeepgenError` for an architecture that is not known, an option that it has not, and a value out of range.
    """
    values = dict(given)
    name = values.pop("architecture", Config.architecture)
    if name not in names():
        raise HeepgenError(
            f"{where} is for architecture {name}, which is not installed; give its folder: --architecture PATH."
        )
    kind = find(name).config
    attributes = [o.attribute for o in options(kind)]
    for attribute in values:
        if attribute not in attributes:
            raise HeepgenError(f"{where}: {unknown(attribute, attributes, f'option of architecture {name},')}")
    return kind(**values)


def wanted(
    config: System,
    application: Built,
    hardware_given: bool,
    architecture_given: bool,
    changed: Mapping[str, Any] = MappingProxyType({}),
) -> System:
    """The hardware that an application is to run on: its own, unless a command said otherwise, where naming its own
    architecture says nothing, and options that are `changed` without naming one are those of its own. Raises
    `HeepgenError` where its architecture has not such an option, and where it has no code for any hardware."""
    own = overridden(application.config, **changed)
    if not hardware_given and not (architecture_given and config.architecture != own.architecture):
        return own
    if architecture_of(own).hardware is None and architecture_of(config).hardware is not None:
        raise HeepgenError(
            f"{application.folder} is for architecture {own.architecture}, which has no accelerator; generate it again "
            f"with heepgen sw --architecture {config.architecture}."
        )
    return config


def check_hardware(application: Built, system: System) -> None:
    """Raises `HeepgenError` where the application was generated for other hardware, which it would refuse to run on."""
    own = application.config
    if own.hash != system.hash:
        raise HeepgenError(
            f"{application.folder} was generated for {_named(own)} (configuration 0x{own.hash:08x}), and would refuse "
            f"to run on {_named(system)} (0x{system.hash:08x}): generate it again with heepgen sw, or leave out "
            "--config, --architecture and the flags of its options."
        )


def _named(system: System) -> str:
    """The hardware in words, its architecture among them."""
    words = geometry(system)
    return words if words.startswith(system.architecture) else f"{system.architecture}, {words}"


def _damaged(folder: Path, name: str, wrong: str) -> HeepgenError:
    return HeepgenError(
        f"{folder} is damaged, or was written by another version of heepgen: {name} has no valid "
        f"{wrong}; generate it again with heepgen sw."
    )


# A schema is a dict of the names that must be there, a list with the schema of every element, or a check of a value.


def _natural(limit: int = 2**32) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and 0 <= v < limit


def _text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _number(value: Any) -> bool:
    return value is None or isinstance(value, float) or isinstance(value, int) and abs(value) < 2**128


def _shape(value: Any) -> bool:
    return isinstance(value, list) and all(map(_natural(), value)) and 0 < math.prod(value) < 2**26


def _source(value: Any) -> bool:
    return (
        _text(value)
        and len(value) < 200
        and "\0" not in value
        and not Path(value).is_absolute()
        and ".." not in Path(value).parts
    )


def _names_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, dict) and all(map(check, v.values()))


_ADDRESS = _natural(2**31)
_PROGRAM = {"defines": _names_of(_natural()), "placements": _names_of(_ADDRESS)}
_BUILDING = {
    "config": {"hash": _natural(), "architecture": _text} | {o.attribute: lambda v: True for o in options(System)},
    "sources": [_source],
    "include_dirs": [_source],
}
_WHOLE = _BUILDING | {
    "networks": lambda v: isinstance(v, list) and len(v) > 1 and all(map(_text, v)),
    "accelerator": _PROGRAM,
    "software": _PROGRAM,
}
_MODE = _PROGRAM | {"arena": _ADDRESS, "outputs": [_ADDRESS], "expected_bits": [_natural()]}
_MANIFEST = _BUILDING | {
    "name": _text,
    "symbols": {"result": _text, "timing": _text, "arena": _text},
    "inputs": [{"name": _text, "shape": _shape, "channels_last": _flag, "offset": _ADDRESS}],
    "states": [{"name": _text, "shape": _shape}],
    "outputs": [{"shape": _shape, "channels_last": _flag, "layer": _text}],
    "accelerator": _MODE,
    "software": _MODE,
    "profile": {
        "offset": lambda v: v is None or _ADDRESS(v),
        "words": lambda v: v in ([], list(PROFILE_RECORD)),
        "records": _natural(2**20),
    },
    "layers": [
        {
            "name": _text,
            "op": _text,
            "shape": _shape,
            "macs": _natural(2**63),
            "bound_cycles": _natural(2**63),
            "on_cpu": _flag,
            "descriptors": [_natural(2**20)],
            "output": {
                "offset": _ADDRESS,
                "words": _natural(2**26),
                "channels_last": lambda v: v is None or _shape(v) and len(v) == 3,
            },
        }
    ],
    "memory": {
        "arena_bytes": _ADDRESS,
        "program_bytes": _ADDRESS,
        "constants": [{"address": _ADDRESS, "size": _ADDRESS}],
    },
}
_ERRORS = {own.name for own in fields(LayerReport) if own.default is None}
_REFERENCE = {
    "inputs": [lambda v: isinstance(v, list) and all(map(_number, v))],
    "outputs": [lambda v: isinstance(v, list) and all(map(_number, v))],
    "layers": lambda v: (
        isinstance(v, dict)
        and all(isinstance(e, dict) and e.keys() <= _ERRORS and all(map(_number, e.values())) for e in v.values())
    ),
}


def _mismatch(tree: Any, schema: Any, place: str = "content") -> str | None:
    """Where `tree` first differs from `schema`; None where it does not."""
    if isinstance(schema, dict):
        if not isinstance(tree, dict):
            return place
        found = (_mismatch(tree[name], inner, name) if name in tree else name for name, inner in schema.items())
    elif isinstance(schema, list):
        if not isinstance(tree, list):
            return place
        found = (_mismatch(value, schema[0], place) for value in tree)
    else:
        return None if schema(tree) else place
    return next((wrong for wrong in found if wrong is not None), None)


def _contradictions(application: Application) -> Iterator[str]:
    """Names of what does not fit the rest of the manifest, or the folder."""
    manifest, reference, config = application.manifest, application.reference, application.config
    if manifest["config"]["hash"] != config.hash:
        yield "config"
    if not all((application.generated / name).is_file() for name in manifest["sources"]):
        yield "sources"
    taken = [math.prod(own["shape"]) for own in manifest["inputs"]]
    if not taken or [len(values) for values in reference["inputs"]] != taken:
        yield "inputs"
    sizes = [math.prod(output["shape"]) for output in manifest["outputs"]]
    if not sizes or [len(values) for values in reference["outputs"]] != sizes:
        yield "outputs"
    kept = [layer["output"]["offset"] + 4 * layer["output"]["words"] for layer in manifest["layers"]]
    for mode, tensors in ((manifest["accelerator"], kept), (manifest["software"], [])):
        if len(mode["outputs"]) != len(sizes) or len(mode["expected_bits"]) != sum(sizes):
            yield "expected_bits"
        ends = tensors + [offset + 4 * size for offset, size in zip(mode["outputs"], sizes)]
        if mode["arena"] + max(ends, default=0) > config.ram_bytes:
            yield "arena"
    if any(own["channels_last"] and len(own["shape"]) != 4 for own in (*manifest["inputs"], *manifest["outputs"])):
        yield "channels_last"
    profile = manifest["profile"]
    if profile["records"] and (
        profile["offset"] is None
        or manifest["accelerator"]["arena"] + profile["offset"] + 4 * len(profile["words"]) * profile["records"]
        > config.ram_bytes
    ):
        yield "profile"
    for layer in manifest["layers"]:
        if any(descriptor >= profile["records"] for descriptor in layer["descriptors"]):
            yield "descriptors"
        form = layer["output"]["channels_last"]
        if form is not None and layer["output"]["words"] % math.prod(form):
            yield "channels_last"
    every = [descriptor for layer in manifest["layers"] for descriptor in layer["descriptors"]]
    if sorted(every) != list(range(len(every))):
        yield "descriptors"

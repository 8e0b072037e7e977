# SPDX-License-Identifier: Apache-2.0
"""Architectures by name: ours, those of installed packages, and those that were loaded from a path."""

import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from firmware_gen.architectures.contract import NAME, NAME_RULE, Architecture, Gemm, Verilog
from hls.config import Config, System, options, own_options
from hls.config import load_config as read_config
from hls.config_file import unknown
from hls.errors import HeepgenError, Stopped

GROUP = "heepgen.architectures"
"""Entry points of installed packages: the name of an architecture = its module, such as `my_package.architecture`."""

FILE = "architecture.py"

BUILT_IN = ("descriptor", "streaming", "cpu")

_loaded: dict[str, Architecture] = {}


@dataclass(frozen=True)
class Entry:
    """A line of the list of architectures: where it comes from, and what it is or why it cannot be used."""

    name: str
    origin: str
    architecture: Architecture | None
    fault: str = ""


def find(name: str) -> Architecture:
    """The architecture called `name`; raises `HeepgenError` for an unknown one, and for one that cannot be loaded."""
    if name in BUILT_IN:
        return _built_in(name)
    if name in _loaded:
        return _loaded[name]
    installed = _installed()
    if name in installed:
        return _from_package(installed[name])
    if (Path(name) / FILE).is_file():
        raise HeepgenError(f"unknown architecture {name}; the folder is --architecture ./{name}.")
    raise HeepgenError(unknown(name, names(), "architecture"))


@cache
def _built_in(name: str) -> Architecture:
    return _checked(importlib.import_module(f"firmware_gen.targets.{name}.architecture"))


def names() -> list[str]:
    """Names of all that is known, ours first."""
    return list(dict.fromkeys([*BUILT_IN, *sorted(_installed()), *_loaded]))


def load_architecture(which: str | Path) -> Architecture:
    """The architecture of a name, or of a path, which runs Python: a folder with architecture.py, or that file.

    What is loaded is known by its name from then on. Raises `HeepgenError` for everything that is wrong with it.
    """
    if isinstance(which, str) and not _is_path(which):
        return find(which)
    path = Path(which) if Path(which).name == FILE else Path(which) / FILE
    if not path.is_file():
        what = f"has no {FILE}" if path.parent.is_dir() else "is no folder"
        raise HeepgenError(
            f"--architecture {which}: {path.parent} {what}; name the folder of an architecture, its {FILE}, or one of "
            f"{', '.join(names())}."
        )
    with _faults_of(str(path)):
        return register(_checked(_executed(path)))


def register(architecture: Architecture) -> Architecture:
    """Make an architecture known by its name, instead of one of that name that was before; raises `HeepgenError` where
    its name or its options are those of another one of ours."""
    _check_admission(architecture)
    _loaded[architecture.name] = architecture
    return architecture


def is_loaded(name: str) -> bool:
    """Whether an architecture is known because it was loaded from a path, or made in Python."""
    return name in _loaded


def architecture_of(config: System) -> Architecture:
    """The architecture that a configuration is of."""
    return find(config.architecture)


def load_config(
    given: str | Path | Mapping[str, Any] | None = None, architecture: str | Path | None = None, **overrides: Any
) -> System:
    """Configuration from a file or a dictionary and overrides, see `hls.config.load_config`, of an architecture by name
    or path, or of that which the file selects."""
    chosen = None if architecture is None else load_architecture(architecture).config
    return read_config(given, chosen, _Configurations(), **overrides)


def entries() -> list[Entry]:
    """All that is known, and what installed packages have that cannot be used."""
    found = [Entry(name, "heepgen", find(name)) for name in BUILT_IN]
    for name, point in sorted(_installed().items()):
        origin = point.dist.name if point.dist else point.value
        try:
            found.append(Entry(name, origin, _from_package(point)))
        except HeepgenError as error:
            found.append(Entry(name, origin, None, str(error)))
    return found + [Entry(name, str(a.folder or "Python"), a) for name, a in _loaded.items()]


class _Configurations(Mapping[str, type[System]]):
    """Options of the architectures that are known, each loaded when it is asked for."""

    def __getitem__(self, name: str) -> type[System]:
        return find(name).config

    def __contains__(self, name: object) -> bool:
        return name in names()

    def __iter__(self) -> Iterator[str]:
        return iter(names())

    def __len__(self) -> int:
        return len(names())


def _is_path(which: str) -> bool:
    return any(character in which for character in "/\\.~")


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _from_package(point: EntryPoint) -> Architecture:
    where = f"architecture {point.name} of {point.dist.name if point.dist else point.value}"
    with _faults_of(where):
        module = importlib.import_module(point.module)
        architecture = _checked(module)
        _check_admission(architecture)
    if architecture.name != point.name:
        raise HeepgenError(f"{where} calls itself {architecture.name}; its entry point must have that name.")
    return architecture


def check_new_name(name: str) -> None:
    """Raises `HeepgenError` for a name that no architecture but ours can have."""
    if not NAME.fullmatch(name):
        raise HeepgenError(f"{name}: must be {NAME_RULE}.")
    if name in BUILT_IN:
        raise HeepgenError(f"one of heepgen's own architectures is called {name}; choose another name for yours.")
    if name in {"architecture", *(o.key.split(".")[0] for o in options(Config))}:
        raise HeepgenError(f"a section or option of the configuration file is called {name}; choose another name.")


def _check_admission(architecture: Architecture) -> None:
    name = architecture.name
    check_new_name(name)
    for o in own_options(architecture.config):
        if not o.key.startswith(f"{name}.") and o not in options(Config):
            raise HeepgenError(f"option {o.key} of architecture {name} must be in section {name}.")


def _executed(path: Path) -> ModuleType:
    """The module of a file, with its folder on sys.path while it runs; what it imports from there is its own."""
    path = path.resolve()
    module = ModuleType(f"heepgen_architecture_{path.parent.name}")
    module.__file__ = str(path)
    before, search = set(sys.modules), list(sys.path)
    sys.modules[module.__name__] = module  # where dataclasses look up the names in annotations
    sys.path.insert(0, str(path.parent))
    try:
        with redirect_stdout(sys.stderr):  # ours is for reports
            exec(compile(path.read_bytes(), path, "exec"), vars(module))
    finally:
        sys.path[:] = search
        for name in sys.modules.keys() - before - {module.__name__}:
            top, file = name.split(".")[0], getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(path.parent / top) or file == str(path.parent / f"{top}.py"):
                del sys.modules[name]
    return module


@contextmanager
def _faults_of(where: str) -> Iterator[None]:
    try:
        yield
    except HeepgenError as error:
        raise HeepgenError(f"{where}: {error}") from error
    except Stopped:
        raise
    except (Exception, SystemExit) as error:
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name in (FILE, Path(where).name)
        ]
        line = f"line {frames[-1].lineno}: " if frames else ""
        raise HeepgenError(f"{where}: {line}{type(error).__name__}: {error}.") from error


def _checked(module: ModuleType) -> Architecture:
    """ARCHITECTURE of a module with its paths beginning at the root; raises `HeepgenError` where a file is missing."""
    architecture = getattr(module, "ARCHITECTURE", None)
    if not isinstance(architecture, Architecture):
        what = "has no ARCHITECTURE" if architecture is None else f"has ARCHITECTURE = {architecture!r}"
        raise HeepgenError(f"{what}; it must be an Architecture of firmware_gen.architectures.contract.")
    folder = architecture.folder or Path(str(module.__file__)).parent

    def file(name: str | Path, what: str) -> Path:
        path = folder / name
        if not path.is_file():
            raise HeepgenError(f"{what} {name} is not in {folder}.")
        return path

    software, hardware = architecture.software, architecture.hardware
    if isinstance(software, Gemm):
        software = replace(software, driver=file(software.driver, "driver"))
    if isinstance(hardware, Verilog):
        if isinstance(hardware.files, str | Path) or not hardware.files:
            raise HeepgenError(f"Verilog files = {hardware.files!r}: must be a tuple of one name at least.")
        hardware = replace(hardware, files=tuple(file(name, "Verilog file") for name in hardware.files))
    return replace(architecture, software=software, hardware=hardware, folder=folder)

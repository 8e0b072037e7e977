# SPDX-License-Identifier: Apache-2.0
"""`heepgen architectures`: what there is, what each supports, and the options of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from firmware_gen.architectures.contract import Architecture, Gemm, limits_of
from firmware_gen.architectures.registry import Entry, entries, load_architecture
from gen.records.result import Result
from gen.records.schema import ANYTHING, COUNT, FLAG, TEXT, Fields, Schema, each, maybe, record
from gen.records.tables import Column, Table
from hls.config import FLAGS, Option, options, own_options


def supported(architecture: Architecture) -> tuple[str, ...]:
    """Commands that work on an architecture."""
    software, hardware = architecture.software, architecture.hardware is not None
    predicted = software.cycles is not None if isinstance(software, Gemm) else hardware
    has = {"hw": hardware, "sw": True, "run": True, "estimate": predicted, "eval": True, "xheep": hardware}
    return tuple(command for command, works in has.items() if works)


def _limits(architecture: Architecture) -> dict[str, Any]:
    """Of one call of the driver with default options, and the CPU's kernels that it replaces."""
    software = architecture.software
    if not isinstance(software, Gemm):
        return {}
    limits = limits_of(software, architecture.config())
    return {"k": limits.k, "n": limits.n, "kernels": sorted(software.kernels), "cycles": software.cycles is not None}


def default_text(option: Option) -> str:
    """The default value of an option as it is written in the file; addresses are hexadecimal there."""
    value = option.default
    return f"{value:#x}" if isinstance(value, int) and value > 0xFFFFFF else option.shown(value)


def _option(option: Option) -> dict[str, Any]:
    return {
        "name": option.key,
        "flag": FLAGS.get(option.attribute),
        "default": option.default,
        "allowed": option.allowed,
        "meaning": option.meaning,
        "in_hash": option.in_hash,
    }


def _summary(entry: Entry) -> dict[str, Any]:
    architecture = entry.architecture
    if architecture is None:
        return {"name": entry.name, "origin": entry.origin, "fault": entry.fault}
    return {
        "name": entry.name,
        "origin": entry.origin,
        "summary": architecture.summary,
        "level": architecture.level,
        "masters": architecture.masters(architecture.config()),
        "supports": list(supported(architecture)),
        "product": _limits(architecture),
        "options": [_option(option) for option in own_options(architecture.config)],
    }


_OPTION = record(
    {
        "name": (TEXT, "as in the configuration file"),
        "flag": (maybe(TEXT), "of the command line"),
        "default": (ANYTHING, "its value where nothing is given"),
        "allowed": (TEXT, "values, in words"),
        "meaning": (TEXT, "what it sets"),
        "in_hash": (FLAG, "whether firmware for one value refuses hardware with another"),
    }
)
_PRODUCT = record(
    {
        "k": (COUNT, "largest K of a call"),
        "n": (COUNT, "largest N of a call"),
        "kernels": (each(TEXT), "kernels of the CPU that the driver replaces"),
        "cycles": (FLAG, "whether the architecture says what its work takes"),
    },
    optional={"k", "n", "kernels", "cycles"},
)
_ARCHITECTURE: Fields = {
    "name": (TEXT, "as --architecture takes it"),
    "origin": (TEXT, "where it comes from"),
    "summary": (TEXT, "what it is"),
    "level": ({"enum": ["gemm", "graph"]}, "what it computes: matrix products, or whole networks"),
    "masters": (COUNT, "OBI masters with default options"),
    "supports": (each(TEXT), "commands that work on it"),
    "product": (_PRODUCT, "limits of a call with default options; empty where it computes whole networks"),
    "options": (each(_OPTION), "its own options"),
}
_FAULTY = record(
    {"name": (TEXT, "of it"), "origin": (TEXT, "where it comes from"), "fault": (TEXT, "why it cannot be used")}
)


@dataclass(frozen=True, repr=False)
class Listing(Result):
    """All architectures that are known."""

    architectures: tuple[dict[str, Any], ...]

    schema = Schema(
        "architectures",
        "All architectures",
        {"architectures": (each({"anyOf": [record(_ARCHITECTURE), _FAULTY]}), "all that are known")},
    )

    def content(self) -> dict[str, Any]:
        return {"architectures": list(self.architectures)}

    def table(self) -> Any:
        rows = [
            (a["name"], a["origin"], "-", "-", "-", f"cannot be used: {a['fault']}")
            if "fault" in a
            else (a["name"], a["origin"], a["level"], str(a["masters"]), ", ".join(a["supports"]), a["summary"])
            for a in self.architectures
        ]
        return _table(
            "Architectures",
            ("name", Column("from", 2), "level", Column("masters", 1), _wrapped("commands"), _wrapped("what it is")),
            rows,
        )


@dataclass(frozen=True, repr=False)
class One(Result):
    """An architecture with the options of its configuration, its own first."""

    architecture: dict[str, Any]
    options: tuple[Option, ...]

    schema = Schema(
        "architecture",
        "One architecture",
        {**_ARCHITECTURE, "system": (each(_OPTION), "options that every architecture has")},
        call="heepgen architectures NAME",
    )

    def content(self) -> dict[str, Any]:
        return self.architecture | {"system": [_option(o) for o in self.options[len(self.architecture["options"]) :]]}

    def table(self) -> Any:
        own = self.architecture
        product = own["product"]
        title = f"{own['name']}: {own['summary']}\nlevel {own['level']}, {own['masters']} masters; "
        title += f"commands {', '.join(own['supports'])}"
        if product:
            title += f"\none product has up to K = {product['k']}, N = {product['n']}"
        rows = [
            (o.key, FLAGS.get(o.attribute, "-"), default_text(o), o.allowed, "yes" if o.in_hash else "no", o.meaning)
            for o in self.options
        ]
        return _table(
            title,
            ("option", "flag", _wrapped("default"), _wrapped("allowed"), Column("in hash", 1), _wrapped("meaning")),
            rows,
        )


def _wrapped(heading: str) -> Column:
    return Column(heading, wraps=True)


def listing() -> Listing:
    """All architectures, those that cannot be used with the reason."""
    return Listing(tuple(_summary(entry) for entry in entries()))


def one(name: str) -> One:
    """The architecture of a name or path."""
    architecture = load_architecture(name)
    entry = next(e for e in entries() if e.name == architecture.name and e.architecture == architecture)
    return One(_summary(entry), options(architecture.config))


def _table(title: str, columns: Sequence[str | Column], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(title, columns)
    for row in rows:
        table.add_row(*row)
    return table

# SPDX-License-Identifier: Apache-2.0
"""Cell libraries in the Liberty format: areas, functions, capacitances, and tables of slews and energies.

Whatever units a file has, capacitances are in fF here, times in ns, energies in fJ and leakage in nW.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from hls.errors import HeepgenError

_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|\\\s*\n|"[^"]*"|\n|[(){};:,]|[^\s(){};:,"\\]+', re.S)
_SKIPPED = ("/*", "//", "\\")
_PREFIXES = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}
_LOAD = "total_output_net_capacitance"


@dataclass
class Group:
    """`name (arguments) { attributes; groups }` of a Liberty file; an attribute has one or more values."""

    name: str
    arguments: list[str]
    attributes: dict[str, list[str]] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)

    def every(self, name: str) -> Iterator["Group"]:
        return (group for group in self.groups if group.name == name)

    def text(self, name: str, default: str = "") -> str:
        return self.attributes.get(name, [default])[0]

    def number(self, name: str, default: float = 0.0) -> float:
        return float(self.text(name) or default)


@dataclass(frozen=True)
class Table:
    """Values over slews (ns) and loads (fF); an axis of one entry does not matter. Outside it holds its edge."""

    slews: NDArray[np.float64]
    loads: NDArray[np.float64]
    values: NDArray[np.float64]

    def at(self, slews: NDArray[np.float64], loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bilinear interpolation at points of equal shape."""
        (i, u), (j, v) = _place(self.slews, slews), _place(self.loads, loads)
        below, right = np.minimum(i + 1, len(self.slews) - 1), np.minimum(j + 1, len(self.loads) - 1)
        low = self.values[i, j] * (1 - v) + self.values[i, right] * v
        high = self.values[below, j] * (1 - v) + self.values[below, right] * v
        result: NDArray[np.float64] = low * (1 - u) + high * u
        return result


def _place(axis: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if len(axis) == 1:
        return np.zeros(x.shape, np.int64), np.zeros(x.shape)
    x = np.clip(x, axis[0], axis[-1])
    i = np.clip(np.searchsorted(axis, x, "right") - 1, 0, len(axis) - 2)
    return i, (x - axis[i]) / (axis[i + 1] - axis[i])


@dataclass(frozen=True)
class Power:
    """Energy per edge of a pin beyond that of its load: `related` is the input that made an output change, `when` a
    condition on the other pins; "" where there is none."""

    related: str
    when: str
    rise: Table | None
    fall: Table | None


@dataclass(frozen=True)
class Pin:
    """`slews`: tables of the transitions of an output."""

    name: str
    is_output: bool
    capacitance: float
    function: str
    powers: tuple[Power, ...]
    slews: tuple[Table, ...]


@dataclass(frozen=True)
class Cell:
    """`kind`: "gate", "flip-flop", "clock gate" or "other", which an accelerator's netlist does not have.

    leakage: (condition, nW), the condition "" for whatever the others leave; leaks: on average, nW. clock: the pin that
    a flip-flop's or a clock gate's work waits for; enable: a clock gate's; state: names of what a flip-flop holds, and
    of its inverse; register_ns: from its clock to its output, and its setup, in the middle of their tables; 0 where
    nothing is held or the library does not say.
    """

    name: str
    kind: str
    area: float
    leakage: tuple[tuple[str, float], ...]
    leaks: float
    pins: Mapping[str, Pin]
    clock: str = ""
    enable: str = ""
    next_state: str = ""
    state: tuple[str, ...] = ()
    register_ns: float = 0.0

    @property
    def inputs(self) -> tuple[Pin, ...]:
        return tuple(pin for pin in self.pins.values() if not pin.is_output)

    @property
    def outputs(self) -> tuple[Pin, ...]:
        return tuple(pin for pin in self.pins.values() if pin.is_output)


@dataclass(frozen=True)
class Library:
    name: str
    volts: float
    cells: Mapping[str, Cell]

    def check_energies(self) -> None:
        """Raises `HeepgenError` where it has none to count with."""
        if not any(power for cell in self.cells.values() for pin in cell.pins.values() for power in pin.powers):
            raise HeepgenError(f"library {self.name} has no internal_power tables, so no energy can be told.")
        if self.volts <= 0:
            raise HeepgenError(f"library {self.name} does not say nom_voltage, so no energy can be told.")


def parse(text: str) -> Group:
    """The library group of a Liberty file; raises `HeepgenError` where it is none."""
    found = (t for t in _TOKEN.findall(text) if not t.startswith(_SKIPPED))
    try:
        for token in found:
            if token == "library":
                return _group("library", _arguments(_skip(found)), found)
    except StopIteration:
        pass
    raise HeepgenError("no library (NAME) { ... } in it, or its braces do not match.")


def _skip(tokens: Iterator[str], what: str = "(") -> Iterator[str]:
    while next(tokens) != what:
        pass
    return tokens


def _arguments(tokens: Iterator[str]) -> list[str]:
    result: list[str] = []
    for token in tokens:
        if token == ")":
            return result
        if token not in (",", "\n"):
            result.append(token.strip('"'))
    raise StopIteration


def _group(name: str, arguments: list[str], tokens: Iterator[str]) -> Group:
    group = Group(name, arguments)
    opened, word = False, ""
    while True:
        token = next(tokens)
        if token == "{" and not opened:
            opened = True
        elif token == "}":
            return group
        elif token == ":":
            values = []
            while (token := next(tokens)) not in (";", "\n", "}"):
                values.append(token.strip('"'))
            group.attributes[word] = [" ".join(values)]
            if token == "}":
                return group
        elif token == "(":
            values = _arguments(tokens)
            while (token := next(tokens)) == "\n":
                pass
            if token == "{":
                group.groups.append(_group(word, values, chain(["{"], tokens)))
            else:
                group.attributes.setdefault(word, []).extend(values)
                if token == "}":
                    return group
                word = token
        elif token not in (";", "\n"):
            word = token


@lru_cache(maxsize=4)
def read_library(path: Path) -> Library:
    """The cells of a Liberty file. Raises `HeepgenError` where it is none."""
    try:
        library = parse(Path(path).read_text(errors="replace"))
        return _library(library)
    except OSError as error:
        raise HeepgenError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, IndexError, KeyError, RecursionError) as error:
        raise HeepgenError(f"{path} is not a Liberty file that heepgen can read: {error}.") from None
    except HeepgenError as error:
        raise HeepgenError(f"{path}: {error}") from None


def _library(library: Group) -> Library:
    amount, unit = library.attributes.get("capacitive_load_unit", ["1", "pf"])
    farad = float(amount) * _PREFIXES[unit.lower()[:-1]] / 1e-15
    ns = _unit(library.text("time_unit", "1ns")) / 1e-9
    nw = _unit(library.text("leakage_power_unit", "1nW")) / 1e-9
    volt = _unit(library.text("voltage_unit", "1V"))
    templates = {g.arguments[0]: g for g in library.groups if g.name in ("lu_table_template", "power_lut_template")}
    scale = _Scale(farad, ns, farad * volt**2, nw, templates)
    cells = {group.arguments[0]: _cell(group, scale) for group in library.every("cell")}
    return Library(library.arguments[0], library.number("nom_voltage") * volt, cells)


@dataclass(frozen=True)
class _Scale:
    farad: float
    time: float
    energy: float
    leakage: float
    templates: Mapping[str, Group]


def _unit(text: str) -> float:
    found = re.fullmatch(r"([\d.e+-]*)\s*([fpnum]?)[sVW]", text)
    if not found:
        raise ValueError(f"{text!r} is no unit")
    return float(found[1] or 1) * _PREFIXES[found[2]]


def _numbers(values: list[str]) -> NDArray[np.float64]:
    return np.array(",".join(values).replace(",", " ").split(), float)


def _table(group: Group, scale: _Scale, unit: float) -> Table:
    template = scale.templates.get(group.arguments[0], Group("", []))

    def axis(name: str) -> NDArray[np.float64]:
        given = group.attributes.get(name) or template.attributes[name]
        return _numbers(given)

    values = _numbers(group.attributes["values"]) * unit
    one = np.zeros(1)
    if len(values) == 1:
        return Table(one, one, values.reshape(1, 1))
    first = axis("index_1")
    second = axis("index_2") if "index_2" in {*group.attributes, *template.attributes} else one
    values = values.reshape(len(first), len(second))
    if template.text("variable_1") == _LOAD:
        return Table(second * scale.time, first * scale.farad, values.T)
    return Table(first * scale.time, second * scale.farad, values)


def _powers(pin: Group, scale: _Scale) -> Iterator[Power]:
    for group in pin.every("internal_power"):
        tables = {g.name: _table(g, scale, scale.energy) for g in group.groups}
        both = tables.get("power")
        for related in group.text("related_pin").split() or [""]:
            rise, fall = tables.get("rise_power", both), tables.get("fall_power", both)
            yield Power(related, group.text("when"), rise, fall)


def _pin(group: Group, scale: _Scale) -> Pin:
    slews = [
        _table(table, scale, scale.time)
        for timing in group.every("timing")
        for table in timing.groups
        if table.name in ("rise_transition", "fall_transition")
    ]
    return Pin(
        name=group.arguments[0],
        is_output=group.text("direction") == "output",
        capacitance=group.number("capacitance") * scale.farad,
        function=group.text("function") or group.text("state_function"),
        powers=tuple(_powers(group, scale)),
        slews=tuple(slews),
    )


def _register_ns(cell: Group, scale: _Scale) -> float:
    timings = [timing for pin in cell.every("pin") for timing in pin.every("timing")]

    def longest(*names: str) -> float:
        tables = (table for timing in timings for table in timing.groups if table.name in names)
        middles = (float(median(_numbers(table.attributes["values"]))) for table in tables)
        return max(middles, default=0.0) * scale.time

    timings = [timing for timing in timings if timing.text("timing_type") in ("rising_edge", "setup_rising")]
    return longest("cell_rise", "cell_fall") + longest("rise_constraint", "fall_constraint")


def _cell(group: Group, scale: _Scale) -> Cell:
    pins = {
        name: _pin(pin, scale)
        for pin in group.every("pin")
        for name in pin.arguments
        if pin.text("direction") != "internal"
    }
    states = [(g.text("when"), g.number("value") * scale.leakage) for g in group.every("leakage_power")]
    rest = group.number("cell_leakage_power") * scale.leakage
    leakage = tuple((when, nw) for when, nw in states if when) or (("", states[0][1] if states and not rest else rest),)
    leaks = rest or sum(nw for _, nw in states) / max(len(states), 1)
    common = (group.number("area"), leakage, leaks, pins)
    name = group.arguments[0]
    if group.text("clock_gating_integrated_cell").startswith("latch_posedge"):
        clock = next((p.arguments[0] for p in group.every("pin") if p.text("clock_gate_clock_pin") == "true"), "CK")
        enable = next(
            (p.arguments[0] for p in group.every("pin") if p.text("clock_gate_enable_pin") == "true"),
            next(n for n, pin in pins.items() if not pin.is_output and n != clock),
        )
        return Cell(name, "clock gate", *common, clock=clock, enable=enable)
    held = next(group.every("ff"), None)
    if held is not None:
        clock = held.text("clocked_on")
        plain = clock in pins and not {"clear", "preset"} & set(held.attributes)
        return Cell(
            name,
            "flip-flop" if plain else "other",
            *common,
            clock=clock,
            next_state=held.text("next_state"),
            state=tuple(held.arguments),
            register_ns=_register_ns(group, scale),
        )
    outputs = [pin for pin in pins.values() if pin.is_output]
    known = outputs and all(pin.function for pin in outputs) and not any(group.every("latch"))
    return Cell(name, "gate" if known and "statetable" not in {g.name for g in group.groups} else "other", *common)

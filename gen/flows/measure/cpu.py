# SPDX-License-Identifier: Apache-2.0
"""The CPU of the system while it sleeps, waiting for an accelerator (`wfi`): CV32E40P without its FPU, in cells."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from gen.ppa import synthesis
from gen.ppa.asic import asic_flow, cells_of
from gen.ppa.energy.power import CLOCK_SLEW_NS
from gen.ppa.liberty import Cell, Library, read_library
from gen.ppa.technology import Technology
from sim.toolchain import package_dir

FIGURES = Path(__file__).with_name("cpu.json")
PACKAGE, ROOT, CLOCK, GATE = "pythondata_cpu_cv32e40p", "cv32e40p_top", "clk_i", "cv32e40p_clock_gate"


@dataclass(frozen=True)
class Asleep:
    """kge: of its logic; leakage_uw: on average over its cells' states. flip_flops: their number, of which `clocked`
    have a clock while it sleeps, which takes clock_pj in a cycle with that of its clock gate. origin: of these."""

    kge: float
    leakage_uw: float
    flip_flops: int
    clocked: int
    clock_pj: float
    origin: str

    def pj(self, mhz: float) -> float:
        """In a cycle at a clock."""
        return self.clock_pj + self.leakage_uw / mhz


@cache
def asleep() -> Asleep:
    """The shipped figures."""
    return Asleep(**json.loads(FIGURES.read_text())["figures"])


def measured(library: Technology, origin: str) -> Asleep:
    """Map the CPU to the cells of a library, as one module, and look at what has a clock outside its clock gate."""
    rtl = package_dir(PACKAGE) / "system_verilog" / "rtl"
    manifest = (rtl.parent / "cv32e40p_manifest.flist").read_text()
    paths = [rtl / name for name in re.findall(r"^\$\{DESIGN_RTL_DIR\}/(?!\.\.)(\S+)", manifest, re.M)]
    files = {path.name: path.read_text() for path in paths}
    gate = f"{GATE}(input logic clk_i, input logic en_i, input logic scan_cg_en_i, output logic clk_o)"
    files["gate.sv"] = f"(* blackbox *) module {gate}; endmodule\n"
    read = f"read_slang --top {ROOT} -D SYNTHESIS -G FPU=0 {' '.join(files)}; hierarchy -check -top {ROOT}; flatten"
    modules = synthesis.whole(files, ROOT, asic_flow(library), read)
    cells = read_library(library.liberty)
    found, kinds = cells_of(modules, ROOT, library), modules[ROOT].cells
    gates = [cell for cell in cells.cells.values() if cell.kind == "clock gate"]
    own = min(gates, key=lambda cell: cell.area)
    always = _clocked(modules[ROOT].netlist, cells)
    return Asleep(
        kge=round(found.gates / 1000 + own.area / library.gate_area / 1000, 1),
        leakage_uw=round(found.leakage_uw + own.leaks / 1000, 1),
        flip_flops=sum(n for kind, n in kinds.items() if kind in cells.cells and cells.cells[kind].state),
        clocked=len(always),
        clock_pj=round(sum(_edges(cell, cells) for cell in [*always, own]) / 1000, 4),
        origin=origin,
    )


def _clocked(netlist: str, library: Library) -> list[Cell]:
    """Flip-flops on the CPU's own clock, of a netlist."""
    found = []
    for kind, pins in re.findall(r"^  (\w+) \S+ \(\n(.*?)\n  \);", netlist, re.M | re.S):
        cell = library.cells.get(kind)
        if cell and cell.state and re.search(rf"\.{cell.clock}\({CLOCK}\)", pins):
            found.append(cell)
    return found


def _edges(cell: Cell, library: Library) -> float:
    """fJ of both edges of a clock pin, on average over the states of the others."""
    pin, slew, nothing = cell.pins[cell.clock], np.array([CLOCK_SLEW_NS]), np.zeros(1)
    tables = [[table for table in (power.rise, power.fall) if table] for power in pin.powers]
    inside = [sum(float(table.at(slew, nothing)[0]) for table in both) for both in tables]
    return pin.capacitance * library.volts**2 + (float(np.mean(inside)) if inside else 0.0)

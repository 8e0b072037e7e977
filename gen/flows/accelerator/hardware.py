# SPDX-License-Identifier: Apache-2.0
"""Verilog of any architecture: its module behind the register head, checked against the ports that it must have."""

import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from firmware_gen.architectures.contract import Architecture, Hardware, MyHdl, Verilog, Whole
from firmware_gen.architectures.registry import BUILT_IN, FILE, architecture_of
from hls import __version__
from hls.config import System
from hls.errors import HeepgenError

SUFFIXES = (".v", ".sv")


def geometry(config: System) -> str:
    """One line naming what is built for a configuration."""
    return architecture_of(config).described(config)


def hardware_of(config: System) -> tuple[Architecture, Hardware]:
    """The architecture of a configuration, and its hardware; raises `HeepgenError` where it has none."""
    architecture = architecture_of(config)
    if architecture.hardware is None:
        raise HeepgenError(f"architecture {architecture.name} has no hardware to generate; choose another one.")
    return architecture, architecture.hardware


def hardware_sources(config: System) -> list[Path]:
    """Files of an architecture that its Verilog may depend on, besides heepgen's own hardware."""
    architecture, hardware = hardware_of(config)
    folder = architecture.folder
    if folder is None:
        files = []
    elif architecture.name in BUILT_IN:  # their hardware is in hls, beside them are compilers
        files = [folder / FILE]
    else:
        every = (Path(place, name) for place, names in _visible(folder) for name in names)
        files = sorted(file for file in every if file.suffix == ".py")
    return [*files, *(map(Path, hardware.files) if isinstance(hardware, Verilog) else ())]


def _visible(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Folders in and below `folder`, but hidden ones such as environments, with the names of their files."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield place, names


def generate_verilog(config: System, folder: Path) -> None:
    """Write the accelerator of `config` to `folder`, the root module in `config.root`.v.

    Raises `HeepgenError` where the architecture has no hardware, its module has other ports than the contract's or
    Verilator refuses it, and where two modules have one name.
    """
    architecture, hardware = hardware_of(config)
    masters = architecture.masters(config)
    origin = f"heepgen {__version__}, configuration 0x{config.hash:08x}"
    if isinstance(hardware, Whole):
        with architecture.own_code():
            hardware.generate(config, folder)
    elif isinstance(hardware, Verilog):
        parameters = _parameters(architecture, hardware, config)
        has = _check_ports(architecture, hardware, parameters, masters)
        taken = _copy(hardware, folder)
        _wrap(
            architecture=architecture,
            config=config,
            folder=folder,
            own=hardware.top,
            masters=masters,
            has=has,
            parameters=parameters,
            origin=origin,
            taken=taken,
        )
    else:
        module = f"{config.prefix}{architecture.name}"
        has = _convert(architecture, hardware, config, folder, module, masters, origin)
        taken = {path.stem for path in folder.glob("*.v")}
        _wrap(
            architecture=architecture,
            config=config,
            folder=folder,
            own=module,
            masters=masters,
            has=has,
            parameters={},
            origin=origin,
            taken=taken,
        )


def _parameters(architecture: Architecture, hardware: Verilog, config: System) -> dict[str, int]:
    with architecture.own_code():
        parameters = dict(hardware.parameters(config))
    for name, value in parameters.items():
        if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z_]\w*", name) and isinstance(value, int)):
            raise HeepgenError(
                f"architecture {architecture.name}: parameter {name!r} = {value!r}: parameters are integers by name."
            )
    return {name: int(value) for name, value in parameters.items()}


def _check_ports(
    architecture: Architecture, hardware: Verilog, parameters: Mapping[str, int], masters: int
) -> set[str]:
    """Names of the ports of the top module, which are those of the contract."""
    from hls.bus.obi import OPTIONAL, pins
    from sim.toolchain import module_ports

    where = f"architecture {architecture.name}: module {hardware.top}"
    try:
        found = module_ports([Path(file) for file in hardware.files], hardware.top, parameters)
    except HeepgenError as error:
        raise HeepgenError(f"{where}: {error}") from None
    wanted = {pin.name: pin for pin in pins(masters)}
    for name, (direction, bits) in found.items():
        pin = wanted.get(name)
        if pin is None:
            why = (
                f"it says that it has {masters} masters" if name.startswith("m_") else f"known are {', '.join(wanted)}"
            )
            raise HeepgenError(f"{where} has a port {name}, which an accelerator has not; {why}.")
        if (direction, bits) != (pin.direction, pin.width):
            shown = "no plain vector" if bits is None else f"an {direction} of {_bits(bits)}"
            raise HeepgenError(
                f"{where}: port {name} is {shown}, and must be an {pin.direction} of {_bits(pin.width)}."
            )
    for name, pin in wanted.items():
        if name not in found and name not in OPTIONAL:
            raise HeepgenError(f"{where} has no port {name}; it must have this {pin.direction} of {_bits(pin.width)}.")
    return set(found)


def _bits(count: int) -> str:
    return "1 bit" if count == 1 else f"{count} bits"


def _copy(hardware: Verilog, folder: Path) -> set[str]:
    """Copy the files; returns the names of the modules in them."""
    modules: set[str] = set()
    for file in map(Path, hardware.files):
        if file.suffix not in SUFFIXES:
            raise HeepgenError(f"{file}: a Verilog file is called NAME.v or NAME.sv.")
        if (folder / file.name).exists():
            raise HeepgenError(f"{file}: another Verilog file is called {file.name}; rename one of them.")
        shutil.copyfile(file, folder / file.name)
        modules |= {file.stem, *re.findall(r"^\s*module\s+(\w+)", file.read_text(errors="replace"), re.MULTILINE)}
    return modules


def _convert(
    architecture: Architecture, hardware: MyHdl, config: System, folder: Path, module: str, masters: int, origin: str
) -> set[str]:
    """Verilog of a unit in MyHDL, as `module`; returns the names of its ports."""
    from myhdl import Signal

    from hls.bus.obi import OPTIONAL, Masters, Slave
    from hls.lib.convert import convert

    with architecture.own_code():
        unit = hardware.unit()
        names = list(unit.port_names)
        required = ["clk", "rst_n", "s", *(["m"] if masters else [])]
        wrong = [name for name in names if name not in (*required, *OPTIONAL)]
        missing = [name for name in required if name not in names]
        for port, what in (*((name, "has not") for name in missing), *((name, "has besides") for name in wrong)):
            raise HeepgenError(
                f"architecture {architecture.name}: port {port}, which unit {unit.__name__} {what}; with {masters} "
                f"masters it has {', '.join(required)}, and if it likes {', '.join(OPTIONAL)}."
            )

        def instance() -> Any:
            flags: dict[str, Any] = {name: Signal(bool(0)) for name in ("clk", "rst_n", *OPTIONAL)}
            signals = flags | {"s": Slave(), "m": Masters(masters)} if masters else flags | {"s": Slave()}
            return unit(**{name: signals[name] for name in names}, config=config)

        convert(instance, folder, module, config.prefix, origin)
    return set(names)


def _wrap(
    architecture: Architecture,
    config: System,
    folder: Path,
    own: str,
    masters: int,
    has: Collection[str],
    parameters: Mapping[str, int],
    origin: str,
    taken: Collection[str],
) -> None:
    """Write register head and root module around module `own`; `taken` are the names of the modules that are there."""
    from myhdl import Signal

    from hls.bus.obi import Slave
    from hls.bus.register_head import register_head
    from hls.bus.root import root_text
    from hls.lib.convert import convert

    head = f"{config.prefix}{register_head.__name__}"
    for name in (head, config.root):
        if name in taken:
            raise HeepgenError(
                f"architecture {architecture.name}: heepgen's own module has the name of its module {name}; rename it."
            )
    convert(
        lambda: register_head(Signal(bool(0)), Signal(bool(0)), Slave(), Slave(), config=config),
        folder,
        head,
        config.prefix,
        origin,
    )
    text = root_text(config, head, own, masters=masters, has=has, parameters=parameters, origin=origin)
    (folder / f"{config.root}.v").write_text(text)

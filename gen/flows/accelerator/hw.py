# SPDX-License-Identifier: Apache-2.0
"""`heepgen hw`: Verilog of the accelerator, and everything needed to use it, in one folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from firmware_gen.architectures.contract import Architecture, Fact, Gemm, own_files
from firmware_gen.architectures.registry import architecture_of
from gen.flows.accelerator.hardware import generate_verilog, geometry
from gen.records.result import Result, to_json
from gen.records.schema import TEXT, Schema, each
from gen.records.tables import pairs
from hls import __version__
from hls.config import System, own_options
from hls.errors import HeepgenError
from hls.output import fill, generated_folder
from sim.build import accelerator_files

KIND = "accelerator"
RTL, SOFTWARE, README = "rtl", "software", "README.md"


@dataclass(frozen=True, repr=False)
class HwReport(Result):
    """A generated accelerator: its options, and what its architecture says of them."""

    architecture: str
    config_hash: str
    options: Mapping[str, Any]
    facts: tuple[Fact, ...]
    modules: tuple[str, ...] = ()

    schema = Schema(
        "hw",
        "A generated accelerator",
        {
            "architecture": (TEXT, "its name"),
            "config_hash": (TEXT, "what firmware compares, hexadecimal"),
            "modules": (each(TEXT), "Verilog modules"),
        },
        others={"type": ["number", "string", "boolean"], "description": "options, and facts, of the architecture"},
    )

    @classmethod
    def of(cls, config: System, modules: tuple[str, ...] = ()) -> "HwReport":
        architecture = architecture_of(config)
        with architecture.own_code():
            facts = tuple(architecture.facts(config))
        for fact in facts:
            if not (isinstance(fact, Fact) and isinstance(fact.value, int | float | str)):
                raise HeepgenError(f"architecture {architecture.name}: {fact!r} is no Fact of a number or a text.")
        options = {o.attribute: getattr(config, o.attribute) for o in own_options(type(config))}
        return cls(architecture.name, f"0x{config.hash:08x}", options, facts, modules)

    def content(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            **self.options,
            "config_hash": self.config_hash,
            **{fact.key: fact.value for fact in self.facts},
            "modules": self.modules,
        }

    def table(self) -> RenderableType:
        return pairs(f"Accelerator {self.architecture}", self.lines())

    def lines(self) -> list[tuple[str, str]]:
        """Pairs of quantity and value with its unit."""
        return [
            ("architecture", self.architecture),
            ("configuration hash", self.config_hash),
            *((fact.label, fact.text) for fact in self.facts if fact.text),
            ("Verilog modules", str(len(self.modules))),
        ]

    def markdown(self) -> str:
        rows = [f"| {name} | {value} |" for name, value in self.lines()]
        return "\n".join(["# Generated accelerator", "", "| quantity | value |", "|---|---|", *rows, ""])


def generate_hw(
    config: System, out: str | Path, *, force: bool = False, generate: Callable[[System, Path], Any] = generate_verilog
) -> HwReport:
    """Write the accelerator for `config` to the folder `out`, whole or not at all.

    `generate(config, folder)` writes Verilog files named after the modules in them, the root `config.root`.v among
    them. Raises `HeepgenError` when `out` may not be replaced, and as `generate_verilog` does.
    """
    with generated_folder(out, KIND, force=force, note={"config_hash": f"0x{config.hash:08x}"}) as folder:
        rtl = folder / RTL
        rtl.mkdir()
        generate(config, rtl)
        sources = [f"{RTL}/{path.name}" for path in accelerator_files(rtl)]
        report = HwReport.of(config, tuple(sorted(Path(name).stem for name in sources)))
        _write_documents(folder, config, sources, report)
    return report


def design_in(store: str | Path, number: int) -> System:
    """The configuration of a point of what `heepgen explore` wrote. Raises `HeepgenError` for a file that is none, a
    point that there is not, and one whose architecture or options this version does not have."""
    from gen.explore.space import config_of
    from gen.explore.store import Store

    try:
        with Store(store, read_only=True) as found:
            return config_of(found.config(number))
    except HeepgenError as error:
        raise HeepgenError(f"--from {error}") from None


def _write_documents(folder: Path, config: System, sources: list[str], report: HwReport) -> None:
    from xheep_integration.core import core_file

    architecture = architecture_of(config)
    description = f"Accelerator, {geometry(config)}"
    core = core_file(sources, version=__version__, top=config.root, description=description)
    files = {f"{config.root}.core": core, "report.json": to_json(report), "report.md": report.markdown()}
    documents = own_files(architecture.name, architecture.documents, config, {*files, README, RTL, SOFTWARE})
    readme = {README: _readme(config, architecture, list(documents))}
    fill(folder, files | documents | readme | _library(architecture, config))


def _library(architecture: Architecture, config: System) -> dict[str, str]:
    """C++ that multiplies matrices on an accelerator which does that."""
    if not isinstance(architecture.software, Gemm):
        return {}
    from firmware_gen.targets.calls.library import library

    return {f"{SOFTWARE}/{name}": text for name, text in library(architecture.software, config).items()}


def _readme(config: System, architecture: Architecture, documents: list[str]) -> str:
    masters = architecture.masters(config)
    named = ", ".join(f"`{name}`" for name in documents)
    library = ""
    if isinstance(architecture.software, Gemm):
        library = (
            f"- `{SOFTWARE}/`: C++ for programs of your own: `multiply.hpp` has `heepstor::multiply`,\n"
            "  the .cpp files are compiled with them\n"
        )
    ports = f"{masters} OBI master(s) (`m_*`, packed, port\n0 in the low bits), an" if masters else "no OBI master, an"
    return f"""\
# {config.root}: {geometry(config)}

Generated by `heepgen hw`; running it again replaces this folder, so make changes in the configuration.

- `{RTL}/`: Verilog, files named after the modules in them; the root is `{config.root}` in `{config.root}.v`, the names
  of the others that heepgen wrote begin with `{config.prefix}`
- `{config.root}.core`: FuseSoC description of those files; in this folder, with a `verilator` on PATH:
  `fusesoc --cores-root . run --target lint heepgen:ip:{config.root}`
- {named}: registers
{library}- `report.md`, `report.json`: what it is built of

The root has one OBI slave (`s_*`: registers), {ports} interrupt and `idle`, which is high while
the clock may be gated. Firmware compares the architecture `{architecture.name}` and the configuration hash
0x{config.hash:08x} at start and refuses other hardware.

Licence: Apache-2.0, as heepgen's own, in closed products too.
"""

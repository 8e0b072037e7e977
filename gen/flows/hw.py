# SPDX-License-Identifier: Apache-2.0
"""`heepgen hw`: Verilog of the accelerator, and everything needed to use it, in one folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_gen.architectures.registry import architecture_of
from hls import __version__
from hls.config import Config, System
from hls.descriptor.interface import regmap
from hls.output import fill, generated_folder

KIND = "accelerator"
RTL = "rtl"


@dataclass(frozen=True)
class HwReport:
    """Size of a generated accelerator: multipliers of the array, bytes of its buffers, peaks per cycle."""

    rows: int
    cols: int
    arithmetic: str
    ports: int
    config_hash: str
    multipliers: int
    epilogue_multipliers: int
    activation_bytes: int
    weight_bytes: int
    accumulator_bytes: int
    scratchpad_bytes: int
    peak_mac_per_cycle: int
    peak_diagonal_mac_per_cycle: int
    peak_bus_bytes_per_cycle: int
    modules: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Config, modules: tuple[str, ...] = ()) -> "HwReport":
        return cls(
            rows=config.rows,
            cols=config.cols,
            arithmetic=config.arithmetic,
            ports=config.ports,
            config_hash=f"0x{config.hash:08x}",
            multipliers=config.rows * config.cols,
            epilogue_multipliers=config.ports,
            activation_bytes=4 * config.activation_words,
            weight_bytes=config.weight_bytes,
            accumulator_bytes=2 * config.accumulator_entries * config.cols * 4,
            scratchpad_bytes=4 * config.scratchpad_words,
            peak_mac_per_cycle=config.rows * config.cols,
            peak_diagonal_mac_per_cycle=config.diagonal,
            peak_bus_bytes_per_cycle=4 * config.ports,
            modules=modules,
        )

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def lines(self) -> list[tuple[str, str]]:
        """Pairs of quantity and value with its unit."""
        product = "INT27 x INT8" if self.arithmetic == "aligned" else "FP32 x INT8"
        return [
            ("array", f"{self.rows} rows x {self.cols} columns, {self.arithmetic}"),
            ("configuration hash", self.config_hash),
            ("multipliers, array", f"{self.multipliers} ({product})"),
            ("multipliers, epilogue", f"{self.epilogue_multipliers} (FP32)"),
            ("activation buffer", f"{self.activation_bytes:,} bytes"),
            ("weight buffer", f"{self.weight_bytes:,} bytes"),
            ("accumulators", f"{self.accumulator_bytes:,} bytes in two banks"),
            ("scratchpad", f"{self.scratchpad_bytes:,} bytes" if self.scratchpad_bytes else "none"),
            ("peak", f"{self.peak_mac_per_cycle} MAC/cycle; depthwise and pooling {self.peak_diagonal_mac_per_cycle}"),
            ("bus peak", f"{self.peak_bus_bytes_per_cycle} bytes/cycle over {self.ports} OBI ports"),
            ("Verilog modules", str(len(self.modules))),
        ]

    def markdown(self) -> str:
        rows = [f"| {name} | {value} |" for name, value in self.lines()]
        return "\n".join(["# Generated accelerator", "", "| quantity | value |", "|---|---|", *rows, ""])


def geometry(config: System) -> str:
    """One line naming what was built."""
    return architecture_of(config).describe(config)


def generate_hw(
    config: Config, out: str | Path, *, force: bool = False, generate: Callable[[Config, Path], Any] | None = None
) -> HwReport:
    """Write the accelerator for `config` to the folder `out`, whole or not at all.

    `generate(config, folder)` writes one Verilog file per module, the root `config.root`.v among them
    (default: `hls.descriptor.top.generate`). Raises `HeepgenError` when `out` may not be replaced.
    """
    if generate is None:
        from hls.descriptor import top

        generate = top.generate
    with generated_folder(out, KIND, force=force, note={"config_hash": f"0x{config.hash:08x}"}) as folder:
        rtl = folder / RTL
        rtl.mkdir()
        generate(config, rtl)
        sources = sorted(f"{RTL}/{path.name}" for path in rtl.glob("*.v"))
        report = HwReport.of(config, tuple(Path(name).stem for name in sources))
        _write_documents(folder, config, sources, report)
    return report


def _write_documents(folder: Path, config: Config, sources: list[str], report: HwReport) -> None:
    from gen.report import to_json
    from xheep_integration.core import core_file

    files = {
        f"{config.root}.core": core_file(
            sources, version=__version__, top=config.root, description=f"Systolic-array accelerator, {geometry(config)}"
        ),
        "heepstor_regs.h": regmap.c_header(),
        "heepstor_regs.md": regmap.markdown(),
        "heepstor_regs.hjson": regmap.register_hjson(),
        "report.json": to_json(report),
        "report.md": report.markdown(),
        "README.md": _readme(config),
    }
    fill(folder, files)


def _readme(config: Config) -> str:
    return f"""\
# {config.root}: {geometry(config)}

Generated by `heepgen hw`; running it again replaces this folder, so make changes in the configuration.

- `{RTL}/`: Verilog, one module per file; the root is `{config.root}` in `{config.root}.v`, the names of the others
  begin with `{config.prefix}`
- `{config.root}.core`: FuseSoC description of those files; in this folder, with a `verilator` on PATH:
  `fusesoc --cores-root . run --target lint heepgen:ip:{config.root}`
- `heepstor_regs.h`, `.md`, `.hjson`: register map as C header, document and reggen description
- `report.md`, `report.json`: multipliers, buffer bytes and peaks

The root has one OBI slave (`s_*`: registers and doorbell), {config.ports} OBI master(s) (`m_*`, packed, port
0 in the low bits), an interrupt and `idle`, which is high while the clock may be gated. Firmware
compares the configuration hash 0x{config.hash:08x} at start and refuses other hardware.
"""

# SPDX-License-Identifier: Apache-2.0
"""The same networks on every architecture: cycles, the CPU's share of them, error, memory; and what each one's hardware
takes."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gen.records.tables import Column, Table
from hls.config import System
from hls.errors import HeepgenError


@dataclass(frozen=True)
class Side:
    """One network on one architecture. `cpu_cycles`: those in which nothing ran on the accelerator; `sqnr_db`: that
    of the first output against PyTorch in FP32; bytes are those of constants and of activations. When `skipped` holds a
    reason, there are no numbers."""

    network: str
    architecture: str
    skipped: str = ""
    cycles: int = 0
    cpu_cycles: int = 0
    sqnr_db: float | None = None
    constant_bytes: int = 0
    arena_bytes: int = 0


@dataclass(frozen=True)
class Hardware:
    """What an architecture's hardware takes, by the flow of area.md. `mhz` is the clock of the whole accelerator on an
    ECP5, 0 where it is not measured."""

    architecture: str
    described: str
    luts: int
    flip_flops: int
    dsps: int
    block_rams: float
    mhz: float = 0.0


def measure_side(
    network: str,
    model: Path,
    sample: Path,
    config: System,
    work: Path,
    progress: Callable[[str], None] = lambda message: None,
) -> Side:
    """Generate, run and measure; what does not compile gives a reason instead. Raises `HeepgenError` for wrong bits."""
    from gen.flows.measure.run import run
    from gen.flows.network.sw import generate_sw

    name = config.architecture
    folder = work / f"{network}-{name}"
    try:
        memory = generate_sw(model, config, folder, sample=sample, progress=progress).memory
        result = run(folder, config, progress=progress)
    except HeepgenError as error:
        return Side(network, name, str(error))
    if not result.bit_exact:
        raise HeepgenError(f"{network} on {name}: the device's output differs from the bit-exact model.")
    return Side(
        network=network,
        architecture=name,
        skipped="",
        cycles=result.total_cycles,
        cpu_cycles=result.cpu_cycles,
        sqnr_db=result.results[0].sqnr_db,
        constant_bytes=memory["constant_bytes"],
        arena_bytes=memory["arena_bytes"],
    )


def measure_hardware(config: System) -> Hardware:
    """Synthesise what `heepgen hw` writes for `config`."""
    from firmware_gen.architectures.contract import Whole
    from firmware_gen.architectures.registry import architecture_of
    from gen.flows.measure.run import hardware
    from gen.ppa.fpga import Area, areas, placed, synthesised
    from sim.build import accelerator_files

    architecture = architecture_of(config)
    found, mhz = Area(config.architecture), 0.0
    if isinstance(architecture.hardware, Whole):  # unit by unit, as area.md
        found = areas(hardware(config))[0]
    elif architecture.hardware is not None:
        files = {path.name: path.read_text(encoding="utf-8") for path in accelerator_files(hardware(config))}
        root = System.prefix.rstrip("_")
        found, mhz = synthesised(files, root), placed(config.architecture, files, root).fmax
    described = architecture.describe(config)
    return Hardware(
        architecture=config.architecture,
        described=described,
        luts=found.luts,
        flip_flops=found.flip_flops,
        dsps=found.dsps,
        block_rams=found.block_rams,
        mhz=mhz,
    )


@dataclass(frozen=True)
class Beside:
    """Networks on architectures, and the hardware of these."""

    sides: tuple[Side, ...]
    hardware: tuple[Hardware, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"sides": [asdict(s) for s in self.sides], "hardware": [asdict(h) for h in self.hardware]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Beside | None":
        """What `to_dict` wrote, also after a trip through JSON; None where there is nothing of it."""
        if "sides" not in data:
            return None
        return cls(
            tuple(Side(**entry) for entry in data["sides"]), tuple(Hardware(**entry) for entry in data["hardware"])
        )


_COLUMNS = (
    Column("network"),
    Column("architecture"),
    Column("cycles"),
    Column("times the\nfewest"),
    Column("CPU\n%", 1),
    Column("SQNR\ndB", 2),
    Column("constants\nKiB", 3),
    Column("arena\nKiB", 4),
)
_HARDWARE = tuple(map(Column, ("architecture", "configuration", "LUT", "FF", "DSP", "block\nRAM", "MHz\nECP5")))


def rows(sides: Sequence[Side]) -> list[tuple[str, ...]]:
    """Cells of the table of networks; those that were skipped are left out."""
    fewest: dict[str, int] = {}
    for side in sides:
        if not side.skipped:
            fewest[side.network] = min(side.cycles, fewest.get(side.network, side.cycles))
    return [
        (
            s.network,
            f"`{s.architecture}`",
            f"{s.cycles:,}",
            f"{s.cycles / fewest[s.network]:,.1f}",
            f"{100 * s.cpu_cycles / s.cycles:.0f}",
            "-" if s.sqnr_db is None else f"{s.sqnr_db:.1f}",
            f"{s.constant_bytes / 1024:,.1f}",
            f"{s.arena_bytes / 1024:,.1f}",
        )
        for s in sides
        if not s.skipped
    ]


def hardware_rows(hardware: Sequence[Hardware]) -> list[tuple[str, ...]]:
    """Cells of the table of hardware."""
    return [
        (
            f"`{h.architecture}`",
            h.described,
            f"{h.luts:,}",
            f"{h.flip_flops:,}",
            f"{h.dsps}",
            f"{h.block_rams:g}",
            f"{h.mhz:.0f}" if h.mhz else "-",
        )
        for h in hardware
    ]


def markdown(beside: Beside, table: Callable[..., list[str]]) -> list[str]:
    """A chapter of the document; `table` makes a table of heads, rows and the number of columns to the left."""
    return [
        "## Architectures side by side",
        "",
        "The same networks, untrained, on every architecture in its default configuration: whole inferences in RTL",
        "simulation, every output equal to the architecture's model in every bit. *CPU*: share of the cycles in which",
        "nothing ran on the accelerator; one that has no masters keeps the CPU busy in the others too. *SQNR*: of the",
        "first output, against PyTorch in FP32.",
        "",
        *table([c.heading for c in _COLUMNS], rows(beside.sides), 2),
        *(f"Not measured: {s.network} on `{s.architecture}`. {s.skipped}\n" for s in beside.sides if s.skipped),
        *table([c.heading for c in _HARDWARE], hardware_rows(beside.hardware), 2),
        "*MHz*: the whole accelerator placed alone on an ECP5-85 of speed grade 8, as in [area.md](area.md), which has",
        "that of `descriptor` at 4x4.",
        "",
    ]


def table(beside: Beside) -> Any:
    """Both tables for the terminal, and the reasons of what was skipped."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = []
    for title, columns, body in (
        ("Architectures side by side", _COLUMNS, rows(beside.sides)),
        ("Their hardware", _HARDWARE, hardware_rows(beside.hardware)),
    ):
        made = Table(title, columns[:2], columns[2:])
        for cells in body:
            made.add_row(*(cell.strip("`") for cell in cells))
        parts.append(made)
    return Group(
        *parts,
        *(Text(f"{s.network} on {s.architecture}: {s.skipped}", style="yellow") for s in beside.sides if s.skipped),
    )

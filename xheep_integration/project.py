# SPDX-License-Identifier: Apache-2.0
"""An X-HEEP extension project around a generated accelerator: every file's text, rendered from `templates/`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from firmware_gen.architectures.contract import Gemm
from firmware_gen.architectures.registry import architecture_of
from firmware_gen.emit.build import BOOT_DIR
from firmware_gen.emit.codegen import BANNER, runtime
from firmware_gen.emit.mode import ARENA_SECTION, WEIGHT_SECTIONS
from firmware_gen.memory.planner import ALIGN, PROGRAM_BYTES
from firmware_gen.targets.calls import emission
from firmware_gen.targets.calls.target import driver_of
from hls.config import Config, System
from hls.errors import HeepgenError
from xheep_integration.generation import PADS, Generation

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"
INTERRUPTS = {"fast": "X-HEEP's external fast interrupt (line 15)", "plic": "the first external line of the PLIC"}
SECTION = ".xheep_data_interleaved"
_SECTION_ATTRIBUTE = re.compile(r'\[\[gnu::section\("(\.heepgen_\w+)"\)\]\] ')
MAX_BANKS = 16  # of X-HEEP's generator
BANK_KIB = (32,)
CODE_BYTES, DATA_BYTES = 0x8000, 0x4000
"""Room in the contiguous banks for the program: code, then its data, heap and stack. Ours take less than half of it."""
BOOT_FILES = ("crt0.S", "memory.cpp")
CLOCK_HZ, UART_BITS = 100_000_000, 36 * 10
"""Of the simulated SoC; what the UART's FIFO and its shift register hold, with start and stop bits."""

_DRIVEN_BY_TESTBENCH = (
    "clk_i",
    "rst_ni",
    "boot_select_i",
    "jtag_tck_i",
    "jtag_tms_i",
    "jtag_trst_ni",
    "jtag_tdi_i",
    "uart_rx_i",
    "uart_tx_o",
    "exit_valid_o",
)
_SAME_ON_FPGA = tuple(
    p for p in PADS if p not in ("clk_i", "rst_ni") and not re.match(r"gpio_|spi_flash_|spi2_|spi_(sck|cs|sd)_", p)
)


@dataclass(frozen=True)
class Board:
    """What X-HEEP's own core file says about a board; `files` is its folder of board files."""

    name: str
    description: str
    part: str
    board_part: str
    files: str
    define: str = ""


BOARDS = (
    Board(
        "zcu104",
        "AMD ZCU104 Evaluation Board",
        "xczu7ev-ffvc1156-2-e",
        "xilinx.com:zcu104:part0:1.0",
        "esl_epfl_zcu104_board_files",
        "FPGA_ZCU104",
    ),
    Board(
        "zcu102",
        "AMD ZCU102 Evaluation Board",
        "xczu9eg-ffvb1156-2-e",
        "xilinx.com:zcu102:part0:3.3",
        "zcu102",
        "FPGA_ZCU102",
    ),
    Board(
        "pynq-z2",
        "TUL Pynq-Z2 Board",
        "xc7z020clg400-1",
        "tul.com.tw:pynq-z2:part0:1.0",
        "esl_epfl_pynq_z2_board_files",
    ),
    Board(
        "nexys-a7-100t",
        "Digilent Nexys-A7-100T Board",
        "xc7a100tcsg324-1",
        "digilentinc.com:nexys-a7-100t:part0:1.3",
        "esl_epfl_nexys_a7_100t_board_files",
        "FPGA_NEXYS",
    ),
)


@dataclass(frozen=True)
class App:
    """An application for the project: its folder seen from there, text of its files by name, and the manifests of its
    networks."""

    name: str
    folder: str
    files: Mapping[str, str]
    manifests: Sequence[dict[str, Any]]


def data_bytes(manifests: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Bytes of constants and arena of a generated application: in contiguous banks, and in interleaved ones."""
    border = _border(manifests[0])
    sizes = {p["address"]: p["size"] for manifest in manifests for p in manifest["memory"]["constants"]}
    sizes[manifests[0]["accelerator"]["arena"]] = max(manifest["memory"]["arena_bytes"] for manifest in manifests)
    rounded = {address: -(-size // ALIGN) * ALIGN for address, size in sizes.items()}
    low = sum(size for address, size in rounded.items() if address < border)
    return low, sum(rounded.values()) - low


def _border(manifest: dict[str, Any]) -> int:
    """Where the interleaved banks begin, for which the application was planned."""
    config = manifest["config"]
    return int(config["memory_banks"] * config["bank_kib"] * 1024)


def check_memory(config: System, apps: Iterable[App]) -> None:
    """Raise `HeepgenError`, with a number of banks that is enough, when X-HEEP cannot have this memory."""
    contiguous, interleaved = config.memory_banks, sum(config.memory_banks_interleaved)
    if contiguous + interleaved > MAX_BANKS:
        raise HeepgenError(
            f"memory.banks = {contiguous} and memory.banks_interleaved = "
            f"{list(config.memory_banks_interleaved)}: {contiguous + interleaved} banks, X-HEEP's "
            f"generator makes {MAX_BANKS} at most."
        )
    bank = config.bank_bytes
    for app in apps:
        low, high = data_bytes(app.manifests)
        expected = app.manifests[0]["memory"]["program_bytes"] - PROGRAM_BYTES  # the outputs' bits, beside the program
        program = CODE_BYTES + DATA_BYTES + expected
        room = contiguous * bank - program
        if low > room:
            banks = -(-(low + program) // bank)
            raise HeepgenError(
                f"{app.name} needs {low:,} bytes of weights and activations beside the program, "
                f"memory.banks = {contiguous} leaves {room:,}; {banks} banks are enough."
            )
        if high > interleaved * bank:
            raise HeepgenError(
                f"{app.name} needs {high:,} bytes of weights and activations in interleaved banks, "
                f"memory.banks_interleaved = {list(config.memory_banks_interleaved)} gives "
                f"{interleaved * bank:,}; {-(-high // bank)} interleaved banks are enough."
            )


def bandwidth_notes(config: System, bus: str) -> list[str]:
    """Sentences about memory that cannot feed the ports; empty when it can."""
    notes = []
    ports = architecture_of(config).masters(config)
    if bus == "onetoM" and ports > 1:
        notes.append(f"BUS = onetoM moves one word per cycle in all; {ports} ports need NtoM.")
    smallest = min(config.memory_banks_interleaved, default=1)
    if ports and smallest < ports + 1:
        have = (
            f"groups of {list(config.memory_banks_interleaved)}"
            if config.memory_banks_interleaved
            else "no interleaved banks"
        )
        wanted = 1 << ports.bit_length()
        notes.append(
            f"memory.banks_interleaved has {have}: {ports} ports and the CPU share banks; "
            f"groups of at least {wanted} give every port a word per cycle."
        )
    return notes


def render(
    config: System,
    *,
    generation: Generation,
    heep: str,
    apps: Iterable[App] = (),
    interrupt: str = "fast",
    version: str,
    geometry: str,
    architecture: str = "",
    link_script: str,
    cpu: str = "cv32e40p",
    bus: str = "NtoM",
) -> dict[str, str]:
    """Text of every file of the project by relative path; `heep` is the path of X-HEEP seen from the project, and
    `architecture` that of an architecture which is known by it alone."""
    apps = list(apps)
    if config.bank_kib not in BANK_KIB:
        raise HeepgenError(f"memory.bank_kib = {config.bank_kib}: X-HEEP's address map for the FPGA has banks of 32.")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, HERE / "generations"]),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    context = {
        "banner": BANNER,
        "config": config,
        "masters": architecture_of(config).masters(config),
        "heep": heep,
        "version": version,
        "geometry": geometry,
        "architecture": architecture,
        "cpu": cpu,
        "bus": bus,
        "interrupt": interrupt,
        "interrupt_text": INTERRUPTS[interrupt],
        "generation": generation,
        "clock_hz": CLOCK_HZ,
        "uart_cycles": UART_BITS * CLOCK_HZ // generation.baud_rate,
        "section": SECTION.removeprefix("."),
        "pads": generation.pads,
        "free_pads": [p for p in generation.pads if p not in (*_DRIVEN_BY_TESTBENCH, *generation.low_pads)],
        "fpga_same": (*_SAME_ON_FPGA, *generation.board_pads),
        "boards": BOARDS,
        "apps": [app.name for app in apps],
        "app_folders": {app.name: app.folder for app in apps},
        "code_bytes": f"{CODE_BYTES:#x}",
        "notes": bandwidth_notes(config, bus),
    }
    files = {}
    for path in sorted(p for p in TEMPLATES.rglob("*") if p.is_file()):
        name = path.relative_to(TEMPLATES).as_posix()
        target = _target(name.removesuffix(".j2"))
        files[target] = (
            environment.get_template(name).render(context) if name.endswith(".j2") else path.read_text(encoding="utf-8")
        )
    files |= _runtime(config) | {"sw/freestanding/link.ld": link_script}
    for app in apps:
        files |= {f"sw/applications/{app.name}/{name}": text for name, text in app.files.items()}
    return files


def application_files(
    folder: Path, own: Iterable[Path], generated: Path, manifest: dict[str, Any], networks: Sequence[dict[str, Any]]
) -> dict[str, str]:
    """The files of an application that X-HEEP compiles: the user's `own`, which lie in `folder`, and of `generated`
    those that are not the runtime's. manifest: of the whole, and of its `networks`.

    What is planned for interleaved banks gets X-HEEP's section, the rest none: it goes where constants and data go.
    """
    arena = networks[0]["accelerator"]["arena"]
    sections = {
        WEIGHT_SECTIONS[True]: "",
        WEIGHT_SECTIONS[False]: SECTION,
        ARENA_SECTION: "" if arena < _border(networks[0]) else SECTION,
    }
    unknown = set(manifest["accelerator"]["placements"]) - set(sections)
    if unknown:
        raise HeepgenError(
            f"{folder} was written by another version of heepgen (section {min(unknown)}); generate it "
            "again with heepgen sw."
        )
    names = [name for name in manifest["sources"] if not name.startswith("runtime/")]
    folders = sorted({(generated / name).parent for name in names})
    names += [path.relative_to(generated).as_posix() for place in folders for path in sorted(place.glob("*.hpp"))]
    files = {path.relative_to(folder).as_posix(): path for path in own}
    twice = next((name for name in names if name in files), None)
    if twice:
        raise HeepgenError(f"{folder / twice} has the name of a generated file, which X-HEEP has beside it; rename it.")
    return {name: path.read_text(encoding="utf-8", errors="surrogateescape") for name, path in files.items()} | {
        name: _SECTION_ATTRIBUTE.sub(
            lambda m: sections[m[1]] and f'[[gnu::section("{sections[m[1]]}")]] ',
            (generated / name).read_text(encoding="utf-8"),
        )
        for name in names
    }


def _target(name: str) -> str:
    """Where a template goes: programs' start-up code has a place of its own in X-HEEP's flow."""
    if not name.startswith("sw/"):
        return name
    folder = "lib/crt" if name.endswith("_crt0.S") else "heepstor"
    return f"sw/external/{folder}/{Path(name).name}"


def _runtime(config: System) -> dict[str, str]:
    software = architecture_of(config).software
    if isinstance(software, Gemm):
        device = runtime(emission.RUNTIME) | dict(driver_of(software, config).files)
    else:
        device = runtime(Config.architecture)
    files = {f"sw/external/heepstor/{name}": text for name, text in device.items()}
    for name in BOOT_FILES:
        files[f"sw/freestanding/{name}"] = (BOOT_DIR / name).read_text(encoding="utf-8")
    return files

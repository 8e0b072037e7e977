# SPDX-License-Identifier: Apache-2.0
"""Firmware for the virtual SoC: RV32IMFC programs from C++ sources, start-up code and linker script."""

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import jinja2

from hls.config import System
from hls.errors import HeepgenError
from sim.cache import Progress, build_once, content_key, silent
from sim.elf import symbols
from sim.toolchain import BuildError, package_dir, run_tool, zig

BOOT_DIR = package_dir("firmware_gen") / "runtime" / "boot"
BOOT_ADDRESS = 0x180
STACK_BYTES = 8192
DATA_SECTIONS = (".heepgen_weights", ".heepgen_arena")

_COMMON = (
    "-ffp-contract=off",
    "-fno-stack-protector",
    "-ffunction-sections",
    "-fdata-sections",
    "-Wall",
    "-Wextra",
    "-Werror",
)
_CXX = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics")
_HEADERS = {".h", ".hpp", ".inc"}


@dataclass(frozen=True)
class Toolchain:
    """Commands that compile and link, and a text that identifies them."""

    identity: str
    compile: tuple[str, ...]
    link: tuple[str, ...]
    libraries: tuple[str, ...] = ()


def memory_bytes(config: System) -> tuple[int, int]:
    """Bytes of RAM in contiguous banks, which start at 0, and in the interleaved banks that follow."""
    return config.contiguous_bytes, config.ram_bytes - config.contiguous_bytes


def zig_toolchain() -> Toolchain:
    """The compiler of the ziglang wheel."""
    cpu = ("-mcpu=generic_rv32+m+f+c", "-mabi=ilp32f")
    command = zig()
    return Toolchain(
        f"zig {metadata.version('ziglang')}",
        (*command, "c++", "-target", "riscv32-linux-musl", *cpu, "-fno-sanitize=undefined", "-fno-PIC"),
        (*command, "c++", "-target", "riscv32-freestanding-none", *cpu, "-nostdlib++"),
    )


_GXX = "riscv64-unknown-elf-g++"


def gcc_toolchain() -> Toolchain:
    """Debian's cross compiler, which has no rv32imfc libraries: libgcc of rv32imf is linked explicitly."""
    if not shutil.which(_GXX):
        raise HeepgenError(
            f"toolchain gcc: {_GXX} is not on PATH; install gcc-riscv64-unknown-elf, or use the toolchain zig."
        )
    cpu = ("-march=rv32imfc_zicsr", "-mabi=ilp32f", "-ffreestanding")
    libgcc = run_tool([_GXX, "-march=rv32imf", "-mabi=ilp32f", "-print-libgcc-file-name"], _GXX).strip()
    version = run_tool([_GXX, "-dumpfullversion"], _GXX).strip()
    return Toolchain(f"gcc {version}", (_GXX, *cpu), (_GXX, *cpu, "-nostdlib", "-Wl,--no-warn-rwx-segments"), (libgcc,))


_TOOLCHAINS = {"zig": zig_toolchain, "gcc": gcc_toolchain}


def linker_script(config: System, placements: Mapping[str, int | None], stack_bytes: int = STACK_BYTES) -> str:
    """Linker script: program in the contiguous banks from 0; each section of `placements` at its address.

    An address of None puts the section behind the others in the interleaved banks, or in the contiguous
    ones where there are no interleaved.
    """
    contiguous, interleaved = memory_bytes(config)
    default = "interleaved" if interleaved else "contiguous"
    sections = [
        {
            "name": name,
            "address": None if address is None else f"{address:#x}",
            "region": f"> {default}"
            if address is None
            else f"> {'contiguous' if address < contiguous else 'interleaved'}",
        }
        for name, address in placements.items()
    ]
    template = jinja2.Template(
        (BOOT_DIR / "link.ld.j2").read_text(), keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    text: str = template.render(
        contiguous_bytes=contiguous,
        interleaved_bytes=interleaved,
        boot_address=f"{BOOT_ADDRESS:#x}",
        stack_bytes=stack_bytes,
        sections=sections,
    )
    return text


def check_placements(config: System, placements: Mapping[str, int | None]) -> None:
    """Raises HeepgenError for a section that lies outside the RAM."""
    total = sum(memory_bytes(config))
    for name, address in placements.items():
        if address is not None and not 0 <= address < total:
            raise HeepgenError(f"section {name} at {address:#x}: outside the RAM of {total:#x} bytes.")


def _headers(include_dirs: Iterable[Path]) -> list[Path]:
    return [p for d in include_dirs for p in sorted(Path(d).rglob("*")) if p.suffix in _HEADERS and p.is_file()]


def compile_firmware(
    sources: Sequence[Path],
    include_dirs: Sequence[Path],
    defines: Mapping[str, object],
    config: System,
    out_elf: Path,
    *,
    toolchain: str = "zig",
    optimise: str = "-O2",
    placements: Mapping[str, int | None] | None = None,
    stack_bytes: int = STACK_BYTES,
    progress: Progress = silent,
) -> Path:
    """Compile and link a program for the SoC that `config` describes; returns `out_elf`.

    `defines` are preprocessor names with their values; `placements` maps section names to addresses (None:
    in the interleaved banks), by default `DATA_SECTIONS` at None. The program itself (code, constants,
    data, stack of `stack_bytes`) lies in the contiguous banks. Sections other than .bss are loaded, never
    cleared. Raises `BuildError` on a compiler's error or warning, `HeepgenError` with the numbers when the
    program does not fit in memory.
    """
    if toolchain not in _TOOLCHAINS:
        raise HeepgenError(f"toolchain {toolchain}: must be one of {', '.join(_TOOLCHAINS)}.")
    placements = dict.fromkeys(DATA_SECTIONS) if placements is None else placements
    check_placements(config, placements)
    tools = _TOOLCHAINS[toolchain]()
    include_dirs = [*map(Path, include_dirs), BOOT_DIR]
    flags = [
        optimise,
        *_COMMON,
        *(f"-D{name}={value}" for name, value in sorted(defines.items())),
        *(f"-I{d}" for d in include_dirs),
    ]
    headers = _headers(include_dirs)
    every = [*map(Path, sources), *(BOOT_DIR / name for name in ("soc.cpp", "memory.cpp", "crt0.S"))]
    progress(f"compiling the firmware with {toolchain}")
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(lambda s: _object(s, tools, flags, headers), every))
    linked = _link(objects, tools, linker_script(config, placements, stack_bytes), config)
    out_elf = Path(out_elf)
    out_elf.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(linked, out_elf)
    return out_elf


def _object(source: Path, tools: Toolchain, flags: Sequence[str], headers: Sequence[Path]) -> Path:
    language = [] if source.suffix == ".S" else list(_CXX)
    own = [] if source.suffix == ".S" else headers

    def build(work: Path) -> None:
        run_tool([*tools.compile, *language, *flags, "-c", source, "-o", work / "object.o"], f"compiling {source.name}")

    parts: list[str | Path] = [
        tools.identity,
        " ".join([*tools.compile, *language, *flags]),
        source,
        *own,
        BOOT_DIR / "soc_map.h",
    ]
    return build_once("firmware-object", parts, build) / "object.o"


def _link(objects: Sequence[Path], tools: Toolchain, script: str, config: System) -> Path:
    def build(work: Path) -> None:
        (work / "link.ld").write_text(script)
        try:
            run_tool(
                [
                    *tools.link,
                    "-static",
                    "-T",
                    work / "link.ld",
                    "-Wl,--gc-sections",
                    *objects,
                    *tools.libraries,
                    "-o",
                    work / "firmware.elf",
                ],
                "linking the firmware",
            )
        except BuildError as error:
            raise _explained(error, config) from None

    key = content_key(
        [
            tools.identity,
            Path(__file__),
            " ".join([*tools.link, *tools.libraries]),
            script,
            *(o.parent.name for o in objects),
        ]
    )
    return build_once("firmware", [key], build) / "firmware.elf"


_OVERFLOWS = (
    re.compile(r"section '([^']+)' will not fit in region '(\w+)': overflowed by (\d+) bytes"),
    re.compile(r"section `([^']+)' will not fit in region `(\w+)'"),
    re.compile(r"region `(\w+)' overflowed by (\d+) bytes"),
)


def _explained(error: BuildError, config: System) -> HeepgenError:
    """The linker's complaint about space as one sentence with the numbers; any other as it is."""
    text = str(error)
    contiguous, interleaved = memory_bytes(config)
    sizes = {"contiguous": contiguous, "interleaved": interleaved}
    excess: dict[str, int] = {}
    for match in _OVERFLOWS[0].finditer(text):
        excess[match[2]] = max(excess.get(match[2], 0), int(match[3]))
    for match in _OVERFLOWS[2].finditer(text):
        excess[match[1]] = max(excess.get(match[1], 0), int(match[2]))
    if not excess:
        return error
    region, over = max(excess.items(), key=lambda item: item[1])
    option = "memory.banks" if region == "contiguous" else "memory.banks_interleaved"
    return HeepgenError(
        f"the firmware needs {sizes[region] + over} bytes of {region} RAM, {over} more than the "
        f"{sizes[region]} there are; raise {option} or use a smaller model."
    )


def program_bytes(elf: Path) -> int:
    """Bytes of RAM from 0 that the program itself takes: vectors, code, constants, data, stack."""
    return symbols(elf)["_program_end"]

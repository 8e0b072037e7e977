# SPDX-License-Identifier: Apache-2.0
"""Firmware for the virtual SoC: RV32IMFC programs from C++ sources, start-up code and linker script."""

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from firmware_gen.emit import build
from firmware_gen.emit.build import BOOT_DIR, STACK_BYTES, linker_script, memory_bytes
from hls.config import System
from hls.errors import HeepgenError
from sim.cache import Progress, build_once, content_key, silent
from sim.elf import symbols
from sim.toolchain import BuildError, release, run_tool, tool_output, zig

DATA_SECTIONS = (".heepgen_weights", ".heepgen_arena")

_HEADERS = {".h", ".hpp", ".inc"}


@dataclass(frozen=True)
class Toolchain:
    """Commands that compile C and C++ and link, and a text that identifies them."""

    identity: str
    c: tuple[str, ...]
    cxx: tuple[str, ...]
    link: tuple[str, ...]
    libraries: tuple[str, ...] = ()


def zig_toolchain() -> Toolchain:
    """The compiler of the ziglang wheel."""
    command = zig()
    return Toolchain(
        f"zig {release('ziglang')}",
        (*command, "cc", *build.ZIG_FLAGS),
        (*command, "c++", *build.ZIG_FLAGS),
        (*command, "c++", *build.ZIG_LINK_FLAGS),
    )


def gcc_toolchain() -> Toolchain:
    """Debian's cross compiler."""
    gcc, gxx = f"{build.GCC}gcc", f"{build.GCC}g++"
    if not shutil.which(gxx):
        raise HeepgenError(
            f"toolchain gcc: {gxx} is not on PATH; install gcc-riscv64-unknown-elf, or use the toolchain zig."
        )
    libgcc = run_tool([gxx, *build.GCC_LIBRARY], gxx).strip()
    version = run_tool([gxx, "-dumpfullversion"], gxx).strip()
    return Toolchain(
        f"gcc {version}",
        (gcc, *build.GCC_FLAGS),
        (gxx, *build.GCC_FLAGS),
        (gxx, *build.GCC_FLAGS, *build.GCC_LINK_FLAGS),
        (libgcc,),
    )


_TOOLCHAINS = {"zig": zig_toolchain, "gcc": gcc_toolchain}


def check_placements(config: System, placements: Mapping[str, int | None]) -> None:
    """Raises HeepgenError for a section that lies outside the RAM."""
    total = sum(memory_bytes(config))
    for name, address in placements.items():
        if address is not None and not 0 <= address < total:
            raise HeepgenError(f"section {name} at {address:#x}: outside the RAM of {total:#x} bytes.")


def _headers(include_dirs: Iterable[Path]) -> list[Path]:
    return [p for d in include_dirs for p in sorted(Path(d).rglob("*")) if p.suffix in _HEADERS and p.is_file()]


@dataclass(frozen=True)
class OwnCode:
    """What somebody else wrote: sources, where their headers are, before those of the rest, and further defines."""

    sources: Sequence[Path] = ()
    include_dirs: Sequence[Path] = ()
    defines: Mapping[str, object] = field(default_factory=dict)


def compile_firmware(
    sources: Sequence[Path],
    include_dirs: Sequence[Path],
    defines: Mapping[str, object],
    config: System,
    out_elf: Path,
    *,
    own: OwnCode | None = None,
    toolchain: str = "zig",
    optimise: str = build.OPTIMISE,
    placements: Mapping[str, int | None] | None = None,
    stack_bytes: int = STACK_BYTES,
    progress: Progress = silent,
    warn: Progress = silent,
) -> Path:
    """Compile and link a program for the SoC that `config` describes; returns `out_elf`.

    `defines` are preprocessor names with their values; `placements` maps section names to addresses (None:
    in the interleaved banks), by default `DATA_SECTIONS` at None. The program itself (code, constants,
    data, stack of `stack_bytes`) lies in the contiguous banks. Sections other than .bss are loaded, never
    cleared. Raises `BuildError` on a compiler's error or warning, `HeepgenError` with the numbers when the
    program does not fit in memory. What `own` code is warned of is no error, but given to `warn`.
    """
    if toolchain not in _TOOLCHAINS:
        raise HeepgenError(f"toolchain {toolchain}: must be one of {', '.join(_TOOLCHAINS)}.")
    placements = dict.fromkeys(DATA_SECTIONS) if placements is None else placements
    check_placements(config, placements)
    tools = _TOOLCHAINS[toolchain]()
    include_dirs = [*map(Path, include_dirs), BOOT_DIR]
    defined = [*build.FLAGS, optimise, *build.WARNINGS, *_defined(defines)]
    flags = [*defined, "-Werror", *(f"-I{d}" for d in include_dirs)]
    headers = _headers(include_dirs)
    every = [*map(Path, sources), *(BOOT_DIR / name for name in build.BOOT_SOURCES)]
    progress(f"compiling the firmware with {toolchain}")
    own = own or OwnCode()
    own_flags = [*defined, *_defined(own.defines), *(f"-I{d}" for d in (*own.include_dirs, *include_dirs))]
    with ThreadPoolExecutor(2) as pool:
        rest = pool.map(lambda s: _object(s, tools, flags, headers), every)
        objects = list(pool.map(lambda s: _own_object(s, tools, own_flags, warn), own.sources))
        linked = _link([*objects, *rest], tools, linker_script(config, placements, stack_bytes), config)
    out_elf = Path(out_elf)
    out_elf.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(linked, out_elf)
    return out_elf


def _defined(defines: Mapping[str, object]) -> list[str]:
    return [f"-D{name}={value}" for name, value in sorted(defines.items())]


def _command(source: Path, tools: Toolchain) -> list[str | Path]:
    if source.suffix == ".S":
        return [*tools.cxx]
    return [*tools.c, *build.C_FLAGS] if source.suffix == ".c" else [*tools.cxx, *build.CXX_FLAGS]


def _object(source: Path, tools: Toolchain, flags: Sequence[str], headers: Sequence[Path]) -> Path:
    command = [*_command(source, tools), *flags]

    def compile_to(work: Path) -> None:
        run_tool([*command, "-c", source, "-o", work / "object.o"], f"compiling {source.name}")

    own = [] if source.suffix == ".S" else headers
    parts: list[str | Path] = [tools.identity, " ".join(map(str, command)), source, *own, BOOT_DIR / "soc_map.h"]
    return build_once("firmware-object", parts, compile_to) / "object.o"


def _own_object(source: Path, tools: Toolchain, flags: Sequence[str], warn: Progress) -> Path:
    """Cached by what the preprocessor makes of it, since nobody knows which files it includes."""
    command = [*_command(source, tools), *flags]

    def compile_to(work: Path) -> None:
        fresh = {"ZIG_LOCAL_CACHE_DIR": str(work / "zig")}  # zig warns once only of what it has seen before
        output = [*command, "-c", source, "-o", work / "object.o"]
        (work / "warnings.txt").write_text(tool_output(output, f"compiling {source}", fresh)[1])
        shutil.rmtree(work / "zig", ignore_errors=True)

    try:
        text = run_tool([*command, "-E", source], f"reading {source}")
        built = build_once("firmware-object", [tools.identity, " ".join(map(str, command)), text], compile_to)
    except BuildError as error:
        raise BuildError(f"{source} does not compile; {tools.identity} says:\n{error.words}") from None
    warnings = (built / "warnings.txt").read_text().strip()
    if warnings:
        warn(warnings)
    return built / "object.o"


def _link(objects: Sequence[Path], tools: Toolchain, script: str, config: System) -> Path:
    def link_to(work: Path) -> None:
        (work / "link.ld").write_text(script)
        command: list[str | Path] = [*tools.link, *build.LINK_FLAGS, "-T", work / "link.ld", *objects, *tools.libraries]
        try:
            run_tool([*command, "-o", work / "firmware.elf"], "linking the firmware")
        except BuildError as error:
            raise _explained(error, config) from None

    key = content_key(
        [
            tools.identity,
            Path(__file__),
            " ".join([*tools.link, *build.LINK_FLAGS, *tools.libraries]),
            script,
            *(o.parent.name for o in objects),
        ]
    )
    return build_once("firmware", [key], link_to) / "firmware.elf"


_OVERFLOW = re.compile(
    r"will not fit in region '(\w+)': overflowed by (\d+) bytes|region `(\w+)' overflowed by (\d+) bytes"
)
"""What lld and what GNU ld say of a region, each with its name and bytes."""
_SYMBOLS = (
    (re.compile(r"undefined (?:symbol:|reference to [`'])\s*([^'\n]+)"), "nothing defines {}"),
    (re.compile(r"(?:duplicate symbol:|multiple definition of [`'])\s*([^'\n]+)"), "{} is defined twice"),
)


def _explained(error: BuildError, config: System) -> HeepgenError:
    """The linker's complaint about space as one sentence with the numbers; any other behind one about what is missing
    or there twice."""
    text = str(error)
    contiguous, interleaved = memory_bytes(config)
    sizes = {"contiguous": contiguous, "interleaved": interleaved}
    excess: dict[str, int] = {}
    for match in _OVERFLOW.finditer(text):
        region, over = match[1] or match[3], int(match[2] or match[4])
        excess[region] = max(excess.get(region, 0), over)
    if excess:
        region, over = max(excess.items(), key=lambda item: item[1])
        option = "memory.banks" if region == "contiguous" else "memory.banks_interleaved"
        return HeepgenError(
            f"the firmware needs {sizes[region] + over} bytes of {region} RAM, {over} more than the "
            f"{sizes[region]} there are; raise {option} or use a smaller model."
        )
    wrong = [form.format(name) for pattern, form in _SYMBOLS for name in dict.fromkeys(pattern.findall(text))]
    if not wrong:
        return error
    return BuildError(f"the program cannot be linked: {'; '.join(wrong[:5])}. The linker says:\n{error.words}")


def program_bytes(elf: Path) -> int:
    """Bytes of RAM from 0 that the program itself takes: vectors, code, constants, data, stack."""
    return symbols(elf)["_program_end"]

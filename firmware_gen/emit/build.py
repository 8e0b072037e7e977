# SPDX-License-Identifier: Apache-2.0
"""How a program is built, by `heepgen run`, by make and by CMake: flags of the compilers, start-up code, linker
script."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hls.config import System

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates" / "build"
BOOT_DIR = Path(__file__).parent.parent / "runtime" / "boot"
BOOT_SOURCES = ("soc.cpp", "memory.cpp", "crt0.S")
BOOT_HEADERS = ("soc.hpp", "soc_map.h")
BOOT_ADDRESS = 0x180
STACK_BYTES = 8192

OPTIMISE = "-O2"
FLAGS = ("-ffp-contract=off", "-fomit-frame-pointer", "-fno-stack-protector", "-ffunction-sections", "-fdata-sections")
"""Of every file. Results are the model's bits only where nothing is contracted."""
CXX_FLAGS = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics")
C_FLAGS = ("-std=c11",)
WARNINGS = ("-Wall", "-Wextra")
LINK_FLAGS = ("-static", "-Wl,--gc-sections")

SOFTWARE = "USE_SOFTWARE_DNN_LAYER_OPERATORS"
REPORT = "HEEPGEN_REPORT"
SWITCHES = ("ENABLE_DEBUG_HEEPSTOR_ASSERTIONS", "PRINT_LAYER_CYCLES", REPORT, "HEEPGEN_MHZ", "HEEPGEN_WAIT")
"""What generated files may be told by -DNAME=VALUE, besides SOFTWARE, which also moves constants."""

GCC = "riscv64-unknown-elf-"
GCC_FLAGS = ("-march=rv32imfc_zicsr", "-mabi=ilp32f", "-ffreestanding")
GCC_LINK_FLAGS = ("-nostdlib", "-Wl,--no-warn-rwx-segments")
GCC_LIBRARY = ("-march=rv32imf", "-mabi=ilp32f", "-print-libgcc-file-name")
"""Debian's compiler has no rv32imfc libraries: libgcc of rv32imf is asked for so, and linked by name."""
ZIG_CPU = ("-mcpu=generic_rv32+m+f+c", "-mabi=ilp32f")
ZIG_FLAGS = ("-target", "riscv32-linux-musl", *ZIG_CPU, "-fno-sanitize=undefined", "-fno-PIC")
"""This target has C++ headers; the program is linked for a machine without an operating system."""
ZIG_LINK_FLAGS = ("-target", "riscv32-freestanding-none", *ZIG_CPU, "-nostdlib++")


def memory_bytes(config: System) -> tuple[int, int]:
    """Bytes of RAM in contiguous banks, which start at 0, and in the interleaved banks that follow."""
    return config.contiguous_bytes, config.ram_bytes - config.contiguous_bytes


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
    import jinja2

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


def for_make_and_cmake(
    manifest: Mapping[str, Any], config: System, banner: str
) -> tuple[dict[str, str], dict[str, str]]:
    """What make and CMake need of an application, by name: files of GENERATED, and the user's first ones beside it."""
    context: dict[str, Any] = {
        "banner": banner,
        "sources": [*manifest["sources"], *(f"boot/{name}" for name in BOOT_SOURCES)],
        "include_dirs": [*manifest["include_dirs"], "boot"],
        "flags": " ".join((OPTIMISE, *FLAGS)),
        "gcc": GCC,
    }
    texts = {
        "c_flags": C_FLAGS,
        "cxx_flags": CXX_FLAGS,
        "link_flags": LINK_FLAGS,
        "gcc_flags": GCC_FLAGS,
        "gcc_link_flags": GCC_LINK_FLAGS,
        "gcc_library": GCC_LIBRARY,
        "zig_flags": ZIG_FLAGS,
        "zig_link_flags": ZIG_LINK_FLAGS,
    }
    for mode in ("accelerator", "software"):
        texts[f"{mode}_defines"] = tuple(f"-D{name}={value}" for name, value in manifest[mode]["defines"].items())
    context |= {name: " ".join(words) for name, words in texts.items()}
    generated, own = (
        {name: _templates().get_template(f"{name}.j2").render(context) for name in names}
        for names in (("sources.mk", "sources.cmake", "gcc.cmake", "zig.cmake"), ("Makefile", "CMakeLists.txt"))
    )
    generated |= {
        f"boot/{name}": (BOOT_DIR / name).read_text(encoding="utf-8") for name in (*BOOT_SOURCES, *BOOT_HEADERS)
    }
    for name, mode in (("link", "accelerator"), ("link-software", "software")):
        generated[f"boot/{name}.ld"] = linker_script(config, manifest[mode]["placements"])
    return generated, own


@cache
def _templates() -> "jinja2.Environment":
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )

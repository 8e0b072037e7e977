# SPDX-License-Identifier: Apache-2.0
"""The virtual SoC's program: CPU model, accelerator model and testbench, each compiled once per content."""

import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from firmware_gen.emit.build import BOOT_DIR
from hls.errors import HeepgenError
from sim import probes as probing
from sim import split
from sim.cache import Progress, build_once, silent
from sim.probes import find_probes, probes_header, visible
from sim.split import Part, find_parts, hollow, parts_header
from sim.toolchain import compile_object, host_identity, link, package_dir, verilate

TESTBENCH_DIR = Path(__file__).parent / "testbench"
_MODELS = TESTBENCH_DIR / "models.hpp"
_TEAM = TESTBENCH_DIR / "team.hpp"
_RECORDER = TESTBENCH_DIR / "recorder.hpp"
_RECIPE = (Path(__file__),)  # part of every key: a changed option is a changed build
_SPLIT_RECIPE = (*_RECIPE, Path(split.__file__), split.TEMPLATE)
_PROBE_RECIPE = (Path(probing.__file__), probing.TEMPLATE)
ROOT = "heepstor"
_PACKAGE = re.compile(r"^\s*package\s+\w", re.MULTILINE)
_CLOCK_GATE = TESTBENCH_DIR / "cv32e40p_clock_gate.sv"
_CPU_FLAGS = ("-GFPU=1", "--no-assert", "-Wno-lint", "-Wno-style", "-Wno-UNOPTFLAT")
# Shorter functions compile faster, of a 16x16 array at -O2 four times, and run no slower. The CPU's would run slower.
_ACCELERATOR_FLAGS = ("--output-split-cfuncs", "1000")


def _trace_flag(trace: bool) -> str:
    return f"-DHEEPGEN_TRACE={int(trace)}"


def _cpu_file_list(rtl: Path) -> str:
    """Verilator file list of the CPU's synthesisable RTL, from the manifest that comes with it."""
    manifest = (rtl.parent / "cv32e40p_fpu_manifest.flist").read_text()
    lines = (line.strip() for line in manifest.splitlines())
    wanted = (line for line in lines if not line.startswith("//") and not ("/bhv/" in line and ".sv" in line))
    return "\n".join(line.replace("${DESIGN_RTL_DIR}", str(rtl)) for line in wanted) + "\n"


def build_cpu(*, trace: bool = False, progress: Progress = silent) -> Path:
    """Folder with `cpu.o` and `cpu_model.o`: CV32E40P with FPU and its adapter."""
    rtl = package_dir("pythondata_cpu_cv32e40p") / "system_verilog" / "rtl"
    adapter = TESTBENCH_DIR / "cpu.cpp"

    def build(work: Path) -> None:
        progress("verilating the CPU (once per machine)")
        (work / "cpu.f").write_text(_cpu_file_list(rtl))
        verilate(
            ["-f", work / "cpu.f", _CLOCK_GATE], "cv32e40p_top", work, prefix="Vcpu", trace=trace, flags=_CPU_FLAGS
        )
        progress("compiling the CPU (once per machine)")
        compile_object(work / "Vcpu__all.cpp", work / "cpu_model.o", ["-O1" if trace else "-O2", "-w"])
        compile_object(adapter, work / "cpu.o", ["-O2", f"-isystem{work}", f"-I{TESTBENCH_DIR}", _trace_flag(trace)])

    files = sorted(p for p in rtl.rglob("*.*v*") if p.is_file())
    return build_once("cpu", [f"{trace} {host_identity()}", *_RECIPE, _CLOCK_GATE, adapter, _MODELS, *files], build)


def accelerator_files(folder: Path) -> list[Path]:
    """The Verilog files of a generated accelerator, those with packages first; raises `HeepgenError` when there is
    none."""
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix in (".v", ".sv"))
    if not files:
        raise HeepgenError(f"{folder} holds no Verilog file; generate the accelerator with heepgen hw first.")
    return sorted(files, key=lambda path: _PACKAGE.search(path.read_text(errors="replace")) is None)


def build_accelerator(
    folder: Path | None,
    *,
    root: str = ROOT,
    trace: bool = False,
    signals: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Folder with the objects of the accelerator in `folder`, whose root module is `root`, or of its absence; it can
    sample `signals`."""
    adapter = TESTBENCH_DIR / ("no_accelerator.cpp" if folder is None else "accelerator.cpp")
    files = [] if folder is None else accelerator_files(folder)
    parts = [] if trace else find_parts(files, root)
    probes = find_probes(files, root, signals)

    def build_root(work: Path) -> None:
        for part in parts:
            (work / f"{part.module}.v").write_text(hollow(part))
        instead = {f.name: f for f in work.glob("*.v")}
        control = []
        if probes:
            control = [work / "probes.vlt"]
            control[0].write_text(visible(probes))
        verilate(
            [*control, *(instead.get(f.name, f) for f in files)],
            root,
            work,
            prefix=f"V{ROOT}",
            trace=trace,
            flags=_ACCELERATOR_FLAGS,
        )
        compile_object(work / f"V{ROOT}__all.cpp", work / f"{ROOT}_model.o", ["-O1" if trace else "-O2", "-w"])

    def build(work: Path) -> None:
        includes = [f"-isystem{work}", f"-I{TESTBENCH_DIR}"]
        if files:
            progress("verilating and compiling the accelerator")
            with ThreadPoolExecutor() as pool:
                models = [pool.submit(build_part, part) for part in parts]
                build_root(work)
            for part, model in zip(parts, (m.result() for m in models), strict=True):
                includes.append(f"-isystem{model}")
                shutil.copyfile(model / "model.o", work / f"{part.instance}_model.o")
            (work / "parts.hpp").write_text(parts_header(parts, root))
            (work / "probes.hpp").write_text(probes_header(probes, root))
        compile_object(adapter, work / "accelerator.o", ["-O2", *includes, _trace_flag(trace)])

    options = f"{trace} {root} {list(signals)} {host_identity()}"
    recipe = (*_SPLIT_RECIPE, *_PROBE_RECIPE, adapter, _MODELS, _TEAM)
    return build_once("accelerator", [options, *recipe, *files], build)


def build_part(part: Part) -> Path:
    """Folder with the model of a part, which accelerators that differ elsewhere share."""

    def build(work: Path) -> None:
        verilate(part.files, part.module, work, flags=_ACCELERATOR_FLAGS)
        compile_object(work / f"V{part.module}__all.cpp", work / "model.o", ["-O2", "-w"])

    return build_once("part", [host_identity(), *_SPLIT_RECIPE, part.module, part.content()], build)


def build_testbench(*, progress: Progress = silent) -> Path:
    """Folder with `soc.o`: crossbar, memory, peripherals and checkers."""
    source = TESTBENCH_DIR / "soc.cpp"

    def build(work: Path) -> None:
        progress("compiling the testbench")
        compile_object(source, work / "soc.o", ["-O2", f"-I{TESTBENCH_DIR}", f"-I{BOOT_DIR}"])

    included = (_MODELS, _RECORDER, *(TESTBENCH_DIR / f"{name}.hpp" for name in ("devices", "options")))
    return build_once("soc", [host_identity(), *_RECIPE, source, *included, BOOT_DIR / "soc_map.h"], build)


def build_soc(
    accelerator_dir: Path | None,
    *,
    trace: bool = False,
    trace_cpu: bool = False,
    signals: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """The virtual SoC with the accelerator generated in `accelerator_dir` (None: CPU only), as a program.

    `trace` and `trace_cpu` choose models that can write waves, which run slower; `signals` (instance.signal of the
    root module) are what a recording samples. Raises `BuildError` with the tool's words when the Verilog is refused.
    """
    parts = [
        build_cpu(trace=trace_cpu, progress=progress),
        build_accelerator(
            accelerator_dir, trace=trace and accelerator_dir is not None, signals=signals, progress=progress
        ),
        build_testbench(progress=progress),
    ]

    def build(work: Path) -> None:
        progress("linking the virtual SoC")
        link([o for part in parts for o in sorted(part.glob("*.o"))], work / "soc")

    return build_once("program", [" ".join(part.name for part in parts)], build) / "soc"

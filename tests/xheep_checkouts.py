# SPDX-License-Identifier: Apache-2.0
"""Folders that look like checkouts of X-HEEP to `heepgen xheep`, one for each generation.

Their interfaces are those of tests/xheep_stub; their generator's classes record what they are told, so that a
configuration can be run without X-HEEP.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jinja2

from hls.config import System
from xheep_integration.generation import AUGUST_2026, NOVEMBER_2025, ONE_CONFIGURATION, Generation, detect
from xheep_integration.project import render

STUB = Path(__file__).parent / "xheep_stub"
ADDRESSES = {
    "SOC_CTRL_START_ADDRESS": 0x20000000,
    "FAST_INTR_CTRL_START_ADDRESS": 0x20060000,
    "UART_START_ADDRESS": 0x30080000,
    "RV_PLIC_START_ADDRESS": 0x30000000,
    "EXT_INTR_0": 51,
}
NOVEMBER, AUGUST = "november_2025.sv", "august_2026.sv"
TWO_VARIABLES = "X_HEEP_CFG ?= configs/general.hjson\nPYTHON_X_HEEP_CFG ?=\n"
KINDS = {
    NOVEMBER_2025.name: (NOVEMBER, "util/x_heep_gen", TWO_VARIABLES),
    AUGUST_2026.name: (AUGUST, "util/xheep_gen", TWO_VARIABLES),
    ONE_CONFIGURATION.name: (AUGUST, "util/xheep_gen", "X_HEEP_CFG ?= configs/general.hjson\n"),
}
"""Stub, folder of the generator, and what the Makefile says of the configuration."""

RECORDER = """
import json
class Recorder:
    def __init__(self, *arguments, **named):
        print(json.dumps([type(self).__name__, arguments, named], default=repr))
    def __repr__(self):
        return type(self).__name__
    def __getattr__(self, name):
        return lambda *arguments: print(json.dumps([name, arguments, {}], default=repr))
"""
CLASSES = {
    "bus_type": "class BusType(Recorder): pass",
    "cpu/cpu": "class CPU(Recorder): pass",
    "cpu/cv32e40p": "class cv32e40p(Recorder):\n    def __init__(self, fpu=None): super().__init__(fpu=fpu)",
    "cpu/cv32e20": "class cv32e20(Recorder):\n    def __init__(self): super().__init__()",
    "memory_ss/linker_section": "class LinkerSection(Recorder): pass",
    "memory_ss/linker_subsection": "class LinkerSubsection(Recorder): pass",
    "memory_ss/memory_ss": "class MemorySS(Recorder): pass",
    "xheep": "class XHeep(Recorder): pass",
}
GENERAL = "from xheep import XHeep\ndef config(): return XHeep('general')\n"


def checkout(folder: Path, generation: Generation) -> Path:
    """A checkout of `generation` in `folder`."""
    stub, generator, variables = KINDS[generation.name]
    verilog = (STUB / f"{stub}.j2").read_text()
    files = {
        "sw/device/lib/runtime/core_v_mini_mcu.h": "".join(f"#define {n} {v}\n" for n, v in ADDRESSES.items()),
        "sw/device/target/sim/x-heep.h": "#define UART_NCO 0x28\n",
        "core-v-mini-mcu.core": "CAPI=2:\nname: openhwgroup.org:systems:core-v-mini-mcu:1.0.1\n",
        "Makefile": f"{variables}mcu-gen app flash-prog:\n\t@echo $@ $(MAKEOVERRIDES)\n",
        "hw/system/x_heep_system.sv.tpl": jinja2.Template(verilog).render() + "\n",
        "tb/tb_util.svh": "",
        "configs/general.py": GENERAL,
        f"{generator}/recorder.py": RECORDER,
    }
    package = "x_heep_gen." if generator.endswith("x_heep_gen") else ""
    for module, text in CLASSES.items():
        files[f"{generator}/{module}.py"] = f"from {package}recorder import Recorder\n{text}\n"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def software_side(project: Path, heep: Path, config: System) -> Path:
    """A project around `heep` but for its accelerator, which takes most of the time."""
    files = render(
        config, generation=detect(heep), heep=os.path.relpath(heep, project), version="0", geometry="", link_script=""
    )
    for name, text in (files | {"heepstor.json": json.dumps({"heep_dir": os.path.relpath(heep, project)})}).items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    return project


def checkout_of(project: Path) -> Path:
    return project / json.loads((project / "heepstor.json").read_text())["heep_dir"]


def interfaces(project: Path) -> list[Path]:
    """The Verilog that stands for X-HEEP's, and the project's names for its types."""
    system = project / "x_heep_stub.sv"
    system.write_text((checkout_of(project) / "hw" / "system" / "x_heep_system.sv.tpl").read_text())
    return [STUB / "common.sv", system, project / "hw" / "heepstor_pkg.sv"]


def sources(project: Path, *more: Path) -> list[Path]:
    """All of the project's Verilog, with X-HEEP's stub."""
    rtl = sorted((project / "hw" / "accelerator" / "rtl").iterdir())
    names = ("heepstor_obi_check", "heepstor_bus", "heepstor_obi", "heepstor_soc")
    return [*interfaces(project), *rtl, *(project / "hw" / f"{n}.sv" for n in names), *more]


def configured(project: Path, generation: Generation, **variables: str) -> list[list]:
    """What the project's configuration tells X-HEEP's generator, as [class or method, arguments, named arguments]."""
    generator = checkout_of(project) / KINDS[generation.name][1]
    path = generator.parent if generation is NOVEMBER_2025 else generator  # of mcu_gen.py, which imports it
    code = f"from runpy import run_path\nrun_path({str(project / 'xheep_cfg.py')!r})['config']()"
    environment = {n: v for n, v in os.environ.items() if not n.startswith("HEEPSTOR_")} | variables
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]

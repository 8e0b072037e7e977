# SPDX-License-Identifier: Apache-2.0
"""The Makefile and CMakeLists.txt of an application build the program that `heepgen run` runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from firmware_gen.frontend.exported.prepare import export
from gen.flows.measure.run import run
from gen.flows.network.sw import ImportOptions, generate_application
from hls.config import Config

GCC = "riscv64-unknown-elf-g++"
BUILDS = {"make, zig": (), "make, gcc": (GCC,), "cmake, gcc": ("cmake", GCC), "cmake, zig": ("cmake",)}


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built") / "app"
    torch.manual_seed(4)
    model, x = nn.Sequential(nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 3)).eval(), torch.randn(1, 6)
    generate_application(export(model, x), x.numpy(), Config(), folder, ImportOptions(), name="two")
    text = (folder / "main.cpp").read_text()
    (folder / "main.cpp").write_text(text.replace("return model_check(", "return greet() + model_check("))
    (folder / "main.cpp").write_text('#include "greeting.h"\n' + (folder / "main.cpp").read_text())
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "src" / "greeting.h").write_text('#include "soc.hpp"\nint greet();\nextern "C" int nothing(void);\n')
    (folder / "src" / "deep" / "greeting.cpp").write_text(
        '#include "greeting.h"\nint greet() {\n  soc_puts("hello\\n");\n  return nothing();\n}\n'
    )
    (folder / "nothing.c").write_text("int nothing(void) {\n  int class = 0;\n  return class;\n}\n")
    return folder


def build(app, how, software):
    tool, compiler = how.split(", ")
    if tool == "make":
        by = [f"ZIG={sys.executable} -m ziglang"] if compiler == "zig" else []
        command("make", "-s", "-j2", "-C", app, f"SOFTWARE={int(software)}", *by)
        return app / "build" / ("software" if software else "") / "app.elf"
    by = ["--toolchain", app / "gen" / "zig.cmake"] if compiler == "zig" else []  # and no -DPYTHON
    command("cmake", "-S", app, "-B", app / "build", f"-DSOFTWARE={'ON' if software else 'OFF'}", *by)
    command("cmake", "--build", app / "build", "-j2")
    return app / "build" / "app.elf"


def command(*words):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # its python3 has ziglang
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=os.environ | {"PATH": path})
    assert done.returncode == 0 and "warning" not in done.stderr, done.stdout + done.stderr


@pytest.mark.parametrize(
    "how", [pytest.param(h, marks=pytest.mark.external(*n) if n else ()) for h, n in BUILDS.items()]
)
def test_what_they_build_runs_bit_exact(generated, tmp_path, how):
    app = tmp_path / "app"
    shutil.copytree(generated, app)
    report = run(app, Config(), software=True, elf=build(app, how, True))
    assert report.bit_exact and report.uart.startswith("hello\nHG ok")
    if BUILDS[how]:
        shutil.rmtree(app / "build")
        report = run(app, Config(), elf=build(app, how, False))
        assert report.bit_exact and not report.software


def test_make_builds_again_what_was_generated_again(generated, tmp_path):
    app = tmp_path / "app"
    shutil.copytree(generated, app)
    elf = build(app, "make, zig", True)
    before = elf.read_bytes()
    command("make", "-q", "-C", app, "SOFTWARE=1", f"ZIG={sys.executable} -m ziglang")
    model, x = nn.Sequential(nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 3)).eval(), torch.randn(1, 6)
    generate_application(export(model, x), x.numpy(), Config(), app, ImportOptions(), name="two")
    assert build(app, "make, zig", True).read_bytes() != before
    assert run(app, Config(), software=True, elf=elf).bit_exact

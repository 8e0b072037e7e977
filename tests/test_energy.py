# SPDX-License-Identifier: Apache-2.0
"""Energy at gate level: against counting gate by gate and cycle by cycle, and against what must be exactly nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from firmware_gen.application.options import ImportOptions
from gen.flows.measure.energy import record_run
from gen.flows.measure.run import hardware
from gen.flows.network.application import Application
from gen.flows.network.sw import generate_application
from gen.ppa.energy import sampling
from gen.ppa.energy.expression import function
from gen.ppa.energy.measure import measure
from gen.ppa.energy.netlist import netlists, whole_netlist
from gen.ppa.energy.sampling import Phase
from gen.ppa.energy.waves import read_waves
from gen.ppa.liberty import read_library
from gen.ppa.technology import technology
from gen.ppa.verilog import modules
from hls.config import Config
from hls.errors import HeepgenError
from sim.rtl import simulate_module
from tests.energy_reference import LIBRARY, energies, simulate

UNIT = """module unit (
  input wire clk, input wire rst, input wire en, input wire [3:0] a, output reg [3:0] sum, output wire odd);
reg [3:0] held;
reg [2:0] words [0:1];
assign odd = ^(sum & words[a[1]]);
always @(posedge clk) begin
    if (rst) begin
        sum <= 0; held <= 0; words[0] <= 0; words[1] <= 0;
    end else begin
        sum <= sum + a;
        if (en) begin held <= sum ^ a; words[a[0]] <= held[2:0]; end
    end
end
endmodule
"""
PAIR = """module pair (
  input wire clk, input wire rst, input wire en, input wire [3:0] a, output wire [3:0] x, output wire [1:0] odd);
unit first (
  .clk(clk), .rst(rst), .en(en), .a(a), .sum(x), .odd(odd[0]));
unit second (
  .clk(clk), .rst(rst), .en(odd[0]), .a(x), .sum(), .odd(odd[1]));
endmodule
"""
BENCH = """#include <cstdio>
#include <fstream>
#include "Vpair.h"
#include "verilated_vcd_c.h"
int main(int, char** argv) {
  Verilated::traceEverOn(true);
  Vpair top; VerilatedVcdC waves; top.trace(&waves, 9); waves.open(argv[2]);
  std::ifstream inputs(argv[1]);
  int rst, en, a;
  for (int cycle = 0; inputs >> rst >> en >> a; ++cycle) {
    top.clk = 0; top.rst = rst; top.en = en; top.a = a; top.eval(); waves.dump(10 * cycle + 5);
    top.clk = 1; top.eval(); waves.dump(10 * cycle + 10);
  }
  waves.close();
}
"""
RESET = 2


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "small.lib"
    path.write_text(LIBRARY)
    return path


def stimulus(cycles, still=0):
    rng = np.random.default_rng()
    rows = [(int(cycle < RESET), *(int(x) for x in rng.integers(0, (2, 16)))) for cycle in range(cycles)]
    return rows + [rows[-1]] * still


def mapped(texts, cells, **options):
    return netlists(texts, list(texts), cells, **options)


def recorded(folder, rows, windows):
    for name, text in (("unit", UNIT), ("pair", PAIR)):
        (folder / f"{name}.v").write_text(text)
    (folder / "inputs").write_text("\n".join(" ".join(map(str, row)) for row in rows))
    simulate_module(
        [folder / "unit.v", folder / "pair.v"],
        "pair",
        BENCH,
        [folder / "inputs", folder / "run.vcd"],
        trace=True,
        verilator_flags=["-Wno-fatal"],
    )
    return read_waves(folder / "run.vcd", "pair", windows)


TEXTS = {"unit": UNIT, "pair": PAIR}


@pytest.mark.parametrize("gated", (False, True))
def test_equals_counting_gate_by_gate(tmp_path, cells, gated):
    rows = stimulus(300)
    found = whole_netlist(TEXTS, "pair", cells, gated=gated)
    assert gated == any(gate.kind == "GATE" for gate in found.gates)

    def inputs(cycle):
        values = dict(zip(("rst", "en", "a"), rows[cycle], strict=True))
        return {
            bit: values[name] >> i & 1
            for name, port in found.inputs.items()
            if name != "clk"
            for i, bit in enumerate(port)
        }

    history = simulate(found, inputs, len(rows))[RESET + 1 :]
    waves = recorded(tmp_path, rows, [(RESET + 1, len(rows))])
    (whole,) = measure({"pair": found}, "pair", read_library(cells), waves)
    data, clock, leakage = energies(found, history)
    assert whole.clock.sum() == pytest.approx(clock, rel=1e-9)
    assert whole.leakage[0] == pytest.approx(leakage, rel=1e-9)
    assert whole.data.sum() == pytest.approx(data, rel=0.05)
    assert whole.steps.sum() == len(history) - 1


def test_units_sum_to_the_whole(tmp_path, cells):
    waves = recorded(tmp_path, stimulus(200), [(40, 110), (110, 199)])
    library = read_library(cells)
    units = measure(mapped(TEXTS, cells), "pair", library, waves)
    (whole,) = measure({"pair": whole_netlist(TEXTS, "pair", cells)}, "pair", library, waves)
    assert {unit.path for unit in units if unit.area} == {("first",), ("second",)}
    assert whole.steps.tolist() == [69, 88]
    for window in (0, 1):
        parts = sum(unit.data[window] + unit.clock[window] for unit in units)
        assert parts == pytest.approx(whole.data[window] + whole.clock[window], rel=0.1)


def test_stillness_costs_clock_and_leakage_alone(tmp_path, cells):
    waves = recorded(tmp_path, [(1, 0, 5)] * 100, [(10, 100)])
    for gated in (False, True):
        found = mapped(TEXTS, cells, gated=gated)
        units = measure(found, "pair", read_library(cells), waves)
        first = next(unit for unit in units if unit.path == ("first",))
        kinds = [gate.kind for gate in found["unit"].gates]
        assert all(unit.data.sum() == 0 for unit in units)
        assert first.leakage[0] > 0
        if not gated:
            assert first.clock[0] == pytest.approx(89 * 6 * kinds.count("DFF"))


def test_a_run_of_other_hardware_is_refused(tmp_path, cells):
    waves = recorded(tmp_path, stimulus(60), [(10, 60)])
    other = {**TEXTS, "unit": UNIT.replace("sum + a", "sum - a")}
    with pytest.raises(HeepgenError, match=r"sum\[\d\] of unit is not what its netlist gives"):
        measure(mapped(other, cells), "pair", read_library(cells), waves)
    with pytest.raises(HeepgenError, match=r"sum\[\d\] of unit is not what its netlist gives"):
        measure(mapped(other, cells), "pair", read_library(cells), replace(waves, begun=50))
    measure(mapped(other, cells), "pair", read_library(cells), replace(waves, begun=60))  # as at power-up


@pytest.mark.parametrize(
    "text, table",
    (
        ("!A", "10"),
        ("A'", "10"),
        ("A B", "0001"),
        ("A * B + !A", "1101"),
        ("!A ^ B & A", "0001"),  # ^ binds first
        ("(A + B)'", "1000"),
        ("!(A | !B) ^ 1", "1011"),
    ),
)
def test_expressions(text, table):
    width = len(table).bit_length() - 1
    rows = [
        dict(zip("BA"[-width:] if width == 1 else "AB", f"{row:0{width}b}", strict=True)) for row in range(len(table))
    ]
    found = [function(text)({k: int(v) for k, v in row.items()} | {"0": 0, "1": 1}) & 1 for row in rows]
    assert "".join(map(str, found)) == table


@pytest.mark.parametrize("text", ("", "A &", "(A", "A)", "A ? B"))
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(HeepgenError, match="not a Boolean expression"):
        function(text)


def test_units_of_a_library_are_taken_into_account(tmp_path):
    (tmp_path / "other.lib").write_text(
        LIBRARY.replace("(1, ff)", "(0.001, pf)").replace('"1ns"', '"10ps"').replace('unit : "1nW"', 'unit : "1uW"')
    )
    cell = read_library(tmp_path / "other.lib").cells["NAND2"]
    assert cell.pins["B"].capacitance == pytest.approx(3)
    assert dict(cell.leakage)["A & B"] == pytest.approx(5000)
    one = np.ones(1)
    assert cell.pins["Y"].powers[1].fall.at(one, one) == pytest.approx(4)


def test_tables_interpolate_in_either_order(tmp_path):
    text = """library (l) { capacitive_load_unit (1, pf); nom_voltage : 1; time_unit : "1ns";
    power_lut_template (t) { variable_1 : total_output_net_capacitance; variable_2 : input_transition_time; }
    cell (INV) { pin (A) { direction : input; } pin (Y) { direction : output; function : "!A";
      internal_power () { related_pin : "A"; power (t) { index_1 ("1, 3"); index_2 ("10, 20, 40");
        values ("0, 1, 3", \\
                "4, 5, 7"); } } } } }"""
    (tmp_path / "l.lib").write_text(text)
    table = read_library(tmp_path / "l.lib").cells["INV"].pins["Y"].powers[0].rise
    at = table.at(np.array([10.0, 30.0, 99.0]), np.array([1000.0, 2000.0, 9000.0])) / 1000
    assert at == pytest.approx([0, 2 + 2, 7])


@pytest.mark.parametrize(
    "text, reason",
    (
        ("no library at all", "no library"),
        (LIBRARY.replace("}", "", 1), "braces"),
        ("library (l) { nom_voltage : 1; cell (A) { pin (Y) { direction : output; } } }", "no internal_power tables"),
        (LIBRARY.replace("nom_voltage : 1.0;", ""), "nom_voltage"),
    ),
)
def test_a_library_without_what_is_needed_is_refused(tmp_path, text, reason):
    (tmp_path / "bad.lib").write_text(text)
    with pytest.raises(HeepgenError, match=reason):
        read_library(tmp_path / "bad.lib").check_energies()


def test_windows_are_spread_over_a_phase_and_stay_in_its_intervals():
    phases = [Phase("long", ((100, 5000), (6000, 9000))), Phase("short", ((0, 7), (50, 60)))]
    chosen = sampling.windows(phases, 4, 400)
    for window in chosen:
        assert any(a <= window.first < window.last <= b for a, b in phases[window.phase].intervals)
    assert [w.last - w.first for w in chosen if w.phase == 0] == [400] * 4
    assert sum(w.last - w.first for w in chosen if w.phase == 1) == phases[1].cycles
    assert len({w.first for w in chosen}) == len(chosen)


def test_sampling_error_is_what_repeated_sampling_shows():
    """Means of many samples scatter as the error says that they do."""
    rng = np.random.default_rng()
    cycles = rng.gamma(2.0, 10.0, 100).repeat(50)
    phase = Phase("p", ((0, len(cycles)),))
    errors, means = [], []
    for _ in range(300):
        starts = 50 * rng.choice(100, 8, replace=False)
        totals = np.array([cycles[s : s + 50].sum() for s in starts])
        found = sampling.estimate(phase, totals, np.full(8, 50))
        errors.append(found.error)
        means.append(found.mean)
    assert np.std(means) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=0.25)
    assert np.mean(means) == pytest.approx(cycles.mean(), rel=0.1)


def test_a_phase_that_was_seen_whole_has_no_error():
    phase = Phase("p", ((0, 100),))
    assert sampling.estimate(phase, np.array([100.0, 300.0]), np.array([50, 50])) == sampling.Estimate(4.0, 0.0)
    assert sampling.estimate(phase, np.array([100.0]), np.array([50])).error is None


SMALL = Config(
    rows=2,
    cols=2,
    ports=1,
    functions=False,
    multiply=False,
    scratchpad_words=0,
    accumulator_entries=64,
    activation_words=512,
    weight_bytes=512,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An application for the smallest accelerator."""
    folder = tmp_path_factory.mktemp("small") / "app"
    torch.manual_seed(torch.seed() % 2**31)
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval()
    generate_application(network, torch.rand(1, 2, 6, 6), SMALL, folder, ImportOptions(), name="small")
    return Application.open(folder)


@pytest.mark.slow
@pytest.mark.parametrize("gated", (False, True))
def test_units_of_an_accelerator_sum_to_the_whole(small, gated):
    """With real data, in every window of a run; the registers that only one hierarchy keeps make the difference."""
    run = record_run(small, SMALL)
    library = technology()
    cells, texts = read_library(library.liberty), modules(hardware(SMALL))
    units = measure(netlists(texts, list(texts), library.liberty, gated=gated), SMALL.root, cells, run.waves)
    (whole,) = measure(
        {SMALL.root: whole_netlist(texts, SMALL.root, library.liberty, gated=gated)}, SMALL.root, cells, run.waves
    )
    for window in range(len(run.windows)):
        parts = sum(unit.data[window] + unit.clock[window] for unit in units)
        assert parts == pytest.approx(whole.data[window] + whole.clock[window], rel=0.1)
    assert sum(unit.leakage for unit in units) == pytest.approx(whole.leakage, rel=0.1)

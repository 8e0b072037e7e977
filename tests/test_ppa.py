# SPDX-License-Identifier: Apache-2.0
"""Area and clock: what synthesis says of Verilog with known answers, and figures of units against synthesis."""

import json
import random
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from firmware_gen.architectures.registry import load_config
from gen.cli import main
from gen.documents.measured import area as area_page
from gen.documents.measured import area_check, stamps, unit_figures
from gen.documents.measured.area import LIMIT_MHZ, block_clocks
from gen.flows.measure.run import hardware
from gen.ppa import asic, composition, fpga, sram, synthesis, verilog
from gen.ppa.technology import NM45, NM180, technology
from hls.config import Config
from hls.errors import HeepgenError
from tests import slices
from tests.house import ROOT
from tests.json_forms import form_errors


def test_area_counts_what_is_inside():
    cells = {
        "top": {"pe": 4, "LUT3": 1},
        "pe": {"LUT6": 10, "FDRE": 5, "DSP48E2": 1, "leaf": 2},
        "leaf": {"RAM64M8": 1, "FDSE": 1, "SRL16E": 3},
    }
    found = {name: synthesis.Module(own) for name, own in cells.items()}
    assert synthesis.total(found, "top") == Counter(LUT3=1, LUT6=40, FDRE=20, DSP48E2=4, RAM64M8=8, FDSE=8, SRL16E=24)
    area = fpga.summarise("top", synthesis.total(found, "top"))
    assert (area.luts, area.memory_luts, area.flip_flops, area.dsps) == (1 + 40 + 64 + 24, 88, 28, 4)


VERILOG = {
    "top": """module top (
    input wire clk,
    input wire signed [3:0] a,
    input wire go,
    output reg [7:0] y
);

reg [31:0] words [0:15];

leaf leaf_0 (
    .clk(clk)
);

leaf leaf_1 (
    .clk(clk)
);

endmodule
""",
    "leaf": "module leaf (\n    input wire clk\n);\nreg [7:0] words [0:3];\nendmodule\n",
    "stranger": "module stranger (\n    input wire clk\n);\nendmodule\n",
}


def test_verilog_is_read_module_by_module(tmp_path):
    for name, text in VERILOG.items():
        (tmp_path / f"{name}.v").write_text("// of this configuration\n\n" + text)
    texts = verilog.modules(tmp_path)
    assert texts == VERILOG
    assert verilog.instances(texts, "top") == {"leaf": 2}
    assert list(verilog.closure(texts, "top")) == ["leaf", "top"]
    assert verilog.buffer_bits(texts, "top") == 32 * 16 + 2 * 8 * 4


def test_registers_around_a_block():
    text = verilog.registered(VERILOG["top"], "top")
    assert "module registered(clk, a, go, y);" in text
    assert "input signed [3:0] a;" in text and "always @(posedge clk) a_inside <= a;" in text
    assert "reg [7:0] y;" in text and "always @(posedge clk) y <= y_inside;" in text
    assert "top inside(.clk(clk), .a(a_inside), .go(go_inside), .y(y_inside));" in text


def test_clock_is_that_of_the_slowest_domain_and_path_between_registers():
    def path(source, sink):
        return [{"from": {"cell": source}, "to": {"cell": source}}, {"from": {"cell": source}, "to": {"cell": sink}}]

    report = {
        "fmax": {"clk": {"achieved": 91.5}, "other": {"achieved": 120.0}},
        "critical_paths": [
            {"from": "<async>", "to": "posedge clk", "path": path("gnt", "x")},
            {
                "from": "posedge clk",
                "to": "posedge clk",
                "path": path("inside.seq.count_TRELLIS_FF_Q_3", "inside.gate_LUT4_Z$DI"),
            },
        ],
    }
    assert fpga.critical(report) == (91.5, "inside.seq.count", "inside.gate")


@pytest.mark.slow
@pytest.mark.parametrize("block", ["epilogue_lane", "accumulator_column", "control"])
def test_clock_of_blocks_with_long_arithmetic(block):
    (found,) = fpga.clocks(hardware(Config()), [block])
    assert found.fmax >= LIMIT_MHZ, found


COUNTER = """module counter (
    input wire clk,
    input wire [7:0] step,
    output reg [7:0] sum
);

wire [15:0] read;

pipe pipe_0 (
    .clk(clk),
    .d(sum),
    .read(read)
);

always @(posedge clk) sum <= sum + (step ^ read[7:0]);

endmodule
"""
PIPE = """module pipe (
    input wire clk,
    input wire [7:0] d,
    output reg [15:0] read
);

reg [7:0] at;
reg [7:0] q;
reg [15:0] words [0:63];
reg [15:0] few [0:1];

always @(posedge clk) begin
    q <= d;
    at <= at + 1;
    words[at[5:0]] <= {d, q};
    few[at[0]] <= {q, d};
    read <= words[d[5:0]] ^ few[d[1]];
end

endmodule
"""


def test_modules_in_cells_of_45_nm_one_by_one_and_together():
    texts, library = {"counter": COUNTER, "pipe": PIPE}, technology()
    found = asic.mapped(texts, "counter", library)
    registers = {name: module.cells["DFF_X1"] for name, module in found.items()}
    assert registers["counter"] == 8 and registers["pipe"] >= 8 + 2 * 16
    assert found["pipe"].memories == (synthesis.Memory(16, 64),) and found["pipe"].memories[0].bits == 1024
    assert found["counter"].cells["pipe"] == 1 and not found["counter"].memories
    assert found["counter"].delay_ns > 0 and "module counter(" in found["counter"].netlist
    both = asic.cells_of(found, "counter", library)
    parts = [
        sum(library.areas[cell] * n for cell, n in module.cells.items() if cell in library.areas)
        for module in found.values()
    ]
    assert both.area_um2 == pytest.approx(sum(parts))
    assert both.gates == pytest.approx(both.area_um2 / library.areas["NAND2_X1"])
    assert both.memories == {synthesis.Memory(16, 64): 1} and both.leakage_uw > 0
    files = {f"{name}.v": text for name, text in texts.items()}
    assert asic.cells_of(asic.mapped_files(files, "counter", library), "counter", library).gates == pytest.approx(
        both.gates, rel=0.02
    )


@pytest.mark.parametrize(
    "text, reason",
    [
        ("hello", "no library"),
        ("library (l) { cell (NAND2X1) { area : 1e; } }", "not a Liberty file"),
        ('library (l) { time_unit : "1h"; }', "'1h' is no unit"),
        ("library (l) { cell (NAND2X1) { area : 2; } }", "must have a flip-flop"),
        ("library (l) {" + "a () {" * 5000 + "}" * 5001, "not a Liberty file"),
    ],
)
def test_libraries_that_are_none_are_refused(tmp_path, text, reason):
    (tmp_path / "cells.lib").write_text(text)
    options = ["ppa", "--rows", "1", "--cols", "1", "--liberty", str(tmp_path / "cells.lib")]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1 and "cells.lib" in result.stderr and re.search(reason, result.stderr)


def test_a_file_with_the_name_of_an_installed_library_is_none(tmp_path):
    (tmp_path / "45nm.lib").symlink_to(technology().liberty)
    assert technology(tmp_path / "45nm.lib").name not in (NM45, NM180)


@pytest.mark.parametrize("family, slices", [(fpga.ULTRASCALE, 1), (fpga.SERIES7, 1), (fpga.ECP5, 1)])
def test_a_product_and_a_shift_register_on_every_family(family, slices):
    product = """module product (
    input wire clk,
    input wire signed [15:0] a,
    input wire signed [15:0] b,
    output reg signed [31:0] y
);

always @(posedge clk) y <= a * b;

endmodule
"""
    area = fpga.synthesised({"product.v": product}, "product", family)
    assert area.dsps == slices and area.luts < 10


def test_what_figures_grow_with_is_found_again():
    names = ("1", "R", "C", "RC", "r")
    sizes = np.array([[1, r, c, r * c, (r - 1).bit_length()] for r, c in ((1, 1), (4, 4), (16, 6), (5, 12), (32, 4))])
    terms = unit_figures.fit(names, sizes, 40 + 7.0 * sizes[:, 3] + 3 * sizes[:, 2])
    assert terms == pytest.approx({"1": 40, "RC": 7, "C": 3}, rel=1e-3)
    assert not unit_figures.fit(names, sizes, np.zeros(5))
    shrinking = unit_figures.fit(names, sizes, 500 - 3.0 * sizes[:, 1])
    assert all(factor >= 0 for name, factor in shrinking.items() if name != "1")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rows": 3, "cols": 5, "ports": 3, "accumulator_entries": 16, "scratchpad_words": 0, "functions": False},
        {"rows": 2, "cols": 12, "ports": 1, "weight_bytes": 512, "activation_words": 1024},
    ],
    ids=str,
)
def test_memories_are_those_of_the_verilog(options):
    config = Config(**options)
    texts = verilog.modules(hardware(config))
    inside = verilog.occurrences(texts, verilog.ROOT)
    generated, known = Counter(), Counter()
    for name, count in inside.items():
        if found := re.fullmatch(rf"{verilog.PREFIX}ram_width(\d+)_depth(\d+)", name):
            generated[synthesis.Memory(int(found[1]), int(found[2]))] += count
    for _, memory, count in composition.rams(config):
        known[memory] += count
    assert known == generated
    in_units = {f"{memory.width}x{memory.words}" for memory in known}
    assert in_units <= {f"{width}x{words}" for width, words in composition.ram_sizes()}


FIGURES = (
    (composition.UNITS, "samples", unit_figures.SAMPLES, unit_figures.COMMAND),
    (ROOT / "docs" / area_page.DATA, "verilog", area_page.configurations(), area_page.COMMAND),
)
"""Files of figures, where hashes of hardware are in them, of which hardware, and the command that writes both."""
QUICK = ({}, {"rows": 4, "cols": 4, "ports": 1}, {"rows": 1, "cols": 1, "ports": 1, "arithmetic": "fma"})


def measured_configurations(quick):
    return [
        pytest.param(path, key, options, units, command, id=f"{path.stem}-{options}")
        for path, key, configurations, command in FIGURES
        for options, units in configurations
        if (options in QUICK) == quick
    ]


def check_stamp(path, key, options, units, command):
    (entry,) = (entry for entry in json.loads(path.read_text())[key] if entry["options"] == options)
    found = stamps.changed(entry["verilog"], Config(**options), units)
    assert not found, f"{path.name}: {stamps.sentence(found, command)}"


@pytest.mark.parametrize("path, key, options, units, command", measured_configurations(True))
def test_figures_are_those_of_this_hardware(path, key, options, units, command):
    check_stamp(path, key, options, units, command)


@pytest.mark.slow
@pytest.mark.parametrize("path, key, options, units, command", measured_configurations(False))
def test_figures_are_those_of_this_hardware_with_every_option(path, key, options, units, command):
    check_stamp(path, key, options, units, command)


def test_a_change_of_one_unit_is_noticed(tmp_path, monkeypatch):
    texts = verilog.modules(hardware(Config()))
    before = stamps.verilog_of(Config())
    changed = next(name for name in texts if verilog.block_name(name) == "fp32_add")
    monkeypatch.setattr(stamps.verilog, "modules", lambda _: texts | {changed: texts[changed] + "// slower\n"})
    after = stamps.verilog_of(Config())
    assert {unit for unit in before if before[unit] != after[unit]} == {"accumulators", "drain"}


def test_the_command_keeps_to_its_form():
    result = CliRunner().invoke(main, ["ppa", "--rows", "4", "--cols", "4", "--ports", "1", "--json", "-"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert not form_errors(document) and not document["synthesised"] and document["uj"] is None
    assert document["lut"] == sum(unit["lut"] for unit in document["units"].values())


def test_prices_have_the_clocks_of_the_document():
    """`make area` measures them."""
    area = json.loads((ROOT / "docs" / "area.json").read_text())
    assert json.loads(composition.UNITS.read_text())["mhz"] == block_clocks(area)
    assert composition.cost(Config()).mhz <= min(clock["fmax"] for clock in area["clocks"]) + 0.1


def test_larger_accelerators_cost_more_and_options_what_they_add():
    small, large = (composition.cost(Config(rows=n, cols=n)) for n in (4, 16))
    assert small.lut < large.lut and small.kge < large.kge and large.dsp - small.dsp == 16 * 16 - 4 * 4
    plain = composition.cost(Config(functions=False, multiply=False, scratchpad_words=0))
    assert plain.mm2 < composition.cost(Config()).mm2 and "scratchpad" not in plain.units
    whole = composition.cost(Config())
    assert whole.lut == sum(unit.lut for unit in whole.units.values())
    assert whole.mm2 > whole.kge * 1e3 * technology().gate_area * 1e-6
    fma = composition.cost(Config(arithmetic="fma"))
    assert fma.lut > 2 * whole.lut and fma.mhz <= whole.mhz  # equal where control is slower than both arrays


def test_a_price_is_the_sum_of_its_units_and_of_their_memories():
    config = Config()
    whole = composition.cost(config)
    for metric in ("lut", "ff", "dsp", "bram", "kge", "mm2", "leakage_uw"):
        assert getattr(whole, metric) == pytest.approx(sum(getattr(unit, metric) for unit in whole.units.values()))
    assert whole.ns == max(unit.ns for unit in whole.units.values())
    larger = composition.cost(replace(config, scratchpad_words=4 * config.scratchpad_words)).units["scratchpad"]
    banks, words = config.scratchpad_banks, config.scratchpad_words // config.scratchpad_banks
    one, other = (sram.macro(32, n * words) for n in (1, 4))
    before = whole.units["scratchpad"]
    logic = (larger.kge - before.kge) * 1e3 * technology().gate_area * 1e-6
    assert larger.mm2 - before.mm2 == pytest.approx(banks * (other.mm2 - one.mm2) + logic, rel=1e-2)
    assert larger.leakage_uw - before.leakage_uw >= 0.99 * banks * (other.leakage_uw - one.leakage_uw)


def test_memories_with_macros_are_those_that_are_no_registers():
    smallest = Config(rows=4, cols=4, ports=3, accumulator_entries=asic.REGISTER_WORDS, functions=False)
    for config in (Config(), smallest):
        found = Counter({})
        for unit, memory, count in composition.macros(config):
            assert count > 0 and (memory.words > asic.REGISTER_WORDS or unit == "drain")
            found[memory] += count
        texts = verilog.modules(hardware(config))
        inside = verilog.occurrences(texts, verilog.ROOT)
        expected = Counter({})
        for name, count in inside.items():
            size = re.fullmatch(rf"{verilog.PREFIX}ram_width(\d+)_depth(\d+)", name)
            if size and int(size[2]) > asic.REGISTER_WORDS:
                expected[synthesis.Memory(int(size[1]), int(size[2]))] += count
            if verilog.block_name(name) == "function_lane":  # the segments of its tables
                (words,) = re.findall(r"reg \[63:0\] \w+ \[0:(\d+)\]|reg \[63:0\] \w+ \[0:(\d+)-1\]", texts[name])
                expected[synthesis.Memory(64, max(int(words[0] or -1) + 1, int(words[1] or 0)))] += count
        assert found == expected


SYNTHESISED = (
    ({"rows": 6, "cols": 16, "ports": 2}, 6),
    ({"rows": 8, "cols": 8, "ports": 3}, 4),
    ({"rows": 4, "cols": 4, "ports": 4, "packed_scales": False}, 1),
    ({"rows": 2, "cols": 10, "ports": 3, "functions": False}, 5),
    ({"rows": 7, "cols": 3, "scratchpad_words": 0}, 4),
    ({"rows": 26, "cols": 25, "functions": False, "int4_weights": False, "packed_scales": False}, 4),
    ({"rows": 31, "cols": 21, "ports": 4, "multiply": False, "banded": False, "scratchpad_words": 0}, 5),
)
"""DSP slices of `control` by synthesis, of configurations to which no figure was fitted (buffers, which do not count,
of other sizes)."""


@pytest.mark.parametrize("options, dsp", SYNTHESISED, ids=str)
def test_multipliers_of_the_checks_are_counted(options, dsp):
    assert composition.cost(Config(**options)).units["control"].dsp == dsp


def test_block_rams_are_counted_by_halves():
    """A weight buffer of 96 bits a word takes three memories of 36 bits, each half a block RAM."""
    found = composition.cost(Config(ports=3))
    assert found.units["weight_loader"].bram == 1.5
    assert found.bram == sum(unit.bram for unit in found.units.values()) and found.bram % 1 == 0.5


def test_every_configuration_has_a_price():
    number = random.Random()
    for _ in range(300):
        config = area_check.draw(number, 32)
        found = composition.cost(config)
        assert all(unit.kge > 0 and unit.ns > 0 for unit in found.units.values()), config
        assert found.lut > 0 and found.dsp >= config.rows * config.cols and found.bram >= 0, config


def test_what_has_no_figures_is_refused():
    config = load_config({"architecture": "streaming"})
    with pytest.raises(HeepgenError, match="streaming has no shipped figures.*--synthesise measures it"):
        composition.cost(config)


@pytest.mark.slow
def test_modelled_area_is_that_of_synthesis():
    seed = sum(map(ord, slices.current(ROOT)[1]))
    (found,) = area_check.comparisons(1, seed, 8)
    print(f"seed {seed}: {found}")
    assert found.holds, f"seed {seed}: {found}"
